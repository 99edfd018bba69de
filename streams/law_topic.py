"""Publishing laws: all or nothing, and by one producer at a time."""

import asyncio
from collections.abc import Callable, Iterable

import msgspec
import structlog
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from models.errors import Fenced
from models.joint_laws import LawRecord
from models.settings import Settings
from models.topics import LAWS
from streams.kafka_clients import read_compacted
from streams.transactions import TransactionalProducer

encode = msgspec.json.Encoder().encode
log = structlog.get_logger(__name__)


def law_producer(settings: Settings, transactional_id: str) -> TransactionalProducer:
    """Make the producer of laws that fences out earlier ones of its transactional id when it is started."""
    return TransactionalProducer(settings, transactional_id, topics=[LAWS], linger_ms=5, max_batch_size=256 * 1024)


async def publish_laws(
    producer: TransactionalProducer, laws: Iterable[LawRecord], fenced: str, *, withdrawn: Iterable[str] = ()
) -> None:
    """Publish laws in one transaction, each under its id, and a tombstone for each law that is withdrawn.

    Raises:
        Fenced: A newer producer has the transactional id; `fenced` is its message.
    """
    sent: list[asyncio.Future[object]] = []
    try:
        async with producer.transaction():
            for law in laws:
                # One by one: what was sent before a failure is waited for.
                sent.append(await producer.send(LAWS, encode(law), law.law_id.encode(), partition=0))  # noqa: PERF401
            for name in withdrawn:
                sent.append(await producer.send(LAWS, None, name.encode(), partition=0))  # noqa: PERF401 - as above
            await asyncio.gather(*sent)
    except (ProducerFenced, InvalidProducerEpoch):
        # Every record that was under way has failed for the same reason, which is told once.
        await asyncio.gather(*sent, return_exceptions=True)
        raise Fenced(fenced) from None


async def take_laws(settings: Settings, take: Callable[[str, bytes | None], object], *, committed: bool = True) -> None:
    """Give all records of the topic to `take`, by key and value; one that it cannot read is named in the log.

    Args:
        settings: Where Kafka is.
        take: May raise what decoding raises.
        committed: As for `read_compacted`.
    """
    async for record in read_compacted(settings, LAWS, committed=committed):
        try:
            take((record.key or b"").decode(), record.value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            log.warning("law_unreadable", partition=record.partition, offset=record.offset, reason=str(error))
