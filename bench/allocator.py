"""The allocator as a whole: one allocation in process, a law's way into it, and answers over Kafka.

- In process, over the full grid of 36,000 settings with uncertainty, by joint laws that were fitted to 20,000 runs: a
  question that was asked before; one with a new budget; one of a complexity that was not met since the laws changed;
  the first after a law has changed. Goal p99 5 ms. A calibration loop of fixed numpy work is timed beside them.
- A law update: milliseconds from its publication on scaling.laws until an allocator process's book has it. Goal 100.
- Answers: questions over scaling.allocate.requests by many askers at once, one allocator process; answers a second, and
  CPU milliseconds of that process for each answer, decision log included. Goal 1,000 a second and core.

Usage: python bench/allocator.py [--calls N] [--answers N]
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy loads, so it stands before the imports

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from agents.allocator import Allocator
from analytics.allocation_worlds import cells_of, random_world
from analytics.joint_laws import SettingGrid, fit_joint_law
from bench.allocate import calibration, timed
from deploy.stack import Stack, StackOptions, environment
from models.allocations import AllocateRequest
from models.dimensions import Dimension, Outcome
from models.joint_laws import JointLaw
from models.settings import Settings, load_settings
from models.topics import LAWS
from streams.allocating import Allocating
from streams.allocator import AllocatorService

GOAL = 5.0
RUNS = 20_000
WORLD = 4
ASKERS = 200
UPDATES = 50
LABELS = ("trivial", "low", "medium", "high")
BUDGETS = (0.1, 0.2, 0.5, 1.0)


def laws() -> list[JointLaw]:
    """Fit joint laws of all four outcomes, complexity among the terms."""
    rng, world = np.random.default_rng(1), random_world(WORLD)
    agents = rng.choice([1, 2, 3, 4, 6, 8], RUNS).astype(np.float64)
    settings = {
        Dimension.AGENT_COUNT: agents,
        Dimension.ITERATIONS: rng.choice([1, 2, 3, 5, 8, 10], RUNS).astype(np.float64),
        Dimension.CONTEXT: rng.choice([2, 4, 8, 16, 32, 64, 100], RUNS) * 1000.0,
        Dimension.PARALLELISM_LEVEL: np.minimum(rng.choice([1, 2, 4, 8], RUNS), agents).astype(np.float64),
    }
    complexity = rng.random(RUNS)
    cells = cells_of(settings, complexity, world.run(rng, SettingGrid(settings, complexity)))
    return [
        fit_joint_law(cells, outcome, context="global", fitted_at="2026-01-01T00:00:00Z")
        for outcome in (Outcome.SUCCESS, Outcome.QUALITY_SCORE, Outcome.TOTAL_COST, Outcome.TIME_TO_COMPLETE)
    ]


def in_process(fitted: list[JointLaw], calls: int) -> None:
    """Time allocations in this process."""
    allocator, numbers, versions = Allocator(load_settings()), count(), count(2)
    for law in fitted:
        allocator.book.put(law)

    def ask(budget: float = 0.5, complexity: float = 0.5) -> None:
        allocator.allocate(AllocateRequest(f"bench-{next(numbers)}", {"task_complexity": complexity}, budget))

    def renew() -> None:
        allocator.book.put(msgspec.structs.replace(fitted[0], version=next(versions)))

    ask()
    print(f"one allocation in process, {calls} calls, milliseconds; calibration loop {timed(calibration(), calls)}")
    print(f"  {'asked before':40s} {timed(ask, calls)}")
    print(f"  {'a new budget (goal p99 5)':40s} {timed(lambda: ask(0.2 + 0.001 * next(numbers)), calls)}")
    steps = count()
    fresh = timed(lambda: ask(complexity=next(steps) % 20 * 0.05), 20, renew)
    print(f"  {'the first after a law has changed':40s} {fresh}")
    renew()
    ask()
    rest = timed(lambda: ask(complexity=next(steps) % 20 * 0.05), 20)
    print(f"  {'a complexity not met since':40s} {rest}")


@asynccontextmanager
async def kafka() -> AsyncIterator[Settings]:
    """Start Kafka alone."""
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(StackOptions(state=Path(folder), kafka_port=0, clickhouse_port=0), load_settings())
        try:
            yield await stack.start(workers=False)
        finally:
            await stack.stop()


async def publish(producer: AIOKafkaProducer, law: JointLaw) -> None:
    """Publish a law."""
    await producer.send_and_wait(LAWS, msgspec.json.encode(law), key=law.law_id.encode())


async def visible(settings: Settings, fitted: list[JointLaw]) -> None:
    """Time how long a law takes from its publication into the book of an allocator in this process."""
    service, stop = AllocatorService(settings), asyncio.Event()
    running = asyncio.create_task(service.run(stop))
    await service.ready.wait()
    took = []
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        for version in range(2, 2 + UPDATES):
            law = msgspec.structs.replace(fitted[0], version=version)
            began = time.perf_counter()
            await publish(producer, law)
            while True:
                known, _ = service.allocator.book.joint(["global"], Outcome.SUCCESS)
                if known is not None and known.version == version:
                    break
                await asyncio.sleep(0.0005)
            took.append((time.perf_counter() - began) * 1e3)
    stop.set()
    await running
    middle, slow = np.quantile(took, (0.5, 0.99))
    print(
        f"a law from its publication into the book, {UPDATES} times: p50 {middle:.1f} ms  p99 {slow:.1f} ms (goal 100)"
    )


def cpu_seconds(process: int) -> float:
    """Read the CPU time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def over_kafka(settings: Settings, answers: int) -> None:
    """Ask one allocator process from many askers at once."""
    command = [sys.executable, "-m", "cli.main", "worker", "allocator"]
    allocator = subprocess.Popen(  # noqa: ASYNC220 - it runs beside
        command, env=os.environ | environment(settings) | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    )
    try:
        async with Allocating(settings) as door:
            numbers, waited = count(), []

            async def ask(number: int) -> None:
                task = {"task_complexity": LABELS[number % 4]}
                began = time.perf_counter()
                await door.allocate(AllocateRequest(f"bench-{number}", task, BUDGETS[number // 4 % 4]), 60)
                waited.append(time.perf_counter() - began)

            async def asker(until: int) -> None:
                while (number := next(numbers)) < until:
                    await ask(number)

            await asker(16)
            waited.clear()
            began, used = time.perf_counter(), cpu_seconds(allocator.pid)
            await asyncio.gather(*(asker(16 + answers) for _ in range(ASKERS)))
            seconds, cpu = time.perf_counter() - began, cpu_seconds(allocator.pid) - used
    finally:
        allocator.terminate()
        allocator.wait(20)
    middle, slow = np.quantile(np.array(waited) * 1e3, (0.5, 0.99))
    print(
        f"{answers} answers over Kafka to {ASKERS} askers: {answers / seconds:,.0f} a second, p50 {middle:.0f} ms, p99 "
        f"{slow:.0f} ms; {cpu / answers * 1e3:.2f} ms of CPU each, {answers / cpu:,.0f} a second and core (goal 1,000)"
    )


async def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--answers", type=int, default=10_000)
    chosen = parser.parse_args()
    fitted = laws()
    in_process(fitted, chosen.calls)
    async with kafka() as settings:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
            for law in fitted:
                await publish(producer, law)
        await visible(settings, fitted)
        await over_kafka(settings, chosen.answers)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(main())
