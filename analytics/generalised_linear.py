"""Generalised linear models from cells: any link, quasi-likelihood, robust and clustered errors, as on the raw rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit, xlog1py, xlogy

from analytics.intervals import LEVEL, t_quantile
from analytics.least_squares import VARIES, sandwich
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Estimate

Link = Literal["logit", "cloglog", "log", "identity"]
Variance = Literal["binomial", "mu", "mu2", "constant"]
Robust = Literal["HC1", "CR1"]

TOLERANCE = 1e-10
ITERATIONS = 200
ETA_LIMIT = 300.0
"""Linear predictors of curved links are held within ±300, so that every mean is finite."""

TINY = 1e-300
SEPARATED = 1e-13
"""Below this share of the largest, an eigenvalue of the information says that the runs no longer hold its direction."""


@dataclass(frozen=True, slots=True, eq=False)
class GeneralisedLinear:
    """g(E[y]) = X beta by quasi-likelihood.

    Attributes:
        beta: Coefficients. [p]
        covariance: Robust, of the kind `error`. [p, p]
        covariance_classical: That of the quasi-likelihood: dispersion times the inverse information. [p, p]
        mu: Fitted mean of each row. [R]
        influence: What one run of the row adds to beta for each unit of its residual. [R, p]
        dispersion: Pearson's chi square by its degrees of freedom.
        n: Runs.
        dof: Degrees of freedom of the t intervals: n - p, or clusters - 1.
        error: HC1, or CR1 with clusters.
        link: The link g.
        level: The coverage of the intervals.
    """

    beta: Floats
    covariance: Floats
    covariance_classical: Floats
    mu: Floats
    influence: Floats
    dispersion: float
    n: int
    dof: int
    error: Robust
    link: Link
    level: float = LEVEL

    def estimate(self, column: int) -> Estimate:
        """Give one coefficient with its robust error and t interval."""
        value, half = float(self.beta[column]), t_quantile(self.dof, self.level)
        se = float(np.sqrt(max(self.covariance[column, column], 0.0)))
        classical = float(np.sqrt(max(self.covariance_classical[column, column], 0.0)))
        return Estimate(value, se, value - half * se, value + half * se, classical)

    def predict(self, X: Floats) -> Floats:
        """Give the mean at design rows [..., p]."""
        return mean_at(X @ self.beta, self.link)


def mean_at(eta: Floats, link: Link) -> Floats:
    """Give the mean at linear predictors: the inverse of the link."""
    return _INVERSE[link](eta)


def slope_at(eta: Floats, link: Link) -> Floats:
    """Give the derivative of the mean by the linear predictor."""
    return _SLOPE[link](eta)


def fit_generalised(
    X: Floats,
    n: Floats,
    mean: Floats,
    m2: Floats,
    *,
    link: Link,
    variance: Variance,
    cluster: Ints | None = None,
    ridge: Floats | None = None,
    level: float = LEVEL,
) -> GeneralisedLinear:
    """Fit g(E[y]) = X beta, V(y) proportional to V(mu), on rows whose design is constant.

    Equation: Σ n (ȳ - μ) μ'/V x = ridge * beta, by Fisher scoring until no linear predictor moves by more than 1e-10,
    each step halved until the quasi-likelihood rises. Robust covariance: A (Σ x x' (μ'/V)² (M2 + n (ȳ - μ)²)) A
    N/(N-p), A the inverse of the (penalised) expected information; with clusters CR1. Both equal those of the raw rows.

    Args:
        X: Design rows. [R, p]
        n: Runs. [R]
        mean: Mean outcome: within [0, 1] for a binomial variance, not negative for mu, positive for mu2. [R]
        m2: Squared deviations of the outcome from its row's mean. [R]
        link: g.
        variance: V: mu (1 - mu), mu (quasi-Poisson), mu² (Gamma) or constant.
        cluster: Codes of the rows' clusters; with them the error is CR1 and the intervals t with clusters - 1. [R]
        ridge: Minus the second derivative of a penalty, for each column; 0 for none. With it a column of a near-empty
            stratum is held near 0 instead of running off. [p]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Columns that are not independent, no degree of freedom left, an outcome that does not vary,
            columns that predict it without error (separation), or fewer than two clusters.

    References:
        McCullagh and Nelder (1989), "Generalized Linear Models"; Papke and Wooldridge (1996) for fractional outcomes.
    """
    p, size = X.shape[1], float(n.sum())
    _expect_varying(n, mean, m2, p)
    penalty = np.zeros(p) if ridge is None else ridge
    r = np.linalg.qr(np.concatenate((np.sqrt(n)[:, None] * X, np.diag(np.sqrt(penalty)))), mode="r")
    pivots = np.abs(np.diag(r))
    scale = np.sqrt(n @ (X * X) + penalty)
    if len(pivots) < p or (pivots <= len(n) * np.finfo(np.float64).eps * scale).any():
        message = f"the {p} columns of the design are not independent over {len(n)} rows: drop one, or vary the setting"
        raise NotEnoughData(message)
    back = np.linalg.inv(r)
    # Orthonormal coordinates: the steps are the same, and rounding does not depend on the columns' scales.
    G, P = X @ back, (back.T * penalty) @ back
    gamma, bread = _Quasi(G, P, n, mean, link, variance).solve()
    eta = G @ gamma
    mu, slope = mean_at(eta, link), slope_at(eta, link)
    spread = _spread(eta, mu, link, variance)
    pull = slope / spread
    influence = (G @ bread @ back.T) * pull[:, None]
    residual = mean - mu
    error: Robust = "HC1" if cluster is None else "CR1"
    if cluster is None:
        covariance, _, dof = sandwich(influence, np.zeros(len(n)), residual, m2, n, error="HC1")
    else:
        scores = cluster_sums(influence * (n * residual)[:, None], cluster)
        dof = len(scores) - 1
        covariance = scores.T @ scores * ((dof + 1) / dof * (size - 1) / (size - p))
    dispersion = float(((m2 + n * residual * residual) / spread).sum()) / (size - p)
    return GeneralisedLinear(
        beta=back @ gamma,
        covariance=covariance,
        covariance_classical=dispersion * (back @ bread @ back.T),
        mu=mu,
        influence=influence,
        dispersion=dispersion,
        n=int(size),
        dof=dof,
        error=error,
        link=link,
        level=level,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Quasi:
    """A penalised quasi-likelihood in orthonormal coordinates: design G [R, p], penalty P [p, p]."""

    G: Floats
    P: Floats
    n: Floats
    mean: Floats
    link: Link
    variance: Variance

    def solve(self) -> tuple[Floats, Floats]:
        """Maximise it; give the solution and the inverse of its expected information."""
        G, gamma = self.G, self.start()
        height = self.height(gamma)
        for _ in range(ITERATIONS):
            eta = G @ gamma
            mu, slope = mean_at(eta, self.link), slope_at(eta, self.link)
            pull = slope / _spread(eta, mu, self.link, self.variance)
            values, axes = np.linalg.eigh(G.T @ (G * (self.n * slope * pull)[:, None]) + self.P)
            if not values[0] > SEPARATED * values[-1]:
                break
            bread = (axes / values) @ axes.T
            step = bread @ (G.T @ (self.n * pull * (self.mean - mu)) - self.P @ gamma)
            if np.abs(G @ step).max() <= TOLERANCE * max(1.0, float(np.abs(eta).max())):
                return gamma + step, bread
            share, reached = 1.0, self.height(gamma + step)
            while not reached >= height - TOLERANCE * abs(height) and share > TOLERANCE:
                share /= 2
                reached = self.height(gamma + share * step)
            gamma, height = gamma + share * step, reached
        message = (
            "the fit runs off without limit: some setting or stratum predicts the outcome without error (separation); "
            "collect more runs there, or leave it out"
        )
        raise NotEnoughData(message)

    def start(self) -> Floats:
        """Regress the link of the means, drawn a little towards the grand mean; or that of the grand mean alone."""
        grand = float(self.n @ self.mean) / float(self.n.sum())
        weighted = self.n[:, None] * self.G
        drawn = self.mean if self.link == "identity" else (self.n * self.mean + grand) / (self.n + 1)
        for target in (drawn, np.full(len(self.n), grand)):
            gamma = np.asarray(np.linalg.lstsq(weighted.T @ self.G, weighted.T @ _LINK[self.link](target))[0])
            if np.isfinite(self.height(gamma)):
                return gamma
        message = f"the {self.link} link has no fit whose means a {self.variance} variance allows: use another link"
        raise NotEnoughData(message)

    def height(self, gamma: Floats) -> float:
        """Give its logarithm; minus infinity where a mean leaves the variance's domain."""
        mu = mean_at(self.G @ gamma, self.link)
        if self.variance != "constant" and (mu.min() < 0 or (self.variance == "binomial" and mu.max() > 1)):
            return -np.inf
        return float(self.n @ _HEIGHT[self.variance](self.mean, mu)) - float(gamma @ self.P @ gamma) / 2


