"""Partial pooling: estimates of several contexts borrow strength as far as the contexts resemble each other.

The spread between the contexts is integrated out by quadrature, so that its uncertainty is in every interval.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, softmax

from analytics.intervals import LEVEL, z_quantile
from analytics.moments import Floats
from models.errors import NotEnoughData
from models.laws import Estimate, Pooling

SCALE = 0.1
"""Where the prior of the between-context standard deviation begins to fall; of slopes of success on ln x."""

POINTS = 80
MIN_CONTEXTS = 3
"""From two estimates the spread between contexts cannot be told from their errors."""

DOMINATED = 0.5
NEGLIGIBLE = 16.0
"""Log density below its top at which the quadrature may stop: a share of 1e-7."""

POINT_MASS = 1e-9
"""A normal of variance zero is drawn with this share of the widest one's deviation."""


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """What K estimates say together.

    Attributes:
        mean: Posterior mean of each context's parameter. [K]
        se: Posterior standard deviation. [K]
        prior_weight: The share B of each mean that the other contexts decide, averaged over the spread. [K]
        tau: The quadrature's between-context standard deviations. [T]
        weight: Their posterior probabilities. [T]
        centre: The contexts' common mean at each. [T]
        centre_variance: Its variance at each. [T]
        level: The coverage of the intervals.
    """

    mean: Floats
    se: Floats
    prior_weight: Floats
    tau: Floats
    weight: Floats
    centre: Floats
    centre_variance: Floats
    level: float

    @property
    def between_sd(self) -> float:
        """Give the posterior median of the between-context standard deviation."""
        share = np.cumsum(self.weight) - self.weight / 2
        return float(np.interp(0.5, share, self.tau))

    def estimate(self, place: int) -> Estimate:
        """Give one context's parameter with its moment-matched normal interval."""
        mean, se, z = float(self.mean[place]), float(self.se[place]), z_quantile(self.level)
        return Estimate(mean, se, mean - z * se, mean + z * se)

    def common(self) -> Estimate:
        """Give the mean over all contexts, seen and unseen."""
        return mixture_estimate(self.weight, self.centre, self.centre_variance, self.level)

    def new_context(self, variance: float = 0.0) -> Estimate:
        """Predict the parameter of a context not seen yet.

        Equation: the mixture over τ of N(μ(τ), τ² + 1 / Σ(1 / D) + variance); the interval holds its quantiles.

        Args:
            variance: The error variance of that context's own estimate, to predict the estimate, not the parameter.
        """
        spread = self.tau * self.tau + self.centre_variance + variance
        return mixture_estimate(self.weight, self.centre, spread, self.level)

    def record(self, place: int, family: str) -> Pooling:
        """Give the part of the law record that tells one context's pooled slope; `family` names the siblings."""
        share = float(self.prior_weight[place])
        return Pooling(
            slope=self.estimate(place),
            between_sd=self.between_sd,
            prior_weight=share,
            prior_dominated=share > DOMINATED,
            contexts=len(self.mean),
            family=family,
        )


@dataclass(frozen=True, slots=True, eq=False)
class PooledVectors:
    """What K estimates of P parameters say together: as `Pooled`, with covariances; prior_weight of whitened axes."""

    mean: Floats
    covariance: Floats
    prior_weight: Floats
    new_mean: Floats
    new_covariance: Floats


