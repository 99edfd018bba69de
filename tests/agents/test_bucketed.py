"""What time buckets tell of live laws: drift, its cause, forecasts, and the adjusted slope."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from agents.decode import EventDecoder
from agents.observer import Observer
from agents.refit import Refitter
from analytics.simulation import simulate
from analytics.world import LAWS, Planted, World
from models.batches import Batch
from models.dimensions import Dimension, Outcome
from models.laws import Drift, Law
from models.settings import load_settings
from models.topics import RUNS, STATS

Event = dict[str, Any]

START = datetime(2026, 3, 1, tzinfo=UTC)
ONE = load_settings(partitions=1)
DAY = timedelta(days=1)
STAMP = int((START + 3 * DAY).timestamp() * 1000)


def fitted(events: list[Event], known: dict[str, tuple[int, Drift | None]] | None = None) -> dict[str, Law]:
    """Observe events on one partition and fit the laws of what is flushed."""
    observer = Observer(0, ONE, EventDecoder(ONE))
    payloads = [json.dumps(event).encode() for event in events]
    count = len(payloads)
    observer.observe(Batch(RUNS, 0, range(count), [STAMP] * count, [None] * count, payloads, [()] * count))
    refitter = Refitter(ONE, {})
    if known:
        refitter.number_from(known)
    for record in observer.drain().records:
        if record.topic == STATS and record.key is not None:
            refitter.stage(record.key, record.value)
    return {law.law_id: law for law in refitter.fit(refitter.snapshot())}


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


def test_the_live_adjusted_slope_is_the_regression_on_the_raw_rows() -> None:
    """With all other dimensions and complexity held fixed, statsmodels finds the same slope of the same runs."""
    events = list(simulate(World(confounded=True), 3000, seed=5, start=START))
    law = fitted(events)["global|agent_count|success|live"]
    assert law.adjusted is not None
    assert law.evidence == "adjusted"
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
