"""Laws from the snapshots on scaling.stats: true cuts, and equality with a fit of the raw rows."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from agents.decode import EventDecoder
from agents.fitting import fitting_of
from agents.flush import Record
from agents.observer import Observer
from agents.refit import Refitter, Standing, choose_basis, to_cells
from analytics.equality import compare_laws
from analytics.partitions import partitions_of
from analytics.published import Fitting
from analytics.rows import fit_rows
from analytics.simulation import simulate
from analytics.world import World
from models.batches import Batch
from models.cells import CellKey, bin_value
from models.dimensions import BASES, LIVE_OUTCOMES, Basis, Dimension, Outcome
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import RUNS, STATS

Event = dict[str, Any]

ONE = load_settings(partitions=1)
TWO = load_settings(partitions=2)
START = datetime(2026, 1, 1, tzinfo=UTC)
STAMP = int(START.timestamp() * 1000) + 86_400_000


def flushed(events: Iterable[Event], settings: Settings, flushes: int = 1) -> list[list[Record]]:
    """Observe events in all their partitions; give the stats records of each flush of each partition, in turn."""
    values = [json.dumps(event).encode() for event in events]
    partitions = partitions_of(
        [str(json.loads(value)["agent_run_id"]).encode() for value in values], settings.partitions
    )
    observers = [Observer(partition, settings, EventDecoder(settings)) for partition in range(settings.partitions)]
    rounds = []
    for part in range(flushes):
        for number, observer in enumerate(observers):
            mine = [value for value, own in zip(values, partitions, strict=True) if own == number]
            first, last = (len(mine) * step // flushes for step in (part, part + 1))
            count = last - first
            if count:
                batch = Batch(
                    RUNS, number, range(first, last), [STAMP] * count, [None] * count, mine[first:last], [()] * count
                )  # fmt: skip
                observer.observe(batch)
            rounds.append([record for record in observer.drain().records if record.topic == STATS])
    return rounds


def staged(refitter: Refitter, records: Iterable[Record], partition: int = 0) -> None:
    """Give a refitter the records of its stats partition."""
    for record in records:
        if record.partition == partition:
            refitter.stage(record.key or b"", record.value)


def laws_of(refitter: Refitter) -> dict[str, Law]:
    """Refit what changed."""
    return {law.law_id: law for law in refitter.fit(refitter.snapshot())}


@pytest.fixture(scope="module")
def world() -> list[Event]:
    """Three thousand simulated runs that also leave out doses now and then."""
    events = list(simulate(World(), 3000, seed=12, start=START))
    for place, event in enumerate(events):
        if place % 7 == 0:
            del event["model_params_b"]
        if place % 11 == 0:
            event["total_cost"] = 0.0
    return events


def rows(
    events: Sequence[Event], dimension: Dimension, basis: Basis
) -> tuple[list[float], list[str] | None, list[Event]]:
    """Read one dimension of the raw events in one basis, with the events that have it."""
    fields = {
        (Dimension.AGENT_COUNT, Basis.REALISED): "agent_count",
        (Dimension.ITERATIONS, Basis.DOSE): "max_iterations",
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): "parallelism_level",
        (Dimension.CONTEXT, Basis.DOSE): "context_budget",
        (Dimension.CONTEXT, Basis.REALISED): "context_tokens",
        (Dimension.MODEL_SIZE, Basis.REALISED): "model_params_b",
        (Dimension.MODEL_SIZE, Basis.CATEGORY): "model_size_category",
        (Dimension.ATTEMPTS, Basis.DOSE): "retry_limit",
    }
    field, more = fields[dimension, basis], int(dimension is Dimension.ATTEMPTS)
    found = [(event[field], event) for event in events if field in event]
    kept = [event for _, event in found]
    if basis is Basis.CATEGORY:
        return [math.nan] * len(found), [value for value, _ in found], kept
    return [float(value + more) for value, _ in found], None, kept


def law_of_rows(events: Sequence[Event], context: str, law: Law, cost: Law | None = None) -> Law:
    """Fit the same law from the raw events; the cost law of its basis prices the steps of its knee."""
    dimension, basis = Dimension(law.dimension), Basis(str(law.basis))
    x, labels, kept = rows(events, dimension, basis)
    y = np.array([event.get(law.outcome, np.nan) for event in kept], dtype=np.float64)
    at = np.array(x)
    binned = (at > 64) | (at != np.floor(at)) if dimension is not Dimension.MODEL_SIZE else np.zeros(len(at), np.bool_)
    middles = [
        bin_value(math.floor(4 * math.log2(value))) if wide else value for value, wide in zip(x, binned, strict=True)
    ]
    return fit_rows(
        at,
        y,
        binned,
        np.array(middles),
        labels=labels,
        cost=None if cost is None else cost.published,
        context=context,
        dimension=dimension,
        outcome=Outcome(law.outcome),
        basis=basis,
        sources=["observational"],
        lineage={},
        settings_hash="",
        fitted_at="",
    )


def by_cells(law: Law) -> Law:
    """Leave out how the Grams of time buckets grade the law: rows by dimension know nothing of them."""
    return msgspec.structs.replace(law, evidence="associational")


@pytest.mark.parametrize(("context", "key", "value"), [("global", "", ""), ("project=delta", "project", "delta")])
def test_laws_from_stored_cells_equal_laws_from_raw_rows(
    world: list[Event], context: str, key: str, value: str
) -> None:
    """Every law of a context, fitted from cells merged over partitions and flushes, is that of its raw rows."""
    refitter = Refitter(TWO)
    partition = int(partitions_of([context.encode()], 2)[0])
    for records in flushed(world, TWO, flushes=3):
        staged(refitter, records, partition)
    laws = {name: law for name, law in laws_of(refitter).items() if law.context == context}
    assert len(laws) == len(Dimension) * len(LIVE_OUTCOMES)
    events = [event for event in world if not key or event[key] == value]
    checks = {
        (law.dimension, law.basis): law_of_rows(events, context, law)
        for law in laws.values()
        if law.outcome == Outcome.TOTAL_COST
    }
    for law in laws.values():
        cost = None if law.outcome == Outcome.TOTAL_COST else checks.get((law.dimension, law.basis))
        assert compare_laws(by_cells(law), law_of_rows(events, context, law, cost)) == [], law.law_id
        assert law.n > 500


def priced_events(*, with_cost: bool) -> list[Event]:
    """List 200 runs of each team of one to four: every agent brings 7 points, for $0.10."""
    rates = {1: 60, 2: 74, 3: 88, 4: 102}
    return [
        {"agent_run_id": f"{agents}-{number}", "agent_count": agents, "success": number < successes}
        | ({"total_cost": agents * (0.099 if number % 2 else 0.101)} if with_cost else {})
        for agents, successes in rates.items()
        for number in range(200)
    ]


@pytest.mark.parametrize(
    ("with_cost", "value", "knee", "threshold", "rule"),
    [
        (True, 1.0, 1, 0.10, "by the cost law, than it brings at $1 a success"),
        (True, 2.0, 4, 0.05, "by the cost law, than it brings at $2 a success"),
        (False, 1.0, 4, 0.05, "by the price table, than it brings at $1 a success"),
        (False, 0.5, 1, 0.10, "by the price table, than it brings at $0.5 a success"),
    ],
)
def test_a_step_must_pay_what_the_cost_law_of_the_same_runs_says(
    *, with_cost: bool, value: float, knee: float, threshold: float, rule: str
) -> None:
    """An agent's 7 points are worth $0.07 a task: too little at $0.10, enough at the table's $0.05."""
    refitter = Refitter(load_settings(partitions=1, value_of_success=value))
    staged(refitter, flushed(priced_events(with_cost=with_cost), ONE)[0])
    laws = {law.outcome: law for law in laws_of(refitter).values()}
    found = laws["success"].knee
    assert found is not None
    assert found.value == knee
    assert found.threshold == pytest.approx(threshold, abs=1e-3)
    assert rule in found.rule
    assert found.supported == (knee > 1)
    if with_cost:
        assert laws["total_cost"].knee is None
        assert "cost has no knee" in laws["total_cost"].missing["knee"]


def test_fitting_as_the_settings_say_is_the_default() -> None:
    """Where nothing is set, the worker fits as the maths does by itself; what is set reaches it."""
    assert fitting_of(load_settings()) == Fitting()
    asked = load_settings(bootstrap_draws=500, value_of_success=3.0, agent_cost=0.5, iteration_cost=0.4)
    assert fitting_of(asked) == Fitting(500, 3.0, 0.5, 0.4)


def test_a_law_uses_the_dose_if_it_has_two_values(world: list[Event]) -> None:
    """Iterations, context and attempts are measured by their limits; model size by its number."""
    refitter = Refitter(ONE)
    staged(refitter, flushed(world[:300], ONE)[0])
    bases = {law.dimension: law.basis for law in laws_of(refitter).values() if law.context == "global"}
    assert bases == {
        "agent_count": "realised",
        "iterations": "dose",
        "parallelism_level": "realised",
        "context": "dose",
        "model_size": "realised",
        "attempts": "dose",
    }


def test_a_dose_that_never_varies_gives_way_to_the_realised_count() -> None:
    """With one budget for all, the tokens used are all that tells runs apart; zeros count and are left out of logs."""
    events = [
        {
            "agent_run_id": f"r{number}",
            "context_budget": 8000,
            "context_tokens": 1000 * (number % 4),
            "quality_score": 0.1 * (number % 7),
        }
        for number in range(60)
    ]
    refitter = Refitter(ONE)
    staged(refitter, flushed(events, ONE)[0])
    (law,) = (law for law in laws_of(refitter).values() if law.outcome == "quality_score")
    assert (law.basis, law.n, law.excluded_zeros) == ("realised", 60, 15)
    assert compare_laws(by_cells(law), law_of_rows(events, "global", law)) == []


def test_one_value_is_a_law_that_says_it_is_insufficient() -> None:
    """A single distinct value gives its table and the reasons why nothing else is known."""
    events = [{"agent_run_id": f"r{number}", "agent_count": 2, "success": number % 2 == 0} for number in range(4)]
    refitter = Refitter(ONE)
    staged(refitter, flushed(events, ONE)[0])
    (law,) = laws_of(refitter).values()
    assert (law.status, law.n, [row.x for row in law.values]) == ("insufficient", 4, [2.0])
    assert law.published is None
    assert "published" in law.missing


def test_cells_are_seen_only_once_their_barrier_has_come() -> None:
    """Half a flush changes nothing; with the barrier all of it is in, and the lineage says up to where."""
    events = [{"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": True} for number in range(9)]
    records = flushed(events, ONE)[0]
    refitter = Refitter(ONE)
    staged(refitter, records[:-1])
    assert (refitter.dirty, refitter.lineage) == (set(), {})
    staged(refitter, records[-1:])
    assert refitter.dirty == {("global", Dimension.AGENT_COUNT)}
    assert refitter.lineage == {0: 9}
    (law,) = laws_of(refitter).values()
    assert (law.n, law.lineage) == (9, {"0": 9})


def test_a_cell_waits_for_the_barrier_of_its_own_source_partition() -> None:
    """The barrier of one partition does not let in half a flush of another."""
    events = [{"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": True} for number in range(40)]
    zero, one = flushed(events, TWO)
    partition = int(partitions_of([b"global"], 2)[0])
    refitter = Refitter(TWO)
    staged(refitter, [record for record in zero if not (record.key or b"").startswith(b"barrier")], partition)
    staged(refitter, one, partition)
    (law,) = laws_of(refitter).values()
    assert law.lineage.keys() == {"1"}
    assert law.n == law.lineage["1"]
    staged(refitter, zero, partition)
    (law,) = laws_of(refitter).values()
    assert law.n == 40


def test_flushes_replace_cells_and_unchanged_ones_are_not_fitted_again() -> None:
    """Snapshots are absolute: seeing one twice changes nothing, and only what changed is refitted, a version up."""
    events: list[Event] = [
        {"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": True} for number in range(9)
    ]
    events += [
        {"agent_run_id": f"s{number}", "parallelism_level": 1 + number % 3, "success": True} for number in range(9)
    ]
    first, second = flushed(events, ONE, flushes=2)
    refitter = Refitter(ONE)
    refitter.number_from([Standing("global|agent_count|success|live", 41)])
    staged(refitter, first)
    assert {law.version for law in laws_of(refitter).values()} == {42}
    staged(refitter, first)
    assert refitter.dirty == set()
    staged(refitter, second)
    (law,) = laws_of(refitter).values()
    assert (law.dimension, law.version, law.n) == ("parallelism_level", 1, 9)


def test_a_flush_from_before_the_cut_changes_nothing() -> None:
    """Should an older flush be seen again, its cells never replace newer ones, not even at the next barrier."""
    events: list[Event] = [
        {"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": True} for number in range(10)
    ]
    events += [{"agent_run_id": f"s{number}", "parallelism_level": 2, "success": True} for number in range(5)]
    first, second, third = flushed(events, ONE, flushes=3)
    refitter = Refitter(ONE)
    for records in (second, first, third):
        staged(refitter, records)
    assert {name.split("|")[1]: law.n for name, law in laws_of(refitter).items()} == {
        "agent_count": 10,
        "parallelism_level": 5,
    }


def test_a_snapshot_does_not_change_while_it_is_fitted() -> None:
    """What is staged after the snapshot is in the next one."""
    events = [{"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": True} for number in range(10)]
    first, second = flushed(events, ONE, flushes=2)
    refitter = Refitter(ONE)
    staged(refitter, first)
    snapshot = refitter.snapshot()
    staged(refitter, second)
    (law,) = refitter.fit(snapshot)
    assert law.n == 5
    (law,) = laws_of(refitter).values()
    assert law.n == 10


def test_other_records_of_the_topic_are_no_cells() -> None:
    """Tallies and withdrawn barriers travel on the same topic and are none of the refitter's business."""
    refitter = Refitter(ONE)
    refitter.stage(b"tally|0|import", b"{}")
    refitter.stage(b"barrier|0", None)
    assert (refitter.dirty, refitter.lineage, laws_of(refitter)) == (set(), {}, {})


