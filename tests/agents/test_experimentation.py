"""Desks of owned partitions: when they answer, write, acknowledge, refresh, and let go."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from agents.experimentation import Experimentation
from agents.flush import Flush, Record
from agents.observe import Acknowledge
from agents.outcome_events import source_header
from analytics.partitions import partition_of
from models.batches import Batch, Headers
from models.experiments import Assignment, Finding, Reply, Result, Status, StatusRecord
from models.settings import Settings, load_settings
from models.topics import ASSIGN_REPLIES, ASSIGNMENTS_TABLE, EXPERIMENT_CHANGELOGS, EXPERIMENTS_TABLE, FINDINGS

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
ONE = load_settings(partitions=1, experiment_secret=SECRET, bootstrap_draws=100)
BEGIN = 1_750_000_000.0
DEFINITION: dict[str, Any] = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 4],
    "control_value": 1,
    "min_samples_per_value": 2,
    "planned_per_value": 2,
    "stratify_by": [],
    "expire_seconds": 60,
}
BEGUN: list[dict[str, Any]] = [
    {"kind": "create", "request_id": "c", "definition": DEFINITION},
    {"kind": "start", "request_id": "s", "experiment_id": "agents"},
]


@dataclass(slots=True, eq=False)
class Memory:
    """An owned partition in memory; `writes` says whether it takes flushes."""

    tables: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: {each: {} for each in EXPERIMENT_CHANGELOGS})
    flushes: list[Flush] = field(default_factory=list)
    sent: list[Record] = field(default_factory=list)
    writes: bool = True
    swollen: bool = False
    before: Callable[[], None] = lambda: None

    async def write(self, flush: Flush) -> bool:
        """Take a flush and show it in the tables, or refuse it."""
        self.before()
        await asyncio.sleep(0)
        if self.writes:
            self.flushes.append(flush)
            for name, changes in flush.tables.items():
                kept = {**self.tables[name], **changes}
                self.tables[name] = {key: value for key, value in kept.items() if value is not None}
        return self.writes

    def replies(self) -> list[Reply]:
        """Read all replies."""
        assert {record.topic for record in self.sent} <= {ASSIGN_REPLIES}
        return [msgspec.json.decode(record.value or b"", type=Reply) for record in self.sent]

    async def reply(self, records: Sequence[Record]) -> None:
        """Take replies."""
        self.sent.extend(records)

    def assignments(self) -> list[Assignment]:
        """Read the assignments."""
        return [msgspec.json.decode(each, type=Assignment) for each in self.tables[ASSIGNMENTS_TABLE].values()]

    def status(self) -> Status:
        """Read where the experiment stands."""
        return msgspec.json.decode(self.tables[EXPERIMENTS_TABLE][b"agents|1|status"], type=StatusRecord).status


@dataclass(slots=True)
class Clock:
    """A clock that stands still until it is set."""

    now: float = BEGIN

    def __call__(self) -> float:
        """Give the time."""
        return self.now


OFFSETS = itertools.count(0, 100)


def requests(*asked: dict[str, Any], age: float = 0.0, partition: int = 0) -> Batch:
    """Make a batch of requests behind all before it, which came `age` seconds before the clock."""
    values = [json.dumps(each).encode() for each in asked]
    count = len(values)
    stamps = [round(1000 * (BEGIN - age))] * count
    first = next(OFFSETS)
    return Batch(
        "scaling.assign.requests", partition, range(first, first + count), stamps, [None] * count, values, [()] * count
    )


def assign(task: str) -> dict[str, Any]:
    """Make a request for the value of a task."""
    return {"kind": "assign", "request_id": f"q-{task}", "experiment_id": "agents", "task": {"task_id": task}}


def outcomes(*events: dict[str, Any], headers: Sequence[Headers] | None = None, partition: int = 0) -> Batch:
    """Make a batch of outcomes as the stats worker passes them on."""
    values = [json.dumps(each).encode() for each in events]
    count = len(values)
    sources = headers or [[source_header(70 + at, round(1000 * BEGIN) + at)] for at in range(count)]
    return Batch("scaling.outcomes", partition, range(count), [0] * count, [None] * count, values, sources)


def outcome(reply: Reply, **fields: object) -> dict[str, Any]:
    """Make the event of an assignment's run."""
    task = reply.request_id.removeprefix("q-")
    return {
        "agent_run_id": f"r-{task}",
        "task_id": task,
        "experiment_id": "agents",
        "assignment_token": reply.assignment_token,
        "success": True,
        **fields,
    }


