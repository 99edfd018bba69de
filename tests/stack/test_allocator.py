"""Allocators on a real Kafka: what is published is in force at once, and every question has an answer."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from msgspec import structs

from agents.allocation_wire import decode_reply
from models.allocations import (
    ABTest,
    AdviseRequest,
    AllocateRequest,
    Allocation,
    Decision,
    Method,
    Override,
    Pins,
    PortfolioRequest,
    Setting,
)
from models.dimensions import Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotReachable, StackError
from models.joint_laws import JointLaw, LawRecord
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS, DECISIONS, LAWS, OVERRIDES, TESTS
from streams.allocating import Allocating
from streams.allocator import AllocatorService
from streams.exchange import Exchange
from streams.kafka_clients import read_compacted
from streams.override_topic import publish_override, read_overrides

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="session")]

DIMENSIONS = (Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT)


@pytest.fixture
def law(make_law: Callable[..., Law]) -> Callable[..., Law]:
    """Make laws of quality for a project with enough runs behind them."""

    def make(project: str, dimension: Dimension, exponent: float, version: int = 1) -> Law:
        x = (4000, 64_000) if dimension is Dimension.CONTEXT else (1, 8)
        known = {"context": f"project={project}", "mean": 0.3, "version": version, "x": x}
        return make_law(dimension, Outcome.QUALITY_SCORE, exponent, **known)

    return make


@pytest.fixture
def joint_laws(make_joint_law: Callable[..., JointLaw]) -> Callable[..., list[JointLaw]]:
    """Make joint laws of a project, of success and of cost over agents and iterations."""

    def make(project: str, *, agents: float = 0.5, iterations: float = 0.4, version: int = 1) -> list[JointLaw]:
        both: Mapping[str, Any] = {
            "context": f"project={project}",
            "version": version,
            "support": {"agent_count": [1.0, 8.0], "iterations": [1.0, 8.0]},
            "typical": {"agent_count": 3.0, "iterations": 3.0, "complexity": 0.5},
            "bases": {"agent_count": "realised", "iterations": "dose"},
            "terms": ["1", "ln_agents", "ln_iterations", "complexity"],
            "covariance": [0.01, 0.0, 0.0, 0.0, 0.01, 0.0, 0.0, 0.01, 0.0, 0.01],
            "centres": {"ln_agents": 1.1, "ln_iterations": 1.1, "complexity": 0.5},
        }
        return [
            make_joint_law(Outcome.SUCCESS, **both, coefficients=[-0.5, agents, iterations, -1.0]),
            make_joint_law(
                Outcome.TOTAL_COST, **both, coefficients=[0.0, 0.0, 0.0, 0.2], base={"agents*iterations": 0.02}
            ),
        ]

    return make


def a_project() -> str:
    """Name a project of a test's own: tests share the topics."""
    return f"p-{uuid.uuid4()}"