def cluster_sums(parts: Floats, cluster: Ints) -> Floats:
    """Add up the rows [R, k] of each cluster. [clusters, k].

    Raises:
        NotEnoughData: Fewer than two clusters.
    """
    codes, place = np.unique(cluster, return_inverse=True)
    if len(codes) < 2:  # noqa: PLR2004 - between-cluster variance needs two
        message = f"clustered errors need at least 2 clusters, there is {len(codes)}: leave the clusters out"
        raise NotEnoughData(message)
    return np.stack([np.bincount(place, part) for part in parts.T], axis=1)


def _expect_varying(n: Floats, mean: Floats, m2: Floats, p: int) -> None:
    size = float(n.sum())
    if size <= p:
        message = f"a fit of {p} parameters needs more than {p} runs, there are {size:g}: collect more runs"
        raise NotEnoughData(message)
    grand = float(n @ mean) / size
    if float(m2.sum() + n @ (mean - grand) ** 2) <= size * (VARIES * max(abs(grand), 1e-3)) ** 2:
        message = f"all {size:g} runs have the same outcome ({grand:g}): there is nothing to explain"
        raise NotEnoughData(message)


def _spread(eta: Floats, mu: Floats, link: Link, variance: Variance) -> Floats:
    """Give V(mu), not zero; 1 - mu is taken from eta, because near 1 the difference is rounding."""
    if variance == "constant":
        return np.ones_like(mu)
    if variance == "binomial":
        failure = expit(-eta) if link == "logit" else np.exp(-np.exp(_bounded(eta))) if link == "cloglog" else 1 - mu
        return np.maximum(mu * failure, TINY)
    return np.maximum(mu if variance == "mu" else mu * mu, TINY)


