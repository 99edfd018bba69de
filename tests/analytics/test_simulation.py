import itertools
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from analytics.simulation import simulate, simulate_tasks
from analytics.world import World
from models.dimensions import Dimension, Outcome
from models.errors import SettingsError
from models.events import RunEvent

START = datetime(2026, 3, 1, 6, tzinfo=UTC)
RUNS = 20_000

Event = dict[str, Any]
DOSES = {
    Dimension.AGENT_COUNT: lambda event: event["agent_count"],
    Dimension.ITERATIONS: lambda event: event["max_iterations"],
    Dimension.PARALLELISM_LEVEL: lambda event: event["parallelism_level"],
    Dimension.CONTEXT: lambda event: event["context_budget"],
    Dimension.MODEL_SIZE: lambda event: event["model_params_b"],
    Dimension.ATTEMPTS: lambda event: event["retry_limit"] + 1,
}


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Give one simulated day."""
    return list(simulate(World(), RUNS, seed=11, start=START))


def fitted(events: list[Event], dimension: Dimension, outcome: Outcome) -> tuple[float, float]:
    """Fit the exponent and its robust error from the rows with statsmodels."""
    rows = [(DOSES[dimension](event), float(event[outcome])) for event in events if outcome in event]
    x, y = np.array(rows).T
    fit = sm.GLM(y, sm.add_constant(np.log(x)), family=sm.families.Poisson()).fit(cov_type="HC1")
    return float(fit.params[1]), float(fit.bse[1])


def test_every_event_is_valid_on_the_wire(events: list[Event]) -> None:
    """The events survive JSON and the strict validator, with every identifier once."""
    decoded = msgspec.json.decode(json.dumps(events[:5000]), type=list[RunEvent])
    assert len(decoded) == 5000
    assert len({event["agent_run_id"] for event in events}) == RUNS


def test_a_seed_names_its_events() -> None:
    """The same seed gives the same events; another gives other identifiers and other runs."""
    one = list(simulate(World(), 500, seed=3, start=START))
    assert one == list(simulate(World(), 500, seed=3, start=START))
    other = list(simulate(World(), 500, seed=4, start=START))
    assert not {event["agent_run_id"] for event in one} & {event["agent_run_id"] for event in other}
    assert [event["agent_count"] for event in one] != [event["agent_count"] for event in other]


def test_completion_times_fill_a_day_in_order(events: list[Event]) -> None:
    """Completion times ascend through the 24 hours from the start, and every hour has its share."""
    times = [datetime.fromisoformat(event["completed_at"]) for event in events]
    assert times == sorted(times)
    assert times[0] >= START
    assert times[-1] < START + timedelta(hours=24)
    hours = np.bincount([(time - START) // timedelta(hours=1) for time in times], minlength=24)
    assert hours.min() > RUNS / 24 * 0.8


def test_without_a_start_the_day_ends_now() -> None:
    """Without a start the events lie in the past day."""
    now = datetime.now(UTC)
    times = [datetime.fromisoformat(event["completed_at"]) for event in simulate(World(), 100, seed=1)]
    assert now - timedelta(hours=25) < times[0] <= times[-1] < now


def test_realised_counts_keep_their_limits(events: list[Event]) -> None:
    """Iterations, retries and tokens stay within what was allowed."""
    for event in events:
        assert event["agent_count"] <= event["total_iterations"] <= event["agent_count"] * event["max_iterations"]
        assert 0 <= event["retry_count"] <= event["retry_limit"]
        assert 0 < event["context_tokens"] <= event["context_budget"]


def test_settings_are_drawn_independently(events: list[Event]) -> None:
    """No pair of settings is associated, nor any setting with the task: the design is randomised."""
    names = ("agent_count", "max_iterations", "parallelism_level", "context_budget", "model", "retry_limit")
    alpha = 0.001 / 30
    for a, b in itertools.combinations((*names, "project", "task_type"), 2):
        if {a, b} == {"project", "task_type"}:
            continue
        table = np.zeros((20, 20))
        levels: tuple[dict[Any, int], dict[Any, int]] = ({}, {})
        for event in events:
            i, j = (level.setdefault(event[name], len(level)) for level, name in zip(levels, (a, b), strict=True))
            table[i, j] += 1
        observed = table[: len(levels[0]), : len(levels[1])]
        assert stats.chi2_contingency(observed).pvalue > alpha, (a, b)


def test_exponents_are_recovered_within_tight_intervals(events: list[Event]) -> None:
    """At 20,000 runs every planted exponent lies in its 95 % Bonferroni interval, with a standard error below 0.011."""
    laws = World().planted()
    assert {law.dimension for law in laws} == set(Dimension)
    z = stats.norm.ppf(1 - 0.025 / len(laws))
    for law in laws:
        exponent, error = fitted(events, law.dimension, law.outcome)
        assert abs(exponent - law.exponent) < z * error, law
        assert error < 0.011, law


def test_marginal_means_are_exact_power_laws() -> None:
    """Averaging the mean over everything else, setting by setting and task by task, leaves x ** exponent exactly."""
    world = World()
    assert world.quality_start == 0.16
    for law in world.planted():
        if law.outcome != Outcome.QUALITY_SCORE:
            continue
        totals: dict[float, float] = {}
        for i, tokens, model in itertools.product(world.iterations, world.context_budgets, world.models):
            mean = 0.16 * i**0.25 * (tokens / 3000) ** 0.12 * (model.params_b / 3) ** 0.11
            x = {"iterations": i, "context": tokens, "model_size": model.params_b}[law.dimension]
            totals[x] = totals.get(x, 0.0) + mean * float(world.ease().mean())
        first = min(totals)
        for x, total in totals.items():
            assert total / totals[first] == pytest.approx((x / first) ** law.exponent, rel=1e-12)


def test_cost_is_a_price(events: list[Event]) -> None:
    """The mean cost over the price structure is one: agents times iterations times a price by tokens and model."""
    world = World()
    price = {model.name: model.price for model in world.models}
    ratios = [
        event["total_cost"]
        / (event["agent_count"] * event["max_iterations"] * price[event["model"]])
        / (0.01 + 0.0006 * event["context_budget"] / 1000)
        for event in events
        if "total_cost" in event
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=4 * 0.26 / math.sqrt(RUNS))


def test_some_outcomes_are_missing_at_random(events: list[Event]) -> None:
    """A tenth of the runs lacks quality and a twentieth cost, successful or not; a cost source never stands alone."""
    quality = np.array(["quality_score" not in event for event in events])
    cost = np.array(["total_cost" not in event for event in events])
    success = np.array([event["success"] for event in events])
    assert quality.mean() == pytest.approx(0.10, abs=0.01)
    assert cost.mean() == pytest.approx(0.05, abs=0.01)
    assert quality[success].mean() == pytest.approx(quality[~success].mean(), abs=0.02)
    assert all(("total_cost" in event) == ("cost_source" in event) for event in events)


def test_a_confounded_world_biases_the_agents_law() -> None:
    """Where harder tasks get more agents, the marginal exponent falls far below the planted one."""
    confounded = list(simulate(World(confounded=True, hardness=0.4, success_start=0.32), RUNS, seed=5, start=START))
    agents = [event["agent_count"] for event in confounded]
    assert np.corrcoef(agents, [event["task_complexity"] for event in confounded])[0, 1] > 0.5
    exponent, error = fitted(confounded, Dimension.AGENT_COUNT, Outcome.SUCCESS)
    assert exponent < 0.22 - 4 * error


def test_a_world_whose_means_leave_the_unit_interval_is_refused() -> None:
    """Nothing is ever clipped: a start too high is refused at once, with the outcome's name."""
    with pytest.raises(SettingsError, match="success runs from"):
        World(success_start=0.5)
    with pytest.raises(SettingsError, match="quality_score runs from"):
        World(quality_start=0.3)


