"""Tables of an older version on a real ClickHouse: what they lack is added, and what they hold stays."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from models.errors import StackError
from models.settings import Settings
from streams.clickhouse import ClickHouseSink, apply_schema, query, schema_statements
from streams.migration import table_of

pytestmark = pytest.mark.stack

OLD = """CREATE TABLE {database}.scaling_decisions
(
    decision_id String,
    decided_at DateTime64(3, 'UTC'),
    policy_version LowCardinality(String),
    agent_count UInt64,
    note String,
    partition UInt16,
    offset UInt64
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY decision_id"""
OLD_VIEW = "CREATE VIEW {database}.decisions AS SELECT * FROM {database}.scaling_decisions FINAL"


@pytest.fixture
def old(stack: Settings) -> Iterator[Settings]:
    """Settings of a database as an older version made it: decisions of fewer columns, one of them since forgotten."""
    settings = stack.model_copy(update={"clickhouse_database": f"old_{uuid4().hex}"})
    database = settings.clickhouse_database
    for statement in ("CREATE DATABASE {database}", OLD, OLD_VIEW):
        run(stack, statement.replace("{database}", database))
    run(stack, f"INSERT INTO {database}.scaling_decisions VALUES ('d-1', '2026-03-01 00:00:00', 'p1', 3, 'kept', 0, 7)")
    yield settings
    run(stack, f"DROP DATABASE {database}")


def run(settings: Settings, statement: str) -> None:
    """Run a statement from any database."""
    query(settings.model_copy(update={"clickhouse_database": "default"}), statement, readonly=False)


def described(settings: Settings, table: str) -> dict[str, tuple[str, str, str]]:
    """Read type, default and comment of each column but those that are no longer described."""
    sql = (
        "SELECT name, type, default_expression, comment FROM system.columns WHERE database = {d:String} "
        "AND table = {t:String} AND name NOT IN ('note') ORDER BY position"
    )
    rows = query(settings, sql, parameters={"d": settings.clickhouse_database, "t": table}).rows
    return {str(name): (str(kind), str(default), str(comment)) for name, kind, default, comment in rows}


async def test_an_older_table_gets_what_it_lacks(old: Settings, stack: Settings) -> None:
    """Columns in their places with types and defaults, index and view; rows stay; a second time changes nothing."""
    for _ in range(2):
        await apply_schema(old)
        new, known = described(old, "scaling_decisions"), described(stack, "scaling_decisions")
        assert list(new) == list(known)
        assert {name: (kind, default) for name, (kind, default, _) in new.items()} == {
            name: (kind, default) for name, (kind, default, _) in known.items()
        }
        sql = (
            "SELECT name FROM system.data_skipping_indices WHERE database = {d:String} AND table = 'scaling_decisions'"
        )
        indices = query(old, sql, parameters={"d": old.clickhouse_database}).rows
        assert [name for (name,) in indices] == ["decided_at_range"]
        (row,) = query(old, "SELECT decision_id, agent_count, note, budget, explored, offset FROM decisions").rows
        assert list(row) == ["d-1", 3, "kept", None, False, 7]
        assert query(old, "SELECT agent_run_id, test FROM decision_outcomes").rows == [(None, "")]


async def test_the_archive_writes_to_a_table_that_has_more(old: Settings) -> None:
    """A column that only another version knows takes its default, so versions may run side by side."""
    await apply_schema(old)
    sink = ClickHouseSink(old, refusals=2, first_pause=0.01)
    await sink.insert("scaling_decisions", {"decision_id": ["d-2"], "offset": [8], "budget": [2.5]})
    await sink.close()
    rows = query(old, "SELECT decision_id, note, budget FROM decisions ORDER BY decision_id").rows
    assert [tuple(row) for row in rows] == [("d-1", "kept", None), ("d-2", "", 2.5)]


async def test_a_table_of_another_order_is_refused(stack: Settings) -> None:
    """What its rows are told apart by cannot be added; the message says what to do."""
    settings = stack.model_copy(update={"clickhouse_database": f"old_{uuid4().hex}"})
    database = settings.clickhouse_database
    run(stack, f"CREATE DATABASE {database}")
    run(stack, f"CREATE TABLE {database}.scaling_records (partition UInt16) ENGINE = MergeTree ORDER BY partition")
    try:
        with pytest.raises(StackError, match="scaling_records has no column offset, which its order needs"):
            await apply_schema(settings)
    finally:
        run(stack, f"DROP DATABASE {database}")


def test_every_table_is_made_as_it_is_described(stack: Settings) -> None:
    """The reader of streams/sql and ClickHouse see the same columns."""
    for table in map(table_of, schema_statements(stack.clickhouse_database)):
        if table is not None:
            assert list(table.columns) == list(described(stack, table.name.rpartition(".")[2]))
