"""How long a stats worker takes from its start to its first new event, against the size of its state.

`PYTHONPATH=. python bench/recovery.py --runs 100000 300000 1000000`

The runs come at a steady rate, so that the changelogs hold what every flush wrote. For each size the worker is killed
and started again, first on changelogs that were never compacted, then on compacted ones. Processing again: an event
that was published while it was down is committed.
"""

import argparse
import asyncio
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
SLICE_SECONDS = 0.25
COMPACT_SECONDS = 180
POLL_SECONDS = 0.1
NEVER_COMPACTED = {"cleanup.policy": "delete", "retention.ms": "-1"}
COMPACTED_AT_ONCE = {"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001"}
RESTORED = re.compile(r"tables restored.*records=(\d+)")


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


class Steady:
    """Publishes simulated runs at a steady rate, a record batch for each partition every quarter of a second."""

    def __init__(self, settings: Settings, runs: int, rate: float) -> None:
        self._settings = settings
        self._events = simulate(World(), runs, seed=1)
        self._slice = max(1, int(rate * SLICE_SECONDS))
        self.published = 0

    async def publish(self, upto: int) -> None:
        """Publish until so many runs have been published in all; what takes longer than its time is not made up."""
        async with AIOKafkaProducer(bootstrap_servers=self._settings.kafka, max_batch_size=BATCH) as producer:
            while self.published < upto:
                begin = time.monotonic()
                events = list(itertools.islice(self._events, min(self._slice, upto - self.published)))
                await send(self._settings, producer, events)
                self.published += len(events)
                await asyncio.sleep(max(0.0, begin + SLICE_SECONDS - time.monotonic()))


async def send(settings: Settings, producer: AIOKafkaProducer, events: Sequence[Mapping[str, Any]]) -> None:
    """Send events as one record batch for each partition, and more where one is full."""
    keys = [str(event["agent_run_id"]).encode() for event in events]
    batches: dict[int, Any] = {}
    sent = []
    for key, event, partition in zip(keys, events, partitions_of(keys, settings.partitions).tolist(), strict=True):
        batch = batches.setdefault(partition, producer.create_batch())
        if batch.append(timestamp=None, key=key, value=orjson.dumps(event), headers=[]) is None:
            sent.append(await producer.send_batch(batch, RUNS, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(timestamp=None, key=key, value=orjson.dumps(event), headers=[])
    for partition, batch in batches.items():
        sent.append(await producer.send_batch(batch, RUNS, partition=partition))
    await asyncio.gather(*sent)


async def publish_some(settings: Settings) -> None:
    """Publish a hundred further runs at once."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await send(settings, producer, list(simulate(World(), 100, seed=int(time.time() * 1000))))


async def configure(settings: Settings, configs: Mapping[str, str]) -> None:
    """Give the changelogs other settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        topics = [ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs)) for topic in STATS_CHANGELOGS.values()]
        await admin.alter_configs(topics)
    finally:
        await admin.close()


async def changelogs(settings: Settings) -> tuple[int, int, int]:
    """Count the records of the changelogs, their bytes and their keys."""
    records, size, keys = 0, 0, set()
    for topic in STATS_CHANGELOGS.values():
        async for record in read_compacted(settings, topic):
            records += 1
            size += len(record.key) + len(record.value or b"")
            keys.add((topic, record.partition, record.key))
    return records, size, len(keys)


async def compact(settings: Settings) -> None:
    """Let the broker compact the changelogs, until hardly more records than keys are left.

    Raises:
        TimeoutError: It does not.
    """
    await configure(settings, COMPACTED_AT_ONCE)
    deadline = time.monotonic() + COMPACT_SECONDS
    while True:
        # A segment is closed by the next record only.
        await publish_some(settings)
        await asyncio.sleep(10)
        records, _, keys = await changelogs(settings)
        if records < 1.2 * keys:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{records:,} records of {keys:,} keys are left after {COMPACT_SECONDS} s of compaction")


async def restart(settings: Settings, stats: Supervised) -> tuple[float, float]:
    """Kill and start the worker; give the seconds to its tables and to its first new event."""
    stats.kill()
    await stats.stop()
    await publish_some(settings)
    written = stats.spec.log.stat().st_size
    start = time.monotonic()
    await stats.start()
    restored = 0.0
    while any((await lags(settings, STATS_APP)).values()):
        if not restored and RESTORED.search(stats.spec.log.read_text()[written:]):
            restored = time.monotonic() - start
        await asyncio.sleep(POLL_SECONDS)
    return restored, time.monotonic() - start


async def measure(sizes: list[int], rate: float) -> None:
    """Grow the state from size to size, and restart the worker at each."""
    with tempfile.TemporaryDirectory(prefix="scaling-recovery-") as folder:
        state = Path(folder)
        stack = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), load_settings())
        settings = await stack.start(workers=False)
        stats = worker(settings, state)
        steady = Steady(settings, max(sizes), rate)
        try:
            await stats.start()
            heads = f"{'runs':>10} {'changelogs':>16} {'keys':>9} {'records':>10} {'MB':>7}"
            print(f"{heads} {'restored s':>10} {'processing s':>12}", flush=True)
            for runs in sizes:
                await configure(settings, NEVER_COMPACTED)
                await steady.publish(runs)
                for told in ("never compacted", "compacted"):
                    await settled(settings, STATS_APP, [RUNS], 600)
                    if told == "compacted":
                        await compact(settings)
                    records, size, keys = await changelogs(settings)
                    restored, processing = await restart(settings, stats)
                    row = f"{runs:>10,} {told:>16} {keys:>9,} {records:>10,} {size / 1e6:>7.0f}"
                    print(f"{row} {restored:>10.1f} {processing:>12.1f}", flush=True)
        finally:
            await stats.stop()
            await stack.stop()


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[100_000, 300_000, 1_000_000], help="sizes of the state")
    parser.add_argument("--rate", type=float, default=5000, help="runs a second")
    given = parser.parse_args()
    asyncio.run(measure(given.runs, given.rate))


if __name__ == "__main__":
    main()
