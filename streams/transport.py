"""A Faust transport that delivers one stream event per fetched run of records of one partition.

Stock Faust creates several tasks and queue items for every record, which costs about 70 microseconds each; here that
price is paid once a batch. Tables, rebalancing, commits and recovery stay Faust's own.

Five habits of Faust 0.15.3 are corrected on the way (docs/why.md tells how each was found):

- Offsets are committed from the first-in-first-out list of delivered batches, so gaps that transaction markers or
  compaction leave never stall or overshoot a commit.
- A seek waits until no fetch is under way and forgets what was delivered before it, so that nothing fetched from the
  old position is processed after the new one (otherwise a rebalance can lose events or stick a commit for good).
- An acknowledgement from before the last seek counts for nothing.
- Only committed records are read.
- A fetch that finds nothing ends soon, so that no partition waits for another.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ensure_aiokafka_TP
from faust.transport.drivers.aiokafka import Consumer as AIOKafkaConsumer
from faust.transport.drivers.aiokafka import Transport as AIOKafkaTransport
from faust.types import TP

from models.batches import Batch
from streams.group_membership import SecondLook, keep_alive
from streams.vitals import Vitals

SUPPORTED_FAUST = "0.15.3"
IDLE_SECONDS = 0.02
FETCH_WAIT_MS = 50
"""A fetch without new records ends after this."""


@dataclass(slots=True)
class Delivery:
    """A batch with the number of seeks the consumer had made when it was fetched.

    `start` is the position that the batch was read from: no event lies between it and the first one of the batch.
    """

    batch: Batch
    seeks: int
    start: int = 0


@dataclass(slots=True)
class PackedRecord:
    """What Faust takes for one Kafka record: the batch, under the offset of its last record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: Delivery
    timestamp_type: int = 0
    headers: Sequence[tuple[str, bytes]] = ()
    key: bytes | None = None
    checksum: int | None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 0


def pack(records: Sequence[Any], seeks: int) -> PackedRecord:
    """Pack the fetched records of one partition."""
    last = records[-1]
    batch = Batch(
        topic=last.topic,
        partition=last.partition,
        offsets=[record.offset for record in records],
        timestamps=[record.timestamp for record in records],
        keys=[record.key for record in records],
        values=[record.value for record in records],
        headers=[record.headers for record in records],
    )
    return PackedRecord(last.topic, last.partition, last.offset, last.timestamp, Delivery(batch, seeks))


