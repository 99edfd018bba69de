"""Importing, fitting and replaying on a running stack with workers."""

import asyncio
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from analytics.equality import compare_laws
from analytics.simulation import simulate
from analytics.world import World
from deploy.stack import Stack, StackOptions, environment
from models.laws import Law
from models.rejects import Rejected
from models.settings import Settings, load_settings
from models.topics import LAWS, REJECTED
from streams.clickhouse import query
from streams.kafka_clients import read_compacted
from streams.topics import connected_admin

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

DYLAN = Path(__file__).parents[3] / "shared" / "data" / "dylan_mmlu_team_size" / "events.jsonl.gz"

BROKEN: Mapping[bytes, str] = {
    b'{"agent_run_id": "broken-json", "agent_count": ': "not JSON",
    b'{"agent_run_id": "wrong-type", "agent_count": "three"}': "agent_count",
    b'{"agent_run_id": "nan", "quality_score": NaN}': "not JSON",
    b'{"agent_run_id": "infinite", "total_cost": -Infinity}': "not JSON",
    b'{"agent_run_id": "overflow", "total_cost": 1e999}': "total_cost|not JSON|out of range",
    b'{"agent_run_id": "negative", "retry_count": -1}': "retry_count",
    b'{"agent_count": 2, "success": true}': "agent_run_id",
    b'{"agent_run_id": "large", "project": "' + b"x" * 10 * 1024 * 1024 + b'"}': "max_event_bytes",
    '{"agent_run_id": "latin-1", "project": "größe"}'.encode("latin-1"): "not UTF-8",
    b"null": "null",
    b'[{"agent_run_id": "array"}]': "array",
    b'{"agent_run_id": "other-scale", "task_complexity": 7, "success": true}': "task_complexity",
}
"""Payloads that are no run events, and what the reason must speak of."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def working(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A stack of this module's own, with workers."""
    options = StackOptions(state=tmp_path_factory.mktemp("import"), workers=1, kafka_port=0, clickhouse_port=0)
    async with Stack(options, load_settings()) as stack:
        yield stack.settings


async def scaling(settings: Settings, *arguments: str | Path, status: int = 0) -> Any:  # noqa: ANN401 - JSON
    """Run a command as a user does, and read the one JSON document that it prints."""
    command = (sys.executable, "-P", "-m", "cli.main", *map(str, arguments), "--json")
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == status, errors.decode()
    return json.loads(output)


async def live_laws(settings: Settings) -> dict[str, Law]:
    """Read the newest version of every law."""
    laws = {}
    async for record in read_compacted(settings, LAWS):
        if record.key.endswith(b"|live"):
            laws[record.key.decode()] = msgspec.json.decode(record.value, type=Law)
    return laws


async def settled_laws(settings: Settings, runs: int) -> dict[str, Law]:
    """Wait until the global laws of success have seen as many runs."""
    async with asyncio.timeout(60):
        while True:
            laws = await live_laws(settings)
            if max((law.n for law in laws.values()), default=0) == runs:
                return laws
            await asyncio.sleep(0.5)


async def rejected_rows(settings: Settings, import_id: str, count: int) -> dict[str, str]:
    """Wait until ClickHouse has the rejects of an import; give the reason by the hash of the original."""
    async with asyncio.timeout(60):
        while True:
            rows = query(
                settings,
                "SELECT sha256, reason FROM rejected WHERE import_id = {id:String}",
                parameters={"id": import_id},
            ).rows
            if len(rows) >= count:
                return {row[0].decode() if isinstance(row[0], bytes) else row[0]: row[1] for row in rows}
            await asyncio.sleep(0.3)


async def test_published_runs_are_imported_once(working: Settings) -> None:
    """11,236 runs are accepted, all duplicates the second time, and the live laws are those of the raw rows."""
    if not DYLAN.is_file():
        pytest.skip("the public runs of DyLAN are not beside the project")
    counts = {"published": 11_236, "accepted": 11_236, "duplicate": 0, "corrected": 0, "rejected": 0}

    first = await scaling(working, "import", DYLAN)
    assert {name: first[name] for name in counts} == counts
    laws = await settled_laws(working, 11_236)

    again = await scaling(working, "import", DYLAN)
    assert (again["accepted"], again["duplicate"]) == (0, 11_236)
    # A refit window passes; nothing was to be refitted.
    await asyncio.sleep(2 * working.refit_seconds)
    assert {name: law.version for name, law in (await live_laws(working)).items()} == {
        name: law.version for name, law in laws.items()
    }

    fitted = msgspec.convert((await scaling(working, "fit", DYLAN))["laws"], list[Law])
    assert {law.law_id for law in fitted} == laws.keys()
    for law in fitted:
        assert compare_laws(law, laws[law.law_id]) == []


async def test_an_import_continued_under_its_id_counts_on(working: Settings, tmp_path: Path) -> None:
    """The tallies of an id are those of all its parts, in every source partition."""
    parts = []
    for number, ids in enumerate((range(40), range(41))):
        path = tmp_path / f"part-{number}.jsonl"
        path.write_text("\n".join(json.dumps({"agent_run_id": f"continued-{each}"}) for each in ids))
        parts.append(path)

    await scaling(working, "import", parts[0], "--id", "continued")
    found = await scaling(working, "import", parts[1], "--id", "continued")
    assert (found["accepted"], found["duplicate"], found["published"]) == (41, 40, 41)


