"""Ask the owner of an experiment: for a task's value, which never holds up a run, and with the commands of people."""

import asyncio
import uuid
from types import TracebackType
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from models.errors import InvalidExperiment, NotReachable
from models.experiments import AmendRequest, AssignRequest, CreateRequest, Reply, Request
from models.settings import Settings
from models.topics import ASSIGN_REPLIES, ASSIGN_REQUESTS
from streams.kafka_clients import POLL_MS

PATIENCE = 1.0
"""Seconds that a caller waits for an assignment before it runs without one."""

UNAVAILABLE = "unavailable"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reply).decode


class Assigner:
    """Asks for assignments over Kafka; open it once, ask as often as you like, from as many tasks as you like.

    An answer that comes later than the caller waited is void: the caller has gone on without it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: dict[str, asyncio.Future[tuple[Reply, int]]] = {}
        self._producer: AIOKafkaProducer = None
        self._consumer: AIOKafkaConsumer = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(bootstrap_servers=self._settings.kafka, request_timeout_ms=5000)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._settings.kafka, enable_auto_commit=False)
        try:
            await self._producer.start()
            await self._consumer.start()
            replies = TopicPartition(ASSIGN_REPLIES, 0)
            self._consumer.assign([replies])
            await self._consumer.seek_to_end()
            # The end must be known before the first request is out, or a quick reply would lie before it.
            await self._consumer.position(replies)
        except BaseException as error:
            await self._close()
            if isinstance(error, KafkaError):
                message = (
                    f"Kafka at {self._settings.kafka} does not answer: start it with scaling up, or set SCALING_KAFKA"
                )
                raise NotReachable(message) from None
            raise
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self._close()

    async def assign(
        self,
        experiment_id: str,
        task: dict[str, Any],
        *,
        agent_run_id: str | None = None,
        patience: float = PATIENCE,
    ) -> Reply:
        """Ask for a task's value; the answer comes within `patience` seconds, whatever happens.

        Returns:
            The assignment; or why there is none: refusal "unavailable" where nobody answered in time.
        """
        request = AssignRequest(str(uuid.uuid4()), experiment_id, task, agent_run_id, patience)
        try:
            async with asyncio.timeout(patience):
                reply, waited_ms = await self._exchange(request)
        except (TimeoutError, KafkaError):
            waited_ms, reply = 0, None
        if reply is None or waited_ms > patience * 1000:
            message = f"not assigned: unavailable; no answer within {patience:g} s"
            return Reply(request.request_id, experiment_id, refusal=UNAVAILABLE, message=message)
        return reply

    async def command(self, request: Request, seconds: float = 20.0) -> Reply:
        """Send a command and wait for its answer.

        Raises:
            NotReachable: Nobody answered in time.
            InvalidExperiment: The command was refused; the message says why.
        """
        try:
            async with asyncio.timeout(seconds):
                reply, _ = await self._exchange(request)
        except (TimeoutError, KafkaError):
            raise NotReachable(
                f"nobody answered on {ASSIGN_REPLIES} within {seconds:g} s: start scaling worker experiments"
            ) from None
        if reply.refusal is not None:
            raise InvalidExperiment(reply.message)
        return reply

    async def _exchange(self, request: Request) -> tuple[Reply, int]:
        """Send a request and wait for its reply: with the milliseconds between the two by the broker's clock."""
        definition = isinstance(request, CreateRequest | AmendRequest)
        key = request.definition.experiment_id if definition else request.experiment_id  # type: ignore[union-attr]
        future = self._waiting[request.request_id] = asyncio.get_running_loop().create_future()
        try:
            sent = await self._producer.send_and_wait(ASSIGN_REQUESTS, _encode(request), key=key.encode())
            reply, timestamp = await future
        finally:
            del self._waiting[request.request_id]
        return reply, timestamp - sent.timestamp

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    future = self._waiting.get((record.key or b"").decode(errors="replace"))
                    if future is not None and not future.done():
                        future.set_result((_decode(record.value), record.timestamp))

    async def _close(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()
