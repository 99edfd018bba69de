"""The central promise: however a stream is cut, crashed and replayed, the tables are those of its raw rows."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.decode import EventDecoder
from agents.flush import Flush, Record
from agents.moment_table import decode_rows
from agents.observer import Cut, Observer
from agents.outcome_events import source_of
from agents.tallies import Tally
from analytics.partitions import partition_of
from models.batches import Batch, Headers
from models.cells import CellKey, GramKey, value_text
from models.contexts import GLOBAL, complexity_band, context_id
from models.dimensions import BASES, Basis, Dimension, Source
from models.errors import StackError
from models.experiments import ExperimentId
from models.settings import Settings, load_settings
from models.topics import (
    CELLS_TABLE,
    DEDUPE_TABLE,
    GRAMS_TABLE,
    IMPORT_HEADER,
    IMPORTS_TABLE,
    OUTCOMES,
    REJECTED,
    RUNS,
    STATS,
    TABLES,
)

Event = dict[str, Any]
Tables = dict[str, dict[bytes, bytes]]
Long = NDArray[np.longdouble]

SETTINGS = load_settings(
    partitions=1,
    context_keys=[["project"], ["task_type", "model"], ["complexity_band"]],
    context_values=3,
    buckets_kept=3,
)
HOUR = 3600
BEGIN = 1_750_000_000 // HOUR * HOUR
CUT_KEY = b"0|cut"
KINDS = {"outcomes": 8, "binned": 10, "gram": 13}


# --- the stream ---------------------------------------------------------------------------------------------------


def runs(seed: int, count: int) -> list[Event]:
    """Draw events that leave fields out, repeat settings, and lie up to two days apart."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable test
    choices: dict[str, Sequence[Any]] = {
        "project": "abcde",
        "task_type": "xyz",
        "model": "mn",
        "task_complexity": (0.1, 0.3, 0.6, 0.95, "low", "high"),
        "agent_count": (1, 2, 3, 8, 65, 80, 200),
        "parallelism_level": (1, 2, 4),
        "total_iterations": (0, 1, 2, 7, 12),
        "max_iterations": (0, 2, 5, 100),
        "retry_limit": (0, 1, 3),
        "retry_count": (0, 1, 2),
        "context_budget": (0, 64, 4000, 4500, 9000),
        "context_tokens": (0, 3000, 3200, 8500, 100_000),
        "model_params_b": (7.0, 7.5, 70.0),
        "model_size_category": ("small", "large"),
        "success": (True, False),
        "quality_score": [eighth / 8 for eighth in range(9)],
        "time_to_complete": range(1, 400),
        "total_cost": [quarter / 4 for quarter in range(40)],
        "decision_id": ("d-1",),
    }
    events = []
    for number in range(count):
        event: Event = {"agent_run_id": f"run-{seed}-{number}"}
        event |= {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.6}
        if rng.random() < 0.8:
            completed = BEGIN + 600 * number + rng.choice((0, 0, 0, -HOUR, -9 * HOUR))
            event["completed_at"] = datetime.fromtimestamp(completed, UTC).isoformat()
        events.append(event)
    return events


@dataclass(frozen=True, slots=True)
class Change:
    """A later record of the run at a place: it says something else, with a revision that may be higher or not."""

    of: int
    later: int
    revision: int
    seed: int


CHANGES = st.lists(
    st.builds(
        Change, of=st.integers(0, 200), later=st.integers(0, 200), revision=st.integers(0, 2), seed=st.integers(0, 99)
    ),
    max_size=40,
)


