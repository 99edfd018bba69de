"""What of experiments goes into ClickHouse, row by row, and that no record holds the archive up."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from agents.archive import TableColumns
from agents.archive_experiments import archive_assignments, archive_findings
from agents.archive_experiments import archive_experiments as archive_of_all
from analytics.partitions import partition_of
from models.batches import Batch
from models.experiments import Assignment, Finding, Joined, Label, Verdict

NOW = 1_750_000_000_000
ASSIGNMENT = Assignment(
    "agents",
    2,
    "id",
    "sha",
    "task=t",
    4.0,
    "project=a",
    3,
    1,
    0.25,
    [0.75, 0.25],
    1_750_000_000.1234,
    "mac",
    0.5,
    ["g"],
)
RUN = Joined("r", 1_750_000_060.5, (0, 7), 4.0, 1.0, 0.75, 60.4, 0.25)
FINDING = Finding(
    experiment_id="agents",
    version=2,
    name="Agents",
    hypothesis="h",
    dimension="agent_count",
    outcome="success",
    context_filter={"project": "a"},
    values=[1.0, 4.0],
    verdict=Verdict.REFUTED,
    label=Label.EXPLORATORY,
    sentence="No effect.",
    concluded_at="2026-03-01T00:00:00.250Z",
    sha256="sha",
    runs=400,
    dollars=12.5,
    p=0.25,
    alpha=0.05,
    minimum_effect=0.1,
    knee=4.0,
)


def batch_of(topic: str, records: Sequence[tuple[bytes | None, bytes | None]]) -> Batch:
    """Make a batch of these keys and values with offsets in steps of two from 100."""
    keys, values = [key for key, _ in records], [value for _, value in records]
    count = len(records)
    offsets, stamps = range(100, 100 + 2 * count, 2), [NOW + at for at in range(count)]
    return Batch(topic, 0, offsets, stamps, keys, values, [()] * count)


def archive_experiments(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Archive records about experiments of a deployment with one partition."""
    return archive_of_all(batch, 1)


