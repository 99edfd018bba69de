"""Plans against the design's published figures, statsmodels, simulated experiments and simulated past runs."""

import doctest
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from statsmodels.stats.power import zt_ind_solve_power

from analytics import experiment_planning
from analytics.confidence_sequences import confidence_sequence
from analytics.experiment_baseline import (
    Baseline,
    RunCost,
    baseline_of,
    costs_of,
    outcome_of,
    same_value,
    setting_of,
)
from analytics.experiment_planning import Plan, effect_words, foresee, plan, shares, standard_error
from analytics.moments import Floats
from analytics.power_analysis import detectable_effect, power_of, rate_sd
from analytics.published import Fitting
from analytics.ready_made import READY_MADE
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.experiments import Definition, Value

AGENTS = structs.replace(READY_MADE["agent_count"], minimum_effect=0.1)
SIZE, PARALLEL = READY_MADE["model_size"], READY_MADE["parallelism_level"]
SCALE = {"trivial": 0.1, "low": 0.35, "medium": 0.65, "high": 0.9}
START = datetime(2026, 3, 1, tzinfo=UTC)
PRICES = Fitting()


def world(sd: float = rate_sd(0.6), dollars: float = 0.5, **fields: Any) -> Baseline:  # noqa: ANN401 - any field
    """Know everything: a run costs the same at every value."""
    values: list[Value] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, "small", "medium", "large"]
    known: dict[str, Any] = {
        "mean": 0.6,
        "tasks_a_day": 100.0,
        "dollars": dict.fromkeys(values, RunCost(dollars, 0, 100)),
    }
    return Baseline(sd=sd, **(known | fields))


def changed(definition: Definition, **fields: Any) -> Definition:  # noqa: ANN401 - any field
    """Change a definition."""
    return structs.replace(definition, **fields)


@pytest.mark.parametrize(("n", "total"), [(30, 0.308), (100, 0.169), (200, 0.119), (300, 0.097), (1000, 0.053)])
def test_the_documents_design_sees_what_the_design_study_says(n: int, total: float) -> None:
    """At a success rate of .6, thirty runs a value see a rise of 31 points at one look, 200 one of 12."""
    found = plan(changed(AGENTS, planned_per_value=n), world())
    assert found.fixed.detectable_effect == pytest.approx(total, abs=6e-4)
    assert found.fixed.detectable_effect == pytest.approx(detectable_effect(numbers(AGENTS), n, rate_sd(0.6)).total)
    assert found.fixed.power == pytest.approx(power_of(numbers(AGENTS), n, 0.1 / math.log(8), rate_sd(0.6)))
    assert found.runs == 6 * n


def test_a_contrast_is_the_comparison_of_two_groups() -> None:
    """The power of small against large is statsmodels' for two samples, whichever values stand between."""
    definition = changed(SIZE, planned_per_value=60, minimum_effect=0.09)
    found = plan(definition, world(0.2))
    assert found.fixed.power == pytest.approx(zt_ind_solve_power(0.09 / 0.2, nobs1=60, alpha=0.05, ratio=1), rel=1e-9)
    assert found.standard_error == pytest.approx(0.2 * math.sqrt(2 / 60))
    middle = changed(definition, contrast_value="medium")
    assert standard_error(middle, [60, 30, 1000], 0.2) == pytest.approx(0.2 * math.sqrt(1 / 60 + 1 / 30))