def stream_of(
    events: Sequence[Event], repeats: Sequence[tuple[int, int]], bad: Iterable[int], changes: Sequence[Change] = ()
) -> Batch:
    """Lay events out as one partition: some again later, some changed or spoiled, offsets with gaps, some imports."""
    values = [json.dumps(event).encode() for event in events]
    for change in changes:
        (other,) = runs(change.seed, 1)
        source = change.of % len(values)
        other |= {"agent_run_id": json.loads(values[source])["agent_run_id"], "revision": change.revision}
        values.insert(source + 1 + change.later % (len(values) - source), json.dumps(other).encode())
    for place in bad:
        values.insert(place % (len(values) + 1), b'{"agent_run_id": "", "success": 3}')
    for first, later in repeats:
        source = first % len(values)
        values.insert(source + 1 + later % (len(values) - source), values[source])
    count = len(values)
    offsets = [7 + 2 * place + place // 5 for place in range(count)]
    headers: list[Headers] = [[(IMPORT_HEADER, b"import-1")] if place % 3 else [] for place in range(count)]
    timestamps = [(BEGIN + 500 * place) * 1000 for place in range(count)]
    return Batch(RUNS, 0, offsets, timestamps, [None] * count, values, headers)


@dataclass(frozen=True, slots=True)
class Step:
    """Observe some records, then go on, flush what changed or everything, lose the process, or be given them again."""

    records: int
    then: str
    rewind: int


STEPS = st.lists(
    st.builds(
        Step,
        records=st.integers(0, 25),
        then=st.sampled_from(("go on", "flush", "whole", "crash", "again")),
        rewind=st.integers(0, 40),
    ),
    max_size=12,
)


@dataclass(slots=True)
class Played:
    """What a worker left behind: its tables, and all records it published."""

    tables: Tables
    records: list[Record]

    def commit(self, flush: Flush) -> None:
        """Do what the ledger's transaction does; after a whole flush nothing that came before it is read again."""
        if flush.whole:
            self.tables = {name: {} for name in self.tables}
        for name, changes in flush.tables.items():
            for key, value in changes.items():
                if value is None:
                    self.tables[name].pop(key, None)
                else:
                    self.tables[name][key] = value
        self.records.extend(flush.records)


def play(stream: Batch, steps: Sequence[Step], configured: Settings = SETTINGS, retained: int = 0) -> Played:
    """Let a worker that may crash at any step work through the stream; a last flush ends it.

    Args:
        stream: All records of the partition.
        steps: What happens on the way.
        configured: The worker's settings.
        retained: The first offset at which a record can be read again.
    """

    def drained(*, whole: bool = False) -> Flush:
        replaced = observer.replaced
        there = {offset for offset in replaced if offset >= retained}
        observer.take_out(replaced, stream.take([at for at, offset in enumerate(stream.offsets) if offset in there]))
        return observer.drain(whole=whole)

    played = Played({table: {} for table in TABLES}, [])
    observer = opened(played.tables, configured)
    at = 0
    for step in (*steps, Step(len(stream), "flush", 0)):
        batch = stream.take(range(at, min(at + step.records, len(stream))))
        if len(batch):
            observer.observe(batch)
            at += len(batch)
        if step.then in {"flush", "whole"}:
            played.commit(drained(whole=step.then == "whole"))
        elif step.then == "crash":
            observer = opened(played.tables, configured)
            at = sum(offset < observer.next_offset for offset in stream.offsets)
        if step.then in {"crash", "again"}:
            at = max(0, at - step.rewind)
    observer.observe(stream)
    played.commit(drained())
    return played


def opened(tables: Mapping[str, Mapping[bytes, bytes]], configured: Settings = SETTINGS) -> Observer:
    """Make the observer of partition 0 from stored tables."""
    observer = Observer(0, configured, EventDecoder(configured))
    observer.load(tables)
    return observer


# --- the same tables, row by row --------------------------------------------------------------------------------------


def counted_of(stream: Batch) -> tuple[list[tuple[Event, float]], list[bool]]:
    """List the events that counted at some time, each with its time of completion, and whether it counts in the end.

    An event counts unless one of its run with a higher revision, or of the same revision with the same content, did.
    """
    counted: list[tuple[Event, float]] = []
    newest: dict[str, int] = {}
    for value, stamp in zip(stream.values, stream.timestamps, strict=True):
        event = json.loads(value or b"")
        text = event.get("completed_at")
        completed = stamp / 1000 if text is None else datetime.fromisoformat(text).timestamp()
        before = newest.get(event["agent_run_id"])
        known = None if before is None else counted[before][0]
        revision = event.get("revision", 0)
        if not event["agent_run_id"] or (known is not None and (known == event or known.get("revision", 0) > revision)):
            continue
        newest[event["agent_run_id"]] = len(counted)
        counted.append((event, completed))
    return counted, [place in newest.values() for place in range(len(counted))]


def first_of_each_run(stream: Batch) -> list[tuple[Event, float]]:
    """List the valid events of a stream without changes, each with its time of completion."""
    counted, final = counted_of(stream)
    assert all(final)
    return counted


def complexity_of(event: Event) -> float | None:
    """Map labels as the settings do."""
    value = event.get("task_complexity")
    return {"low": 0.35, "high": 0.9}.get(value, value)  # type: ignore[arg-type]


def contexts_by_order(events: Iterable[Event], cap: int) -> list[list[str]]:
    """Give each event's contexts; the first `cap` values of a key list have their own, the rest share "other"."""
    known: defaultdict[tuple[str, ...], list[tuple[str | None, ...]]] = defaultdict(list)
    found = []
    for event in events:
        difficulty = complexity_of(event)
        band = None if difficulty is None else complexity_band(difficulty)
        own = [GLOBAL]
        for keys in (("project",), ("task_type", "model"), ("complexity_band",)):
            values = tuple(band if key == "complexity_band" else event.get(key) for key in keys)
            if None in values:
                continue
            if values not in known[keys] and len(known[keys]) < cap:
                known[keys].append(values)
            shown = values if values in known[keys] else ["other"] * len(keys)
            own.append(context_id([(key, str(value)) for key, value in zip(keys, shown, strict=True)]))
        found.append(own)
    return found


def group(event: Event) -> tuple[Source, int, list[float]]:
    """Give the source, the mask and the eight outcome variables; 0 where one is not observed."""
    success, quality, time, cost = (
        event.get(name) for name in ("success", "quality_score", "time_to_complete", "total_cost")
    )
    mask = sum(
        bit for bit, value in zip((1, 2, 4, 8), (success, quality, time, cost), strict=True) if value is not None
    )
    mask += 16 if cost else 0
    row = [
        float(success or 0),
        quality or 0.0,
        float(time or 0),
        cost or 0.0,
        math.log(time) if time is not None else 0.0,
        math.log(cost) if cost else 0.0,
        math.log(max(quality, 0.001)) if quality is not None else 0.0,
        math.log(max(cost, 0.001)) if cost is not None else 0.0,
    ]
    return (Source.POLICY if "decision_id" in event else Source.OBSERVATIONAL), mask, row


def settings_of(event: Event) -> dict[tuple[Dimension, Basis], float | str | None]:
    """Read every dimension in every basis."""

    def plus_one(value: int | None) -> int | None:
        return None if value is None else value + 1

    agents, total = event.get("agent_count"), event.get("total_iterations")
    return {
        (Dimension.AGENT_COUNT, Basis.REALISED): agents,
        (Dimension.ITERATIONS, Basis.DOSE): event.get("max_iterations"),
        (Dimension.ITERATIONS, Basis.REALISED): None if agents is None or total is None else total / agents,
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): event.get("parallelism_level"),
        (Dimension.CONTEXT, Basis.DOSE): event.get("context_budget"),
        (Dimension.CONTEXT, Basis.REALISED): event.get("context_tokens"),
        (Dimension.MODEL_SIZE, Basis.REALISED): event.get("model_params_b"),
        (Dimension.MODEL_SIZE, Basis.CATEGORY): event.get("model_size_category"),
        (Dimension.ATTEMPTS, Basis.DOSE): plus_one(event.get("retry_limit")),
        (Dimension.ATTEMPTS, Basis.REALISED): plus_one(event.get("retry_count")),
    }


