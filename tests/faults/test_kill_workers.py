"""Workers killed at random moments of an import leave exactly what an undisturbed run leaves.

The undisturbed tables are computed from the log itself: every partition of scaling.runs is read back and folded by
plain observers that never stop. Counts must be equal, co-moments within 1e-12 · sqrt(C_ii C_jj).
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from agents.decode import EventDecoder
from agents.moment_table import decode_rows
from agents.observer import Cut, Observer
from analytics.moments import triangle
from analytics.simulation import simulate
from analytics.world import World
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.batches import Batch
from models.settings import Settings, load_settings
from models.topics import ARCHIVE_APP, CELLS_TABLE, GRAMS_TABLE, RUNS, STATS_APP, TABLES
from streams.clickhouse import query
from streams.ledger import Ledger

RATE = 1000
DUPLICATES = 0.02
VARIABLES = {False: 8, True: 10}
GRAM_VARIABLES = 13


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


@retry(
    retry=retry_if_exception_type(GroupCoordinatorNotAvailableError), wait=wait_fixed(0.5), stop=stop_after_delay(30)
)
async def lags(settings: Settings, group: str) -> dict[int, int]:
    """Count, per partition of scaling.runs, the records above the group's committed offset."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await consumer.start()
    await admin.start()
    try:
        partitions = [TopicPartition(RUNS, number) for number in range(settings.partitions)]
        ends = await consumer.end_offsets(partitions)
        committed = await admin.list_consumer_group_offsets(group)
        return {tp.partition: end - max(0, committed[tp].offset if tp in committed else 0) for tp, end in ends.items()}
    finally:
        await consumer.stop()
        await admin.close()


async def settled(settings: Settings, group: str, seconds: float) -> None:
    """Wait until the group has committed everything."""
    async with asyncio.timeout(seconds):
        while any((await lags(settings, group)).values()):  # noqa: ASYNC110 - Kafka is asked, it does not tell
            await asyncio.sleep(0.5)


async def undisturbed(settings: Settings) -> dict[str, dict[bytes, bytes]]:
    """Fold every partition of scaling.runs by an observer that never stops."""
    tables: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(RUNS, number) for number in range(settings.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        observers = {tp: Observer(tp.partition, settings, EventDecoder(settings)) for tp in partitions}
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                observers[tp].observe(
                    Batch(
                        RUNS,
                        tp.partition,
                        [record.offset for record in records],
                        [record.timestamp for record in records],
                        [record.key for record in records],
                        [record.value for record in records],
                        [record.headers for record in records],
                    )
                )
        for observer in observers.values():
            for table, changes in observer.drain().tables.items():
                tables[table] |= {key: value for key, value in changes.items() if value is not None}
    finally:
        await consumer.stop()
    return tables


async def stored(settings: Settings) -> dict[str, dict[bytes, bytes]]:
    """Read the tables back from their changelogs, as a new owner of all partitions would."""
    ledger = Ledger(settings)
    await ledger.take(1, range(settings.partitions))
    tables: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
    for owned in ledger.owned.values():
        for table, entries in owned.tables.items():
            tables[table] |= entries
    await ledger.release()
    return tables


def assert_equal_tables(found: dict[str, dict[bytes, bytes]], expected: dict[str, dict[bytes, bytes]]) -> None:
    """Compare tables: keys, counts and offsets exactly, moments within the promise of docs/wire.md."""
    for table in TABLES:
        assert found[table].keys() == expected[table].keys(), table
    for key, value in expected[CELLS_TABLE].items():
        if key.endswith(b"|cut"):
            assert msgspec.json.decode(found[CELLS_TABLE][key], type=Cut) == msgspec.json.decode(value, type=Cut)
        else:
            assert_equal_moments(key, found[CELLS_TABLE][key], value, VARIABLES[b"|~" in key])
    for key, value in expected[GRAMS_TABLE].items():
        assert_equal_moments(key, found[GRAMS_TABLE][key], value, GRAM_VARIABLES)
    for table in set(TABLES) - {CELLS_TABLE, GRAMS_TABLE}:
        assert found[table] == expected[table], table


def assert_equal_moments(key: bytes, found: bytes, expected: bytes, variables: int) -> None:
    """Compare two packed rows of moments."""
    _, _, (n, mean, comoment) = decode_rows([found], variables)
    _, _, (n_expected, mean_expected, expected_comoment) = decode_rows([expected], variables)
    assert n[0] == n_expected[0], key
    first, second = triangle(variables)
    diagonal = expected_comoment[0][first == second]
    scale = np.sqrt(diagonal[first] * diagonal[second])
    spread = np.sqrt(diagonal / n_expected[0])
    assert (np.abs(mean[0] - mean_expected[0]) <= 1e-12 * (np.abs(mean_expected[0]) + spread)).all(), key
    # Means are doubles: an ulp of a mean, beside a spread that is tiny against it, is part of every way to compute.
    ulp = 4 * np.finfo(np.float64).eps * np.abs(mean_expected[0]) * np.sqrt(n_expected[0])
    deviation = np.sqrt(diagonal)
    rounding = ulp[first] * deviation[second] + ulp[second] * deviation[first] + ulp[first] * ulp[second]
    assert (np.abs(comoment[0] - expected_comoment[0]) <= 1e-12 * scale + rounding).all(), key


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
            await settled(settings, group, 90)
    finally:
        await asyncio.gather(*(worker.stop() for worker in workers.values()))
    assert_equal_tables(await stored(settings), await undisturbed(settings))
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
