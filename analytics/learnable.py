"""What can and cannot be learnt from runs, in plain sentences."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analytics.exploration import SUPPORT, Association, Exploration, Missing, Spread
from analytics.joint_cells import MIN_CLUSTERS
from analytics.lint import LIMITS, NARROW
from analytics.repeats import Trials
from analytics.sensitivity import Sensitivity
from analytics.sentences import DIMENSION_WORDS, OUTCOME_WORDS, count, listed, outcome_text, slot_words, value_text
from models.contexts import GLOBAL
from models.dimensions import LESS_IS_BETTER, LIVE_OUTCOMES, Basis, Dimension, Outcome

ENOUGH_POWER = 0.8
NAMED = 3
INSEPARABLE = 0.9
HARDLY_SEPARABLE = 0.6
ALIKE = 0.1
WITHIN_TASKS = 0.5
NOTABLE = 0.05


@dataclass(frozen=True, slots=True)
class Learnable:
    """Statements about runs: what they can show, what they cannot, and what to mind when reading their laws."""

    can: tuple[str, ...]
    cannot: tuple[str, ...]
    mind: tuple[str, ...]


def learnable(exploration: Exploration, context: str = GLOBAL) -> Learnable:
    """Say what can and cannot be learnt.

    Args:
        exploration: The figures.
        context: The context that the statements are about: the widest one explored.
    """
    spreads = [spread for spread in exploration.spreads if spread.context == context]
    return Learnable(
        can=(*_can(exploration), *map(trials_text, exploration.trials[:NAMED])),
        cannot=(*_absent(exploration, spreads), *_too_weak(exploration)),
        mind=(
            *_entangled(exploration.associations),
            *_realised(spreads),
            *_narrow(spreads),
            *_tasks(exploration),
            *_projects(exploration),
            *_missing(exploration),
            *_corners(exploration),
            *_confined(exploration),
        ),
    )


def effect_text(one: Sensitivity) -> str:
    """Write the least total effect: 4.1 points, 0.014, 12 % or a factor of 2.3."""
    if one.outcome in LESS_IS_BETTER:
        factor = math.exp(min(one.least_total, 20.0))
        return f"{100 * (factor - 1):.2g} %" if factor < 2 else f"a factor of {factor:.2g}"  # noqa: PLR2004
    if one.outcome is Outcome.SUCCESS:
        points = 100 * one.least_total
        return f"{points:.0f} points" if points >= 10 else f"{points:.1f} points"  # noqa: PLR2004 - two digits
    return f"{one.least_total:.2g}"


def trials_text(one: Trials) -> str:
    """Say what repeated trials brought, and what twice as many would bring."""

    def rate(value: float) -> str:
        return outcome_text(Outcome.SUCCESS, value)

    last = one.rates[-1]
    where = f"At {one.setting}, " if one.setting else ""
    told = (
        f"{where}{count(one.tasks, 'task')} with at least {one.trials} trials each: one trial solves "
        f"{rate(one.rates[0].any_of.estimate)}, at least one of {one.trials} solves {rate(last.any_of.estimate)}, "
        f"and all {one.trials} solve {rate(last.all_of.estimate)}"
    )
    ahead = one.forecast
    if ahead is None:
        return f"{told}."
    return (
        f"{told}; of as many new tasks {one.forecast_trials} trials would solve {rate(ahead.estimate)} "
        f"({rate(ahead.lo)} to {rate(ahead.hi)} in 95 of 100 cases)."
    )


def _can(exploration: Exploration) -> Iterator[str]:
    for name, effects in _effects([one for one in exploration.sensitivity if one.power >= ENOUGH_POWER]):
        yield f"{name}: a change of {listed(effects, 'or')} would show."


def _too_weak(exploration: Exploration) -> Iterator[str]:
    for name, effects in _effects([one for one in exploration.sensitivity if one.power < ENOUGH_POWER]):
        yield f"{name}: less than a change of {listed(effects, 'or')} would not show."


def _effects(found: list[Sensitivity]) -> Iterator[tuple[str, list[str]]]:
    """Group the least effects by dimension and the values that it runs over."""
    grouped: dict[str, list[str]] = {}
    for one in found:
        lo, hi = (value_text(one.dimension, x) for x in (one.lo, one.hi))
        name = f"{slot_words(one.dimension, one.basis)} from {lo} to {hi}"
        effect = f"{effect_text(one)} of {OUTCOME_WORDS[one.outcome]} ({count(one.n, 'run')})"
        grouped.setdefault(f"{name[0].upper()}{name[1:]}", []).append(effect)
    yield from grouped.items()


def _absent(exploration: Exploration, spreads: list[Spread]) -> Iterator[str]:
    share = {one.field: one.share for one in exploration.missing}
    outcomes = [OUTCOME_WORDS[outcome] for outcome in LIVE_OUTCOMES if share[outcome] == 1]
    if outcomes:
        yield f"No run carries {listed(outcomes, 'or')}: there is no law of {'them' if len(outcomes) > 1 else 'it'}."
    dimensions = [DIMENSION_WORDS[dimension] for dimension in Dimension if share[dimension] == 1]
    if dimensions:
        yield f"No run says anything about {listed(dimensions, 'or')}: nothing can be learnt about them."
    for dimension in Dimension:
        own = [spread for spread in spreads if spread.dimension is dimension]
        if own and all(spread.values == 1 for spread in own):
            only = _value(own[0], own[0].lo)
            yield f"{DIMENSION_WORDS[dimension].capitalize()}: always {only}, so nothing about more or less."
        elif own and all(spread.supported < 2 for spread in own):  # noqa: PLR2004 - a law compares
            yield (
                f"{DIMENSION_WORDS[dimension].capitalize()}: fewer than 2 of {max(spread.values for spread in own)} "
                f"values have {SUPPORT} runs."
            )


def _value(spread: Spread, x: float) -> str:
    return "one category" if spread.basis is Basis.CATEGORY else value_text(spread.dimension, x)


def _entangled(associations: tuple[Association, ...]) -> Iterator[str]:
    linked = sorted((one for one in associations if one.linked), key=lambda one: -abs(one.value))
    for one in linked:
        size = abs(one.value)
        if one.measure == "Spearman":
            told = f"{one.first} and {one.second} move {'together' if one.value > 0 else 'in opposite directions'}"
            figure = f"rho {one.value:.2f}"
        else:
            told, figure = f"{one.first} goes with {one.second.replace('_', ' ')}", f"correlation ratio {size:.2f}"
        if "complexity" in {one.first, one.second}:
            end = "the unadjusted law mixes the two"
        elif size >= INSEPARABLE:
            end = "their effects cannot be told apart"
        elif size >= HARDLY_SEPARABLE:
            end = "their effects can hardly be told apart"
        else:
            end = "a law of one carries some of the other"
        yield f"{told[0].upper()}{told[1:]} ({figure}): {end}."


def _realised(spreads: list[Spread]) -> Iterator[str]:
    for dimension, (used, limit) in LIMITS.items():
        bases = {spread.basis for spread in spreads if spread.dimension is dimension and spread.values > 1}
        if bases == {Basis.REALISED} and dimension is Dimension.ATTEMPTS:
            yield f"{used.capitalize()} outcomes of difficulty: only success has a law, from hazards; set {limit}."
        elif bases == {Basis.REALISED}:
            yield (
                f"{used.capitalize()} outcomes of difficulty, not limits: if the numbers were set before the runs, "
                f"say so with {limit}."
            )


def _narrow(spreads: list[Spread]) -> Iterator[str]:
    for spread in spreads:
        if (
            spread.basis is not Basis.CATEGORY
            and spread.values > 1
            and spread.lo > 0
            and spread.hi < NARROW * spread.lo
        ):
            yield (
                f"{slot_words(spread.dimension, spread.basis).capitalize()}: from {_value(spread, spread.lo)} to "
                f"{_value(spread, spread.hi)} is less than a factor of {NARROW:g}."
            )


def _tasks(exploration: Exploration) -> Iterator[str]:
    repeats = exploration.repeats
    if repeats is None:
        yield "No run names its task (task_id): runs of one task cannot be told from runs of many."
        return
    if repeats.ambiguous:
        yield (
            f"{count(repeats.ambiguous, 'task id')} occur with several projects or task types and may be different "
            "tasks: make task_id unique."
        )
    if repeats.runs_per_task < 2:  # noqa: PLR2004 - a repeat
        return
    alike = (
        f", alike within a task (intraclass correlation {repeats.likeness:.2f})" if repeats.likeness >= ALIKE else ""
    )
    yield (
        f"{count(repeats.tasks, 'task')} with {repeats.runs_per_task:,.0f} runs each (median){alike}: count tasks, not "
        "runs, when judging how far a law carries over to other tasks."
    )
    within: list[str] = []
    between: list[str] = []
    for name, share in repeats.across.items():
        chosen = [spread for spread in exploration.spreads if spread.values > 1 and _is(spread, name)]
        if chosen and not (chosen[0].basis is Basis.REALISED and chosen[0].dimension in LIMITS):
            (within if share >= WITHIN_TASKS else between).append(f"{name} ({share:.0%})")
    if within:
        yield f"Most tasks were run at several values of {listed(within)}: difficulty can be held fixed there."
    if between:
        yield f"Few tasks were run at several values of {listed(between)}: difficulty may explain the law."


def _is(spread: Spread, name: str) -> bool:
    return slot_words(spread.dimension, spread.basis) == name


def _projects(exploration: Exploration) -> Iterator[str]:
    projects = exploration.groups["project"]
    if projects < MIN_CLUSTERS:
        told = "No run names its project" if projects == 0 else f"Only {count(projects, 'project')}"
        yield f"{told}: laws cannot claim to hold across projects, which takes {MIN_CLUSTERS}."
    share = {one.field: one.share for one in exploration.missing}["task_complexity"]
    if share == 1:
        yield "No run carries a task complexity: no law can be adjusted for it."
    elif share > NOTABLE:
        yield f"Task complexity is missing in {share:.0%} of the runs: adjusted laws are about the others."


def _missing(exploration: Exploration) -> Iterator[str]:
    for one in exploration.missing:
        name = _field(one.field)
        for on in one.depends_on:
            if on.field == "success":
                where = f"{on.low_share:.0%} of failed and {on.high_share:.0%} of successful runs"
            else:
                where = f"{on.low_share:.0%} of runs at low and {on.high_share:.0%} at high values of {on.field}"
            yield f"{name.capitalize()} is missing in {where}: {_consequence(one, on.field)}."


def _field(name: str) -> str:
    if name in set(Outcome):
        return OUTCOME_WORDS[Outcome(name)]
    return DIMENSION_WORDS[Dimension(name)] if name in set(Dimension) else name.replace("_", " ")


def _consequence(one: Missing, on: str) -> str:
    if one.field == Outcome.QUALITY_SCORE and on == "success":
        return "read quality given success, or quality with failures counted as zero"
    return "laws with it are about the runs that report it"


def _corners(exploration: Exploration) -> Iterator[str]:
    corners = [corner for one in exploration.coverage for corner in one.empty_corners]
    if corners:
        more = f" and {len(corners) - NAMED} more" if len(corners) > NAMED else ""
        yield f"Never tried together: {'; '.join(corners[:NAMED])}{more}."


def _confined(exploration: Exploration) -> Iterator[str]:
    for one in exploration.confined:
        values = [*one.values[:NAMED], *([f"{len(one.values) - NAMED} more"] if len(one.values) > NAMED else [])]
        kind = one.group.replace("_", " ")
        yield f"{one.variable.capitalize()} at {listed(values)}: tried with one {kind} only, not to be told from it."
