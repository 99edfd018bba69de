"""Promises: what the best value gains over a reference, shrunk because the best of several estimates flatters itself.

Of six values that all do the same, the best of 30 runs each looks .11 better than it is.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from analytics.intervals import LEVEL
from analytics.moments import Floats
from analytics.pooling import mixture_estimate, quadrature
from models.errors import NotEnoughData
from models.laws import Estimate

NO_DIFFERENCE = 0.25
"""Prior probability that the values follow the target exactly."""

WIDTH = 2.0
"""Scale of the half-Cauchy prior of the values' spread around the target otherwise, in errors of a mean."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What choosing the best value may be said to gain.

    Attributes:
        best: The value of x with the best shrunk mean.
        reference: The value that it is compared with.
        gain: What it gains, shrunk; positive is better, also where less is better. Its interval covers on average over
            truths; where the truth is a moderate effect it leans towards none. Claims rest on unshrunk intervals.
        raw: What the best raw mean gains over the reference's, for comparison: too much.
        no_difference: Posterior probability that the values follow the target exactly.
    """

    best: float
    reference: float
    gain: Estimate
    raw: float
    no_difference: float


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """Means that are shrunk towards a target, at each of T possible spreads around it; the first spread is none.

    Attributes:
        weight: The spreads' posterior probabilities. [T]
        means: The shrunk means at each. [T, R]
        share: The share B of the way to the target. [T, R]
        variance: Of the means before. [R]
        target: The target's covariance, [T, R, R], or [1, R, R] where it is the same at all.
    """

    weight: Floats
    means: Floats
    share: Floats
    variance: Floats
    target: Floats

    @property
    def mean(self) -> Floats:
        """Give the posterior means [R]."""
        return np.asarray(self.weight @ self.means)

    def difference(self, first: int, second: int, level: float = LEVEL) -> Estimate:
        """Estimate by how much the first of two values exceeds the second; `se` is the posterior deviation."""
        if first == second:
            return Estimate(0.0, 0.0, 0.0, 0.0)
        pair = [first, second]
        lean = self.share[:, pair] * np.array([1.0, -1.0])
        target = np.broadcast_to(self.target[:, pair][:, :, pair], (len(lean), 2, 2))
        spread = ((1 - self.share[:, pair]) * self.variance[pair]).sum(axis=1)
        spread = spread + np.maximum(np.einsum("ti,tij,tj->t", lean, target, lean), 0.0)
        difference = self.means[:, first] - self.means[:, second]
        interval = mixture_estimate(self.weight, difference, spread, level)
        variance = float(self.weight @ (spread + (difference - interval.estimate) ** 2))
        return Estimate(interval.estimate, variance**0.5, interval.lo, interval.hi)


def promise(
    x: Floats,
    n: Floats,
    mean: Floats,
    m2: Floats,
    reference: float,
    *,
    law: Floats | None = None,
    law_covariance: Floats | None = None,
    less_is_better: bool = False,
    level: float = LEVEL,
) -> Promise:
    """Shrink the values' means towards their common mean, or a law, and promise the best one's gain.

    Equation: V = (m2 + s²) / n², s² the pooled variance of a run; given the spread τ around the target f, D = V + τ²,
    B = V / D, θ ~ N((1-B) ȳ + B f, diag((1-B) V) + B Cov(f) B'). The common mean is f = Σ(ȳ/D) / Σ(1/D) with variance
    1 / Σ(1/D). τ is 0 with prior probability 1/4, else half-Cauchy of scale 2 errors; its likelihood is
    -½ (1 - p/R) Σ ln D - ½ Σ (ȳ-f)²/D, p the parameters that f takes from these runs, tr(Cov(f) / V), at most R - 1.

    A law that is a target keeps what it promises itself. On a flat truth at 30 runs a value the common mean promises
    .023, a line on ln x .053, its AIC average with the constant .040: publish the first.

    Args:
        x: The values. [R]
        n: Runs at each. [R]
        mean: Their mean outcome. [R]
        m2: Squared deviations from it. [R]
        reference: The x to compare with, one of the values.
        law: A law's mean at each value, learnt from these runs; the common mean where absent. [R]
        law_covariance: Its covariance; zero where absent. [R, R]
        less_is_better: Whether the best mean is the smallest.
        level: The coverage of the gain's interval.

    Raises:
        NotEnoughData: Fewer than two values, a reference that is none of them, no two runs at any value, or runs that
            do not vary at any value.

    References:
        Smith and Winkler (2006), "The Optimizer's Curse".
    """
    at = np.flatnonzero(x == reference)
    if len(x) < 2 or not len(at):  # noqa: PLR2004 - a best and another one
        message = (
            f"a promise needs at least 2 values and the reference {reference:g} among them: there are {x.tolist()}"
        )
        raise NotEnoughData(message)
    free, noise = float((n - 1).sum()), float(m2.sum())
    if free <= 0 or noise <= 0:
        message = f"{n.sum():g} runs at {len(x)} values show no noise: a promise needs values with runs that differ"
        raise NotEnoughData(message)
    sign = -1.0 if less_is_better else 1.0
    observed = sign * mean
    values = shrink(observed, (m2 + noise / free) / (n * n), None if law is None else sign * law, law_covariance)
    first, second = int(np.argmax(values.mean)), int(at[0])
    return Promise(
        best=float(x[first]),
        reference=reference,
        gain=values.difference(first, second, level),
        raw=float(observed.max() - observed[second]),
        no_difference=float(values.weight[0]),
    )


def shrink(mean: Floats, variance: Floats, law: Floats | None = None, law_covariance: Floats | None = None) -> Shrunk:
    """Shrink means [R] with variances [R] towards their common mean, or a law; the equation stands at `promise`."""
    rows = len(mean)
    covariance = np.zeros((rows, rows)) if law_covariance is None else law_covariance
    parameters = 1.0 if law is None else min(float((np.diag(covariance) / variance).sum()), rows - 1.0)
    noise = float(np.mean(1 / variance)) ** -0.5
    scale = WIDTH * noise

    def target(tau: Floats) -> tuple[Floats, Floats, Floats]:
        precision = 1 / (variance + (tau * tau)[:, None])
        total = precision.sum(axis=1)
        return precision, total, (precision @ mean / total)[:, None] if law is None else law[None, :]

    def log_likelihood(tau: Floats) -> Floats:
        precision, total, centre = target(tau)
        logs = np.log(precision).sum(axis=1)
        freedom = logs - np.log(total) if law is None else (1 - parameters / rows) * logs
        return np.asarray((freedom - (precision * (mean - centre) ** 2).sum(axis=1)) / 2)

    def log_density(tau: Floats) -> Floats:
        return np.asarray(log_likelihood(tau) - np.log1p((tau / scale) ** 2) + np.log(2 / np.pi / scale))

    tau, log_mass = quadrature(log_density, noise, float(np.ptp(mean)) + scale)
    null = np.log(NO_DIFFERENCE) + log_likelihood(np.zeros(1))
    tau, weight = np.append(0.0, tau), softmax(np.append(null, np.log(1 - NO_DIFFERENCE) + log_mass))
    precision, total, centre = target(tau)
    share = variance * precision
    return Shrunk(
        weight=weight,
        means=mean + share * (centre - mean),
        share=share,
        variance=variance,
        target=np.ones((rows, rows)) / total[:, None, None] if law is None else covariance[None],
    )