async def given(
    agent: Callable[[AsyncIterator[tuple[Batch, Acknowledge]]], Any], acknowledged: list[int], *batches: Batch
) -> None:
    """Let an agent have batches; acknowledged ones are named by their place."""

    async def stream() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        for at, batch in enumerate(batches):
            await asyncio.sleep(0)
            yield batch, lambda at=at: acknowledged.append(at)  # type: ignore[misc]

    await agent(stream())


def experimenting(*owned: Memory, settings: Settings = ONE, clock: Clock | None = None) -> Experimentation:
    """Work on partitions 0, 1, and so on; the first takes all replies."""
    return Experimentation(settings, lambda: dict(enumerate(owned)), owned[0].reply, clock=clock or Clock())


async def test_batches_that_wait_are_one_write_and_acknowledged_after_it() -> None:
    """Nothing is acknowledged before the write has returned; what came meanwhile is the next write."""
    acknowledged: list[int] = []
    seen: list[list[int]] = []
    memory = Memory(before=lambda: seen.append(list(acknowledged)))
    experimentation = experimenting(memory)
    await given(experimentation.answer, acknowledged, requests(*BEGUN), requests(assign("a"), assign("b")))
    assert acknowledged == [0, 1]
    assert seen == [[]]
    assert [flush.records for flush in memory.flushes] == [[]]
    assert len(memory.flushes[0].tables[ASSIGNMENTS_TABLE]) == 2
    assert [reply.refusal for reply in memory.replies()] == [None] * 4


async def test_the_writer_takes_everything_that_came_during_a_write_into_the_next_one() -> None:
    """Many small batches cost two transactions, not one each, and none is acknowledged before its own."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Memory):
        async def write(self, flush: Flush) -> bool:
            entered.set()
            await go_on.wait()
            return await super().write(flush)

    memory = Slow()
    experimentation = experimenting(memory)
    writer = asyncio.create_task(experimentation.keep_writing())
    acknowledged: list[int] = []
    batches = [requests(*BEGUN), *(requests(assign(f"task-{number}")) for number in range(20))]
    answering = asyncio.create_task(given(experimentation.answer, acknowledged, *batches))
    await entered.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert acknowledged == []
    go_on.set()
    await answering
    assert acknowledged == list(range(21))
    assert len(memory.flushes) == 2
    assert len(memory.replies()) == 22
    writer.cancel()


async def test_replies_go_out_after_the_write_that_they_rest_on() -> None:
    """They are no part of the transaction; what was not written is not answered, and a refusal needs no write."""
    course: list[str] = []

    async def reply(records: Sequence[Record]) -> None:
        await asyncio.sleep(0)
        course.extend((record.key or b"").decode() for record in records)

    memory = Memory(before=lambda: course.append("written"))
    experimentation = Experimentation(ONE, lambda: {0: memory}, reply, clock=Clock())
    acknowledged: list[int] = []
    late = requests(assign("c"), age=5)
    await given(experimentation.answer, acknowledged, requests(*BEGUN), requests(assign("a"), assign("b")), late)
    assert course == ["written", "c", "s", "q-a", "q-b", "q-c"]
    assert acknowledged == [0, 1, 2]
    assert {record.topic for flush in memory.flushes for record in flush.records} == set()
    memory.writes = False
    await given(experimentation.answer, acknowledged, requests(assign("d")))
    assert course[6:] == ["written"]
    assert acknowledged == [0, 1, 2]


async def test_a_partition_that_was_given_up_acknowledges_nothing() -> None:
    """Where the write says no, neither requests nor outcomes are acknowledged: the next owner reads them again."""
    acknowledged: list[int] = []
    experimentation = experimenting(Memory(writes=False))
    await given(experimentation.answer, acknowledged, requests(*BEGUN))
    assert acknowledged == []


async def test_a_write_that_fails_reaches_the_caller_and_acknowledges_nothing() -> None:
    """An error is not swallowed: it has to stop the worker."""

    def fail() -> None:
        raise ConnectionError("gone")

    acknowledged: list[int] = []
    with pytest.raises(ConnectionError):
        await given(experimenting(Memory(before=fail)).answer, acknowledged, requests(*BEGUN))
    assert acknowledged == []


async def test_batches_of_a_partition_that_is_not_owned_are_left_alone() -> None:
    """They are neither handled nor acknowledged, and the partition's state is let go."""
    acknowledged: list[int] = []
    owned = {0: Memory()}
    experimentation = Experimentation(ONE, lambda: owned, owned[0].reply, clock=Clock())
    await given(experimentation.answer, acknowledged, requests(*BEGUN))
    assert list(experimentation.desks) == [0]
    memory = owned.pop(0)
    await given(experimentation.answer, acknowledged, requests(assign("a")))
    await given(experimentation.join, acknowledged, outcomes({"agent_run_id": "r"}))
    assert (list(experimentation.desks), acknowledged, memory.assignments()) == ([], [0], [])


