"""The schema that streams/sql describes, compared with what is there."""

from streams.schema import Column, differences, missing, wanted_tables, wanted_views


def as_wanted() -> dict[str, dict[str, str]]:
    """Describe a database that has everything."""
    tables = {
        table: {name: column.type for name, column in columns.items()} for table, columns in wanted_tables().items()
    }
    return tables | {view: {} for view in wanted_views()}


def test_columns_are_read_from_the_statements() -> None:
    """Types end before comment and default; indices are no columns."""
    columns = wanted_tables()["scaling_observations"]
    assert columns["completed_at"] == Column(
        "DateTime64(3, 'UTC')", "completed_at DateTime64(3, 'UTC') COMMENT 'Kafka timestamp where the event has none'"
    )
    assert columns["project_characteristics"].type == "String"
    assert columns["project"].type == "LowCardinality(Nullable(String))"
    assert "INDEX" not in columns
    assert {"observations", "laws", "decision_outcomes"} <= set(wanted_views())


def test_what_is_missing_or_of_another_type_is_named() -> None:
    """A column that is there besides is nobody's concern."""
    found = as_wanted()
    assert missing(found) == []
    assert differences(found) == []
    del found["laws"]
    del found["scaling_laws"]["knee"]
    found["scaling_records"]["revision"] = "UInt8"
    found["scaling_records"]["mine"] = "String"
    assert missing(found) == ["laws"]
    assert list(map(str, differences(found))) == [
        "scaling_records.revision is UInt8 and should be UInt16",
        "scaling_laws.knee is missing",
    ]
