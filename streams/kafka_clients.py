"""Kafka read and asked from the outside: compacted topics from end to end, and a request with its reply."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError

from models.errors import NotReachable, StackError
from models.settings import Settings
from models.topics import MAX_MESSAGE_BYTES

POLL_MS = 500
PATIENCE = 30.0
"""Seconds without a record and without progress after which Kafka counts as gone."""


@asynccontextmanager
async def reader(
    settings: Settings, topic: str, partitions: Collection[int] | None = None
) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a consumer without a group at the beginning of a topic; it sees committed records only.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    with _explained(settings):
        known = await _partitions(settings, topic)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.kafka,
            isolation_level="read_committed",
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
    settings: Settings, topic: str, partitions: Collection[int] | None = None
) -> AsyncIterator[ConsumerRecord]:
    """Yield the committed records of a topic from its beginning to its end as it is now.

    Args:
        settings: Where Kafka is.
        topic: Any topic; a compacted one gives at least the newest record of each key.
        partitions: Which partitions; absent: all.

    Raises:
        NotReachable: Kafka does not answer, or stopped answering on the way.
        StackError: The topic does not exist.
    """
    async with reader(settings, topic, partitions) as consumer:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        quiet = 0.0
        while not await caught_up(consumer, ends):
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            quiet = 0.0 if batches else quiet + POLL_MS / 1000
            if quiet > PATIENCE:
                raise NotReachable(_unreachable(settings))
            for partition, records in batches.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record


async def request_reply(  # noqa: PLR0917 - two topics, one id, one payload: names say it at the call
    settings: Settings,
    request_topic: str,
    reply_topic: str,
    request_id: str,
    payload: bytes,
    timeout: float,  # noqa: ASYNC109 - how long to wait for another process, which the message names
) -> bytes:
    """Send a request and wait for the reply that carries the same key.

    Raises:
        NotReachable: Kafka does not answer, or nothing replied in time.
        StackError: A topic does not exist.
    """
    try:
        async with asyncio.timeout(timeout), reader(settings, reply_topic) as consumer:
            await consumer.seek_to_end()
            for partition in consumer.assignment():
                # The end must be known before the request is out, or a quick reply would lie before it.
                await consumer.position(partition)
            async with AIOKafkaProducer(
                bootstrap_servers=settings.kafka, max_request_size=MAX_MESSAGE_BYTES
            ) as producer:
                await producer.send_and_wait(request_topic, payload, key=request_id.encode())
            async for record in consumer:
                if record.key == request_id.encode() and record.value is not None:
                    return bytes(record.value)
    except TimeoutError:
        message = (
            f"no reply to {request_id} on {reply_topic} within {timeout:g} s: start the process that answers "
            f"{request_topic} (for allocations: scaling worker allocator)"
        )
        raise NotReachable(message) from None
    raise NotReachable(f"{reply_topic} ended before the reply to {request_id} came: ask again")


async def _partitions(settings: Settings, topic: str) -> set[int]:
    # A consumer of an unknown topic would wait for it 40 seconds long.
    client = AIOKafkaClient(bootstrap_servers=settings.kafka)
    try:
        await client.bootstrap()
        partitions: set[int] | None = (await client.fetch_all_metadata()).partitions_for_topic(topic)
    finally:
        await client.close()
    if not partitions:
        raise StackError(f"topic {topic} does not exist: create it with scaling topics create")
    return partitions


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    try:
        yield
    except KafkaConnectionError:
        raise NotReachable(_unreachable(settings)) from None


def _unreachable(settings: Settings) -> str:
    return f"Kafka at {settings.kafka} does not answer: start it with scaling up, or set SCALING_KAFKA"
