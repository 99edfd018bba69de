"""JSON Schema of the run-completion event, generated from `models.events.RunEvent`: `python -m models.schema`."""

import inspect
import json
import sys
from typing import Any

import msgspec

from models.events import RunEvent

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def run_event_schema() -> dict[str, Any]:
    """Describe one run-completion event, as it is accepted with the default setting unknown_fields = keep."""
    (root,), components = msgspec.json.schema_components([RunEvent], ref_template="#/$defs/{name}")
    event = components[RunEvent.__name__]
    event["description"] = inspect.cleandoc(event["description"])
    # The struct itself is closed: the decoder moves what it does not know under project_characteristics.
    event["additionalProperties"] = {"type": ["string", "number", "boolean", "null"]}
    return {"$schema": DIALECT, **root, "$defs": components}


def schema_text() -> str:
    """Write the schema as the file in docs/schema has it."""
    return json.dumps(run_event_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
