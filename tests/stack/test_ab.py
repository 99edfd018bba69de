"""A/B tests on a real Kafka and ClickHouse: the log reduced by SQL, and a test from its start to its verdict."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from agents.ab import arm_of
from agents.ab_result import PATIENCE, STRATA
from agents.archive import OBSERVATIONS, archive_runs
from agents.archive_allocations import DECISIONS as DECISIONS_TABLE
from agents.archive_allocations import archive_decisions
from agents.decode import EventDecoder
from analytics.outcome_per_cost import Arm as Moments
from deploy.stack import Stack, StackOptions, environment
from models.allocations import ABTest, Arm, Decision, Setting
from models.batches import Batch
from models.errors import InvalidExperiment
from models.settings import Settings, load_settings
from models.topics import DECISIONS, RUNS, TESTS
from streams.ab_log import find_test, publish_test, read_log, read_past, read_tests
from streams.clickhouse import ClickHouseSink, apply_schema, query

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

FIXED = Setting(3, 5, 32000, 3)
DYNAMIC = Setting(2, 4, 16000, 1)
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
ARCHIVE = "from models.settings import load_settings; from streams.archive_app import create_archive_app; "
ARCHIVE += "from streams.worker import configure_logging, run_worker; "
ARCHIVE += "settings = load_settings(); configure_logging(settings); run_worker(create_archive_app, settings)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def archived(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A stack of this module's own with an archive worker and no other."""
    options = StackOptions(state=tmp_path_factory.mktemp("ab"), kafka_port=0, clickhouse_port=0)
    stack = Stack(options, load_settings(archive_seconds=0.2))
    settings = await stack.start(workers=False)
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", ARCHIVE), env=os.environ | environment(settings), stderr=subprocess.DEVNULL
    )
    try:
        yield settings
    finally:
        worker.terminate()
        await worker.wait()
        await stack.stop()


def decision(name: str, arm: Arm, test: str = "spring", **fields: Any) -> Decision:  # noqa: ANN401 - any field
    """Make a decision of an A/B test."""
    setting = FIXED if arm is Arm.FIXED else DYNAMIC
    known: dict[str, Any] = {
        "decision_id": name,
        "decided_at": _moment(0),
        "policy_version": "v1",
        "setting": setting,
        "choice": setting,
        "propensity": 0.5,
        "objective": "most_outcome",
        "outcome": "success",
        "method": "joint",
        "contexts": ["global"],
        "task": {"task_id": f"task-{name}"},
        "complexity": 0.5,
        "test": test,
        "arm": arm,
    }
    return Decision(**known | fields)


