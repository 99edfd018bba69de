"""Read single records of scaling.runs again, by their offsets: what corrected runs were before."""

import asyncio
from collections.abc import Iterator, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from models.batches import Batch
from models.errors import NotReachable
from models.settings import Settings
from models.topics import RUNS
from streams.kafka_security import connection

POLL_MS = 1000
PATIENCE = 60
"""Polls without a record and without progress after which Kafka counts as gone."""
FETCH_BYTES = 256 * 1024
"""Fetched at once: most records that are wanted lie alone."""
NEAR = 500
"""Records closer than this are read in one go: skipping over them costs less than another seek."""

log = structlog.get_logger(__name__)


class RunRecords:
    """Reads records of scaling.runs by their offsets, one request at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: AIOKafkaConsumer | None = None
        self._reading = asyncio.Lock()

    async def read(self, partition: int, offsets: Sequence[int]) -> Batch:
        """Read the records at some offsets, ascending; those that the topic no longer has are left out.

        Raises:
            NotReachable: Kafka stopped answering.
        """
        place = TopicPartition(RUNS, partition)
        async with self._reading:
            consumer = await self._open()
            consumer.assign([place])
            first = (await consumer.beginning_offsets([place]))[place]
            kept = [offset for offset in offsets if offset >= first]
            records = [
                record for span in spans(kept) for record in await _read_span(consumer, place, span, self._settings)
            ]
        if len(records) < len(offsets):
            log.warning(
                "corrections of runs that scaling.runs no longer has: in the live tables they go on counting as they "
                "were, until scaling rebuild",
                partition=partition,
                runs=len(offsets) - len(records),
            )
        return batch_of(partition, records)

    async def close(self) -> None:
        """Close the connection."""
        async with self._reading:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                await consumer.stop()

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                **connection(self._settings),
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=FETCH_BYTES,
            )
            await consumer.start()
            self._consumer = consumer
        return self._consumer


def spans(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Part ascending offsets into those that are read in one go."""
    span: list[int] = []
    for offset in offsets:
        if span and offset - span[-1] > NEAR:
            yield span
            span = []
        span.append(offset)
    if span:
        yield span


def batch_of(partition: int, records: Sequence[ConsumerRecord]) -> Batch:
    """Lay records of scaling.runs out as a batch."""
    return Batch(
        RUNS,
        partition,
        [record.offset for record in records],
        [record.timestamp for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.headers for record in records],
    )


async def _read_span(
    consumer: AIOKafkaConsumer, place: TopicPartition, offsets: Sequence[int], settings: Settings
) -> list[ConsumerRecord]:
    wanted, found, quiet = set(offsets), list[ConsumerRecord](), 0
    consumer.seek(place, offsets[0])
    while await consumer.position(place) <= offsets[-1]:
        fetched = (await consumer.getmany(place, timeout_ms=POLL_MS)).get(place, ())
        found += [record for record in fetched if record.offset in wanted]
        quiet = 0 if fetched else quiet + 1
        if quiet > PATIENCE:
            raise NotReachable(
                f"Kafka at {settings.kafka} does not give record {offsets[0]} of {RUNS}, partition {place.partition}: "
                "is the broker well?"
            )
    return found
