"""Decisions, overrides and A/B tests on a running stack: archived, joined with their runs, and what values policies."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from agents.policies import parse_policy
from deploy.stack import Stack, StackOptions, environment
from models.allocations import ABTest, Decision, Override, Pins, Setting
from models.settings import Settings, load_settings
from models.topics import DECISIONS, OVERRIDES, RUNS, TESTS
from streams.clickhouse import query
from streams.decision_log import evaluate_policy, read_decisions

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

COUNT = 3000
PENDING = 40
RATE = 0.3
AGENTS = (1, 2, 4)
SUCCESS = {1: 0.3, 2: 0.5, 4: 0.8}
SPLIT = 1500
"""Decisions from this one on are in an A/B test, on the second day."""

OVERRIDE = Override("o-1", "ann", "too dear", "2026-03-01T00:00:00Z", pins=Pins(agent_count=2))
TEST = ABTest("t-1", Setting(4, 5, 32_000, 4), "ann", "is it worth it?", "2026-03-01T00:00:00Z")

Records = Sequence[tuple[str, str, bytes]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A stack without stats workers, whose archive has all that was published."""
    options = StackOptions(state=tmp_path_factory.mktemp("decisions"), workers=0, kafka_port=0, clickhouse_port=0)
    async with Stack(options, load_settings()) as stack:
        await publish(stack.settings, records())
        await until(stack.settings, "SELECT countIf(runs > 0) FROM decision_outcomes", COUNT - PENDING)
        await until(stack.settings, "SELECT count() FROM overrides WHERE lifted_by = 'bob'", 1)
        await until(stack.settings, "SELECT count() FROM ab_tests", 1)
        yield stack.settings


def records() -> Records:
    """Log decisions, most of two agents; the last have no run yet, and what is published twice counts once."""
    rng = np.random.default_rng(1)
    decisions, runs = [], []
    for number in range(COUNT):
        agents = int(rng.choice(AGENTS)) if rng.random() < RATE else 2
        project = "a" if number % 2 else "b"
        decision = Decision(
            f"d-{number}",
            f"2026-03-0{1 + number // SPLIT}T12:00:00Z",
            "p1",
            Setting(agents, 5, 32_000, agents),
            (1 - RATE) * (agents == 2) + RATE / len(AGENTS),
            Setting(2, 5, 32_000, 2),
            "most_outcome",
            "success",
            "joint",
            ["global", f"project={project}", "task_type=bug"],
            {"task_id": f"t-{number}", "project": project},
            0.5,
            explored=agents != 2,
            test="t-1" if number >= SPLIT else "",
        )
        decisions.append((DECISIONS, decision.decision_id, msgspec.json.encode(decision)))
        run = {
            "agent_run_id": f"r-{number}",
            "decision_id": decision.decision_id,
            "agent_count": agents,
            "success": bool(rng.random() < SUCCESS[agents]),
            "total_cost": 0.1 * agents,
            "completed_at": "2026-03-03T00:00:00Z",
        }
        runs.append((RUNS, f"r-{number}", json.dumps(run).encode()))
    second = runs[0][2].replace(b'"r-0"', b'"again"').replace(b"2026-03-03", b"2026-03-02")
    lifted = replace(OVERRIDE, lifted_at="2026-03-02T00:00:00Z", lifted_by="bob")
    return [
        *decisions,
        *decisions[:10],
        (DECISIONS, "bad", b"{"),
        *runs[: COUNT - PENDING],
        (RUNS, "again", second),
        *((OVERRIDES, "o-1", msgspec.json.encode(each)) for each in (OVERRIDE, lifted)),
        (TESTS, "t-1", msgspec.json.encode(TEST)),
    ]


async def publish(settings: Settings, published: Records) -> None:
    """Publish records under their keys."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        sent = [await producer.send(topic, value, key.encode()) for topic, key, value in published]
        await asyncio.gather(*sent)


async def until(settings: Settings, sql: str, wanted: int) -> None:
    """Wait until a query gives a number."""
    async with asyncio.timeout(120):
        while list((await asyncio.to_thread(query, settings, sql)).rows) != [(wanted,)]:  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.3)


async def scaling(settings: Settings, *arguments: str, status: int = 0) -> str:
    """Run a command as a user does, and give what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.main", *arguments),
        env=os.environ | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode() + output.decode()
    return (errors if status else output).decode()


