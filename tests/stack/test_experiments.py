import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from agents.definitions import seal
from analytics.partitions import partition_of
from analytics.ready_made import READY_MADE
from cli.definition_files import changed
from deploy.stack import Stack, StackOptions, running_stack
from models.errors import InvalidExperiment
from models.experiments import (
    AmendRequest,
    CreateRequest,
    Definition,
    Label,
    Reply,
    StartRequest,
    Status,
    StopRequest,
    Verdict,
)
from models.settings import Settings, load_settings
from models.topics import ASSIGN_REQUESTS, EXPERIMENTS, RUNS
from streams.assigning import Assigner
from streams.clickhouse import query
from streams.experiment_log import Course, read_assignments, read_course, read_findings

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

PROMPT = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def state(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """State folder of a whole stack that refits and expires quickly."""
    folder = tmp_path_factory.mktemp("experiments")
    options = StackOptions(state=folder, workers=1, kafka_port=0, clickhouse_port=0)
    async with Stack(options, load_settings(refit_seconds=0.2, archive_seconds=0.2)):
        yield folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(state: Path) -> Settings:
    """The settings that a command in the stack's folder has, its secret included."""
    return load_settings(**(running_stack(state) or {}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def assigner(settings: Settings) -> AsyncIterator[Assigner]:
    """An open asker."""
    async with Assigner(settings) as opened:
        yield opened


def definition(**changes: Any) -> Definition:  # noqa: ANN401 - any field
    """Make a small agent count experiment under an id of its own."""
    small = {"min_samples_per_value": 2, "planned_per_value": 4, "values_tested": [1, 2], "stopping": "fixed"}
    return changed(
        READY_MADE["agent_count"], {"experiment_id": f"e-{uuid.uuid4()}", "expire_seconds": 600, **small, **changes}
    )


async def started(assigner: Assigner, **changes: Any) -> str:  # noqa: ANN401 - any field
    """Create and start an experiment; give its id."""
    made = definition(**changes)
    await assigner.command(CreateRequest(str(uuid.uuid4()), made, "test"), 60)
    reply = await assigner.command(StartRequest(str(uuid.uuid4()), made.experiment_id, "test"))
    assert reply.status is Status.RUNNING
    return made.experiment_id


async def fill(assigner: Assigner, experiment: str) -> list[Reply]:
    """Ask for tasks until every value has its assignments; the last block may be cut."""
    replies = list[Reply]()
    while len(replies) < 20:
        task = {"task_id": f"t-{len(replies)}", "project": "atlas", "task_complexity": 0.7}
        reply = await assigner.assign(experiment, task, patience=10)
        if reply.refusal == "sufficient":
            break
        assert reply.assigned_value is not None, reply.message
        replies.append(reply)
    return replies


async def assign(assigner: Assigner, experiment: str, count: int) -> list[Reply]:
    """Ask for so many tasks."""
    tasks = [{"task_id": f"t-{number}", "project": "atlas", "task_complexity": 0.7} for number in range(count)]
    replies = [await assigner.assign(experiment, task, patience=10) for task in tasks]
    assert not [reply.message for reply in replies if reply.refusal]
    return replies


def run_of(reply: Reply, number: int, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Make the event of an assigned run that did as it was told."""
    return {
        "agent_run_id": str(uuid.uuid4()),
        "task_id": f"t-{number}",
        "agent_count": int(float(reply.assigned_value or 0)),
        "success": number % 3 > 0,
        "total_cost": 0.5,
        "experiment_id": reply.experiment_id,
        "assigned_value": reply.assigned_value,
        "assignment_token": reply.assignment_token,
        **fields,
    }


async def publish(settings: Settings, *events: dict[str, Any]) -> None:
    """Publish run events."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for event in events:
            await producer.send_and_wait(RUNS, msgspec.json.encode(event), event["agent_run_id"].encode())


async def course_when(settings: Settings, experiment: str, holds: Callable[[Course], bool]) -> Course:
    """Wait until an experiment is as wanted."""
    deadline = time.monotonic() + PROMPT
    while True:
        course = await read_course(settings, experiment)
        if holds(course):
            return course
        assert time.monotonic() < deadline, course
        await asyncio.sleep(0.2)


def scaling(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the stack."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SCALING_")}
    command = [sys.executable, "-P", "-m", "cli.main", *words, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=kept)


def runs_of(course: Course, number: int = 1) -> int:
    """Count the runs of a version's result."""
    result = course.results.get(number)
    return 0 if result is None else result.runs


async def test_an_experiment_goes_from_draft_to_finding(assigner: Assigner, settings: Settings, state: Path) -> None:
    """Draft, start, assign, publish, analyse: it is on the topics, in ClickHouse, in the register and in the report."""
    experiment = await started(assigner)
    replies = await fill(assigner, experiment)
    counts = [sum(reply.assigned_value == value for reply in replies) for value in (1, 2)]
    assert min(counts) == 4
    assert max(counts) <= 6
    runs = len(replies)
    again = await assigner.assign(experiment, {"task_id": "t-3", "task_complexity": 0.7}, patience=10)
    assert again.assignment_token == replies[3].assignment_token
    events = [run_of(reply, number) for number, reply in enumerate(replies)]
    await publish(settings, *events, events[0])
    course = await course_when(settings, experiment, lambda each: each.status is Status.ANALYZED)
    result = course.results[1]
    assert (result.runs, result.status, result.label) == (runs, Status.ANALYZED, Label.CONFIRMATORY)
    assert [arm.complied for arm in result.arms] == counts
    assert result.law is None or result.law.evidence == "randomised"
    (finding,) = [each for each in await read_findings(settings) if each.experiment_id == experiment]
    assert finding.sha256 == course.versions[1].sha256

    joined = {each.unit: each for each in await read_assignments(settings, experiment)}
    assert {each.run.agent_run_id for each in joined.values() if each.run} == {
        event["agent_run_id"] for event in events
    }

    await archived(settings, experiment, runs)
    columns = "status, verdict, runs, hypothesis, dimension_tested, control_value"
    sql = f"SELECT {columns} FROM experiments WHERE experiment_id = {{e:String}}"
    ((status, verdict, told, hypothesis, dimension, control),) = query(settings, sql, parameters={"e": experiment}).rows
    assert (status, verdict, told) == ("analyzed", result.verdict.value, runs)
    assert (hypothesis, dimension, control) == (READY_MADE["agent_count"].hypothesis, "agent_count", "1")
    sql = "SELECT count() FROM findings WHERE experiment_id = {e:String}"
    assert query(settings, sql, parameters={"e": experiment}).rows == [(1,)]

    for words in (("experiment", "list"), ("experiment", "show", experiment), ("experiment", "findings")):
        done = scaling(state, *words)
        assert done.returncode == 0, done.stderr
        assert experiment in done.stdout or READY_MADE["agent_count"].name in done.stdout
    verified = scaling(state, "experiment", "verify", experiment)
    assert verified.returncode == 0, verified.stdout
    assert "Everything that was checked is as it was sealed." in verified.stdout
    assert "not checked" not in verified.stdout
    for name in ("report.html", "report.md"):
        done = scaling(state, "experiment", "report", experiment, "-o", str(state / name))
        assert done.returncode == 0, done.stderr
        assert READY_MADE["agent_count"].hypothesis in (state / name).read_text()


async def archived(settings: Settings, experiment: str, runs: int) -> None:
    """Wait until ClickHouse has every joined assignment, and the end of the experiment."""
    deadline = time.monotonic() + PROMPT
    count = "SELECT countIf(status = 'completed') FROM experiment_assignments WHERE experiment_id = {e:String}"
    ended = "SELECT count() FROM findings WHERE experiment_id = {e:String}"
    while True:
        answers = [query(settings, sql, parameters={"e": experiment}).rows[0][0] for sql in (count, ended)]
        status = query(
            settings, "SELECT status FROM experiments WHERE experiment_id = {e:String}", parameters={"e": experiment}
        ).rows
        if answers == [runs, 1] and status == [("analyzed",)]:
            return
        assert time.monotonic() < deadline, (answers, status)
        await asyncio.sleep(0.2)


async def test_only_a_valid_token_makes_evidence(assigner: Assigner, settings: Settings) -> None:
    """Runs without a token, with a forged one, or with another task's are named and not counted; corrections count."""
    experiment = await started(assigner, planned_per_value=10)
    replies = await assign(assigner, experiment, 4)
    good = run_of(replies[0], 0, success=False)
    token = replies[1].assignment_token or ""
    bad = [
        run_of(replies[1], 1, assignment_token=None),
        run_of(replies[1], 1, assignment_token=token[:-4] + "0000"),
        run_of(replies[1], 1, assignment_token=replies[2].assignment_token),
        run_of(replies[1], 1, assigned_value=7),
    ]
    await publish(settings, good, *bad)
    course = await course_when(settings, experiment, lambda each: runs_of(each) == 1 and each.results[1].unproven == 4)
    assert set(course.notes[1].unproven) == {event["agent_run_id"] for event in bad}

    await publish(settings, good | {"success": True, "revision": 1})

    def corrected(each: Course) -> bool:
        arms = each.results[1].arms
        return any(arm.completed and arm.measured and arm.dollars == 0.5 for arm in arms) and runs_of(each) == 1

    await course_when(settings, experiment, corrected)
    deadline = time.monotonic() + PROMPT
    while True:
        (run,) = [each.run for each in await read_assignments(settings, experiment) if each.run]
        if run.success == 1.0:
            break
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_changed_definition_is_named_and_undone(
    assigner: Assigner, settings: Settings, state: Path, *, elsewhere: bool
) -> None:
    """Who overwrites a sealed record, hash and all, is found at once; the experiment stops, verify names the field."""
    experiment = await started(assigner, planned_per_value=10)
    replies = await assign(assigner, experiment, 4)
    sealed = (await read_course(settings, experiment)).versions[1]
    forged = seal(
        changed(sealed.definition, {"planned_per_value": 5, "minimum_effect": 0.01}),
        "another secret of their own",
        previous=None,
        at=sealed.sealed_at,
        by="somebody",
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        key = f"{experiment}|1|definition".encode()
        own = partition_of(experiment.encode(), settings.partitions)
        partition = (own + elsewhere) % settings.partitions
        await producer.send_and_wait(EXPERIMENTS, msgspec.json.encode(forged), key, partition=partition)
    course = await course_when(settings, experiment, lambda each: each.status is Status.STOPPED and 1 in each.results)
    assert "planned_per_value 10 -> 5" in course.statuses[1].reason
    assert "minimum_effect 0.2 -> 0.01" in course.statuses[1].reason
    await course_when(settings, experiment, lambda each: each.versions[1] == sealed)
    course = await course_when(settings, experiment, lambda each: each.results[1].label is Label.EXPLORATORY)
    assert any("tampering" in deviation for deviation in course.results[1].deviations)
    refused = await assigner.assign(experiment, {"task_id": "new", "task_complexity": 0.7}, patience=10)
    assert refused.refusal == "not_running"
    done = scaling(state, "experiment", "verify", experiment)
    assert done.returncode == 3
    assert "WRONG  version 1: the sealed definition was changed: " in done.stdout
    assert "planned_per_value 10 -> 5" in done.stdout
    assert len(replies) == 4


async def test_amending_and_stopping_leave_their_marks(assigner: Assigner, settings: Settings) -> None:
    """A second version follows from the first by its hash, and nothing under it is confirmatory; a stop says why."""
    experiment = await started(assigner)
    first = (await read_course(settings, experiment)).versions[1]
    larger = changed(first.definition, {"planned_per_value": 6})
    reply = await assigner.command(AmendRequest(str(uuid.uuid4()), larger, "too small", "test"))
    assert reply.version == 2
    await assign(assigner, experiment, 2)
    await assigner.command(StopRequest(str(uuid.uuid4()), experiment, "enough", "test"))
    course = await course_when(
        settings, experiment, lambda each: 2 in each.results and each.results[2].status is Status.STOPPED
    )
    assert course.versions[2].previous_sha256 == first.sha256
    result = course.results[2]
    assert result.label is Label.EXPLORATORY
    assert result.verdict is Verdict.UNDETERMINED
    assert any("planned_per_value 4 -> 6" in deviation for deviation in result.deviations)
    assert any("by hand: enough" in deviation for deviation in result.deviations)
    with pytest.raises(InvalidExperiment, match="create a new one"):
        await assigner.command(StartRequest(str(uuid.uuid4()), experiment))


async def test_whoever_asks_gets_an_answer(assigner: Assigner, settings: Settings) -> None:
    """Unknown experiments, drafts, tasks that do not match and nonsense are refused in words."""
    draft = definition()
    await assigner.command(CreateRequest(str(uuid.uuid4()), draft))
    asked = {
        "unknown": ("no-such-experiment", {"task_complexity": 0.7}),
        "not_running": (draft.experiment_id, {"task_complexity": 0.7}),
    }
    for refusal, (experiment, task) in asked.items():
        assert (await assigner.assign(experiment, task, patience=10)).refusal == refusal
    running = await started(assigner)
    for task in ({"task_complexity": 0.3}, {}):
        reply = await assigner.assign(running, task, patience=10)
        assert reply.refusal == "no_match"
        assert "task_complexity" in reply.message
    assert (await assigner.assign(running, {"task_id": 7}, patience=10)).refusal == "invalid"

    # What cannot be read is answered as far as it says who asks, and holds up nobody.
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for nonsense in (b"\xff{", b"{}", b'{"kind": "assign", "request_id": "r", "experiment_id": 7}'):
            await producer.send_and_wait(ASSIGN_REQUESTS, nonsense, key=running.encode())
    reply = await assigner.assign(running, {"task_complexity": 0.7}, patience=10)
    assert reply.assigned_value is not None
