"""What runs would show: the least change of each outcome over each dimension that they tell from none."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analytics.joint_cells import MIN_CLUSTERS
from analytics.moments import Floats, Ints
from analytics.power_analysis import detectable_effect, power_of
from analytics.sample import Sample
from models.dimensions import LESS_IS_BETTER, LIVE_OUTCOMES, Basis, Dimension, Outcome

CHANGE = 0.1
"""The change of a rate or a quality from the smallest to the largest value that runs should be able to show."""

RATIO = 1.2
"""Likewise for time and cost, as a factor."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What the runs would show of one outcome over one dimension now.

    Attributes:
        dimension: What is scaled.
        basis: On which basis.
        outcome: What it buys.
        n: Runs with both, above zero.
        lo: The smallest value of the dimension.
        hi: The largest.
        sd: Of single runs around a line in ln x; of the logarithm of time and cost.
        inflation: How many times clusters multiply the variance of the slope.
        least_slope: The least change per unit of ln x that shows in four of five cases, at a level of 5 %.
        least_total: Likewise from lo to hi; the logarithm of a factor for time and cost.
        power: P(a change by 0.1, or by a factor of 1.2 of time and cost, from lo to hi shows).
    """

    dimension: Dimension
    basis: Basis
    outcome: Outcome
    n: int
    lo: float
    hi: float
    sd: float
    inflation: float
    least_slope: float
    least_total: float
    power: float


def sensitivity(sample: Sample) -> Iterator[Sensitivity]:
    """Say, for each dimension and outcome, the least effect that these runs would show.

    Errors are those of clusters (six projects or more, else six tasks or more), else of independent runs.
    """
    for slot in sample.slots():
        if slot[1] is Basis.CATEGORY:
            continue
        for outcome in LIVE_OUTCOMES:
            x, y = sample.dimensions[slot], sample.outcomes[outcome]
            log_scale = outcome in LESS_IS_BETTER
            rows = np.flatnonzero(~np.isnan(x) & ~np.isnan(y) & (x > 0) & ((y > 0) | (not log_scale)))
            x, y = x[rows], np.log(y[rows]) if log_scale else y[rows]
            values, n = np.unique(x, return_counts=True)
            if len(values) < 2 or len(x) <= 2 or np.ptp(y) == 0:  # noqa: PLR2004 - a slope with an error
                continue
            sd, inflation = _noise(np.log(x), y, _clusters(sample, rows))
            if sd <= 0:
                continue
            spread = values.tolist(), n.astype(np.float64), sd * math.sqrt(inflation)
            least = detectable_effect(*spread)
            aim = math.log(RATIO) if log_scale else CHANGE
            yield Sensitivity(
                dimension=slot[0],
                basis=slot[1],
                outcome=outcome,
                n=len(x),
                lo=float(values[0]),
                hi=float(values[-1]),
                sd=sd,
                inflation=inflation,
                least_slope=least.slope,
                least_total=least.total,
                power=power_of(spread[0], spread[1], aim / math.log(values[-1] / values[0]), spread[2]),
            )


def _noise(ln_x: Floats, y: Floats, clusters: Ints | None) -> tuple[float, float]:
    """Give the residual sd of a line in ln x, and how many times clusters multiply its slope's variance."""
    away = ln_x - ln_x.mean()
    square = float(away @ away)
    residual = y - y.mean() - float(away @ y) / square * away
    variance = float(residual @ residual) / (len(y) - 2)
    if clusters is None or variance <= 0:
        return math.sqrt(variance), 1.0
    score = np.bincount(clusters, away * residual)
    g = len(score)
    return math.sqrt(variance), float(score @ score) * g / (g - 1) / (square * variance)


def _clusters(sample: Sample, rows: Ints) -> Ints | None:
    """Give the clusters of some runs as codes 0 .. g - 1; None where there are fewer than six or some run has none."""
    for name in ("project", "task_id"):
        codes = sample.groups[name][rows]
        if len(codes) and codes.min() >= 0:
            groups, place = np.unique(codes, return_inverse=True)
            if len(groups) >= MIN_CLUSTERS:
                return np.asarray(place, np.int64)
    return None
