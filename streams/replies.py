"""Send replies: at once, and without waiting for anybody."""

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from agents.flush import Record
from models.settings import Settings
from streams.kafka_security import connection

log = structlog.get_logger(__name__)


class Replies:
    """A producer of replies, opened at the first one. What Kafka does not take is lost: its caller asks again."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer = None
        self._opening = asyncio.Lock()

    async def send(self, records: Sequence[Record]) -> None:
        """Send records, in their order, without waiting for the broker."""
        try:
            producer = await self._opened()
            for record in records:
                sent = await producer.send(record.topic, record.value, record.key, record.partition)
                sent.add_done_callback(_tell)
        except KafkaError as error:
            log.warning("replies lost", replies=len(records), reason=str(error))

    async def close(self) -> None:
        """Send what is left and close the producer."""
        if self._producer is not None:
            await self._producer.stop()

    async def _opened(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(**connection(self._settings))
                await producer.start()
                self._producer = producer
        return self._producer


def _tell(sent: "asyncio.Future[object]") -> None:
    if not sent.cancelled() and sent.exception() is not None:
        log.warning("reply lost", reason=str(sent.exception()))
