"""Publish run events fast: whole Kafka record batches by partition, under an import id."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from analytics.partitions import partitions_of
from models.errors import NotReachable, StackError
from models.settings import Settings
from models.topics import IMPORT_HEADER, MAX_MESSAGE_BYTES, RUNS
from streams.kafka_security import connection, explained

BATCH_BYTES = 512 * 1024
BATCHES_IN_FLIGHT = 32
OVERHEAD_BYTES = 1024
"""More than what Kafka adds to a record's key and value: headers, lengths, the head of its batch."""
SLICES_PER_SECOND = 10
"""How often events go out under a rate limit."""

Mark = Any
"""What the caller knows a record by; refused records are named by it."""


class _Named(msgspec.Struct):
    agent_run_id: str


_named = msgspec.json.Decoder(_Named).decode


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that Kafka does not take, and why."""

    mark: Mark
    reason: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publisher has sent: how many records, and by partition the first and the last of their offsets."""

    records: int
    first: dict[int, int]
    last: dict[int, int]
    refused: tuple[Refused, ...]


class Publisher:
    """Publishes to scaling.runs under one import id; made by `publishing`.

    Every record keeps its order within its partition. A batch that is sent twice, because its acknowledgement was
    lost, brings duplicates, which are recognised by their run ids.
    """

    def __init__(self, producer: AIOKafkaProducer, settings: Settings, import_id: str, rate: float | None) -> None:
        self._producer = producer
        self._partitions = settings.partitions
        self._kafka = settings.kafka
        self._headers = [(IMPORT_HEADER, import_id.encode())]
        self._rate = rate
        self._started = asyncio.get_running_loop().time()
        self._offered = 0
        self._batches: dict[int, Any] = {}
        self._flying: deque[tuple[int, int, Mark, asyncio.Future[Any]]] = deque()
        self._records: defaultdict[int, int] = defaultdict(int)
        self._first: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._refused: list[Refused] = []

    async def publish(self, payloads: Sequence[bytes], marks: Sequence[Mark]) -> None:
        """Send records, each to the partition of its run id; what has no run id goes to the first.

        Raises:
            NotReachable: Kafka does not acknowledge.
            StackError: Kafka refuses a batch.
        """
        step = len(payloads) if self._rate is None else max(1, int(self._rate / SLICES_PER_SECOND))
        for start in range(0, len(payloads), max(1, step)):
            await self._publish(payloads[start : start + step], marks[start : start + step])
            if self._rate is not None:
                await self._send_open_batches()
                due = self._started + self._offered / self._rate
                await asyncio.sleep(due - asyncio.get_running_loop().time())

    async def finish(self) -> Sent:
        """Send what is left and wait until Kafka has acknowledged everything.

        Raises:
            NotReachable: Kafka does not acknowledge.
            StackError: Kafka refuses a batch.
        """
        await self._send_open_batches()
        while self._flying:
            await self._land()
        return Sent(sum(self._records.values()), dict(self._first), dict(self._last), tuple(self._refused))

    async def _publish(self, payloads: Sequence[bytes], marks: Sequence[Mark]) -> None:
        self._offered += len(payloads)
        keys = [_key(payload) for payload in payloads]
        partitions = partitions_of([key or b"" for key in keys], self._partitions).tolist()
        for key, partition, payload, mark in zip(keys, partitions, payloads, marks, strict=True):
            if len(payload) + len(key or b"") + OVERHEAD_BYTES > MAX_MESSAGE_BYTES:
                reason = f"the record has {len(payload)} bytes; Kafka takes {MAX_MESSAGE_BYTES - OVERHEAD_BYTES}"
                self._refused.append(Refused(mark, reason))
                continue
            await self._append(partition if key else 0, key, payload, mark)

    async def _append(self, partition: int, key: bytes | None, payload: bytes, mark: Mark) -> None:
        batch = self._batches.get(partition)
        if batch is not None and self._fits(batch, key, payload):
            return
        if batch is not None:
            await self._send_batch(partition)
        batch = self._batches[partition] = self._producer.create_batch()
        if not self._fits(batch, key, payload):
            # What no batch holds travels alone.
            del self._batches[partition]
            future = await self._explained(
                self._producer.send(RUNS, payload, key, partition, headers=self._headers), mark
            )
            if future is not None:
                await self._fly(partition, 1, mark, future)

    def _fits(self, batch: Any, key: bytes | None, payload: bytes) -> bool:  # noqa: ANN401 - aiokafka's builder
        return batch.append(timestamp=None, key=key, value=payload, headers=self._headers) is not None

    async def _send_open_batches(self) -> None:
        for partition in list(self._batches):
            await self._send_batch(partition)

    async def _send_batch(self, partition: int) -> None:
        batch = self._batches.pop(partition)
        if batch.record_count():
            future = await self._explained(self._producer.send_batch(batch, RUNS, partition=partition), None)
            await self._fly(partition, batch.record_count(), None, future)

    async def _fly(self, partition: int, count: int, mark: Mark, future: asyncio.Future[Any]) -> None:
        self._flying.append((partition, count, mark, future))
        while len(self._flying) > BATCHES_IN_FLIGHT:
            await self._land()

    async def _land(self) -> None:
        partition, count, mark, future = self._flying.popleft()
        metadata = await self._explained(future, mark)
        if metadata is not None:
            self._records[partition] += count
            self._first.setdefault(partition, metadata.offset)
            self._last[partition] = metadata.offset + count - 1

    async def _explained(self, sending: Any, mark: Mark) -> Any:  # noqa: ANN401 - aiokafka's futures
        try:
            return await sending
        except MessageSizeTooLargeError as error:
            if mark is None:
                raise StackError(
                    f"Kafka at {self._kafka} refuses batches of {BATCH_BYTES} bytes: set max.message.bytes of {RUNS} "
                    f"to {MAX_MESSAGE_BYTES}, as scaling topics create does"
                ) from None
            self._refused.append(Refused(mark, f"Kafka refuses the record for its size: {error}"))
            return None
        except (KafkaTimeoutError, KafkaConnectionError):
            raise NotReachable(
                f"Kafka at {self._kafka} does not acknowledge: look whether it runs, then publish again; what is there "
                "already counts as duplicate"
            ) from None
        except KafkaError as error:
            raise StackError(f"Kafka at {self._kafka} refuses to take events: {error}; publish again later") from None


@asynccontextmanager
async def publishing(settings: Settings, import_id: str, rate: float | None = None) -> AsyncIterator[Publisher]:
    """Open a publisher.

    Args:
        settings: Where Kafka is, and how many partitions scaling.runs has.
        import_id: What the records' header names; their tallies are found by it.
        rate: Events a second at the most.

    Raises:
        NotReachable: Kafka does not answer.
    """
    producer = AIOKafkaProducer(
        **connection(settings), acks="all", max_batch_size=BATCH_BYTES, max_request_size=MAX_MESSAGE_BYTES
    )
    try:
        with explained(settings):
            await producer.start()
            yield Publisher(producer, settings, import_id, rate)
    finally:
        await producer.stop()


def _key(payload: bytes) -> bytes | None:
    """Read the run id of a record; the rest of it is only skipped."""
    try:
        return _named(payload).agent_run_id.encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
