"""What time buckets tell of live laws: drift, its cause, forecasts, and the adjusted slope."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm

from agents.decode import EventDecoder
from agents.observer import Observer
from agents.refit import Refitter, Standing
from analytics.simulation import simulate
from analytics.world import LAWS, Planted, World
from models.batches import Batch
from models.dimensions import Dimension, Outcome
from models.laws import Drift, Law
from models.settings import load_settings
from models.topics import RUNS, STATS

Event = dict[str, Any]
Rate = Callable[[int, int, float], float]

START = datetime(2026, 3, 1, tzinfo=UTC)
ONE = load_settings(partitions=1)
DAY = timedelta(days=1)
STAMP = int((START + 3 * DAY).timestamp() * 1000)
HOUR = timedelta(hours=1)
AGENTS = (1, 2, 3, 4, 6, 8)
SUCCESS_LAW = "global|agent_count|success|live"


def fitted(events: list[Event], known: dict[str, tuple[int, Drift | None]] | None = None) -> dict[str, Law]:
    """Observe events on one partition and fit the laws of what is flushed."""
    observer = Observer(0, ONE, EventDecoder(ONE))
    payloads = [json.dumps(event).encode() for event in events]
    count = len(payloads)
    observer.observe(Batch(RUNS, 0, range(count), [STAMP] * count, [None] * count, payloads, [()] * count))
    refitter = Refitter(ONE)
    if known:
        refitter.number_from([Standing(law, version, drift) for law, (version, drift) in known.items()])
    for record in observer.drain().records:
        if record.topic == STATS and record.key is not None:
            refitter.stage(record.key, record.value)
    return {law.law_id: law for law in refitter.fit(refitter.snapshot())}


def hours(count: int, rate: Rate, complexity: Callable[[int], float | None], *, follows: bool = False) -> list[Event]:
    """Draw 30 runs in each hour: success at a rate of the hour, the agents and the complexity.

    Args:
        count: Of hours.
        rate: Of success.
        complexity: Its mean in an hour, around which it varies by 0.2; None where runs carry none.
        follows: Whether harder tasks get more agents.
    """
    rng = np.random.default_rng(12)
    events: list[Event] = []
    for hour in range(count):
        middle = complexity(hour)
        for run in range(30):
            z = 0.0 if middle is None else middle + rng.uniform(-0.2, 0.2)
            agents = AGENTS[int(rng.binomial(5, z) if follows else rng.integers(6))]
            event = {
                "agent_run_id": f"{hour}-{run}",
                "completed_at": (START + hour * HOUR + run * HOUR / 30).isoformat(),
                "agent_count": agents,
                "success": bool(rng.random() < rate(hour, agents, z)),
            }
            events.append(event if middle is None else event | {"task_complexity": z})
    return events


def told_in_steps(events: list[Event], step: int) -> list[Law]:
    """Observe events a few hours at a time, refit after each step, and give the versions of the law of success."""
    settings = load_settings(partitions=1, context_keys=[], buckets_kept=48, bootstrap_draws=100)
    observer, refitter, versions = Observer(0, settings, EventDecoder(settings)), Refitter(settings), list[Law]()
    for first in range(0, len(events), 30 * step):
        payloads = [json.dumps(event).encode() for event in events[first : first + 30 * step]]
        stamp = int((START + (first // 30 + step) * HOUR).timestamp() * 1000)
        count = len(payloads)
        offsets = range(first, first + count)
        observer.observe(Batch(RUNS, 0, offsets, [stamp] * count, [None] * count, payloads, [()] * count))
        for record in observer.drain().records:
            if record.topic == STATS and record.key is not None:
                refitter.stage(record.key, record.value)
        versions += [law for law in refitter.fit(refitter.snapshot()) if law.law_id == SUCCESS_LAW]
    return versions


def two_days(after: World) -> Iterator[Event]:
    """Yield a day of the ordinary world, then one of another."""
    yield from simulate(World(), 4000, seed=1, start=START)
    yield from simulate(after, 4000, seed=2, start=START + DAY)


@pytest.fixture(scope="module")
def stable() -> dict[str, Law]:
    """Two days of the same world."""
    return fitted(list(two_days(World())))


def test_stable_laws_do_not_drift(stable: dict[str, Law]) -> None:
    """Nothing sounds in two days of one world, and forecasts of each hour come true as often as they say."""
    watched = [law for law in stable.values() if law.context == "global" and law.drift is not None]
    assert len(watched) == len(Dimension) * 4
    assert not [law.law_id for law in watched if law.drift is not None and law.drift.alarm]
    inside = [law.validation.forward.inside for law in watched if law.validation and law.validation.forward]
    assert 0.90 < float(np.mean(inside)) < 0.99
    assert all(law.status != "drifted" for law in watched)


def test_a_law_that_changes_is_marked_with_the_time_and_the_cause() -> None:
    """Agents cease to help after a day: their law of success has drifted within hours, by itself, not by the mix."""
    laws = tuple(
        Planted(law.dimension, law.outcome, -0.22) if law.dimension == Dimension.AGENT_COUNT else law for law in LAWS
    )
    law = fitted(list(two_days(replace(World(), laws=laws, success_start=0.5))))["global|agent_count|success|live"]
    assert law.status == "drifted"
    assert law.drift is not None
    assert law.drift.alarm
    assert law.drift.cause == "law"
    since = datetime.fromisoformat(str(law.drift.since))
    assert START + DAY <= since <= START + DAY + timedelta(hours=12)


def test_a_rise_in_price_is_a_price_shift() -> None:
    """Steps that cost three times as much move the law of cost alone."""
    laws = fitted(list(two_days(replace(World(), step_price=0.03, price_per_1k=0.0018))))
    cost = laws["global|agent_count|total_cost|live"]
    assert cost.drift is not None
    assert (cost.drift.alarm, cost.drift.cause) == (True, "price")
    success = laws["global|agent_count|success|live"]
    assert success.drift is not None
    assert not success.drift.alarm


def test_another_mix_of_settings_is_no_drift() -> None:
    """When only few agents are used any more the law of agents holds; the mix has moved, and that is what is said."""
    events = [event for event in two_days(World()) if event["completed_at"] < "2026-03-02" or event["agent_count"] <= 2]
    law = fitted(events)["global|agent_count|success|live"]
    assert law.drift is not None
    assert (law.drift.alarm, law.drift.cause) == (False, "mix")


def test_an_alarm_is_remembered_after_its_bucket_has_gone(stable: dict[str, Law]) -> None:
    """A law that drifted before a restart is still drifted, though no bucket shows it any more."""
    name = "global|agent_count|success|live"
    old = Drift(alarm=True, evidence=2e4, limit=1e4, buckets=9, since="2026-02-01T00:00:00Z", cause="law")
    law = fitted(list(simulate(World(), 1500, seed=1, start=START)), {name: (7, old)})[name]
    assert law.drift == old
    assert (law.status, law.version) == ("drifted", 8)
    assert stable[name].version == 1


def test_a_change_sounds_once_however_long_its_buckets_are_in_history() -> None:
    """In 500 hours with a fall at hour 300 `since` is told once and stays; a rise at hour 450 takes its place."""

    def rate(hour: int, agents: int, _: float) -> float:
        return 0.5 + 0.15 * float(np.log(agents)) - (0.2 if 300 <= hour < 450 else 0.0)

    versions = told_in_steps(hours(500, rate, lambda _: None), 4)
    assert len(versions) == 125
    alarms = [law.drift for law in versions if law.drift is not None and law.drift.alarm]
    since = [str(drift.since) for drift in alarms]
    fell, rose = sorted(set(since), key=since.index)
    assert since == sorted(since)
    assert START + 300 * HOUR <= datetime.fromisoformat(fell) <= START + 312 * HOUR
    assert START + 450 * HOUR <= datetime.fromisoformat(rose) <= START + 462 * HOUR
    first = next(place for place, law in enumerate(versions) if law.drift is not None and law.drift.alarm)
    assert 75 <= first <= 78
    assert len(alarms) == len(versions) - first
    assert {law.status for law in versions[first:]} == {"drifted"}
    assert len({(drift.since, drift.evidence, drift.cause) for drift in alarms}) == 2
    assert not [law for law in versions[first:] if "drift" in law.missing]


def test_an_alarm_after_a_restart_begins_the_epoch_at_its_bucket() -> None:
    """Given the alarm of hour 30 and nothing else of it, the same runs are judged from there on and do not sound."""

    def rate(hour: int, _: int, __: float) -> float:
        return 0.8 if hour < 24 else 0.4

    events = hours(48, rate, lambda _: None)
    new = fitted(events)[SUCCESS_LAW]
    assert new.drift is not None
    assert new.drift.alarm
    assert START + 24 * HOUR <= datetime.fromisoformat(str(new.drift.since)) <= START + 30 * HOUR
    old = msgspec.structs.replace(new.drift, since=(START + 30 * HOUR).isoformat())
    again = fitted(events, {SUCCESS_LAW: (3, old)})[SUCCESS_LAW]
    assert again.drift == old
    assert again.validation is not None
    assert again.validation.forward is not None
    # Of hours 30 to 46 the first is the reference; the last of all still takes runs.
    assert again.validation.forward.buckets <= 16


def test_a_cost_that_moved_first_was_no_price_if_other_outcomes_follow() -> None:
    """A known alarm of cost keeps its time; it is called the law's once time has moved too, and a price until then."""
    name = "global|agent_count|total_cost|live"
    since = (START + DAY + 2 * HOUR).isoformat()
    old = Drift(alarm=True, evidence=2e4, limit=1e4, buckets=9, since=since, cause="price")
    dear = replace(World(), step_price=0.03, price_per_1k=0.0018)
    assert fitted(list(two_days(dear)), {name: (7, old)})[name].drift == old
    slow = fitted(list(two_days(replace(dear, time_start=2700.0))), {name: (7, old)})[name]
    assert slow.drift == msgspec.structs.replace(old, cause="law")


