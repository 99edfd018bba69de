"""Owners of experiments are killed at random moments: no assignment is lost, doubled or late, blocks stay balanced.

What was answered is compared with the log (scaling.assignments), what was published with what was joined. Ownership of
a partition is read from the workers' own logs and the times of the kills: from its takeover to its release.
"""

import asyncio
import json
import random
import re
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from analytics.partitions import partition_of
from analytics.ready_made import READY_MADE
from cli.definition_files import changed
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.experiments import Assignment, CreateRequest, Reply, StartRequest
from models.settings import Settings, load_settings
from models.topics import RUNS
from streams.assigning import Assigner
from streams.experiment_log import read_assignments, read_course
from streams.experiment_verification import verify_experiment

PATIENCE = 1.0
WORKERS = ("owner-0", "owner-1")
STRATA = ("atlas", "delta")
VALUES = (1, 2, 3, 4, 6, 8)
LARGEST_BLOCK = 2
"""A block has each value once or twice, so counts within a stratum differ by two at the most."""


@dataclass
class Asked:
    """One question: when, about which partition, and what came back."""

    at: float
    partition: int
    reply: Reply


@dataclass
class Scenario:
    """Two owners, one stats worker, and askers; everything that was asked, published and killed."""

    settings: Settings
    state: Path
    random: random.Random
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], Reply] = field(default_factory=dict)
    published: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    kills: list[tuple[float, str]] = field(default_factory=list)

    def worker(self, name: str, kind: str) -> Supervised:
        """Make a supervised worker that may die as often as it likes."""
        spec = ProcessSpec(
            name,
            (sys.executable, "-P", "-m", "cli.main", "worker", kind),
            self.state / "logs" / f"{name}.log",
            environment(self.settings.model_copy(update={"instance_id": name})),
            stop_seconds=8.0,
        )
        return Supervised(spec, on_failure=lambda error: pytest.fail(str(error)), restarts=10_000)

    async def ask(
        self, name: int, experiments: list[str], assigner: Assigner, producer: AIOKafkaProducer, until: float
    ) -> None:
        """Ask for tasks one after another, now and then twice; run what was assigned and publish it."""
        number = 0
        while time.monotonic() < until:
            experiment = experiments[(name + number) % len(experiments)]
            task = f"task-{name}-{number}"
            fields = {"task_id": task, "project": STRATA[number % 2], "task_complexity": 0.7}
            for _ in range(2 if number % 10 == 0 else 1):
                at = time.time()
                reply = await assigner.assign(experiment, fields, patience=PATIENCE)
                assert time.time() - at < PATIENCE + 0.5, "an answer held up a run"
                self.asked.append(Asked(at, partition_of(experiment.encode(), self.settings.partitions), reply))
                if reply.assigned_value is not None:
                    known = self.answers.setdefault((experiment, task), reply)
                    assert known.assignment_token == reply.assignment_token, "the same task got two answers"
            number += 1
            answer = self.answers.get((experiment, task))
            await self._publish(experiment, task, answer, producer)
            await asyncio.sleep(self.random.uniform(0, 0.1))

    async def _publish(self, experiment: str, task: str, answer: Reply | None, producer: AIOKafkaProducer) -> None:
        run = str(uuid.uuid4())
        event: dict[str, Any] = {"agent_run_id": run, "task_id": task, "success": self.random.random() < 0.5}
        if answer is not None:
            event |= {"experiment_id": experiment, "assignment_token": answer.assignment_token}
            event |= {"assigned_value": answer.assigned_value, "agent_count": int(float(answer.assigned_value or 0))}
            self.published[experiment].add(run)
        await producer.send(RUNS, msgspec.json.encode(event), run.encode())

    async def kill_at_random(self, workers: dict[str, Supervised], kills: int, seconds: float) -> None:
        """Kill either owner at random moments."""
        start = time.monotonic()
        for moment in sorted(self.random.uniform(2, seconds) for _ in range(kills)):
            await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
            worker = workers[self.random.choice(WORKERS)]
            while not worker.running:  # noqa: ASYNC110 - the watch of a process has no event to wait for
                await asyncio.sleep(0.05)
            self.kills.append((time.time(), worker.spec.name))
            worker.kill()
            print(f"kill -9 {worker.spec.name} at {moment:5.1f} s")  # noqa: T201

    def owned(self) -> dict[int, list[tuple[float, float]]]:
        """Read from the logs when each partition had an owner."""
        moments: list[tuple[float, str, str, list[int]]] = [(at, name, "killed", []) for at, name in self.kills]
        for name in WORKERS:
            for line in (self.state / "logs" / f"{name}.log").read_text().splitlines():
                found = re.search(
                    r'timestamp=(\S+) .*event="partitions? (served|released)" partitions?="?([\[\]\d, ]+)', line
                )
                if found:
                    at, listed = datetime.fromisoformat(found[1]).timestamp(), json.loads(found[3])
                    moments.append((at, name, found[2], listed if isinstance(listed, list) else [listed]))
        spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
        owner: dict[int, tuple[str, float]] = {}
        for at, name, what, partitions in sorted(moments):
            if what == "served":
                owner |= dict.fromkeys(partitions, (name, at))
                continue
            for partition, (holder, since) in list(owner.items()):
                if holder == name:
                    spans[partition].append((since, at))
                    del owner[partition]
        for partition, (_, since) in owner.items():
            spans[partition].append((since, time.time()))
        return spans

    def owned_answers(self) -> tuple[int, list[tuple[float, float]]]:
        """Count the questions whose partition had an owner for their whole second.

        Returns:
            Their number, and of those unanswered the seconds since the owner came and until it went.
        """
        spans = self.owned()
        owned, unanswered = 0, []
        for each in self.asked:
            for since, until in spans[each.partition]:
                if since <= each.at and each.at + PATIENCE <= until:
                    owned += 1
                    if each.reply.refusal == "unavailable":
                        unanswered.append((each.at - since, until - each.at))
        return owned, unanswered


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Settings]:
    """Kafka and ClickHouse of this scenario's own, without workers."""
    options = StackOptions(state=tmp_path, kafka_port=0, clickhouse_port=0)
    given = load_settings(experiment_secret=str(uuid.uuid4()), session_seconds=6, refit_seconds=0.5)
    embedded = Stack(options, given)
    try:
        yield await embedded.start(workers=False)
    finally:
        await embedded.stop()