def quarter_octave(x: float) -> int:
    """Find i with 2^i <= x^4 < 2^(i+1) in whole numbers."""
    fourth = Fraction(x) ** 4
    index = fourth.numerator.bit_length() - fourth.denominator.bit_length()
    return index if Fraction(2) ** index <= fourth else index - 1


def rows_of_cells(
    events: Sequence[tuple[Event, float]], cap: int, final: Sequence[bool] | None = None
) -> dict[bytes, list[list[float]]]:
    """Sort raw rows into value cells: of all events, or of those that count in the end."""
    rows: defaultdict[bytes, list[list[float]]] = defaultdict(list)
    contexts = contexts_by_order((event for event, _ in events), cap)
    for (event, _), own, counts in zip(events, contexts, final or [True] * len(events), strict=True):
        if not counts:
            continue
        source, mask, row = group(event)
        for (dimension, basis), x in settings_of(event).items():
            if x is None:
                continue
            wide = row
            if isinstance(x, str):
                text = x
            elif dimension is Dimension.MODEL_SIZE or (x == int(x) and x <= 64):
                text = value_text(x)
            else:
                text, wide = f"~{quarter_octave(x)}", [*row, x, math.log(x)]
            for context in own:
                rows[CellKey(0, context, dimension, basis, text, source, mask).encode()].append(wide)
    return dict(rows)


