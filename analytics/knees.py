"""Knees: where the next step along a dimension brings less than it costs, with an interval and what a mistake costs."""

from dataclasses import dataclass

import numpy as np

from analytics.averaging import Average
from analytics.intervals import LEVEL
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Knee

TIE = 1e-4
"""Share of half the first gain by which a gain must lie below it: more than the steps of an averaged law round to."""


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """What a step must bring to pay: the least gain per unit of x between neighbouring values, and its reason.

    Attributes:
        threshold: For each pair of neighbouring values. [m - 1]
        rule: Where it comes from, in words.
    """

    threshold: Floats
    rule: str


def find_knee(average: Average, price: Price, *, less_is_better: bool = False, level: float = LEVEL) -> Knee:
    """Find the knee of an averaged law.

    The knee is the first observed value whose next step gains less than its threshold per unit, or the last value. The
    law is averaged over the families without the saturated model; the interval is that of the rule over the bootstrap.
    regret is the mean over the draws of U(best) - U(knee), U the law less the cost of the steps so far.
    `supported` says that the gain from the smallest value to the knee is above zero at the same level: without that a
    rise is not called one.

    Args:
        average: The law.
        price: What a step must bring.
        less_is_better: A fall is the gain (time, cost).
        level: The coverage of the interval.

    Raises:
        NotEnoughData: Fewer than two values.
    """
    x = average.points.x
    m = len(x)
    if m < 2:  # noqa: PLR2004 - a step
        message = f"a knee needs at least 2 distinct values, there is {m}: run at another value too"
        raise NotEnoughData(message)
    sign = -1.0 if less_is_better else 1.0
    curve, draws = sign * average.mean[:m], sign * average.law_draws[:, :m]
    steps = np.diff(x)
    place = int(first_below(curve[None], steps, price.threshold)[0])
    places = first_below(draws, steps, price.threshold)
    lo, hi = np.quantile(places, ((1 - level) / 2, (1 + level) / 2), method="inverted_cdf").astype(np.int64).tolist()
    cost = np.concatenate(([0.0], np.cumsum(price.threshold * steps)))
    worth = draws - cost
    gained = average.contrast(0, place, level)
    return Knee(
        value=rounded(float(x[place])),
        lo=rounded(float(x[lo])),
        hi=rounded(float(x[hi])),
        rule=price.rule,
        threshold=float(price.threshold[min(place, m - 2)]),
        regret=float((worth.max(axis=1) - worth[:, place]).mean()),
        supported=place > 0 and (gained[2] > 0 if sign > 0 else gained[3] < 0),
        diminishing_returns=diminishing_returns(x, curve),
    )


def rounded(x: float) -> float:
    """Drop what rounding left of a bin's mean x, beyond twelve digits."""
    return float(f"{x:.12g}")


def first_below(curves: Floats, steps: Floats, threshold: Floats) -> Ints:
    """Give, for each curve [B, m], the place of the first value whose next step gains less than its threshold."""
    short = np.diff(curves, axis=1) < threshold * steps - 1e-12 * np.abs(curves).max(initial=1e-300)
    places: Ints = np.where(short.any(axis=1), short.argmax(axis=1), curves.shape[1] - 1)
    return places


def diminishing_returns(x: Floats, curve: Floats) -> float | None:
    """Find the value after which a unit brings less than half of what the first step's units brought.

    Absent where the first step brings nothing, or where returns have not fallen by half within what was tried. Half
    itself is not less than half, whatever rounding does: along ln x a unit brings exactly half after each doubling.
    """
    gain = np.diff(curve) / np.diff(x)
    if gain[0] <= 0:
        return None
    below = np.flatnonzero(gain < gain[0] / 2 * (1 - TIE))
    return rounded(float(x[below[0]])) if len(below) else None


def fixed_price(x: Floats, threshold: float, rule: str, *, per_doubling: bool = False) -> Price:
    """Ask the same gain of every unit of x, or of every doubling of x.

    Args:
        x: The values. [m]
        threshold: The least gain of a unit, or of a doubling.
        rule: Its words.
        per_doubling: Which of the two.
    """
    steps = np.diff(x)
    units = np.log2(x[1:] / x[:-1]) if per_doubling else steps
    return Price(threshold * units / steps, rule)


def economic_price(x: Floats, cost: Floats, value: float, rule: str) -> Price:
    """Ask of every step that it is worth its cost: cost's slope over the value of a unit of the outcome.

    Args:
        x: The values. [m]
        cost: The mean cost of a run at each, in dollars; a step that costs nothing needs to bring nothing. [m]
        value: Dollars that a unit of the outcome is worth.
        rule: Its words.
    """
    return Price(np.maximum(np.diff(cost) / np.diff(x), 0.0) / value, rule)
