"""Forgetting: a law in which old runs weigh less, for display.

It is no answer to drift: a law that wanders is covered by its interval a third of the time. After an alarm a new epoch
starts, and within an epoch nothing is forgotten.
"""

from dataclasses import dataclass

import numpy as np

from analytics.buckets import SAME, Buckets
from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats
from models.errors import NotEnoughData
from models.laws import Estimate


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A law in which old buckets weigh less, for display.

    Attributes:
        slope: On g.
        level: Of the outcome at g = centre.
        centre: The weighted mean of g.
        runs: The number of equally weighted runs of the same precision, (Σ w n)² / Σ w² n.
    """

    slope: Estimate
    level: Estimate
    centre: float
    runs: float


def forgotten(buckets: Buckets, age: Floats, half_life: float, level: float = LEVEL) -> Forgotten:
    """Fit a law in which a bucket of age a weighs w = 2^(-a / half-life).

    Equation: β = A_w⁻¹ C_w; covariance σ² A_w⁻¹ A_(w²) A_w⁻¹ with A_w = Σ w (1, g)(1, g)', A_(w²) = Σ w² (1, g)(1, g)'
    and σ² = Σ w r² / (Σ w n - trace A_w⁻¹ A_(w²)). To count decayed runs as runs, σ² A_w⁻¹, is √2 too wide. It covers a
    stable law, not one that drifts.

    Args:
        buckets: Of one law, [T].
        age: Of each bucket, in the unit of the half-life. [T]
        half_life: Age at which a run counts half, above zero.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: No variation of g, or fewer than three effective runs.
    """
    weight = np.exp2(-(np.asarray(age, np.float64) - np.min(age)) / half_life)
    n, (g, y) = buckets.n, buckets.mean.T
    w, w2 = float(weight @ n), float((weight * weight) @ n)
    runs = w * w / w2 if w2 > 0 else 0.0
    if runs < 3:  # noqa: PLR2004 - two parameters and an error
        message = f"a law that forgets needs at least 3 effective runs, there are {runs:.2g}: take a longer half-life"
        raise NotEnoughData(message)
    centre, mean = float((weight * n) @ g) / w, float((weight * n) @ y) / w
    dg, dy = g - centre, y - mean
    gg, gy, yy = (
        part + n * one * other for part, one, other in zip(buckets.comoment.T, (dg, dg, dy), (dg, dy, dy), strict=True)
    )
    s_gg, s2_gg, s_gy, s_yy = (float(v) for v in (weight @ gg, (weight * weight) @ gg, weight @ gy, weight @ yy))
    if not s_gg > SAME * w:
        raise NotEnoughData("a slope needs at least 2 distinct values, there is 1: run at another value too")
    slope = s_gy / s_gg
    variance = max(s_yy - slope * s_gy, 0.0) / (w - w2 / w - s2_gg / s_gg)
    t = t_quantile(runs - 2, level)
    slope_se, level_se = (variance * s2_gg) ** 0.5 / s_gg, (variance * w2) ** 0.5 / w
    return Forgotten(
        slope=Estimate(slope, slope_se, slope - t * slope_se, slope + t * slope_se),
        level=Estimate(mean, level_se, mean - t * level_se, mean + t * level_se),
        centre=centre,
        runs=runs,
    )
