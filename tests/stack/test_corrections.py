"""Late and corrected runs on a running stack: the live laws follow them, through kills of the worker, and by a rebuild.

Whatever happens, a live law equals the one fitted row by row from the newest revisions that ClickHouse has.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from analytics.simulation import simulate
from analytics.world import World
from cli.laws import read_laws
from deploy.processes import ProcessSpec, Supervised
from deploy.stack import Stack, StackOptions, environment
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import ARCHIVE_APP, RUNS, STATS_APP
from streams.kafka_clients import reader
from streams.rebuild import rebuild
from streams.topics import wait_for_coordinator
from streams.verification import verify

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

RUN_COUNT = 1200
PATIENCE = 120.0
CONTEXTS = {"global", "project=another", "complexity_band=high"}
DIMENSIONS = {"agent_count", "iterations"}
OUTCOMES = {"success", "total_cost"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A stack of two partitions with one supervised stats worker, one archive worker, and 1,200 runs that are in."""
    state = tmp_path_factory.mktemp("corrections")
    chosen = load_settings(partitions=2, bootstrap_draws=100, context_keys=[["project"], ["complexity_band"]])
    embedded = Stack(StackOptions(state=state, kafka_port=0, clickhouse_port=0), chosen)
    settings = await embedded.start(workers=False)
    WORKERS.clear()
    for kind in ("stats", "archive"):
        spec = ProcessSpec(
            kind,
            (sys.executable, "-P", "-m", "cli.main", "worker", kind),
            state / "logs" / f"{kind}.log",
            environment(settings.model_copy(update={"instance_id": kind})),
            stop_seconds=8.0,
        )
        WORKERS[kind] = Supervised(spec, on_failure=lambda error: pytest.fail(str(error)), restarts=10_000)
        await WORKERS[kind].start()
    try:
        await publish(settings, EVENTS)
        await settled(settings)
        yield settings
    finally:
        await asyncio.gather(*(worker.stop() for worker in WORKERS.values()))
        await embedded.stop()


WORKERS: dict[str, Supervised] = {}
EVENTS: list[dict[str, Any]] = list(simulate(World(), RUN_COUNT, 3, start=datetime(2026, 1, 1, tzinfo=UTC)))


def corrections(seed: int, count: int, revision: int, among: Sequence[dict[str, Any]] = EVENTS) -> list[dict[str, Any]]:
    """Change runs in ways that move them to other cells, contexts and hours, add what was missing, or take it away."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable test
    changes: Sequence[dict[str, Any]] = (
        {"success": None, "quality_score": None},
        {"success": True, "quality_score": 1.0},
        {"agent_count": 70},
        {"agent_count": 2, "time_to_complete": 9.5},
        {"project": "another", "task_complexity": 0.95},
        {"completed_at": "2026-01-01T05:00:00Z"},
        {"total_cost": 0.0, "decision_id": "d"},
    )
    chosen = rng.sample(list(among), count)
    found = [event | rng.choice(changes) | {"revision": revision} for event in chosen]
    return [{name: value for name, value in event.items() if value is not None} for event in found]


async def publish(settings: Settings, events: Sequence[dict[str, Any]]) -> None:
    """Publish events under their run ids."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        sent = [await producer.send(RUNS, orjson.dumps(each), each["agent_run_id"].encode()) for each in events]
        await asyncio.gather(*sent)


async def settled(settings: Settings) -> list[Law]:
    """Wait until both workers have written all there is, and the laws have seen it; give the live laws."""
    async with reader(settings, RUNS) as consumer:
        ends = await consumer.end_offsets([TopicPartition(RUNS, number) for number in range(settings.partitions)])
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        async with asyncio.timeout(PATIENCE):
            for group in (STATS_APP, ARCHIVE_APP):
                await wait_for_coordinator(admin, group, PATIENCE)
                while True:
                    committed = await admin.list_consumer_group_offsets(group)
                    if all(tp in committed and committed[tp].offset >= end for tp, end in ends.items()):
                        break
                    await asyncio.sleep(0.2)
            while True:
                laws = [law for law in await read_laws(settings) if law.tier == "live"]
                if all(
                    max((law.lineage.get(str(tp.partition), 0) for law in laws), default=0) >= ends[tp] for tp in ends
                ):
                    return laws
                await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def differing(settings: Settings) -> list[str]:
    """Name the live laws of the whole, of a project and of a band that differ from those of the newest revisions."""
    found = []
    for law in await settled(settings):
        if law.context not in CONTEXTS or law.dimension not in DIMENSIONS or law.outcome not in OUTCOMES:
            continue
        verified = await asyncio.to_thread(verify, settings, law)
        assert verified.not_archived == {}
        if not verified.equal:
            found.append(law.law_id)
    return found


async def agreed(settings: Settings) -> None:
    """Wait until no law differs: a refit may be under way still."""
    async with asyncio.timeout(PATIENCE):
        while found := await differing(settings):
            print(found)  # noqa: T201 - what a failure is about
            await asyncio.sleep(1)


async def scaling(settings: Settings, *arguments: str, status: int) -> Any:  # noqa: ANN401 - JSON
    """Run a command as a user does, and read the one JSON document that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.main", *arguments, "--json"),
        env=os.environ | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode() + output.decode()
    return orjson.loads(output)


async def test_live_laws_are_those_of_the_newest_revisions(settings: Settings) -> None:
    """Corrections that come late, twice, in the wrong order and while the worker is killed all count, each once."""
    await publish(settings, corrections(1, 150, revision=1))
    await settled(settings)
    await publish(settings, corrections(2, 150, revision=3))
    WORKERS["stats"].kill()
    await publish(settings, corrections(3, 150, revision=2))
    await publish(settings, corrections(4, 50, revision=4) * 2)
    await agreed(settings)
    compared = await rebuild(settings, [0, 1], dry_run=True)
    assert sum(each.runs for each in compared) == RUN_COUNT
    assert [each.differences for each in compared] == [[], []]


async def test_a_rebuild_catches_what_came_past_the_horizon(settings: Settings) -> None:
    """Once the topic has let go of what they replace corrections stay out, and come in by a rebuild beside a worker."""
    await settled(settings)
    async with reader(settings, RUNS) as consumer:
        ends = await consumer.end_offsets([TopicPartition(RUNS, number) for number in range(settings.partitions)])
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    await admin.delete_records({tp: RecordsToDelete(before_offset=end) for tp, end in ends.items()})
    await admin.close()
    late = corrections(5, 200, revision=9)
    await publish(settings, late)
    assert "global|agent_count|success|live" in await differing(settings)
    told = await scaling(settings, "rebuild", "--dry-run", status=3)
    shown = [one for each in told["partitions"] for one in each["differences"]]
    assert {one["context"] for one in shown} >= {"global", "project=another"}
    assert not any(each["written"] for each in told["partitions"])

    publishing = asyncio.create_task(publish(settings, corrections(6, 100, revision=10, among=late)))
    told = await scaling(settings, "rebuild", status=0)
    await publishing
    assert all(each["written"] for each in told["partitions"])
    assert sum(each["runs"] for each in told["partitions"]) == RUN_COUNT
    await publish(settings, corrections(7, 60, revision=11, among=late))
    await agreed(settings)
    assert [each.differences for each in await rebuild(settings, [0, 1], dry_run=True)] == [[], []]
