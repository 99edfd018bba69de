"""Planning: what an experiment would see, cost and take, before it starts.

The estimand is a slope on ln x, given as the change from the smallest to the largest value, or the difference of two
means. Its standard error at the planned size decides everything: one look at level alpha tells an effect from none
where it exceeds 1.96 errors; the confidence sequence, tightest at the planned size, where it exceeds 3.04 (alpha =
0.05).

What complexity will take out of the variance, and what earlier looks may find, is not counted: plans err on the safe
side.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr, ndtri

from analytics.arm_means import effect_weights
from analytics.confidence_sequences import confidence_sequence
from analytics.experiment_baseline import DAY, FEWEST_BLOCKS, Baseline
from analytics.intervals import z_quantile
from analytics.moments import Floats
from analytics.power_analysis import POWER, detectable_effect
from analytics.sentences import OUTCOME_WORDS, count
from models.dimensions import LESS_IS_BETTER, Dimension, Outcome
from models.errors import NotEnoughData
from models.experiments import Definition

ACTING_RUNS = 200
"""Runs a value from which a result is ground to act on."""

ENOUGH_POWER = 0.8
LONG_DAYS = 60.0

PRICE_FACTOR = 2.0
"""A price that no run confirms may be this many times too high or too low."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a design sees by one stopping rule, looked at at its planned size.

    Attributes:
        power: P(the interval excludes zero), where the effect is the minimum effect.
        detectable_effect: The effect for which that is 80 %.
        equivalence_power: P(the interval lies within the minimum effect on both sides), where there is no effect: that
            at 1 - 2 alpha for one look, the confidence sequence itself where one looks always.
        needed: How many times the planned size would have 80 % power for the minimum effect.
        needed_for_none: How many times it would call a flat truth "no effect" with 80 % probability.
    """

    power: float
    detectable_effect: float
    equivalence_power: float
    needed: float
    needed_for_none: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What an experiment would see, cost and take.

    Attributes:
        runs: Assignments to all values together.
        standard_error: Of the effect, at the planned size.
        fixed: What one look at the planned size sees; `sequential` what the confidence sequence excludes there.
        dollars: Expected; 95 % of such experiments cost within `dollars_lo` and `dollars_hi`.
        seconds: Until the last assignment; None where no runs tell how many tasks come.
        blocks: Time blocks of a switchback; None likewise.
        warnings: What to mind before it starts.
        notes: What was assumed.
    """

    experiment_id: str
    name: str
    dimension: Dimension
    outcome: Outcome
    stopping: str
    direction: str
    minimum_effect: float
    planned_per_value: int
    runs: int
    standard_error: float
    fixed: Foresight
    sequential: Foresight
    dollars: float
    dollars_lo: float
    dollars_hi: float
    seconds: float | None
    blocks: int | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def own(self) -> Foresight:
        """Give what the definition's own stopping rule sees."""
        return self.fixed if self.stopping == "fixed" else self.sequential

    @property
    def power(self) -> float:
        """Give P(the minimum effect is seen) by the definition's own rule."""
        return self.own.power

    @property
    def detectable_effect(self) -> float:
        """Give the effect that is seen with 80 % probability by the definition's own rule."""
        return self.own.detectable_effect

    @property
    def equivalence_power(self) -> float:
        """Give P(a flat truth is called "no effect larger than the minimum effect") by the definition's own rule."""
        return self.own.equivalence_power


