"""Kafka takes a header whose name is no text, and our consumers read on."""

import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from models.settings import Settings
from streams.kafka_clients import read_compacted
from tests.streams.test_header_names import NAME, spoiled

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]


async def test_a_header_name_that_is_not_text_stops_no_consumer(stack: Settings) -> None:
    """Only a client that is made for it can write one; whoever reads the topic gets this record, and all others."""
    name = f"headers-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        for odd in (False, True, False):
            batch = producer.create_batch()
            for _ in range(2):
                batch.append(timestamp=None, key=b"key", value=b"value", headers=[(NAME.decode(), b"1")])
            batch.close()
            batch._build()
            batch._buffer = spoiled(bytes(batch._buffer)) if odd else batch._buffer
            await (await producer.send_batch(batch, name, partition=0))
    found = [record.headers[0][0] async for record in read_compacted(stack, name)]
    assert found == [NAME.decode()] * 2 + ["name\\xff\\xfe"] * 2 + [NAME.decode()] * 2
