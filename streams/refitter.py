"""The refitting service: follow scaling.stats, refit what changed once a window, publish to scaling.laws."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError

from agents.refit import TIER, Refitter, Standing
from analytics.partitions import partitions_of
from models.joint_laws import is_joint
from models.laws import context_of
from models.metrics import LAWS_PUBLISHED, REFIT_SECONDS, STATS_WORKER
from models.settings import Settings
from models.topics import STATS
from streams.group_membership import REBALANCE_SECONDS, SecondLook, keep_alive
from streams.kafka_security import connection
from streams.law_topic import law_producer, publish_laws, take_laws
from streams.restore import stats_begins
from streams.transactions import TransactionalProducer
from streams.vitals import Vitals

GROUP = "scaling-refit"
TAKEN_OVER = "another worker refits this partition of scaling.stats now: this worker stops"
POLL_MS = 100
REST = 2.0
"""The least time from one refit to the next, as a multiple of what it took."""


class Share:
    """One partition of scaling.stats that this worker refits.

    Args:
        refitter: Knows the published versions, and takes the records.
        producer: Its owner's alone.
        end: The end that the partition had when it was assigned: before that has been read nothing is published.
    """

    def __init__(self, refitter: Refitter, producer: TransactionalProducer, end: int) -> None:
        self.refitter = refitter
        self.producer = producer
        self.end = end
        self.read = False
        self.publishing = asyncio.Lock()


class RefitService(ConsumerRebalanceListener):  # type: ignore[misc]
    """Refits the laws of this worker's share of the contexts.

    It commits nothing: on every assignment it reads its partitions from where everything was last written whole, and
    publishes only once it has caught up with their ends.
    """

    def __init__(self, settings: Settings, vitals: Vitals | None = None) -> None:
        self._settings = settings
        self._vitals = vitals or Vitals(STATS_WORKER)
        self._vitals.ready_unless(self._waits)
        self._assigned = False
        self._failure: Exception | None = None
        self._second_look = SecondLook()
        self._shares: dict[TopicPartition, Share] = {}
        self._consumer: AIOKafkaConsumer = None
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Follow, refit and publish until stopped.

        Raises:
            Fenced: A newer owner of a partition publishes its laws.
            NotReachable: Kafka did not answer when partitions were assigned.
        """
        settings = self._settings
        consumer = self._consumer = AIOKafkaConsumer(
            **connection(settings),
            group_id=GROUP,
            group_instance_id=f"{settings.instance_id}-refit" if settings.instance_id else None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(settings.session_seconds * 1000),
            rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
            heartbeat_interval_ms=int(settings.session_seconds * 1000 / 4),
            max_partition_fetch_bytes=settings.fetch_bytes,
            # A refit of very many laws may take minutes; the heartbeat tells that the worker lives.
            max_poll_interval_ms=3_600_000,
        )
        consumer.subscribe([STATS], listener=self)
        self._idle.clear()
        try:
            await consumer.start()
            due = time.monotonic()
            while not self._stopping.is_set():
                fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=20_000)
                if self._failure is not None:
                    raise self._failure
                for partition, records in fetched.items():
                    share = self._shares.get(partition)
                    for record in records if share else ():
                        assert share is not None
                        share.refitter.stage(record.key, record.value)
                if (begun := time.monotonic()) >= due:
                    await self._refit()
                    # Refits that take longer than their window leave the processor to the events for as long again.
                    spent = time.monotonic() - begun
                    due = begun + max(self._settings.refit_seconds, REST * spent)
        finally:
            try:
                await consumer.stop()
            finally:
                await self._give_up(list(self._shares))
                self._idle.set()

    async def stop(self) -> None:
        """Leave the group and close the producers; the next owner of each partition starts at once."""
        self._stopping.set()
        await self._idle.wait()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drop the state of revoked partitions."""
        self._assigned = False
        await self._give_up(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Start the assigned partitions from where they hold everything."""
        partitions = list(assigned)
        try:
            keep_alive(self._consumer)
            if partitions:
                await self._begin(partitions)
            self._second_look.take(self._consumer, {place.topic for place in partitions})
        except Exception as error:  # noqa: BLE001 - aiokafka would log it, and go on without the partitions
            self._failure = error
        self._assigned = self._failure is None

    async def _begin(self, partitions: Sequence[TopicPartition]) -> None:
        producers = [law_producer(self._settings, f"{GROUP}-{place.partition}") for place in partitions]
        try:
            await asyncio.gather(*(producer.start() for producer in producers))
            published = await read_standings(self._settings)
            first = await stats_begins(self._settings, [place.partition for place in partitions])
            ends = await self._consumer.end_offsets(partitions)
        except BaseException:
            await asyncio.gather(*(producer.stop() for producer in producers), return_exceptions=True)
            raise
        for partition, producer in zip(partitions, producers, strict=True):
            refitter = Refitter(self._settings)
            refitter.number_from(published[partition.partition])
            # What was fetched meanwhile is read again: nothing that comes before a seek may be kept.
            self._consumer.seek(partition, first[partition])
            self._shares[partition] = Share(refitter, producer, ends[partition])

    async def _refit(self) -> None:
        for partition, share in list(self._shares.items()):
            if self._stopping.is_set():
                return
            if not await self._caught_up(partition, share.end):
                continue
            share.read = True
            if not share.refitter.dirty:
                continue
            began = time.monotonic()
            snapshot = share.refitter.snapshot()
            laws = await asyncio.to_thread(share.refitter.fit, snapshot)
            self._vitals.observe(REFIT_SECONDS, time.monotonic() - began)
            async with share.publishing:
                if self._shares.get(partition) is share:
                    gone = share.refitter.withdrawn(snapshot, laws)
                    await publish_laws(share.producer, laws, TAKEN_OVER, withdrawn=gone)
                    self._vitals.count(LAWS_PUBLISHED, len(laws))

    def _waits(self) -> str | None:
        if not self._assigned:
            return f"the partitions of {STATS} are not shared out yet"
        behind = sorted(partition.partition for partition, share in self._shares.items() if not share.read)
        return f"the refitter still reads {STATS}, partitions {behind}" if behind else None

    async def _caught_up(self, partition: TopicPartition, end: int) -> bool:
        try:
            return bool(await self._consumer.position(partition) >= end)
        except IllegalStateError:
            return False  # revoked meanwhile

    async def _give_up(self, partitions: Iterable[TopicPartition]) -> None:
        shares = [self._shares.pop(partition) for partition in partitions if partition in self._shares]
        await asyncio.gather(*(self._close(share) for share in shares), return_exceptions=True)

    @staticmethod
    async def _close(share: Share) -> None:
        async with share.publishing:
            await share.producer.stop()