def plan(definition: Definition, world: Baseline) -> Plan:
    """Foretell an experiment from what is known before it.

    Equation: of n assignments a value, n s (1 - w) are measured, s the share of runs that carry the outcome, w the
    washout's share of a time block. A switchback has 1 + λ c times the variance of independent runs: λ runs come in a
    block, a run shares its block with λ others if they come at random, and c is their correlation.

    Raises:
        NotEnoughData: The values do not make the estimand, or a standard deviation is not above zero.
    """
    switchback = definition.assignment == "switchback"
    kept = 1 - definition.washout_seconds / definition.switchback_seconds if switchback else 1.0
    inflation = 1.0
    if switchback and world.tasks_a_day is not None:
        inflation += world.tasks_a_day / DAY * definition.switchback_seconds * kept * world.block_correlation
    runs = definition.planned_per_value * len(definition.values_tested)
    assigned = runs * shares(definition)
    se = standard_error(definition, assigned * kept * world.measured, world.sd * math.sqrt(inflation))
    fixed, sequential = (
        foresee(definition.minimum_effect, se, definition.alpha, sequential=rule) for rule in (False, True)
    )
    dollars, lo, hi = _dollars(definition, assigned, world)
    seconds = runs / world.tasks_a_day * DAY if world.tasks_a_day else None
    found = Plan(
        experiment_id=definition.experiment_id,
        name=definition.name,
        dimension=definition.dimension_tested,
        outcome=definition.outcome,
        stopping=definition.stopping,
        direction=definition.direction,
        minimum_effect=definition.minimum_effect,
        planned_per_value=definition.planned_per_value,
        runs=runs,
        standard_error=se,
        fixed=fixed,
        sequential=sequential,
        dollars=dollars,
        dollars_lo=lo,
        dollars_hi=hi,
        seconds=seconds,
        blocks=math.ceil(seconds / definition.switchback_seconds) if switchback and seconds is not None else None,
        notes=world.notes,
    )
    return replace(found, warnings=tuple(_warnings(found, definition, world)))


def shares(definition: Definition) -> Floats:
    """Give the share of the assignments that each value gets: equal ones, or half of them where the slope learns most.

    Equation (neyman): 1 / 2V + |ln x - mean| / (2 Σ |ln x - mean|), V values.
    """
    values = definition.values_tested
    equal = np.full(len(values), 1 / len(values))
    if definition.assignment != "neyman":
        return equal
    ln_x = np.log(_numbers(definition))
    away = np.abs(ln_x - ln_x.mean())
    return np.asarray((equal + away / away.sum()) / 2)


def standard_error(definition: Definition, n: Floats | Sequence[float], sd: float) -> float:
    """Give the standard error of the estimand: of a slope's change from the first to the last value, or of a contrast.

    A knee is judged on the slope's error: where returns end can only be told of returns that are seen.

    Args:
        definition: Whose estimand.
        n: Runs at each value. [V]
        sd: Of single runs.

    Raises:
        NotEnoughData: The values do not make the estimand, or sd is not above zero.
    """
    runs = np.asarray(n, np.float64)
    if definition.estimand == "contrast":
        # Two means are a slope over two values that are one unit of ln x apart.
        x, runs = [1.0, math.e], runs[np.flatnonzero(effect_weights(definition)[0])]
    else:
        x = _numbers(definition)
    # With a power of one half an effect is detectable that equals the half-width of the interval.
    half = detectable_effect(x, runs, sd, power=0.5, alpha=definition.alpha).total
    return half / z_quantile(1 - definition.alpha)


def foresee(effect: float, se: float, alpha: float, *, sequential: bool) -> Foresight:
    """Foretell what an estimate with a standard error sees of an effect.

    Equation: with c = 1.96 (one look) or the sequence's 3.04 at its tuned size, power = Φ(e - c) + Φ(-e - c), e the
    effect in errors; detectable effect (c + z_0.8) SE; equivalence 2 Φ(e - c') - 1, c' = 1.64 for one look, else c.

    Args:
        effect: The minimum effect, above zero.
        se: The standard error at the planned size.
        alpha: The level; two-sided.
        sequential: By the confidence sequence that is tuned to the planned size, not by one look.

    References:
        Schuirmann (1987), "A comparison of the two one-sided tests procedure".
    """
    if sequential:
        critical = within = float(confidence_sequence(0.0, 1.0, 1.0, alpha)[1])
    else:
        critical, within = z_quantile(1 - alpha), z_quantile(1 - 2 * alpha)
    e, seen, sure = effect / se, float(ndtri(POWER)), z_quantile(POWER)
    return Foresight(
        power=float(ndtr(e - critical) + ndtr(-e - critical)),
        detectable_effect=(critical + seen) * se,
        equivalence_power=max(0.0, 2 * float(ndtr(e - within)) - 1),
        needed=((critical + seen) / e) ** 2,
        needed_for_none=((within + sure) / e) ** 2,
    )


def effect_words(outcome: Outcome, effect: float, direction: str = "either") -> str:
    """Write an effect: 10 points, 0.08, 26 % less.

    >>> effect_words(Outcome.SUCCESS, 0.1), effect_words(Outcome.TIME_TO_COMPLETE, 0.3, "decrease")
    ('10 points', '26 % less')
    """
    if outcome in LESS_IS_BETTER:
        if direction == "decrease":
            return f"{100 * -math.expm1(-effect):.2g} % less"
        more = f"{100 * math.expm1(effect):.2g} %"
        return f"{more} more" if direction == "increase" else more
    return f"{100 * effect:.3g} points" if outcome is Outcome.SUCCESS else f"{effect:.2g}"