async def test_a_partition_that_comes_back_starts_from_its_stored_tables() -> None:
    """What another owner wrote meanwhile counts, and what was in memory only does not."""
    owned = {0: Memory()}
    before = owned[0]
    experimentation = Experimentation(ONE, lambda: owned, before.reply, clock=Clock())
    await given(experimentation.answer, [], requests(*BEGUN, assign("a")))
    owned[0] = Memory(tables={name: dict(table) for name, table in before.tables.items()})
    await given(experimentation.answer, [], requests(assign("a"), assign("b")))
    first, again, new = before.replies()[-3:]
    assert again == first
    assert new.assigned_value is not None
    assert {each.unit for each in owned[0].assignments()} == {"task=a", "task=b"}


async def test_how_old_a_request_is_follows_from_its_timestamp_and_the_clock() -> None:
    """One that waited longer than its caller is late."""
    memory = Memory()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN), requests(assign("a"), age=2.5), requests(assign("b")))
    assert [reply.refusal for reply in memory.replies()] == [None, None, "late", None]


async def test_outcomes_are_joined_with_their_source() -> None:
    """Order and completion come from scaling.runs, whose offset and timestamp stand in the header."""
    acknowledged: list[int] = []
    memory = Memory()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN, assign("a"), assign("b")))
    a, b = memory.replies()[-2:]
    late = outcome(b, completed_at="2025-06-15T16:00:00Z", revision=3)
    await given(experimentation.join, acknowledged, outcomes(outcome(a), late))
    runs = {each.unit: each.run for each in memory.assignments()}
    found = {unit: (run.order, run.completed_at) for unit, run in runs.items() if run is not None}
    assert found == {"task=a": ((0, 70), BEGIN), "task=b": ((3, 71), 1_750_003_200.0)}
    assert acknowledged == [0]


@pytest.mark.parametrize("value", [b"{", b'{"agent_run_id": ""}', b"", None])
async def test_what_cannot_be_joined_is_passed_over(value: bytes | None) -> None:
    """A record that is no event, one without a source, or a deleted one keeps no other from being joined."""
    memory, acknowledged = Memory(), list[int]()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN, assign("a")))
    good = json.dumps(outcome(memory.replies()[-1])).encode()
    source = [source_header(7, round(1000 * BEGIN))]
    batch = Batch("scaling.outcomes", 0, range(3), [0] * 3, [None] * 3, [value, good, good], [source, [], source])
    with capture_logs() as logs:
        await given(experimentation.join, acknowledged, batch)
    assert [each.run is not None for each in memory.assignments()] == [True]
    assert acknowledged == [0]
    told = [each["record"] for each in logs if each["event"] == "outcome not joined"]
    assert told == ["scaling.outcomes[0]@0"] * (value is not None) + ["scaling.outcomes[0]@1"]