async def read_standings(settings: Settings) -> dict[int, list[Standing]]:
    """Read the newest version of each live law, by the partition of scaling.stats that its context is on.

    Numbers go on from every record that was ever written. A law may have been committed and yet be out of sight,
    behind a transaction of somebody else that is not over, or whose end a broker that went down has lost: it would
    appear later, under the number of a newer one.
    """
    known = await _read(settings, committed=True)
    for name, law in (await _read(settings, committed=False)).items():
        seen = known.get(name, law)
        known[name] = msgspec.structs.replace(seen, version=max(seen.version, law.version))
    contexts = list({context_of(name) for name in known})
    places = partitions_of([context.encode() for context in contexts], settings.partitions).tolist()
    place = dict(zip(contexts, places, strict=True))
    published: dict[int, list[Standing]] = {number: [] for number in range(settings.partitions)}
    for name, law in known.items():
        published[place[context_of(name)]].append(law)
    return published


async def _read(settings: Settings, *, committed: bool) -> dict[str, Standing]:
    known: dict[str, Standing] = {}

    def take(name: str, value: bytes | None) -> None:
        if is_joint(name) or not name.endswith(f"|{TIER}"):
            return
        if value is None:
            if name in known:
                known[name] = msgspec.structs.replace(known[name], withdrawn=True)
            return
        law = msgspec.json.decode(value, type=Standing)
        if law.law_id not in known or law.version >= known[law.law_id].version:
            known[law.law_id] = law

    await take_laws(settings, take, committed=committed)
    return known