async def run_scenario(
    settings: Settings, state: Path, *, askers: int, kills: int, seconds: float, seed: int
) -> Scenario:
    """Ask under kills, then compare answers, log and outcomes exactly."""
    print(f"seed {seed}")  # noqa: T201
    scenario = Scenario(settings, state, random.Random(seed))  # noqa: S311 - a seed to rerun
    owners = {name: scenario.worker(name, "experiments") for name in WORKERS}
    stats = scenario.worker("stats-0", "stats")
    experiments = [f"kills-{number}" for number in range(4)]
    workers = [*owners.values(), stats]
    await asyncio.gather(*(worker.start() for worker in workers))
    try:
        async with Assigner(settings) as assigner, AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
            for name in experiments:
                made = changed(READY_MADE["agent_count"], large(name))
                await assigner.command(CreateRequest(str(uuid.uuid4()), made), 60)
                await assigner.command(StartRequest(str(uuid.uuid4()), name), 60)
            until = time.monotonic() + seconds
            asking = (scenario.ask(number, experiments, assigner, producer, until) for number in range(askers))
            await asyncio.gather(scenario.kill_at_random(owners, kills, seconds), *asking)
        for name in experiments:
            await settled(scenario, name)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers))
    return scenario


def large(name: str) -> dict[str, Any]:
    """Plan more assignments than the askers can use up."""
    return {
        "experiment_id": name,
        "planned_per_value": 20_000,
        "expire_seconds": 3600,
        "stratify_by": ["project"],
        "stopping": "fixed",
    }


async def settled(scenario: Scenario, experiment: str) -> None:
    """Compare an experiment's log with what was answered, and its outcomes with what was published."""
    deadline = time.monotonic() + 90
    while True:
        log = await read_assignments(scenario.settings, experiment)
        joined = {each.run.agent_run_id for each in log if each.run is not None}
        joined |= {run for each in log for run in each.repeats}
        if joined == scenario.published[experiment]:
            break
        assert time.monotonic() < deadline, (len(joined), len(scenario.published[experiment]))
        await asyncio.sleep(0.5)
    expect_exact(log, {task: reply for (name, task), reply in scenario.answers.items() if name == experiment})
    expect_balanced(log)
    assert not (await verify_experiment(scenario.settings, experiment)).problems
    result = (await read_course(scenario.settings, experiment)).results[1]
    assert result.unproven == 0


def expect_exact(log: list[Assignment], answers: dict[str, Reply]) -> None:
    """Every answer stands in the log as it was given, no task stands there twice, and what no caller got has no run."""
    by_unit = {each.unit: each for each in log}
    assert len(by_unit) == len(log)
    assert len({each.assignment_id for each in log}) == len(log)
    slots = Counter((each.stratum, each.block, each.place) for each in log)
    assert max(slots.values(), default=1) == 1, "a place of a block was given away twice"
    for task, reply in answers.items():
        found = by_unit[f"task={task}"]
        assert (found.value, f"v1.{found.assignment_id}.{found.mac}") == (reply.assigned_value, reply.assignment_token)
    late = [each for each in log if each.unit.removeprefix("task=") not in answers]
    assert not [each for each in late if each.run is not None], "an answer that nobody got was counted"


def expect_balanced(log: list[Assignment]) -> None:
    """Within each stratum the values' counts differ by at most one block."""
    counts: dict[str, Counter[float]] = defaultdict(Counter)
    for each in log:
        counts[each.stratum][float(each.value)] += 1
    for stratum, found in counts.items():
        per_value = [found[value] for value in VALUES]
        assert max(per_value) - min(per_value) <= LARGEST_BLOCK, (stratum, per_value)


@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_two_kills_lose_no_assignment(stack: Settings, tmp_path: Path) -> None:
    """Sixty askers and two kills within half a minute: log, answers and outcomes agree exactly."""
    scenario = await run_scenario(stack, tmp_path, askers=60, kills=2, seconds=25, seed=20260201)
    assert len(scenario.kills) == 2
    assert len(scenario.answers) > 500


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_ten_kills_lose_no_assignment(stack: Settings, tmp_path: Path) -> None:
    """Two hundred askers and ten kills: the same, and 99 % are answered in a second while there is an owner."""
    scenario = await run_scenario(stack, tmp_path, askers=200, kills=10, seconds=180, seed=20260202)
    assert len(scenario.kills) == 10
    owned, unanswered = scenario.owned_answers()
    refusals = Counter(each.reply.refusal or "assigned" for each in scenario.asked)
    print(f"{len(scenario.asked)} questions: {dict(refusals)}")  # noqa: T201
    print(f"{owned} while their partition had an owner, {len(unanswered)} of them unanswered")  # noqa: T201
    print(f"by seconds after it came: {sorted(Counter(int(since) for since, _ in unanswered).items())}")  # noqa: T201
    print(f"by seconds before it went: {sorted(Counter(int(until) for _, until in unanswered).items())}")  # noqa: T201
    assert owned > 5000
    assert len(unanswered) <= 0.01 * owned