def rows_of_grams(
    events: Sequence[tuple[Event, float]], cap: int, final: Sequence[bool] | None = None
) -> dict[bytes, list[list[float]]]:
    """Sort raw rows into Grams, those of old buckets into history: of all events, or of those that count in the end."""
    rows: defaultdict[bytes, list[list[float]]] = defaultdict(list)
    newest = max((int(completed // HOUR) for _, completed in events), default=0)
    contexts = contexts_by_order((event for event, _ in events), cap)
    for (event, completed), own, counts in zip(events, contexts, final or [True] * len(events), strict=True):
        if not counts:
            continue
        source, mask, row = group(event)
        by_basis = settings_of(event)
        phi, presence = [], ""
        for dimension in Dimension:
            values = [(basis, by_basis[dimension, basis]) for basis in BASES[dimension] if basis is not Basis.CATEGORY]
            found = [(basis, value) for basis, value in values if isinstance(value, int | float) and value > 0]
            phi.append(math.log(found[0][1]) if found else 0.0)
            presence += ("d" if found[0][0] is Basis.DOSE else "r") if found else "-"
        difficulty = complexity_of(event)
        phi.append(difficulty or 0.0)
        presence += "-" if difficulty is None else "r"
        hour = int(completed // HOUR)
        bucket = None if hour <= newest - SETTINGS.buckets_kept else hour
        for context in own:
            rows[GramKey(0, context, bucket, source, presence, mask).encode()].append([*phi, *row[:6]])
    return dict(rows)


def expect_moments(stored: Mapping[bytes, bytes], rows: Mapping[bytes, Sequence[Sequence[float]]]) -> None:
    """Compare stored moments with two passes over the raw rows in extended precision.

    Counts are exact and co-moments within 1e-12 √(C_ii C_jj), where a variable counts as spread by at least a
    thousandth of its size, or of one: below that the rounding of the mean itself decides.
    """
    assert stored.keys() == rows.keys()
    for key, found in rows.items():
        y = np.array(found, dtype=np.longdouble)
        variables = y.shape[1]
        _, _, (n, mean, comoment) = decode_rows([stored[key]], variables)
        expected = y.sum(axis=0) / len(y)
        away = y - expected
        products = away.T @ away
        size = np.maximum(np.abs(y).max(axis=0), 1.0)
        spread = np.sqrt(np.diag(products) + len(y) * (size / 1000) ** 2)
        assert n[0] == len(y)
        assert (np.abs(mean[0] - expected) <= 1e-13 * size).all(), key
        full: Long = np.zeros((variables, variables), dtype=np.longdouble)
        full[np.triu_indices(variables)] = comoment[0]
        allowed = 1e-12 * np.outer(spread, spread)
        assert (np.abs(full - np.triu(products)) <= np.triu(allowed)).all(), key


def expect_corrected(
    stored: Mapping[bytes, bytes],
    rows: Mapping[bytes, Sequence[Sequence[float]]],
    ever: Mapping[bytes, Sequence[Sequence[float]]],
) -> None:
    """Compare stored moments with two passes over the rows that count, where others were in and were taken out.

    Counts are exact, and co-moments within 1e-9 of the spread of all rows that ever were in. A cell whose rows are all
    gone is there, and empty.
    """
    assert stored.keys() == ever.keys()
    for key, all_of_them in ever.items():
        was = np.array(all_of_them, dtype=np.longdouble)
        _, _, (n, mean, comoment) = decode_rows([stored[key]], was.shape[1])
        if key not in rows:
            assert not n.any()
            assert not mean.any()
            assert not comoment.any()
            continue
        y = np.array(rows[key], dtype=np.longdouble)
        away = y - y.mean(axis=0)
        size = np.maximum(np.abs(was).max(axis=0), 1.0)
        spread = np.sqrt(((was - was.mean(axis=0)) ** 2).sum(axis=0) + len(was) * (size / 1000) ** 2)
        assert n[0] == len(y)
        assert (np.abs(mean[0] - y.mean(axis=0)) <= 1e-12 * size).all(), key
        full: Long = np.zeros((was.shape[1], was.shape[1]), dtype=np.longdouble)
        full[np.triu_indices(was.shape[1])] = comoment[0]
        assert (np.abs(full - np.triu(away.T @ away)) <= 1e-9 * np.outer(spread, spread)).all(), key


def without(table: Mapping[bytes, bytes], key: bytes) -> dict[bytes, bytes]:
    """Leave a key out."""
    return {name: value for name, value in table.items() if name != key}


# --- promises ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 90),
    repeats=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=8),
    bad=st.lists(st.integers(0, 200), max_size=3),
    steps=STEPS,
)
def test_any_cut_crash_and_replay_gives_the_tables_of_the_raw_rows(
    seed: int, count: int, repeats: list[tuple[int, int]], bad: list[int], steps: list[Step]
) -> None:
    """Batches, flushes, crashes, replays and duplicates change nothing: the tables are the raw rows' moments."""
    stream = stream_of(runs(seed, count), repeats, bad)
    played, whole = play(stream, steps), play(stream, [])
    counted = first_of_each_run(stream)
    expect_moments(without(played.tables[CELLS_TABLE], CUT_KEY), rows_of_cells(counted, 3))
    expect_moments(played.tables[GRAMS_TABLE], rows_of_grams(counted, 3))
    assert played.tables[CELLS_TABLE][CUT_KEY] == whole.tables[CELLS_TABLE][CUT_KEY]
    assert played.tables[DEDUPE_TABLE] == whole.tables[DEDUPE_TABLE]
    assert played.tables[IMPORTS_TABLE] == whole.tables[IMPORTS_TABLE]
    letters = [[record for record in one.records if record.topic == REJECTED] for one in (played, whole)]
    assert letters[0] == letters[1]
    assert len(letters[0]) == sum(b'""' in (value or b"") for value in stream.values)


def test_history_and_buckets_together_hold_every_run() -> None:
    """Late and retired hours go to history: over all buckets each context and group still counts every run."""
    stream = stream_of(runs(3, 90), [], [])
    grams = play(stream, [Step(10, "flush", 0), Step(25, "crash", 5), Step(9, "flush", 0)]).tables[GRAMS_TABLE]
    found: defaultdict[tuple[str, str, str, int], float] = defaultdict(float)
    buckets = set()
    for name, value in grams.items():
        key = GramKey.decode(name)
        buckets.add(key.bucket)
        found[key.context, key.source, key.presence, key.mask] += decode_rows([value], KINDS["gram"])[2][0][0]
    expected: defaultdict[tuple[str, str, str, int], float] = defaultdict(float)
    for name, rows in rows_of_grams(first_of_each_run(stream), 3).items():
        key = GramKey.decode(name)
        expected[key.context, key.source, key.presence, key.mask] += len(rows)
    assert found == expected
    assert None in buckets
    assert len(buckets) == SETTINGS.buckets_kept + 1


def test_contexts_that_have_no_value_cell_count_towards_the_cap_after_a_restart() -> None:
    """A project that was seen with an outcome only keeps its place among the capped ones through a crash."""
    events: list[Event] = [{"agent_run_id": "a", "project": "a", "success": True}]
    events += [{"agent_run_id": name, "project": name, "agent_count": 1} for name in ("b", "c", "d", "e")]
    stream = stream_of(events, [], [])
    crashed = play(stream, [Step(1, "flush", 0), Step(0, "crash", 0)])
    assert crashed.tables[CELLS_TABLE].keys() == play(stream, []).tables[CELLS_TABLE].keys()


def test_which_model_sizes_have_cells_of_their_own_does_not_depend_on_batches() -> None:
    """The first 512 sizes of a partition get their own cell, the rest share bins, however the stream is cut."""
    order = random.Random(4).sample(range(1, 601), 600)  # noqa: S311 - a repeatable test
    events = [{"agent_run_id": f"{size}", "model_params_b": size + 0.5, "success": True} for size in order]
    stream = stream_of(events, [], [])
    cut = play(stream, [Step(300, "flush", 0), Step(100, "crash", 50), Step(150, "go on", 0)])
    whole = play(stream, [])
    assert cut.tables[CELLS_TABLE].keys() == whole.tables[CELLS_TABLE].keys()
    own = [CellKey.decode(name) for name in without(whole.tables[CELLS_TABLE], CUT_KEY)]
    assert sum(not key.binned for key in own) == 512


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    changes=CHANGES,
    repeats=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), max_size=8),
    bad=st.lists(st.integers(0, 200), max_size=2),
    steps=STEPS,
)
def test_any_corrections_give_the_tables_of_the_newest_revisions(  # noqa: PLR0917 - one argument for each trouble
    seed: int,
    count: int,
    changes: list[Change],
    repeats: list[tuple[int, int]],
    bad: list[int],
    steps: list[Step],
) -> None:
    """Whatever is corrected, repeated, cut, crashed and replayed: each run counts as its newest revision says."""
    stream = stream_of(runs(seed, count), repeats, bad, changes)
    played, whole = play(stream, steps), play(stream, [])
    counted, final = counted_of(stream)
    expect_corrected(
        without(played.tables[CELLS_TABLE], CUT_KEY), rows_of_cells(counted, 3, final), rows_of_cells(counted, 3)
    )
    expect_corrected(played.tables[GRAMS_TABLE], rows_of_grams(counted, 3, final), rows_of_grams(counted, 3))
    assert played.tables[DEDUPE_TABLE] == whole.tables[DEDUPE_TABLE]
    assert played.tables[IMPORTS_TABLE] == whole.tables[IMPORTS_TABLE]


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), changes=CHANGES, steps=STEPS, retained=st.integers(0, 200))
def test_past_the_horizon_every_run_still_counts_once(
    seed: int, changes: list[Change], steps: list[Step], retained: int
) -> None:
    """A run whose record cannot be read again counts as it was, also when it is corrected twice or in one flush."""
    stream = stream_of(runs(seed, 40), [], [], changes)
    played = play(stream, steps, retained=retained)
    runs_in = sum(
        decode_rows([value], KINDS["gram"])[2][0][0]
        for name, value in played.tables[GRAMS_TABLE].items()
        if GramKey.decode(name).context == GLOBAL
    )
    assert runs_in == 40


