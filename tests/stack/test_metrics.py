"""Health, readiness and metrics of every worker of a real stack."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from analytics.simulation import simulate
from analytics.world import World
from deploy.doctor import diagnose
from deploy.stack import Stack, StackOptions, running_endpoints
from models.allocations import AllocateRequest
from models.metrics import CATALOGUE
from models.settings import Settings, load_settings
from models.topics import RUNS
from streams.allocating import Allocating
from streams.clickhouse import query

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

COUNT = 400
WORKER_OF = {"stats-0": "stats", "stats-1": "stats"}
Samples = dict[tuple[str, ...], float]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A whole stack with two stats workers."""
    options = StackOptions(state=tmp_path_factory.mktemp("metrics"), kafka_port=0, clickhouse_port=0)
    async with Stack(options, load_settings(audit_seconds=1.0)) as stack:
        yield stack


async def scrape(url: str) -> Samples:
    """Read the metrics of a worker, by name and the values of their labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def status(url: str, path: str) -> tuple[int, list[str]]:
    """Ask a worker; (0, []) where nobody answers."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}{path}") as response:
            return response.status, (await response.json())["reasons"]
    except aiohttp.ClientError:
        return 0, []


async def until_ready(stack: Stack) -> None:
    """Wait until every worker is ready."""
    async with asyncio.timeout(90):
        for url in stack.endpoints.values():
            while (await status(url, "/readyz"))[0] != 200:  # noqa: ASYNC110 - another process tells
                await asyncio.sleep(0.2)


async def summed(stack: Stack, *key: str) -> float:
    """Add a sample up over all workers."""
    return sum([(await scrape(url)).get(key, 0.0) for url in stack.endpoints.values()])


async def until(stack: Stack, wanted: float, *key: str) -> None:
    """Wait until a sample, added up over the workers, has reached a value."""
    async with asyncio.timeout(90):
        while await summed(stack, *key) < wanted:  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.3)


async def publish(settings: Settings, prefix: str) -> None:
    """Publish simulated runs, one of them twice, and one record that is none."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        events = [event | {"agent_run_id": prefix + event["agent_run_id"]} for event in simulate(World(), COUNT, 3)]
        for event in [*events, events[0]]:
            await producer.send(RUNS, orjson.dumps(event), event["agent_run_id"].encode())
        await producer.send_and_wait(RUNS, b"{", key=b"bad")


@pytest.mark.asyncio(loop_scope="module")
async def test_counters_move_with_what_is_published(running: Stack, tmp_path: Path) -> None:
    """Every worker is alive, becomes ready, publishes its metrics, and counts what it did; the doctor agrees."""
    settings = running.settings
    assert running_endpoints(running.options.state) == running.endpoints
    assert running_endpoints(tmp_path) == {}
    assert set(running.endpoints) == {"stats-0", "stats-1", "archive", "allocator", "audit", "experiments"}
    await until_ready(running)
    for name, url in running.endpoints.items():
        assert await status(url, "/healthz") == (200, [])
        samples = await scrape(url)
        kind = WORKER_OF.get(name, name)
        wanted = {metric.name for metric in CATALOGUE if kind in metric.workers and not metric.labels}
        assert {name.removesuffix("_count") for name, *_ in samples} >= wanted
        assert samples[("scaling_ready",)] == 1
    assert await summed(running, "scaling_partitions_owned") == 2 * settings.partitions
    await publish(settings, "first-")
    await until(running, COUNT, "scaling_events_total", "accepted")
    await until(running, 1, "scaling_dead_letters_total", "not_json")
    await until(running, COUNT, "scaling_archive_rows_total", "scaling_observations")
    await until(running, 1, "scaling_audit_contexts_total", "audited")
    await until(running, 1, "scaling_laws_known")
    assert await summed(running, "scaling_events_total", "accepted") == COUNT
    assert await summed(running, "scaling_events_total", "duplicate") == 1
    assert await summed(running, "scaling_events_total", "rejected") == 1
    assert await summed(running, "scaling_dead_letters_total", "not_json") == 1
    for name in ("scaling_flush_seconds", "scaling_refit_seconds", "scaling_archive_insert_seconds"):
        assert await summed(running, f"{name}_count") > 0
    async with Allocating(settings) as allocator:
        await allocator.allocate(AllocateRequest("metrics-1", {}, budget=2.0))
    await until(running, 1, "scaling_allocator_answers_total")
    assert await summed(running, "scaling_allocator_decisions_total") == 1
    assert await summed(running, "scaling_allocator_unlogged_total") == 0
    checks = {check.name: check for check in await diagnose(settings, running.endpoints)}
    wrong = {name: check.message for name, check in checks.items() if not check.ok}
    assert not wrong
    assert checks["reconciliation"].message.startswith(f"{COUNT} runs in ")
    assert {f"{name} health" for name in running.endpoints} <= checks.keys()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_worker_is_ready_only_after_its_tables_are_restored(running: Stack) -> None:
    """After a restart it answers before it is ready, and once it is, it owns its partitions with their runs."""
    await until_ready(running)
    before = await summed(running, "scaling_runs_remembered")
    url = running.endpoints["stats-0"]
    await running.kill("stats-0")
    seen: list[tuple[int, list[str]]] = []
    async with asyncio.timeout(120):
        while not seen or seen[-1][0] != 200:
            seen.append(await status(url, "/readyz"))
            await asyncio.sleep(0.02)
    waits = {reason for code, reasons in seen if code == 503 for reason in reasons}
    assert "the group shares out its partitions" in waits
    assert (await scrape(url))[("scaling_partitions_owned",)] > 0
    await publish(running.settings, "second-")
    await until(running, before + COUNT, "scaling_runs_remembered")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_difference_between_live_tables_and_clickhouse_is_shown(running: Stack) -> None:
    """Runs that somebody deleted in ClickHouse are missed context by context."""
    settings = running.settings
    await until(running, 2 * COUNT, "scaling_archive_rows_total", "scaling_observations")
    doomed = [run for (run,) in query(settings, "SELECT agent_run_id FROM observations ORDER BY 1 LIMIT 7").rows]
    sql = "ALTER TABLE scaling_observations DELETE WHERE agent_run_id IN {doomed:Array(String)}"
    sql += " SETTINGS mutations_sync = 2"
    await asyncio.to_thread(query, settings, sql, parameters={"doomed": doomed}, readonly=False)
    checks = {check.name: check for check in await diagnose(settings)}
    assert not checks["reconciliation"].ok
    assert f"global runs: {2 * COUNT} live, {2 * COUNT - 7} in ClickHouse" in checks["reconciliation"].message