async def test_a_batch_that_changes_nothing_is_acknowledged_without_a_write() -> None:
    """Outcomes of unknown experiments write nothing."""
    memory, acknowledged = Memory(), list[int]()
    await given(experimenting(memory).join, acknowledged, outcomes({"agent_run_id": "r", "experiment_id": "none"}))
    assert (acknowledged, memory.flushes) == ([0], [])


async def test_a_tick_ends_experiments_although_nobody_asks() -> None:
    """A partition that nobody has written to gets its desk; its overdue assignments expire, and what is over ends."""
    memory, clock = Memory(), Clock()
    begun = [{**BEGUN[0], "definition": {**DEFINITION, "budget_runs": 4}}, BEGUN[1]]
    await given(experimenting(memory).answer, [], requests(*begun, *map(assign, "abcd")))
    fresh = experimenting(memory, clock=clock)
    flushes = len(memory.flushes)
    await fresh.tick()
    assert (memory.status(), len(memory.flushes)) == (Status.RUNNING, flushes)
    clock.now += 61
    await fresh.tick()
    assert [each.expired for each in memory.assignments()] == [True] * 4
    assert memory.status() is Status.COMPLETED
    flushes = len(memory.flushes)
    await fresh.tick()
    assert len(memory.flushes) == flushes


async def test_nothing_is_written_unasked_before_the_partitions_are_settled() -> None:
    """While tables are being restored a tick writes nothing and opens no desk."""
    memory, settled = Memory(), list[bool]()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN, *map(assign, "abcd")))
    await given(experimentation.join, [], outcomes(*map(outcome, memory.replies()[-4:])))
    flushes = len(memory.flushes)
    experimentation = Experimentation(
        ONE, lambda: {0: memory}, memory.reply, settled=lambda: bool(settled), clock=Clock()
    )
    await experimentation.tick()
    assert (len(memory.flushes), list(experimentation.desks)) == (flushes, [])
    settled.append(True)
    await experimentation.tick()
    assert memory.status() is Status.COMPLETED


async def test_the_state_of_a_lost_partition_is_dropped() -> None:
    """A partition that went to another worker keeps no memory here, also when no batch of it comes again."""
    owned = {0: Memory(), 1: Memory()}
    experimentation = Experimentation(
        load_settings(partitions=2, experiment_secret=SECRET), lambda: owned, owned[0].reply, clock=Clock()
    )
    await experimentation.tick()
    assert sorted(experimentation.desks) == [0, 1]
    del owned[1]
    await experimentation.tick()
    assert sorted(experimentation.desks) == [0]


async def test_results_are_worked_out_beside_the_loop_and_published_once() -> None:
    """A refresh publishes what has changed, and the finding when all is in; a further one writes nothing."""
    memory = Memory()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN, *map(assign, "abcd")))
    given_out = memory.replies()[-4:]
    await given(experimentation.join, [], outcomes(*(outcome(each, total_cost=1) for each in given_out)))
    await experimentation.tick()
    await experimentation.refresh()
    await experimentation.refresh()
    result = msgspec.json.decode(memory.tables[EXPERIMENTS_TABLE][b"agents|1|result"], type=Result)
    assert (result.runs, result.dollars, result.status) == (4, 4.0, Status.ANALYZED)
    findings = [record for flush in memory.flushes for record in flush.records if record.topic == FINDINGS]
    assert [msgspec.json.decode(record.value or b"", type=Finding).runs for record in findings] == [4]
    flushes = len(memory.flushes)
    await experimentation.refresh()
    assert len(memory.flushes) == flushes