async def publish(settings: Settings, *records: tuple[str, bytes | None], topic: str = LAWS) -> None:
    """Publish records in one transaction, as the refitter does."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, transactional_id=f"test-{uuid.uuid4()}")
    async with producer, producer.transaction():
        for key, value in records:
            await producer.send_and_wait(topic, value, key=key.encode(), partition=0)


async def publish_laws(settings: Settings, *laws: LawRecord) -> None:
    """Publish laws under their ids."""
    await publish(settings, *((one.law_id, msgspec.json.encode(one)) for one in laws))


def request(project: str, **fields: object) -> AllocateRequest:
    """Ask for a task of a project."""
    known: dict[str, Any] = {"task": {"project": project}, "budget": 0.5}
    return AllocateRequest(str(uuid.uuid4()), **known | fields)


async def ask_until(
    asking: Allocating, project: str, wanted: Callable[[Allocation], bool], **fields: object
) -> Allocation:
    """Ask until the answer is as wanted: laws and orders travel on topics of their own, beside the requests."""
    for _ in range(200):
        got = await asking.allocate(request(project, **fields))
        if wanted(got):
            return got
        await asyncio.sleep(0.02)
    pytest.fail("the allocator did not follow")


async def count_answers(count: int, *services: AllocatorService) -> None:
    """Wait until services have counted so many answers: a reply may be read before its writer knows that it is out."""
    async with asyncio.timeout(10):
        while sum(service.answered for service in services) < count:  # noqa: ASYNC110 - a counter tells nobody
            await asyncio.sleep(0.01)
    assert sum(service.answered for service in services) == count


@asynccontextmanager
async def running(settings: Settings, **changes: object) -> AsyncIterator[AllocatorService]:
    """Run an allocator that does not explore, and stop it within five seconds."""
    service, stop = AllocatorService(settings.model_copy(update={"exploration_rate": 0.0} | changes)), asyncio.Event()
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


async def test_allocations_follow_the_laws_without_a_restart(stack: Settings, law: Callable[..., Law]) -> None:
    """Laws from before the start count, later ones change the answers, and a tombstone takes a law back."""
    project = a_project()
    exponents = dict(zip(DIMENSIONS, (0.5, 0.1, 0.1), strict=True))
    await publish_laws(stack, *(law(project, dimension, exponent) for dimension, exponent in exponents.items()))
    async with running(stack), Allocating(stack) as asking:
        first = await asking.allocate(request(project))
        assert first.setting.agent_count > first.setting.max_iterations
        assert first.expected["total_cost"].estimate <= 0.5
        assert {f"project={project}|{dimension}|quality_score|live" for dimension in DIMENSIONS} <= set(first.laws)

        await publish_laws(
            stack, law(project, Dimension.AGENT_COUNT, 0.1, 2), law(project, Dimension.ITERATIONS, 0.5, 2)
        )
        second = await ask_until(asking, project, lambda got: 2 in got.laws.values())
        assert second.setting.max_iterations > second.setting.agent_count

        gone = law(project, Dimension.AGENT_COUNT, 0.1).law_id
        await publish(stack, (gone, None))
        await ask_until(asking, project, lambda got: gone not in got.laws)
    await publish(stack, *((law(project, dimension, 0).law_id, None) for dimension in DIMENSIONS))


async def test_a_joint_law_is_in_force_within_100_ms_of_its_publication(
    stack: Settings, joint_laws: Callable[..., list[JointLaw]]
) -> None:
    """From the commit of its transaction until the book has it; then the answers change."""
    project, waited = a_project(), []
    await publish_laws(stack, *joint_laws(project))
    async with running(stack) as service, Allocating(stack) as asking:
        book = service.allocator.book

        def version() -> int:
            known, _ = book.joint([f"project={project}"], Outcome.SUCCESS)
            return 0 if known is None else known.version

        before = await asking.allocate(request(project))
        assert (before.method, set(before.laws.values())) == (Method.JOINT, {1})
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, transactional_id=f"test-{uuid.uuid4()}")
        async with producer:
            for number in range(2, 22):
                await producer.begin_transaction()
                for each in joint_laws(project, agents=0.05, iterations=0.9, version=number):
                    await producer.send_and_wait(LAWS, msgspec.json.encode(each), key=each.law_id.encode())
                published = time.perf_counter()
                await producer.commit_transaction()
                while version() < number:  # noqa: ASYNC110 - a book tells nobody
                    await asyncio.sleep(0.001)
                waited.append((time.perf_counter() - published) * 1e3)
        after = await asking.allocate(request(project))
    figures = f"{np.median(waited):.1f} ms (median), {max(waited):.1f} ms (worst of 20)"
    print(f"a joint law is in force after {figures}")  # noqa: T201 - the figure that is asked for
    assert max(waited) < 1000
    assert set(after.laws.values()) == {21}
    assert before.setting.agent_count > after.setting.agent_count
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_an_override_is_in_force_at_once(stack: Settings) -> None:
    """As soon as it is published, until it is lifted; an allocator that starts later knows it too."""
    project, name = a_project(), f"o-{uuid.uuid4()}"
    order = Override(
        name, "ada", "incident 42", "2026-03-01T08:00:00Z", context=f"project={project}", pins=Pins(agent_count=3)
    )
    async with running(stack), Allocating(stack) as asking:
        assert (await asking.allocate(request(project))).overrides == []
        await publish_override(stack, order)
        got = await ask_until(asking, project, lambda got: bool(got.overrides))
        assert (got.setting.agent_count, got.overrides[0].override_id) == (3, name)
        assert (await asking.allocate(request(a_project()))).overrides == []
    async with running(stack), Allocating(stack) as asking:
        assert (await asking.allocate(request(project))).setting.agent_count == 3
        lifted = structs.replace(order, lifted_at="2026-03-02T08:00:00Z", lifted_by="bob")
        await publish_override(stack, lifted)
        await ask_until(asking, project, lambda got: not got.overrides)
    assert (await read_overrides(stack))[name] == lifted


async def test_an_ab_test_is_on_until_it_ends(stack: Settings, joint_laws: Callable[..., list[JointLaw]]) -> None:
    """Tasks of its context are in its arms, with the propensities of both; its design is that of its first record."""
    project = a_project()
    test = ABTest(
        f"t-{uuid.uuid4()}",
        Setting(5, 2, 8000, 1),
        "ada",
        "worth it?",
        "2026-03-01T08:00:00Z",
        context=f"project={project}",
        share=0.6,
    )
    await publish_laws(stack, *joint_laws(project))
    async with running(stack) as service, Allocating(stack) as asking:
        await publish(stack, (test.test_id, msgspec.json.encode(test)), topic=TESTS)
        await ask_until(asking, project, lambda got: got.test == test.test_id)
        answers = await asyncio.gather(*(asking.allocate(request(project)) for _ in range(60)))
        shares = {each.arm: each.propensity for each in answers}
        assert shares == pytest.approx({"dynamic": 0.6, "fixed": 0.4})
        assert {each.setting for each in answers if each.arm == "fixed"} == {test.fixed}
        changed = structs.replace(test, share=0.9, ended_at="2026-03-02T08:00:00Z", verdict="undetermined")
        await publish(stack, (test.test_id, msgspec.json.encode(changed)), topic=TESTS)
        await ask_until(asking, project, lambda got: got.test == "")
        assert service.allocator.tests[test.test_id].share == 0.6
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_decisions_are_logged_with_their_propensities(
    stack: Settings, joint_laws: Callable[..., list[JointLaw]]
) -> None:
    """One for each answered allocation, under the request's id, as the answer had it; none for what was refused."""
    project = a_project()
    await publish_laws(stack, *joint_laws(project))
    async with running(stack, exploration_rate=0.5) as service, Allocating(stack) as asking:
        answers = await asyncio.gather(*(asking.allocate(request(project)) for _ in range(40)))
        with pytest.raises(BudgetTooSmall):
            await asking.allocate(request(project, budget=0.0001))
        assert service.unlogged == 0
    logged: dict[str, Decision] = {}
    async for record in read_compacted(stack, DECISIONS):
        decision = msgspec.json.decode(record.value, type=Decision)
        assert record.key == decision.decision_id.encode()
        if decision.task.get("project") == project:
            logged[decision.decision_id] = decision
    assert logged.keys() == {each.decision_id for each in answers}
    for each in answers:
        decision = logged[each.decision_id]
        assert (decision.setting, decision.propensity) == (each.setting, each.propensity)
        assert (decision.policy_version, decision.explored) == (each.policy_version, each.explored)
        assert decision.contexts == ["global", f"project={project}"]
    assert {each.explored for each in answers} == {False, True}
    assert all(0 < each.propensity < 1 for each in answers)
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_allocators_share_the_requests(stack: Settings, joint_laws: Callable[..., list[JointLaw]]) -> None:
    """Each request has one answer; all allocators know all laws, so the other goes on when one stops."""
    project = a_project()
    await publish_laws(stack, *joint_laws(project))
    async with running(stack) as one, Allocating(stack) as asking:
        async with running(stack) as other:
            answers = [await asking.allocate(request(project)) for _ in range(20)]
            await count_answers(20, one, other)
            assert len({each.setting for each in answers}) == 1
            assert len(one.allocator.book) == len(other.allocator.book)
        again = [await asking.allocate(request(project)) for _ in range(5)]
        assert {each.setting for each in again} == {answers[0].setting}
        await count_answers(25, one, other)
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_two_hundred_questions_at_once(stack: Settings, joint_laws: Callable[..., list[JointLaw]]) -> None:
    """Through one door, each gets its own answer, or its own error."""
    project = a_project()
    await publish_laws(stack, *joint_laws(project))
    async with running(stack) as service, Allocating(stack) as asking:
        budgets = [0.0001 if number % 10 == 0 else 0.05 + number / 100 for number in range(200)]
        asked = [request(project, budget=budget) for budget in budgets]
        began = time.perf_counter()
        answers = await asyncio.gather(*(asking.allocate(each) for each in asked), return_exceptions=True)
        seconds = time.perf_counter() - began
        print(f"200 questions at once are answered in {seconds:.2f} s")  # noqa: T201 - the figure that is asked for
        await count_answers(200, service)
    for each, budget, answer in zip(asked, budgets, answers, strict=True):
        if budget == 0.0001:
            assert isinstance(answer, BudgetTooSmall)
        else:
            assert isinstance(answer, Allocation)
            assert answer.decision_id == each.request_id
            assert answer.expected["total_cost"].estimate <= budget
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_a_portfolio_and_advice(stack: Settings, joint_laws: Callable[..., list[JointLaw]]) -> None:
    """A thousand tasks share a budget, in a reply of several megabytes; a run asks whether to go on."""
    project = a_project()
    await publish_laws(stack, *joint_laws(project))
    async with running(stack), Allocating(stack) as asking:
        tasks = [{"project": project, "task_complexity": number / 999} for number in range(1000)]
        queue = PortfolioRequest(str(uuid.uuid4()), tasks, 150.0)
        shared = await asking.share(queue)
        assert len(shared.allocations) == 1000
        assert sum(each.expected["total_cost"].estimate for each in shared.allocations) <= 150.0
        assert shared.shadow_price > 0
        go, stop = [
            await asking.advise(
                AdviseRequest(str(uuid.uuid4()), 2, 2, 0.1, 8000, task={"project": project}, value=value)
            )
            for value in (50.0, 0.01)
        ]
        assert (go.go_on, stop.go_on) == (True, False)
    count = 0
    async for record in read_compacted(stack, DECISIONS):
        count += (record.key or b"").decode().startswith(queue.request_id)
    assert count == 1000
    await publish(stack, *((each.law_id, None) for each in joint_laws(project)))


