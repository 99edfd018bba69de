"""The allocator: follows the laws on their topic and answers allocation requests from memory."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaError

from agents.allocate import answer, encode_refusal
from agents.lawbook import LawBook
from models.errors import ScalingError
from models.laws import Law
from models.settings import Settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS, LAWS
from streams.kafka_clients import POLL_MS, caught_up, reader

GROUP = "scaling-allocator"

log = structlog.get_logger(__name__)


class AllocatorService:
    """Keeps a law book in step with scaling.laws and answers scaling.allocate.requests from it.

    Allocators share one consumer group: each request is answered by one of them, and every one knows all laws.
    Requests are answered only after the laws that were there at the start have been read.
    """

    def __init__(self, settings: Settings) -> None:
        self.book = LawBook()
        self.unreadable_laws = 0
        self.answered = 0
        self.ready = asyncio.Event()
        self._settings = settings
        self._decode = msgspec.json.Decoder(Law).decode

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set.

        Raises:
            NotReachable: Kafka does not answer at the start.
            StackError: scaling.laws does not exist.
        """
        async with reader(self._settings, LAWS) as laws:
            ends = await laws.end_offsets(list(laws.assignment()))
            while not stop.is_set() and not await caught_up(laws, ends):
                await self._learn(laws)
            log.info("laws_read", laws=len(self.book), unreadable=self.unreadable_laws)
            await _until(stop, self._follow(laws), self._serve())

    def learn(self, record: ConsumerRecord) -> None:
        """Take one record of scaling.laws in: a law, or a tombstone; an unreadable one is logged and counted."""
        try:
            if record.value is None:
                self.book.delete((record.key or b"").decode())
            else:
                self.book.put(self._decode(record.value))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self.unreadable_laws += 1
            log.warning("law_unreadable", partition=record.partition, offset=record.offset, reason=str(error))

    async def _learn(self, laws: AIOKafkaConsumer) -> None:
        for records in (await laws.getmany(timeout_ms=POLL_MS)).values():
            for record in records:
                self.learn(record)

    async def _follow(self, laws: AIOKafkaConsumer) -> None:
        while True:
            await self._learn(laws)

    async def _serve(self) -> None:
        settings = self._settings
        requests = AIOKafkaConsumer(
            ALLOCATE_REQUESTS,
            bootstrap_servers=settings.kafka,
            group_id=GROUP,
            group_instance_id=settings.instance_id or None,
            session_timeout_ms=int(settings.session_seconds * 1000),
            heartbeat_interval_ms=int(settings.session_seconds * 1000 / 4),
            auto_offset_reset="latest",
        )
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka)
        async with requests, producer:
            for partition in requests.assignment():
                # "latest" means as of now, not as of the first request.
                await requests.position(partition)
            self.ready.set()
            async for record in requests:
                await self._reply(record, producer)

    async def _reply(self, record: ConsumerRecord, producer: AIOKafkaProducer) -> None:
        key = record.key or b""
        request_id = key.decode(errors="replace")
        try:
            reply = answer(record.value or b"", request_id, self.book, self._settings)
        except Exception as error:
            # One request that meets a mistake of ours must not take the answers from all others.
            log.exception("allocation_failed", request_id=request_id)
            reply = encode_refusal(
                request_id, ScalingError(f"the allocation failed: {error!r}; see the allocator's log")
            )
        try:
            await producer.send_and_wait(ALLOCATE_REPLIES, reply, key=key)
        except KafkaError as error:
            log.warning("reply_lost", request_id=request_id, reason=str(error))
        else:
            self.answered += 1
            log.info("allocation_answered", request_id=request_id)


async def run_allocator(settings: Settings, stop: asyncio.Event) -> None:
    """Run an allocator until `stop` is set.

    Raises:
        NotReachable: Kafka does not answer at the start.
        StackError: scaling.laws does not exist.
    """
    await AllocatorService(settings).run(stop)


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
