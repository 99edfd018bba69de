"""Joint cells and contexts read from ClickHouse, against the same runs grouped one by one in Python."""

import json
import math
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import xxhash

from agents.archive import OBSERVATIONS, RECORDS, archive_runs
from agents.columns import Columns, to_columns
from agents.decode import EventDecoder
from analytics.joint_cells import COMPLEXITY_BINS, FOLDS, TASK_GROUPS, JointCells
from analytics.partitions import partition_of
from analytics.simulation import simulate
from analytics.world import World
from deploy.machine import LOOPBACK, claim_port
from models.batches import Batch
from models.cells import bin_value
from models.contexts import GLOBAL, contexts_of
from models.dimensions import CLIP, SIZE_CATEGORIES, Basis, Dimension, Outcome, Source
from models.events import RunEvent
from models.settings import Settings, load_settings
from models.topics import RUNS
from streams.clickhouse import ClickHouseSink, apply_schema, query
from streams.cut import read_cut
from streams.extents import read_extents
from streams.joint_cells import NUMBERS, OUTCOMES, read_joint_cells

pytestmark = pytest.mark.stack

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int(START.timestamp() * 1000)
PROJECT = "größe & co=1|\\'x\"\t{a}"
KEYS = [
    *(["project"], ["task_type"], ["complexity_band"], ["model_size_category"], ["project", "task_type"]),
    *(["language"], ["model_params_b"]),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of ClickHouse's engine, served by a process of its own."""
    port = claim_port("ClickHouse", 0)
    folder = tmp_path_factory.mktemp("clickhouse")
    command = [sys.executable, "-P", "-m", "deploy.clickhouse", "--state", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as service:
        try:
            yield _answering(f"http://{LOOPBACK}:{port}")
        finally:
            service.kill()


def _answering(url: str) -> str:
    for _ in range(600):
        with suppress(OSError), urlopen(f"{url}/ping", timeout=1):  # noqa: S310 - our own service on loopback
            return url
        time.sleep(0.05)
    pytest.fail("the service does not answer")


@dataclass(slots=True)
class Archive:
    """A database of a test's own, and how many records each partition has had."""

    settings: Settings
    offsets: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    async def put(self, events: Sequence[dict[str, Any]]) -> None:
        """Archive events as the archive worker does, each in the partition of its run id."""
        settings, sink = self.settings, ClickHouseSink(self.settings, refusals=1)
        by_partition: defaultdict[int, list[bytes]] = defaultdict(list)
        for each in events:
            partition = partition_of(each["agent_run_id"].encode(), settings.partitions)
            by_partition[partition].append(json.dumps(each).encode())
        for partition, values in by_partition.items():
            first, count = self.offsets[partition], len(values)
            self.offsets[partition] += count
            offsets = range(first, first + count)
            batch = Batch(RUNS, partition, offsets, [NOW] * count, [None] * count, values, [()] * count)
            observations, records = archive_runs(batch, EventDecoder(settings), settings, NOW)
            await sink.insert(OBSERVATIONS, observations)
            await sink.insert(RECORDS, records)
        await sink.close()


@pytest.fixture
async def archive(address: str, request: pytest.FixtureRequest) -> Archive:
    """An empty archive with three partitions."""
    name = f"t{xxhash.xxh64_hexdigest(request.node.name.encode())}"
    settings = load_settings(clickhouse=address, clickhouse_database=name, partitions=3, context_keys=KEYS)
    await apply_schema(settings)
    return Archive(settings)


def awkward() -> list[dict[str, Any]]:
    """Runs at the edges of bins and bands, with gaps of every kind, beside simulated ones."""
    tokens = [0, 1, 63, 64, 65, *(2**octave + step for octave in range(7, 40) for step in (-1, 0, 1))]
    edges = [{"context_tokens": count, "success": count % 2 == 0} for count in tokens]
    bands = [{"task_complexity": score / 20, "success": True, "quality_score": 0.5} for score in range(21)]
    gaps: list[dict[str, Any]] = [
        {},
        {"success": True},
        {"success": False},
        {"success": False, "quality_score": 0.25},
        {"quality_score": 0.75, "total_cost": 0.0, "time_to_complete": 1e-9},
        {"success": True, "quality_score": 0.0, "policy_version": "v1", "agent_count": 3, "total_iterations": 0},
        {"decision_id": "d", "agent_count": 3, "total_iterations": 10, "project": PROJECT, "task_type": "a"},
        {"project": PROJECT, "task_type": "", "agent_count": 100, "parallelism_level": 65, "model_params_b": 0.5},
        {"project_characteristics": {"language": True, "project": "below", "model_params_b": 8}},
        {"project_characteristics": {"language": 2.0, "task_type": "below"}, "model_params_b": 70},
        {"project_characteristics": {"language": "true"}, "model_size_category": "large", "retry_limit": 70},
        {"project_characteristics": {"language": 17}, "model_params_b": 70.5, "model_size_category": "small"},
    ]
    simulated = list(simulate(World(tasks=40), 1500, seed=5, start=START))
    for place, each in enumerate(simulated):
        if place % 3 == 0:
            del each["task_id"], each["context_budget"]
        if place % 2 == 0:
            each |= {"agent_count": 2, "max_iterations": 4, "parallelism_level": 2, "model_params_b": 8.0}
            each |= {"context_budget": 4000, "total_iterations": 5, "task_complexity": 0.4, "retry_limit": 1}
            each |= {"context_tokens": 3000 + place % 50, "retry_count": 0, "model_size_category": "small"}
            each |= {"task_id": f"task-{place % 16}", "project": "p"}
    few = [each | {"agent_run_id": f"edge-{place}"} for place, each in enumerate([*edges, *bands, *gaps])]
    return few + simulated


def columns_of(events: Sequence[dict[str, Any]], settings: Settings) -> tuple[list[RunEvent], Columns]:
    """Read the events as the stats worker does."""
    decoded = EventDecoder(settings).decode_batch([json.dumps(each).encode() for each in events])
    assert decoded.rejections == []
    return decoded.events, to_columns(decoded.events, np.zeros(len(events)), settings)


def contexts_by_run(columns: Columns, settings: Settings) -> list[list[str]]:
    """List the contexts of each run."""
    rows = [
        {key: value for key, values in columns.keys.items() if (value := values[row])} for row in range(len(columns))
    ]
    return [contexts_of(row, settings.context_keys) for row in rows]


Key = tuple[Any, ...]


def outcomes_of(event: RunEvent) -> dict[str, float | None]:
    """Work out every variable of one run."""
    success, quality = event.success, event.quality_score
    time_taken, cost = event.time_to_complete, event.total_cost
    known = success is not None
    return {
        "success": float(success) if success is not None else None,
        "quality_score": quality,
        "time_to_complete": time_taken,
        "total_cost": cost,
        "quality_given_success": quality if success else None,
        "success_times_quality": (quality if success else 0.0) if known else None,
        "ln_time": None if time_taken is None else math.log(max(time_taken, CLIP)),
        "clipped_ln_cost": None if cost is None else math.log(max(cost, CLIP)),
        "clipped_ln_quality": None if quality is None else math.log(max(quality, CLIP)),
    }


def grouped(events: Sequence[RunEvent], columns: Columns) -> dict[Key, list[tuple[RunEvent, list[float]]]]:
    """Group runs by all that makes a joint cell; each comes with its values of x."""
    groups: defaultdict[Key, list[tuple[RunEvent, list[float]]]] = defaultdict(list)
    category = columns.dimensions[Dimension.MODEL_SIZE, Basis.CATEGORY]
    projects = columns.keys["project"]
    for row, event in enumerate(events):
        task = xxhash.xxh64_intdigest((event.task_id or event.agent_run_id).encode())
        score = columns.complexity[row]
        size = None if np.isnan(category[row]) else SIZE_CATEGORIES[int(category[row])]
        xs = [float(columns.dimensions[slot][row]) for slot in NUMBERS]
        key = (
            *(task % FOLDS, task % TASK_GROUPS, projects[row] or None, size),
            -1 if np.isnan(score) else min(int(score * COMPLEXITY_BINS), COMPLEXITY_BINS - 1),
            *(place(x, slot[0]) for x, slot in zip(xs, NUMBERS, strict=True)),
        )
        groups[key].append((event, xs))
    return groups


def place(x: float, dimension: Dimension) -> tuple[float | None, bool]:
    """Give the value that a run is tabled under, and whether that is a bin."""
    if math.isnan(x):
        return None, False
    if dimension is Dimension.MODEL_SIZE or (x <= 64 and x == int(x)):
        return x, False
    return bin_value(math.floor(4 * math.log2(x))), True


def keys_of(joint: JointCells, projects: Sequence[str]) -> list[Key]:
    """Write the key of each joint cell as `grouped` does."""

    def at(slot: tuple[Dimension, Basis], row: int) -> tuple[float | None, bool]:
        value = float(joint.design[slot][row])
        return (None if math.isnan(value) else value), bool(joint.binned[slot][row])

    return [
        (
            *(int(joint.fold[row]), int(joint.task_group[row])),
            None if joint.project[row] < 0 else projects[int(joint.project[row])],
            *(joint.category[row], int(joint.complexity[row])),
            *(at(slot, row) for slot in NUMBERS),
        )
        for row in range(len(joint))
    ]


async def test_joint_cells_are_the_runs_grouped_by_hand(archive: Archive) -> None:
    """Counts are exact, means hold 1e-12 and deviations 1e-9, at every edge and with every gap."""
    await archive.put(awkward())
    events, columns = columns_of(awkward(), archive.settings)
    expected = grouped(events, columns)
    projects = sorted({name for name in columns.keys["project"] if name})

    joint = read_joint_cells(archive.settings, GLOBAL).joint
    keys = keys_of(joint, projects)
    assert len(joint) == len(set(keys)) == len(expected)
    assert set(keys) == set(expected)
    assert max(len(runs) for runs in expected.values()) > 5
    for row, key in enumerate(keys):
        runs = expected[key]
        for name in OUTCOMES:
            seen = [value for event, _ in runs if (value := outcomes_of(event)[name]) is not None]
            moments, mean = joint.outcomes[name], math.fsum(seen) / max(len(seen), 1)
            assert moments.n[row] == len(seen)
            assert moments.mean[row] == pytest.approx(mean, rel=1e-12, abs=1e-12)
            assert moments.m2[row] == pytest.approx(math.fsum((y - mean) ** 2 for y in seen), rel=1e-9, abs=1e-12)
        for number, slot in enumerate(NUMBERS):
            logs = [math.log(xs[number]) if xs[number] > 0 else 0.0 for _, xs in runs]
            known = 0.0 if math.isnan(runs[0][1][number]) else math.fsum(logs) / len(logs)
            assert joint.ln_x[slot][row] == pytest.approx(known, rel=1e-12, abs=1e-12)


async def test_every_context_has_its_runs_and_no_others(archive: Archive) -> None:
    """Contexts are named as the stats worker names them: encoded, nested, from characteristics, by band."""
    await archive.put(awkward())
    events, columns = columns_of(awkward(), archive.settings)
    members: defaultdict[str, list[RunEvent]] = defaultdict(list)
    for event, contexts in zip(events, contexts_by_run(columns, archive.settings), strict=True):
        for context in contexts:
            members[context].append(event)
    exotic = {"language=True", "language=2.0", "language=true", "language=17", "model_params_b=8", "project=below"}
    assert exotic < members.keys()

    extents = read_extents(archive.settings, read_cut(archive.settings))
    assert {context: extent.runs for context, extent in extents.items()} == {
        context: len(runs) for context, runs in members.items()
    }
    for context, runs in members.items():
        joint = read_joint_cells(archive.settings, context).joint
        for name in OUTCOMES:
            assert joint.outcomes[name].n.sum() == sum(outcomes_of(event)[name] is not None for event in runs)


async def test_the_key_lists_keep_their_largest_contexts(archive: Archive) -> None:
    """With a cap of one value a list keeps the context with the most runs, besides the global one."""
    projects = ["a", "b", "b", None]
    await archive.put(
        [{"agent_run_id": f"r{at}"} | ({"project": name} if name else {}) for at, name in enumerate(projects)]
    )
    settings = archive.settings.model_copy(update={"context_values": 1, "context_keys": [["project"]]})
    found = read_extents(settings, read_cut(settings))
    assert {context: extent.runs for context, extent in found.items()} == {"global": 4, "project=b": 2}


async def test_without_key_lists_there_is_the_global_context(archive: Archive) -> None:
    """A deployment may have no other."""
    await archive.put([{"agent_run_id": f"r{at}", "project": "a"} for at in range(3)])
    settings = archive.settings.model_copy(update={"context_keys": []})
    found = read_extents(settings, read_cut(settings))
    assert {context: extent.runs for context, extent in found.items()} == {GLOBAL: 3}


async def test_sources_say_where_the_settings_came_from(archive: Archive) -> None:
    """A decision or a policy version makes a run one of the allocator's."""
    await archive.put([{"agent_run_id": "a", "project": "p"}, {"agent_run_id": "b", "project": "q", "decision_id": ""}])
    sources = {name: read_joint_cells(archive.settings, name).sources for name in (GLOBAL, "project=p", "project=q")}
    assert sources == {
        GLOBAL: (Source.OBSERVATIONAL, Source.POLICY),
        "project=p": (Source.OBSERVATIONAL,),
        "project=q": (Source.POLICY,),
    }


async def test_runs_of_an_epoch_are_those_completed_since(archive: Archive) -> None:
    """`since` keeps the runs completed at that moment or later."""
    times = [START + timedelta(hours=hour) for hour in range(4)]
    await archive.put(
        [{"agent_run_id": f"r{at}", "success": True, "completed_at": each.isoformat()} for at, each in enumerate(times)]
    )
    joint = read_joint_cells(archive.settings, GLOBAL, since=times[1]).joint
    assert joint.outcomes["success"].n.sum() == 3


async def test_a_cut_keeps_out_what_came_later_and_in_what_was_repeated(archive: Archive) -> None:
    """Repeating a run moves its row behind the cut and not the run; a correction counts with what it says now."""
    first = [{"agent_run_id": f"r{at}", "success": True} for at in range(20)]
    await archive.put(first)
    cut = read_cut(archive.settings)
    assert sum(cut.values()) == 20
    assert len(cut) == 3
    extents = read_extents(archive.settings, cut)
    await archive.put([{"agent_run_id": f"later-{at}", "success": False} for at in range(20)])
    await archive.put(first[:10])

    def successes(below: dict[int, int] | None) -> tuple[float, float]:
        moments = read_joint_cells(archive.settings, GLOBAL, below=below).joint.outcomes["success"]
        return float(moments.n.sum()), float(moments.n @ moments.mean)

    assert successes(cut) == (20, 20)
    assert successes(None) == successes(read_cut(archive.settings)) == (40, 20)
    assert read_extents(archive.settings, cut) == extents
    await archive.put([first[0] | {"success": False, "revision": 1}])
    assert successes(cut) == (20, 19)
    assert read_extents(archive.settings, cut) != extents
    assert successes({}) == (0, 0)


async def test_a_correction_changes_the_context_that_a_run_leaves(archive: Archive) -> None:
    """The extents of the old and of the new context differ, those of a third do not; an import twice changes none."""
    runs = [{"agent_run_id": f"{name}-{at}", "project": name} for name in "abc" for at in range(3)]
    await archive.put(runs)
    before = read_extents(archive.settings, read_cut(archive.settings))
    await archive.put(runs)
    assert read_extents(archive.settings, read_cut(archive.settings)) == before
    await archive.put([{"agent_run_id": "a-0", "project": "b", "revision": 1}])
    after = read_extents(archive.settings, read_cut(archive.settings))
    assert {name for name in before if before[name] != after[name]} == {GLOBAL, "project=a", "project=b"}


async def test_an_empty_archive_has_no_cells(archive: Archive) -> None:
    """Without runs there is nothing, and no error."""
    assert read_cut(archive.settings) == {}
    assert read_extents(archive.settings, {}) == {}
    nothing = read_joint_cells(archive.settings, "project=nobody")
    assert (len(nothing.joint), nothing.sources) == (0, ())


@pytest.mark.parametrize("text", ["a", "task-0001", "größer", "x" * 256, ""])
def test_the_hash_of_a_task_is_the_same_in_python_and_in_clickhouse(address: str, text: str) -> None:
    """Folds and task groups are xxHash64 with seed 0 on both sides."""
    settings = load_settings(clickhouse=address, clickhouse_database="default")
    ((found,),) = query(settings, "SELECT xxHash64({text:String})", parameters={"text": text}).rows
    assert found == xxhash.xxh64_intdigest(text.encode())


def test_every_outcome_is_read() -> None:
    """The cells carry all six outcomes and the three logarithms that laws ask for."""
    assert set(OUTCOMES) == {*map(str, Outcome), "ln_time", "clipped_ln_cost", "clipped_ln_quality"}