async def test_bad_records_and_requests_stop_nobody(stack: Settings, law: Callable[..., Law]) -> None:
    """Unreadable records are counted and skipped; every bad request gets its error; good ones still get answers."""
    project = a_project()
    laws = (f"{project}-bad", b"{"), (f"{project}-worse", b'{"law_id": 1}'), (f"{project}|joint|success|audited", b"{}")
    order = Override(
        f"o-{uuid.uuid4()}", "ada", "oops", "2026-03-01T08:00:00Z", begins="soon", pins=Pins(agent_count=3)
    )
    test = ABTest(f"t-{uuid.uuid4()}", Setting(1, 1, 8000, 1), "ada", "oops", "yesterday")
    await publish(stack, *laws)
    await publish_override(stack, order)
    await publish(stack, (test.test_id, msgspec.json.encode(test)), topic=TESTS)
    await publish_laws(stack, law(project, Dimension.AGENT_COUNT, 0.5))
    async with running(stack) as service, Allocating(stack) as asking:
        assert service.unreadable >= 5
        async with Exchange(stack, ALLOCATE_REQUESTS, ALLOCATE_REPLIES) as exchange:
            for payload in (
                b"",
                b"\xff",
                b"{}",
                b'{"kind": "allocate", "request_id": "x", "task": {}, "budget": -1}',
                b'{"kind": "allocate", "request_id": "x", "task": ' + b'{"a":' * 9999 + b"1" + b"}" * 9999 + b"}",
            ):
                name = str(uuid.uuid4())
                reply, _ = await asyncio.wait_for(exchange.ask(name, payload), 20)
                assert json.loads(reply.value)["request_id"] == name
                with pytest.raises(InvalidEvent):
                    decode_reply(reply.value)
        with pytest.raises(BudgetTooSmall, match="allow that"):
            await asking.allocate(request(project, budget=0.001))
        assert (await asking.allocate(request(project))).setting.agent_count > 1
        await count_answers(7, service)
    assert order.override_id not in await read_overrides(stack)
    await publish(stack, *((name, None) for name, _ in laws))
    await publish(stack, (order.override_id, None), topic=OVERRIDES)
    await publish(stack, (test.test_id, None), topic=TESTS)


