"""The baseline of an experiment: what runs tell before it starts of its outcome, its costs and its tasks.

What they do not tell is assumed, and said in plain sentences.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from analytics.moments import Floats
from analytics.power_analysis import rate_sd
from analytics.published import Fitting
from analytics.sentences import DIMENSION_WORDS, OUTCOME_WORDS, count, listed, outcome_text, value_text
from analytics.task_filter import matches
from models.dimensions import CLIP, LESS_IS_BETTER, Dimension, Outcome
from models.experiments import Definition, Value

Row = Mapping[str, Any]
"""A run by the columns of the view `observations`; project_characteristics as a mapping."""

Told = Sequence[tuple[Row, float]]
"""Runs that carry the outcome, each with it."""

DAY = 86_400.0

ENOUGH_RUNS = 30
"""Runs from which a mean and a deviation are taken from the runs and not assumed; 10 do for a cost."""

ENOUGH_COSTS = 10

FEWEST_BLOCKS = 6
"""Time blocks that a comparison of blocks needs, as of clusters; in a switchback each value does."""

LEAST_SPAN = 3600.0
"""Runs that completed within a shorter time, such as a replay, do not tell how many tasks come."""

SAME_VALUE = 0.05
"""A run is one at a value if its limit lies within 5 % of it: 4,096 tokens are 4k."""

ASSUMED: dict[Outcome, tuple[float, float]] = {
    Outcome.SUCCESS: (0.6, rate_sd(0.6)),
    Outcome.QUALITY_SCORE: (0.6, 0.2),
    Outcome.TIME_TO_COMPLETE: (math.log(600), 0.8),
    Outcome.TOTAL_COST: (math.log(0.5), 0.8),
}
"""Mean and standard deviation of single runs, on the outcome's scale, where no runs tell."""

ASSUMED_SETTINGS: dict[Dimension, float] = {
    Dimension.AGENT_COUNT: 3.0,
    Dimension.ITERATIONS: 5.0,
    Dimension.CONTEXT: 32_000.0,
    Dimension.ATTEMPTS: 1.0,
}
"""The other settings of a run, where no runs tell."""

LIMITS: dict[Dimension, str] = {
    Dimension.AGENT_COUNT: "agent_count",
    Dimension.ITERATIONS: "max_iterations",
    Dimension.PARALLELISM_LEVEL: "parallelism_level",
    Dimension.CONTEXT: "context_budget",
    Dimension.MODEL_SIZE: "model_params_b",
    Dimension.ATTEMPTS: "retry_limit",
}
"""What sets a dimension before the run: an experiment assigns limits, not what a run turns out to use."""


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run at one value costs: mean and standard deviation in dollars, and the runs that say so; 0: a price."""

    mean: float
    sd: float
    runs: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known before an experiment, or assumed.

    Attributes:
        mean: Of the outcome, on its scale (ln for time and cost).
        sd: Of single runs at one value, on that scale.
        dollars: What a run at each value costs.
        tasks_a_day: Matching tasks; None where no runs tell.
        measured: The share of runs that carry the outcome.
        block_correlation: Of two runs of one time block, beyond what the values explain.
        notes: What was assumed, and what the rest was learnt from.
    """

    mean: float
    sd: float
    dollars: Mapping[Value, RunCost]
    tasks_a_day: float | None = None
    measured: float = 1.0
    block_correlation: float = 0.0
    notes: tuple[str, ...] = ()


def baseline_of(definition: Definition, rows: Sequence[Row], prices: Fitting, scale: Mapping[str, float]) -> Baseline:
    """Learn from runs what can be known before an experiment; what they do not tell is assumed, and said.

    Args:
        definition: Which tasks, outcome and values it is about.
        rows: Runs of any kind, with the time each was completed; those that do not match only tell how long it took.
        prices: The price table.
        scale: The numbers that stand for complexity labels.
    """
    found = [row for row in rows if _takes_part(definition, row, scale)]
    told = [(row, y) for row in found if (y := outcome_of(row, definition)) is not None]
    mean, sd, notes = _level(definition, told)
    measured = len(told) / len(found) if len(found) >= ENOUGH_RUNS and told else 1.0
    if measured < 1:
        notes.append(f"{measured:.0%} of the matching runs carry {OUTCOME_WORDS[definition.outcome]}.")
    tasks, note = _arrivals(rows, found)
    notes.append(note)
    correlation = 0.0
    if definition.assignment == "switchback":
        correlation, note = _block_correlation(definition, told)
        notes.append(note)
    rate = mean if definition.outcome is Outcome.SUCCESS else ASSUMED[Outcome.SUCCESS][0]
    dollars, remarks = costs_of(definition.dimension_tested, definition.values_tested, found, prices, rate)
    return Baseline(mean, sd, dollars, tasks, measured, correlation, (*notes, *remarks))


