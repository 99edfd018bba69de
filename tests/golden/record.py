"""Record a golden state: what this version leaves on its topics, for later versions to show that they read it.

`python tests/golden/record.py tests/golden/2.json.gz`: numbered on for each version whose records differ, before they
change again; an older file is never recorded anew. It needs nothing but the layers models, analytics and agents.
"""

import gzip
import json
import sys
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agents.decode import EventDecoder
from agents.experiment_results import analyse
from agents.experimenter import Experimenter
from agents.observer import Observer
from agents.refit import Refitter
from analytics.simulation import simulate
from analytics.world import World
from models.allocations import ABTest, Decision, Intervention, Override, Parts, Pins, Setting
from models.batches import Batch, Headers
from models.contexts import GLOBAL
from models.dimensions import Dimension
from models.events import RunEvent
from models.experiments import Reply
from models.joint_laws import JointLaw
from models.laws import Law
from models.settings import Settings, load_settings
from models.topics import (
    ASSIGN_REPLIES,
    ASSIGNMENTS_TABLE,
    EXPERIMENTS_TABLE,
    FINDINGS,
    IMPORT_HEADER,
    RUNS,
    STATS,
    TABLES,
)

SECRET = "a secret for golden records"  # noqa: S105 - of no deployment
RUNS_COUNT = 60
FLUSHES = 2
START = datetime(2026, 3, 1, tzinfo=UTC)
STAMP = int(START.timestamp() * 1000) + 86_400_000
DEFINITION = {
    "experiment_id": "agents",
    "name": "Agents",
    "hypothesis": "More agents succeed more often",
    "dimension_tested": "agent_count",
    "values_tested": [1, 4],
    "control_value": 1,
    "min_samples_per_value": 2,
    "planned_per_value": 3,
    "stratify_by": [],
    "expire_seconds": 600,
}
SETTING = Setting(3, 5, 32_000, 2, "small")
Tables = dict[str, dict[bytes, bytes]]


def settings() -> Settings:
    """Give the settings of the recorded deployment."""
    return load_settings(
        partitions=1,
        context_keys=[["model_size_category"]],
        context_values=1,
        bucket_seconds=43_200,
        buckets_kept=1,
        bootstrap_draws=100,
        experiment_secret=SECRET,
    )


def values() -> list[tuple[bytes, Headers]]:
    """Give the recorded events: simulated ones, of an import, and then a repeat and one that is none."""
    events: list[tuple[bytes, Headers]] = [
        (json.dumps(event).encode(), ((IMPORT_HEADER, b"march"),))
        for event in simulate(World(), RUNS_COUNT, seed=5, start=START)
    ]
    return [*events, events[7], (b"no event", ((IMPORT_HEADER, b"march"),))]


def batch_of(events: list[tuple[bytes, Headers]], first: int) -> Batch:
    """Make a batch of events from an offset on."""
    count = len(events)
    texts, headers = [value for value, _ in events], [each for _, each in events]
    return Batch(RUNS, 0, range(first, first + count), [STAMP] * count, [None] * count, texts, headers)