async def test_each_decision_has_one_row_with_the_first_of_its_runs(settings: Settings) -> None:
    """Of two runs the one that ended first counts; without one all that comes from it is null."""
    assert list(query(settings, "SELECT count(), uniqExact(decision_id) FROM decisions").rows) == [(COUNT, COUNT)]
    columns = "decision_id, agent_run_id, task_id, success, runs"
    names = f"'d-0', 'd-1', 'd-{COUNT - 1}'"
    sql = f"SELECT {columns} FROM decision_outcomes WHERE decision_id IN ({names}) ORDER BY length(decision_id), 1"
    first, second, last = query(settings, sql).rows
    assert (first[1], first[2], first[4]) == ("again", "t-0", 2)
    assert (second[1], second[4]) == ("r-1", 1)
    assert tuple(last) == (f"d-{COUNT - 1}", None, f"t-{COUNT - 1}", None, 0)


async def test_overrides_and_tests_are_read_back(settings: Settings) -> None:
    """An override that was lifted stays, with who lifted it; a test has its plan."""
    override = "SELECT by, pins, lifted_by, toString(lifted_at) FROM overrides"
    assert list(query(settings, override).rows) == [("ann", '{"agent_count":2}', "bob", "2026-03-02 00:00:00.000")]
    test = "SELECT test_id, JSONExtractUInt(fixed, 'agent_count'), share, ended_at FROM ab_tests"
    assert list(query(settings, test).rows) == [("t-1", 4, 0.5, None)]


async def test_the_log_is_read_by_time_context_and_test(settings: Settings) -> None:
    """Each condition leaves out what it should; a context of two parts is both of them."""

    def read(**conditions: Any) -> int:  # noqa: ANN401 - the conditions
        return len(read_decisions(settings, **conditions))

    second_day = datetime(2026, 3, 2, tzinfo=UTC)
    assert read() == COUNT
    assert read(since=second_day) == COUNT - SPLIT
    assert read(tests=False) == SPLIT
    assert read(context="project=a") == COUNT // 2
    assert read(context="project=a&task_type=bug", since=second_day, tests=True) == (COUNT - SPLIT) // 2
    assert read(context="project=a&task_type=doc") == 0
    assert read(most=7) == 7
    newest = read_decisions(settings, most=1)[0]
    assert (newest.setting.agent_count in AGENTS, newest.choice, newest.complexity) == (
        True,
        Setting(2, 5, 32_000, 2),
        0.5,
    )


async def test_policies_are_valued_from_the_log(settings: Settings) -> None:
    """Two agents succeed in a half of the tasks and four in eight tenths; the command says the same as the function."""
    greedy, four = (evaluate_policy(settings, parse_policy(text)) for text in ("greedy", "agent_count=4"))
    for found, truth in ((greedy, SUCCESS[2]), (four, SUCCESS[4])):
        assert found.found.value.estimate == pytest.approx(truth, abs=4 * found.found.value.se)
        assert (found.found.n, found.pending, found.tasks) == (COUNT - PENDING, PENDING, COUNT - PENDING)
    assert four.found.gain.lo > 0.1
    cut = evaluate_policy(settings, parse_policy("greedy"), most=1000)
    assert any("only the newest 1,000 decisions are read" in note for note in cut.notes)
    assert not any("are read" in note for note in four.notes)
    told = json.loads(await scaling(settings, "evaluate", "agent_count=4", "--json"))
    assert told["found"]["value"] == pytest.approx(msgspec.to_builtins(four.found.value))
    assert told["sentence"] == four.sentence


async def test_rules_of_a_file_and_the_net_value(settings: Settings, tmp_path: Path) -> None:
    """Four agents for one project only, each success worth three dollars, in a table and in words."""
    file = tmp_path / "rules.json"
    file.write_text('[{"context": "project=a", "setting": {"agent_count": 4}}]', encoding="utf-8")
    told = await scaling(settings, "evaluate", f"@{file}", "--outcome", "net", "--value", "3")
    assert "would have brought a mean net value in dollars of 1." in told
    assert "more than what was done" in told
    assert "Left out: 40 without a run yet." in told
    assert "doubly robust" in told
    assert "SNIPS" in told


async def test_what_the_log_cannot_tell_is_refused(settings: Settings) -> None:
    """A setting that was hardly tried, or never, has no value; a policy that is none is told with what there is."""
    told = await scaling(settings, "evaluate", "agent_count=4", "--context", "project=a", "--no-test", status=1)
    assert "agent_count=4 cannot be valued yet: effective sample size" in told
    assert "below 200" in told
    told = await scaling(settings, "evaluate", "agent_count=3", status=1)
    assert "no logged decision is one that the policy makes" in told
    assert "'agents' is no part of a setting" in await scaling(settings, "evaluate", "agents=3", status=1)