def costs_of(
    dimension: Dimension, values: Sequence[Value], rows: Sequence[Row], prices: Fitting, rate: float
) -> tuple[dict[Value, RunCost], list[str]]:
    """Say what a run at each value costs: what ten or more runs there did, else by the price table.

    Equation: (agents a + iterations i + context / 1000 c) times the expected attempts, at the runs' median settings,
    times what the runs cost over what the table says that they do.

    Args:
        dimension: What is varied.
        values: Its values.
        rows: The runs.
        prices: The price table.
        rate: P(success) of an attempt; further ones are made after failures.

    Returns:
        Costs by value, and what was assumed.
    """
    typical, assumed = _typical(rows)
    paid = [(row, float(row["total_cost"])) for row in rows if row.get("total_cost") is not None]
    table = math.fsum(_price(typical | _settings(row), prices, rate) for row, _ in paid)
    ratio = math.fsum(dollars for _, dollars in paid) / table if table > 0 else 1.0
    costs: dict[Value, RunCost] = {}
    priced: list[Value] = []
    for value in values:
        there = [dollars for row, dollars in paid if same_value(row, dimension, value)]
        if len(there) >= ENOUGH_COSTS:
            costs[value] = RunCost(fmean(there), stdev(there), len(there))
        else:
            varied = typical if isinstance(value, str) else typical | {dimension: value}
            costs[value] = RunCost(ratio * _price(varied, prices, rate), 0.0, 0)
            priced.append(value)
    return costs, list(_price_notes(dimension, priced, assumed, len(paid), ratio))


def same_value(row: Row, dimension: Dimension, value: Value) -> bool:
    """Tell whether a run was one at a value of a dimension."""
    setting = setting_of(row, dimension, category=isinstance(value, str))
    if isinstance(value, str) or isinstance(setting, str) or setting is None:
        return setting == value
    return math.isclose(setting, value, rel_tol=SAME_VALUE)


def setting_of(row: Row, dimension: Dimension, *, category: bool = False) -> Value | None:
    """Read what a run's dimension was set to beforehand; the number of attempts is one more than that of retries."""
    if category:
        label = row.get("model_size_category")
        return None if label is None else str(label)
    found = row.get(LIMITS[dimension])
    return None if found is None else float(found) + (dimension is Dimension.ATTEMPTS)


def outcome_of(row: Row, definition: Definition) -> float | None:
    """Read a run's outcome on its scale: ln of time and cost; None where the run says nothing."""
    outcome = definition.outcome
    found = row.get(outcome)
    if found is None:
        return 0.0 if outcome is Outcome.QUALITY_SCORE and definition.missing_quality == "zero" else None
    if outcome is Outcome.TOTAL_COST and found <= 0:
        return None
    return math.log(max(found, CLIP)) if outcome in LESS_IS_BETTER else float(found)


def _takes_part(definition: Definition, row: Row, scale: Mapping[str, float]) -> bool:
    excluded = bool(definition.exclusions) and matches(definition.exclusions, row, scale)
    return not excluded and matches(definition.context_filter, row, scale)


def _level(definition: Definition, told: Told) -> tuple[float, float, list[str]]:
    """Give mean and standard deviation of single runs at one value, and where they are from."""
    outcome, n = definition.outcome, len(told)
    name, (mean, sd) = OUTCOME_WORDS[outcome], ASSUMED[outcome]
    scale = f"ln {name}" if outcome in LESS_IS_BETTER else name
    if n < ENOUGH_RUNS:
        what = (
            f"A success rate of {mean:g}"
            if outcome is Outcome.SUCCESS
            else f"A standard deviation of {scale} of {sd:g}"
        )
        return mean, sd, [f"{what} is assumed: {count(n, 'matching run')} cannot tell, {ENOUGH_RUNS} would."]
    y = [value for _, value in told]
    if outcome is Outcome.SUCCESS:
        # Half a success and half a failure more: a rate of 1 among these runs need not be one.
        mean = (math.fsum(y) + 0.5) / (n + 1)
        return mean, rate_sd(mean), [f"{outcome_text(outcome, mean)} of {count(n, 'matching run')} succeeded."]
    away = _residuals(definition, told)
    spread = math.sqrt(float(away @ away) / (n - len(_groups(definition, told))))
    if spread <= 0:
        return fmean(y), sd, [f"All matching runs have the same {name}: a standard deviation of {sd:g} is assumed."]
    return (
        fmean(y),
        spread,
        [f"{scale} of {count(n, 'matching run')} at one value has a standard deviation of {spread:.2g}."],
    )


def _groups(definition: Definition, told: Told) -> list[list[int]]:
    """Put runs at the same quarter octave of the dimension together; all in one group where there are too many."""
    category = any(isinstance(value, str) for value in definition.values_tested)
    groups: defaultdict[Value | None, list[int]] = defaultdict(list)
    for place, (row, _) in enumerate(told):
        setting = setting_of(row, definition.dimension_tested, category=category)
        octave = round(4 * math.log2(setting)) if isinstance(setting, float) and setting > 0 else setting
        groups[octave].append(place)
    enough = not told or len(told) - len(groups) >= ENOUGH_RUNS
    return list(groups.values()) if enough else [list(range(len(told)))]


