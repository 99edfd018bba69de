"""The published JSON Schema of the event."""

import json
from pathlib import Path

import msgspec

from models.events import RunEvent
from models.schema import run_event_schema, schema_text

PUBLISHED = Path(__file__).parents[2] / "docs" / "schema" / "run_event.schema.json"


def test_the_published_schema_is_that_of_the_code() -> None:
    """The file in docs/schema is what `python -m models.schema` prints."""
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text()


def test_the_schema_describes_every_field() -> None:
    """One required field, the limits of the rest, and scalars for what is free."""
    event = run_event_schema()["$defs"]["RunEvent"]
    assert event["properties"].keys() == {field.encode_name for field in msgspec.structs.fields(RunEvent)}
    assert event["required"] == ["agent_run_id"]
    assert event["properties"]["agent_count"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 1_000_000}
    assert event["properties"]["project_characteristics"]["anyOf"][0]["maxProperties"] == 64
    assert "array" not in json.dumps(event)
