"""Ask over Kafka: one producer and one reader of replies for any number of questions at once."""

import asyncio
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from models.settings import Settings
from models.topics import MAX_MESSAGE_BYTES
from streams.kafka_clients import POLL_MS
from streams.kafka_security import connection, unreachable


class Exchange:
    """Sends requests, and gives each caller the record that carries its request id as key.

    Open it once, ask as often as you like, from as many tasks as you like.

    Args:
        settings: Where Kafka is.
        requests: The topic of requests.
        replies: The topic of replies; it has one partition.
    """

    def __init__(self, settings: Settings, requests: str, replies: str) -> None:
        self._settings = settings
        self._requests = requests
        self._replies = replies
        self._waiting: dict[str, asyncio.Future[ConsumerRecord]] = {}
        self._producer: AIOKafkaProducer = None
        self._consumer: AIOKafkaConsumer = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            **connection(self._settings), request_timeout_ms=5000, max_request_size=MAX_MESSAGE_BYTES
        )
        self._consumer = AIOKafkaConsumer(**connection(self._settings), enable_auto_commit=False)
        try:
            await self._producer.start()
            await self._consumer.start()
            replies = TopicPartition(self._replies, 0)
            self._consumer.assign([replies])
            await self._consumer.seek_to_end()
            # The end must be known before the first request is out, or a quick reply would lie before it.
            await self._consumer.position(replies)
        except BaseException as error:
            await self._close()
            if isinstance(error, KafkaError):
                raise unreachable(self._settings) from None
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

    async def ask(self, request_id: str, payload: bytes, key: str | None = None) -> tuple[ConsumerRecord, int]:
        """Send a request and wait for its reply, for as long as the caller lets it.

        Args:
            request_id: The key of the reply.
            payload: The request.
            key: The key of the request; absent: its id.

        Returns:
            The reply, and the milliseconds between the two by the broker's clock.

        Raises:
            KafkaError: The request could not be sent.
        """
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            sent = await self._producer.send_and_wait(self._requests, payload, key=(key or request_id).encode())
            reply = await future
        finally:
            if self._waiting.get(request_id) is future:
                del self._waiting[request_id]
        return reply, reply.timestamp - sent.timestamp

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    future = self._waiting.get((record.key or b"").decode(errors="replace"))
                    if future is not None and not future.done():
                        future.set_result(record)

    async def _close(self) -> None:
        await self._consumer.stop()
        await self._producer.stop()