class PromptConsumerThread(AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading what is committed, with a short long poll.

    Faust reads records of aborted transactions too: an assignment that was never made would reach the archive.

    aiokafka has one fetch request under way for a broker. A partition that had records buffered when it was sent is not
    part of it, and waits for its end: with Faust's 1.5 s for up to 1.5 s, longer than a question about an assignment.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's signature
        super().__init__(*args, **kwargs)
        self._second_look = SecondLook()

    def _create_worker_consumer(self, transport: Any) -> Any:  # noqa: ANN401 - Faust's signature
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # noqa: SLF001 - Faust has no setting for either
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001
        return consumer

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Restore tables and whatever else there is to do, as a member of the group that is known to live."""
        consumer = self._ensure_consumer()
        keep_alive(consumer)
        await super().on_partitions_assigned(assigned, generation_id)
        self._second_look.take(consumer, {tp.topic for tp in assigned})


class BatchConsumer(AIOKafkaConsumer):  # type: ignore[misc]
    """Faust's aiokafka consumer, delivering batches for every topic that is not a changelog."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's signature
        self.seeks = 0
        self._sought = False
        self._position: dict[TP, int] = {}
        self._delivered: defaultdict[TP, deque[int]] = defaultdict(deque)
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> PromptConsumerThread:
        return PromptConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> tuple[dict[TP, list[Any]] | None, set[TP] | None]:  # noqa: ASYNC109 - Faust's signature
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
        # `wait_for_stopped_flow` waits for this event: it says that no fetch is under way.
        self.not_waiting_next_records.clear()
        try:
            seeks = self.seeks
            active = self._get_active_partitions()
            if not self._sought:
                # Whatever lies before the seek to the committed offsets is not to be read; recovery may go on.
                active = {tp for tp in active if self._is_changelog_tp(tp)}
            if not active:
                await self.sleep(IDLE_SECONDS)
                return {}, active
            records = await self._getmany(active_partitions=active, timeout=timeout)
            if not self.flow_active or seeks != self.seeks:
                return None, active
            return {
                tp: found if self._is_changelog_tp(tp) else [pack(found, seeks)]
                for tp, found in records.items()
                if found
            }, active
        finally:
            self.not_waiting_next_records.set()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - Faust's signature
        """Yield fetched messages until the flow stops or a seek makes them stale."""
        records, _ = await self._wait_next_records(timeout)
        if not records or self.should_stop:
            return
        # Only now: a seek made while this waited for the flow came before the fetch, whose records are not stale.
        seeks = self.seeks
        for tp, record in self.scheduler.iterate(records):
            if not self.flow_active or seeks != self.seeks:
                return
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            yield tp, self._to_message(tp, record)

    def _to_message(self, tp: TP, record: Any) -> Any:  # noqa: ANN401 - Faust's signature
        if isinstance(record, PackedRecord):
            self._delivered[tp].append(record.offset)
            record.value.start = self._position.get(tp, 0)
            self._position[tp] = record.offset + 1
        return super()._to_message(tp, record)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Keep no gaps: `_new_offset` needs only what was delivered."""

    def ack(self, message: Any) -> bool:  # noqa: ANN401 - Faust's signature
        """Mark a batch as done, unless a seek came after its delivery."""
        delivery = message.value
        if isinstance(delivery, Delivery) and delivery.seeks != self.seeks:
            self._unacked_messages.discard(message)
            message.acked = True
            return False
        return bool(super().ack(message))

    def _new_offset(self, tp: TP) -> int | None:
        acked = self._acked_index[tp]
        delivered = self._delivered[tp]
        committable: int | None = None
        while delivered and delivered[0] in acked:
            committable = delivered.popleft()
            acked.discard(committable)
        self._acked[tp].clear()
        return None if committable is None else committable + 1

    def oldest_unacknowledged(self, tp: TP) -> int | None:
        """Give the last offset of the oldest batch that was delivered and is not committed yet."""
        delivered = self._delivered[tp]
        return delivered[0] if delivered else None

    def lag(self) -> dict[TP, int]:
        """Count, for each assigned partition that is no table's, what lies between its commit and its known end."""
        ends = {tp: self.highwater(tp) for tp in self.assignment() if not self._is_changelog_tp(tp)}
        return {tp: max(0, end - (self._committed_offset.get(tp) or 0)) for tp, end in ends.items() if end is not None}

    def stop_flow(self) -> None:
        """Stop, and make everything fetched until now stale: a seek always follows before the flow resumes."""
        super().stop_flow()
        self._forget_delivered()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets with no fetch under way."""
        self.stop_flow()
        await self.wait_for_stopped_flow()
        await super().perform_seek()
        # aiokafka leaves partitions alone that have no commit; what it fetched of them before would be skipped.
        fresh = [tp for tp in self.assignment() if not self._read_offset.get(tp) and not self._is_changelog_tp(tp)]
        if fresh:
            await self._rewind(fresh)
        self._position.update({tp: offset for tp, offset in self._read_offset.items() if offset is not None})
        self._sought = True

    async def _rewind(self, partitions: Sequence[TP]) -> None:
        await self._thread.seek_to_beginning(*map(ensure_aiokafka_TP, partitions))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget what the revoked partitions delivered; their next owner reads it again."""
        self._forget_delivered()
        await super().on_partitions_revoked(revoked)

    def _forget_delivered(self) -> None:
        self.seeks += 1
        self._sought = False
        self._position.clear()
        self._delivered.clear()
        for tp in list(self._acked):
            self._acked[tp].clear()
            self._acked_index[tp].clear()


class BatchTransport(AIOKafkaTransport):  # type: ignore[misc]
    """Faust's aiokafka transport with the batching consumer."""

    Consumer = BatchConsumer


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Hands a delivery on as it is; decoding is the agent's work, so that only a bad record is rejected."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Faust's signature
        """Batches have no key of their own."""

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Delivery:  # noqa: ANN401, ARG002 - Faust's signature
        """Return the delivery."""
        return message.value  # type: ignore[no-any-return]


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app whose consumer delivers batches. `vitals` are those of the worker that it is."""

    vitals: Vitals

    def _create_directories(self) -> None:
        """Make no folders: nothing is kept on disk."""

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)


def check_faust_version() -> None:
    """Refuse to run on a Faust whose internals were not checked against this transport.

    Raises:
        RuntimeError: Another version of faust-streaming is installed.
    """
    if faust.__version__ != SUPPORTED_FAUST:
        raise RuntimeError(
            f"faust-streaming {faust.__version__} is installed; the batching transport is checked against "
            f"{SUPPORTED_FAUST} only: install that version"
        )


async def current_batches(
    stream: Any,  # noqa: ANN401 - a Faust stream
    consumer: Any,  # noqa: ANN401 - property of the app, bound late
) -> AsyncIterator[tuple[Batch, Any]]:
    """Iterate over a stream's batches with their events, leaving out those that a seek made stale."""
    async for event in stream.noack().events():
        delivery: Delivery = event.value
        if delivery.seeks == consumer().seeks:
            yield replace(delivery.batch, start=delivery.start), event
        else:
            event.ack()
        await asyncio.sleep(0)
