"""Points: the means that curves are fitted to, and what their errors have to do with each other."""

from dataclasses import dataclass

import numpy as np

from analytics.intervals import t_quantile, z_quantile
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData

PRIOR_RUNS = 4.0
"""Runs' worth of pooled variance that each value's own variance is shrunk towards."""


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What curves are fitted to: m means with the covariance of their errors.

    Attributes:
        x: The values, above zero, ascending. [m]
        mean: The outcome's mean at each. [m]
        variance: Of each mean, as if runs were independent. [m]
        covariance: Of the means: diagonal, or that of clusters. [m, m]
        runs: All runs.
        overdispersion: How many times clusters inflate the variance, at least 1.
        stretch: What intervals are stretched by for the few clusters behind the covariance, at least 1.
    """

    x: Floats
    mean: Floats
    variance: Floats
    covariance: Floats
    runs: float
    overdispersion: float = 1.0
    stretch: float = 1.0

    @property
    def root(self) -> Floats:
        """Give one over the standard error of each mean of independent runs. [m]."""
        return np.asarray(1 / np.sqrt(self.variance))


def variance_of_means(n: Floats, mean: Floats, m2: Floats, *, binary: bool) -> Floats:
    """Estimate the variance of each cell's mean, never zero by the luck of a small cell: [m].

    Equation: binary: (k + ½)(n - k + ½) / (n + 1)² / n. Otherwise (4 s₀² + M2) / (4 + n - 1) / n, s₀² pooled.

    Raises:
        NotEnoughData: No cell's runs differ, so that no error can be estimated.
    """
    if binary:
        k = n * mean
        return np.asarray((k + 0.5) * (n - k + 0.5) / (n + 1) ** 2 / n)
    freedom = float((n - 1).sum())
    pooled = float(m2.sum()) / freedom if freedom > 0 else 0.0
    if pooled <= (1e-9 * float(np.abs(mean).max())) ** 2:
        message = "the runs at each value all brought the same: there is no error to estimate; collect more runs"
        raise NotEnoughData(message)
    return np.asarray((PRIOR_RUNS * pooled + m2) / (PRIOR_RUNS + n - 1) / n)


def independent(x: Floats, n: Floats, mean: Floats, m2: Floats, *, binary: bool) -> Points:
    """Make points from cells of independent runs."""
    variance = variance_of_means(n, mean, m2, binary=binary)
    return Points(x, mean, variance, np.diag(variance), float(n.sum()))


def clustered(points: Points, value: Ints, cluster: Ints, n: Floats, mean: Floats) -> Points:
    """Replace the covariance of independent runs by that of clusters.

    Equation: V = G/(G-1) Σ_g u_g u_g', u_gv = n_gv (ȳ_gv - ȳ_v) / n_v; each variance at least that of independent runs;
    overdispersion = the mean ratio of the two; stretch = t_{G-1} / z.

    Args:
        points: Of independent runs.
        value: The place of each cell's value among the points. [R]
        cluster: Each cell's cluster. [R]
        n: Runs of each cell. [R]
        mean: Their mean. [R]
    """
    codes, place = np.unique(cluster, return_inverse=True)
    count, m = len(codes), len(points.x)
    total = np.bincount(value, n, m)
    scores = np.zeros((count, m))
    np.add.at(scores, (place, value), n * (mean - points.mean[value]) / total[value])
    covariance = count / (count - 1) * (scores.T @ scores)
    own = np.diag(covariance)
    lift = np.sqrt(np.maximum(points.variance / np.where(own > 0, own, np.inf), 1.0))
    covariance = covariance * lift[:, None] * lift + np.diag(np.where(own > 0, 0.0, points.variance))
    ratio = float((np.diag(covariance) / points.variance).mean())
    return Points(
        points.x,
        points.mean,
        points.variance,
        covariance,
        points.runs,
        overdispersion=max(ratio, 1.0),
        stretch=t_quantile(count - 1) / z_quantile(),
    )