def test_cells_of_an_outcome_that_no_run_has_are_no_law() -> None:
    """Runs without the outcome do not count, and a dimension without any run of it has no law."""
    events = [{"agent_run_id": "a", "agent_count": 1, "success": True}, {"agent_run_id": "b", "agent_count": 2}]
    refitter = Refitter(ONE)
    staged(refitter, flushed(events, ONE)[0])
    (shot,) = refitter.snapshot()
    ((dimension, slots),) = shot.cells.items()
    assert choose_basis(dimension, slots, Outcome.TOTAL_COST) is None
    chosen = choose_basis(dimension, slots, Outcome.SUCCESS)
    assert chosen is not None
    assert chosen[1].n.tolist() == [1]
    assert BASES[dimension] == (chosen[0],)


def test_a_refitter_that_begins_at_a_whole_flush_fits_the_same_laws() -> None:
    """What comes before it, removed Grams included, need not be read."""
    settings = load_settings(partitions=1, context_keys=[["project"]], buckets_kept=1)
    runs = [
        {"agent_run_id": f"r{at}", "project": f"p{at % 3}", "agent_count": 1 + at % 4, "success": at % 3 > 0}
        for at in range(60)
    ]
    values = [json.dumps(run).encode() for run in runs]
    stamps = [STAMP + 1_800_000 * (at // 10) for at in range(60)]
    batch = Batch(RUNS, 0, range(60), stamps, [None] * 60, values, [()] * 60)
    observer = Observer(0, settings, EventDecoder(settings))
    patient, late = Refitter(settings), Refitter(settings)
    for place in range(6):
        observer.observe(batch.slice(10 * place, 10 * place + 10))
        published = [record for record in observer.drain(whole=place == 4).records if record.topic == STATS]
        staged(patient, published)
        if place >= 4:
            staged(late, published)
    expected, found = laws_of(patient), laws_of(late)
    assert found.keys() == expected.keys()
    for name, law in found.items():
        assert msgspec.structs.replace(law, fitted_at="") == msgspec.structs.replace(expected[name], fitted_at="")


def test_laws_whose_runs_were_all_corrected_away_are_withdrawn_once() -> None:
    """The project that has lost its only run has no law any more; the one that it came to has, and so have all runs."""
    settings = load_settings(partitions=1, context_keys=[["project"]])
    run = {"agent_run_id": "a", "project": "old", "agent_count": 2, "success": True, "quality_score": 0.5}
    values = [json.dumps(run | change).encode() for change in ({}, {"project": "new", "revision": 1})]
    batch = Batch(RUNS, 0, [0, 1], [STAMP] * 2, [None] * 2, values, [()] * 2)
    observer, refitter = Observer(0, settings, EventDecoder(settings)), Refitter(settings)
    withdrawn = []
    for part in (batch.slice(0, 1), batch.slice(1, 2)):
        observer.observe(part)
        observer.take_out(observer.replaced, batch.take(observer.replaced))
        staged(refitter, [record for record in observer.drain().records if record.topic == STATS])
        snapshot = refitter.snapshot()
        laws = refitter.fit(snapshot)
        withdrawn.append(refitter.withdrawn(snapshot, laws))
        assert refitter.withdrawn(snapshot, laws) == []
    gone = [f"project=old|agent_count|{outcome}|live" for outcome in ("success", "quality_score")]
    assert withdrawn == [[], gone]
    assert {(law.context, law.n) for law in laws} == {("global", 1), ("project=new", 1)}


GONE, AUDITED, THERE = (
    "project=old|agent_count|success|live",
    "project=old|agent_count|success|audited",
    "global|agent_count|success|live",
)
RUNS_OF_ONE_LAW = [{"agent_run_id": f"r{at}", "agent_count": 1 + at % 4, "success": at % 3 > 0} for at in range(60)]


def test_laws_whose_cells_went_while_nobody_refitted_are_withdrawn_once() -> None:
    """A refitter that begins where what is left was written whole never saw them; other tiers are not its own."""
    refitter = Refitter(ONE)
    refitter.number_from([Standing(name, 7) for name in (GONE, AUDITED, THERE)])
    assert refitter.snapshot() == []
    staged(refitter, flushed(RUNS_OF_ONE_LAW, ONE)[0])
    snapshot = refitter.snapshot()
    laws = refitter.fit(snapshot)
    assert [(law.law_id, law.version) for law in laws] == [(THERE, 8)]
    assert refitter.withdrawn(snapshot, laws) == [GONE]
    assert refitter.withdrawn(snapshot, laws) == []


def test_a_law_that_was_withdrawn_before_is_not_again() -> None:
    """The topic may still have the record before its tombstone."""
    refitter = Refitter(ONE)
    refitter.number_from([Standing(GONE, 7, withdrawn=True), Standing(THERE, 7)])
    staged(refitter, flushed(RUNS_OF_ONE_LAW, ONE)[0])
    snapshot = refitter.snapshot()
    assert refitter.withdrawn(snapshot, refitter.fit(snapshot)) == []


def test_nothing_is_withdrawn_while_tables_are_built_anew() -> None:
    """Until every source partition is as far as the published laws were, what is missing may yet come."""
    rounds = flushed(RUNS_OF_ONE_LAW, TWO, flushes=2)
    ends = (Refitter(TWO), Refitter(TWO))
    for records in rounds:
        for partition, each in enumerate(ends):
            staged(each, records, partition)
    reached = ends[0].lineage
    assert len(reached) == 2
    refitter = Refitter(TWO)
    refitter.number_from([Standing(GONE, 7, lineage=reached), Standing(THERE, 7, lineage={0: reached[0]})])
    withdrawn = []
    for records in rounds:
        for partition in (0, 1):
            staged(refitter, records, partition)
        snapshot = refitter.snapshot()
        withdrawn.append(refitter.withdrawn(snapshot, refitter.fit(snapshot)))
    assert withdrawn == [[], [], [], [GONE]]


def test_stored_cells_merge_over_mask_and_source() -> None:
    """Runs at one value are one row whatever else they carry; bins stand beside values of their own."""
    events: list[Event] = [
        {"agent_run_id": "a", "agent_count": 2, "quality_score": 0.25},
        {"agent_run_id": "b", "agent_count": 2, "quality_score": 0.5, "success": True},
        {"agent_run_id": "c", "agent_count": 2, "quality_score": 0.75, "decision_id": "d"},
        {"agent_run_id": "d", "agent_count": 100, "quality_score": 1.0},
    ]
    refitter = Refitter(ONE)
    staged(refitter, flushed(events, ONE)[0])
    (shot,) = refitter.snapshot()
    (slots,) = shot.cells.values()
    (stored,) = slots.values()
    cells = to_cells(stored, Outcome.QUALITY_SCORE)
    assert (cells.n.tolist(), cells.binned.tolist()) == ([3, 1], [False, True])
    assert cells.mean[:, cells.axis("quality_score")].tolist() == [0.5, 1.0]
    assert cells.comoment[0, 2, 2] == pytest.approx(0.125)
    assert {key.value for key in stored} == {"2", "~26"}
    assert CellKey(**asdict(next(iter(stored)))) in stored


def test_a_law_record_is_plain_json() -> None:
    """What is published reads back as the same law."""
    events = [
        {"agent_run_id": f"r{number}", "agent_count": 1 + number % 3, "success": number % 2 == 0} for number in range(9)
    ]
    refitter = Refitter(ONE)
    staged(refitter, flushed(events, ONE)[0])
    (law,) = laws_of(refitter).values()
    assert msgspec.json.decode(msgspec.json.encode(law), type=Law) == law