async def test_malformed_records_are_set_apart_and_can_be_replayed(working: Settings, tmp_path: Path) -> None:
    """Each lands in scaling.rejected and ClickHouse with its reason; the rest counts; mended ones are taken."""
    good = [json.dumps(event).encode() for event in simulate(World(), 1200, seed=77)]
    lines = list(good)
    for place, payload in enumerate(BROKEN):
        lines.insert(100 * place, payload)
    path = tmp_path / "runs.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines), 1))

    found = await scaling(working, "import", path, "--id", "malformed", status=3)
    assert (found["accepted"], found["rejected"]) == (len(good), len(BROKEN))

    on_topic = {}
    async for record in read_compacted(working, REJECTED):
        reject = msgspec.json.decode(record.value, type=Rejected)
        if reject.import_id == "malformed":
            on_topic[reject.sha256] = reject.reason
    assert await rejected_rows(working, "malformed", len(BROKEN)) == on_topic
    assert len(on_topic) == len(BROKEN)
    listed = await scaling(working, "rejected", "list", "--import-id", "malformed")
    assert listed["total"] == len(BROKEN)
    for payload, speaks_of in BROKEN.items():
        reason = on_topic[hash_of(payload)]
        assert any(word in reason for word in speaks_of.split("|")), reason

    replay = ("rejected", "replay", "--import-id", "malformed", "--complexity-scale", "0:10")
    tried = await scaling(working, *replay, "--dry-run", status=3)
    assert (tried["accepted"], tried["rejected"]) == (1, len(BROKEN) - 1)
    # The record of 10 MiB is read again from its topic: all are published.
    mended = await scaling(working, *replay, status=3)
    assert (mended["published"], mended["accepted"], mended["gone"]) == (len(BROKEN), 1, [])
    runs = query(working, "SELECT task_complexity FROM observations WHERE agent_run_id = 'other-scale'").rows
    assert [tuple(row) for row in runs] == [(0.7,)]


async def test_one_record_is_replayed_by_its_coordinates(working: Settings, tmp_path: Path) -> None:
    """A coordinate chooses exactly one record; one that was never rejected is told."""
    path = tmp_path / "runs.jsonl"
    path.write_text('{"agent_run_id": "one-of-them", "agent_count": 0, "team": 3}\n{"agent_count": 1}\n')
    await scaling(working, "import", path, "--id", "coordinates", status=3)
    await rejected_rows(working, "coordinates", 2)
    rows = (await scaling(working, "rejected", "list", "--import-id", "coordinates"))["rejected"]
    place = next(f"{row['topic']}:{row['partition']}:{row['offset']}" for row in rows if "team" in row["payload_head"])

    replayed = await scaling(working, "rejected", "replay", "--offset", place, "--map", "agent_count=team")
    assert (replayed["published"], replayed["accepted"]) == (1, 1)


async def test_a_record_that_kafka_does_not_take_is_named(working: Settings, tmp_path: Path) -> None:
    """What is larger than the topic allows is reported with its line, and everything else is imported."""
    path = tmp_path / "runs.jsonl"
    large = b'{"agent_run_id": "too-large", "project": "' + b"x" * 17 * 1024 * 1024 + b'"}'
    path.write_bytes(b'{"agent_run_id": "before-it"}\n' + large + b'\n{"agent_run_id": "after-it"}\n')

    found = await scaling(working, "import", path, "--rate", "1000", status=3)
    assert (found["published"], found["accepted"], found["rejected"]) == (2, 2, 1)
    assert [refused["record"] for refused in found["refused"]] == [f"{path}:2"]


async def test_what_is_not_retained_any_more_is_told(working: Settings, tmp_path: Path) -> None:
    """Of a long record only the head is kept: once its topic has let it go, a replay says so."""
    path = tmp_path / "runs.jsonl"
    long = json.dumps({"agent_run_id": "gone", "agent_count": 0, "project_characteristics": {"notes": "x" * 100_000}})
    path.write_text(long)
    await scaling(working, "import", path, "--id", "gone", status=3)
    await rejected_rows(working, "gone", 1)
    [row] = (await scaling(working, "rejected", "list", "--import-id", "gone"))["rejected"]
    async with connected_admin(working, 10) as admin:
        await admin.delete_records({TopicPartition(row["topic"], row["partition"]): RecordsToDelete(row["offset"] + 1)})

    found = await scaling(working, "rejected", "replay", "--import-id", "gone", status=3)
    assert found["published"] == 0
    [gone] = found["gone"]
    assert gone["record"] == f"{row['topic']}:{row['partition']}:{row['offset']}"
    assert "does not retain it any more" in gone["reason"]


def hash_of(payload: bytes) -> str:
    """The SHA-256 that a reject names its original by."""
    return hashlib.sha256(payload).hexdigest()