def test_a_run_past_the_horizon_keeps_what_it_said_and_is_counted() -> None:
    """Its first record goes on counting; what is corrected later is measured against that one, and named again."""
    events = [
        {"agent_run_id": "a", "agent_count": 2, "quality_score": quality, "revision": revision}
        for revision, quality in enumerate((0.5, 0.9, 0.7))
    ]
    stream = stream_of([*events, {"agent_run_id": "b", "agent_count": 2, "quality_score": 0.9}], [], [])
    cell = CellKey(0, GLOBAL, Dimension.AGENT_COUNT, Basis.REALISED, "2", Source.OBSERVATIONAL, 2).encode()
    for steps in ([], [Step(1, "flush", 0), Step(1, "flush", 0)], [Step(1, "flush", 0), Step(2, "flush", 0)]):
        tables = play(stream, steps, retained=stream.offsets[0] + 1).tables
        _, _, (n, mean, _) = decode_rows([tables[CELLS_TABLE][cell]], KINDS["outcomes"])
        assert (n[0], mean[0][1]) == (2, pytest.approx(0.7))
    observer = opened({table: {} for table in TABLES})
    observer.observe(stream)
    assert observer.replaced == [stream.offsets[0]]
    observer.take_out(observer.replaced, stream.take([]))
    assert (observer.counts.corrected, observer.counts.out_of_reach) == (2, 1)