@pytest.mark.parametrize("follows", [False, True])
def test_more_difficult_tasks_are_no_drift(follows: bool) -> None:  # noqa: FBT001 - a column of the table
    """When complexity moves from .3 to .6 fewer runs succeed, by the same law: no alarm, and the cause is the mix.

    So it is where agents follow complexity; without complexity the same runs sound.
    """

    def rate(_: int, agents: int, z: float) -> float:
        return 0.75 + 0.08 * float(np.log(agents)) - 0.8 * z

    events = hours(100, rate, lambda hour: 0.3 if hour < 60 else 0.6, follows=follows)
    law = told_in_steps(events, 100)[-1]
    assert law.drift is not None
    assert (law.drift.alarm, law.drift.cause) == (False, "mix")
    for event in events:
        del event["task_complexity"]
    unseen = told_in_steps(events, 100)[-1]
    assert unseen.drift is not None
    assert unseen.drift.alarm


def test_complexity_that_few_runs_carry_is_not_used() -> None:
    """Where more than a fifth of the runs lack complexity all of them are judged, as if none had it."""
    with_some = hours(48, lambda *_: 0.6, lambda _: 0.5)
    for event in with_some[::4]:
        del event["task_complexity"]
    none = [{field: value for field, value in event.items() if field != "task_complexity"} for event in with_some]
    some, bare = told_in_steps(with_some, 48)[-1], told_in_steps(none, 48)[-1]
    assert some.drift is not None
    assert bare.drift is not None
    assert some.drift.evidence == pytest.approx(bare.drift.evidence, rel=1e-9)


