"""The audited tier on a running stack: from runs to audited laws, through a correction, to a second auditor."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
import msgspec
import numpy as np
import orjson
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer

from agents.lawbook import speaks
from agents.raw_laws import RawRuns, Wanted
from analytics.equality import compare_laws
from analytics.joint_laws import Predictor, SettingGrid
from analytics.simulation import simulate
from analytics.world import World
from cli.joint_law_page import read_joint_law
from deploy.processes import log_tail
from deploy.stack import Stack, StackOptions, environment
from models.dimensions import Dimension
from models.errors import StackError
from models.joint_laws import JointLaw, LawRecord, read_record
from models.laws import Drift, Law
from models.settings import Settings, load_settings
from models.topics import LAWS, RUNS
from streams.clickhouse import query
from streams.kafka_clients import read_compacted

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

T = TypeVar("T")

RUN_COUNT = 1500
START = datetime(2026, 1, 1, tzinfo=UTC)
STOP_SECONDS = 4.0
SUCCESS = "global|agent_count|success|audited"
JOINT_SUCCESS = "global|joint|success|audited"
JOINT_OUTCOMES = ("success", "quality_score", "total_cost", "time_to_complete")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A stack without stats workers, which the audit does not need; it looks every second."""
    options = StackOptions(state=tmp_path_factory.mktemp("audit"), workers=0, kafka_port=0, clickhouse_port=0)
    settings = load_settings(audit_seconds=1.0, bootstrap_draws=100, context_keys=[["project"], ["model"]])
    async with Stack(options, settings) as running:
        yield running


def simulated(seed: int, runs: int = RUN_COUNT) -> list[bytes]:
    """Simulate runs whose quality may be missing and whose context budgets lie in bins."""
    return [orjson.dumps(each) for each in simulate(World(), runs, seed=seed, start=START)]


