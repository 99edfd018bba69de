"""Compute the live tables anew from ClickHouse and hand them to their owners, while ingestion goes on.

For each partition the newest revision of each run with a record below a cut is read from the archive and folded by a
fresh observer. Then the partition is taken over by its transactional id, so that its owner cannot write any more;
what the owner has folded since the cut is folded from the topic up to the owner's own offset; and the tables are
written as one transaction, as every flush is. The owner stops as soon as it finds itself fenced, its supervisor starts
it again, and it goes on from the new tables at the same offset. If it comes back before the transaction is written,
nothing was changed, and the partition is tried again.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import structlog
from aiokafka import TopicPartition

from agents.decode import EventDecoder
from agents.observer import CUT, Cut, Observer, read_cut
from agents.restated import Difference, differences, replacing, runs_in
from models.errors import Fenced, StackError
from models.events import RunEvent
from models.settings import Settings
from models.topics import CELLS_TABLE, GRAMS_TABLE, RUNS, STATS_APP, STATS_CHANGELOGS
from streams.clickhouse import query
from streams.cut import below_condition
from streams.cut import read_cut as read_archive_cut
from streams.kafka_clients import reader
from streams.ledger import Ledger, Tables
from streams.restore import Restored, read_changelogs
from streams.run_records import RunRecords, batch_of
from streams.topics import connected_admin, wait_for_coordinator

SECONDS = 600
MOST_RUNS = 10_000_000
"""A partition with more runs is refused: its rows would take several gigabytes."""
CHUNK = 8000
ATTEMPTS = 5
POLL_MS = 1000
PATIENCE = 30.0
"""Seconds to wait for a broker that does not answer."""

log = structlog.get_logger(__name__)

Progress = Callable[[int, int, int], object]
"""Told a partition, how many of its runs have been folded, and how many there are."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came of rebuilding a partition.

    Attributes:
        partition: Of scaling.runs.
        runs: How many runs its tables hold.
        offset: The first offset that is not in.
        differences: By context, what differs from the tables as they were.
        written: Whether the new tables are in force.
    """

    partition: int
    runs: int
    offset: int
    differences: list[Difference]
    written: bool


async def rebuild(
    settings: Settings,
    partitions: Iterable[int],
    *,
    dry_run: bool = False,
    progress: Progress = lambda _partition, _done, _total: None,
) -> list[Rebuilt]:
    """Rebuild the tables of partitions.

    Args:
        settings: Where Kafka and ClickHouse are; they must read events as the workers' settings do.
        partitions: Of scaling.runs.
        dry_run: Only compare; the owners are not disturbed.
        progress: Told how far the work is.

    Raises:
        StackError: The tables were built under other settings, or an owner, or the archive, is in the way.
        QueryError: ClickHouse refused a query.
        NotReachable: Kafka or ClickHouse does not answer.
    """
    records, found = RunRecords(settings), dict[int, Rebuilt]()
    wanted = sorted(set(partitions))
    try:
        for attempt in range(ATTEMPTS):
            left = [partition for partition in wanted if partition not in found]
            if not left:
                break
            await asyncio.sleep(attempt)
            drafts = [await _draft(settings, partition, progress) for partition in left]
            # All at once: a worker that owns several partitions then stops once.
            finish = _compare if dry_run else _hand_over
            for rebuilt in await asyncio.gather(*(finish(settings, draft, records) for draft in drafts)):
                if rebuilt is not None:
                    found[rebuilt.partition] = rebuilt
    finally:
        await records.close()
    missing = [partition for partition in wanted if partition not in found]
    if missing:
        raise StackError(
            f"partitions {missing} of {RUNS} could not be rebuilt in {ATTEMPTS} attempts: either their owners are back "
            "before the tables are written, or the archive does not catch up with corrections; they are as they were"
        )
    return [found[partition] for partition in wanted]


@dataclass(frozen=True, slots=True)
class Draft:
    """A partition whose runs have been folded from the archive, and its tables as they are, which the owner changes.

    `places` says which changelog partition fills which table, and `read` up to where.
    """

    partition: int
    observer: Observer
    tables: Tables
    places: Mapping[TopicPartition, dict[bytes, bytes]]
    read: Mapping[TopicPartition, Restored]


async def _draft(settings: Settings, partition: int, progress: Progress) -> Draft:
    begin = min(await _committed(settings, partition), await _archived(settings, partition))
    observer = await asyncio.to_thread(_restated, settings, partition, begin, progress)
    tables: Tables = {name: {} for name in STATS_CHANGELOGS}
    places = {TopicPartition(topic, partition): tables[name] for name, topic in STATS_CHANGELOGS.items()}
    return Draft(partition, observer, tables, places, await read_changelogs(settings, places))


async def _compare(settings: Settings, draft: Draft, records: RunRecords) -> Rebuilt | None:
    """Compare without disturbing the owner; None where the archive must be read again."""
    if not await _caught_up(settings, draft, records):
        return None
    flush = draft.observer.drain()
    found = differences(draft.tables, flush.tables)
    return Rebuilt(draft.partition, runs_in(flush.tables[GRAMS_TABLE]), flush.offset, found, written=False)


async def _hand_over(settings: Settings, draft: Draft, records: RunRecords) -> Rebuilt | None:
    """Take the partition from its owner, catch up, and write; None where it must be tried again."""
    owned = None
    try:
        owned = await Ledger(settings).fence(draft.partition)
        await read_changelogs(settings, draft.places, draft.read)
        if not await _caught_up(settings, draft, records):
            return None
        flush = replacing(draft.observer.drain(), draft.tables, settings.partitions)
        found = differences(draft.tables, flush.tables)
        await owned.write(flush)
    except Fenced:
        log.warning("the owner came back first: trying again", partition=draft.partition)
        return None
    finally:
        if owned is not None:
            await owned.close()
    return Rebuilt(draft.partition, runs_in(flush.tables[GRAMS_TABLE]), flush.offset, found, written=True)


async def _caught_up(settings: Settings, draft: Draft, records: RunRecords) -> bool:
    """Fold what lies between the archive's cut and the owner's; tell whether every correction could be carried out."""
    observer, partition = draft.observer, draft.partition
    await _replay(settings, observer, partition, _cut(draft.tables, partition, settings).offset)
    while replaced := observer.replaced:
        observer.take_out(replaced, await records.read(partition, replaced))
    # What the topic no longer has was corrected after the archive was read: by now the archive may have it.
    return not observer.counts.out_of_reach


async def _replay(settings: Settings, observer: Observer, partition: int, end: int) -> None:
    place = TopicPartition(RUNS, partition)
    if observer.next_offset < end:
        async with reader(settings, RUNS, [partition]) as consumer:
            first = (await consumer.beginning_offsets([place]))[place]
            if observer.next_offset < first:
                raise StackError(
                    f"the archive ends at offset {observer.next_offset} of {RUNS}, partition {partition}, which is "
                    f"retained from {first} on only: let the archive worker catch up first"
                )
            consumer.seek(place, observer.next_offset)
            while await consumer.position(place) < end:
                fetched = (await consumer.getmany(place, timeout_ms=POLL_MS, max_records=CHUNK)).get(place, ())
                fresh = [record for record in fetched if record.offset < end]
                if fresh:
                    observer.observe(batch_of(partition, fresh))
    observer.go_on_at(end)


def _restated(settings: Settings, partition: int, begin: int, progress: Progress) -> Observer:
    """Fold the newest revision of each run below an offset, as the archive has it."""
    observer = Observer(partition, settings.model_copy(update={"reject_share": 1.0}), EventDecoder(settings))
    rows = _read(settings, partition, begin)
    done = 0
    for chunk in rows.to_batches(max_chunksize=CHUNK):
        columns = {name: chunk.column(name).to_pylist() for name in chunk.schema.names}
        completed = np.array(columns.pop("completed_ms"), dtype=np.float64) / 1000
        contents, offsets = columns.pop("content_hash"), columns.pop("offset")
        observer.restate(list(_events(columns)), completed, contents, offsets)
        done += len(offsets)
        progress(partition, done, len(rows))
    observer.go_on_at(begin)
    return observer


def _read(settings: Settings, partition: int, begin: int) -> pa.Table:
    below, parameters = below_condition({partition: begin})
    sql = files("streams").joinpath("sql", "rebuild.sql").read_text(encoding="utf-8").replace("{below}", below)
    body = query(
        settings,
        sql,
        fmt="Arrow",
        parameters=parameters | {"partition": partition},
        seconds=SECONDS,
        rows=MOST_RUNS,
        limits={"output_format_arrow_string_as_string": 1},
    )
    return pa.ipc.open_file(pa.BufferReader(body)).read_all()


def _events(columns: Mapping[str, list[Any]]) -> Iterator[RunEvent]:
    """Make events of columns; they were accepted before, so they are not validated again."""
    names = tuple(columns)
    for row in zip(*columns.values(), strict=True):
        fields = dict(zip(names, row, strict=True))
        fields["project_characteristics"] = msgspec.json.decode(fields["project_characteristics"]) or None
        fields["success"] = None if fields["success"] is None else bool(fields["success"])
        yield RunEvent(**fields)


def _cut(tables: Tables, partition: int, settings: Settings) -> Cut:
    stored = tables[CELLS_TABLE].get(f"{partition}|{CUT}".encode())
    if stored is None:
        return Cut(0, settings.validation_hash)
    cut = read_cut(stored)
    if cut.settings_hash != settings.validation_hash:
        raise StackError(
            f"the tables of partition {partition} were built under other settings (hash {cut.settings_hash}, here "
            f"{settings.validation_hash}): rebuild with the settings of the workers"
        )
    return cut


async def _archived(settings: Settings, partition: int) -> int:
    return (await asyncio.to_thread(read_archive_cut, settings)).get(partition, 0)


async def _committed(settings: Settings, partition: int) -> int:
    """Read the offset that the stats workers have acknowledged: their tables hold at least what is below."""
    async with connected_admin(settings, PATIENCE) as admin:
        await wait_for_coordinator(admin, STATS_APP, PATIENCE)
        offsets = await admin.list_consumer_group_offsets(STATS_APP)
    found = offsets.get(TopicPartition(RUNS, partition))
    return max(0, found.offset) if found is not None else 0
