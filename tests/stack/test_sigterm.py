"""SIGTERM to `scaling up` under load: everything ends in time, nothing is left running, nothing is lost."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest
from aiokafka import AIOKafkaProducer

from analytics.simulation import simulate
from analytics.world import World
from deploy.stack import running_stack
from models.settings import Settings, load_settings
from models.topics import RUNS
from streams.clickhouse import query
from streams.kafka_clients import read_compacted

COUNT = 40_000
STOP_SECONDS = 10

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


def start(state: Path) -> "subprocess.Popen[bytes]":
    """Run `scaling up` as a user would."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "cli.main", "up", "--state", str(state), "--workers", "2"),
            *("--kafka-port", "0", "--clickhouse-port", "0"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


async def settings_of(state: Path) -> Settings:
    """Wait until the stack says where it is."""
    async with asyncio.timeout(60):
        while (found := running_stack(state)) is None:  # noqa: ASYNC110 - a file tells
            await asyncio.sleep(0.2)
    return load_settings(**found)


async def publish(settings: Settings) -> None:
    """Publish simulated runs as fast as Kafka takes them."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        for event in simulate(World(), COUNT, 3):
            await producer.send(RUNS, orjson.dumps(event), event["agent_run_id"].encode())


async def counted(settings: Settings) -> tuple[int, int]:
    """Count the runs in ClickHouse and in the law of success over agents."""
    rows = int(await asyncio.to_thread(query, settings, "SELECT count() FROM observations", fmt="TabSeparated"))
    runs = 0
    async for record in read_compacted(settings, "scaling.laws"):
        if record.key == b"global|agent_count|success|live" and record.value:
            runs = orjson.loads(record.value)["n"]
    return rows, runs


def left_running(state: Path) -> list[str]:
    """List the processes that still have the state folder in their command line."""
    return [
        " ".join(process.info["cmdline"])[:120]
        for process in psutil.process_iter(["cmdline"])
        if any(str(state) in part for part in process.info["cmdline"] or ())
    ]


def stop(process: "subprocess.Popen[bytes]") -> float:
    """Send SIGTERM and say how long the end took."""
    began = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    return time.monotonic() - began


async def test_sigterm_under_load_ends_in_time_and_loses_nothing(tmp_path: Path) -> None:
    """All processes are gone within ten seconds, and the next start counts every run once."""
    first = start(tmp_path)
    try:
        await publish(await settings_of(tmp_path))
        assert await asyncio.to_thread(stop, first) < STOP_SECONDS
    finally:
        first.kill()
    assert left_running(tmp_path) == []
    second = start(tmp_path)
    try:
        settings = await settings_of(tmp_path)
        async with asyncio.timeout(90):
            while await counted(settings) != (COUNT, COUNT):  # noqa: ASYNC110 - ClickHouse and Kafka are asked
                await asyncio.sleep(1)
        assert await asyncio.to_thread(stop, second) < STOP_SECONDS
    finally:
        second.kill()
    assert left_running(tmp_path) == []