async def publish(settings: Settings, payloads: Sequence[bytes]) -> None:
    """Publish events under their run ids."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20) as producer:
        sent = [await producer.send(RUNS, each, orjson.loads(each)["agent_run_id"].encode()) for each in payloads]
        await asyncio.gather(*sent)


async def when(read: Callable[[], Awaitable[T]], ready: Callable[[T], bool], seconds: float = 90) -> T:
    """Read until it is as wanted."""
    async with asyncio.timeout(seconds):
        while not ready(found := await read()):  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.3)
    return found


async def audited_laws(settings: Settings) -> dict[str, Law]:
    """Read the newest version of every audited law of one dimension."""
    return {name: law for name, law in (await audited_records(settings)).items() if isinstance(law, Law)}


async def joint_laws(settings: Settings) -> dict[str, JointLaw]:
    """Read the newest version of every joint law."""
    return {name: law for name, law in (await audited_records(settings)).items() if isinstance(law, JointLaw)}


async def audited_records(settings: Settings) -> dict[str, LawRecord]:
    """Read the newest version of everything that the audit publishes."""
    laws = {}
    async for record in read_compacted(settings, LAWS):
        if record.value is not None and record.key.endswith(b"|audited"):
            laws[record.key.decode()] = read_record(record.key.decode(), record.value)
    return laws


async def audited_when(settings: Settings, ready: Callable[[dict[str, Law]], bool]) -> dict[str, Law]:
    """Read the audited laws once they are as wanted."""
    return await when(lambda: audited_laws(settings), ready)


async def rows(settings: Settings, sql: str) -> Sequence[Sequence[Any]]:
    """Query ClickHouse."""
    return (await asyncio.to_thread(query, settings, sql)).rows


def complete(laws: dict[str, Law], runs: int) -> bool:
    """Tell whether every context has seen so many runs, and every law all others.

    Each run is in the global context, one project and one model.
    """
    among = {law.adjusted_significance.laws for law in laws.values() if law.adjusted_significance is not None}
    seen = sum(law.n for law in laws.values() if law.law_id.endswith("|iterations|success|audited"))
    return seen == 3 * runs and len(among) == 1


def unexamined(law: Law) -> Law:
    """Take away what knows of clusters and of other settings: raw rows, one by one, do not."""
    return msgspec.structs.replace(law, published=None, knee=None, evidence="", status="")


def runs_of(law: Law) -> int:
    """Say how many runs the law has seen, by its lineage."""
    return sum(law.lineage.values())


async def test_audited_laws_follow_the_archive(stack: Stack) -> None:
    """They equal the laws of the raw rows, stay while nothing changes, and follow corrections and new runs."""
    settings, payloads = stack.settings, simulated(1)
    await publish(settings, payloads)
    contexts = {"global", *(f"project={name}" for name, _ in World().projects)}
    contexts |= {f"model={model.name}" for model in World().models}

    first = await audited_when(settings, lambda laws: complete(laws, RUN_COUNT))
    assert {law.context for law in first.values()} == contexts
    raw = RawRuns(settings)
    raw.add(payloads)
    expected = {law.law_id.replace("|live", "|audited"): law for law in raw.laws(Wanted())}
    assert {law.outcome for law in first.values()} == {
        *{law.outcome for law in expected.values()},
        *("quality_given_success", "success_times_quality"),
    }
    shared = expected.keys() & first.keys()
    assert len(shared) == len(contexts) * 6 * 4
    assert [line for key in shared for line in compare_laws(unexamined(first[key]), unexamined(expected[key]))] == []
    assert all(runs_of(law) == RUN_COUNT for law in first.values())
    told = first[SUCCESS]
    assert told.clusters == "64 task groups"
    assert told.adjusted is not None
    assert told.evidence == "adjusted"
    assert told.validation is not None
    assert told.validation.five_fold is not None
    assert first["project=atlas|agent_count|success|audited"].pooling is not None
    assert first["global|parallelism_level|time_to_complete|audited"].scalability is not None
    joint = await joint_laws(settings)
    assert joint.keys() == {f"{context}|joint|{outcome}|audited" for context in contexts for outcome in JOINT_OUTCOMES}
    assert {sum(law.lineage.values()) for law in joint.values()} == {RUN_COUNT}
    hashes = {law.settings_hash for law in first.values()} | {law.settings_hash for law in joint.values()}
    assert hashes == {settings.validation_hash}

    # The same file again moves every row of the archive; no law says anything new.
    await publish(settings, payloads)
    count = "SELECT count() FROM records"
    await when(lambda: rows(settings, count), lambda found: found[0][0] == 2 * RUN_COUNT)
    await asyncio.sleep(3 * settings.audit_seconds)
    assert await audited_laws(settings) == first
    assert await joint_laws(settings) == joint

    corrected = orjson.loads(payloads[0])
    changed = orjson.dumps(corrected | {"revision": 1, "success": not corrected["success"]})
    await publish(settings, [changed])
    after = await audited_when(settings, lambda laws: laws[SUCCESS].version > first[SUCCESS].version)
    step = 1 if orjson.loads(changed)["success"] else -1
    assert after[SUCCESS].n == RUN_COUNT
    assert successes(after[SUCCESS]) == pytest.approx(successes(first[SUCCESS]) + step)

    await publish(settings, simulated(2, 300))
    grown = await audited_when(settings, lambda laws: complete(laws, RUN_COUNT + 300))
    assert runs_of(grown[SUCCESS]) == 2 * RUN_COUNT + 301
    sql = f"SELECT version, n FROM laws WHERE law_id = '{SUCCESS}'"
    await when(lambda: rows(settings, sql), lambda found: found == [(grown[SUCCESS].version, grown[SUCCESS].n)])


async def test_joint_laws_say_what_was_planted(stack: Stack) -> None:
    """Success and quality rise and times fall as they do in the world, costs by their price; all are in ClickHouse."""
    settings = stack.settings
    before = await audited_laws(settings)
    if not before:
        await publish(settings, simulated(1))
        before = await audited_when(settings, lambda laws: complete(laws, RUN_COUNT))
    joint = await joint_laws(settings)
    assert joint[JOINT_SUCCESS].n == before[SUCCESS].n
    assert times(joint, "success", Dimension.AGENT_COUNT, 8) > 1.2
    assert times(joint, "quality_score", Dimension.ITERATIONS, 10) == pytest.approx(10**0.25, rel=0.1)
    assert times(joint, "total_cost", Dimension.AGENT_COUNT, 8) == pytest.approx(8, rel=0.1)
    assert times(joint, "time_to_complete", Dimension.PARALLELISM_LEVEL, 8) == pytest.approx(8**-0.7, rel=0.2)
    assert await read_joint_law(settings, JOINT_SUCCESS) == joint[JOINT_SUCCESS]
    sql = "SELECT law_id, version, n FROM laws WHERE dimension = 'joint' ORDER BY law_id"
    archived = [(name, law.version, law.n) for name, law in sorted(joint.items())]
    await when(lambda: rows(settings, sql), lambda found: list(map(tuple, found)) == archived)


async def test_a_restart_publishes_nothing_that_is_known(stack: Stack) -> None:
    """A new auditor fits every context, and says of none what has been said, nor anything else meanwhile."""
    settings, log = stack.settings, stack.options.state / "logs" / "audit.log"
    if not await audited_laws(settings):
        await publish(settings, simulated(1))
        await audited_when(settings, lambda laws: complete(laws, RUN_COUNT))
    await asyncio.sleep(3 * settings.audit_seconds)
    before = await audited_records(settings)
    assert JOINT_SUCCESS in before

    async def rounds() -> int:
        return log.read_text(encoding="utf-8").count("audit_round")

    known = await rounds()
    await stack.restart("audit")
    await when(rounds, lambda count: count > known)
    assert await audited_records(settings) == before


async def test_a_drifted_law_begins_a_new_epoch(stack: Stack) -> None:
    """Once the live law has drifted, the audited one is fitted from the runs since, as the next epoch.

    So are the laws of success and quality together, and the joint law of the outcome. Should the drift be no more, all
    runs count again.
    """
    settings, name = stack.settings, "project=delta|agent_count|success|audited"
    together = "project=delta|joint|success|audited"
    before = await audited_laws(settings)
    if not before:
        await publish(settings, simulated(1))
        before = await audited_when(settings, lambda laws: complete(laws, RUN_COUNT))
    drift = Drift(alarm=True, evidence=2e4, limit=1e4, buckets=9, since="2026-01-01T12:00:00Z", cause="law")
    live = msgspec.structs.replace(
        before[name], law_id=name.replace("audited", "live"), tier="live", status="drifted", drift=drift
    )
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(LAWS, msgspec.json.encode(live), live.law_id.encode(), partition=0)
    after = await audited_when(settings, lambda laws: laws[name].epoch == 2)
    since = "toUnixTimestamp64Milli(completed_at) >= 1767268800000"
    runs = await rows(settings, f"SELECT count() FROM observations WHERE project = 'delta' AND {since}")
    assert (after[name].epoch_since, after[name].n) == (drift.since, runs[0][0])
    assert after[name].n < before[name].n
    assert after[SUCCESS].epoch == 1
    assert speaks(live, after[name]) is after[name]
    assert speaks(live, before[name]) is live
    derived = after["project=delta|agent_count|quality_given_success|audited"]
    assert (derived.epoch, derived.epoch_since) == (2, drift.since)
    assert after["project=delta|agent_count|total_cost|audited"].epoch == 1
    joint = await joint_laws(settings)
    assert (joint[together].epoch, joint[together].epoch_since, joint[together].n) == (2, drift.since, runs[0][0])
    assert joint["project=delta|joint|total_cost|audited"].epoch == 1

    still = msgspec.structs.replace(live, version=live.version + 1, status="established", drift=None)
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka) as producer:
        await producer.send_and_wait(LAWS, msgspec.json.encode(still), still.law_id.encode(), partition=0)
    again = (await audited_when(settings, lambda laws: laws[name].epoch == 3))[name]
    assert (again.epoch_since, again.n) == (None, before[name].n)
    whole = (await joint_laws(settings))[together]
    assert (whole.epoch, whole.epoch_since, whole.n) == (3, None, before[name].n)
    newest = f"SELECT epoch, version FROM laws WHERE law_id = '{name}'"
    await when(lambda: rows(settings, newest), lambda found: list(map(tuple, found)) == [(3, again.version)])


async def not_ready(stack: Stack) -> str:
    """Ask the audit what it waits for."""
    async with aiohttp.ClientSession() as session, session.get(stack.endpoints["audit"] + "/readyz") as answer:
        return " ".join((await answer.json())["reasons"])


async def test_the_audit_outlives_clickhouse(stack: Stack) -> None:
    """While ClickHouse is down the audit waits and says so, and goes on by itself, in the same process."""
    before, pid = await audited_laws(stack.settings), stack.pid("audit")
    await stack.supervised("clickhouse").stop()
    await when(lambda: not_ready(stack), lambda reasons: "the audit waits for ClickHouse" in reasons)
    await stack.supervised("clickhouse").start()
    await publish(stack.settings, simulated(4, 100))
    runs = before[SUCCESS].n if SUCCESS in before else 0
    await audited_when(stack.settings, lambda laws: complete(laws, runs + 100))
    assert stack.pid("audit") == pid
    assert await not_ready(stack) == ""


async def test_a_second_auditor_stops_the_first(stack: Stack) -> None:
    """Whoever comes last publishes; the one before stops with an error that says so, when it next has a law."""
    settings, log = stack.settings, stack.options.state / "logs" / "audit.log"
    before, pid = await audited_laws(settings), stack.pid("audit")
    command = (sys.executable, "-P", "-m", "cli.main", "worker", "audit")
    second = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment(settings), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert second.stderr is not None
    # It looks at every context once, finds nothing new, and says so: from then on it has the transactional id.
    await asyncio.wait_for(second.stderr.readuntil(b"audit_round"), 60)
    await publish(settings, simulated(3, 200))

    async def said() -> str:
        return log_tail(log, 200)

    await when(said, lambda text: "another auditor has taken over the audited laws" in text)

    async def started_again() -> bool:
        try:
            return stack.pid("audit") != pid
        except StackError:
            return False

    await when(started_again, bool)
    runs = before[SUCCESS].n + 200 if before else 200
    laws = await audited_when(settings, lambda laws: complete(laws, runs))
    assert laws[SUCCESS].version > (before[SUCCESS].version if before else 0)
    # The supervisor started the first again, which took over in turn: the second may have met the same end.
    with suppress(ProcessLookupError):
        second.terminate()
    _, errors = await asyncio.wait_for(second.communicate(), STOP_SECONDS)
    assert second.returncode == (1 if b"another auditor has taken over" in errors else 0)


async def test_the_audit_stops_when_asked(stack: Stack) -> None:
    """SIGTERM ends it at once, also while it fits, and long before it would be killed."""
    await publish(stack.settings, simulated(5, 3000))
    await when(lambda: rows(stack.settings, "SELECT count() FROM records"), lambda found: found[0][0] >= 3000)
    await asyncio.sleep(2 * stack.settings.audit_seconds)
    asked = time.monotonic()
    await stack.restart("audit")
    assert time.monotonic() - asked < STOP_SECONDS


def times(laws: Mapping[str, JointLaw], outcome: str, dimension: Dimension, greatest: float) -> float:
    """Predict by what the outcome's mean is multiplied from the value 1 of a dimension to the greatest one."""
    predictor = Predictor.of(laws[f"global|joint|{outcome}|audited"])
    least, most = predictor.mean(SettingGrid({dimension: np.array([1.0, greatest])})).tolist()
    return float(most / least)


def successes(law: Law) -> float:
    """Count the successes behind a law."""
    return sum(row.n * row.mean for row in law.values)
