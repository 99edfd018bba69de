"""Transactions that end for their readers, too.

A transaction is over for readers of committed records once each of its partitions has its end marker. Kafka 4 leaves
the marker out where a partition has no leader at that moment, as when the only broker stops, starts or was frozen, and
calls the transaction complete all the same: what was committed is out of sight, with everything behind it, until the
same transactional id ends another transaction there. docs/why.md tells how that was found.

So a producer here looks, after each commit, whether it can be seen, and ends the transaction once more where it cannot:
an empty transaction over the same partitions writes markers without a record. And whoever takes a transactional id over
first ends, in every partition that it may have written to, what the last owner left: as it ended, by the coordinator.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient

from models.settings import Settings
from streams.kafka_security import connection
from streams.transaction_state import Outcome, last_outcome, stable_offset

GRACE_SECONDS = 1.0
"""Markers are written within milliseconds; where others write, too, their transactions may come first."""
LOOK_SECONDS = 0.002
LONGEST_LOOK_SECONDS = 0.1

log = structlog.get_logger(__name__)


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]
    """The only producer of a transactional id: when it starts, earlier ones can write no more.

    Args:
        settings: Where Kafka is.
        transactional_id: Whose place it takes.
        own: Partitions into which nobody else writes.
        shared: Topics into which others write, too.
        options: As for aiokafka's producer.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        *,
        own: Iterable[TopicPartition] = (),
        shared: Iterable[str] = (),
        **options: Any,  # noqa: ANN401 - aiokafka's
    ) -> None:
        super().__init__(**connection(settings), transactional_id=transactional_id, **options)
        self._settings = settings
        self._id = transactional_id
        self._own = frozenset(own)
        self._shared = frozenset(shared)
        self._sent: dict[TopicPartition, asyncio.Future[Any]] = {}

    async def start(self) -> None:
        """Fence earlier owners out, and end what they left.

        Raises:
            KafkaError: Kafka does not answer, or refuses.
        """
        await self._end_what_was_left()
        # It waits until the coordinator has written what that ends.
        await super().start()

    async def begin_transaction(self) -> None:
        """Begin a transaction."""
        self._sent = {}
        await super().begin_transaction()

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        *options: Any,  # noqa: ANN401 - aiokafka's
    ) -> "asyncio.Future[Any]":
        """Send a record to a partition, which must be named."""
        assert partition is not None
        return self._keep(topic, partition, await super().send(topic, value, key, partition, *options))

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":  # noqa: ANN401
        """Send a batch of records."""
        return self._keep(topic, partition, await super().send_batch(batch, topic, partition=partition))

    async def commit_transaction(self) -> None:
        """Commit, and see to it that readers see it."""
        sent, self._sent = self._sent, {}
        await super().commit_transaction()
        # A broker that has no leader for one partition of its own has none for the others, too: one place tells.
        place = next((each for each in sent if each in self._own), next(iter(sent), None))
        if place is not None and not await self._ended(place, sent[place].result().offset):
            log.warning(
                "transaction without its end: ended once more", id=self._id, topics=sorted({s.topic for s in sent})
            )
            await super().begin_transaction()
            self._take_part(self, sent)
            await super().commit_transaction()

    def _keep(self, topic: str, partition: int, sent: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        place = TopicPartition(topic, partition)
        assert place in self._own or topic in self._shared, f"{self._id} does not say that it writes to {place}"
        self._sent[place] = sent
        return sent

    async def _ended(self, place: TopicPartition, offset: int) -> bool:
        """Wait until readers see what lies at an offset; for how long counts from when the broker answers."""
        loop = asyncio.get_running_loop()
        pause, until = LOOK_SECONDS, None
        while True:
            stable = await stable_offset(self.client, place)
            if stable is not None:
                if stable > offset >= 0:
                    return True
                until = until or loop.time() + GRACE_SECONDS
            if until is not None and loop.time() > until:
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK_SECONDS)

    async def _end_what_was_left(self) -> None:
        client = AIOKafkaClient(**connection(self._settings))
        try:
            await client.bootstrap()
            outcome = await last_outcome(client, self._id)
            known = await client.fetch_all_metadata()
        finally:
            await client.close()
        if outcome is Outcome.NONE:
            return
        there = {topic: known.partitions_for_topic(topic) or set() for topic in known.topics()}
        places = [place for place in self._own if place.partition in there.get(place.topic, ())]
        places += [TopicPartition(topic, one) for topic in self._shared for one in there.get(topic, ())]
        producer = AIOKafkaProducer(**connection(self._settings), transactional_id=self._id)
        await producer.start()
        try:
            await producer.begin_transaction()
            self._take_part(producer, places)
            await (producer.commit_transaction() if outcome is Outcome.COMMITTED else producer.abort_transaction())
        finally:
            await producer.stop()

    @staticmethod
    def _take_part(producer: AIOKafkaProducer, places: Iterable[TopicPartition]) -> None:
        """Let partitions have an end marker of the transaction, though no record of it."""
        for place in places:
            producer._txn_manager.maybe_add_partition_to_txn(place)  # noqa: SLF001 - aiokafka has no other way
