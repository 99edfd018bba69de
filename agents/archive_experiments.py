"""Turn what Kafka brings about experiments into columns for ClickHouse."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from agents.archive import TableColumns, check_range, problem_with, text_of_value, ticks
from agents.experiment_records import UNREADABLE
from agents.experiment_store import REQUESTS
from analytics.partitions import partition_of
from analytics.trial_rows import complied
from models.batches import Batch
from models.experiments import Assignment, Finding

EXPERIMENTS = "scaling_experiments"
ASSIGNMENTS = "scaling_assignments"
FINDINGS = "scaling_findings"

_read_assignment = msgspec.json.Decoder(Assignment).decode
_read_finding = msgspec.json.Decoder(Finding).decode


def archive_experiments(batch: Batch, partitions: int) -> tuple[TableColumns, list[str]]:
    """Turn records about experiments into columns; a deleted definition leaves a row without a record.

    Args:
        batch: Records of scaling.experiments.
        partitions: How many it has; a record where its experiment does not live is not its owner's.
    """
    return archived(batch, partial(_experiment_rows, partitions=partitions))


def archive_assignments(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn assignments into columns."""
    return archived(batch, _assignment_rows)


def archive_findings(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn findings into columns."""
    return archived(batch, _finding_rows)


def archived(batch: Batch, rows_of: Callable[[Batch, int], Iterator[dict[str, Any]]]) -> tuple[TableColumns, list[str]]:
    """Give the columns, and one sentence for each record that cannot be read."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for place in range(len(batch)):
        try:
            rows.extend(rows_of(batch, place))
        except (*UNREADABLE, OverflowError) as error:
            problems.append(problem_with(batch, place, error))
    return ({name: [row[name] for row in rows] for name in rows[0]} if rows else {}), problems


def _experiment_rows(batch: Batch, place: int, partitions: int) -> Iterator[dict[str, Any]]:
    experiment, number, kind = (batch.keys[place] or b"").decode().split("|")
    if kind == REQUESTS:
        return
    _check_version(int(number))
    own = partition_of(experiment.encode(), partitions)
    if own != batch.partition:
        raise ValueError(f"records about {experiment} belong to partition {own}")
    record = (batch.values[place] or b"").decode()
    if record:
        msgspec.json.decode(record)
    yield {
        "experiment_id": experiment,
        "version": int(number),
        "kind": kind,
        "slot": batch.offsets[place] if kind == "definition" else 0,
        "offset": batch.offsets[place],
        "published_at": batch.timestamps[place],
        "record": record,
    }


def _assignment_rows(batch: Batch, place: int) -> Iterator[dict[str, Any]]:
    value = batch.values[place]
    if value is None:
        return
    assignment = _read_assignment(value)
    run = assignment.run
    assigned_at = round(1000 * assignment.assigned_at)
    completed_at = None if run is None else round(1000 * run.completed_at)
    _check_version(assignment.version)
    check_range(block=assignment.block, place=assignment.place, assigned_at=assigned_at, completed_at=completed_at or 0)
    yield {
        "experiment_id": assignment.experiment_id,
        "version": assignment.version,
        "assignment_id": assignment.assignment_id,
        "unit": assignment.unit,
        "agent_run_id": None if run is None else run.agent_run_id,
        "assigned_value": text_of_value(assignment.value),
        "actual_value": None if run is None else text_of_value(run.actual_value),
        "complied": None if run is None else complied(assignment),
        "propensity": assignment.propensity,
        "stratum": assignment.stratum,
        "block": assignment.block,
        "place": assignment.place,
        "assigned_at": assigned_at,
        "completed_at": completed_at,
        "status": "completed" if run is not None else "expired" if assignment.expired else "pending",
        "excluded": run is not None and run.excluded,
        "success": None if run is None else run.success,
        "quality_score": None if run is None else run.quality_score,
        "time_to_complete": None if run is None else run.time_to_complete,
        "total_cost": None if run is None else run.total_cost,
        "task_complexity": assignment.complexity,
        "contexts": assignment.contexts,
        "repeats": assignment.repeats,
        "definition_sha256": assignment.definition_sha256,
        "offset": batch.offsets[place],
    }


def _finding_rows(batch: Batch, place: int) -> Iterator[dict[str, Any]]:
    value = batch.values[place]
    if value is None:
        return
    finding = _read_finding(value)
    _check_version(finding.version)
    check_range(runs=finding.runs)
    yield {
        "experiment_id": finding.experiment_id,
        "version": finding.version,
        "offset": batch.offsets[place],
        "concluded_at": ticks(finding.concluded_at),
        "dimension": finding.dimension,
        "outcome": finding.outcome,
        "verdict": finding.verdict.value,
        "label": finding.label.value,
        "sentence": finding.sentence,
        "runs": finding.runs,
        "dollars": finding.dollars,
        "p": finding.p,
        "minimum_effect": finding.minimum_effect,
        "knee": finding.knee,
        "recommended_value": finding.recommended_value,
        "record": value.decode(),
    }


def _check_version(version: int) -> None:
    """Refuse a number that the column of versions, of 32 bits, cannot hold."""
    if not 0 <= version < 1 << 32:
        raise ValueError(f"version = {version} is not between 0 and 2^32 - 1")
