"""How long a stats worker takes from its start to its first new event, against the size of its state.

`PYTHONPATH=. python bench/recovery.py --runs 100000 300000 1000000`

For each size the worker is killed and started again, first on changelogs as the broker has them, then on compacted
ones. Processing again: an event that was published while it was down is committed.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from analytics.partitions import partitions_of
from analytics.simulation import simulate
from analytics.world import World
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.settings import Settings, load_settings
from models.topics import RUNS, STATS_APP, STATS_CHANGELOGS
from streams.kafka_clients import read_compacted
from tests.faults.audit import lags, settled

BATCH = 500_000
COMPACT_SECONDS = 180
POLL_SECONDS = 0.1


def worker(settings: Settings, state: Path) -> Supervised:
    """Make a stats worker that owns all partitions."""
    named = settings.model_copy(update={"instance_id": "stats-0"})
    spec = ProcessSpec(
        "stats-0",
        (sys.executable, "-P", "-m", "cli.main", "worker", "stats"),
        state / "logs" / "stats-0.log",
        environment(named) | {"OPENBLAS_NUM_THREADS": "1"},
    )
    return Supervised(spec, on_failure=print, restarts=0)


async def publish(settings: Settings, first: int, runs: int) -> None:
    """Publish simulated runs as record batches, as fast as the broker takes them."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, max_batch_size=BATCH) as producer:
        events = [
            (f"run-{first + number}".encode(), event) for number, event in enumerate(simulate(World(), runs, first))
        ]
        places = partitions_of([key for key, _ in events], settings.partitions).tolist()
        batches = {partition: producer.create_batch() for partition in range(settings.partitions)}
        sent = []
        for (key, event), partition in zip(events, places, strict=True):
            value = orjson.dumps(event | {"agent_run_id": key.decode()})
            while batches[partition].append(timestamp=None, key=key, value=value, headers=[]) is None:
                sent.append(await producer.send_batch(batches[partition], RUNS, partition=partition))
                batches[partition] = producer.create_batch()
        for partition, batch in batches.items():
            if batch.record_count():
                sent.append(await producer.send_batch(batch, RUNS, partition=partition))
        await asyncio.gather(*sent)


async def changelog_records(settings: Settings) -> int:
    """Count what a restart must read."""
    counts = [sum([1 async for _ in read_compacted(settings, topic)]) for topic in STATS_CHANGELOGS.values()]
    return sum(counts)


async def compacted(settings: Settings) -> int:
    """Let the broker compact the changelogs at once; give what is left once that shrinks no more."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        small = {"segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001", "cleanup.policy": "compact"}
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs=small) for topic in STATS_CHANGELOGS.values()]
        )
    finally:
        await admin.close()
    left, deadline = await changelog_records(settings), time.monotonic() + COMPACT_SECONDS
    while time.monotonic() < deadline:
        # A segment is closed by the next record only.
        await publish(settings, int(time.time() * 1000), 100)
        await asyncio.sleep(20)
        found = await changelog_records(settings)
        if found < left / 2:
            return found
    return left


async def restart(settings: Settings, stats: Supervised, state: Path) -> tuple[float, float]:
    """Stop and start the worker; give the seconds to its tables and to its first new event."""
    await stats.stop()
    await publish(settings, int(time.time() * 1000), 100)
    written = stats.spec.log.stat().st_size
    start = time.monotonic()
    await stats.start()
    restored = 0.0
    while any((await lags(settings, STATS_APP)).values()):
        if not restored and re.search("tables restored", (state / "logs" / "stats-0.log").read_text()[written:]):
            restored = time.monotonic() - start
        await asyncio.sleep(POLL_SECONDS)
    return restored, time.monotonic() - start


async def measure(sizes: list[int]) -> None:
    """Grow the state from size to size, and restart the worker at each."""
    with tempfile.TemporaryDirectory(prefix="scaling-recovery-") as folder:
        state = Path(folder)
        stack = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), load_settings())
        settings = await stack.start(workers=False)
        stats = worker(settings, state)
        try:
            await stats.start()
            print(
                f"{'runs':>10} {'changelogs':>12} {'records':>10} {'restored s':>10} {'processing s':>12}", flush=True
            )
            before = 0
            for runs in sizes:
                for first in range(before, runs, 100_000):
                    await publish(settings, first, min(100_000, runs - first))
                before = runs
                await settled(settings, STATS_APP, [RUNS], 600)
                records = await changelog_records(settings)
                for told in ("as written", "compacted"):
                    if told == "compacted":
                        records = await compacted(settings)
                        await settled(settings, STATS_APP, [RUNS], 600)
                    restored, processing = await restart(settings, stats, state)
                    print(f"{runs:>10,} {told:>12} {records:>10,} {restored:>10.1f} {processing:>12.1f}", flush=True)
        finally:
            await stats.stop()
            await stack.stop()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], help="sizes of the state")
    asyncio.run(measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()
