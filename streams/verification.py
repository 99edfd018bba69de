"""Verify a law: read the raw runs that it has seen from ClickHouse, fit it anew, and name what was corrected since."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

import numpy as np
import pyarrow as pa

from agents.audit import AuditHeading
from agents.raw_laws import Slot
from agents.refits import RunColumns, refit_audited, refit_live
from agents.verify import Part, compare
from models.dimensions import BASES, Basis, Dimension, Outcome
from models.laws import Law
from models.settings import Settings
from streams.clickhouse import query
from streams.context_keys import context_condition
from streams.cut import Cut, below_condition, read_cut
from streams.joint_cells import read_joint_cells

SECONDS = 300
MOST_ROWS = 5_000_000
"""A context with more runs below the cut is refused: their columns would take more than a gigabyte."""

ARCHIVE_SECONDS = 5.0
POLL_SECONDS = 0.25

NAMED = 20
"""Corrected runs that are named; all are counted."""

X: Mapping[Slot, str] = {
    (Dimension.AGENT_COUNT, Basis.REALISED): "toFloat64(agent_count)",
    (Dimension.ITERATIONS, Basis.DOSE): "toFloat64(max_iterations)",
    (Dimension.ITERATIONS, Basis.REALISED): "total_iterations / agent_count",
    (Dimension.PARALLELISM_LEVEL, Basis.REALISED): "toFloat64(parallelism_level)",
    (Dimension.CONTEXT, Basis.DOSE): "toFloat64(context_budget)",
    (Dimension.CONTEXT, Basis.REALISED): "toFloat64(context_tokens)",
    (Dimension.MODEL_SIZE, Basis.REALISED): "model_params_b",
    (Dimension.MODEL_SIZE, Basis.CATEGORY): (
        "multiIf(model_size_category = 'small', 0., model_size_category = 'medium', 1.,"
        " model_size_category = 'large', 2., NULL)"
    ),
    (Dimension.ATTEMPTS, Basis.DOSE): "toFloat64(retry_limit) + 1",
    (Dimension.ATTEMPTS, Basis.REALISED): "toFloat64(retry_count) + 1",
}
Y: Mapping[Outcome, str] = {
    Outcome.SUCCESS: "toFloat64(success)",
    Outcome.QUALITY_SCORE: "quality_score",
    Outcome.TIME_TO_COMPLETE: "time_to_complete",
    Outcome.TOTAL_COST: "total_cost",
}


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of verifying a law.

    Attributes:
        law_id: The law.
        version: Its version.
        equal: Whether no compared part differs.
        parts: What was compared, and what was not.
        corrected: Ids of runs of its context whose content has changed since the law saw them, the first 20.
        corrected_total: How many there are.
        corrected_elsewhere: Such runs of other contexts, of which some may have been of this one.
        not_archived: Per partition, how many offsets the archive is behind the law's lineage.
    """

    law_id: str
    version: int
    equal: bool
    parts: list[Part]
    corrected: list[str]
    corrected_total: int
    corrected_elsewhere: int
    not_archived: dict[int, int]


def verify(settings: Settings, law: Law) -> Verification:
    """Fit a law anew from the runs in ClickHouse that it has seen, and compare.

    A run that was corrected since is taken as it is now, and named: what it was is not kept.

    Args:
        settings: Where ClickHouse is, and how the workers fit.
        law: A live or an audited law.

    Raises:
        NotEnoughData: ClickHouse has no run that the law could be fitted from.
        QueryError: ClickHouse refused a query, or there are more than MOST_ROWS runs.
        NotReachable: ClickHouse does not answer.
    """
    cut = {int(partition): offset for partition, offset in law.lineage.items()}
    not_archived = _await_archive(settings, cut)
    parts = compare(law, _refit(settings, law, cut), settings)
    inside, elsewhere = _corrected(settings, law, cut)
    return Verification(
        law_id=law.law_id,
        version=law.version,
        equal=not any(part.differences for part in parts),
        parts=parts,
        corrected=inside[:NAMED],
        corrected_total=len(inside),
        corrected_elsewhere=elsewhere,
        not_archived=not_archived,
    )


