"""Bursts wait in Kafka and not in memory, and a publisher gone wrong stops the stats worker: on a real broker."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from agents.decode import EventDecoder
from agents.observer import Observer
from deploy.doctor import diagnose
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.errors import StackError
from models.settings import Settings, load_settings
from models.topics import REJECTED, RUNS, STATS_APP, TABLES
from streams.ledger import Ledger
from streams.topics import wait_for_coordinator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

BURST = 200_000
MIB = 1024**2
MOST_GROWTH = 400 * MIB
"""Five times what was seen: 16 waiting micro-batches and 100,000 unwritten events of this size are some 70 MiB."""
WINDOW = 1000
GOOD = b'{"agent_run_id": "run-%07d", "agent_count": 2, "success": true, "total_cost": 0.25}'
BAD = b'{"agent_run_id": "bad-%07d", "agent_count": "two"}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """Settings of a stack of these tests' own, without workers: they have scaling.runs to themselves."""
    settings = load_settings(partitions=1, reject_window=WINDOW, session_seconds=30)
    embedded = Stack(StackOptions(state=tmp_path_factory.mktemp("bounded"), kafka_port=0, clickhouse_port=0), settings)
    try:
        yield await embedded.start(workers=False)
    finally:
        await embedded.stop()


def worker(settings: Settings, state: Path, failed: list[StackError], **env: str) -> Supervised:
    """Make a stats worker that is given up after its second death."""
    command = (sys.executable, "-P", "-m", "cli.main", "worker", "stats")
    own = environment(settings.model_copy(update={"instance_id": "stats"})) | env
    return Supervised(ProcessSpec("stats", command, state / "stats.log", own), failed.append, restarts=1)


async def publish(settings: Settings, form: bytes, numbers: Sequence[int]) -> None:
    """Publish a record for each number."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for first in range(0, len(numbers), 5000):
            part = [form % number for number in numbers[first : first + 5000]]
            batches, batch = [], producer.create_batch()
            for value in part:
                if batch.append(key=None, value=value, timestamp=None) is None:
                    batches.append(batch)
                    batch = producer.create_batch()
                    batch.append(key=None, value=value, timestamp=None)
            for each in (*batches, batch):
                await producer.send_batch(each, RUNS, partition=0)
        await producer.flush()


async def lag(settings: Settings) -> int:
    """Count the records of scaling.runs that the stats workers have not acknowledged."""
    runs = TopicPartition(RUNS, 0)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        await wait_for_coordinator(admin, STATS_APP)
        committed = await admin.list_consumer_group_offsets(STATS_APP)
    finally:
        await admin.close()
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka) as consumer:
        end = (await consumer.end_offsets([runs]))[runs]
    return int(end - (committed[runs].offset if runs in committed else 0))


@retry(retry=retry_if_result(lambda waits: waits > 0), stop=stop_after_delay(120), wait=wait_fixed(0.2))
async def caught_up(settings: Settings) -> int:
    """Wait until nothing waits."""
    return await lag(settings)


async def restored(settings: Settings) -> Observer:
    """Take the tables over, as a new owner would."""
    ledger = Ledger(settings)
    await ledger.take(1, [0])
    tables = {table: dict(ledger.owned[0].tables[table]) for table in TABLES}
    await ledger.release()
    observer = Observer(0, settings, EventDecoder(settings))
    observer.load(tables)
    return observer


async def largest_memory(process: psutil.Process, done: asyncio.Event) -> int:
    """Measure the resident memory of a process, bytes, until something is done."""
    most = 0
    while not done.is_set():
        most = max(most, process.memory_info().rss)
        await asyncio.sleep(0.02)
    return most


async def test_a_burst_waits_in_kafka_and_not_in_memory(alone: Settings, tmp_path: Path) -> None:
    """A worker that stands still meets 200,000 events: the lag is seen, its memory stays bounded, all are counted."""
    failed: list[StackError] = []
    stats = worker(alone, tmp_path, failed)
    await stats.start()
    try:
        await publish(alone, GOOD, range(WINDOW))
        await caught_up(alone)
        process = psutil.Process(stats.pid)
        os.kill(stats.pid, signal.SIGSTOP)
        await publish(alone, GOOD, range(WINDOW, WINDOW + BURST))
        checks = {check.name: check for check in await diagnose(alone, thorough=False)}
        before, done = process.memory_info().rss, asyncio.Event()
        memory = asyncio.create_task(largest_memory(process, done))
        os.kill(stats.pid, signal.SIGCONT)
        await caught_up(alone)
        done.set()
        grown = await memory - before
    finally:
        await stats.stop()
    print(f"resident memory {before / MIB:.0f} MiB, at most {grown / MIB:.0f} MiB more in the burst")  # noqa: T201
    assert not checks["stats lag"].ok
    assert checks["stats lag"].message.startswith(f"{BURST} runs wait on {RUNS}")
    assert failed == []
    assert grown < MOST_GROWTH
    observer = await restored(alone)
    assert observer.next_offset == WINDOW + BURST
    assert observer.runs_remembered == WINDOW + BURST


async def test_a_publisher_gone_wrong_stops_the_worker_for_good(alone: Settings, tmp_path: Path) -> None:
    """Its supervisor gives up and says why; with reject_share = 1 each becomes a dead letter, once, and it goes on."""
    before = await restored(alone)
    begin, known = before.next_offset, before.runs_remembered
    await publish(alone, GOOD, range(10**6, 10**6 + 2 * WINDOW))
    await publish(alone, BAD, range(3 * WINDOW))
    await publish(alone, GOOD, range(2 * 10**6, 2 * 10**6 + WINDOW))
    failed: list[StackError] = []
    stats = worker(alone, tmp_path, failed)
    await stats.start()
    try:
        async with asyncio.timeout(150):
            while not failed:  # noqa: ASYNC110 - the watch of a process has no event to wait for
                await asyncio.sleep(0.1)
        message = str(failed[0])
        print(message)  # noqa: T201
        assert "stats died 2 times" in message
        assert "600 of the last 1000 records of scaling.runs, partition 0, were rejected" in message
        assert "$.agent_count" in message
        assert "SCALING_REJECT_SHARE=1" in message
        assert await lag(alone) >= 3 * WINDOW
        assert (await restored(alone)).next_offset <= begin + 3 * WINDOW
    finally:
        await stats.stop()
    on = worker(alone, tmp_path, failed, SCALING_REJECT_SHARE="1")
    await on.start()
    try:
        await caught_up(alone)
    finally:
        await on.stop()
    observer = await restored(alone)
    assert (observer.next_offset, observer.runs_remembered) == (begin + 6 * WINDOW, known + 3 * WINDOW)
    dead = TopicPartition(REJECTED, 0)
    async with AIOKafkaConsumer(bootstrap_servers=alone.kafka, isolation_level="read_committed") as consumer:
        consumer.assign([dead])
        await consumer.seek_to_beginning()
        end, keys = (await consumer.end_offsets([dead]))[dead], list[bytes]()
        while await consumer.position(dead) < end:
            for records in (await consumer.getmany(dead, timeout_ms=500)).values():
                keys += [record.key for record in records]
    assert len(keys) == len(set(keys)) == 3 * WINDOW
