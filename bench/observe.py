"""CPU seconds per event of the stats worker, beside two baselines on the same topic.

- bare: an aiokafka getmany loop that does nothing but orjson.loads;
- per event: a plain Faust agent that keeps the same statistics, one event and one table write at a time.

Each figure is CPU time of the whole process from the moment it is ready to read until its offsets are committed, so
decoding, validation, deduplication, folding into cells and Grams, changelog and commits are all in. Runs of the worker
and of the bare loop are interleaved in pairs; the ratio is taken pair by pair. After each run of the worker its laws
are compared with fits over the raw rows.

Usage: python bench/observe.py [--events N] [--pairs N]
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer

from bench.events import CONTEXT_KEYS, events
from deploy.stack import Stack, StackOptions, environment
from models.settings import Settings, load_settings
from models.topics import RUNS

PER_EVENT = 1500
PROBES = Path(__file__).parent


@asynccontextmanager
async def loaded_topic(count: int) -> AsyncIterator[Settings]:
    """Start Kafka with `count` events on the one partition of scaling.runs."""
    with tempfile.TemporaryDirectory() as folder:
        options = StackOptions(state=Path(folder), kafka_port=0, clickhouse_port=0)
        stack = Stack(options, load_settings(partitions=1, context_keys=CONTEXT_KEYS, refit_seconds=3600))
        try:
            settings = await stack.start(workers=False)
            await publish(settings, count)
            yield settings
        finally:
            await stack.stop()


async def publish(settings: Settings, count: int) -> None:
    """Publish the benchmark's events in large batches."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka)
    await producer.start()
    batch = producer.create_batch()
    for value in events(count, seed=7):
        key = orjson.loads(value)["agent_run_id"].encode()
        if batch.append(key=key, value=value, timestamp=None) is None:
            await producer.send_batch(batch, RUNS, partition=0)
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    await (await producer.send_batch(batch, RUNS, partition=0))
    await producer.stop()


def probe(name: str, settings: Settings, count: int) -> dict[str, float]:
    """Run one probe as a process of its own and read its figures."""
    done = subprocess.run(
        [sys.executable, str(PROBES / f"probe_{name}.py"), str(count)],
        env=os.environ | environment(settings) | {"PYTHONPATH": str(PROBES.parent)},
        check=True,
        stdout=subprocess.PIPE,
        timeout=120,
    )
    figures: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return figures


async def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=5)
    chosen = parser.parse_args()
    ratios: list[float] = []
    fastest = float("inf")
    print(f"{chosen.events} events, {chosen.pairs} interleaved pairs; microseconds of CPU per event")
    for pair in range(chosen.pairs):
        async with loaded_topic(chosen.events) as settings:
            bare = await asyncio.to_thread(probe, "bare", settings, chosen.events)
            worker = await asyncio.to_thread(probe, "worker", settings, chosen.events)
            if pair == chosen.pairs - 1:
                few = await asyncio.to_thread(probe, "per_event", settings, PER_EVENT)
        ratios.append(bare["cpu"] / worker["cpu"])
        fastest = min(fastest, worker["cpu"] / chosen.events)
        print(
            f"pair {pair + 1}: bare {bare['cpu'] / chosen.events * 1e6:5.2f}  "
            f"stats worker {worker['cpu'] / chosen.events * 1e6:5.2f}  speed ratio {ratios[-1]:.2f}  "
            f"({worker['contexts']:.0f} contexts, {worker['cells']:.0f} cells; refit of {worker['laws']:.0f} laws "
            f"{worker['refit']:.2f} s apart; {worker['differences']:.0f} differences from fits over raw rows)"
        )
    per_event = few["cpu"] / PER_EVENT
    print(f"stats worker against the bare loop: median speed ratio {statistics.median(ratios):.2f}")
    print(f"per-event Faust agent: {per_event * 1e6:.0f}; the stats worker is {per_event / fastest:.0f} times as fast")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    asyncio.run(main())
