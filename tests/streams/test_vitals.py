"""The vital signs of a process, and the endpoint that tells them."""

import asyncio

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.machine import quiet_ports
from models import metrics
from models.errors import PortTaken
from models.metrics import CATALOGUE, WORKERS, series
from models.settings import load_settings
from streams.endpoint import endpoint
from streams.vitals import Vitals


def samples(vitals: Vitals) -> dict[str, float]:
    """Read what a process publishes; labels are part of the name."""
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(vitals.text().decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_publishes_its_part_of_the_catalogue(worker: str) -> None:
    """Metrics without labels are there from the beginning, and no other worker's."""
    published = samples(Vitals(worker))
    for metric in CATALOGUE:
        if worker not in metric.workers:
            assert metric.name not in published
        elif not metric.labels:
            assert set(series(metric)[-1:]) <= published.keys()
    assert "process_resident_memory_bytes" in published
    assert not any(name.endswith("_created") for name in published)


def test_counters_gauges_and_histograms_say_what_they_were_told() -> None:
    """Series of a gauge that are gone are not told any more."""
    vitals = Vitals(metrics.STATS_WORKER)
    vitals.count(metrics.EVENTS, 3, verdict="accepted")
    vitals.count(metrics.EVENTS, verdict="accepted")
    vitals.observe(metrics.FLUSH_SECONDS, 0.25)
    vitals.replace(metrics.CONSUMER_LAG, {("scaling.runs", "0"): 7, ("scaling.runs", "1"): 8})
    vitals.replace(metrics.CONSUMER_LAG, {("scaling.runs", "1"): 9})
    vitals.when_asked(lambda: vitals.set(metrics.CONTEXTS, 5))
    said = samples(vitals)
    assert said["scaling_events_total{accepted}"] == 4
    assert said["scaling_flush_seconds_count"] == 1
    assert said["scaling_flush_seconds_sum"] == 0.25
    assert {name for name in said if name.startswith("scaling_consumer_lag")} == {
        "scaling_consumer_lag{1}{scaling.runs}"
    }
    assert said["scaling_contexts"] == 5


def test_two_processes_vital_signs_do_not_mix() -> None:
    """There is no global registry."""
    first, second = Vitals(metrics.ARCHIVE_WORKER), Vitals(metrics.ARCHIVE_WORKER)
    first.count(metrics.ROWS, 2, table="t")
    assert "scaling_archive_rows_total{t}" not in samples(second)


async def test_the_endpoint_tells_health_readiness_and_metrics() -> None:
    """200 where all is well, 503 with the reasons where it is not; a worker that is ill is not ready either."""
    ill, waits = list[str](), ["laws are being read"]
    vitals = Vitals(metrics.ALLOCATOR_WORKER)
    vitals.alive_unless(lambda: ill[0] if ill else None)
    vitals.ready_unless(lambda: waits[0] if waits else None)
    (port,) = quiet_ports(1)
    settings, url = load_settings(metrics_port=port), f"http://127.0.0.1:{port}"

    async def ask(session: aiohttp.ClientSession, path: str) -> tuple[int, list[str]]:
        async with session.get(f"{url}{path}") as response:
            return response.status, (await response.json())["reasons"]

    async with endpoint(settings, vitals), aiohttp.ClientSession() as session:
        assert await ask(session, "/healthz") == (200, [])
        assert await ask(session, "/readyz") == (503, ["laws are being read"])
        waits.clear()
        assert await ask(session, "/readyz") == (200, [])
        async with session.get(f"{url}/metrics") as response:
            assert "scaling_ready 1.0" in await response.text()
        ill.append("commits have made no progress")
        assert await ask(session, "/healthz") == (503, ["commits have made no progress"])
        assert await ask(session, "/readyz") == (503, ["commits have made no progress"])
    with pytest.raises(OSError, match="Connect"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_port_that_is_taken_is_named() -> None:
    """A worker whose health nobody could see does not start."""
    (port,) = quiet_ports(1)
    settings = load_settings(metrics_port=port)
    async with endpoint(settings, Vitals(metrics.AUDIT_WORKER)):
        with pytest.raises(PortTaken, match=f"metrics_port = {port}"):
            async with endpoint(settings, Vitals(metrics.AUDIT_WORKER)):
                pytest.fail("it was taken twice")


async def test_without_a_port_nothing_listens() -> None:
    """Off by default."""
    assert load_settings().metrics_port == 0
    tasks = asyncio.all_tasks()
    async with endpoint(load_settings(), Vitals(metrics.AUDIT_WORKER)):
        assert asyncio.all_tasks() == tasks
