"""SQL in every text that comes from outside is a text: in events, contexts, filters, ids and options."""

import json
import time
from typing import Any

import pytest

from agents.archive import archive_runs
from agents.decode import EventDecoder
from analytics.partitions import partition_of
from cli.explore import stored_runs
from models.batches import Batch
from models.contexts import context_id
from models.settings import Settings
from models.topics import IMPORT_HEADER
from streams.ab_log import read_log
from streams.clickhouse import ClickHouseSink, query
from streams.decision_log import read_decisions
from streams.extents import read_extents
from streams.joint_cells import read_joint_cells
from streams.originals import Selection, count_rejected, list_rejected

pytestmark = [pytest.mark.stack]

INJECTIONS = (
    "x'; DROP TABLE scaling_observations; --",
    "x' OR 1 = 1 --",
    "x\\' OR 1 = 1 --",
    "') UNION ALL SELECT 1 --",
    "{name:String}",
    "{condition}",
    "%(name)s $1 ? \\",
    "a\tb\nc\rd\\N\\0",
    "`;\"/* '\u2028 */",
    "🦊é\x7f",
)
TEXTS = ("project", "task_type", "task_id", "model", "decision_id", "policy_version", "experiment_id", "assigned_value")


def event(injection: str) -> dict[str, Any]:
    """Make an event that has a text in every place for one."""
    fields = dict.fromkeys(TEXTS, injection[:64])
    characteristics = {injection: injection, "language": injection}
    outcome = {"agent_count": 2, "success": True, "project_characteristics": characteristics}
    return {"agent_run_id": f"injected {injection}", **fields, **outcome}


async def store(settings: Settings, injections: tuple[str, ...]) -> None:
    """Archive one event for each text, as the archive worker does."""
    values = [json.dumps(event(injection)).encode() for injection in injections]
    keys = [event(injection)["agent_run_id"].encode() for injection in injections]
    sink = ClickHouseSink(settings)
    for place, (key, value) in enumerate(zip(keys, values, strict=True)):
        partition = partition_of(key, settings.partitions)
        headers = [((IMPORT_HEADER, injections[place].encode()),)]
        now = int(time.time() * 1000)
        batch = Batch("scaling.runs", partition, [1000 + place], [now], [key], [value], headers)
        observations, records = archive_runs(batch, EventDecoder(settings), settings, now)
        await sink.insert("scaling_observations", observations)
        await sink.insert("scaling_records", records)
    await sink.close()


async def test_sql_in_texts_stays_text(archive: Settings) -> None:
    """Each text is found as it was written, finds its own run alone, and every table is still there."""
    settings = archive.model_copy(update={"context_keys": [["project"], *([each] for each in INJECTIONS)]})
    before = query(archive, "SELECT count() FROM observations").rows[0][0]
    await store(settings, INJECTIONS)
    cut = dict.fromkeys(range(settings.partitions), 10_000)
    extents = read_extents(settings, cut)
    for injection in INJECTIONS:
        for key in ("project", "task_type", injection):
            context = context_id([(key, injection)])
            (run,) = stored_runs(settings, context)
            assert run.agent_run_id == f"injected {injection}"
            assert run.project == injection
            assert read_joint_cells(settings, context, below=cut).joint.outcomes["success"].n.sum() == 1
        assert extents[context_id([("project", injection)])].runs == 1
        assert extents[context_id([(injection, injection)])].runs == 1
        found = query(
            settings,
            "SELECT * EXCEPT project_characteristics FROM observations WHERE agent_run_id = {id:String}",
            parameters={"id": f"injected {injection}"},
        )
        (row,) = (dict(zip(found.columns, each, strict=True)) for each in found.rows)
        assert {row[name] for name in TEXTS} == {injection}
    assert query(archive, "SELECT count() FROM observations").rows == [(before + len(INJECTIONS),)]


@pytest.mark.parametrize("injection", INJECTIONS)
def test_sql_in_options_and_ids_finds_nothing(archive: Settings, injection: str) -> None:
    """Ids of imports, tests and records, and contexts of commands: what is not there is not found."""
    for selection in (Selection(injection), Selection(None, (injection, injection))):
        assert count_rejected(archive, selection) == 0
        assert list_rejected(archive, selection, 5) == []
    assert read_decisions(archive, context=context_id([("project", injection)])) == []
    assert all(arm.tasks == 0 for arm in read_log(archive, injection).arms.values())
