"""The schema in ClickHouse, compared with streams/sql."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from models.settings import Settings
from streams.clickhouse import query, schema_statements
from streams.migration import table_of

VIEW = re.compile(r"CREATE OR REPLACE VIEW \S+?\.(\w+) AS")
TYPE_ENDS = re.compile(r" (?:COMMENT|DEFAULT|CODEC) ")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its type, and its whole definition where it comes from streams/sql."""

    type: str
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A column that is missing (`found` is None), or has another type."""

    table: str
    column: str
    wanted: Column
    found: str | None

    def __str__(self) -> str:
        name = f"{self.table}.{self.column}"
        if self.found is None:
            return f"{name} is missing"
        return f"{name} is {self.found} and should be {self.wanted.type}"


def wanted_tables() -> dict[str, dict[str, Column]]:
    """Read the columns of each table from streams/sql."""
    return {
        table.name.rpartition(".")[2]: {
            name: Column(TYPE_ENDS.split(definition.removeprefix(f"{name} "))[0], definition)
            for name, definition in table.columns.items()
        }
        for statement in schema_statements("db")
        if (table := table_of(statement))
    }


def wanted_views() -> list[str]:
    """Read the names of the views from streams/sql."""
    return [found[1] for statement in schema_statements("db") if (found := VIEW.search(statement))]


def read_tables(settings: Settings) -> dict[str, dict[str, str]]:
    """Read the type of each column of each table and view that is there.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    sql = "SELECT table, name, type FROM system.columns WHERE database = {database:String} ORDER BY table, position"
    # The database itself may be missing.
    anywhere = settings.model_copy(update={"clickhouse_database": "system"})
    tables: dict[str, dict[str, str]] = {}
    for table, name, kind in query(anywhere, sql, parameters={"database": settings.clickhouse_database}).rows:
        tables.setdefault(table, {})[name] = kind
    return tables


def missing(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """List the tables and views that are not there."""
    return sorted({*wanted_tables(), *wanted_views()} - found.keys())


def differences(found: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """List the columns of the tables there are that are missing or of another type."""
    return [
        Difference(table, name, column, found[table].get(name))
        for table, columns in wanted_tables().items()
        if table in found
        for name, column in columns.items()
        if found[table].get(name) != column.type
    ]
