"""Own source partitions: fence out earlier owners, restore their tables, write flushes as transactions.

A flush of a partition, that is its changed table entries, the snapshots for the refitter, its dead letters and the
offset up to which all of them hold, is one Kafka transaction. So a crash at any moment leaves a whole number of
flushes, a replay of events below the stored offset is skipped, and a worker that was paused while its partitions
moved on is fenced by the transactional id and can overwrite nothing.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from agents.flush import Flush
from models.errors import Fenced
from models.settings import Settings
from models.topics import STATS_APP, STATS_CHANGELOGS
from streams.kafka_security import connection

BATCH_BYTES = 768 * 1024
PATIENCE_MS = 120_000
RESTORE_RECORDS = 10_000

log = structlog.get_logger(__name__)

Tables = dict[str, dict[bytes, bytes]]
Entry = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers of a record to send."""

Written = Callable[[Flush, float], None]
"""Told of each flush that was written, and how many seconds that took."""


def untold(_flush: Flush, _seconds: float) -> None:
    """Keep it for oneself."""


class OwnedPartition:
    """One source partition that this worker owns: its stored tables and the only producer that may change them."""

    def __init__(
        self,
        partition: int,
        producer: AIOKafkaProducer,
        app: str,
        changelogs: Mapping[str, str],
        written: Written = untold,
    ) -> None:
        self.tables: Tables = {table: {} for table in changelogs}
        self.restored: dict[str, int] = {}
        self._app = app
        self._changelogs = changelogs
        self._partition = partition
        self._closed = False
        self._producer = producer
        self._writing = asyncio.Lock()
        self._written = written

    async def write(self, flush: Flush) -> bool:
        """Write a flush, all or nothing, and then show it in the tables.

        Returns:
            Whether it was written; not after `close`, when the next owner reads the same events again.

        Raises:
            Fenced: Another worker owns the partition now.
        """
        async with self._writing:
            if self._closed:
                return False
            began = time.monotonic()
            try:
                async with self._producer.transaction():
                    await self._send(flush)
            except BaseException as error:
                # What was drained for this flush is nowhere else: no later flush may be written on top of it.
                self._closed = True
                if not isinstance(error, ProducerFenced | InvalidProducerEpoch):
                    raise
                raise Fenced(
                    f"partition {self._partition} of {self._app} has a newer owner: this worker stops; "
                    "its supervisor starts it again"
                ) from None
            for name, changes in flush.tables.items():
                _apply(self.tables[name], changes.items())
            self._written(flush, time.monotonic() - began)
            return True

    async def close(self) -> None:
        """Finish a write under way and close the producer."""
        async with self._writing:
            self._closed = True
            await self._producer.stop()

    async def _send(self, flush: Flush) -> None:
        by_target: defaultdict[tuple[str, int], list[Entry]] = defaultdict(list)
        for name, changes in flush.tables.items():
            by_target[self._changelogs[name], self._partition] = [(key, value, []) for key, value in changes.items()]
        for record in flush.records:
            by_target[record.topic, record.partition].append((record.key, record.value, list(record.headers)))
        await asyncio.gather(*(self._send_all(target, entries) for target, entries in by_target.items() if entries))

    async def _send_all(self, target: tuple[str, int], entries: Iterable[Entry]) -> None:
        """Send records of one partition in order as Kafka record batches, a hundredth of the cost of single sends."""
        topic, partition = target
        delivered: list[asyncio.Future[Any]] = []
        batch = self._producer.create_batch()
        for key, value, headers in entries:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                delivered.append(await self._producer.send_batch(batch, topic, partition=partition))
                batch = self._producer.create_batch()
                # An empty batch takes a record of any size; the broker's limit decides.
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            delivered.append(await self._producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*delivered)


