"""Tables computed anew: equal to those of a stream with corrections, and fit to go on from."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pytest
import xxhash

from agents.decode import EventDecoder
from agents.flush import Flush
from agents.observer import BARRIER, Observer
from agents.restated import context_of, differences, is_cut, replacing, runs_in
from analytics.partitions import partition_of
from analytics.simulation import simulate
from analytics.world import World
from models.batches import Batch
from models.settings import load_settings
from models.topics import CELLS_TABLE, DEDUPE_TABLE, GRAMS_TABLE, IMPORTS_TABLE, RUNS, STATS, TABLES

SETTINGS = load_settings(partitions=1, context_keys=[["project"], ["complexity_band"]])
DECODER = EventDecoder(SETTINGS)
STAMP = 1_800_000_000_000
Tables = dict[str, dict[bytes, bytes]]


def log_of(seed: int, count: int) -> list[bytes]:
    """Draw runs, then corrections of a third of them, some moved to a project of their own."""
    events = list(simulate(World(), count, seed, start=datetime(2026, 1, 1, tzinfo=UTC)))
    rng = random.Random(seed)  # noqa: S311 - a repeatable test
    changes: Sequence[dict[str, Any]] = ({"agent_count": 7}, {"project": "moved"}, {"success": True, "total_cost": 9.0})
    corrected = [rng.choice(events) | rng.choice(changes) | {"revision": 1} for _ in range(count // 3)]
    return list(map(orjson.dumps, events + corrected))


def batch_of(log: Sequence[bytes], first: int = 0) -> Batch:
    """Lay records out from an offset on."""
    count = len(log)
    return Batch(RUNS, 0, range(first, first + count), [STAMP] * count, [None] * count, log, [()] * count, first)


def taken_in(observer: Observer, log: Sequence[bytes], first: int) -> Flush:
    """Observe the records of a log from an offset on, and flush; all of the log can be read again."""
    if log[first:]:
        observer.observe(batch_of(log[first:], first))
    replaced = observer.replaced
    observer.take_out(replaced, batch_of(log).take(replaced))
    return observer.drain()


def newest(log: Sequence[bytes]) -> dict[str, int]:
    """Give the offset of each run's newest revision."""
    found: dict[str, int] = {}
    for offset, value in enumerate(log):
        event = orjson.loads(value)
        before = found.get(event["agent_run_id"])
        if before is None or orjson.loads(log[before]).get("revision", 0) <= event.get("revision", 0):
            found[event["agent_run_id"]] = offset
    return found


def restated(log: Sequence[bytes], end: int) -> Observer:
    """Fold the newest revision of each run that has a record below an offset, in two parts."""
    known = {orjson.loads(value)["agent_run_id"] for value in log[:end]}
    offsets = sorted(offset for run, offset in newest(log).items() if run in known)
    observer = Observer(0, SETTINGS, DECODER)
    for part in (offsets[:100], offsets[100:]):
        events = [DECODER.decode(log[offset]) for offset in part]
        completed = [STAMP / 1000 if each.completed_at is None else each.completed_at.timestamp() for each in events]
        contents = [xxhash.xxh64_intdigest(log[offset]) for offset in part]
        observer.restate(events, np.array(completed), contents, part)
    observer.go_on_at(end)
    return observer


def applied(tables: Mapping[str, Mapping[bytes, bytes]], flush: Flush) -> Tables:
    """Do what the ledger's transaction does."""
    after = {name: dict(tables[name]) for name in TABLES}
    for name, changes in flush.tables.items():
        for key, value in changes.items():
            if value is None:
                after[name].pop(key, None)
            else:
                after[name][key] = value
    return after


@pytest.mark.parametrize("end", [0, 250, 300, 400])
def test_what_is_computed_anew_equals_the_tables_of_the_stream(end: int) -> None:
    """Wherever the archive is cut: what lies beyond is folded from the topic, also what the archive already has."""
    log = log_of(1, 300)
    streamed = applied({name: {} for name in TABLES}, taken_in(Observer(0, SETTINGS, DECODER), log, 0))
    anew = taken_in(restated(log, end), log, end)
    assert differences(streamed, anew.tables) == []
    assert runs_in(anew.tables[GRAMS_TABLE]) == 300
    assert anew.offset == len(log)


def test_a_replacement_removes_what_is_gone_and_goes_on_at_the_owners_offset() -> None:
    """Emptied cells go, on the table and on scaling.stats; cut and tallies stay; the next correction finds its run."""
    log = log_of(2, 300)
    stored = applied({name: {} for name in TABLES}, taken_in(Observer(0, SETTINGS, DECODER), log, 0))
    stored[IMPORTS_TABLE][b"0|x"] = b"{}"
    stored[CELLS_TABLE][b"0|project=gone|agent_count|realised|2|observational|1"] = next(
        value for key, value in stored[CELLS_TABLE].items() if not is_cut(key) and b"|~" not in key
    )
    flush = replacing(taken_in(restated(log, 350), log, 350), stored, partitions=4)
    after = applied(stored, flush)
    anew = taken_in(restated(log, len(log)), log, len(log)).tables
    assert differences(after, anew) == []
    assert [value for key, value in after[CELLS_TABLE].items() if is_cut(key)] == [
        value for key, value in stored[CELLS_TABLE].items() if is_cut(key)
    ]
    assert after[IMPORTS_TABLE] == stored[IMPORTS_TABLE]
    assert {record.topic for record in flush.records} == {STATS}
    removed = {record.key for record in flush.records if record.value is None}
    assert b"cell|0|project=gone|agent_count|realised|2|observational|1" in removed
    for record in flush.records[:-1]:
        if record.value is None:
            assert record.partition == partition_of(context_of((record.key or b"").partition(b"|")[2]), 4)
    assert (flush.records[-1].key or b"").startswith(BARRIER.encode())

    observer = Observer(0, SETTINGS, DECODER)
    observer.load(after)
    longer = [*log, orjson.dumps(orjson.loads(log[5]) | {"agent_count": 9, "revision": 2})]
    final = applied(after, taken_in(observer, longer, len(log)))
    assert differences(final, taken_in(restated(longer, len(longer)), longer, len(longer)).tables) == []


def test_differences_are_named_by_context() -> None:
    """The context that a run has left and the one that it came to, with their runs; the global one comes first."""
    log = log_of(3, 60)
    before = applied({name: {} for name in TABLES}, taken_in(Observer(0, SETTINGS, DECODER), log[:60], 0))
    event = orjson.loads(log[7])
    longer = [*log[:60], orjson.dumps(event | {"project": "other", "agent_count": 5, "revision": 1})]
    found = differences(before, taken_in(restated(longer, 61), longer, 61).tables)
    told = {each.context: (each.runs_after - each.runs_before, each.cells > 0) for each in found}
    assert found[0].context == "global"
    assert told["global"] == (0, True)
    assert told[f"project={event['project']}"] == (-1, True)
    assert told["project=other"] == (1, True)
    assert before[DEDUPE_TABLE]