def observed() -> tuple[Tables, list[Law]]:
    """Observe the events; give the tables, and the global laws of agents."""
    tables: Tables = {name: {} for name in TABLES}
    refitter = Refitter(settings())
    observer = Observer(0, settings(), EventDecoder(settings()))
    events = values()
    for part in range(FLUSHES):
        first, last = (len(events) * step // FLUSHES for step in (part, part + 1))
        observer.observe(batch_of(events[first:last], first))
        flush = observer.drain()
        for record in flush.records:
            if record.topic == STATS:
                refitter.stage(record.key or b"", record.value)
        _apply(tables, flush.tables)
    laws = refitter.fit(refitter.snapshot())
    return tables, [law for law in laws if (law.context, law.dimension) == (GLOBAL, Dimension.AGENT_COUNT)]


def experimented() -> tuple[Tables, list[tuple[str, bytes, bytes]]]:
    """Run an experiment to its finding; give the tables and the records that went out besides."""
    tables: Tables = {EXPERIMENTS_TABLE: {}, ASSIGNMENTS_TABLE: {}}
    sent: list[tuple[str, bytes, bytes]] = []
    owner, now = Experimenter(0, settings()), START.timestamp()

    def write() -> list[Reply]:
        flush = owner.store.drain()
        _apply(tables, flush.tables)
        sent.extend((record.topic, record.key or b"", record.value or b"") for record in flush.records)
        return [
            msgspec.json.decode(record.value or b"", type=Reply)
            for record in flush.records
            if record.topic == ASSIGN_REPLIES
        ]

    def ask(kind: str, **fields: object) -> Reply:
        request = {"kind": kind, "request_id": kind, "experiment_id": "agents", **fields}
        if kind == "create":
            del request["experiment_id"]
        owner.handle(json.dumps(request).encode(), now, now)
        (reply,) = write()
        return reply

    ask("create", definition=DEFINITION, by="ada")
    ask("start", by="ada")
    given = {f"t{number}": ask("assign", task={"task_id": f"t{number}"}) for number in range(6)}
    for number, (task, reply) in enumerate(given.items()):
        event = {
            "agent_run_id": f"run-{task}",
            "task_id": task,
            "experiment_id": "agents",
            "assignment_token": reply.assignment_token,
            "agent_count": int(float(reply.assigned_value or 1)),
            "success": bool(number % 2),
            "total_cost": 0.5,
        }
        owner.join(msgspec.convert(event, RunEvent), (0, number), now)
        forged = event | {"agent_run_id": f"forged-{task}", "assignment_token": "v1.forged.forged"}
        owner.join(msgspec.convert(forged, RunEvent), (0, number), now)
    for _ in range(3):
        owner.tick(now := now + 700)
        for snapshot in owner.snapshots():
            owner.conclude(snapshot, analyse(snapshot, settings(), now), now)
        write()
    ask("create", definition=DEFINITION | {"experiment_id": "later"})
    return tables, sent


def orders() -> dict[str, list[Any]]:
    """Give a decision, an override, an A/B test and a joint law, with all that they may say."""
    when = "2026-03-01T00:00:00Z"
    decision = Decision(
        "d-1",
        when,
        "p7",
        SETTING,
        0.0125,
        Setting(2, 4, 16_000, 1),
        "most_outcome",
        "success",
        "joint",
        ["global", "project=a"],
        {"task_id": "t", "urgent": True, "age": 7},
        0.5,
        2.5,
        explored=True,
        test="spring",
        arm="dynamic",
        expected={"success": 0.5},
        laws={"global|agent_count|success|live": 7},
        overrides=[Intervention("freeze", "ann", "costly", caps=Parts(agent_count=4))],
        override_cost=0.25,
    )
    joint = JointLaw(
        law_id="global|joint|success|audited",
        tier="audited",
        context="global",
        outcome="success",
        version=7,
        epoch=2,
        fitted_at=when,
        n=12_000,
        status="actionable",
        evidence="adjusted",
        settings_hash="0123456789abcdef",
        link="logit",
        terms=["1", "ln_agents"],
        coefficients=[0.25, 0.5],
        covariance=[0.01, 0.0, 0.04],
        dispersion=1.0,
        support={"agent_count": [1.0, 8.0]},
        typical={"agent_count": 3.0},
        lineage={"0": 5},
    )
    return {
        "decisions": [decision],
        "overrides": [Override("freeze", "ann", "incident", when, "project=a", Pins(2, model_size="small"), ends=when)],
        "tests": [ABTest("spring", SETTING, "ann", "is it worth it?", when, ended_at=when, ended_by="ann")],
        "joint_laws": [joint],
    }


def state() -> dict[str, Any]:
    """Give everything as JSON: records in base64 by topic or table."""
    tables, laws = observed()
    experiments, sent = experimented()
    return {
        "tables": {name: _pairs(table) for name, table in (tables | experiments).items()},
        "laws": [_text(msgspec.json.encode(law)) for law in laws],
        "findings": [_text(value) for topic, _, value in sent if topic == FINDINGS],
        **{name: [_text(msgspec.json.encode(each)) for each in records] for name, records in orders().items()},
    }


def _apply(tables: Tables, changes: Mapping[str, Mapping[bytes, bytes | None]]) -> None:
    for name, changed in changes.items():
        for key, value in changed.items():
            if value is None:
                tables[name].pop(key, None)
            else:
                tables[name][key] = value


def _pairs(table: Mapping[bytes, bytes]) -> list[list[str]]:
    return [[_text(key), _text(value)] for key, value in table.items()]


def _text(value: bytes) -> str:
    return b64encode(value).decode()


if __name__ == "__main__":
    file = Path(sys.argv[1])
    if file.exists():
        sys.exit(f"{file} exists: a golden record is never recorded anew")
    file.write_bytes(gzip.compress(json.dumps(state()).encode(), 9, mtime=0))