def read_columns(settings: Settings, law: Law, cut: Cut) -> RunColumns:
    """Read the columns of a context's runs below a cut that a law is fitted from.

    Raises:
        QueryError: ClickHouse refused the query, or there are more than MOST_ROWS runs.
        NotReachable: ClickHouse does not answer.
    """
    # All dimensions, because the adjusted part holds the others fixed; the cost, because it prices the knee.
    slots = [(dimension, basis) for dimension in Dimension for basis in BASES[dimension]]
    outcomes = dict.fromkeys((Outcome(law.outcome), Outcome.TOTAL_COST))
    columns = {
        "decided": "toUInt8(decision_id IS NOT NULL OR policy_version IS NOT NULL)",
        "complexity": "task_complexity",
        "completed": "toUnixTimestamp64Milli(completed_at)",
        **{f"x {dimension} {basis}": X[dimension, basis] for dimension, basis in slots},
        **{f"y {outcome}": Y[outcome] for outcome in outcomes},
    }
    condition, parameters = context_condition(law.context)
    below, cut_parameters = below_condition(cut)
    listed = ", ".join(f"{expression} AS `{name}`" for name, expression in columns.items())
    sql = f"SELECT {listed} FROM observations WHERE {condition} AND {below} ORDER BY agent_run_id"  # noqa: S608 - constants
    body = query(settings, sql, fmt="Arrow", parameters=parameters | cut_parameters, seconds=SECONDS, rows=MOST_ROWS)
    table = pa.ipc.open_file(pa.BufferReader(body)).read_all()
    found = {name: np.asarray(table.column(name).to_numpy()) for name in columns}
    milliseconds = settings.bucket_seconds * 1000
    newest = query(settings, "SELECT toUnixTimestamp64Milli(max(completed_at)) FROM observations").rows[0][0]
    return RunColumns(
        x={slot: found[f"x {slot[0]} {slot[1]}"].astype(np.float64) for slot in slots},
        outcomes={outcome: found[f"y {outcome}"].astype(np.float64) for outcome in outcomes},
        policy=found["decided"] == 1,
        complexity=found["complexity"].astype(np.float64),
        bucket=found["completed"].astype(np.int64) // milliseconds,
        newest=int(newest) // milliseconds,
    )


def _await_archive(settings: Settings, cut: Cut) -> dict[int, int]:
    """Wait a moment for the archive to reach a cut; say by how many offsets it is still behind, per partition.

    A record that was rejected is never there: behind need not mean incomplete.
    """
    deadline = time.monotonic() + ARCHIVE_SECONDS
    while True:
        archived = read_cut(settings)
        behind = {partition: offset - archived.get(partition, 0) for partition, offset in cut.items()}
        behind = {partition: offsets for partition, offsets in behind.items() if offsets > 0}
        if not behind or time.monotonic() > deadline:
            return behind
        time.sleep(POLL_SECONDS)


def _refit(settings: Settings, law: Law, cut: Cut) -> Law:
    if law.tier == "live":
        return refit_live(read_columns(settings, law, cut), law, settings)
    since = datetime.fromisoformat(law.epoch_since) if law.epoch_since else None
    runs = read_joint_cells(settings, law.context, since=since, below=cut)
    heading = AuditHeading(
        law.context, runs.sources, cut, settings.validation_hash, law.fitted_at, law.epoch, law.epoch_since
    )
    return refit_audited(runs.joint, heading, law, settings)


def _corrected(settings: Settings, law: Law, cut: Cut) -> tuple[list[str], int]:
    """List the runs of the law's context that were corrected since, and count those of other contexts."""
    condition, parameters = context_condition(law.context)
    _, cut_parameters = below_condition(cut)
    sql = files("streams").joinpath("sql", "corrections.sql").read_text(encoding="utf-8")
    sql = sql.replace("{condition}", condition)
    found = query(settings, sql, parameters=parameters | cut_parameters, seconds=SECONDS, rows=MOST_ROWS).rows
    inside = [str(run) for run, _, _, here in found if here]
    return inside, len(found) - len(inside)
