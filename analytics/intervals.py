"""Intervals: of proportions, means, any estimate with a standard error, and of the place of a knee."""

from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from analytics.moments import Floats
from models.errors import NotEnoughData

LEVEL = 0.95


@lru_cache(maxsize=4096)
def t_quantile(dof: float, level: float = LEVEL) -> float:
    """Give the two-sided quantile of Student's t: P(|T| <= t) = level.

    Raises:
        NotEnoughData: No degree of freedom is left.
    """
    if dof < 1:
        message = f"an interval needs at least one degree of freedom, there are {dof:g}: collect more runs"
        raise NotEnoughData(message)
    return float(stdtrit(dof, (1 + level) / 2))


@lru_cache(maxsize=4096)
def z_quantile(level: float = LEVEL) -> float:
    """Give the two-sided quantile of the normal distribution: P(|Z| <= z) = level."""
    return float(ndtri((1 + level) / 2))


def bonferroni(level: float, intervals: int) -> float:
    """Raise the level of each of several intervals so that all cover together with probability `level` or more."""
    return 1 - (1 - level) / intervals


def wilson(k: Floats | float, n: Floats | float, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Give Wilson's score interval of a proportion k / n; arrays broadcast.

    Equation: with p = k / n, (p + z²/2n ± z √(p (1 - p) / n + z²/4n²)) / (1 + z²/n).

    Raises:
        NotEnoughData: n = 0 somewhere.

    References:
        Wilson (1927), "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    trials = np.asarray(n, np.float64)
    if np.any(trials <= 0):
        raise NotEnoughData("a proportion of 0 runs has no interval: leave out values without runs")
    p = np.asarray(k, np.float64) / trials
    z = z_quantile(level)
    share = z * z / trials
    centre = p + share / 2
    half = np.sqrt(np.maximum(p * (1 - p), 0.0) * share + share * share / 4)
    lo, hi = (centre - half) / (1 + share), (centre + half) / (1 + share)
    return np.where(p <= 0, 0.0, np.maximum(lo, 0.0)), np.where(p >= 1, 1.0, np.minimum(hi, 1.0))


def mean_interval(
    n: Floats | float, mean: Floats | float, m2: Floats | float, level: float = LEVEL
) -> tuple[Floats, Floats]:
    """Give Student's interval of a mean: mean ± t_{n-1} √(m2 / (n - 1) / n); arrays broadcast.

    Args:
        n: Runs, at least two.
        mean: Their mean.
        m2: Their sum of squared deviations from it.
        level: Its coverage.

    Raises:
        NotEnoughData: n < 2 somewhere.
    """
    count = np.asarray(n, np.float64)
    if np.any(count < 2):  # noqa: PLR2004 - a variance needs two
        message = f"the interval of a mean needs at least 2 runs, there are {count.min():g}: collect more runs"
        raise NotEnoughData(message)
    half = stdtrit(count - 1, (1 + level) / 2) * np.sqrt(np.asarray(m2) / (count - 1) / count)
    return np.asarray(mean - half), np.asarray(mean + half)


def knee_interval(
    x: Floats, mean: Floats, variance: Floats, threshold: float, level: float = LEVEL
) -> tuple[float, float]:
    """Give a simultaneous interval of the first x after which the gain per unit of x is below a threshold.

    The gains of all m neighbouring pairs get intervals at level 1 - (1 - level) / m. The knee lies no earlier than the
    first pair whose lower end is below the threshold, and no later than the first whose upper end is; the last value
    where there is none. No model is assumed; the interval is conservative.

    Args:
        x: The values, ascending, at least two. [R]
        mean: The mean outcome at each, more being better. [R]
        variance: The variance of each mean; inf where it is not known. [R]
        threshold: The least gain per unit of x that counts.
        level: The coverage, simultaneous over the pairs.

    Raises:
        NotEnoughData: Fewer than two values.
    """
    pairs = len(x) - 1
    if pairs < 1:
        message = f"a knee needs at least 2 distinct values, there are {len(x)}: vary the dimension"
        raise NotEnoughData(message)
    width = np.diff(x)
    gain = np.diff(mean) / width
    tie = 1e-12 * float(np.abs(mean).max())
    half = z_quantile(bonferroni(level, pairs)) * np.sqrt(variance[1:] + variance[:-1]) / width
    places = []
    for end in (gain - half, gain + half):
        below = np.flatnonzero(end < threshold - tie / width)
        places.append(float(x[below[0]] if len(below) else x[-1]))
    return places[0], places[1]
