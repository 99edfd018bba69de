"""The allocator: follows laws, overrides and A/B tests on their topics, and answers requests from memory."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from agents.ab import latest
from agents.allocation_wire import answer, encode_refusal
from agents.allocator import Allocator
from models.allocations import ABTest, Decision, Override, check_moments
from models.errors import ScalingError
from models.joint_laws import JointLaw, is_joint
from models.laws import Law
from models.metrics import ALLOCATOR_WORKER, ANSWER_SECONDS, ANSWERS, LAWS_KNOWN, UNLOGGED
from models.metrics import DECISIONS as DECISIONS_MADE
from models.settings import Settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS, DECISIONS, LAWS, MAX_MESSAGE_BYTES, OVERRIDES, TESTS
from streams.endpoint import endpoint
from streams.kafka_clients import POLL_MS, caught_up, reader
from streams.kafka_security import connection
from streams.vitals import Vitals

GROUP = "scaling-allocator"
BATCH_BYTES = 256 * 1024

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode
_read_law = msgspec.json.Decoder(Law).decode
_read_joint_law = msgspec.json.Decoder(JointLaw).decode
_read_override = msgspec.json.Decoder(Override).decode
_read_test = msgspec.json.Decoder(ABTest).decode


@dataclass(frozen=True, slots=True)
class Followed:
    """A compacted topic that is followed: what takes a record of it in, and what a tombstone."""

    topic: str
    take: Callable[[str, bytes], None]
    forget: Callable[[str], object]


class AllocatorService:
    """Keeps an allocator in step with its topics and answers scaling.allocate.requests from it.

    Allocators share one consumer group: each request is answered by one of them, and every one knows all laws.
    Requests are answered only after what was there at the start has been read.
    """

    def __init__(self, settings: Settings, vitals: Vitals | None = None) -> None:
        self.allocator = Allocator(settings)
        self.vitals = vitals or Vitals(ALLOCATOR_WORKER)
        self.unreadable = 0
        self.answered = 0
        self.unlogged = 0
        self.ready = asyncio.Event()
        self._settings = settings
        self.vitals.ready_unless(lambda: None if self.ready.is_set() else "laws, overrides and tests are being read")
        allocator = self.allocator
        self.vitals.when_asked(lambda: self.vitals.set(LAWS_KNOWN, len(allocator.book) + allocator.book.joint_laws))
        self._followed = (
            Followed(LAWS, self._take_law, allocator.book.delete),
            Followed(
                OVERRIDES, lambda _, value: allocator.overrides.put(_read_override(value)), allocator.overrides.delete
            ),
            Followed(TESTS, self._take_test, lambda key: allocator.tests.pop(key, None)),
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set.

        Raises:
            NotReachable: Kafka does not answer at the start.
            StackError: One of the topics does not exist.
        """
        async with AsyncExitStack() as opened:
            readers = [await opened.enter_async_context(reader(self._settings, each.topic)) for each in self._followed]
            for each, consumer in zip(self._followed, readers, strict=True):
                ends = await consumer.end_offsets(list(consumer.assignment()))
                while not stop.is_set() and not await caught_up(consumer, ends):
                    await self._read(each, consumer)
            book = self.allocator.book
            log.info("laws_read", laws=len(book), joint=book.joint_laws, unreadable=self.unreadable)
            following = (self._follow(each, consumer) for each, consumer in zip(self._followed, readers, strict=True))
            await _until(stop, *following, self._serve())

    def learn(self, followed: Followed, record: ConsumerRecord) -> None:
        """Take one record in, or a tombstone; an unreadable one is logged and counted."""
        try:
            key = (record.key or b"").decode()
            if record.value is None:
                followed.forget(key)
            else:
                followed.take(key, record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.unreadable += 1
            log.warning(
                "record_unreadable",
                topic=followed.topic,
                partition=record.partition,
                offset=record.offset,
                reason=str(error),
            )

    def _take_law(self, key: str, value: bytes) -> None:
        self.allocator.book.put(_read_joint_law(value) if is_joint(key) else _read_law(value))

    def _take_test(self, _: str, value: bytes) -> None:
        said, tests = _read_test(value), self.allocator.tests
        check_moments(said.started_at)
        tests[said.test_id] = latest(tests.get(said.test_id), said)

    async def _read(self, followed: Followed, consumer: AIOKafkaConsumer) -> None:
        for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                self.learn(followed, record)

    async def _follow(self, followed: Followed, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._read(followed, consumer)

    async def _serve(self) -> None:
        settings = self._settings
        requests = AIOKafkaConsumer(
            ALLOCATE_REQUESTS,
            **connection(settings),
            group_id=GROUP,
            group_instance_id=settings.instance_id or None,
            session_timeout_ms=int(settings.session_seconds * 1000),
            heartbeat_interval_ms=int(settings.session_seconds * 1000 / 4),
            auto_offset_reset="latest",
        )
        producer = AIOKafkaProducer(
            **connection(settings), max_batch_size=BATCH_BYTES, max_request_size=MAX_MESSAGE_BYTES
        )
        async with requests, producer:
            for partition in requests.assignment():
                # "latest" means as of now, not as of the first request.
                await requests.position(partition)
            self.ready.set()
            while True:
                for records in (await requests.getmany(timeout_ms=POLL_MS)).values():
                    for record in records:
                        await self._reply(record, producer)

    async def _reply(self, record: ConsumerRecord, producer: AIOKafkaProducer) -> None:
        """Answer, without waiting for the broker; what it does not take is logged."""
        key = record.key or b""
        began = time.perf_counter()
        reply, decisions = self._answer(record.value or b"", key.decode(errors="replace"))
        self.vitals.observe(ANSWER_SECONDS, time.perf_counter() - began)
        self.vitals.count(DECISIONS_MADE, len(decisions))
        try:
            # The decision goes first: no run shall echo one that is not in the log.
            for decision in decisions:
                sent = await producer.send(DECISIONS, _encode(decision), key=decision.decision_id.encode())
                sent.add_done_callback(self._logged)
            sent = await producer.send(ALLOCATE_REPLIES, reply, key=key)
            sent.add_done_callback(self._replied)
        except KafkaError as error:
            log.warning("reply_lost", reason=str(error))

    def _answer(self, payload: bytes, request_id: str) -> tuple[bytes, list[Decision]]:
        try:
            return answer(payload, request_id, self.allocator, datetime.now(UTC))
        except Exception as error:
            # One request that meets a mistake of ours must not take the answers from all others.
            log.exception("allocation_failed", request_id=request_id)
            reason = ScalingError(f"the allocation failed: {error!r}; see the allocator's log")
            return encode_refusal(request_id, reason), []

    def _logged(self, sent: "asyncio.Future[object]") -> None:
        if not sent.cancelled() and sent.exception() is not None:
            self.unlogged += 1
            self.vitals.count(UNLOGGED)
            log.warning("decision_lost", reason=str(sent.exception()))

    def _replied(self, sent: "asyncio.Future[object]") -> None:
        if sent.cancelled():
            return
        if sent.exception() is not None:
            log.warning("reply_lost", reason=str(sent.exception()))
        else:
            self.answered += 1
            self.vitals.count(ANSWERS)


async def run_allocator(settings: Settings, stop: asyncio.Event) -> None:
    """Run an allocator until `stop` is set.

    Raises:
        NotReachable: Kafka does not answer at the start.
        StackError: One of the topics does not exist.
    """
    service = AllocatorService(settings)
    async with endpoint(settings, service.vitals):
        await service.run(stop)


async def _until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """Run endless work until `stop` is set; work that fails fails all of it."""
    tasks = [asyncio.ensure_future(one) for one in (stop.wait(), *work)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
