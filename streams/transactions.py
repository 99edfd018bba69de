"""Transactions that end for their readers, too.

A transaction is over for readers of committed records once each of its partitions has its end marker. Kafka 4 leaves
the marker out where a partition has no leader at that moment, as when the only broker stops, starts or was frozen, and
calls the transaction complete all the same: what was committed is out of sight, with everything behind it, until the
same transactional id ends another transaction there. docs/why.md tells how that was found.

So a producer here looks, after each of its transactions, whether any partition still has it open, and ends it there
once more: an empty transaction writes markers without a record. And whoever takes a transactional id over first ends,
in every partition that it may have written to, what the last owner left: as it had ended, by the coordinator.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, KafkaError, ProducerFenced
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from models.errors import Fenced
from models.settings import Settings
from streams.kafka_security import connected_client, connection, explained, unreachable
from streams.transaction_state import LastTransaction, last_transaction, open_places, passing

GRACE_SECONDS = 1.0
"""Markers are written within milliseconds after a transaction has ended."""
LOOK_SECONDS = 0.002
LONGEST_LOOK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]
    """The only producer of a transactional id: when it starts, earlier ones can write no more.

    Args:
        settings: Where Kafka is.
        transactional_id: Whose place it takes.
        own: Partitions into which it writes.
        topics: Topics into any partition of which it writes.
        options: As for aiokafka's producer.
    """

    def __init__(
        self,
        settings: Settings,
        transactional_id: str,
        *,
        own: Iterable[TopicPartition] = (),
        topics: Iterable[str] = (),
        **options: Any,  # noqa: ANN401 - aiokafka's
    ) -> None:
        super().__init__(**connection(settings), transactional_id=transactional_id, **options)
        self._settings = settings
        self._id = transactional_id
        self._own = frozenset(own)
        self._topics = frozenset(topics)
        self._touched: set[TopicPartition] = set()

    async def start(self) -> None:
        """Fence earlier owners out, and end what they left.

        Raises:
            Fenced: Another owner came at the same time.
            NotReachable: Kafka does not answer.
            KafkaError: It refuses.
        """
        try:
            with explained(self._settings):
                before = await self._ask_for_the_last()
                # It waits until the coordinator has ended what was under way.
                await super().start()
                if before is not None:
                    await self._end_what_was_left(before)
        except (ProducerFenced, InvalidProducerEpoch):
            await self.stop()
            raise Fenced(f"another producer has taken {self._id} over meanwhile") from None
        except BaseException:
            await self.stop()
            raise

    async def begin_transaction(self) -> None:
        """Begin a transaction."""
        self._touched = set()
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
        self._touch(topic, partition)
        sent: asyncio.Future[Any] = await super().send(topic, value, key, partition, *options)
        return sent

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> "asyncio.Future[Any]":  # noqa: ANN401
        """Send a batch of records."""
        self._touch(topic, partition)
        sent: asyncio.Future[Any] = await super().send_batch(batch, topic, partition=partition)
        return sent

    async def commit_transaction(self) -> None:
        """Commit, and see to it that readers see it."""
        await super().commit_transaction()
        await self._see_ended(self._touched, committed=True)

    async def abort_transaction(self) -> None:
        """Abort, and see to it that nothing of it is ever committed."""
        await super().abort_transaction()
        await self._see_ended(self._touched, committed=False)

    def _touch(self, topic: str, partition: int) -> None:
        place = TopicPartition(topic, partition)
        assert place in self._own or topic in self._topics, f"{self._id} does not say that it writes to {place}"
        self._touched.add(place)

    async def _see_ended(self, places: Iterable[TopicPartition], *, committed: bool) -> None:
        """Wait until the transaction is open nowhere; where it still is after the grace, end it once more.

        How long it is open counts from when the brokers answer: one that is away is waited for.
        """
        loop = asyncio.get_running_loop()
        left, pause, until = set(places), LOOK_SECONDS, 0.0
        while left:
            try:
                left = await open_places(self.client, self.client.cluster, left, self._txn_manager.producer_id)
            except KafkaError as error:
                if not passing(error):
                    raise
                await self.client.force_metadata_update()
                until = 0.0
            else:
                until = until or loop.time() + GRACE_SECONDS
                if left and loop.time() > until:
                    await self._end_again(left, committed=committed)
                    until = 0.0
            if left:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_LOOK_SECONDS)

    async def _end_again(self, places: Iterable[TopicPartition], *, committed: bool) -> None:
        """End an empty transaction in partitions, and so whatever of an earlier one is open there."""
        told = sorted(f"{place.topic}-{place.partition}" for place in places)
        log.warning("transaction without its end: ended once more", id=self._id, places=told, committed=committed)
        await super().begin_transaction()
        for place in places:
            self._txn_manager.maybe_add_partition_to_txn(place)  # aiokafka has no other way
        await (super().commit_transaction() if committed else super().abort_transaction())

    async def _ask_for_the_last(self) -> LastTransaction | None:
        async with connected_client(self._settings) as client:
            return await self._answer(partial(last_transaction, client, self._id))

    async def _end_what_was_left(self, before: LastTransaction) -> None:
        """End what the last owner left, as it had ended; what nobody knows of any more is aborted.

        A transaction that was begun after the question has raised the epoch once more, and was aborted.
        """
        left = await self._answer(self._left)
        if left:
            committed = before.committed and self._txn_manager.producer_epoch == before.epoch + 1
            await self._end_again(left, committed=committed)
            await self._see_ended(left, committed=committed)

    async def _left(self) -> set[TopicPartition]:
        """Find where a transaction of this producer is open."""
        known = await self.client.fetch_all_metadata()
        there = {topic: known.partitions_for_topic(topic) or set() for topic in known.topics()}
        places = [place for place in self._own if place.partition in there.get(place.topic, ())]
        places += [TopicPartition(topic, one) for topic in self._topics for one in there.get(topic, ())]
        return await open_places(self.client, known, places, self._txn_manager.producer_id)

    async def _answer(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until there is an answer, for PATIENCE_SECONDS."""
        asking = AsyncRetrying(
            wait=wait_fixed(LONGEST_LOOK_SECONDS),
            stop=stop_after_delay(PATIENCE_SECONDS),
            retry=retry_if_exception(passing),
            reraise=True,
        )
        try:
            return await asking(question)
        except KafkaError as error:
            if passing(error):
                raise unreachable(self._settings) from None
            raise
