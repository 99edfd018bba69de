"""What an older table of ClickHouse lacks is read from the one description that there is."""

import pytest

from models.errors import StackError
from streams.clickhouse import SCHEMA, schema_statements
from streams.migration import additions, table_of

TABLES = [table for table in map(table_of, schema_statements("scaling")) if table is not None]


def test_every_table_is_read_from_its_file() -> None:
    """Each has columns and an engine; views and the database are no tables."""
    assert len(TABLES) == len(SCHEMA) - 1
    assert {table.name for table in TABLES} >= {"scaling.scaling_observations", "scaling.scaling_decisions"}
    for table in TABLES:
        assert len(table.columns) >= 5
        assert table.engine.startswith("ENGINE = ReplacingMergeTree")
        assert all(words.startswith(f"{name} ") for name, words in table.columns.items())
    observations = next(table for table in TABLES if table.name.endswith("scaling_observations"))
    assert observations.columns["project_characteristics"].endswith("DEFAULT '{}' COMMENT 'a JSON object'")
    assert list(observations.indices) == ["completed_at_range"]


@pytest.mark.parametrize("table", TABLES, ids=[table.name for table in TABLES])
def test_a_table_that_has_all_needs_nothing(table: object) -> None:
    """And columns of a later version do not disturb."""
    assert list(additions(table, [*table.columns, "later"], table.indices)) == []  # type: ignore[attr-defined, arg-type]


def test_columns_come_where_the_description_has_them() -> None:
    """One statement for each, in order, with type, default and comment."""
    table = table_of(
        "CREATE TABLE IF NOT EXISTS db.t\n(\n    a String,\n    -- Why.\n    b Float64 DEFAULT 1 COMMENT 'x, y',\n"
        "    c UInt8,\n    INDEX i c TYPE minmax GRANULARITY 1\n)\nENGINE = ReplacingMergeTree\nORDER BY a"
    )
    assert table is not None
    assert list(additions(table, ["a"], [])) == [
        "ALTER TABLE db.t ADD COLUMN IF NOT EXISTS b Float64 DEFAULT 1 COMMENT 'x, y' AFTER a",
        "ALTER TABLE db.t ADD COLUMN IF NOT EXISTS c UInt8 AFTER b",
        "ALTER TABLE db.t ADD INDEX IF NOT EXISTS i c TYPE minmax GRANULARITY 1",
    ]
    with pytest.raises(StackError, match=r"table db\.t has no column a, which its order needs.*docs/upgrade\.md"):
        list(additions(table, ["b", "c"], ["i"]))
