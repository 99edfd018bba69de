"""The batching transport on a real broker: rebalances lose nothing, and every commit arrives."""

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from models.settings import Settings
from streams.kafka_clients import read_compacted
from tests.stack.transport_worker import SESSION_SECONDS

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]

PARTITIONS = 4
WORKER = Path(__file__).with_name("transport_worker.py")
PATIENCE = 90.0


@asynccontextmanager
async def worker(
    settings: Settings, name: str, *arguments: str, output: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker until the block ends, then stop it as a supervisor would."""
    command = (sys.executable, str(WORKER), settings.kafka, name, *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=WORKER.parents[2], stdout=output, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 20)


async def publish(settings: Settings, topic: str, stop: asyncio.Event) -> int:
    """Publish numbers in transactions of twenty; give how many were committed."""
    committed = 0
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, transactional_id=f"test-{uuid.uuid4()}")
    async with producer:
        while not stop.is_set():
            await producer.begin_transaction()
            for number in range(committed, committed + 20):
                await producer.send(topic, str(number).encode(), partition=number % PARTITIONS)
            await producer.commit_transaction()
            committed += 20
            await asyncio.sleep(0.02)
    return committed


async def lag(settings: Settings, group: str, topic: str) -> int:
    """Count how far the group's commits are behind the ends; trailing transaction markers carry no record."""
    tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        committed = {tp: await consumer.committed(tp) or 0 for tp in tps}
    finally:
        await consumer.stop()
    return sum(max(0, ends[tp] - 1 - committed[tp]) for tp in tps)


async def topic_with_records(settings: Settings) -> str:
    """Create the topics of a worker, five records on the first; give their name."""
    name = f"transport-{uuid.uuid4().hex[:8]}"
    await create_topics(settings, name)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for number in range(5):
            await producer.send_and_wait(name, str(number).encode(), partition=0)
    return name


async def create_topics(settings: Settings, name: str) -> None:
    """Create the topic that a worker copies, and the one that it copies to."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1), NewTopic(f"{name}-seen", 1, 1)])
    await admin.close()


async def test_repeated_rebalances_lose_nothing_and_leave_no_lag(stack: Settings) -> None:
    """Two workers come and go while transactions leave gaps: every number is seen, and all commits reach the end."""
    name = f"transport-{uuid.uuid4().hex[:8]}"
    seen = f"{name}-seen"
    await create_topics(stack, name)

    stop = asyncio.Event()
    publishing = asyncio.create_task(publish(stack, name, stop))
    async with worker(stack, name):
        for _ in range(3):
            async with worker(stack, name):
                await asyncio.sleep(5)
            await asyncio.sleep(2)
        stop.set()
        committed = await publishing
        for _ in range(int(PATIENCE)):
            if not await lag(stack, name, name):
                break
            await asyncio.sleep(1)
        assert await lag(stack, name, name) == 0

    found = Counter([int(record.value or b"") async for record in read_compacted(stack, seen)])
    assert committed > 1000
    assert found.keys() == set(range(committed))
    # At least once: what was seen again was seen because of a rebalance, not as a habit.
    assert found.total() < 2 * committed


async def test_a_restore_that_takes_longer_than_the_session_is_done_once(stack: Settings) -> None:
    """A worker that restores its tables lives: the group does not throw it out, to let it begin anew for ever."""
    name = await topic_with_records(stack)
    longer = str(1.5 * SESSION_SECONDS)
    async with worker(stack, name, longer, output=asyncio.subprocess.PIPE) as process:
        async with asyncio.timeout(PATIENCE):
            while await lag(stack, name, name):  # noqa: ASYNC110 - Kafka is asked
                await asyncio.sleep(0.5)
        process.terminate()
        assert process.stdout is not None
        printed = (await process.stdout.read()).decode()
    assert printed.count(f"assigned {PARTITIONS}") == 1


class Nothing(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """Shares out nothing, as a leader does whose metadata knows no topic."""

    @classmethod
    def assign(cls, cluster: object, members: Mapping[str, object]) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Give every member nothing."""
        del cluster
        return {member: ConsumerProtocolMemberAssignment(0, [], b"") for member in members}


async def test_a_member_that_comes_back_to_an_empty_assignment_gets_its_partitions(stack: Settings) -> None:
    """It takes over what it had under its instance id, without a rebalance: nothing; and nobody would look again."""
    name = await topic_with_records(stack)
    before = AIOKafkaConsumer(
        name,
        bootstrap_servers=stack.kafka,
        group_id=name,
        group_instance_id="one",
        partition_assignment_strategy=[Nothing],
        session_timeout_ms=60_000,
    )
    await before.start()
    assert before.assignment() == frozenset()
    await before.stop()
    async with worker(stack, name, "0", "one"), asyncio.timeout(PATIENCE / 3):
        while await lag(stack, name, name):  # noqa: ASYNC110 - Kafka is asked
            await asyncio.sleep(0.5)