def pool(estimates: Floats, variances: Floats, *, scale: float = SCALE, level: float = LEVEL) -> Pooled:
    """Pool estimates of one parameter from K contexts.

    Equation: given τ, D = V + τ², μ = Σ(β̂/D) / Σ(1/D), B = V/D, θ ~ N((1-B) β̂ + B μ, (1-B) V + B² / Σ(1/D)), mixed
    over log p(τ | data) = -½ Σ ln D - ½ ln Σ(1/D) - ½ Σ (β̂-μ)²/D - ½ ln(1 + (τ/scale)²).

    The prior falls like 1/τ. A half-Cauchy falls like 1/τ² and shrinks contexts that differ by more than `scale` so
    much that with five or fewer of them the pooled estimates are worse than the separate ones.

    Args:
        estimates: One for each context. [K]
        variances: Their error variances, above zero. [K]
        scale: Up to which the prior of τ is flat, in units of the estimates.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than three contexts, or an estimate without a finite positive variance.

    References:
        Morris (1983), "Parametric Empirical Bayes Inference"; Gelman (2006), "Prior distributions for variance
        parameters in hierarchical models".
    """
    contexts = expect_estimates(estimates, variances)
    if contexts < MIN_CONTEXTS:
        message = f"pooling needs at least {MIN_CONTEXTS} contexts, there are {contexts}: run in other contexts too"
        raise NotEnoughData(message)

    def log_density(tau: Floats) -> Floats:
        precision = 1 / (variances + (tau * tau)[:, None])
        total = precision.sum(axis=1)
        away = estimates - (precision @ estimates / total)[:, None]
        fit = (np.log(precision) - precision * away * away).sum(axis=1) - np.log(total)
        return np.asarray((fit - np.log1p((tau / scale) ** 2)) / 2)

    noise = float(np.mean(1 / variances)) ** -0.5
    tau, log_mass = quadrature(log_density, noise, float(np.ptp(estimates)) + noise + scale)
    weight = softmax(log_mass)
    precision = 1 / (variances + (tau * tau)[:, None])
    total = precision.sum(axis=1)
    centre = precision @ estimates / total
    share = variances * precision
    means = estimates + share * (centre[:, None] - estimates)
    spreads = (1 - share) * variances + share * share / total[:, None]
    mean = weight @ means
    return Pooled(
        mean=mean,
        se=np.sqrt(weight @ (spreads + (means - mean) ** 2)),
        prior_weight=weight @ share,
        tau=tau,
        weight=weight,
        centre=centre,
        centre_variance=1 / total,
        level=level,
    )


def pool_vectors(estimates: Floats, covariances: Floats, *, scale: float | Floats = SCALE) -> PooledVectors:
    """Pool estimates of P parameters, such as (a, b), from K contexts.

    The parameters are whitened by the average covariance W W', W upper triangular, and then pooled one by one. So the
    last parameter (put the slope there) is pooled exactly as `pool` does, and each earlier one after what the later
    ones explain is taken out: the level at the middle of the data, not at x = 1.

    Args:
        estimates: [K, P]
        covariances: [K, P, P]
        scale: As in `pool`, for each parameter. [P]

    Raises:
        NotEnoughData: As `pool`, or the average covariance is singular.
    """
    try:
        whiten = np.linalg.cholesky(covariances.mean(axis=0)[::-1, ::-1])[::-1, ::-1]
    except np.linalg.LinAlgError:
        message = f"the average covariance of {len(estimates)} estimates is singular: pool fewer parameters"
        raise NotEnoughData(message) from None
    inverse = np.linalg.inv(whiten)
    axes = estimates @ inverse.T
    variances = np.einsum("pi,kij,pj->kp", inverse, covariances, inverse)
    scales = np.sqrt(inverse**2 @ np.broadcast_to(np.asarray(scale, np.float64) ** 2, axes.shape[1]))
    parts = [pool(axes[:, p], variances[:, p], scale=float(scales[p])) for p in range(axes.shape[1])]
    new = [part.new_context() for part in parts]
    se = np.stack([part.se for part in parts], axis=1)
    return PooledVectors(
        mean=np.stack([part.mean for part in parts], axis=1) @ whiten.T,
        covariance=np.einsum("ip,kp,jp->kij", whiten, se * se, whiten),
        prior_weight=np.stack([part.prior_weight for part in parts], axis=1),
        new_mean=whiten @ np.array([each.estimate for each in new]),
        new_covariance=(whiten * np.array([each.se for each in new]) ** 2) @ whiten.T,
    )


