"""Read a context's joint cells from ClickHouse: one GROUP BY over its runs."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analytics.cells import Flags
from analytics.joint_cells import JointCells, Moments, Slot
from analytics.moments import Floats, Ints
from models.cells import bin_value
from models.dimensions import BASES, Basis, Dimension, Outcome, Source, Variable
from models.settings import Settings
from streams.clickhouse import query
from streams.context_keys import context_condition
from streams.cut import Cut, below_condition

SECONDS = 300
MOST_ROWS = 4_000_000
"""A context with more joint cells than this is refused: they would take more than two gigabytes."""

NUMBERS: tuple[Slot, ...] = tuple(
    (dimension, basis) for dimension in Dimension for basis in BASES[dimension] if basis is not Basis.CATEGORY
)
OUTCOMES: tuple[str, ...] = (
    *map(str, Outcome),
    str(Variable.LN_TIME),
    str(Variable.CLIPPED_LN_COST),
    str(Variable.CLIPPED_LN_QUALITY),
)


@dataclass(frozen=True, slots=True)
class ContextRuns:
    """The joint cells of a context's runs, and where their settings came from."""

    joint: JointCells
    sources: tuple[Source, ...]


def read_joint_cells(
    settings: Settings, context: str, *, since: datetime | None = None, below: Cut | None = None
) -> ContextRuns:
    """Read the runs of a context as joint cells.

    Args:
        settings: Where ClickHouse is.
        context: A context id.
        since: Leave out runs that were completed earlier.
        below: Leave out runs that have no record below this cut.

    Raises:
        QueryError: ClickHouse refused the query, or there are more than MOST_ROWS cells.
        NotReachable: ClickHouse does not answer.
    """
    condition, parameters = context_condition(context)
    bound: dict[str, str | int] = {**parameters}
    if since is not None:
        condition += " AND completed_at >= fromUnixTimestamp64Milli({since:Int64})"
        bound["since"] = int(since.timestamp() * 1000)
    if below is not None:
        below_sql, cut_parameters = below_condition(below)
        condition += f" AND {below_sql}"
        bound |= cut_parameters
    sql = files("streams").joinpath("sql", "joint_cells.sql").read_text(encoding="utf-8")
    sql = sql.replace("{condition}", condition)
    return _from_arrow(query(settings, sql, fmt="Arrow", parameters=bound, seconds=SECONDS, rows=MOST_ROWS))


def _from_arrow(body: bytes) -> ContextRuns:
    table = pa.ipc.open_file(pa.BufferReader(body)).read_all()

    def column(name: str) -> Floats:
        """Read numbers; nan where there is none."""
        return np.asarray(table.column(name).to_numpy(), np.float64)

    def codes(name: str) -> Ints:
        return np.asarray(table.column(name).to_numpy(), np.int64)

    binned = {slot: column(f"bin {slot[0]} {slot[1]}") == 1 for slot in NUMBERS}
    joint = JointCells(
        design={slot: _values(column(f"x {slot[0]} {slot[1]}"), binned[slot]) for slot in NUMBERS},
        ln_x={slot: np.nan_to_num(column(f"avg(ln {slot[0]} {slot[1]})")) for slot in NUMBERS},
        binned=binned,
        category=tuple(table.column("category").to_pylist()),
        complexity=codes("complexity"),
        fold=codes("fold"),
        project=_project_codes(table.column("project")),
        task_group=codes("task_group"),
        outcomes={name: _moments(column, name) for name in OUTCOMES},
    )
    runs = {Source.OBSERVATIONAL: column("observational"), Source.POLICY: column("policy")}
    return ContextRuns(joint, tuple(source for source, count in runs.items() if count.sum() > 0))


def _values(place: Floats, binned: Flags) -> Floats:
    """Put the nominal value for the index of a bin."""
    value = place.copy()
    index, which = np.unique(place[binned], return_inverse=True)
    value[binned] = np.array([bin_value(int(number)) for number in index.tolist()], np.float64)[which]
    return value


def _moments(column: Callable[[str], Floats], name: str) -> Moments:
    n = column(f"count(y {name})")
    return Moments(
        n,
        np.nan_to_num(column(f"avg(y {name})")),
        n * np.nan_to_num(column(f"varPopStable(y {name})")),
    )


def _project_codes(names: pa.ChunkedArray) -> Ints:
    """Number the projects in the order of their names; -1 for none."""
    known = sorted(names.unique().drop_null().to_pylist())
    return np.asarray(pc.index_in(names, pa.array(known, pa.string())).fill_null(-1).to_numpy(), np.int64)