def experiments(rates: Floats, n: int, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Run experiments on agents: the rise from 1 to 8 by least squares on ln x, and its plug-in standard error."""
    ln_x = np.log(numbers(AGENTS))
    away = ln_x - ln_x.mean()
    means = rng.binomial(n, rates, (count, len(rates))) / n
    span = math.log(8) / float(away @ away)
    error = np.sqrt(np.maximum(means * (1 - means), 1e-9) / n @ (away * away))
    return span * (means @ away), span * error


@pytest.mark.parametrize("n", [100, 200, 600])
def test_power_is_what_simulated_experiments_have(n: int) -> None:
    """Of 6,000 experiments with a rise of 10 points one look and the tuned sequence see it in the share foretold."""
    ln_x = np.log(numbers(AGENTS))
    rates = 0.6 + 0.1 / math.log(8) * (ln_x - ln_x.mean())
    rise, error = experiments(rates, n, 6000, np.random.default_rng(n))
    found = plan(changed(AGENTS, planned_per_value=n), world())
    assert float((np.abs(rise) > 1.959964 * error).mean()) == pytest.approx(found.fixed.power, abs=0.02)
    lo, hi = confidence_sequence(rise, error, 1 / found.standard_error**2)
    assert float(((lo > 0) | (hi < 0)).mean()) == pytest.approx(found.sequential.power, abs=0.02)
    assert error.mean() == pytest.approx(found.standard_error, rel=0.02)


@pytest.mark.parametrize("n", [200, 500, 700])
def test_flat_truths_are_called_flat_as_often_as_foretold(n: int) -> None:
    """Two one-sided tests at one look, and the sequence itself, within ±10 points where agents do nothing."""
    rise, error = experiments(np.full(6, 0.6), n, 6000, np.random.default_rng(n))
    found = plan(changed(AGENTS, planned_per_value=n), world())
    inside = np.abs(rise) + 1.644854 * error < 0.1
    assert float(inside.mean()) == pytest.approx(found.fixed.equivalence_power, abs=0.025)
    lo, hi = confidence_sequence(rise, error, 1 / found.standard_error**2)
    assert float(((lo > -0.1) & (hi < 0.1)).mean()) == pytest.approx(found.sequential.equivalence_power, abs=0.025)


def test_looks_before_the_planned_size_find_more() -> None:
    """The power at the planned size is a floor for an experiment that looks twenty times on its way there."""
    rng = np.random.default_rng(5)
    ln_x = np.log(numbers(AGENTS))
    away = ln_x - ln_x.mean()
    rates = 0.6 + 0.15 / math.log(8) * away
    n = np.arange(20, 401, 20)
    means = rng.binomial(20, rates, (3000, 20, 6)).cumsum(axis=1) / n[:, None]
    rise = math.log(8) / float(away @ away) * (means @ away)
    found = plan(changed(AGENTS, planned_per_value=400, minimum_effect=0.15), world())
    error = found.standard_error * np.sqrt(400 / n)
    lo, _ = confidence_sequence(rise, error, 1 / found.standard_error**2)
    ever, at_the_end = float((lo > 0).any(axis=1).mean()), float((lo[:, -1] > 0).mean())
    assert at_the_end == pytest.approx(found.sequential.power, abs=0.025)
    assert found.sequential.power < ever < found.sequential.power + 0.15


def test_needed_sizes_have_the_power_that_was_missing() -> None:
    """A plan of the needed size has 80 % power, and one of the other calls a flat truth flat in 80 %."""
    for definition, known in ((AGENTS, world()), (changed(AGENTS, stopping="fixed"), world()), (SIZE, world(0.5))):
        short = plan(definition, known)
        size = definition.planned_per_value
        seen = plan(changed(definition, planned_per_value=math.ceil(size * short.own.needed)), known)
        flat = plan(changed(definition, planned_per_value=math.ceil(size * short.own.needed_for_none)), known)
        assert seen.power == pytest.approx(0.8, abs=0.003)
        assert flat.equivalence_power == pytest.approx(0.8, abs=0.003)


def test_runs_where_the_slope_learns_most_tell_more() -> None:
    """Neyman's half keeps half of the runs balanced; the slope's error is that of least squares with these runs."""
    definition = changed(AGENTS, assignment="neyman")
    n = 1200 * shares(definition)
    assert n.sum() == pytest.approx(1200)
    assert n.min() > 100
    design = np.stack((np.ones(6), np.log(numbers(AGENTS))), axis=1)
    slope = math.sqrt(np.linalg.inv(design.T @ (n[:, None] * design))[1, 1]) * rate_sd(0.6)
    found = plan(definition, world())
    assert found.standard_error == pytest.approx(slope * math.log(8))
    assert found.standard_error < 0.95 * plan(AGENTS, world()).standard_error


def test_blocks_of_time_that_differ_cost_a_switchback_power() -> None:
    """Tasks that come at random into blocks of one value each: the error is that of 2,000 simulated switchbacks."""
    rng = np.random.default_rng(11)
    a_day, correlation, n = 480.0, 0.2, 300
    definition = changed(PARALLEL, planned_per_value=n, switchback_seconds=1800, washout_seconds=0)
    known = world(0.8, tasks_a_day=a_day, block_correlation=correlation)
    ln_x = np.log(numbers(PARALLEL))
    away = ln_x - ln_x.mean()
    blocks = 4 * n // 10
    value = np.arange(blocks) % 4
    slopes = []
    for _ in range(2000):
        runs = rng.poisson(10, blocks)
        shared = rng.normal(0, 0.8 * math.sqrt(correlation), blocks)
        total = runs * shared + rng.normal(0, 1, blocks) * 0.8 * np.sqrt((1 - correlation) * runs)
        mean = np.bincount(value, total, 4) / np.bincount(value, runs, 4)
        slopes.append(float(mean @ away / (away @ away)) * math.log(8))
    found = plan(definition, known)
    assert found.standard_error == pytest.approx(float(np.std(slopes)), rel=0.04)
    assert found.standard_error == pytest.approx(math.sqrt(3) * plan(definition, world(0.8)).standard_error)
    assert found.blocks == blocks
    assert any("time block" in warning for warning in plan(changed(definition, planned_per_value=30), known).warnings)


def test_runs_that_are_not_measured_do_not_count() -> None:
    """A third of a block washed out, and one run in five without a quality score, leave 8/15 of the runs."""
    plain = plan(changed(PARALLEL, outcome=Outcome.QUALITY_SCORE, washout_seconds=0), world(0.2))
    washed = changed(PARALLEL, outcome=Outcome.QUALITY_SCORE, washout_seconds=600)
    less = plan(washed, world(0.2, measured=0.8))
    assert less.standard_error == pytest.approx(plain.standard_error / math.sqrt(8 / 15))
    assert (less.runs, less.dollars) == (plain.runs, plain.dollars)


def test_dollars_are_expected_with_the_range_of_what_comes() -> None:
    """Costs learnt from 50 past runs: 95 % of simulated experiments cost what lies within the foretold range."""
    rng = np.random.default_rng(3)
    inside, totals = 0, []
    for _ in range(2000):
        past = rng.gamma(4, 0.1, (6, 50))
        dollars: dict[Value, RunCost] = {
            value: RunCost(float(runs.mean()), float(runs.std(ddof=1)), 50)
            for value, runs in zip(numbers(AGENTS), past, strict=True)
        }
        found = plan(changed(AGENTS, planned_per_value=100), Baseline(0.6, 0.49, dollars, 100.0))
        spent = rng.gamma(4, 0.1, 600).sum()
        totals.append(found.dollars)
        inside += found.dollars_lo <= spent <= found.dollars_hi
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)
    assert float(np.mean(totals)) == pytest.approx(240, rel=0.01)


def test_prices_may_be_half_or_twice() -> None:
    """Where no run tells a cost, the range says how little is known."""
    dollars: dict[Value, RunCost] = {value: RunCost(0.5, 0.0, 0) for value in numbers(AGENTS)}
    found = plan(AGENTS, Baseline(0.6, 0.49, dollars))
    assert (found.dollars, found.dollars_lo, found.dollars_hi) == (600, 300, 1200)
    assert found.seconds is None


def test_a_plan_says_what_to_mind() -> None:
    """Budgets, size, power, room and time: each warning in words, and none where all is well."""
    assert plan(changed(SIZE, minimum_effect=0.15), world(0.2)).warnings == ()
    told = said(plan(changed(AGENTS, planned_per_value=100, budget_dollars=120.0, budget_runs=500), world()))
    assert "The budget of $120.00 is below the expected $300.00: assignments would end at about 40% of" in told
    assert "The budget of 500 runs ends before the planned 600." in told
    assert "100 runs a value are planned; from 200 on a result is ground to act on." in told
    assert "It sees its minimum effect (10 points) in 8% of cases: 546 runs a value would see it in 80%." in told
    assert 'It calls a flat truth "no effect larger than 10 points" in 0% of cases: 676 runs a value would' in told
    assert "Success is 0.97 already" in said(plan(AGENTS, world(0.17, mean=0.97)))
    assert "It takes about 1,200 days at 1 matching tasks a day." in said(plan(AGENTS, world(tasks_a_day=1.0)))
    knee = changed(AGENTS, estimand="knee", knee_at_most=4.0, stopping="fixed")
    assert "where returns end can only be told of returns that are seen" in said(plan(knee, world()))
    assert "Shares will follow the outcomes" in said(plan(changed(AGENTS, assignment="thompson"), world()))


def said(found: Plan) -> str:
    """Join the warnings."""
    return "\n".join(found.warnings)


def test_duration_is_runs_over_tasks() -> None:
    """1,200 runs at 100 matching tasks a day take twelve days."""
    assert plan(AGENTS, world()).seconds == pytest.approx(12 * 86_400)


def test_what_cannot_be_planned_is_said() -> None:
    """Categories have no slope, and outcomes that do not vary no power."""
    with pytest.raises(NotEnoughData, match="use estimand contrast"):
        plan(changed(SIZE, estimand="slope"), world(0.2))
    with pytest.raises(NotEnoughData, match="sd must not be 0"):
        plan(AGENTS, world(0.0))


def test_foresight_of_no_distance_is_the_level() -> None:
    """An effect of nothing is "seen" with alpha at one look, and far less often by the sequence."""
    assert foresee(1e-9, 1.0, 0.05, sequential=False).power == pytest.approx(0.05)
    assert foresee(1e-9, 1.0, 0.05, sequential=True).power == pytest.approx(0.0024, abs=1e-4)


def test_effects_are_written_on_the_scale_that_people_use() -> None:
    """Points, quality, and per cent of time or dollars, as a fall or a rise."""
    assert effect_words(Outcome.SUCCESS, 0.125) == "12.5 points"
    assert effect_words(Outcome.QUALITY_SCORE, 0.08) == "0.08"
    assert effect_words(Outcome.TIME_TO_COMPLETE, math.log(2), "decrease") == "50 % less"
    assert effect_words(Outcome.TOTAL_COST, math.log(1.25), "increase") == "25 % more"


def numbers(definition: Definition) -> list[float]:
    """Give the values of a definition as numbers."""
    return [float(value) for value in definition.values_tested]


def past(count: int, seed: int = 1, **columns: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any column
    """Draw past runs over ten days: agents of 1 to 8, success that rises with them, quality around a mean by agents."""
    rng = np.random.default_rng(seed)
    agents = rng.choice([1, 2, 3, 4, 6, 8], count)
    rows = []
    for number, x in enumerate(agents.tolist()):
        row = {
            "agent_run_id": f"run-{number}",
            "completed_at": START + timedelta(days=10) * (number / (count - 1)),
            "task_id": f"task-{number}",
            "task_complexity": 0.3 if number % 4 == 0 else 0.7,
            "agent_count": x,
            "max_iterations": 5,
            "context_budget": 32_000,
            "success": bool(rng.random() < 0.5 + 0.1 * math.log(x)),
            "quality_score": 0.3 + 0.2 * math.log(x) + rng.normal(0, 0.1),
            "time_to_complete": math.exp(rng.normal(5, 0.6)),
            "total_cost": 0.1 * x * rng.gamma(4, 0.25),
        }
        rows.append({**row, **{name: value(number) if callable(value) else value for name, value in columns.items()}})
    return rows


def test_a_baseline_is_that_of_the_matching_runs() -> None:
    """Three in four runs match; rate, tasks a day and costs are theirs, the days those of all runs."""
    rows = past(4000)
    found = baseline_of(AGENTS, rows, PRICES, SCALE)
    matching = [row for row in rows if row["task_complexity"] > 0.5]
    assert found.mean == pytest.approx(np.mean([row["success"] for row in matching]), abs=2e-4)
    assert found.sd == pytest.approx(rate_sd(found.mean))
    assert found.tasks_a_day == pytest.approx(300, rel=1e-3)
    for value in numbers(AGENTS):
        costs = [row["total_cost"] for row in matching if row["agent_count"] == value]
        cost = found.dollars[value]
        assert cost.runs == len(costs)
        assert cost.mean == pytest.approx(np.mean(costs))
        assert cost.sd == pytest.approx(np.std(costs, ddof=1))
    assert found.notes[0].endswith("% of 3,000 matching runs succeeded.")
    assert "3,000 matching tasks came in 10 days up to 2026-03-11." in found.notes


def test_the_deviation_is_that_within_values() -> None:
    """Quality rises by 0.4 over the agents; single runs at one value scatter by 0.1 all the same."""
    definition = changed(AGENTS, outcome=Outcome.QUALITY_SCORE)
    rows = past(4000)
    assert baseline_of(definition, rows, PRICES, SCALE).sd == pytest.approx(0.1, rel=0.05)
    assert np.std([row["quality_score"] for row in rows]) > 0.15
    unset = [{**row, "agent_count": None} for row in rows]
    assert baseline_of(definition, unset, PRICES, SCALE).sd == pytest.approx(
        np.std([row["quality_score"] for row in rows if row["task_complexity"] > 0.5]), rel=1e-3
    )
    time = changed(AGENTS, outcome=Outcome.TIME_TO_COMPLETE)
    known = baseline_of(time, rows, PRICES, SCALE)
    assert known.mean == pytest.approx(5, abs=0.05)
    assert known.sd == pytest.approx(0.6, rel=0.05)


def test_what_no_run_tells_is_assumed_and_said() -> None:
    """Without runs: a rate of .6, a deviation of .2 or .8, prices by the table, and no idea how many tasks come."""
    for definition, sd in ((AGENTS, rate_sd(0.6)), (SIZE, 0.2), (PARALLEL, 0.8)):
        found = baseline_of(definition, [], PRICES, SCALE)
        assert found.sd == pytest.approx(sd)
        assert found.tasks_a_day is None
        told = "\n".join(found.notes)
        assert "is assumed: 0 matching runs cannot tell, 30 would." in told
        assert "How many tasks come is not known" in told
        assert "those of the price table" in told
    agents = baseline_of(AGENTS, [], PRICES, SCALE).dollars
    # 0.05 an agent, 5 iterations at 0.02, 32k tokens at 0.003 a thousand; one attempt.
    assert {value: cost.mean for value, cost in agents.items()} == pytest.approx(
        {x: 0.05 * x + 5 * 0.02 + 32 * 0.003 for x in numbers(AGENTS)}
    )
    assert {cost.runs for cost in agents.values()} == {0}


def test_a_few_runs_do_not_replace_the_assumption() -> None:
    """Twenty-nine matching runs are too few for a rate; they do tell how many tasks come."""
    rows = past(29, task_complexity=0.7)
    found = baseline_of(AGENTS, rows, PRICES, SCALE)
    assert found.mean == 0.6
    assert found.notes[0] == "A success rate of 0.6 is assumed: 29 matching runs cannot tell, 30 would."
    assert found.tasks_a_day == pytest.approx(2.9)


def test_all_successes_leave_room_for_a_failure() -> None:
    """A rate of 1 among 100 runs is taken as 100.5 in 101: power needs outcomes that vary."""
    found = baseline_of(AGENTS, past(100, success=True, task_complexity=0.7), PRICES, SCALE)
    assert found.mean == pytest.approx(100.5 / 101)
    assert plan(AGENTS, found).power > 0.9
    same = baseline_of(SIZE, past(100, quality_score=0.5), PRICES, SCALE)
    assert same.sd == 0.2
    assert "All matching runs have the same quality: a standard deviation of 0.2 is assumed." in same.notes


def test_a_task_that_comes_back_counts_once() -> None:
    """A unit always gets the same answer, so only distinct tasks fill an experiment; a replay tells no rate."""
    found = baseline_of(AGENTS, past(1000, task_complexity=0.7, task_id=lambda n: f"t{n % 50}"), PRICES, SCALE)
    assert found.tasks_a_day == pytest.approx(5)
    assert any("20.0 runs each; only new tasks count" in note for note in found.notes)
    unnamed = baseline_of(AGENTS, past(1000, task_complexity=0.7, task_id=None), PRICES, SCALE)
    assert unnamed.tasks_a_day == pytest.approx(100)
    replayed = past(1000, task_complexity=0.7, completed_at=lambda n: START + timedelta(seconds=n))
    assert baseline_of(AGENTS, replayed, PRICES, SCALE).tasks_a_day is None


def test_runs_without_the_outcome_or_excluded_are_counted_out() -> None:
    """One in five runs has no quality score; where a missing one counts as zero all are measured."""
    rows = past(1000, quality_score=lambda n: None if n % 5 == 0 else 0.5 + n % 2 / 10)
    found = baseline_of(SIZE, rows, PRICES, SCALE)
    assert found.measured == pytest.approx(0.8)
    assert "80% of the matching runs carry quality." in found.notes
    zero = baseline_of(changed(SIZE, missing_quality="zero"), rows, PRICES, SCALE)
    assert zero.measured == 1
    assert zero.mean == pytest.approx(0.8 * found.mean)
    fewer = baseline_of(changed(AGENTS, exclusions={"agent_count": 8}), past(1000), PRICES, SCALE)
    assert fewer.dollars[8.0].runs == 0
    assert fewer.dollars[6.0].runs > 50


def test_blocks_that_share_a_slowdown_are_noticed() -> None:
    """Half hours that share a tenth of the variance of ln time: the correlation is found."""
    rng = np.random.default_rng(8)
    shared = rng.normal(0, math.sqrt(0.1), 1000)
    rows = past(
        9600,
        completed_at=lambda n: START + timedelta(seconds=90 * n),
        time_to_complete=lambda n: math.exp(5 + 0.6 * (shared[n * 90 // 1800] + rng.normal(0, math.sqrt(0.9)))),
    )
    found = baseline_of(PARALLEL, rows, PRICES, SCALE)
    assert found.block_correlation == pytest.approx(0.1, abs=0.02)
    assert baseline_of(PARALLEL, past(9600), PRICES, SCALE).block_correlation < 0.01
    assert baseline_of(AGENTS, rows, PRICES, SCALE).block_correlation == 0


def test_costs_that_no_run_tells_follow_the_runs_there_are() -> None:
    """Runs of up to 4 agents cost twice the price table: so will those of 6 and 8, at the median other settings."""

    def cost(row: Mapping[str, Any]) -> float:
        return 2 * (0.05 * float(row["agent_count"]) + 0.02 * 7 + 0.003 * 16)

    rows = [{**row, "max_iterations": 7, "context_budget": 16_000} for row in past(2000) if row["agent_count"] <= 4]
    rows = [{**row, "total_cost": cost(row)} for row in rows]
    costs, notes = costs_of(Dimension.AGENT_COUNT, [1.0, 4.0, 6.0, 8.0], rows, PRICES, 0.6)
    assert [costs[x].runs > 0 for x in (1.0, 4.0, 6.0, 8.0)] == [True, True, False, False]
    assert costs[8.0].mean == pytest.approx(cost({"agent_count": 8}))
    told = f"Costs at 6 and 8 are those of the price table, times 2 for what {len(rows):,} runs did cost"
    assert notes == [f"{told}: fewer than 10 runs tell them."]


def test_allowed_attempts_cost_what_is_expected_of_them() -> None:
    """With half of the attempts failing, three allowed ones are 1 + 1/2 + 1/4 on average."""
    costs, _ = costs_of(Dimension.ATTEMPTS, [1.0, 3.0], [], PRICES, 0.5)
    assert costs[3.0].mean == pytest.approx(1.75 * costs[1.0].mean)
    sizes, notes = costs_of(Dimension.MODEL_SIZE, ["small", "large"], [], PRICES, 0.5)
    assert sizes["small"] == sizes["large"]
    assert "The price table does not know model size: all values are taken to cost the same." in notes
    assert notes[-1] == "Runs are assumed to have 3 agents, an iteration limit of 5 and a context budget of 32k."


def test_settings_are_limits() -> None:
    """Attempts are retries and one; tokens within 5 % are the same; what a run used is no setting."""
    row = {"retry_limit": 2, "context_budget": 4096, "total_iterations": 9, "model_size_category": "large"}
    assert setting_of(row, Dimension.ATTEMPTS) == 3
    assert setting_of(row, Dimension.ITERATIONS) is None
    assert same_value(row, Dimension.CONTEXT, 4000.0)
    assert not same_value(row, Dimension.CONTEXT, 8000.0)
    assert same_value(row, Dimension.MODEL_SIZE, "large")
    assert not same_value(row, Dimension.MODEL_SIZE, 70.0)


def test_outcomes_are_read_on_their_scale() -> None:
    """Logarithms of seconds and dollars; nothing where there is nothing."""
    row = {"success": True, "time_to_complete": 60.0, "total_cost": 0.0}
    assert outcome_of(row, AGENTS) == 1
    assert outcome_of(row, PARALLEL) == pytest.approx(math.log(60))
    assert outcome_of(row, changed(AGENTS, outcome=Outcome.TOTAL_COST)) is None
    assert outcome_of(row, SIZE) is None


def test_examples_in_the_docstrings_hold() -> None:
    """The examples run."""
    assert doctest.testmod(experiment_planning).failed == 0
