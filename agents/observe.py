"""The observing agent: fold batches as they come, write what changed once a flush interval, then acknowledge."""

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agents.decode import EventDecoder
from agents.flush import Flush
from agents.observer import Observer
from models.batches import Batch
from models.settings import Settings

Acknowledge = Callable[[], object]
REJECTED_BYTES = 16 * 1024 * 1024
"""Dead letters held in memory at the most before a flush is forced."""


class Owned(Protocol):
    """A source partition that this worker owns."""

    @property
    def tables(self) -> Mapping[str, Mapping[bytes, bytes]]:
        """The stored tables of the partition."""

    async def write(self, flush: Flush) -> bool:
        """Write a flush, all or nothing; False when the partition is no longer owned."""


@dataclass(slots=True)
class Desk:
    """The work on one owned partition: its state in memory, and what waits for the next flush."""

    owned: Owned
    observer: Observer
    pending: list[Acknowledge] = field(default_factory=list)
    events: int = 0
    since: float = 0.0
    flushing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Observation:
    """Observes every owned partition. `partitions` gives the owned ones at any moment."""

    def __init__(self, settings: Settings, partitions: Callable[[], Mapping[int, Owned]]) -> None:
        self._settings = settings
        self._partitions = partitions
        self._decoder = EventDecoder(settings)
        self._desks: dict[int, Desk] = {}

    @property
    def desks(self) -> Mapping[int, Desk]:
        """The partitions that are being worked on."""
        return self._desks

    async def observe(self, batches: AsyncIterable[tuple[Batch, Acknowledge]]) -> None:
        """Fold every batch; flush when enough has been folded."""
        async for batch, acknowledge in batches:
            desk = self._desk(batch.partition)
            if desk is None:
                continue
            desk.observer.observe(batch)
            if not desk.pending:
                desk.since = time.monotonic()
            desk.pending.append(acknowledge)
            desk.events += len(batch)
            if desk.events >= self._settings.flush_events or desk.observer.pending_bytes >= REJECTED_BYTES:
                await self.flush(desk)

    async def flush_when_due(self) -> None:
        """Flush every partition whose oldest unwritten batch has waited for the flush interval."""
        owned = self._partitions()
        self._desks = {number: desk for number, desk in self._desks.items() if owned.get(number) is desk.owned}
        now = time.monotonic()
        due = [
            desk
            for desk in self._desks.values()
            if desk.pending and now - desk.since >= self._settings.flush_seconds and not desk.flushing.locked()
        ]
        await asyncio.gather(*map(self.flush, due))

    async def flush(self, desk: Desk) -> None:
        """Write everything folded so far in one transaction, then acknowledge its batches."""
        async with desk.flushing:
            pending, desk.pending, desk.events = desk.pending, [], 0
            if pending and await desk.owned.write(desk.observer.drain()):
                for acknowledge in pending:
                    acknowledge()

    def _desk(self, partition: int) -> Desk | None:
        owned = self._partitions().get(partition)
        desk = self._desks.get(partition)
        if owned is None:
            self._desks.pop(partition, None)
            return None
        if desk is None or desk.owned is not owned:
            observer = Observer(partition, self._settings, self._decoder)
            observer.load(owned.tables)
            desk = self._desks[partition] = Desk(owned, observer)
        return desk