def _residuals(definition: Definition, told: Told) -> Floats:
    """Give each run's distance from the mean at its value. [N]."""
    y = np.array([value for _, value in told])
    for places in _groups(definition, told):
        y[places] -= y[places].mean()
    return y


def _block_correlation(definition: Definition, told: Told) -> tuple[float, str]:
    """Estimate the correlation of two runs of one time block: the intraclass correlation of an analysis of variance.

    References:
        Donner (1986), "A Review of Inference Procedures for the Intraclass Correlation Coefficient".
    """
    away = _residuals(definition, told)
    length = definition.switchback_seconds
    _, block = np.unique([row["completed_at"].timestamp() // length for row, _ in told], return_inverse=True)
    n = np.bincount(block).astype(np.float64) if len(block) else np.zeros(0)
    blocks, runs = len(n), float(n.sum())
    if blocks < FEWEST_BLOCKS or runs - blocks < ENOUGH_RUNS:
        return 0.0, "Runs of one time block are assumed to be independent: too few of them tell otherwise."
    sums = np.bincount(block, away)
    between = float((sums**2 / n).sum()) / (blocks - 1)
    within = (float(away @ away) - float((sums**2 / n).sum())) / (runs - blocks)
    size = (runs - float((n * n).sum()) / runs) / (blocks - 1)
    total = between + (size - 1) * within
    correlation = max((between - within) / total, 0.0) if total > 0 else 0.0
    return correlation, f"Runs of one time block are correlated by {correlation:.3f}, as past ones were."


def _arrivals(rows: Sequence[Row], found: Sequence[Row]) -> tuple[float | None, str]:
    """Count the matching tasks a day; several runs of one task are one."""
    times = [row["completed_at"] for row in rows]
    span = (max(times) - min(times)).total_seconds() if times else 0.0
    if span < LEAST_SPAN or not found:
        return None, "How many tasks come is not known: no matching runs over an hour or more tell."
    tasks = len({row.get("task_id") or f"run {row['agent_run_id']}" for row in found})
    again = f", {len(found) / tasks:.1f} runs each; only new tasks count" if len(found) > tasks else ""
    return tasks / span * DAY, (
        f"{count(tasks, 'matching task')} came in {span / DAY:,.3g} days up to {max(times):%Y-%m-%d}{again}."
    )


def _settings(row: Row) -> dict[Dimension, float]:
    """Read the settings that a run's price depends on; what it used where it had no limit."""
    agents, iterations = row.get("agent_count"), row.get("total_iterations")
    used = {
        Dimension.ITERATIONS: iterations / agents if agents and iterations is not None else None,
        Dimension.CONTEXT: row.get("context_tokens"),
    }
    found = {dimension: setting_of(row, dimension) for dimension in ASSUMED_SETTINGS}
    known = {dimension: used.get(dimension) if x is None else x for dimension, x in found.items()}
    return {dimension: float(x) for dimension, x in known.items() if x is not None}


def _typical(rows: Sequence[Row]) -> tuple[dict[Dimension, float], list[Dimension]]:
    """Give the median settings of runs, and which of them are assumed."""
    settings = [_settings(row) for row in rows]
    known = {dimension: [each[dimension] for each in settings if dimension in each] for dimension in ASSUMED_SETTINGS}
    typical = {dimension: median(x) if x else ASSUMED_SETTINGS[dimension] for dimension, x in known.items()}
    return typical, [dimension for dimension, x in known.items() if not x]


def _price(settings: Mapping[Dimension, float], prices: Fitting, rate: float) -> float:
    once = (
        settings[Dimension.AGENT_COUNT] * prices.agent_cost
        + settings[Dimension.ITERATIONS] * prices.iteration_cost
        + settings[Dimension.CONTEXT] / 1000 * prices.context_cost_per_1k
    )
    # Σ P(failed so far) over the allowed attempts.
    return once * (1 - math.pow(1 - rate, settings[Dimension.ATTEMPTS])) / rate


def _price_notes(
    dimension: Dimension, priced: Sequence[Value], assumed: Sequence[Dimension], paid: int, ratio: float
) -> Iterator[str]:
    """Say which costs are prices, and what they go by."""
    if not priced:
        return
    names = [value if isinstance(value, str) else value_text(dimension, value) for value in priced]
    scaled = f", times {ratio:.2g} for what {count(paid, 'run')} did cost" if paid else ""
    yield f"Costs at {listed(names)} are those of the price table{scaled}: fewer than {ENOUGH_COSTS} runs tell them."
    if dimension in {Dimension.MODEL_SIZE, Dimension.PARALLELISM_LEVEL}:
        yield f"The price table does not know {DIMENSION_WORDS[dimension]}: all values are taken to cost the same."
    phrases = {
        Dimension.AGENT_COUNT: "{} agents",
        Dimension.ITERATIONS: "an iteration limit of {}",
        Dimension.CONTEXT: "a context budget of {}",
    }
    others = [
        phrases[each].format(value_text(each, ASSUMED_SETTINGS[each]))
        for each in assumed
        if each is not dimension and each in phrases
    ]
    if others:
        yield f"Runs are assumed to have {listed(others)}."
