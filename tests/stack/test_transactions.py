"""Transactions end for their readers, also where a broker has lost an end marker.

Here a marker is lost on purpose: a producer believes that a partition is part of its transaction, and the coordinator
does not know of it. The broker takes such records once it is told not to ask the coordinator. What is left is what a
broker leaves that had no leader for the partition when the transaction was committed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from agents.flush import Flush, Record
from models.settings import Settings
from models.topics import CELLS_TABLE, IMPORTS_TABLE, LAWS, REJECTED, STATS_APP, STATS_CHANGELOGS, TESTS
from streams.kafka_clients import read_compacted, reader
from streams.kafka_security import connection
from streams.ledger import Ledger
from streams.transactions import TransactionalProducer

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]

CELLS = TopicPartition(STATS_CHANGELOGS[CELLS_TABLE], 1)
DEAD = TopicPartition(REJECTED, 0)
ASKING = "transaction.partition.verification.enable"


@pytest_asyncio.fixture(loop_scope="session", scope="module", autouse=True)
async def unasked(stack: Settings) -> AsyncIterator[None]:
    """Let the broker take records of a transaction that the coordinator does not know of."""
    admin = AIOKafkaAdminClient(**connection(stack))
    await admin.start()
    await ask_coordinators(admin, "false")
    yield
    await ask_coordinators(admin, "true")
    await admin.close()


async def ask_coordinators(admin: AIOKafkaAdminClient, answer: str) -> None:
    """Tell the broker whether it asks; that it was told is acknowledged before it is so."""
    await admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {ASKING: answer})])
    in_force = ""
    while in_force != answer:
        await asyncio.sleep(0.02)
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1", {ASKING: None})])
        ((*_, ((_, in_force, *_),)),) = response.resources


def lose_ends(producer: AIOKafkaProducer, places: Iterable[TopicPartition]) -> None:
    """Keep the coordinator from hearing of partitions of the next transaction."""
    producer._txn_manager._txn_partitions.update(places)


async def values(settings: Settings, topic: str) -> list[bytes | None]:
    """Read what a topic shows to readers of committed records."""
    return [record.value async for record in read_compacted(settings, topic)]


async def test_what_was_committed_without_its_end_is_seen(stack: Settings) -> None:
    """A producer looks after its commit, and ends the transaction once more: readers see it, and what comes after."""
    place = TopicPartition(TESTS, 0)
    producer = TransactionalProducer(stack, "ends-1", topics=[TESTS, LAWS])
    await producer.start()
    try:
        await producer.begin_transaction()
        lose_ends(producer, [place])
        await producer.send_and_wait(TESTS, b"ends-1", b"ends", partition=0)
        await producer.send_and_wait(LAWS, None, b"none", partition=0)
        await producer.commit_transaction()
        assert (await values(stack, TESTS))[-1:] == [b"ends-1"]
    finally:
        await producer.stop()


@pytest.mark.parametrize("committed", [True, False])
async def test_a_new_owner_ends_what_was_left_as_it_had_ended(stack: Settings, *, committed: bool) -> None:
    """A flush without its ends is restored if it was committed, and is nowhere if it was not."""
    key, value, after = f"ends|{committed}".encode(), b"flush %d" % committed, b"after %d" % committed
    async with AIOKafkaProducer(**connection(stack), transactional_id=f"{STATS_APP}-1") as left:
        await left.begin_transaction()
        lose_ends(left, [CELLS, DEAD])
        for place in (CELLS, DEAD):
            await left.send_and_wait(place.topic, value, key, partition=place.partition)
        # The coordinator must know of something, or it has no transaction to end.
        await left.send_and_wait(STATS_CHANGELOGS[IMPORTS_TABLE], None, b"1|none", partition=1)
        await (left.commit_transaction() if committed else left.abort_transaction())
    assert value not in await values(stack, REJECTED)

    ledger = Ledger(stack)
    await ledger.take(1, [1])
    try:
        assert ledger.owned[1].tables[CELLS_TABLE].get(key) == (value if committed else None)
        assert await ledger.owned[1].write(Flush({CELLS_TABLE: {key: None}}, [Record(REJECTED, 0, key, after)]))
        seen = [each for each in await values(stack, REJECTED) if each in {value, after}]
        assert seen == ([value, after] if committed else [after])
    finally:
        await ledger.release()


async def test_a_transaction_with_its_end_is_ended_once(stack: Settings) -> None:
    """Where nothing is lost there is one marker after the records, and no wait."""
    producer = TransactionalProducer(stack, "ends-2", topics=[TESTS])
    await producer.start()
    try:
        offsets = []
        for number in range(3):
            async with producer.transaction():
                sent = await producer.send(TESTS, b"%d" % number, b"ends", partition=0)
                offsets.append((await asyncio.wait_for(sent, 10)).offset)
        assert [later - earlier for earlier, later in pairwise(offsets)] == [2, 2]
    finally:
        await producer.stop()


async def test_who_takes_over_what_has_ended_writes_nothing(stack: Settings) -> None:
    """A marker is a record that nobody can commit past: an idle topic would never be without lag again."""
    place = TopicPartition(TESTS, 0)
    ends = []
    for _ in range(2):
        producer = TransactionalProducer(stack, "ends-3", topics=[place.topic])
        await producer.start()
        async with reader(stack, place.topic) as consumer:
            ends += (await consumer.end_offsets([place])).values()
        async with producer.transaction():
            await producer.send(place.topic, b"ends-3", b"ends", partition=0)
        await producer.stop()
    assert ends[1] - ends[0] == 2
