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
from aiokafka import TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from agents.flush import Flush
from models.errors import Fenced
from models.settings import Settings
from models.topics import STATS_APP, STATS_CHANGELOGS, WRITTEN_BESIDE
from streams.restore import Restored, apply, begin_header, begin_of, read_changelogs
from streams.transactions import TransactionalProducer

BATCH_BYTES = 768 * 1024
PATIENCE_MS = 120_000
REWRITE_AT = 3
"""A partition's tables are written whole once their changelogs hold so many times their size."""
REWRITE_FLOOR = 8 * 1024 * 1024
"""Bytes that the changelogs may hold beyond that: small tables are not worth it."""
REWRITE_AFTER = 10
"""Flushes that come first after a start: if writing everything fails, the worker still goes on after the next one."""
STEPS = 4
"""Partitions grow alike: a quarter of their size more or less keeps them from being written whole at the same time."""

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
        producer: TransactionalProducer,
        app: str,
        changelogs: Mapping[str, str],
        written: Written = untold,
    ) -> None:
        self.tables: Tables = {table: {} for table in changelogs}
        self.restored: dict[str, int] = {}
        self._begins: dict[TopicPartition, int] = {}
        self._size = self._appended = self._flushes = 0
        self._app = app
        self._changelogs = changelogs
        self._partition = partition
        self._closed = False
        self._producer = producer
        self._writing = asyncio.Lock()
        self._written = written

    @property
    def swollen(self) -> bool:
        """Whether the changelogs have grown so far beyond the tables that everything should be written once more."""
        times = REWRITE_AT + self._partition % STEPS / STEPS
        return self._flushes >= REWRITE_AFTER and self._appended > times * self._size + REWRITE_FLOOR

    def take_up(self, restored: Mapping[str, Restored]) -> None:
        """Take note of what was read of each table's changelog, and of where earlier owners wrote everything."""
        self.restored = {self._changelogs[table]: found.end - 1 for table, found in restored.items()}
        self._size = sum(size_of(table.items()) for table in self.tables.values())
        self._appended = sum(found.size for found in restored.values())
        for found in restored.values():
            for place, offset in found.begin.places.items() if found.begin is not None else ():
                self._begins[place] = max(offset, self._begins.get(place, 0))

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
                    first = await self._send(flush)
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
                apply(self.tables[name], changes.items())
            self._note(flush, first)
            self._written(flush, time.monotonic() - began)
            return True

    async def close(self) -> None:
        """Finish a write under way and close the producer."""
        async with self._writing:
            self._closed = True
            await self._producer.stop()

    def _note(self, flush: Flush, first: Mapping[TopicPartition, int]) -> None:
        """Take note of how much was appended and, where it was everything, of where that begins."""
        appended = sum(size_of(changes.items()) for changes in flush.tables.values())
        self._appended += appended
        self._flushes += 1
        if flush.whole:
            log.info("tables written whole", partition=self._partition, bytes=appended, appended=self._appended)
            self._size = self._appended = appended
            self._begins.update({place: first[place] for place in first if place.topic in flush.whole})

    async def _send(self, flush: Flush) -> dict[TopicPartition, int]:
        """Send everything; give the first offset in each partition."""
        by_place: defaultdict[TopicPartition, list[Entry]] = defaultdict(list)
        for name, changes in flush.tables.items():
            place = TopicPartition(self._changelogs[name], self._partition)
            by_place[place] = [(key, value, []) for key, value in changes.items()]
        for record in flush.records:
            place = TopicPartition(record.topic, record.partition)
            by_place[place].append((record.key, record.value, list(record.headers)))
        places = [place for place, entries in by_place.items() if entries]
        everywhere = begin_header(begin_of(self._partition, self._begins))
        changelogs = set(self._changelogs.values())
        for place in self._begins.keys() & set(places):
            # The next owner reads the changelogs; who reads another topic only asks for the one place.
            here = begin_header(begin_of(self._partition, {place: self._begins[place]}))
            by_place[place][-1][2].append(everywhere if place.topic in changelogs else here)
        offsets = await asyncio.gather(*(self._send_all(place, by_place[place]) for place in places))
        return {place: offset for place, offset in zip(places, offsets, strict=True) if offset >= 0}

    async def _send_all(self, place: TopicPartition, entries: Iterable[Entry]) -> int:
        """Send records of one partition in order as Kafka record batches, a hundredth of the cost of single sends.

        Returns:
            The offset of the first one; -1 where the broker did not say it.
        """
        topic, partition = place
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
        acknowledged = await asyncio.gather(*delivered)
        return int(acknowledged[0].offset)


class Ledger:
    """The partitions that this worker owns.

    Args:
        settings: Where Kafka is.
        app: Names the transactional ids: one owner for each partition of an app.
        changelogs: The topic behind each table.
        written: Told of each flush that was written.
        headed: Whether some flushes are whole, so that changelogs have headers that say where to begin.
    """

    def __init__(
        self,
        settings: Settings,
        app: str = STATS_APP,
        changelogs: Mapping[str, str] = STATS_CHANGELOGS,
        written: Written = untold,
        *,
        headed: bool = True,
    ) -> None:
        self._headed = headed
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
        producer = TransactionalProducer(
            self._settings,
            f"{self._app}-{partition}",
            own=[TopicPartition(topic, partition) for topic in self._changelogs.values()],
            topics=WRITTEN_BESIDE[self._app],
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
        restored = await read_changelogs(self._settings, tables, headed=self._headed)
        for number, owned in held.items():
            found = {name: restored[TopicPartition(topic, number)] for name, topic in self._changelogs.items()}
            owned.take_up(found)


def size_of(entries: Iterable[tuple[bytes, bytes | None]]) -> int:
    """Add up the bytes of keys and values."""
    return sum(len(key) + len(value or b"") for key, value in entries)
