"""The design document's closed form of allocation, kept as the reference that the exact solver is compared with.

Quality is Cobb-Douglas around the mean of the context's runs, cost is additive and has no intercept:

    q(v) = clip(q_mean · Π_i (v_i / anchor_i) ** e_i, 0, 1)        c(v) = Σ_i u_i · v_i

with exponents e_i from the quality laws, anchor_i the geometric mean setting of the runs that a law was fitted to,
and unit costs u_i in dollars. Context counts in units of 1,000 tokens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEAR_LINEAR = 0.7
"""Speed-up counts as near linear while it is at least this share of the number of slots."""


@dataclass(frozen=True, slots=True)
class Lever:
    """One thing to set: what it is worth, what it costs, and which values it may take.

    Args:
        name: For messages.
        exponent: e in quality ~ value ** e.
        unit_cost: Dollars for one unit, not negative.
        anchor: The geometric mean setting of the runs behind the law, > 0.
        values: The allowed values, integers >= 1 in ascending order.
    """

    name: str
    exponent: float
    unit_cost: float
    anchor: float
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Point:
    """A setting, lever by lever, with its expected quality, expected cost, and cost beyond the budget."""

    setting: tuple[int, ...]
    quality: float
    cost: float
    overspend: float


def allocate_by_closed_form(levers: Sequence[Lever], quality_mean: float, budget: float) -> Point:
    """Apply the design document's closed form, the reference method.

        value_i = exponent_i · budget / (cost_i · Σ exponents), rounded half up, clipped to the allowed range

    Rounding and the lower clip can overspend; the overspend is reported. Exponents below zero count as zero, and a
    lever with exponent zero gets its smallest value; one that is worth something and costs nothing gets its largest.

    Args:
        levers: What can be set; of `values` only the smallest and the largest matter.
        quality_mean: Mean outcome of the context's runs, in [0, 1].
        budget: US dollars.
    """
    exponents = [max(lever.exponent, 0.0) for lever in levers]
    total = sum(exponents)
    setting = tuple(
        _closed_form_value(lever, exponent / total * budget if exponent else 0.0)
        for lever, exponent in zip(levers, exponents, strict=True)
    )
    cost = sum(lever.unit_cost * value for lever, value in zip(levers, setting, strict=True))
    quality = quality_at(levers, setting, quality_mean)
    return Point(setting, quality, cost, max(cost - budget, 0.0))


def quality_at(levers: Sequence[Lever], setting: Sequence[float], quality_mean: float) -> float:
    """Predict the mean outcome at a setting, clipped to [0, 1]."""
    pairs = zip(levers, setting, strict=True)
    worth = sum(lever.exponent * math.log(value / lever.anchor) for lever, value in pairs)
    return math.exp(min(_log(quality_mean) + worth, 0.0))


def near_linear_slots(time_exponent: float, most: int) -> int:
    """Say up to how many parallel slots the speed-up stays near linear.

    With time ~ slots ** e the speed-up is slots ** -e, which is at least 70 % of linear up to
    slots = 0.7 ** (1 / (e + 1)); for e <= -1 there is no such limit, for e >= 0 there is no speed-up at all.

    Args:
        time_exponent: e of the law of time over parallelism.
        most: The largest answer allowed, >= 1: parallelism beyond the agents is wasted.
    """
    if time_exponent >= 0:
        return 1
    if time_exponent <= -1:
        return most
    # At p slots the speed-up is p ** (-e - 1) of linear. It falls with p, so counting the near linear ones is enough.
    shares = [math.pow(slots, -time_exponent - 1) for slots in range(1, most + 1)]
    return sum(share >= NEAR_LINEAR for share in shares)


def _log(quality_mean: float) -> float:
    return math.log(quality_mean) if quality_mean > 0 else -math.inf


def _closed_form_value(lever: Lever, share: float) -> int:
    smallest, largest = lever.values[0], lever.values[-1]
    if share <= 0:
        return smallest
    if lever.unit_cost == 0 or not math.isfinite(share / lever.unit_cost):
        return largest
    # Ruby's Float#round goes half away from zero, Python's half to even.
    rounded = math.floor(share / lever.unit_cost + 0.5)
    return min(max(rounded, smallest), largest)
