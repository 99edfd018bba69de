"""Owning partitions on a real broker: what was written is restored, and an earlier owner writes nothing more."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from agents.flush import Flush
from models.errors import Fenced
from models.settings import Settings
from models.topics import CELLS_TABLE, GRAMS_TABLE, STATS_CHANGELOGS, TABLES
from streams.ledger import Ledger
from streams.restore import read_changelogs

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]

PARTITION = 3
KEYS = (b"ledger-test-a", b"ledger-test-b")


def flush_of(offset: int, **tables: dict[bytes, bytes | None]) -> Flush:
    """Make a flush of these changes."""
    return Flush({table: tables.get(table, {}) for table in TABLES}, [], offset)


@pytest_asyncio.fixture(loop_scope="session")
async def clean(stack: Settings) -> AsyncIterator[Settings]:
    """Remove what the tests wrote, for whoever reads these tables next."""
    yield stack
    ledger = Ledger(stack)
    await ledger.take(1, [PARTITION])
    gone: dict[bytes, bytes | None] = dict.fromkeys(KEYS)
    await ledger.owned[PARTITION].write(flush_of(0, cells=gone, grams=gone))
    await ledger.release()


async def test_a_new_owner_restores_what_was_written_and_fences_the_old_one(clean: Settings) -> None:
    """A worker that was paused while its partition moved on is told so, and the tables stay those of the new owner."""
    old, new, last = Ledger(clean), Ledger(clean), Ledger(clean)
    await old.take(1, [PARTITION])
    assert await old.owned[PARTITION].write(
        flush_of(1, cells={KEYS[0]: b"1", KEYS[1]: b"1"}, grams={KEYS[0]: b"1"})
    )  # fmt: skip
    assert await old.owned[PARTITION].write(flush_of(2, cells={KEYS[0]: b"2", KEYS[1]: None}))

    await new.take(1, [PARTITION])
    tables = new.owned[PARTITION].tables
    assert {key: tables[CELLS_TABLE].get(key) for key in KEYS} == {KEYS[0]: b"2", KEYS[1]: None}
    assert tables[GRAMS_TABLE][KEYS[0]] == b"1"

    with pytest.raises(Fenced, match=r"partition 3 of scaling-stats has a newer owner"):
        await old.owned[PARTITION].write(flush_of(3, cells={KEYS[0]: b"stale"}))
    assert await new.owned[PARTITION].write(flush_of(3, cells={KEYS[0]: b"3"}))

    await last.take(1, [PARTITION])
    assert last.owned[PARTITION].tables[CELLS_TABLE][KEYS[0]] == b"3"
    for ledger in (old, new, last):
        await ledger.release()
    # aiokafka leaves the futures of a refused batch behind: let them be reported here, not wherever they are collected.
    gc.collect()


async def test_a_new_owner_reads_only_from_where_the_tables_were_written_whole(
    clean: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a restart takes as long as the tables are large, not as long as their changelogs are; owner after owner."""
    monkeypatch.setattr("streams.ledger.REWRITE_FLOOR", 0)
    monkeypatch.setattr("streams.ledger.REWRITE_AFTER", 6)
    place = TopicPartition(STATS_CHANGELOGS[CELLS_TABLE], PARTITION)
    everything: dict[TopicPartition, dict[bytes, bytes]] = {place: {}}
    before = (await read_changelogs(clean, everything))[place]
    ledger = Ledger(clean)
    await ledger.take(1, [PARTITION])
    owned = ledger.owned[PARTITION]
    assert await owned.write(flush_of(1, cells={KEYS[0]: b"0" * 10_000, KEYS[1]: b"gone"}))
    assert await owned.write(flush_of(2, cells={KEYS[1]: None}))
    for number in range(4):
        assert await owned.write(flush_of(3, cells={KEYS[0]: str(number).encode() * 10_000}))
    swollen = [owned.swollen]
    kept = {name: dict(table) for name, table in owned.tables.items()}
    changes: dict[str, dict[bytes, bytes | None]] = {name: {**table} for name, table in kept.items()}
    assert await owned.write(Flush(changes, [], 7, tuple(STATS_CHANGELOGS.values())))
    swollen.append(owned.swollen)
    assert swollen == [True, False]
    # The next flush says where the whole one began, and so does that of the next owner.
    assert await owned.write(flush_of(8, cells={KEYS[0]: b"8"}))
    await ledger.release()
    for generation in (2, 3):
        await ledger.take(generation, [PARTITION])
        owned = ledger.owned[PARTITION]
        assert owned.tables == {**kept, CELLS_TABLE: kept[CELLS_TABLE] | {KEYS[0]: b"8"}}
        tables: dict[TopicPartition, dict[bytes, bytes]] = {place: {}}
        restored = (await read_changelogs(clean, tables))[place]
        assert tables[place] == owned.tables[CELLS_TABLE]
        assert restored.begin is not None
        assert restored.begin.offsets[place.topic][PARTITION] > before.end + 6
        assert restored.size < 10_000 + before.size + 1000
        assert await owned.write(flush_of(9, cells={KEYS[0]: b"8"}))
    await ledger.release()