async def test_one_question_asked_twice_at_once_has_an_answer(stack: Settings, law: Callable[..., Law]) -> None:
    """A caller that asks again under the same id gets the answer; the first, who was replaced, runs out of patience."""
    project = a_project()
    await publish_laws(stack, law(project, Dimension.AGENT_COUNT, 0.5))
    async with running(stack), Allocating(stack) as asking:
        same = request(project)
        answers = await asyncio.gather(asking.allocate(same, 2.0), asking.allocate(same, 20.0), return_exceptions=True)
        assert isinstance(answers[1], Allocation)
        assert isinstance(answers[0], Allocation | NotReachable)


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


async def test_silence_is_an_error_that_says_what_to_start(stack: Settings) -> None:
    """A request that nobody answers ends with the caller's patience and the name of the process to start."""
    async with Allocating(stack) as asking:
        for patience in (0.0, 1.0):
            with pytest.raises(NotReachable, match="scaling worker allocator"):
                await asking.allocate(request(a_project()), patience)


async def test_without_kafka_the_address_is_named() -> None:
    """When Kafka does not answer, both clients say where they looked."""
    nowhere = load_settings(kafka="127.0.0.1:1")
    with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1 does not answer"):
        [record async for record in read_compacted(nowhere, LAWS)]
    with pytest.raises(NotReachable, match=r"127\.0\.0\.1:1 does not answer"):
        async with Allocating(nowhere):
            pass
