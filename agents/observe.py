"""The observing agent: fold batches as they come, write what changed once a flush interval, then acknowledge."""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.decode import EventDecoder
from agents.desks import Desks, Owned
from agents.observer import Observer
from models.batches import Batch
from models.settings import Settings

Acknowledge = Callable[[], object]
ReadRecords = Callable[[int, Sequence[int]], Awaitable[Batch]]
"""Reads records of scaling.runs: a partition, ascending offsets. Those that the topic no longer has are left out."""
REJECTED_BYTES = 16 * 1024 * 1024
"""Dead letters held in memory at the most before a flush is forced."""
CORRECTED = 4000
"""Corrected runs at which a flush is forced: what they were may lie far apart on the topic."""


@dataclass(slots=True)
class Desk:
    """The work on one owned partition: its state in memory, and what waits for the next flush."""

    owned: Owned
    partition: int
    observer: Observer
    pending: list[Acknowledge] = field(default_factory=list)
    events: int = 0
    since: float = 0.0
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Observation:
    """Observes every owned partition.

    Args:
        settings: When to flush, and how events are read.
        partitions: Gives the owned partitions at any moment.
        records: Reads what corrected runs were before.
    """

    def __init__(self, settings: Settings, partitions: Callable[[], Mapping[int, Owned]], records: ReadRecords) -> None:
        self._settings = settings
        self._records = records
        self._decoder = EventDecoder(settings)
        self._desks = Desks(partitions, self._begin)

    @property
    def desks(self) -> Mapping[int, Desk]:
        """The partitions that are being worked on."""
        return self._desks.known

    async def observe(self, batches: AsyncIterable[tuple[Batch, Acknowledge]]) -> None:
        """Fold every batch; flush when enough has been folded."""
        async for batch, acknowledge in batches:
            desk = self._desks.at(batch.partition)
            if desk is None:
                continue
            desk.observer.observe(batch)
            if not desk.pending:
                desk.since = time.monotonic()
            desk.pending.append(acknowledge)
            desk.events += len(batch)
            if (
                desk.events >= self._settings.flush_events
                or desk.observer.pending_bytes >= REJECTED_BYTES
                or len(desk.observer.replaced) >= CORRECTED
            ):
                await self.flush(desk)

    async def flush_when_due(self) -> None:
        """Flush every partition whose oldest unwritten batch has waited for the flush interval."""
        self._desks.drop_revoked()
        now = time.monotonic()
        due = [
            desk
            for desk in self.desks.values()
            if desk.pending and now - desk.since >= self._settings.flush_seconds and not desk.flushing.locked()
        ]
        await asyncio.gather(*map(self.flush, due))

    async def flush(self, desk: Desk) -> None:
        """Write everything folded so far in one transaction, then acknowledge its batches."""
        async with desk.flushing:
            # More may be corrected while these are read.
            while replaced := desk.observer.replaced:
                desk.observer.take_out(replaced, await self._records(desk.partition, replaced))
            pending, desk.pending, desk.events = desk.pending, [], 0
            if pending and await desk.owned.write(desk.observer.drain(whole=desk.owned.swollen)):
                for acknowledge in pending:
                    acknowledge()

    def _begin(self, partition: int, owned: Owned) -> Desk:
        observer = Observer(partition, self._settings, self._decoder)
        observer.load(owned.tables)
        return Desk(owned, partition, observer)