async def test_a_partition_that_was_given_up_takes_no_flush(clean: Settings) -> None:
    """After the release a write says no instead of failing, and the next owner does not see it."""
    ledger = Ledger(clean)
    await ledger.take(1, [PARTITION])
    owned = ledger.owned[PARTITION]
    await ledger.release()
    assert not await owned.write(flush_of(9, cells={KEYS[0]: b"late"}))
    await ledger.take(2, [PARTITION])
    assert ledger.owned[PARTITION].tables[CELLS_TABLE].get(KEYS[0]) != b"late"
    await ledger.release()


async def test_a_partition_shows_only_once_its_tables_are_restored(clean: Settings) -> None:
    """An agent that was handed a batch meanwhile would take empty tables for the state, and acknowledge the batch."""
    ledger = Ledger(clean)
    await ledger.take(1, [PARTITION])
    assert await ledger.owned[PARTITION].write(flush_of(1, cells={KEYS[0]: b"1"}))

    seen: list[bytes | None] = []
    taking = asyncio.create_task(ledger.take(2, [PARTITION]))
    while not taking.done():
        await asyncio.sleep(0)
        seen.extend(owned.tables[CELLS_TABLE].get(KEYS[0]) for owned in ledger.owned.values())
    assert set(seen) <= {b"1"}
    assert ledger.owned[PARTITION].tables[CELLS_TABLE][KEYS[0]] == b"1"
    await ledger.release()


async def test_what_is_released_during_its_restore_is_not_shown(clean: Settings) -> None:
    """A revocation may overtake the restore: the partitions are another worker's then, and their producers closed."""
    ledger = Ledger(clean)
    taking = asyncio.create_task(ledger.take(1, [PARTITION]))
    while not taking.done():
        await asyncio.sleep(0)
        await ledger.release()
    await taking
    assert not ledger.owned
    await ledger.take(1, [PARTITION])
    assert set(ledger.owned) == {PARTITION}
    await ledger.release()


async def test_after_a_write_that_failed_nothing_is_written_on_top(clean: Settings) -> None:
    """What a failed flush held is nowhere else: later flushes of the same owner are refused, the next owner replays."""
    ledger = Ledger(clean)
    await ledger.take(1, [PARTITION])
    owned = ledger.owned[PARTITION]
    with pytest.raises(KafkaError):
        await owned.write(flush_of(5, cells={KEYS[0]: b"x" * (40 * 1024 * 1024)}))
    assert not await owned.write(flush_of(6, cells={KEYS[1]: b"after"}))
    await ledger.release()
    await ledger.take(2, [PARTITION])
    assert ledger.owned[PARTITION].tables[CELLS_TABLE].get(KEYS[1]) != b"after"
    await ledger.release()
    gc.collect()
