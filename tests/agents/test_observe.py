"""When a batch is written and when it is acknowledged."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from agents.flush import Flush
from agents.moment_table import decode_rows
from agents.observe import Acknowledge, Observation
from models.batches import Batch
from models.cells import CellKey
from models.settings import Settings, load_settings
from models.topics import CELLS_TABLE, STATS, STATS_CHANGELOGS, TABLES

ONE = load_settings(partitions=1, flush_seconds=0.01)


@dataclass(slots=True, eq=False)
class Memory:
    """An owned partition in memory; `writes` says whether it takes flushes."""

    tables: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in TABLES})
    flushes: list[Flush] = field(default_factory=list)
    writes: bool = True
    swollen: bool = False
    before: Callable[[], None] = lambda: None

    async def write(self, flush: Flush) -> bool:
        """Take a flush, or refuse it."""
        self.before()
        await asyncio.sleep(0)
        self.flushes += [flush] if self.writes else []
        return self.writes


async def given_to(observation: Observation, acknowledged: list[int], *places: int, partition: int = 0) -> None:
    """Let the agent have batches of one event, at these offsets."""

    def acknowledge(place: int) -> Acknowledge:
        return lambda: acknowledged.append(place)

    async def batches() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        for place in places:
            await asyncio.sleep(0)
            yield batch_at(place, partition), acknowledge(place)

    await observation.observe(batches())


def batch_at(offset: int, partition: int = 0, run: str = "") -> Batch:
    """Make a batch of one event."""
    value = json.dumps({"agent_run_id": run or f"run-{offset}", "agent_count": 1}).encode()
    return Batch("scaling.runs", partition, [offset], [1_750_000_000_000], [None], [value], [()])


async def no_records(partition: int, offsets: Sequence[int]) -> Batch:
    """Read nothing again: no run is corrected."""
    raise AssertionError(f"records {offsets} of partition {partition}")


def observing(settings: Settings, *owned: Memory) -> Observation:
    """Make an observation of partitions 0, 1, and so on."""
    return Observation(settings, lambda: dict(enumerate(owned)), no_records)


async def test_a_batch_is_acknowledged_only_after_its_flush_was_written() -> None:
    """Nothing is acknowledged while batches are folded, nor before the write has returned."""
    acknowledged: list[int] = []
    seen: list[Sequence[int]] = []
    memory = Memory(before=lambda: seen.append(list(acknowledged)))
    observation = observing(ONE, memory)
    await given_to(observation, acknowledged, 0, 1, 2)
    assert (acknowledged, memory.flushes) == ([], [])
    await asyncio.sleep(0.02)
    await observation.flush_when_due()
    assert seen == [[]]
    assert acknowledged == [0, 1, 2]
    assert [flush.offset for flush in memory.flushes] == [3]


async def test_a_partition_that_was_given_up_acknowledges_nothing() -> None:
    """Where the write says no, the next owner reads the events again."""
    acknowledged: list[int] = []
    memory = Memory(writes=False)
    observation = observing(ONE, memory)
    await given_to(observation, acknowledged, 0)
    await asyncio.sleep(0.02)
    await observation.flush_when_due()
    assert acknowledged == []
    await observation.flush_when_due()
    assert memory.flushes == []


async def test_a_write_that_fails_reaches_the_caller_and_acknowledges_nothing() -> None:
    """An error is not swallowed: it has to stop the worker."""

    def fail() -> None:
        raise ConnectionError("gone")

    acknowledged: list[int] = []
    observation = observing(load_settings(partitions=1, flush_events=1), Memory(before=fail))
    with pytest.raises(ConnectionError):
        await given_to(observation, acknowledged, 0)
    assert acknowledged == []


async def test_enough_events_force_a_flush() -> None:
    """flush_events bounds what is folded but not written."""
    acknowledged: list[int] = []
    memory = Memory()
    await given_to(observing(load_settings(partitions=1, flush_events=3), memory), acknowledged, 0, 1, 2, 3)
    assert acknowledged == [0, 1, 2]
    assert [flush.offset for flush in memory.flushes] == [3]


async def test_age_is_counted_from_the_oldest_unwritten_batch() -> None:
    """Before flush_seconds nothing is written; with nothing waiting nothing is ever written."""
    acknowledged: list[int] = []
    memory = Memory()
    observation = observing(load_settings(partitions=1, flush_seconds=60), memory)
    await observation.flush_when_due()
    await given_to(observation, acknowledged, 0)
    await observation.flush_when_due()
    assert (acknowledged, memory.flushes) == ([], [])


async def test_batches_of_a_partition_that_is_not_owned_are_left_alone() -> None:
    """They are neither folded nor acknowledged, and its state is let go."""
    acknowledged: list[int] = []
    owned = {0: Memory()}
    observation = Observation(ONE, lambda: owned, no_records)
    await given_to(observation, acknowledged, 0)
    assert list(observation.desks) == [0]
    owned.clear()
    await given_to(observation, acknowledged, 1)
    assert (list(observation.desks), acknowledged) == ([], [])


async def test_a_partition_that_comes_back_starts_from_its_stored_tables() -> None:
    """What was folded and not written is gone with the old ownership, and a replay below the cut counts once."""
    acknowledged: list[int] = []
    first = Memory()
    owned = {0: first}
    observation = Observation(ONE, lambda: owned, no_records)
    await given_to(observation, acknowledged, 0, 1)
    await asyncio.sleep(0.02)
    await observation.flush_when_due()
    await given_to(observation, acknowledged, 2)
    owned[0] = Memory(tables={name: dict(written(first, name)) for name in TABLES})
    await given_to(observation, acknowledged, 1, 2, 3)
    counts = observation.desks[0].observer.counts
    assert (counts.replayed, counts.accepted, observation.desks[0].observer.next_offset) == (1, 2, 4)


async def test_partitions_are_flushed_apart() -> None:
    """One that refuses does not keep the others from being acknowledged."""
    acknowledged: list[int] = []
    settings = load_settings(partitions=2, flush_seconds=0.01)
    zero, one = Memory(writes=False), Memory()
    observation = observing(settings, zero, one)
    await given_to(observation, acknowledged, 10, partition=0)
    await given_to(observation, acknowledged, 20, partition=1)
    await asyncio.sleep(0.02)
    await observation.flush_when_due()
    assert acknowledged == [20]


async def test_what_comes_during_a_write_waits_for_the_next() -> None:
    """A flush acknowledges what it has written, not what was folded while it was on its way."""
    acknowledged: list[int] = []
    observation: Observation
    memory = Memory()
    observation = observing(ONE, memory)
    await given_to(observation, acknowledged, 0)
    writing = asyncio.create_task(observation.flush(observation.desks[0]))
    await given_to(observation, acknowledged, 1)
    await writing
    assert acknowledged == [0]
    await observation.flush(observation.desks[0])
    assert acknowledged == [0, 1]
    assert [flush.offset for flush in memory.flushes] == [1, 2]


async def test_what_a_corrected_run_was_is_read_again_before_the_flush() -> None:
    """The flush waits for the records that corrections replace, also for those that come while it reads."""
    log = {0: batch_at(0, run="a"), 1: batch_at(1, run="b"), 2: batch_at(2, run="a"), 3: batch_at(3, run="b")}
    for offset in (2, 3):
        value = json.dumps({"agent_run_id": "ab"[offset - 2], "agent_count": 2, "revision": 1}).encode()
        log[offset] = replace(log[offset], values=[value])
    asked: list[tuple[int, Sequence[int]]] = []
    acknowledged: list[int] = []

    async def observe(*places: int) -> None:
        async def batches() -> AsyncIterator[tuple[Batch, Acknowledge]]:
            for place in places:
                yield log[place], partial(acknowledged.append, place)

        await observation.observe(batches())

    async def read(partition: int, offsets: Sequence[int]) -> Batch:
        asked.append((partition, offsets))
        if len(asked) == 1:
            await observe(3)
        return log[offsets[0]]

    memory = Memory()
    observation = Observation(ONE, lambda: {0: memory}, read)
    await observe(0, 1, 2)
    await observation.flush(observation.desks[0])
    assert asked == [(0, [0]), (0, [1])]
    assert [flush.offset for flush in memory.flushes] == [4]
    assert len(acknowledged) == 4
    cells = {key: value for key, value in written(memory, CELLS_TABLE).items() if key.startswith(b"0|global|agent")}
    runs = {CellKey.decode(key).value: decode_rows([value], 8)[2][0][0] for key, value in cells.items()}
    assert runs == {"1": 0, "2": 2}


def written(memory: Memory, table: str) -> dict[bytes, bytes]:
    """Give what a partition has stored in a table."""
    stored: dict[bytes, bytes] = {}
    for flush in memory.flushes:
        stored |= {key: value for key, value in flush.tables[table].items() if value is not None}
    assert table != CELLS_TABLE or stored
    return stored


async def test_the_state_of_a_lost_partition_is_dropped() -> None:
    """A partition that went to another worker keeps no memory here, also when no batch of it comes again."""
    owned = {0: Memory(), 1: Memory()}
    observation = Observation(ONE, lambda: owned, no_records)
    await given_to(observation, [], 0)
    await given_to(observation, [], 0, partition=1)
    assert sorted(observation.desks) == [0, 1]
    del owned[1]
    await observation.flush_when_due()
    assert sorted(observation.desks) == [0]


async def test_a_partition_whose_changelogs_have_swollen_is_written_whole_once() -> None:
    """The flush holds what no event has touched since, for the tables and for scaling.stats alike."""
    memory = Memory()
    observation = observing(load_settings(partitions=1, flush_events=1), memory)
    await given_to(observation, [], 0)
    memory.swollen = True
    await given_to(observation, [], 1)
    memory.swollen = False
    await given_to(observation, [], 2)
    first, whole, last = memory.flushes
    assert (first.whole, last.whole) == ((), ())
    assert set(whole.whole) == {STATS, *STATS_CHANGELOGS.values()}
    for table in TABLES:
        assert whole.tables[table].keys() >= first.tables[table].keys()
