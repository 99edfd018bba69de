"""Kafka's clients close to the end, whatever they are in the middle of."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from models.settings import Settings
from models.topics import LAWS
from streams.kafka_security import connection

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]


async def test_a_consumer_stops_whole_while_a_fetch_waits_to_be_tried_again(stack: Settings) -> None:
    """Whose connection broke can be stopped: it raises no cancellation, and leaves nothing open."""
    consumer = AIOKafkaConsumer(**connection(stack), retry_backoff_ms=3_000)
    await consumer.start()
    place = TopicPartition(LAWS, 0)
    consumer.assign([place])
    await consumer.seek_to_end(place)
    fetching = asyncio.create_task(consumer.getone())
    fetching.add_done_callback(lambda ended: ended.exception())
    async with asyncio.timeout(20):
        while not consumer._fetcher._pending_tasks:  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)
    connections = list(consumer._client._conns.values())
    for opened in connections:
        opened._reader.feed_eof()
    await asyncio.sleep(0.2)
    (fetch,) = consumer._fetcher._pending_tasks
    assert not fetch.done()
    async with asyncio.timeout(10):
        await consumer.stop()
    assert fetch.done()
    assert not any(opened.connected() for opened in consumer._client._conns.values())