def test_the_live_adjusted_slope_is_the_regression_on_the_raw_rows() -> None:
    """With all other dimensions and complexity held fixed, statsmodels finds the same slope of the same runs."""
    events = list(simulate(World(confounded=True), 3000, seed=5, start=START))
    law = fitted(events)["global|agent_count|success|live"]
    assert law.adjusted is not None
    assert law.evidence == "associational"
    assert law.confounding_gap == law.adjusted.gap
    fields = {
        "agent_count": ("agent_count", 0),
        "iterations": ("max_iterations", 0),
        "parallelism_level": ("parallelism_level", 0),
        "context": ("context_budget", 0),
        "model_size": ("model_params_b", 0),
        "attempts": ("retry_limit", 1),
    }
    X = np.array([[np.log(event[field] + more) for field, more in fields.values()] for event in events])
    z = np.array([event["task_complexity"] for event in events])
    y = np.array([event[Outcome.SUCCESS] for event in events], dtype=np.float64)
    check = sm.OLS(y, sm.add_constant(np.column_stack((X, z)))).fit()
    assert law.adjusted.slope.estimate == pytest.approx(check.params[1], rel=1e-9)
    assert law.adjusted.slope.se_classical == pytest.approx(check.bse[1], rel=1e-9)
    assert set(law.adjusted.covariates) == {*fields, "complexity"} - {"agent_count"}