def rows(columns: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - columns by name
    """Turn columns into rows."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def test_every_record_about_an_experiment_has_a_row() -> None:
    """The key gives experiment, version and kind; definitions keep a slot each, and a deletion leaves an empty one."""
    columns, problems = archive_experiments(
        batch_of(
            "scaling.experiments",
            [
                (b"agents|0|draft", b'{"a": 1}'),
                (b"agents|1|definition", '{"name": "ä"}'.encode()),
                (b"agents|1|definition", None),
                (b"agents|1|status", b"{}"),
            ],
        )
    )
    assert problems == []
    assert rows(columns) == [
        {
            "experiment_id": "agents",
            "version": version,
            "kind": kind,
            "slot": slot,
            "offset": 100 + 2 * at,
            "published_at": NOW + at,
            "record": record,
        }
        for at, (version, kind, slot, record) in enumerate(
            [
                (0, "draft", 0, '{"a": 1}'),
                (1, "definition", 102, '{"name": "ä"}'),
                (1, "definition", 104, ""),
                (1, "status", 0, "{}"),
            ]
        )
    ]


def test_the_cut_of_requests_has_no_row() -> None:
    """It is the owner's bookkeeping, not a record about an experiment, whatever stands in its key."""
    keys = [b"cut|0|requests", b"cut|" + b"9" * 5000 + b"|requests"]
    assert archive_experiments(batch_of("t", [(key, b'{"offset": 7}') for key in keys])) == ({}, [])


def test_an_assignment_has_a_row_with_its_runs_outcome() -> None:
    """Times are in milliseconds, values are texts as orchestrators write them, and the run stands beside."""
    changed = replace(ASSIGNMENT, run=RUN, repeats=["r2"])
    columns, problems = archive_assignments(batch_of("scaling.assignments", [(b"k", msgspec.json.encode(changed))]))
    assert problems == []
    assert rows(columns) == [
        {
            "experiment_id": "agents",
            "version": 2,
            "assignment_id": "id",
            "unit": "task=t",
            "agent_run_id": "r",
            "assigned_value": "4",
            "actual_value": "4",
            "complied": True,
            "propensity": 0.25,
            "stratum": "project=a",
            "block": 3,
            "place": 1,
            "assigned_at": 1_750_000_000_123,
            "completed_at": 1_750_000_060_500,
            "status": "completed",
            "excluded": False,
            "success": 1.0,
            "quality_score": 0.75,
            "time_to_complete": 60.4,
            "total_cost": 0.25,
            "task_complexity": 0.5,
            "contexts": ["g"],
            "repeats": ["r2"],
            "definition_sha256": "sha",
            "offset": 100,
        }
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"status": "pending", "complied": None, "agent_run_id": None, "completed_at": None, "success": None}),
        ({"expired": True}, {"status": "expired", "complied": None, "excluded": False}),
        ({"expired": True, "run": RUN}, {"status": "completed", "complied": True}),
        ({"run": replace(RUN, actual_value=1.0)}, {"complied": False, "actual_value": "1"}),
        ({"run": replace(RUN, actual_value=None, excluded=True)}, {"complied": False, "actual_value": None}),
        ({"value": "small"}, {"assigned_value": "small"}),
        ({"value": 0.5, "complexity": None}, {"assigned_value": "0.5", "task_complexity": None}),
    ],
)
def test_an_assignment_without_a_run_or_one_that_went_another_way(
    changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Pending, expired, completed late, not followed, excluded: each as the columns say it."""
    record = msgspec.json.encode(replace(ASSIGNMENT, **changes))
    columns, _ = archive_assignments(batch_of("scaling.assignments", [(b"k", record)]))
    (row,) = rows(columns)
    assert {name: row[name] for name in expected} == expected


def test_a_finding_has_a_row_and_its_whole_record() -> None:
    """Its place in the order of tests is its offset; what is not known is null."""
    record = msgspec.json.encode(FINDING)
    columns, problems = archive_findings(batch_of("scaling.findings", [(b"agents|2", record), (b"x", None)]))
    assert problems == []
    assert rows(columns) == [
        {
            "experiment_id": "agents",
            "version": 2,
            "offset": 100,
            "concluded_at": 1_772_323_200_250,
            "dimension": "agent_count",
            "outcome": "success",
            "verdict": "refuted",
            "label": "exploratory",
            "sentence": "No effect.",
            "runs": 400,
            "dollars": 12.5,
            "p": 0.25,
            "minimum_effect": 0.1,
            "knee": 4.0,
            "recommended_value": None,
            "record": record.decode(),
        }
    ]


DEEP = b"[" * 100_000 + b"]" * 100_000
LONG = msgspec.json.encode(ASSIGNMENT)


@pytest.mark.parametrize(
    ("archive", "key", "value", "reason"),
    [
        (archive_experiments, None, b"{}", "not enough values to unpack"),
        (archive_experiments, b"agents", b"{}", "not enough values to unpack"),
        (archive_experiments, b"a|b|c|d", b"{}", "too many values to unpack"),
        (archive_experiments, b"agents|x|status", b"{}", "invalid literal for int"),
        (archive_experiments, b"agents|-1|status", b"{}", "version = -1 is not between 0 and 2^32 - 1"),
        (archive_experiments, b"agents|4294967296|status", b"{}", "version = 4294967296 is not between"),
        (archive_experiments, b"agents|" + b"9" * 5000 + b"|status", b"{}", "Exceeds the limit (4300 digits)"),
        (archive_experiments, b"agents|1|status", b"{", "Input data was truncated"),
        (archive_experiments, b"agents|1|status", b"\xff", "can't decode byte 0xff"),
        (archive_experiments, b"\xff|1|status", b"{}", "can't decode byte 0xff"),
        (archive_experiments, b"agents|1|status", DEEP, "recursion depth exceeded"),
        (archive_assignments, b"k", b"{}", "Object missing required field `experiment_id`"),
        (archive_assignments, b"k", DEEP, "Expected `object`, got `array`"),
        (archive_assignments, b"k", LONG.replace(b'"version":2', b'"version":4294967296'), "version = 4294967296 is"),
        (archive_assignments, b"k", LONG.replace(b'"block":3', b'"block":-1'), "block = -1 is not between 0 and 2^63"),
        (archive_assignments, b"k", LONG.replace(b"1750000000.1234", b"1e16"), "assigned_at = 10000000000000000000 is"),
        (archive_assignments, b"k", LONG.replace(b"1750000000.1234", b"1e306"), "cannot convert float infinity"),
        (archive_assignments, b"k", LONG.replace(b"1750000000.1234", b"-1"), "assigned_at = -1000 is not between"),
        (archive_findings, b"k", b"[]", "Expected `object`, got `array`"),
        (archive_findings, b"k", msgspec.json.encode(replace(FINDING, runs=-1)), "runs = -1 is not between 0 and"),
        (archive_findings, b"k", msgspec.json.encode(replace(FINDING, concluded_at="today")), "Invalid RFC3339"),
        (
            archive_findings,
            b"k",
            msgspec.json.encode(replace(FINDING, concluded_at="0001-01-01T00:00:00+23:00")),
            "date value out of range",
        ),
    ],
)
def test_a_record_that_cannot_be_archived_is_named_and_its_neighbours_are(
    archive: Any,  # noqa: ANN401 - one of the three
    key: bytes | None,
    value: bytes,
    reason: str,
) -> None:
    """The sentence says which record, and why; the others of the batch have their rows."""
    good = {
        archive_experiments: (b"agents|1|notes", b"{}"),
        archive_assignments: (b"k", LONG),
        archive_findings: (b"k", msgspec.json.encode(FINDING)),
    }[archive]
    columns, problems = archive(batch_of("t", [good, (key, value), good]))
    (problem,) = problems
    assert problem.startswith("the record t[0]@102 cannot be archived: ")
    assert reason in problem
    assert columns["offset"] == [100, 104]


def test_a_record_where_its_experiment_does_not_live_is_not_archived() -> None:
    """Only the owner writes in an experiment's partition: what stands elsewhere under its key is not its history."""
    columns, problems = archive_of_all(batch_of("t", [(f"e{n}|1|definition".encode(), b"{}") for n in range(40)]), 4)
    own = [f"e{n}" for n in range(40) if partition_of(f"e{n}".encode(), 4) == 0]
    assert columns["experiment_id"] == own
    assert len(problems) == 40 - len(own)
    assert all("belong to partition" in problem for problem in problems)


def test_nothing_to_archive_gives_no_columns() -> None:
    """A deleted assignment or finding leaves no row."""
    assert archive_assignments(batch_of("t", [(b"k", None)])) == ({}, [])
    assert archive_findings(batch_of("t", [])) == ({}, [])
    assert json.loads(msgspec.json.encode(FINDING))["verdict"] == "refuted"