class Ledger:
    """The partitions that this worker owns.

    Args:
        settings: Where Kafka is.
        app: Names the transactional ids: one owner for each partition of an app.
        changelogs: The topic behind each table.
        written: Told of each flush that was written.
    """

    def __init__(
        self,
        settings: Settings,
        app: str = STATS_APP,
        changelogs: Mapping[str, str] = STATS_CHANGELOGS,
        written: Written = untold,
    ) -> None:
        self._settings = settings
        self._app = app
        self._changelogs = changelogs
        self._written = written
        self._held: dict[int, OwnedPartition] = {}
        self._owned: Mapping[int, OwnedPartition] = {}
        self._generation: int | None = None
        self._taking = asyncio.Lock()

    @property
    def owned(self) -> Mapping[int, OwnedPartition]:
        """The owned partitions whose tables have been restored.

        Faust may hand out batches while it still rebalances: an agent that met a half-restored table would take it
        for the state, and acknowledge what it did not do. Such a batch is left alone; Faust delivers it again.
        """
        return self._owned

    async def take(self, generation: int, partitions: Iterable[int]) -> None:
        """Own exactly these partitions, once a generation: fence earlier owners, then restore the tables."""
        async with self._taking:
            if generation == self._generation:
                return
            await self.release()
            wanted = sorted(partitions)
            held = dict(zip(wanted, await asyncio.gather(*map(self.fence, wanted)), strict=True))
            self._held = held
            await self._restore(held)
            # A release during the restore took them away again.
            if self._held is held:
                self._owned, self._generation = held, generation

    async def release(self) -> None:
        """Give up all partitions; what was not flushed is read again by the next owner."""
        held, self._held, self._owned, self._generation = self._held, {}, {}, None
        if held:
            log.info("partitions released", partitions=sorted(held))
        await asyncio.gather(*(partition.close() for partition in held.values()), return_exceptions=True)

    async def fence(self, partition: int) -> OwnedPartition:
        """Become the owner of a partition: from now on no earlier one can write. Its tables are not read yet."""
        producer = AIOKafkaProducer(
            **connection(self._settings),
            transactional_id=f"{self._app}-{partition}",
            max_batch_size=BATCH_BYTES,
            max_request_size=self._settings.max_event_bytes + BATCH_BYTES,
            request_timeout_ms=PATIENCE_MS,
            transaction_timeout_ms=PATIENCE_MS,
        )
        await producer.start()
        return OwnedPartition(partition, producer, self._app, self._changelogs, self._written)

    async def _restore(self, held: Mapping[int, OwnedPartition]) -> None:
        if not held:
            return
        tables = {
            TopicPartition(topic, number): owned.tables[name]
            for number, owned in held.items()
            for name, topic in self._changelogs.items()
        }
        for (topic, number), end in (await read_changelogs(self._settings, tables)).items():
            held[number].restored[topic] = end - 1


async def read_changelogs(
    settings: Settings,
    tables: Mapping[TopicPartition, dict[bytes, bytes]],
    begin: Mapping[TopicPartition, int] | None = None,
) -> dict[TopicPartition, int]:
    """Bring tables up to the end of their changelogs, as of now and of whole flushes.

    Args:
        settings: Where Kafka is.
        tables: The table of each changelog partition; it is changed in place.
        begin: Where to begin, an earlier answer of this function for the same tables; absent: at the beginning.

    Returns:
        The offsets up to which the tables have been read.
    """
    known = begin or {}
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
        await consumer.seek_to_beginning()
        for partition, offset in known.items():
            consumer.seek(partition, offset)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(tables))
        behind = {partition for partition, end in ends.items() if end > known.get(partition, 0)}
        records = 0
        while behind:
            fetched = await consumer.getmany(*behind, timeout_ms=200, max_records=RESTORE_RECORDS)
            for partition, found in fetched.items():
                records += len(found)
                _apply(tables[partition], ((record.key, record.value) for record in found))
            behind = {partition for partition in behind if await consumer.position(partition) < ends[partition]}
    finally:
        await consumer.stop()
    log.info("tables restored", partitions=sorted({place.partition for place in tables}), records=records)
    return ends


def _apply(table: dict[bytes, bytes], changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Make changes in a table; None removes a key."""
    for key, value in changes:
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
