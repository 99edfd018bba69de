"""Verifying published laws from the raw runs in ClickHouse, on a running stack with workers and the audit."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from analytics.simulation import simulate
from analytics.world import confounded_world
from cli.laws import read_laws
from deploy.stack import Stack, StackOptions, environment
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import LAWS, RUNS
from streams.clickhouse import query
from streams.verification import Verification, verify

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

T = TypeVar("T")

RUN_COUNT = 3000
LIVE = "global|agent_count|success|live"
AUDITED = "global|agent_count|success|audited"
CHECKED = {"heading", "values", "reference", "power", "published", "knee", "trend", "adjusted", "text"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def settings(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A stack whose audit looks every second, with 3,000 runs that all laws of both tiers have seen."""
    options = StackOptions(state=tmp_path_factory.mktemp("verify"), workers=1, kafka_port=0, clickhouse_port=0)
    chosen = load_settings(audit_seconds=1.0, bootstrap_draws=100, context_keys=[["project"]])
    async with Stack(options, chosen) as stack:
        events = simulate(confounded_world(), RUN_COUNT, seed=5, start=datetime(2026, 1, 1, tzinfo=UTC))
        await publish(stack.settings, [orjson.dumps(event) for event in events])
        await laws_when(stack.settings, complete)
        yield stack.settings


def complete(laws: dict[str, Law]) -> bool:
    """Tell whether every law of agents and success has seen every run, in both tiers."""
    ids = [key for key in laws if "|agent_count|success|" in key]
    seen = {tier: sum(laws[key].n for key in ids if key.endswith(tier)) for tier in ("live", "audited")}
    return seen == {"live": 2 * RUN_COUNT, "audited": 2 * RUN_COUNT}


async def publish(settings: Settings, payloads: Sequence[bytes]) -> None:
    """Publish events under their run ids."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        sent = [await producer.send(RUNS, each, orjson.loads(each)["agent_run_id"].encode()) for each in payloads]
        await asyncio.gather(*sent)


async def laws_when(settings: Settings, ready: Callable[[dict[str, Law]], bool]) -> dict[str, Law]:
    """Read the laws until they are as wanted."""

    async def read() -> dict[str, Law]:
        return {law.law_id: law for law in await read_laws(settings)}

    return await when(read, ready)


async def when(read: Callable[[], Awaitable[T]], ready: Callable[[T], bool], seconds: float = 120) -> T:
    """Read until it is as wanted."""
    async with asyncio.timeout(seconds):
        while not ready(found := await read()):  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.5)
    return found


async def scaling(settings: Settings, *arguments: str, status: int = 0) -> Any:  # noqa: ANN401 - JSON
    """Run a command as a user does, and read the one JSON document that it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli.main", *arguments, "--json"),
        env=os.environ | environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode() + output.decode()
    return json.loads(output)


def differences(found: Verification) -> dict[str, list[str]]:
    """List what differs, by part."""
    return {part.name: part.differences for part in found.parts if part.differences}


async def test_every_law_equals_the_one_from_its_raw_runs(settings: Settings) -> None:
    """Live laws equal those fitted row by row, audited ones a second audit; nothing was corrected or is behind."""
    laws = await laws_when(settings, complete)
    chosen = [law for law in laws.values() if law.context == "global" or law.tier == "live"]
    assert {law.tier for law in chosen} == {"live", "audited"}
    some = [law for law in chosen if law.law_id in {LIVE, AUDITED} or law.dimension in {"context", "attempts"}]
    for law in some:
        found = await asyncio.to_thread(verify, settings, law)
        assert differences(found) == {}, law.law_id
        assert found.equal
        assert (found.corrected_total, found.corrected_elsewhere, found.not_archived) == (0, 0, {})
        assert {part.name for part in found.parts if part.verdict == "equal"} >= CHECKED
    assert laws[LIVE].adjusted is not None


async def test_the_command_says_equal(settings: Settings) -> None:
    """Exit code 0, one document; an id without a tier means the law that speaks."""
    for identifier in (LIVE, "global|agent_count|success"):
        told = await scaling(settings, "laws", "verify", identifier)
        assert told["equal"]
        assert told["law_id"] in {LIVE, AUDITED}
    assert (await scaling(settings, "laws", "show", LIVE))["law_id"] == LIVE


async def test_contexts_are_compared(settings: Settings) -> None:
    """The four projects' slopes, with all six pairs and a joint test; their law is one and the same."""
    told = await scaling(
        settings, "laws", "compare", "--dimension", "iterations", "--outcome", "quality_score", "--key", "project"
    )
    assert [each["context"] for each in told["contexts"]] == [
        f"project={name}" for name, _ in confounded_world().projects
    ]
    assert len(told["pairs"]) == 6
    assert told["heterogeneity"]["dof"] == 3
    assert all(pair["p_adjusted"] >= pair["p"] for pair in told["pairs"])


async def test_a_tampered_law_is_caught(settings: Settings) -> None:
    """A record whose exponent, or sentence, or adjusted slope was changed differs in that part, and nowhere else."""
    law = (await laws_when(settings, complete))[LIVE]
    assert law.power is not None
    assert law.adjusted is not None
    exponent = msgspec.structs.replace(law.power.exponent, estimate=law.power.exponent.estimate * (1 + 1e-6))
    slope = msgspec.structs.replace(law.adjusted.slope, estimate=law.adjusted.slope.estimate + 0.01)
    forged: dict[str, dict[str, Any]] = {
        "power": {"power": msgspec.structs.replace(law.power, exponent=exponent)},
        "text": {"sentence": law.sentence.replace("agents", "agencies")},
        "adjusted": {"adjusted": msgspec.structs.replace(law.adjusted, slope=slope)},
    }
    for part, change in forged.items():
        found = await asyncio.to_thread(verify, settings, msgspec.structs.replace(law, **change))
        assert part in differences(found)
        assert not found.equal
    altered = msgspec.structs.replace(law, version=law.version + 1, **forged["power"])
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(LAWS, msgspec.json.encode(altered), LIVE.encode())
    told = await scaling(settings, "laws", "verify", LIVE, status=3)
    assert not told["equal"]
    assert [part["name"] for part in told["parts"] if part["differences"]] == ["power"]
    assert told["corrected_total"] == 0
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        mended = msgspec.structs.replace(law, version=law.version + 2)
        await producer.send_and_wait(LAWS, msgspec.json.encode(mended), LIVE.encode())
    assert (await scaling(settings, "laws", "verify", LIVE))["equal"]


async def test_a_corrected_run_is_followed_and_named(settings: Settings) -> None:
    """Laws of both tiers follow a correction; in one from before it the run is named as what may be the reason."""
    before = await laws_when(settings, complete)
    (first,) = simulate(confounded_world(), 1, seed=5, start=datetime(2026, 1, 1, tzinfo=UTC))
    stored = await asyncio.to_thread(
        query, settings, "SELECT success FROM observations WHERE agent_run_id = 'sim-5-0000000'"
    )
    turned = not stored.rows[0][0]
    assert first["agent_run_id"] == "sim-5-0000000"
    await publish(settings, [orjson.dumps(first | {"revision": 1, "success": turned})])
    # The law that was tampered with has a version above those of its worker.
    both = "global|attempts|success|live", AUDITED
    await laws_when(settings, lambda laws: all(laws[each].version > before[each].version for each in both))

    for each in both:
        assert (await scaling(settings, "laws", "verify", each))["equal"]
        stale = await asyncio.to_thread(verify, settings, before[each])
        assert (stale.corrected, stale.corrected_total) == (["sim-5-0000000"], 1)
        assert "values" in differences(stale)
