"""Overrides on their topic: read all, publish one."""

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from models.allocations import Override, check_moments
from models.settings import Settings
from models.topics import OVERRIDES
from streams.kafka_clients import read_compacted
from streams.kafka_security import connection, unreachable

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Override).decode


async def read_overrides(settings: Settings) -> dict[str, Override]:
    """Read the newest record of each override; one that cannot be read is left out.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: The topic does not exist.
    """
    orders: dict[str, Override] = {}
    async for record in read_compacted(settings, OVERRIDES):
        key = (record.key or b"").decode(errors="replace")
        try:
            if record.value is None:
                orders.pop(key, None)
            else:
                order = _decode(record.value)
                check_moments(order.given_at, order.begins, order.ends)
                orders[key] = order
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return orders


async def publish_override(settings: Settings, order: Override) -> None:
    """Publish an override or its newer record; it is in force once an allocator has read it, within 100 ms.

    Raises:
        NotReachable: Kafka does not answer.
    """
    producer = AIOKafkaProducer(**connection(settings), acks="all")
    try:
        async with producer:
            await producer.send_and_wait(OVERRIDES, _encode(order), key=order.override_id.encode())
    except KafkaError:
        raise unreachable(settings) from None