def _numbers(definition: Definition) -> list[float]:
    numbers = [value for value in definition.values_tested if not isinstance(value, str)]
    if len(numbers) < len(definition.values_tested):
        raise NotEnoughData(
            f"values {definition.values_tested} have no place on ln x: use estimand contrast for categories"
        )
    return numbers


def _dollars(definition: Definition, assigned: Floats, world: Baseline) -> tuple[float, float, float]:
    """Expect what an experiment costs: runs scatter, means are known from so many runs, prices within a factor."""
    expected = variance = below = above = 0.0
    for n, value in zip(assigned.tolist(), definition.values_tested, strict=True):
        cost = world.dollars[value]
        expected += n * cost.mean
        if cost.runs:
            variance += n * cost.sd**2 * (1 + n / cost.runs)
        else:
            below += n * cost.mean * (1 - 1 / PRICE_FACTOR)
            above += n * cost.mean * (PRICE_FACTOR - 1)
    half = z_quantile() * math.sqrt(variance)
    return expected, max(expected - half - below, 0.0), expected + half + above


def _warnings(found: Plan, definition: Definition, world: Baseline) -> Iterator[str]:
    yield from _short(found, definition)
    yield from _blind(found, definition)
    yield from _course(found, definition, world)


def _short(found: Plan, definition: Definition) -> Iterator[str]:
    """Say what is too small to reach the planned size, or to act on."""
    size, dollars, runs = definition.planned_per_value, definition.budget_dollars, definition.budget_runs
    if dollars is not None and dollars < found.dollars:
        yield (
            f"The budget of ${dollars:,.2f} is below the expected ${found.dollars:,.2f}: assignments would end at "
            f"about {dollars / found.dollars:.0%} of the planned size."
        )
    if runs is not None and runs < found.runs:
        yield f"The budget of {count(runs, 'run')} ends before the planned {found.runs:,}."
    if size < ACTING_RUNS:
        yield f"{size:,} runs a value are planned; from {ACTING_RUNS} on a result is ground to act on."


def _blind(found: Plan, definition: Definition) -> Iterator[str]:
    """Say what it would fail to see."""
    size = definition.planned_per_value
    effect = effect_words(found.outcome, found.minimum_effect, definition.direction)
    if found.power < ENOUGH_POWER:
        yield (
            f"It sees its minimum effect ({effect}) in {found.power:.0%} of cases: "
            f"{math.ceil(size * found.own.needed):,} runs a value would see it in {ENOUGH_POWER:.0%}."
        )
    if found.equivalence_power < ENOUGH_POWER:
        yield (
            f'It calls a flat truth "no effect larger than {effect_words(found.outcome, found.minimum_effect)}" in '
            f"{found.equivalence_power:.0%} of cases: {math.ceil(size * found.own.needed_for_none):,} runs a value "
            f"would in {ENOUGH_POWER:.0%}."
        )
    if definition.estimand == "knee":
        yield "Power is told for the slope: where returns end can only be told of returns that are seen."
    if definition.assignment == "thompson":
        yield "Shares will follow the outcomes: figures are those of equal shares."


def _course(found: Plan, definition: Definition, world: Baseline) -> Iterator[str]:
    """Say what may get in its way."""
    if found.outcome not in LESS_IS_BETTER and definition.direction != "either":
        half = found.minimum_effect / 2 if definition.direction == "increase" else -found.minimum_effect / 2
        if not 0 <= world.mean + half <= 1:
            yield (
                f"{OUTCOME_WORDS[found.outcome].capitalize()} is {world.mean:.2f} already: there is no room for the "
                "minimum effect."
            )
    values = len(definition.values_tested)
    if found.blocks is not None and found.blocks < FEWEST_BLOCKS * values:
        yield (
            f"{count(found.blocks, 'time block')} for {values} values: plan for {FEWEST_BLOCKS * values} or more, "
            "with shorter blocks or more runs."
        )
    if found.seconds is not None and found.seconds > LONG_DAYS * DAY:
        yield f"It takes about {found.seconds / DAY:,.0f} days at {world.tasks_a_day or 0:,.3g} matching tasks a day."
