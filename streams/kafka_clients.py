"""Kafka read from the outside: compacted topics from end to end."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from models.errors import StackError
from models.settings import Settings
from models.topics import MAX_MESSAGE_BYTES
from streams.kafka_security import connected_client, connection, explained, unreachable

POLL_MS = 500
PATIENCE = 30.0
"""Seconds without a record and without progress after which Kafka counts as gone."""


@asynccontextmanager
async def reader(
    settings: Settings, topic: str, partitions: Collection[int] | None = None, *, committed: bool = True
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group at the beginning of a topic; it sees committed records only, or all.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    with explained(settings):
        known = await _partitions(settings, topic)
        consumer = AIOKafkaConsumer(
            **connection(settings),
            isolation_level="read_committed" if committed else "read_uncommitted",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        )
        try:
            await consumer.start()
            consumer.assign([TopicPartition(topic, one) for one in (known if partitions is None else partitions)])
            yield consumer
        finally:
            await consumer.stop()


async def caught_up(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    """Tell whether every partition has been read up to its end offset.

    Positions tell, not counts: transaction markers and compaction leave offsets that no record has.
    """
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


async def read_compacted(
    settings: Settings,
    topic: str,
    partitions: Collection[int] | None = None,
    begin: Mapping[TopicPartition, int] | None = None,
    *,
    committed: bool = True,
) -> AsyncIterator[ConsumerRecord]:
    """Yield the committed records of a topic from its beginning to its end as it is now.

    The end is where the first transaction begins that is not over: what others committed behind it is not there yet.

    Args:
        settings: Where Kafka is.
        topic: Any topic; a compacted one gives at least the newest record of each key.
        partitions: Which partitions; absent: all.
        begin: Where partitions begin; absent: at the beginning.
        committed: False gives every record that was written, also in transactions that failed or are not over.

    Raises:
        NotReachable: Kafka does not answer, or stopped answering on the way.
        StackError: The topic does not exist.
    """
    async with reader(settings, topic, partitions, committed=committed) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        for place, offset in (begin or {}).items():
            consumer.seek(place, offset)
        quiet = 0.0
        while not await caught_up(consumer, ends):
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            quiet = 0.0 if batches else quiet + POLL_MS / 1000
            if quiet > PATIENCE:
                raise unreachable(settings)
            for partition, records in batches.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record


async def _partitions(settings: Settings, topic: str) -> set[int]:
    # A consumer of an unknown topic would wait for it 40 seconds long.
    async with connected_client(settings) as client:
        partitions: set[int] | None = (await client.fetch_all_metadata()).partitions_for_topic(topic)
    if not partitions:
        raise StackError(f"topic {topic} does not exist: create it with scaling topics create")
    return partitions
