"""Workers killed at random moments of an import leave exactly what an undisturbed run leaves.

The undisturbed tables are computed from the log itself (tests/faults/tables.py): every partition of scaling.runs is
read back and folded by plain observers that never stop. Counts must be equal, co-moments within
1e-12 · sqrt(C_ii C_jj).
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from analytics.simulation import simulate
from analytics.world import World
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.settings import Settings, load_settings
from models.topics import ARCHIVE_APP, RUNS, STATS_APP
from streams.clickhouse import query
from tests.faults.audit import lags, settled
from tests.faults.tables import compare_tables, fold, read_log, stored

RATE = 1000
DUPLICATES = 0.02


@dataclass
class Kill:
    """A kill and how many events were published but not committed at that moment."""

    second: float
    lag: int


@dataclass
class Scenario:
    """A stack with one worker of each kind, and an import throttled to `seconds`."""

    settings: Settings
    state: Path
    seconds: float
    random: random.Random
    published: int = 0
    kills: list[Kill] = field(default_factory=list)

    def worker(self, kind: str) -> Supervised:
        """Make a supervised worker that may die as often as it likes."""
        spec = ProcessSpec(
            kind,
            (sys.executable, "-P", "-m", "cli.main", "worker", kind),
            self.state / "logs" / f"{kind}.log",
            environment(self.settings.model_copy(update={"instance_id": kind})),
            stop_seconds=8.0,
        )
        return Supervised(spec, on_failure=lambda error: pytest.fail(str(error)), restarts=10_000)

    async def publish(self) -> None:
        """Publish simulated runs at a steady rate, two of a hundred twice."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka, linger_ms=20)
        await producer.start()
        runs = [(event["agent_run_id"].encode(), orjson.dumps(event)) for event in simulate(World(), self.runs, 11)]
        repeated = [*runs]
        for at in self.random.sample(range(len(runs)), int(DUPLICATES * len(runs))):
            repeated.insert(self.random.randrange(at + 1, len(repeated) + 1), runs[at])
        start = time.monotonic()
        for number, (key, value) in enumerate(repeated):
            if number % 50 == 0:
                await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
            await producer.send(RUNS, value, key)
            self.published += 1
        await producer.stop()

    @property
    def runs(self) -> int:
        """How many different runs are published."""
        return int(RATE * self.seconds / (1 + DUPLICATES))

    async def kill_at_random(self, worker: Supervised, group: str, kills: int) -> None:
        """Kill the worker at random moments of the import, noting the lag."""
        start = time.monotonic()
        for moment in sorted(self.random.uniform(0, self.seconds) for _ in range(kills)):
            await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
            lag = sum((await lags(self.settings, group)).values())
            while not worker.running:  # noqa: ASYNC110 - the watch of a process has no event to wait for
                await asyncio.sleep(0.05)
            worker.kill()
            self.kills.append(Kill(moment, lag))
            print(f"kill -9 {worker.spec.name} at {moment:6.1f} s, {lag} events in flight")  # noqa: T201


async def archived(settings: Settings) -> int:
    """Count the rows of the view `observations`."""
    answer = await asyncio.to_thread(query, settings, "SELECT count() FROM observations", fmt="TabSeparated")
    return int(answer)


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Settings]:
    """Kafka and ClickHouse of this scenario's own, without workers."""
    options = StackOptions(state=tmp_path, kafka_port=0, clickhouse_port=0)
    embedded = Stack(options, load_settings())
    try:
        yield await embedded.start(workers=False)
    finally:
        await embedded.stop()


async def run_scenario(settings: Settings, state: Path, seconds: float, kills: int, seed: int) -> Scenario:
    """Publish under kills of both workers and check everything they leave."""
    print(f"seed {seed}")  # noqa: T201
    scenario = Scenario(settings, state, seconds, random.Random(seed))  # noqa: S311 - a seed to rerun
    workers = {STATS_APP: scenario.worker("stats"), ARCHIVE_APP: scenario.worker("archive")}
    for worker in workers.values():
        await worker.start()
    try:
        await asyncio.gather(
            scenario.publish(),
            *(scenario.kill_at_random(worker, group, kills) for group, worker in workers.items()),
        )
        for group in workers:
            await settled(settings, group, [RUNS], 90)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers.values()))
    undisturbed = fold(settings, await read_log(settings))
    assert list(compare_tables(await stored(settings), undisturbed.tables)) == []
    assert await archived(settings) == scenario.runs
    return scenario


@pytest.mark.stack
@pytest.mark.timeout(240)
async def test_three_kills_change_nothing(stack: Settings, tmp_path: Path) -> None:
    """Three kills of each worker within half a minute leave the tables and rows of an undisturbed run."""
    scenario = await run_scenario(stack, tmp_path, seconds=25, kills=3, seed=20260101)
    assert len(scenario.kills) == 6


@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_twenty_kills_change_nothing(stack: Settings, tmp_path: Path) -> None:
    """Twenty kills of each worker within five minutes, nearly all with events in flight, change nothing."""
    scenario = await run_scenario(stack, tmp_path, seconds=300, kills=20, seed=20260102)
    in_flight = [kill for kill in scenario.kills if kill.lag > 0]
    print(f"{len(in_flight)} of {len(scenario.kills)} kills with events in flight")  # noqa: T201
    assert len(in_flight) >= 30
