"""The central promise: however a stream is cut, crashed and replayed, the tables are those of its raw rows."""

import json
import math
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from agents.moment_table import decode_rows
from agents.observer import Cut, Flush, Observer, Record
from agents.tallies import Tally
from analytics.partitions import partition_of
from models.batches import Batch, Headers
from models.cells import CellKey, GramKey, value_text
from models.contexts import GLOBAL, complexity_band, context_id
from models.dimensions import BASES, Basis, Dimension, Source
from models.errors import StackError
from models.settings import Settings, load_settings
from models.topics import CELLS_TABLE, DEDUPE_TABLE, GRAMS_TABLE, IMPORT_HEADER, IMPORTS_TABLE, REJECTED, RUNS
from models.topics import STATS, TABLES

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


def stream_of(events: Sequence[Event], repeats: Sequence[tuple[int, int]], bad: Iterable[int]) -> Batch:
    """Lay events out as one partition: some again later, some spoiled, offsets with gaps, every third an import."""
    values = [json.dumps(event).encode() for event in events]
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
    """Observe some records, then go on, flush, lose the process, or be given records again."""

    records: int
    then: str
    rewind: int


STEPS = st.lists(
    st.builds(
        Step,
        records=st.integers(0, 25),
        then=st.sampled_from(("go on", "flush", "crash", "again")),
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
        """Do what the ledger's transaction does."""
        for name, changes in flush.tables.items():
            for key, value in changes.items():
                if value is None:
                    self.tables[name].pop(key, None)
                else:
                    self.tables[name][key] = value
        self.records.extend(flush.records)


def play(stream: Batch, steps: Sequence[Step], configured: Settings = SETTINGS) -> Played:
    """Let a worker that may crash at any step work through the stream; a last flush ends it."""
    played = Played({table: {} for table in TABLES}, [])
    observer = opened(played.tables, configured)
    at = 0
    for step in (*steps, Step(len(stream), "flush", 0)):
        batch = stream.take(range(at, min(at + step.records, len(stream))))
        if len(batch):
            observer.observe(batch)
            at += len(batch)
        if step.then == "flush":
            played.commit(observer.drain())
        elif step.then == "crash":
            observer = opened(played.tables, configured)
            at = sum(offset < observer.next_offset for offset in stream.offsets)
        if step.then in {"crash", "again"}:
            at = max(0, at - step.rewind)
    observer.observe(stream)
    played.commit(observer.drain())
    return played


def opened(tables: Mapping[str, Mapping[bytes, bytes]], configured: Settings = SETTINGS) -> Observer:
    """Make the observer of partition 0 from stored tables."""
    observer = Observer(0, configured, EventDecoder(configured))
    observer.load(tables)
    return observer


# --- the same tables, row by row --------------------------------------------------------------------------------------


def first_of_each_run(stream: Batch) -> list[tuple[Event, float]]:
    """List the valid events, the first of each run id, each with its time of completion."""
    kept: dict[str, tuple[Event, float]] = {}
    for value, stamp in zip(stream.values, stream.timestamps, strict=True):
        event = json.loads(value or b"")
        text = event.get("completed_at")
        completed = stamp / 1000 if text is None else datetime.fromisoformat(text).timestamp()
        if event["agent_run_id"]:
            kept.setdefault(event["agent_run_id"], (event, completed))
    return list(kept.values())


def complexity_of(event: Event) -> float | None:
    """Map labels as the settings do."""
    value = event.get("task_complexity")
    return {"low": 0.35, "high": 0.9}.get(value, value)  # type: ignore[arg-type]


def contexts_by_order(events: Iterable[Event], cap: int) -> list[list[str]]:
    """Give each event's contexts; the first `cap` values of a key list have their own, the rest share "other"."""
    known: defaultdict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
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
            shown = values if values in known[keys] else ("other",) * len(keys)
            own.append(context_id(list(zip(keys, shown, strict=True))))
        found.append(own)
    return found


def group(event: Event) -> tuple[Source, int, list[float]]:
    """Give the source, the mask and the eight outcome variables; 0 where one is not observed."""
    success, quality, time, cost = (
        event.get(name) for name in ("success", "quality_score", "time_to_complete", "total_cost")
    )
    mask = sum(bit for bit, value in zip((1, 2, 4, 8), (success, quality, time, cost), strict=True) if value is not None)
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


def rows_of_cells(events: Sequence[tuple[Event, float]], cap: int) -> dict[bytes, list[list[float]]]:
    """Sort raw rows into value cells."""
    rows: defaultdict[bytes, list[list[float]]] = defaultdict(list)
    contexts = contexts_by_order((event for event, _ in events), cap)
    for (event, _), own in zip(events, contexts, strict=True):
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


def rows_of_grams(events: Sequence[tuple[Event, float]], cap: int) -> dict[bytes, list[list[float]]]:
    """Sort raw rows into Grams, those of old buckets into history."""
    rows: defaultdict[bytes, list[list[float]]] = defaultdict(list)
    newest = max((int(completed // HOUR) for _, completed in events), default=0)
    contexts = contexts_by_order((event for event, _ in events), cap)
    for (event, completed), own in zip(events, contexts, strict=True):
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
    thousandth of its size: below that the rounding of the mean itself decides.
    """
    assert stored.keys() == rows.keys()
    for key, found in rows.items():
        y = np.array(found, dtype=np.longdouble)
        variables = y.shape[1]
        _, _, (n, mean, comoment) = decode_rows([stored[key]], variables)
        expected = y.sum(axis=0) / len(y)
        away = y - expected
        products = away.T @ away
        size = np.abs(y).max(axis=0)
        spread = np.sqrt(np.diag(products) + len(y) * (size / 1000) ** 2)
        assert n[0] == len(y)
        assert (np.abs(mean[0] - expected) <= 1e-13 * size).all(), key
        full: Long = np.zeros((variables, variables), dtype=np.longdouble)
        full[np.triu_indices(variables)] = comoment[0]
        allowed = 1e-12 * np.outer(spread, spread)
        assert (np.abs(full - np.triu(products)) <= np.triu(allowed)).all(), key


def without(table: Mapping[bytes, bytes], key: bytes) -> dict[bytes, bytes]:
    """Leave a key out."""
    return {name: value for name, value in table.items() if name != key}


# --- promises ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
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
