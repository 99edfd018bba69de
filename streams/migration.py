"""Bring an older table to the schema of streams/sql: add the columns and indices that it lacks, and nothing else.

A file of streams/sql is the one place where a table is described; what is to be added follows from it. Columns are
only ever added, with a default: an older version, which does not know them, goes on reading and writing beside.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from models.errors import StackError

_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\S+)\s*\n\(\n(.*?)\n\)\n(ENGINE.*)", re.DOTALL)
_NAME = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Table:
    """A table as its statement describes it: its columns and indices in order, by name, and what follows them."""

    name: str
    columns: dict[str, str]
    indices: dict[str, str]
    engine: str


def table_of(statement: str) -> Table | None:
    """Read a CREATE TABLE statement of streams/sql, which has one column a line; None for any other statement."""
    found = _TABLE.search(statement)
    if found is None:
        return None
    name, body, engine = found.groups()
    columns, indices = dict[str, str](), dict[str, str]()
    for line in body.splitlines():
        words = line.strip().removesuffix(",")
        if words.startswith("--") or not words:
            continue
        first, _, rest = words.partition(" ")
        if first == "INDEX":
            indices[rest.partition(" ")[0]] = rest
        else:
            columns[first] = words
    return Table(name, columns, indices, engine)


def additions(table: Table, columns: Collection[str], indices: Collection[str]) -> Iterator[str]:
    """Say what an existing table lacks, as statements that may be repeated.

    Args:
        table: As it should be.
        columns: The columns that it has; others than those described are left alone.
        indices: The indices that it has.

    Raises:
        StackError: A column of the table's order or partitions is missing: such a table must be made anew.
    """
    missing = [name for name in table.columns if name not in columns]
    keys = set(_NAME.findall(table.engine))
    for name in missing:
        if name in keys:
            raise StackError(
                f"table {table.name} has no column {name}, which its order needs and which cannot be added: rename the "
                "table, run scaling topics create again, and copy the rows over (docs/upgrade.md)"
            )
    place = "FIRST"
    for name, words in table.columns.items():
        if name in missing:
            yield f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {words} {place}"
        place = f"AFTER {name}"
    for name, words in table.indices.items():
        if name not in indices:
            yield f"ALTER TABLE {table.name} ADD INDEX IF NOT EXISTS {words}"
