"""Restore tables from their changelogs: from the newest point after which everything was written once more.

An owner that has appended a few times the size of its tables writes them whole, in one flush. In each later flush
the last record of every changelog says in a header where that began. So a reader looks at the end of a changelog first,
and reads no more than a few times the size of the tables, whether the broker has compacted it or not. Any such header
names a place to begin at, however old it is; without one the reader begins at the beginning.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from models.settings import Settings
from models.topics import STATS
from streams.kafka_clients import reader
from streams.kafka_security import connection

BEGIN_HEADER = "scaling-begin"
TAILS = (16, 2048, 65_536, 1_048_576)
"""Offsets at the end of a partition that are searched for the header, one after the other, until it is found."""
RECORDS = 10_000
POLL_MS = 200

log = structlog.get_logger(__name__)

Table = dict[bytes, bytes]
Places = dict[TopicPartition, int]


class Begin(msgspec.Struct, frozen=True):
    """Where everything that a writer has begins, by topic and partition.

    `writer` is its source partition.
    """

    writer: int
    offsets: dict[str, dict[int, int]]

    def offset(self, place: TopicPartition) -> int:
        """Give the offset in a partition; 0, which always holds, where it is not said."""
        return self.offsets.get(place.topic, {}).get(place.partition, 0)

    @property
    def places(self) -> Places:
        """List the offsets by partition."""
        return {
            TopicPartition(topic, partition): offset
            for topic, offsets in self.offsets.items()
            for partition, offset in offsets.items()
        }

    def within(self, ends: Mapping[TopicPartition, int]) -> "Begin":
        """Leave out what lies beyond the ends: those topics are not the ones that were written."""
        return begin_of(self.writer, {place: at for place, at in self.places.items() if 0 <= at < ends.get(place, 0)})


@dataclass(frozen=True, slots=True)
class Restored:
    """What was read of a changelog partition: at least up to which offset, how many bytes, and its newest header."""

    end: int
    size: int
    begin: Begin | None


def begin_of(writer: int, places: Mapping[TopicPartition, int]) -> Begin:
    """Say where everything of a writer begins."""
    offsets: dict[str, dict[int, int]] = {}
    for place, offset in places.items():
        offsets.setdefault(place.topic, {})[place.partition] = offset
    return Begin(writer, offsets)


def begin_header(begin: Begin) -> tuple[str, bytes]:
    """Make the header that says so."""
    return BEGIN_HEADER, msgspec.json.encode(begin)


def read_begin(record: ConsumerRecord) -> Begin | None:
    """Read the header of a record, where it has one; one that cannot be read says nothing."""
    for name, value in record.headers:
        if name == BEGIN_HEADER:
            try:
                return msgspec.json.decode(value, type=Begin)
            except (msgspec.MsgspecError, TypeError) as error:
                log.warning("header unreadable", topic=record.topic, offset=record.offset, reason=str(error))
    return None


async def find_begins(
    consumer: AIOKafkaConsumer, writers: Mapping[TopicPartition, Collection[int]]
) -> dict[TopicPartition, dict[int, Begin]]:
    """Search the ends of partitions for the newest header of each of their writers.

    Args:
        consumer: It is assigned these partitions; its positions are moved.
        writers: Who writes into each partition.
    """
    ends = await consumer.end_offsets(list(writers))
    found: dict[TopicPartition, dict[int, Begin]] = {place: {} for place in writers}
    for tail in TAILS:
        missing = {place for place in ends if not found[place].keys() >= set(writers[place])}
        for place in missing:
            consumer.seek(place, max(0, ends[place] - tail))
        async for place, records in read_to(consumer, {place: ends[place] for place in missing}):
            for record in records:
                begin = read_begin(record)
                # A begin behind its own record is one of another topic that had this name.
                if begin is not None and 0 <= begin.offset(place) < record.offset:
                    found[place][begin.writer] = begin
        # What has been read from its beginning holds no more.
        ends = {place: end for place, end in ends.items() if end > tail}
    return found


def first_offset(place: TopicPartition, begins: Mapping[int, Begin], writers: Collection[int]) -> int:
    """Give the offset from which on a partition holds everything of all its writers; 0 where one has not said it."""
    if not begins.keys() >= set(writers):
        return 0
    return min(begins[writer].offset(place) for writer in writers)


async def stats_begins(settings: Settings, partitions: Collection[int]) -> dict[TopicPartition, int]:
    """Find from where on partitions of scaling.stats hold everything of every source partition.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    writers = range(settings.partitions)
    async with reader(settings, STATS, partitions) as consumer:
        found = await find_begins(consumer, {TopicPartition(STATS, number): writers for number in partitions})
    return {place: first_offset(place, begins, writers) for place, begins in found.items()}


async def read_changelogs(
    settings: Settings,
    tables: Mapping[TopicPartition, Table],
    read: Mapping[TopicPartition, Restored] | None = None,
    *,
    headed: bool = True,
) -> dict[TopicPartition, Restored]:
    """Bring tables up to the end of their changelogs, as of now and of whole flushes.

    Args:
        settings: Where Kafka is.
        tables: The table of each changelog partition, whose number is its writer's; it is changed in place.
        read: An earlier answer of this function for the same tables, to go on from.
        headed: Whether they are written whole now and then.
    """
    consumer = AIOKafkaConsumer(
        **connection(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=settings.fetch_bytes,
    )
    await consumer.start()
    try:
        consumer.assign(list(tables))
        begins: Mapping[TopicPartition, Begin] = {}
        if read is not None:
            starts = {place: known.end for place, known in read.items()}
        else:
            begins = await _own_begins(consumer, tables) if headed else {}
            starts = {place: begins[place].offset(place) if place in begins else 0 for place in tables}
        for place, offset in starts.items():
            consumer.seek(place, offset)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(tables))
        records, sizes = 0, dict.fromkeys(tables, 0)
        async for place, found in read_to(consumer, ends):
            records += len(found)
            sizes[place] += sum(len(record.key) + len(record.value or b"") for record in found)
            apply(tables[place], ((record.key, record.value) for record in found))
    finally:
        await consumer.stop()
    log.info("tables restored", partitions=sorted({place.partition for place in tables}), records=records)
    return {place: Restored(end, sizes[place], begins.get(place)) for place, end in ends.items()}


async def _own_begins(consumer: AIOKafkaConsumer, places: Collection[TopicPartition]) -> dict[TopicPartition, Begin]:
    """Find the newest header of each changelog partition, without what it says of topics that have been cut off."""
    found = await find_begins(consumer, {place: (place.partition,) for place in places})
    begins = {place: each[place.partition] for place, each in found.items() if place.partition in each}
    named = {place for begin in begins.values() for place in begin.places}
    ends = await consumer.end_offsets(list(named))
    return {place: begin.within(ends) for place, begin in begins.items()}


async def read_to(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, Sequence[ConsumerRecord]]]:
    """Yield what partitions have from their positions up to ends, and what comes along from beyond."""
    behind = [place for place, end in ends.items() if await consumer.position(place) < end]
    while behind:
        fetched = await consumer.getmany(*behind, timeout_ms=POLL_MS, max_records=RECORDS)
        for place, records in fetched.items():
            yield place, records
        behind = [place for place in behind if await consumer.position(place) < ends[place]]


def apply(table: Table, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Make changes in a table; None removes a key."""
    for key, value in changes:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