async def test_requests_are_answered_while_a_result_is_worked_out() -> None:
    """The state may move on meanwhile: the finding then waits for a refresh that has seen it all."""
    memory = Memory()
    experimentation = experimenting(memory)
    await given(experimentation.answer, [], requests(*BEGUN, *map(assign, "abcd")))
    given_out = memory.replies()[-4:]
    await given(experimentation.join, [], outcomes(*map(outcome, given_out)))
    await experimentation.tick()
    refreshing = asyncio.create_task(experimentation.refresh())
    await asyncio.sleep(0)
    await given(experimentation.join, [], outcomes(outcome(given_out[0], success=False, revision=1)))
    await refreshing
    await experimentation.refresh()
    finding = msgspec.json.decode(memory.tables[EXPERIMENTS_TABLE][b"agents|1|finding"], type=Finding)
    first = next(each for each in memory.assignments() if each.unit == "task=a")
    assert first.run is not None
    assert first.run.success == 0.0
    assert finding.runs == 4
    result = msgspec.json.decode(memory.tables[EXPERIMENTS_TABLE][b"agents|1|result"], type=Result)
    assert sum(arm.mean.estimate * arm.measured for arm in result.arms if arm.mean is not None) == 3.0


async def test_a_foreign_definition_is_undone_by_its_owner_alone() -> None:
    """The desk whose partition the experiment hashes to writes the true record back; others, and junk, do nothing."""
    settings = load_settings(partitions=2, experiment_secret=SECRET)
    home = partition_of(b"agents", 2)
    memories = [Memory(), Memory()]
    experimentation = experimenting(*memories, settings=settings)
    await given(experimentation.answer, [], requests(*BEGUN, partition=home))
    true = memories[home].tables[EXPERIMENTS_TABLE][b"agents|1|definition"]
    flushes = len(memories[home].flushes)
    digits = b"agents|" + b"9" * 5000 + b"|definition"
    for key in (None, b"", b"\xff|1|definition", b"agents", b"none|1|definition", digits):
        await experimentation.suspect(key, b"{}")
    await experimentation.suspect(b"agents|1|definition", true)
    assert len(memories[home].flushes) == flushes
    await experimentation.suspect(b"agents|1|definition", b"{}")
    assert memories[home].flushes[-1].tables[EXPERIMENTS_TABLE][b"agents|1|definition"] == true
    await experimentation.tick()
    assert memories[home].status() is Status.STOPPED
    assert memories[1 - home].flushes == []


async def test_commands_that_are_read_again_are_not_carried_out_again() -> None:
    """After a crash between write and commit the new owner answers them, and asks of tasks, from what is there."""
    memory = Memory()
    stop = {"kind": "stop", "request_id": "z", "experiment_id": "agents", "reason": "enough"}
    amend = {"kind": "amend", "request_id": "m", "definition": {**DEFINITION, "alpha": 0.1}, "reason": "level"}
    first = requests(*BEGUN, assign("a"), stop, amend)
    await given(experimenting(memory).answer, [], first)
    tables = {name: dict(table) for name, table in memory.tables.items()}
    before = {reply.request_id: reply for reply in memory.replies()}
    again = Memory(tables=tables)
    await given(experimenting(again).answer, [], first)
    assert again.tables == memory.tables
    replies = {reply.request_id: reply for reply in again.replies()}
    assert replies.keys() == before.keys()
    assert replies["m"].version == 2
    # The task was assigned under the version that was amended; under the new one it is not assigned unasked.
    assert replies["q-a"].refusal == "late"


async def test_requests_of_a_topic_that_was_made_anew_are_carried_out() -> None:
    """Their offsets start again, but they came later than all that is in."""
    memory = Memory()
    await given(experimenting(memory).answer, [], requests(*BEGUN), requests(assign("a")))
    anew = requests(assign("b"), age=-1)
    anew = Batch(anew.topic, 0, range(1), anew.timestamps, anew.keys, anew.values, anew.headers)
    await given(experimenting(memory).answer, [], anew)
    assert memory.replies()[-1].assigned_value is not None