def test_context_budgets_need_bins_of_their_own() -> None:
    """Two budgets within a quarter octave would blur each other and are refused."""
    with pytest.raises(SettingsError, match="quarter octave"):
        World(context_budgets=(3000, 3100))


def test_tasks_run_as_they_were_told() -> None:
    """One run a task in its order, with the settings that were chosen; the others are drawn from their whole grids."""
    world, rng = World(), np.random.default_rng(1)
    tasks = np.arange(600) % world.tasks
    agents = rng.integers(len(world.agents), size=600)
    found = simulate_tasks(world, rng, tasks, {Dimension.AGENT_COUNT: agents})
    assert [event["task_id"] for event in found] == [f"task-{number:04d}" for number in tasks.tolist()]
    assert [event["agent_count"] for event in found] == np.array(world.agents)[agents].tolist()
    assert {event["max_iterations"] for event in found} == set(world.iterations)
    assert all("agent_run_id" not in event and "completed_at" not in event for event in found)
    assert all(event["quality_score"] is not None and event["total_cost"] is not None for event in found)
    for at, event in enumerate(found):
        msgspec.convert({"agent_run_id": f"run-{at}", **event}, RunEvent)


def test_what_is_chosen_for_tasks_has_the_planted_effect() -> None:
    """The same tasks with eight agents and with one succeed in the ratio that the planted law says."""
    world, rng = World(), np.random.default_rng(2)
    tasks = np.repeat(np.arange(world.tasks), 40)

    def mean(place: int) -> float:
        chosen = {Dimension.AGENT_COUNT: np.full(len(tasks), place)}
        return float(np.mean([event["success"] for event in simulate_tasks(world, rng, tasks, chosen)]))

    factors = world.factors(Outcome.SUCCESS, Dimension.AGENT_COUNT)
    assert mean(len(factors) - 1) / mean(0) == pytest.approx(factors[-1], rel=0.04)