def test_a_constant_cell_is_constant_again_once_its_odd_run_is_corrected() -> None:
    """Of a spread that only a wrong value made nothing is left, not even rounding."""
    events = [{"agent_run_id": f"{at}", "agent_count": 2, "success": True, "quality_score": 0.1} for at in range(29)]
    wrong = [{"agent_run_id": "x", "agent_count": 2, "success": False, "quality_score": 0.7}]
    right = [{"agent_run_id": "x", "agent_count": 2, "success": True, "quality_score": 0.1, "revision": 1}]
    stream = stream_of([*events[:9], *wrong, *events[9:], *right], [], [])
    tables = play(stream, [Step(9, "flush", 0), Step(12, "flush", 0)]).tables
    cell = CellKey(0, GLOBAL, Dimension.AGENT_COUNT, Basis.REALISED, "2", Source.OBSERVATIONAL, 3).encode()
    _, _, (n, mean, comoment) = decode_rows([tables[CELLS_TABLE][cell]], KINDS["outcomes"])
    assert n[0] == 30
    assert mean[0][:2].tolist() == pytest.approx([1.0, 0.1], abs=1e-15)
    assert not comoment.any()


def test_a_correction_replaces_the_first_contribution_and_is_counted() -> None:
    """A run counts as its newest revision says; duplicates and corrections are told apart in the import's tally."""
    events = [
        {"agent_run_id": "a", "agent_count": 2, "quality_score": 0.5},
        {"agent_run_id": "a", "agent_count": 2, "quality_score": 0.9, "revision": 1},
        {"agent_run_id": "a", "agent_count": 2, "quality_score": 0.5},
        {"agent_run_id": "b", "agent_count": 2, "quality_score": 0.7},
    ]
    values = [json.dumps(event).encode() for event in events]
    headers: list[Headers] = [[(IMPORT_HEADER, b"x|y")]] * 4
    batch = Batch(RUNS, 0, [0, 1, 2, 3], [BEGIN * 1000] * 4, [None] * 4, values, headers)
    tables = play(batch, []).tables
    cell = CellKey(0, GLOBAL, Dimension.AGENT_COUNT, Basis.REALISED, "2", Source.OBSERVATIONAL, 2).encode()
    _, _, (n, mean, _) = decode_rows([tables[CELLS_TABLE][cell]], KINDS["outcomes"])
    assert (n[0], mean[0][1]) == (2, pytest.approx(0.8))
    tally = msgspec.json.decode(tables[IMPORTS_TABLE][b"0|x_y"], type=Tally)
    assert (tally.accepted, tally.corrected, tally.duplicate) == (2, 1, 1)


def test_a_flush_publishes_its_cells_by_context_and_ends_with_a_barrier_on_every_partition() -> None:
    """Snapshots equal the tables; each context has one stats partition; the barriers carry the cut and come last."""
    configured = load_settings(partitions=4)
    names = [f"run-{number}" for number in range(40)]
    mine = [name for name in names if partition_of(name.encode(), 4) == 2]
    events = [{"agent_run_id": name, "project": f"p{at % 5}", "agent_count": 1} for at, name in enumerate(mine)]
    values = [json.dumps(event).encode() for event in events]
    count = len(values)
    batch = Batch(RUNS, 2, range(10, 10 + count), [BEGIN * 1000] * count, [None] * count, values, [()] * count)
    observer = Observer(2, configured, EventDecoder(configured))
    observer.observe(batch)
    flush = observer.drain()
    cells = {key: value for key, value in flush.tables[CELLS_TABLE].items() if key != b"2|cut"}
    stats = [record for record in flush.records if record.topic == STATS]
    snapshots = [record for record in stats if (record.key or b"").startswith(b"cell|")]
    assert {(record.key or b"").removeprefix(b"cell|"): record.value for record in snapshots} == cells
    for record in snapshots:
        context = CellKey.decode((record.key or b"").removeprefix(b"cell|")).context
        assert record.partition == partition_of(context.encode(), 4)
    barriers = stats[-4:]
    assert [(record.partition, record.key) for record in barriers] == [(at, b"barrier|2") for at in range(4)]
    cut = Cut(10 + count, configured.validation_hash, recent=((count, 0),))
    assert {record.value for record in barriers} == {msgspec.json.encode(cut)}


