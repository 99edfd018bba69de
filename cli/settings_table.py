"""`scaling settings`: everything that can be set, as docs/settings.md has it."""

import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from cli.output import print_json
from models.settings import Settings

HEADING = """\
# Settings

Every setting is read from the environment, or from `scaling.toml` in the working directory under the name in the first
column; the environment wins. Lists and tables are written as JSON in the environment. `scaling settings` prints this
page.

| setting | environment variable | default | rule | meaning |
|---|---|---|---|---|
"""

LIMITS = {
    "exclusiveMinimum": "> {}",
    "minimum": "≥ {}",
    "exclusiveMaximum": "< {}",
    "maximum": "≤ {}",
    "pattern": "matches `{}`",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting."""

    name: str
    variable: str
    default: Any
    rule: str
    meaning: str


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print every setting with its environment variable, default and rule, as the table of docs/settings.md.

    Example: scaling settings --json
    """
    if as_json:
        print_json([asdict(row) for row in rows()])
    else:
        typer.echo(markdown(), nl=False)


def rows() -> list[Row]:
    """Describe the settings in the order of their definition."""
    properties = Settings.model_json_schema()["properties"]
    return [
        Row(
            name,
            f"SCALING_{name.upper()}",
            field.get_default(),
            _rule(properties[name]),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]


def markdown() -> str:
    """Write the settings as a page."""
    lines = (
        f"| {row.name} | `{row.variable}` | {_text(row.default)} | {row.rule} | {row.meaning} |\n" for row in rows()
    )
    return HEADING + "".join(lines)


def _rule(schema: dict[str, Any]) -> str:
    limits = [text.format(_escape(schema[key])) for key, text in LIMITS.items() if key in schema]
    kind = schema.get("type", "table")
    return ", ".join([kind, *limits])


def _escape(limit: object) -> str:
    return str(limit).replace("|", "\\|")


def _text(value: object) -> str:
    if value == "":
        return "empty"
    text = value if isinstance(value, str) else json.dumps(value, default=lambda table: table.model_dump())
    return f"`{text}`"
