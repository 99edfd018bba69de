"""Simultaneous comparisons: intervals and p-values of many estimates that hold all together.

Five comparisons with one control, each at 95 %, go wrong somewhere in 18 % of experiments. They share the control's
mean, so that Bonferroni asks for more than is needed.

References:
    Dunnett (1955), "A Multiple Comparison Procedure for Comparing Several Treatments with a Control".
    Hothorn, Bretz and Westfall (2008), "Simultaneous Inference in General Parametric Models".
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from analytics.intervals import LEVEL, bonferroni, z_quantile
from analytics.moments import Floats
from models.errors import NotEnoughData

NODES = 4001
REACH = 9.0
"""The control's mean is integrated to so many standard errors beyond the contrasts."""

CERTAIN = 1 - 1e-15
"""Probabilities are held below 1, so that they have a logarithm."""

DRAWS = 100_000
SEED = 20_241


def dunnett_quantile(variance: Floats, control: int, level: float = LEVEL) -> float:
    """Give c: contrast ± c standard errors cover all contrasts with the control together, with probability `level`.

    Equation: with Z_k = (mean_k - mean_control) / SE of independent normal means, P(max |Z_k| <= c) = level. Their
    correlation has one factor, λ_k = √(v_c / (v_c + v_k)), so that, given the control's error, they are independent.

    Args:
        variance: Of each mean, above zero. [m]
        control: The control's place.
        level: Of all intervals together.

    Raises:
        NotEnoughData: Fewer than two means, or a variance not above zero.
    """
    shared, own = _loads(variance, control)
    low, high = z_quantile(level) - 0.01, z_quantile(bonferroni(level, len(own))) + 0.01
    return float(brentq(lambda c: _exceeded(shared, own, c) - (1 - level), low, high, xtol=1e-10))


def dunnett_p(z: Floats, variance: Floats, control: int) -> Floats:
    """Give the p-value of each contrast with the control, adjusted for all in a single step: P(max |Z| >= |z_k|).

    Args:
        z: Contrasts over their standard errors, in the order of the means, the control left out. [m - 1]
        variance: As in `dunnett_quantile`. [m]
        control: As in `dunnett_quantile`.

    Raises:
        NotEnoughData: As in `dunnett_quantile`.
    """
    shared, own = _loads(variance, control)
    return np.array([_exceeded(shared, own, abs(at)) for at in np.asarray(z, np.float64).tolist()])


def max_z_quantile(correlation: Floats, level: float = LEVEL, draws: int = DRAWS) -> float:
    """Give c: estimate ± c standard errors cover all k estimates together, P(max |Z| <= c) = level, Z ~ N(0, R).

    From draws that are always the same; at 95 % and 100,000 draws c has a standard error of about 0.006.

    Args:
        correlation: R, of the estimates; singular ones are allowed. [k, k]
        level: Of all intervals together.
        draws: How many.

    Raises:
        NotEnoughData: A correlation is not a number.
    """
    matrix = np.ascontiguousarray(correlation, np.float64)
    if not bool(np.isfinite(matrix).all()):
        raise NotEnoughData("a correlation is not a number: leave out estimates without a standard error")
    return _max_z_quantile(matrix.tobytes(), len(matrix), level, draws)


@lru_cache(maxsize=1024)
def _max_z_quantile(correlation: bytes, k: int, level: float, draws: int) -> float:
    values, vectors = np.linalg.eigh(np.frombuffer(correlation).reshape(k, k))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    z = np.random.default_rng(SEED).standard_normal((draws, k)) @ root.T
    return float(np.quantile(np.abs(z).max(axis=1), level))


def _loads(variance: Floats, control: int) -> tuple[Floats, Floats]:
    """Give the parts of each contrast's error: the control's, λ_k, and its own mean's, √(1 - λ_k²). [m - 1] each."""
    v = np.asarray(variance, np.float64)
    if len(v) < 2 or not bool((v > 0).all()):  # noqa: PLR2004 - a contrast
        message = f"contrasts need 2 means with variances above 0, there are {v.tolist()}: collect runs that differ"
        raise NotEnoughData(message)
    others = np.delete(v, control)
    return np.sqrt(v[control] / (v[control] + others)), np.sqrt(others / (v[control] + others))


def _exceeded(shared: Floats, own: Floats, c: float) -> float:
    """Give P(max |Z_k| > c) by the trapezoidal rule over the control's error; small ones keep their digits.

    Exact but for rounding while no variance is below a 10,000th of the control's.
    """
    u = np.linspace(-REACH - c, REACH + c, NODES)
    pull = u[:, None] * shared
    outside = ndtr((pull - c) / own) + ndtr((-pull - c) / own)
    some = -np.expm1(np.log1p(-np.minimum(outside, CERTAIN)).sum(axis=1))
    weight = np.exp(-u * u / 2)
    return float(weight @ some / weight.sum())
