"""Overrides on their topic: read all, publish one."""

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from models.allocations import Override, check_moments
from models.errors import NotReachable
from models.settings import Settings
from models.topics import OVERRIDES
from streams.kafka_clients import read_compacted

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
        except msgspec.MsgspecError:
            continue
    return orders


async def publish_override(settings: Settings, order: Override) -> None:
    """Publish an override or its newer record; it is in force once an allocator has read it, within 100 ms.

    Raises:
        NotReachable: Kafka does not answer.
    """
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    try:
        async with producer:
            await producer.send_and_wait(OVERRIDES, _encode(order), key=order.override_id.encode())
    except KafkaError as error:
        message = f"Kafka at {settings.kafka} does not answer ({error}): start it with scaling up, or set SCALING_KAFKA"
        raise NotReachable(message) from None