def _bounded(eta: Floats) -> Floats:
    return np.clip(eta, -ETA_LIMIT, ETA_LIMIT)


def _cloglog(mu: Floats) -> Floats:
    return np.asarray(np.log(-np.log1p(-mu)))


def _cloglog_slope(eta: Floats) -> Floats:
    return np.asarray(np.exp(_bounded(eta) - np.exp(_bounded(eta))))


def _logit_slope(eta: Floats) -> Floats:
    return np.asarray(expit(eta) * expit(-eta))


def _binomial_height(y: Floats, mu: Floats) -> Floats:
    return np.asarray(xlogy(y, mu) + xlog1py(1 - y, -mu))


def _gamma_height(y: Floats, mu: Floats) -> Floats:
    mu = np.maximum(mu, TINY)
    return np.asarray(-y / mu - np.log(mu))


_LINK: dict[Link, Callable[[Floats], Floats]] = {
    "logit": lambda mu: np.asarray(logit(mu)),
    "cloglog": _cloglog,
    "log": lambda mu: np.asarray(np.log(mu)),
    "identity": lambda mu: mu,
}
_INVERSE: dict[Link, Callable[[Floats], Floats]] = {
    "logit": lambda eta: np.asarray(expit(eta)),
    "cloglog": lambda eta: np.asarray(-np.expm1(-np.exp(_bounded(eta)))),
    "log": lambda eta: np.asarray(np.exp(_bounded(eta))),
    "identity": lambda eta: eta,
}
_SLOPE: dict[Link, Callable[[Floats], Floats]] = {
    "logit": _logit_slope,
    "cloglog": _cloglog_slope,
    "log": lambda eta: np.asarray(np.exp(_bounded(eta))),
    "identity": np.ones_like,
}
_HEIGHT: dict[Variance, Callable[[Floats, Floats], Floats]] = {
    "binomial": _binomial_height,
    "mu": lambda y, mu: np.asarray(xlogy(y, mu) - mu),
    "mu2": _gamma_height,
    "constant": lambda y, mu: -((y - mu) ** 2) / 2,
}