def combine_with_observation(
    experiment: Floats,
    experiment_variance: Floats,
    observation: Floats,
    observation_variance: Floats,
    *,
    scale: float = SCALE,
    level: float = LEVEL,
) -> list[Estimate]:
    """Correct each context's observational estimate by the bias that experiments reveal, and combine it with its own.

    Equation: the biases d = β_obs - β_exp with variances V_obs + V_exp are pooled over the contexts; given its bias b,
    θ = w β_exp + (1-w) (β_obs - b) with w = V_obs / (V_obs + V_exp) has variance V_obs V_exp / (V_obs + V_exp), to
    which (1-w)² Var(b | d) is added. A context without an experiment gets β_obs less the bias of a new context.

    Args:
        experiment: Estimates by experiment; nan where there was none. [K]
        experiment_variance: Their variances; nan likewise. [K]
        observation: Observational estimates. [K]
        observation_variance: Their variances. [K]
        scale: As in `pool`, of the bias.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than three contexts have both estimates.
    """
    expect_estimates(observation, observation_variance)
    both = np.flatnonzero(~np.isnan(experiment))
    v_exp, v_obs = experiment_variance[both], observation_variance[both]
    bias = pool(observation[both] - experiment[both], v_exp + v_obs, scale=scale, level=level)
    unseen = bias.new_context()
    theta = observation - unseen.estimate
    variance = observation_variance + unseen.se**2
    own = v_obs / (v_obs + v_exp)
    theta[both] = own * experiment[both] + (1 - own) * (observation[both] - bias.mean)
    variance[both] = own * v_exp + ((1 - own) * bias.se) ** 2
    half = z_quantile(level) * np.sqrt(variance)
    rows = zip(
        theta.tolist(), np.sqrt(variance).tolist(), (theta - half).tolist(), (theta + half).tolist(), strict=True
    )
    return [Estimate(*row) for row in rows]


def quadrature(log_density: Callable[[Floats], Floats], noise: float, reach: float) -> tuple[Floats, Floats]:
    """Place points on a density over τ >= 0: a coarse pass finds where it lives, a fine one covers that.

    Args:
        log_density: The logarithm of the density at each τ [T], up to a constant.
        noise: The size of τ below which the density hardly changes.
        reach: A size that the bulk of the density does not exceed by far.

    Returns:
        The points [T] and the logarithms of their trapezoid masses [T].
    """
    coarse = np.append(0.0, np.geomspace(noise / 20, 1e3 * reach, POINTS - 1))
    height = log_density(coarse)
    inside = np.flatnonzero(height > height.max() - NEGLIGIBLE)
    low, high = float(coarse[max(inside[0] - 1, 0)]), float(coarse[min(inside[-1] + 1, POINTS - 1)])
    bend = max(low, noise / 2)
    tau = low + bend * np.sinh(np.linspace(0.0, np.arcsinh((high - low) / bend), POINTS))
    step = np.diff(tau)
    mass = (np.append(step, 0.0) + np.append(0.0, step)) / 2
    return tau, log_density(tau) + np.log(mass)


def mixture_estimate(weight: Floats, means: Floats, variances: Floats, level: float) -> Estimate:
    """Give the mean and the central interval of a mixture of normals, not all of variance zero.

    `se` is the interval's half width over z: with few contexts the mixture's own deviation hangs on its far tail.
    """
    mean, z = float(weight @ means), z_quantile(level)
    deviations = np.sqrt(np.maximum(variances, POINT_MASS * POINT_MASS * float(variances.max())))
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    widest = 40 * float(deviations.max())
    low, high = np.full(2, float(means.min()) - widest), np.full(2, float(means.max()) + widest)
    for _ in range(60):
        middle = (low + high) / 2
        below = ndtr((middle[:, None] - means) / deviations) @ weight < tails
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    lo, hi = ((low + high) / 2).tolist()
    return Estimate(mean, (hi - lo) / (2 * z), lo, hi)


def expect_estimates(estimates: Floats, variances: Floats) -> int:
    """Count the estimates, all of which must be finite with a positive variance.

    Raises:
        NotEnoughData: One is not.
    """
    wrong = np.flatnonzero(~(np.isfinite(estimates) & np.isfinite(variances) & (variances > 0)))
    if len(wrong):
        place = int(wrong[0])
        message = (
            f"estimate {place} is {estimates[place]:g} with variance {variances[place]:g}: leave out contexts without "
            "a finite estimate and a positive variance"
        )
        raise NotEnoughData(message)
    return len(estimates)
