"""The experimenting agents: answer requests, join outcomes, keep the results of every owned partition up to date."""

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agents.accept import completed_seconds
from agents.decode import EventDecoder
from agents.desks import Desks, Owned
from agents.experiment_law import context_laws
from agents.experiment_results import analyse
from agents.experimenter import Experimenter
from agents.flush import Record
from agents.observe import Acknowledge
from agents.outcome_events import source_of
from analytics.partitions import partition_of
from models.batches import Batch
from models.errors import InvalidEvent
from models.experiments import RequestsCut
from models.settings import Settings
from models.topics import ASSIGN_REPLIES

log = structlog.get_logger(__name__)

Clock = Callable[[], float]
Reply = Callable[[Sequence[Record]], Awaitable[None]]

WAITING_BATCHES = 64
"""Batches of a partition that may wait for the next write; then whoever brings more waits for it too."""

REST = 2.0
"""The least pause after a result, as a multiple of the time it took."""


@dataclass(slots=True)
class Desk:
    """The work on one owned partition: its state in memory, and the batches that the next write acknowledges."""

    owned: Owned
    experimenter: Experimenter
    reply: Reply
    done: list[Acknowledge] = field(default_factory=list)
    given_up: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def write(self) -> None:
        """Write everything that has changed in one transaction, then reply and acknowledge; nothing once given up.

        A reply is no part of the transaction: readers of committed records would wait for those of all other owners,
        and for one that was killed in the middle of its own until that times out.
        """
        async with self.writing:
            done, self.done = self.done, []
            flush = self.experimenter.store.drain()
            replies = [record for record in flush.records if record.topic == ASSIGN_REPLIES]
            rest = replace(flush, records=[record for record in flush.records if record.topic != ASSIGN_REPLIES])
            if rest.records or any(rest.tables.values()):
                self.given_up = self.given_up or not await self.owned.write(rest)
            if self.given_up:
                return
        if replies:
            await self.reply(replies)
        for acknowledge in done:
            acknowledge()


class Experimentation:
    """Works on every owned partition.

    Args:
        settings: As for the experimenters.
        partitions: Gives the owned partitions at any moment.
        reply: Sends replies; what they rest on has been written.
        settled: Tells whether the partitions are shared out and restored; nothing is written unasked before that.
        clock: Gives the time, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        partitions: Callable[[], Mapping[int, Owned]],
        reply: Reply,
        *,
        settled: Callable[[], bool] = lambda: True,
        clock: Clock = time.time,
    ) -> None:
        self._reply = reply
        self._settings = settings
        self._partitions = partitions
        self._settled = settled
        self._clock = clock
        self._decoder = EventDecoder(settings)
        self._desks = Desks(partitions, self._begin)
        self._worked = asyncio.Event()

    @property
    def desks(self) -> Mapping[int, Desk]:
        """The partitions that are being worked on."""
        return self._desks.known

    async def answer(self, batches: AsyncIterable[tuple[Batch, Acknowledge]]) -> None:
        """Answer requests; `keep_writing` writes the assignments, and replies."""
        async for batch, acknowledge in batches:
            desk = self._desks.at(batch.partition)
            if desk is None:
                continue
            now, experimenter = self._clock(), desk.experimenter
            cut = experimenter.store.cut
            for offset, value, timestamp in zip(batch.offsets, batch.values, batch.timestamps, strict=True):
                replayed = offset < cut.offset and timestamp <= cut.timestamp
                experimenter.handle(value, timestamp / 1000, now, replayed=replayed)
            if batch.offsets[-1] >= cut.offset or batch.timestamps[-1] > cut.timestamp:
                passed = RequestsCut(batch.offsets[-1] + 1, batch.timestamps[-1])
                experimenter.store.pass_requests(batch.partition, passed)
            await self._done(desk, acknowledge)
        await self._write()

    async def join(self, batches: AsyncIterable[tuple[Batch, Acknowledge]]) -> None:
        """Join runs that name an experiment with their assignments; `keep_writing` writes them."""
        async for batch, acknowledge in batches:
            desk = self._desks.at(batch.partition)
            if desk is None:
                continue
            for place in range(len(batch)):
                self._join(desk.experimenter, batch, place)
            await self._done(desk, acknowledge)
        await self._write()

    async def keep_writing(self) -> None:
        """Write whatever batches have changed, as fast as Kafka takes it.

        What arrives during a transaction goes into the next one. A transaction a batch would be too slow: under many
        small batches each would wait for the transactions of all before it.
        """
        while True:
            await self._worked.wait()
            self._worked.clear()
            await self._write()

    async def tick(self) -> None:
        """Expire assignments and end experiments, wherever that is due."""
        self._desks.drop_revoked()
        if not self._settled():
            # Faust compares the restored offsets with the ends of the topics: they must not move meanwhile.
            return
        # Experiments must end although nobody asks: a partition without requests gets its desk here.
        for number in self._partitions():
            self._desks.at(number)
        for desk in list(self.desks.values()):
            desk.experimenter.tick(self._clock())
            await desk.write()

    async def refresh(self) -> None:
        """Work out the results that have changed, beside the event loop, and publish them."""
        for desk in list(self.desks.values()):
            for snapshot in desk.experimenter.snapshots():
                now, began = self._clock(), time.monotonic()
                result = await asyncio.to_thread(analyse, snapshot, self._settings, now)
                laws = await asyncio.to_thread(context_laws, snapshot, self._settings, now)
                desk.experimenter.conclude(snapshot, result, now, laws)
                await desk.write()
                # Whoever asks for an assignment comes first: results leave the processor to them for as long again.
                await asyncio.sleep(REST * (time.monotonic() - began))

    async def suspect(self, key: bytes | None, value: bytes | None) -> None:
        """Compare a record of scaling.experiments, in whichever partition, with what its owner wrote."""
        experiment = (key or b"").split(b"|", 1)[0]
        desk = self.desks.get(partition_of(experiment, self._settings.partitions))
        if desk is None or key is None:
            return
        if desk.experimenter.store.suspect(key.decode(errors="replace"), value):
            await desk.write()

    async def _done(self, desk: Desk, acknowledge: Acknowledge) -> None:
        desk.done.append(acknowledge)
        self._worked.set()
        if len(desk.done) >= WAITING_BATCHES:
            await desk.write()

    async def _write(self) -> None:
        await asyncio.gather(*(desk.write() for desk in list(self.desks.values())))

    def _join(self, experimenter: Experimenter, batch: Batch, place: int) -> None:
        value = batch.values[place]
        if value is None:
            return
        try:
            event = self._decoder.decode(value)
            offset, timestamp = source_of(batch.headers[place])
        except (InvalidEvent, ValueError) as error:
            where = f"{batch.topic}[{batch.partition}]@{batch.offsets[place]}"
            log.warning("outcome not joined", record=where, reason=str(error))
            return
        completed = float(completed_seconds([event], [timestamp])[0])
        experimenter.join(event, (event.revision, offset), completed)

    def _begin(self, partition: int, owned: Owned) -> Desk:
        experimenter = Experimenter(partition, self._settings)
        experimenter.store.load(owned.tables)
        log.info("partition served", partition=partition, experiments=len(experimenter.store.trials))
        return Desk(owned, experimenter, self._reply)
