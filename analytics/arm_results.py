"""What became of the assignments to each value of an experiment, and what their runs brought."""

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from analytics.arm_means import ADJUSTABLE, arm_means
from analytics.confidence_sequences import confidence_sequence, proportion_sequence
from analytics.intervals import mean_interval, wilson
from analytics.moments import Floats
from analytics.trial_rows import TrialRows, complied, measured
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import ArmResult, Assignment, Definition
from models.laws import Estimate

BURN_IN = 30
"""Runs from which the asymptotic sequence of a mean holds."""


def arm_results(assignments: Sequence[Assignment], rows: TrialRows, definition: Definition) -> list[ArmResult]:
    """Count what became of each value's assignments, and give its means.

    Args:
        assignments: All of them.
        rows: The rows of the outcome.
        definition: Values, outcome and alpha.
    """
    by_value: dict[int, list[Assignment]] = {place: [] for place in range(len(definition.values_tested))}
    for each in assignments:
        by_value[definition.values_tested.index(each.value)].append(each)
    means = None
    if definition.assignment not in ADJUSTABLE:
        try:
            means = arm_means(rows, definition, definition.outcome)
        except NotEnoughData:
            means = None  # the reason stands under `effect`
    adjusted = None
    if definition.adjust_for_complexity and definition.assignment in ADJUSTABLE:
        try:
            adjusted = arm_means(rows, definition, definition.outcome, adjusted=True).mean
        except NotEnoughData:
            adjusted = None  # the reason stands under `effect`
    arms = [
        _arm(definition, place, by_value[place], None if adjusted is None else float(adjusted[place]))
        for place in by_value
    ]
    if definition.assignment in ADJUSTABLE:
        return arms
    # Runs that are not independent have no interval of their own: that of the means as they were estimated stands.
    told = [None] * len(arms) if means is None else means.estimates(1 - definition.alpha)
    return [
        replace(arm, mean=mean, anytime_lo=None, anytime_hi=None, per_protocol=None)
        for arm, mean in zip(arms, told, strict=True)
    ]


def _arm(definition: Definition, place: int, assigned: Sequence[Assignment], adjusted: float | None) -> ArmResult:
    outcome = definition.outcome
    y = [(each, measured(each, definition, outcome)) for each in assigned]
    seen = np.array([value for _, value in y if not math.isnan(value)])
    followed = np.array([value for each, value in y if not math.isnan(value) and complied(each)])
    runs = [each.run for each in assigned if each.run is not None]
    complying = sum(map(complied, assigned))
    anytime = _anytime(definition, seen)
    return ArmResult(
        value=definition.values_tested[place],
        assigned=len(assigned),
        pending=sum(each.run is None and not each.expired for each in assigned),
        expired=sum(each.run is None and each.expired for each in assigned),
        completed=len(runs),
        excluded=sum(run.excluded for run in runs),
        measured=len(seen),
        complied=complying,
        not_complied=len(runs) - complying,
        dollars=math.fsum(run.total_cost for run in runs if run.total_cost is not None),
        mean=_mean(definition, seen),
        anytime_lo=None if anytime is None else anytime[0],
        anytime_hi=None if anytime is None else anytime[1],
        adjusted=adjusted,
        per_protocol=_mean(definition, followed),
    )


def _mean(definition: Definition, y: Floats) -> Estimate | None:
    """Give a value's mean with its interval for one look; None below two runs."""
    n = len(y)
    if n < 2:  # noqa: PLR2004 - an interval
        return None
    mean, m2 = float(y.mean()), float(((y - y.mean()) ** 2).sum())
    level = 1 - definition.alpha
    if definition.outcome is Outcome.SUCCESS:
        lo, hi = wilson(float(y.sum()), n, level)
    else:
        lo, hi = mean_interval(n, mean, m2, level)
    return Estimate(mean, math.sqrt(m2 / (n - 1) / n), float(lo), float(hi))


def _anytime(definition: Definition, y: Floats) -> tuple[float, float] | None:
    """Give the interval of a value's mean that holds at any look; exact for success, from 30 runs on else."""
    n = len(y)
    if definition.outcome is Outcome.SUCCESS:
        if n == 0:
            return None
        lo, hi = proportion_sequence(float(y.sum()), n, definition.alpha)
        return float(lo), float(hi)
    if n < BURN_IN or float(y.std()) == 0:
        return None
    se = float(y.std(ddof=1)) / math.sqrt(n)
    lo, hi = confidence_sequence(float(y.mean()), se, definition.planned_per_value / (n * se * se), definition.alpha)
    return float(lo), float(hi)
