"""What of decisions, overrides and A/B tests goes into ClickHouse, and that no record holds the archive up."""

import json
from collections.abc import Sequence
from dataclasses import replace as other
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agents.archive_allocations import archive_decisions, archive_overrides, archive_tests
from models.allocations import ABTest, Decision, Intervention, Override, Parts, Pins, Setting
from models.batches import Batch

GIVEN = Setting(3, 5, 32_000, 2, "small")
CHOSEN = Setting(2, 4, 16_000, 1)
DECISION = Decision(
    "d-1",
    "2026-03-01T01:00:00.250+01:00",
    "p7",
    GIVEN,
    0.0125,
    CHOSEN,
    "most_outcome",
    "success",
    "joint",
    ["global", "project=a"],
    {"task_id": "t", "urgent": True, "age": 7},
    0.5,
    2.5,
    explored=True,
    test="t1",
    arm="dynamic",
    expected={"success": 0.5},
    laws={"global|agent_count|success|live": 7},
    overrides=[Intervention("o", "ann", "costly", caps=Parts(agent_count=4))],
    override_cost=0.25,
)
OVERRIDE = Override("o", "ann", "too dear", "2026-03-01T00:00:00Z", "project=a", Pins(2, model_size="small"))
TEST = ABTest("t1", GIVEN, "ann", "is it worth it?", "2026-03-01T00:00:00Z")
MARCH = 1_772_323_200_000


def batch_of(values: Sequence[bytes | None]) -> Batch:
    """Make a batch of these values with offsets in steps of two from 100."""
    count = len(values)
    return Batch("t", 3, range(100, 100 + 2 * count, 2), [0] * count, [b"k"] * count, values, [()] * count)


def row(columns: Any) -> dict[str, Any]:  # noqa: ANN401 - columns by name
    """Take the only row."""
    return {name: value for name, (value,) in columns.items()}


def test_a_decision_has_a_row_with_its_setting_in_columns() -> None:
    """The setting given is spread out, the one chosen is JSON, and so are task and overrides."""
    columns, problems = archive_decisions(batch_of([msgspec.json.encode(DECISION)]))
    found = row(columns)
    texts = {name: json.loads(found.pop(name)) for name in ("choice", "task", "overrides")}
    assert problems == []
    assert texts == {
        "choice": {
            "agent_count": 2,
            "max_iterations": 4,
            "context_budget": 16_000,
            "parallelism": 1,
            "model_size": "",
        },
        "task": {"task_id": "t", "urgent": True, "age": 7},
        "overrides": [{"override_id": "o", "by": "ann", "reason": "costly", "caps": {"agent_count": 4}}],
    }
    assert found == {
        "decision_id": "d-1",
        "decided_at": MARCH + 250,
        "policy_version": "p7",
        "agent_count": 3,
        "max_iterations": 5,
        "context_budget": 32_000,
        "parallelism": 2,
        "model_size": "small",
        "propensity": 0.0125,
        "objective": "most_outcome",
        "outcome": "success",
        "method": "joint",
        "contexts": ["global", "project=a"],
        "complexity": 0.5,
        "budget": 2.5,
        "explored": True,
        "test": "t1",
        "arm": "dynamic",
        "expected": {"success": 0.5},
        "laws": {"global|agent_count|success|live": 7},
        "override_cost": 0.25,
        "partition": 3,
        "offset": 100,
    }


def test_what_a_decision_lacks_is_null_or_empty() -> None:
    """No complexity or budget is null; no test, no overrides are empty."""
    bare = Decision(
        "d", "2026-03-01T00:00:00Z", "p", CHOSEN, 1.0, CHOSEN, "most_outcome", "success", "default", ["global"]
    )
    columns, _ = archive_decisions(batch_of([msgspec.json.encode(bare)]))
    found = row(columns)
    assert [found[name] for name in ("complexity", "budget")] == [None, None]
    assert [found[name] for name in ("test", "arm", "task", "overrides", "expected", "laws", "explored")] == [
        *("", "", "{}", "[]", {}, {}, False)
    ]