def run_of(made: Decision, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """Make the run that did as it was told."""
    known = {
        "agent_run_id": f"run-{made.decision_id}",
        "decision_id": made.decision_id,
        "completed_at": _moment(60),
        "success": True,
        "total_cost": 1.0,
        "agent_count": made.setting.agent_count,
        "max_iterations": made.setting.max_iterations,
        "context_budget": made.setting.context_budget,
        "parallelism_level": made.setting.parallelism,
    }
    return known | fields


def _moment(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).isoformat()


def batch_of(topic: str, values: Sequence[bytes]) -> Batch:
    """Make a batch of records."""
    count = len(values)
    return Batch(topic, 0, range(count), [int(START.timestamp() * 1000)] * count, [None] * count, values, [()] * count)


async def store(settings: Settings, decisions: Sequence[Decision], runs: Sequence[dict[str, Any]]) -> None:
    """Archive decisions and runs as the archive worker does."""
    sink = ClickHouseSink(settings, refusals=1)
    rows, wrong = archive_decisions(batch_of(DECISIONS, [msgspec.json.encode(each) for each in decisions]))
    assert not wrong
    await sink.insert(DECISIONS_TABLE, rows)
    events = batch_of(RUNS, [json.dumps(each).encode() for each in runs])
    await sink.insert(OBSERVATIONS, archive_runs(events, EventDecoder(settings), settings, 0)[0])
    await sink.close()


@pytest_asyncio.fixture(loop_scope="module")
async def database(archived: Settings) -> AsyncIterator[Settings]:
    """Settings of an empty database of the test's own."""
    settings = archived.model_copy(update={"clickhouse_database": f"ab_{uuid4().hex}", "partitions": 1})
    await apply_schema(settings)
    yield settings
    query(settings, f"DROP DATABASE {settings.clickhouse_database}", readonly=False)


async def test_the_log_is_reduced_to_the_moments_of_its_runs(database: Settings) -> None:
    """Means and co-moments by stratum, all steps together, are those of the raw runs of each arm."""
    rng = np.random.default_rng(1)
    decisions, runs = [], []
    expected: dict[Arm, list[tuple[float, float, int]]] = {arm: [] for arm in Arm}
    for number in range(600):
        arm = Arm.DYNAMIC if rng.random() < 0.5 else Arm.FIXED
        z = None if number % 10 == 0 else number % 11 / 10
        made = decision(f"d{number}", arm, complexity=z)
        y, c = bool(rng.random() < 0.5), float(rng.lognormal())
        decisions.append(made)
        runs.append(run_of(made, success=y, total_cost=c, completed_at=_moment(number)))
        expected[arm].append((y, c, 5 if z is None else min(4, int(5 * z + 1e-9))))
    await store(database, [*decisions, decision("other", Arm.FIXED, test="another")], runs)

    log = read_log(database, "spring")

    for arm, rows in expected.items():
        success, cost, stratum = (np.array(column) for column in zip(*rows, strict=True))
        right, found = Moments.of(success, cost, stratum, STRATA), log.arms[arm].moments
        np.testing.assert_array_equal(found.n, right.n)
        np.testing.assert_allclose(found.mean, right.mean, rtol=1e-12)
        np.testing.assert_allclose(found.comoment, right.comoment, rtol=1e-9)
        assert log.arms[arm].tasks == log.arms[arm].complied == len(rows)
        assert log.arms[arm].spend == pytest.approx(cost.sum())
        assert all(moments.runs for moments in log.arms[arm].steps)
    assert log.times == sorted(log.times)
    assert log.times[-1] == (START + timedelta(seconds=599)).isoformat(timespec="milliseconds")


async def test_what_became_of_each_task_is_counted(database: Settings) -> None:
    """Pending, unjudged, unpriced, repeated, explored, disobedient and lost tasks are counted, and no run twice."""
    now = datetime.now(UTC)
    recent = (now - timedelta(seconds=PATIENCE - 600)).isoformat()
    names = ("done", "pending", "lost", "unjudged", "unpriced", "disobedient", "silent", "explored")
    made = {name: decision(name, Arm.DYNAMIC, decided_at=recent, explored=name == "explored") for name in names}
    made["lost"] = decision("lost", Arm.DYNAMIC)
    made["early"] = decision("early", Arm.DYNAMIC)
    again = decision("again", Arm.DYNAMIC, task={"task_id": "task-done"}, decided_at=now.isoformat())
    nameless = [decision(f"nameless-{number}", Arm.FIXED, task={}) for number in range(2)]
    numbered = [decision(f"numbered-{number}", Arm.FIXED, task={"task_id": 17}) for number in range(2)]
    silent = {
        name: value for name, value in run_of(made["silent"]).items() if name not in {"agent_count", "max_iterations"}
    }
    runs = [
        *(run_of(made[name]) for name in ("done", "early", "explored")),
        run_of(made["done"], agent_run_id="second", success=False, completed_at=_moment(3600)),
        run_of(made["unjudged"], success=None),
        run_of(made["unpriced"], total_cost=None),
        run_of(made["disobedient"], agent_count=7),
        {name: value for name, value in silent.items() if name not in {"context_budget", "parallelism_level"}},
        run_of(again, success=False, total_cost=5.0),
        *(run_of(each) for each in nameless),
    ]
    events = [{name: value for name, value in each.items() if value is not None} for each in runs]
    await store(database, [*made.values(), again, *nameless, *numbered], events)

    arms = read_log(database, "spring").arms
    dynamic = arms[Arm.DYNAMIC]

    assert (dynamic.tasks, dynamic.repeats) == (9, 1)
    assert (arms[Arm.FIXED].tasks, arms[Arm.FIXED].repeats) == (3, 1)
    assert (dynamic.pending, dynamic.unjudged, dynamic.unpriced, dynamic.explored) == (2, 1, 1, 1)
    assert (dynamic.reporting, dynamic.complied) == (6, 5)
    assert (dynamic.due, dynamic.returned) == (2, 1)
    assert dynamic.moments.runs == 5
    assert dynamic.moments.pooled.mean[0].tolist() == [1.0, 1.0]
    assert dynamic.spend == pytest.approx(5 + 1 + 5)


async def test_settings_and_past_runs_are_read(database: Settings) -> None:
    """Settings of the dynamic arm come by tenths of complexity without exploration; past runs give rate and spread."""
    assert read_past(database, "global") is None
    settings = [Setting(1, 4, 8000, 1), Setting(4, 4, 8000, 2)]
    made = [
        *(decision(f"d{number}", Arm.DYNAMIC, setting=each, complexity=0.25) for number, each in enumerate(settings)),
        decision("fixed", Arm.FIXED, complexity=0.25),
        decision("dice", Arm.DYNAMIC, explored=True),
        decision("one", Arm.DYNAMIC, complexity=1.0),
    ]
    costs = (1.0, 2.0, 3.0)
    runs = [
        {"agent_run_id": f"r{number}", "success": number < 1, "total_cost": cost, "project": "atlas"}
        for number, cost in enumerate(costs)
    ]
    await store(database, made, [*runs, {"agent_run_id": "else", "success": True, "total_cost": 9.0, "project": "b"}])

    given = read_log(database, "spring").given
    past = read_past(database, "project=atlas")

    assert [(each.complexity, each.tasks) for each in given] == [(0.2, 2), (0.9, 1)]
    assert given[0].setting == pytest.approx(
        {"agent_count": 2, "max_iterations": 4, "context_budget": 8000, "parallelism": 2**0.5}
    )
    assert past is not None
    assert (past.runs, past.rate) == (3, 1.5 / 4)
    assert past.cost_cv == pytest.approx(np.std(costs) / 2)


async def scaling(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    """Run a command as a user does; give its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.main", "ab", *arguments),
        env=os.environ | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def publish(settings: Settings, test: ABTest, count: int, gain: float, cheaper: float) -> None:
    """Publish decisions about so many tasks and their runs, and wait until they are archived."""
    rng = np.random.default_rng(8)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        for number in range(count):
            name = f"{test.test_id}-{number}"
            arm, z = arm_of(test, f"task-{name}"), float(rng.random())
            made = decision(name, arm, test=test.test_id, complexity=z, decided_at=datetime.now(UTC).isoformat())
            rate, cost = 0.7 - 0.4 * z, 1 + z
            if arm is Arm.DYNAMIC:
                rate, cost = rate + gain, cost * cheaper
            run = run_of(
                made, success=bool(rng.random() < rate), total_cost=cost * rng.lognormal(0, 0.4),
                task_id=f"task-{name}", completed_at=datetime.now(UTC).isoformat(),
            )  # fmt: skip
            await producer.send(DECISIONS, msgspec.json.encode(made), name.encode())
            await producer.send(RUNS, json.dumps(run).encode(), run["agent_run_id"].encode())
    async with asyncio.timeout(120):
        sql = "SELECT count() FROM decision_outcomes WHERE test = {test:String} AND runs > 0"
        while query(settings, sql, parameters={"test": test.test_id}).rows[0][0] < count:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.3)


async def test_a_test_goes_from_its_start_to_its_verdict(archived: Settings, tmp_path: Any) -> None:  # noqa: ANN401
    """Started on the command line, filled by decisions and runs, reported as better, and ended by its rule."""
    fixed = "agent_count=3,max_iterations=5,context_budget=32000,parallelism=3"
    options = ("--fixed", fixed, "--by", "ada", "--reason", "is it worth it?", "--gain", ".3", "--margin", ".05")
    code, shown, errors = await scaling(archived, "start", "spring", *options, "--difference", ".1")
    assert code == 0, errors
    assert "Plan: " in shown
    code, _, errors = await scaling(archived, "start", "spring", *options)
    assert code == 1
    assert "spring already" in errors
    test = await find_test(archived, "spring")
    assert (test.fixed, test.by, test.ended_at) == (FIXED, "ada", None)
    with pytest.raises(InvalidExperiment, match=r"there is no A/B test autumn \(there are: .*spring"):
        await find_test(archived, "autumn")

    await publish(archived, test, 3000, 0.1, 0.7)

    code, shown, errors = await scaling(archived, "report", "spring", "--json", "-o", str(tmp_path / "spring.html"))
    assert code == 0, errors
    found = json.loads(shown)
    assert found["verdict"] == "better", found["sentence"]
    assert sum(arm["runs"] for arm in found["arms"].values()) == 3000
    assert "settings-by-complexity" in (tmp_path / "spring.html").read_text()
    assert (await find_test(archived, "spring")).ended_at is None

    code, shown, errors = await scaling(archived, "report", "spring", "--follow", "--every", "0.2")
    assert code == 0, errors
    assert "spring: better" in shown
    done = await find_test(archived, "spring")
    assert (done.ended_by, done.verdict) == ("rule", "better")
    assert done.sentence.endswith("loses no more than 5 points of success: better.")
    assert (await scaling(archived, "end", "spring", "--reason", "late"))[0] == 1
    code, shown, _ = await scaling(archived, "list", "--json")
    assert [each["verdict"] for each in json.loads(shown) if each["test_id"] == "spring"] == ["better"]


async def test_a_watch_can_be_interrupted_and_a_test_ended_by_hand(archived: Settings) -> None:
    """Ctrl-C leaves the test as it is; ended by hand it keeps its verdict so far and the reason."""
    test = ABTest("null", FIXED, "ada", "no gain", _moment(0), context="project=none")
    await publish_test(archived, test)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.main", "ab", "report", "null", "--follow", "--every", "0.2"),
        env=os.environ | environment(archived),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(60):
        assert b"There is nothing to say yet" in await process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
    assert (await find_test(archived, "null")).ended_at is None

    code, shown, errors = await scaling(archived, "end", "null", "--by", "bob", "--reason", "no tasks come")
    assert code == 0, errors
    assert "undetermined" in shown
    done = await find_test(archived, "null")
    assert (done.ended_by, done.verdict) == ("bob", "undetermined")
    assert done.sentence.endswith("Ended by hand: no tasks come")


async def test_records_that_are_no_tests_are_passed_over(archived: Settings) -> None:
    """What no command wrote stops nobody, and a second first record changes no design."""
    test = ABTest("sealed", FIXED, "ada", "why", _moment(0), context="project=none")
    await publish_test(archived, test)
    async with AIOKafkaProducer(bootstrap_servers=archived.kafka) as producer:
        for value in (b"{", b'{"test_id": 1}', None):
            await producer.send_and_wait(TESTS, value, key=b"broken")
    await publish_test(archived, msgspec.structs.replace(test, share=0.9))
    tests = await read_tests(archived)
    assert tests["sealed"] == test
    assert "broken" not in tests
