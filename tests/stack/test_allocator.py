import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from agents.allocate import decode_reply, encode_request
from analytics.allocation import Allocation
from models.dimensions import Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotReachable, StackError
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS, LAWS
from streams.allocator import AllocatorService
from streams.kafka_clients import read_compacted, request_reply

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]

DIMENSIONS = (Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT)


Make = Callable[..., Law]


@pytest.fixture
def law(make_law: Make) -> Make:
    """Make laws of quality for a project with enough runs behind them."""

    def make(project: str, dimension: Dimension, exponent: float, version: int = 1) -> Law:
        return make_law(
            dimension, Outcome.QUALITY_SCORE, exponent, context=f"project={project}", mean=0.3, version=version
        )

    return make


async def publish(settings: Settings, *records: tuple[str, bytes | None], topic: str = LAWS) -> None:
    """Publish records in one transaction, as the refitter does."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, transactional_id=f"test-{uuid.uuid4()}")
    async with producer, producer.transaction():
        for key, value in records:
            await producer.send_and_wait(topic, value, key=key.encode(), partition=0)


async def publish_laws(settings: Settings, *laws: Law) -> None:
    """Publish laws under their ids."""
    await publish(settings, *((one.law_id, msgspec.json.encode(one)) for one in laws))


async def ask(settings: Settings, project: str, budget: float = 0.5) -> Allocation:
    """Ask for an allocation over Kafka."""
    request_id = str(uuid.uuid4())
    payload = encode_request(request_id, {"project": project}, budget)
    return decode_reply(await request_reply(settings, ALLOCATE_REQUESTS, ALLOCATE_REPLIES, request_id, payload, 20))


async def ask_until(settings: Settings, project: str, wanted: Callable[[Allocation], bool]) -> Allocation:
    """Ask until the answer is as wanted: laws travel on a topic of their own, behind the requests."""
    for _ in range(50):
        got = await ask(settings, project)
        if wanted(got):
            return got
        await asyncio.sleep(0.1)
    pytest.fail("the allocator did not follow the laws")


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[AllocatorService]:
    """Run an allocator, and stop it within five seconds."""
    service, stop = AllocatorService(settings), asyncio.Event()
    task = asyncio.create_task(service.run(stop))
    ready = asyncio.create_task(service.ready.wait())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=30)
    try:
        assert service.ready.is_set(), task
        yield service
    finally:
        ready.cancel()
        stop.set()
        await asyncio.wait_for(task, 5)


@pytest.fixture
async def topic(stack: Settings) -> str:
    """Create a compacted topic of two partitions for one test."""
    name = f"test-{uuid.uuid4()}"
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1, topic_configs={"cleanup.policy": "compact"})])
    finally:
        await admin.close()
    return name


async def test_allocations_follow_the_laws_without_a_restart(stack: Settings, law: Make) -> None:
    """Laws from before the start count, later ones change the answers, and a tombstone takes a law back."""
    project = f"p-{uuid.uuid4()}"
    exponents = dict(zip(DIMENSIONS, (0.5, 0.1, 0.1), strict=True))
    await publish_laws(stack, *(law(project, dimension, exponent) for dimension, exponent in exponents.items()))
    async with running(stack):
        first = await ask(stack, project)
        assert first.agent_count > first.max_iterations
        assert first.expected_cost <= 0.5
        assert {f"project={project}|{dimension}|quality_score|live" for dimension in DIMENSIONS} <= set(first.laws)

        await publish_laws(
            stack, law(project, Dimension.AGENT_COUNT, 0.1, 2), law(project, Dimension.ITERATIONS, 0.5, 2)
        )
        second = await ask_until(stack, project, lambda got: 2 in got.laws.values())
        assert second.max_iterations > second.agent_count

        gone = law(project, Dimension.AGENT_COUNT, 0.1).law_id
        await publish(stack, (gone, None))
        await ask_until(stack, project, lambda got: gone not in got.laws)
    await publish(stack, *((law(project, dimension, 0).law_id, None) for dimension in DIMENSIONS))


async def test_bad_records_and_requests_stop_nobody(stack: Settings, law: Make) -> None:
    """Unreadable laws are counted and skipped; every bad request gets its error; good ones still get answers."""
    project = f"p-{uuid.uuid4()}"
    await publish(stack, (f"{project}-bad", b"{"), (f"{project}-worse", b'{"law_id": 1}'))
    await publish_laws(stack, law(project, Dimension.AGENT_COUNT, 0.5))
    async with running(stack) as service:
        assert service.unreadable_laws >= 2
        for payload in (b"", b"\xff", b"{}", b'{"request_id": "x", "task": {}, "budget": -1}'):
            request_id = str(uuid.uuid4())
            reply = await request_reply(stack, ALLOCATE_REQUESTS, ALLOCATE_REPLIES, request_id, payload, 20)
            assert json.loads(reply)["request_id"] == request_id
            with pytest.raises(InvalidEvent):
                decode_reply(reply)
        with pytest.raises(BudgetTooSmall, match="allow that"):
            await ask(stack, project, 0.001)
        assert (await ask(stack, project)).agent_count > 1
        assert service.answered == 6
    await publish(stack, *((name, None) for name in (f"{project}-bad", f"{project}-worse")))


async def test_a_topic_is_read_to_its_end_past_transaction_markers(stack: Settings, topic: str) -> None:
    """Committed records come in order up to the end, although the last offset is a marker that no record has."""
    await publish(stack, ("a", b"1"), ("b", b"2"), topic=topic)
    await publish(stack, ("a", None), topic=topic)
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=f"test-{uuid.uuid4()}")
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never", key=b"c", partition=1)
        await producer.abort_transaction()
    records = [(record.key, record.value) async for record in read_compacted(stack, topic)]
    assert records == [(b"a", b"1"), (b"b", b"2"), (b"a", None)]
    assert [record.key async for record in read_compacted(stack, topic, [0])] == [b"a", b"b", b"a"]
    assert [record.key async for record in read_compacted(stack, topic, [1])] == []


async def test_an_unknown_topic_is_named(stack: Settings) -> None:
    """Reading a topic that does not exist says which, and how to create it."""
    with pytest.raises(StackError, match="no-such-topic does not exist"):
        [record async for record in read_compacted(stack, "no-such-topic")]


async def test_silence_is_an_error_that_says_what_to_start(stack: Settings, topic: str) -> None:
    """A request that nobody answers ends at its timeout with the name of the process to start."""
    with pytest.raises(NotReachable, match="scaling worker allocator"):
        await request_reply(stack, topic, ALLOCATE_REPLIES, "nobody", b"", 0.0)
    with pytest.raises(NotReachable, match="start the process that answers"):
        await request_reply(stack, topic, ALLOCATE_REPLIES, "nobody", b"?", 2.0)


async def test_without_kafka_the_address_is_named() -> None:
    """When Kafka does not answer, both clients say where they looked."""
    nowhere = load_settings(kafka="127.0.0.1:1")
    with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1 does not answer"):
        [record async for record in read_compacted(nowhere, LAWS)]
    with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1 does not answer"):
        await request_reply(nowhere, ALLOCATE_REQUESTS, ALLOCATE_REPLIES, "x", b"", 10.0)