def test_a_flush_publishes_its_grams_like_its_cells_before_the_barrier() -> None:
    """Changed Grams go out with the values of their table, a retired bucket as None, each by its context."""
    configured = load_settings(partitions=4, buckets_kept=1)
    mine = [name for name in (f"run-{number}" for number in range(40)) if partition_of(name.encode(), 4) == 2]
    events = [{"agent_run_id": name, "project": f"p{at % 5}", "agent_count": 1} for at, name in enumerate(mine)]
    values = [json.dumps(event).encode() for event in events]
    stamps = [(BEGIN + HOUR * (at // 4)) * 1000 for at in range(len(mine))]
    batch = Batch(RUNS, 2, range(len(mine)), stamps, [None] * len(mine), values, [()] * len(mine))
    observer = Observer(2, configured, EventDecoder(configured))
    published: dict[bytes, bytes | None] = {}
    for part in (batch.slice(0, 4), batch.slice(4, len(mine))):
        observer.observe(part)
        flush = observer.drain()
        stats = [record for record in flush.records if record.topic == STATS]
        grams = [record for record in stats if (record.key or b"").startswith(b"gram|")]
        assert stats.index(grams[-1]) < len(stats) - 4
        assert {(record.key or b"").removeprefix(b"gram|"): record.value for record in grams} == flush.tables[
            GRAMS_TABLE
        ]
        for record in grams:
            context = GramKey.decode((record.key or b"").removeprefix(b"gram|")).context
            assert record.partition == partition_of(context.encode(), 4)
        published |= {(record.key or b"").removeprefix(b"gram|"): record.value for record in grams}
    removed = {GramKey.decode(key).bucket for key, value in published.items() if value is None}
    assert removed == {BEGIN // HOUR}


def test_a_record_in_the_wrong_partition_is_sent_to_its_own_and_not_counted() -> None:
    """It goes back to scaling.runs as it is, key and headers included, and no cell knows of it."""
    configured = load_settings(partitions=4)
    name = next(f"run-{number}" for number in range(40) if partition_of(f"run-{number}".encode(), 4) == 3)
    value = json.dumps({"agent_run_id": name, "agent_count": 1}).encode()
    headers: Headers = [(IMPORT_HEADER, b"i")]
    observer = Observer(1, configured, EventDecoder(configured))
    observer.observe(Batch(RUNS, 1, [5], [BEGIN * 1000], [b"odd"], [value], [headers]))
    flush = observer.drain()
    assert [record for record in flush.records if record.topic == RUNS] == [Record(RUNS, 3, b"odd", value, headers)]
    assert flush.tables[CELLS_TABLE].keys() == {b"1|cut"}
    assert flush.offset == 6
    assert (observer.counts.misplaced, observer.counts.accepted) == (1, 0)


def test_a_second_drain_holds_only_what_changed_since() -> None:
    """Cells that no event touched are not written again, and a replay is counted but writes nothing."""
    stream = stream_of([{"agent_run_id": "a", "agent_count": 1}, {"agent_run_id": "b", "parallelism_level": 2}], [], [])
    observer = opened({table: {} for table in TABLES})
    observer.observe(stream.take([0]))
    observer.drain()
    observer.observe(stream)
    keys = [CellKey.decode(key) for key in observer.drain().tables[CELLS_TABLE] if key != CUT_KEY]
    assert {key.dimension for key in keys} == {Dimension.PARALLELISM_LEVEL}
    observer.observe(stream)
    assert observer.drain().tables == {
        CELLS_TABLE: {
            CUT_KEY: msgspec.json.encode(Cut(stream.offsets[-1] + 1, SETTINGS.validation_hash, recent=((2, 0),)))
        },
        GRAMS_TABLE: {},
        DEDUPE_TABLE: {},
        IMPORTS_TABLE: {},
    }
    assert observer.counts.replayed == 3


def test_a_batch_beyond_what_was_seen_stops_the_worker() -> None:
    """A gap of offsets that no record has is nothing; events that were skipped are an error, and nothing is folded."""
    stream = stream_of(runs(1, 6), [], [])
    observer = opened({table: {} for table in TABLES})
    observer.observe(stream.take([0, 1]))
    seen = observer.next_offset
    with pytest.raises(StackError, match=f"events from {seen} on were not seen"):
        observer.observe(replace(stream.take([4, 5]), start=stream.offsets[3] + 1))
    assert observer.next_offset == seen
    observer.observe(replace(stream.take([2, 3]), start=seen))
    assert observer.counts.accepted == 4


def test_tables_of_other_settings_are_refused() -> None:
    """A worker whose settings read events differently stops with a sentence that names both hashes."""
    tables = play(stream_of(runs(1, 3), [], []), []).tables
    other = load_settings(partitions=1, bucket_seconds=60)
    with pytest.raises(StackError, match=f"{SETTINGS.validation_hash}, now {other.validation_hash}"):
        opened(tables, other)


# --- runs of experiments ----------------------------------------------------------------------------------------------


def outcomes_of(observer: Observer) -> list[Record]:
    """Flush, and keep what goes to scaling.outcomes; what corrected runs were before is gone, which changes nothing."""
    observer.take_out(observer.replaced, in_partition(0))
    return [record for record in observer.drain().records if record.topic == OUTCOMES]


def in_partition(partition: int, *events: Event, first: int = 0) -> Batch:
    """Lay events out as a partition of a deployment with four."""
    values, count = [json.dumps(event).encode() for event in events], len(events)
    offsets = range(first, first + count)
    stamps = [BEGIN * 1000 + offset for offset in offsets]
    return Batch(RUNS, partition, offsets, stamps, [None] * count, values, [[(IMPORT_HEADER, b"i")]] * count)


def test_a_run_that_names_an_experiment_is_passed_on_to_the_experiments_partition() -> None:
    """Once, as it came, under experiment and run, to the partition of the experiment's hash, with its source."""
    configured = load_settings(partitions=4)
    names = [name for name in (f"run-{number}" for number in range(60)) if partition_of(name.encode(), 4) == 2]
    experiments = [f"exp.{at}" for at in range(len(names))]
    events: list[Event] = [
        {"agent_run_id": name, "experiment_id": experiment, "agent_count": 1}
        for name, experiment in zip(names, experiments, strict=True)
    ]
    batch = in_partition(2, {"agent_run_id": names[0] + "x"}, *events, first=10)
    observer = Observer(2, configured, EventDecoder(configured))
    observer.observe(batch)
    records = outcomes_of(observer)
    assert [record.key for record in records] == [
        f"{experiment}|{name}".encode() for name, experiment in zip(names, experiments, strict=True)
    ]
    assert [record.value for record in records] == list(batch.values[1:])
    assert [record.partition for record in records] == [partition_of(each.encode(), 4) for each in experiments]
    assert len({record.partition for record in records}) == 4
    found = [source_of(record.headers) for record in records]
    assert found == [(offset, BEGIN * 1000 + offset) for offset in batch.offsets[1:]]
    observer.observe(batch)
    assert outcomes_of(observer) == []


@pytest.mark.parametrize("together", [True, False])
def test_a_correction_is_passed_on_and_a_duplicate_is_not(together: bool) -> None:  # noqa: FBT001 - a case
    """Of one run the first event and each newer one go on, in one batch or several; what repeats or lags does not."""
    configured = load_settings(partitions=1)
    run: Event = {"agent_run_id": "a", "experiment_id": "e"}
    events = [
        run,
        run,
        {**run, "success": True},
        {**run, "success": True, "revision": 2},
        {**run, "success": False, "revision": 1},
        {**run, "success": True, "revision": 2},
    ]
    observer = Observer(0, configured, EventDecoder(configured))
    batch = in_partition(0, *events)
    for part in [batch] if together else [batch.slice(at, at + 1) for at in range(len(batch))]:
        observer.observe(part)
    assert [source_of(record.headers)[0] for record in outcomes_of(observer)] == [0, 2, 3]


@pytest.mark.parametrize("name", [None, "", " ", "a b", "a|b", ".a", "-a", "ä", "a\n", "x" * 65])
def test_a_run_with_a_malformed_experiment_is_counted_and_not_passed_on(name: str | None) -> None:
    """What cannot be an experiment's name has no owner; the run itself counts like any other."""
    configured = load_settings(partitions=1)
    observer = Observer(0, configured, EventDecoder(configured))
    observer.observe(in_partition(0, {"agent_run_id": "a", "experiment_id": name, "agent_count": 1}))
    assert outcomes_of(observer) == []
    assert observer.counts.accepted == 1


@pytest.mark.parametrize("name", ["a", "A-1", "0", "agents.v2_b", "x" * 64])
def test_every_name_that_an_experiment_can_have_is_passed_on(name: str) -> None:
    """The names are those that a definition may have."""
    configured = load_settings(partitions=1)
    observer = Observer(0, configured, EventDecoder(configured))
    observer.observe(in_partition(0, {"agent_run_id": "a", "experiment_id": name}))
    (record,) = outcomes_of(observer)
    assert record.key == f"{name}|a".encode()
    assert msgspec.convert(name, ExperimentId) == name


def test_a_run_in_the_wrong_partition_is_passed_on_by_its_own() -> None:
    """The partition that it lies in by mistake only sends it home."""
    configured = load_settings(partitions=4)
    name = next(f"run-{number}" for number in range(40) if partition_of(f"run-{number}".encode(), 4) == 3)
    observer = Observer(1, configured, EventDecoder(configured))
    observer.observe(in_partition(1, {"agent_run_id": name, "experiment_id": "e"}))
    assert outcomes_of(observer) == []


def test_what_is_passed_on_counts_towards_the_next_flush() -> None:
    """Its bytes wait in memory like dead letters: they force a flush."""
    configured = load_settings(partitions=1)
    observer = Observer(0, configured, EventDecoder(configured))
    batch = in_partition(0, {"agent_run_id": "a", "experiment_id": "e"})
    observer.observe(batch)
    assert observer.pending_bytes == len(batch.values[0] or b"")
    observer.drain()
    assert observer.pending_bytes == 0