def test_an_override_has_a_row_also_once_it_is_lifted() -> None:
    """Times that have not come are null."""
    lifted = replace(OVERRIDE, ends="2026-03-01T00:00:01Z", lifted_at="2026-03-01T00:00:02Z", lifted_by="bob")
    columns, problems = archive_overrides(batch_of([msgspec.json.encode(each) for each in (OVERRIDE, lifted)]))
    assert problems == []
    assert columns == {
        "override_id": ["o"] * 2,
        "context": ["project=a"] * 2,
        "by": ["ann"] * 2,
        "reason": ["too dear"] * 2,
        "pins": ['{"agent_count":2,"model_size":"small"}'] * 2,
        "caps": ["{}"] * 2,
        "given_at": [MARCH] * 2,
        "begins": [None] * 2,
        "ends": [None, MARCH + 1000],
        "lifted_at": [None, MARCH + 2000],
        "lifted_by": [None, "bob"],
        "partition": [3] * 2,
        "offset": [100, 102],
    }


def test_an_ab_test_has_a_row_and_its_whole_record() -> None:
    """Its plan and, once it has ended, its verdict."""
    ended = replace(
        TEST, share=0.25, ended_at="2026-03-01T00:00:01Z", ended_by="rule", verdict="better", sentence="It is."
    )
    record = msgspec.json.encode(ended)
    columns, problems = archive_tests(batch_of([record]))
    assert problems == []
    assert row(columns) == {
        "test_id": "t1",
        "context": "global",
        "fixed": '{"agent_count":3,"max_iterations":5,"context_budget":32000,"parallelism":2,"model_size":"small"}',
        "share": 0.25,
        "by": "ann",
        "reason": "is it worth it?",
        "started_at": MARCH,
        "ended_at": MARCH + 1000,
        "ended_by": "rule",
        "gain": 0.1,
        "margin": 0.01,
        "rate": 0.5,
        "cost_cv": 1.0,
        "difference": 0.0,
        "explained": 0.0,
        "verdict": "better",
        "sentence": "It is.",
        "record": record.decode(),
        "partition": 3,
        "offset": 100,
    }


@pytest.mark.parametrize(
    ("archive", "value", "reason"),
    [
        (archive_decisions, b"{}", "missing required field `decision_id`"),
        (archive_decisions, b"\xff", "malformed"),
        (archive_decisions, b"[" * 100_000, "Expected `object`, got `array`"),
        (archive_decisions, replace(DECISION, decided_at="now"), "Invalid RFC3339"),
        (archive_decisions, replace(DECISION, decided_at="1960-01-01T00:00:00Z"), "decided_at = -315619200000 is not"),
        (archive_decisions, replace(DECISION, decided_at="0001-01-01T00:00:00+23:00"), "date value out of range"),
        (archive_decisions, replace(DECISION, setting=other(GIVEN, agent_count=-1)), "agent_count = -1 is not between"),
        (archive_decisions, replace(DECISION, laws={"decided_at": -7}), "version of decided_at = -7 is not between"),
        (archive_overrides, b'{"override_id": "!"}', "matching regex"),
        (archive_overrides, replace(OVERRIDE, ends="soon"), "Invalid RFC3339"),
        (archive_tests, b"7", "Expected `object`, got `int`"),
        (archive_tests, replace(TEST, started_at="1960-01-01T00:00:00Z"), "started_at = -315619200000 is not between"),
    ],
)
def test_a_record_that_cannot_be_archived_is_named_and_its_neighbours_are(
    archive: Any,  # noqa: ANN401 - one of the three
    value: Any,  # noqa: ANN401 - bytes, or a record
    reason: str,
) -> None:
    """The sentence says which record, and why; the others of the batch have their rows."""
    good = {archive_decisions: DECISION, archive_overrides: OVERRIDE, archive_tests: TEST}[archive]
    bad = value if isinstance(value, bytes) else msgspec.json.encode(value)
    columns, problems = archive(batch_of([msgspec.json.encode(good), bad, msgspec.json.encode(good)]))
    (problem,) = problems
    assert problem.startswith("the record t[3]@102 cannot be archived: ")
    assert reason in problem
    assert columns["offset"] == [100, 104]


@pytest.mark.parametrize("archive", [archive_decisions, archive_overrides, archive_tests])
def test_a_deleted_record_leaves_no_row(archive: Any) -> None:  # noqa: ANN401 - one of the three
    """What was archived stays."""
    assert archive(batch_of([None])) == ({}, [])
