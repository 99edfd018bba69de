"""Power analysis: how many runs a slope on ln x needs, and what a given number of runs can see.

With outcomes of standard deviation sd and n_v runs at each value x_v, the slope's standard error is sd / √S,
S = Σ n_v (ln x_v - mean)². A success rate p has sd = √(p (1 - p)); this is the Cochran-Armitage trend test with scores
ln x. A trend test is blind to humps: pair it with the test for lack of fit.

References:
    Cochran (1954), "Some Methods for Strengthening the Common χ² Tests".
    Armitage (1955), "Tests for Linear Trends in Proportions and Frequencies".
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from analytics.moments import Floats
from models.errors import NotEnoughData

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True, slots=True)
class DetectableEffect:
    """The least effect that a design finds with the wanted power: per unit of ln x, and from first to last x."""

    slope: float
    total: float


def rate_sd(p: float) -> float:
    """Give the standard deviation of a 0/1 outcome: √(p (1 - p)).

    Raises:
        NotEnoughData: p is not between 0 and 1, so that outcomes do not vary.
    """
    if not 0 < p < 1:
        raise NotEnoughData(
            f"a rate of {p:g} does not vary: give a rate between 0 and 1 that is expected in the middle"
        )
    return math.sqrt(p * (1 - p))


def runs_per_value(
    values: Sequence[float], slope: float, sd: float, *, power: float = POWER, alpha: float = ALPHA
) -> int:
    """Give the least number of runs at each value that finds a slope.

    Equation: n = ((z_(1-alpha/2) + z_power) sd / slope)² / Σ (ln x - mean)², rounded up.

    Args:
        values: The values of x to compare, at least two distinct ones, all above zero.
        slope: The change of the outcome per unit of ln x; not zero.
        sd: The standard deviation of single runs around the law; `rate_sd` for success.
        power: P(the test finds it).
        alpha: P(the test finds something where there is nothing), two-sided.

    Raises:
        NotEnoughData: Fewer than two distinct values, a value or an sd not above zero, or no slope.
    """
    _expect_above_zero("sd", sd)
    _expect_above_zero("slope", abs(slope))
    needed = ((_z(1 - alpha / 2) + _z(power)) * sd / slope) ** 2 / _spread(values, 1.0)
    return max(1, math.ceil(needed - 1e-9))


def detectable_effect(
    values: Sequence[float],
    n: Floats | Sequence[float] | float,
    sd: float,
    *,
    power: float = POWER,
    alpha: float = ALPHA,
) -> DetectableEffect:
    """Give the least effect that a design finds.

    Equation: slope = (z_(1-alpha/2) + z_power) sd / √S, total = slope ln(max / min).

    Args:
        values: As in `runs_per_value`.
        n: Runs at each value, or one number for all.
        sd: As in `runs_per_value`.
        power: As in `runs_per_value`.
        alpha: As in `runs_per_value`.

    Raises:
        NotEnoughData: As in `runs_per_value`, or runs at fewer than two values.
    """
    _expect_above_zero("sd", sd)
    slope = (_z(1 - alpha / 2) + _z(power)) * sd / math.sqrt(_spread(values, n))
    return DetectableEffect(slope, slope * math.log(max(values) / min(values)))


def power_of(
    values: Sequence[float], n: Floats | Sequence[float] | float, slope: float, sd: float, *, alpha: float = ALPHA
) -> float:
    """Give P(a design finds a slope), two-sided: Φ(|slope| √S / sd - z) + Φ(-|slope| √S / sd - z).

    Args:
        values: As in `runs_per_value`.
        n: Runs at each value, or one number for all.
        slope: As in `runs_per_value`; 0 gives alpha.
        sd: As in `runs_per_value`.
        alpha: As in `runs_per_value`.

    Raises:
        NotEnoughData: As in `detectable_effect`.
    """
    _expect_above_zero("sd", sd)
    shift, z = abs(slope) * math.sqrt(_spread(values, n)) / sd, _z(1 - alpha / 2)
    return float(ndtr(shift - z) + ndtr(-shift - z))


def _spread(values: Sequence[float], n: Floats | Sequence[float] | float) -> float:
    """Give S = Σ n (ln x - mean)²."""
    x = np.asarray(values, np.float64)
    runs = np.broadcast_to(np.asarray(n, np.float64), x.shape)
    used = x[runs > 0]
    if len(np.unique(used)) < 2 or not bool((used > 0).all()):  # noqa: PLR2004 - a slope
        message = (
            f"a slope on ln x needs runs at 2 distinct values above 0, there are {used.tolist()}: plan another value"
        )
        raise NotEnoughData(message)
    if bool((runs < 0).any()):
        raise NotEnoughData(f"a design needs 0 runs or more at each value, there are {runs.min():g}: correct n")
    ln_x = np.log(x[runs > 0])
    weight = runs[runs > 0]
    away = ln_x - float(weight @ ln_x) / float(weight.sum())
    return float(weight @ (away * away))


def _z(probability: float) -> float:
    return float(ndtri(probability))


def _expect_above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise NotEnoughData(f"{name} must not be 0, it is {value:g}: a design is planned for an effect amid noise")
