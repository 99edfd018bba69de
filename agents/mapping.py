"""Rename fields and rescale complexity in records of other origins, before they are validated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import orjson

from models.errors import SettingsError
from models.events import RunEvent

CHARACTERISTICS = "project_characteristics"
PREFIX = f"{CHARACTERISTICS}."
FIELDS = frozenset(RunEvent.__struct_fields__) - {CHARACTERISTICS}
TEXT_FIELDS = frozenset(
    ("agent_run_id", "project", "task_type", "task_id", "model", "decision_id", "policy_version", "experiment_id")
)
ABSENT = object()


@dataclass(frozen=True, slots=True)
class Mapping:
    """What to change in every record.

    Args:
        renames: Pairs (field of the event, where its value stands now): a top-level field, or an entry of
            project_characteristics, written `project_characteristics.NAME` or, where no top-level field has the name,
            plain `NAME`. The value is moved and replaces the field's own; a number becomes text in a field of text.
        complexity: The scale (lowest, highest) of numeric task complexities; they become (c - lowest) / (highest -
            lowest). What lies outside of the scale lands outside of [0, 1], where validation rejects it.
    """

    renames: tuple[tuple[str, str], ...] = ()
    complexity: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.renames) or self.complexity is not None

    def apply(self, payload: bytes) -> bytes:
        """Change one record; what is not a JSON object stays as it is, byte for byte."""
        try:
            record = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return payload
        if not isinstance(record, dict):
            return payload
        # All values are taken before any is put: two fields can change places.
        moved = [(field, _take(record, source)) for field, source in self.renames]
        record |= {
            field: str(value) if field in TEXT_FIELDS and _is_number(value) else value
            for field, value in moved
            if value is not ABSENT
        }
        complexity: object = record.get("task_complexity")
        if self.complexity is not None and _is_number(complexity):
            lowest, highest = self.complexity
            record["task_complexity"] = (complexity - lowest) / (highest - lowest)
        return orjson.dumps(record)


def parse_mapping(renames: Sequence[str], complexity_scale: str | None) -> Mapping:
    """Read a mapping as it is written on the command line: FIELD=SOURCE …, and MIN:MAX.

    >>> parse_mapping(["max_iterations=total_iterations"], "1:10")
    Mapping(renames=(('max_iterations', 'total_iterations'),), complexity=(1.0, 10.0))

    Raises:
        SettingsError: A part is not of that form, names no field of an event, or names one twice.
    """
    pairs = tuple(_parse_rename(text) for text in renames)
    for place, what in ((0, "field"), (1, "source")):
        names = [pair[place] for pair in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SettingsError(f"--map names the {what} {twice} twice: give each field one source of its own")
    return Mapping(pairs, None if complexity_scale is None else _parse_scale(complexity_scale))


def _parse_rename(text: str) -> tuple[str, str]:
    field, equals, source = text.partition("=")
    if not (field and equals and source):
        raise SettingsError(f"--map {text}: write FIELD=SOURCE, for instance max_iterations=total_iterations")
    if field not in FIELDS:
        raise SettingsError(f"--map {text}: {field} is no field of an event; choose one of {', '.join(sorted(FIELDS))}")
    return field, source


def _parse_scale(text: str) -> tuple[float, float]:
    low, _, high = text.partition(":")
    try:
        scale = float(low), float(high)
    except ValueError:
        scale = math.nan, math.nan
    if not (scale[0] < scale[1] and math.isfinite(scale[1] - scale[0])):
        raise SettingsError(f"--complexity-scale {text}: write MIN:MAX, two numbers with MIN below MAX, such as 1:10")
    return scale


def _take(record: dict[str, Any], source: str) -> Any:  # noqa: ANN401 - any JSON value
    characteristics = record.get(CHARACTERISTICS)
    if not source.startswith(PREFIX) and source in record:
        return record.pop(source)
    if isinstance(characteristics, dict):
        return characteristics.pop(source.removeprefix(PREFIX), ABSENT)
    return ABSENT


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
