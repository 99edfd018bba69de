"""Task filters: which tasks an experiment is about, as a small closed form that can neither run code nor grow.

A filter is a JSON object, and a task matches when every entry holds:

    {"min_complexity": "medium", "project": ["atlas", "delta"], "task_type": {"not": "docs"}, "lines": {"max": 5000}}

`min_complexity` and `max_complexity` take a number in [0, 1] or a label, which stands for its band: at least medium is
medium or high. Any other key names a field of the task, or else one of its project_characteristics. Its condition is a
scalar (equal to it), a list (one of), or an object with "min", "max" (numbers) and "not" (a scalar or a list). A task
that lacks the field does not match: what is not known is not assumed.
"""

import math
import sys
from collections.abc import Mapping
from typing import Any

from models.contexts import BANDS, complexity_band
from models.errors import InvalidExperiment

MOST_ENTRIES = 16
MOST_CHOICES = 64
LONGEST_TEXT = 256
LARGEST_WHOLE = 2**53
"""Up to here whole numbers are the same as floats."""

OPERATORS = frozenset({"min", "max", "not"})
BAND_NAMES = (*(name for _, name in BANDS), "high")
LOWEST_OF_BAND = dict(zip(BAND_NAMES, (0.0, *(upper for upper, _ in BANDS)), strict=True))

Conditions = Mapping[str, Any]
Task = Mapping[str, Any]


def check_filter(conditions: Conditions, name: str = "context_filter") -> None:
    """Check the form of a filter.

    Raises:
        InvalidExperiment: An entry breaks the form; the message names it, its value and the rule.
    """
    if len(conditions) > MOST_ENTRIES:
        raise InvalidExperiment(f"{name} has {len(conditions)} entries: at most {MOST_ENTRIES} are allowed")
    for key, condition in conditions.items():
        if not 1 <= len(key) <= LONGEST_TEXT:
            raise InvalidExperiment(f"{name} names a field of {len(key)} characters: use 1 to {LONGEST_TEXT}")
        where = f"{name}.{key} = {condition!r:.200}"
        if key in {"min_complexity", "max_complexity"}:
            if not (condition in BAND_NAMES if isinstance(condition, str) else _number(condition, 0.0, 1.0)):
                raise InvalidExperiment(f"{where}: give a number in [0, 1] or one of {', '.join(BAND_NAMES)}")
        elif isinstance(condition, Mapping):
            _check_operators(condition, where)
        elif isinstance(condition, list):
            _check_choices(condition, where)
        elif not _choice(condition):
            raise InvalidExperiment(f"{where}: give a scalar, a list of scalars, or an object of min, max and not")


def normal_filter(conditions: Conditions) -> dict[str, Any]:
    """Write the numbers of a filter that `check_filter` has passed as floats: it asks the same, in one form."""
    return {key: _normal(condition) for key, condition in conditions.items()}


def matches(conditions: Conditions, task: Task, scale: Mapping[str, float]) -> bool:
    """Tell whether a task takes part; see `mismatch`."""
    return mismatch(conditions, task, scale) is None


def mismatch(conditions: Conditions, task: Task, scale: Mapping[str, float]) -> str | None:
    """Say why a task does not match, or None where it does.

    Args:
        conditions: A filter that `check_filter` has passed.
        task: Fields of the run event that are known before the run.
        scale: The numbers that stand for complexity labels.
    """
    for key, condition in conditions.items():
        if key in {"min_complexity", "max_complexity"}:
            value = complexity_of(task, scale)
            if value is None:
                return "the task has no task_complexity"
            if not _within(value, key, condition):
                return f"task_complexity {value:g} is {'below' if key[:3] == 'min' else 'above'} {key} {condition}"
            continue
        found = field_of(task, key, scale)
        if found is None:
            return f"the task has no {key}"
        if not _holds(condition, found):
            return f"{key} = {found!r:.100} does not match {condition!r:.200}"
    return None


def decided(conditions: Conditions, known: Mapping[str, str]) -> bool:
    """Tell whether every task with these values matches a filter, whatever else is true of it.

    >>> decided({"min_complexity": "medium"}, {"complexity_band": "high"}), decided({"project": "a"}, {})
    (True, False)
    """
    return all(_decides(key, condition, known) for key, condition in conditions.items())


def complexity_of(task: Task, scale: Mapping[str, float]) -> float | None:
    """Read a task's complexity in [0, 1]; what is neither a number there nor a known label is not known."""
    value = task.get("task_complexity")
    if isinstance(value, str):
        return scale.get(value)
    return float(value) if value is not None and _number(value, 0.0, 1.0) else None


def field_of(task: Task, key: str, scale: Mapping[str, float]) -> Any:  # noqa: ANN401 - any scalar
    """Read a field of a task, or one of its project_characteristics; complexity_band follows from the complexity."""
    if key in {"task_complexity", "complexity_band"}:
        value = complexity_of(task, scale)
        return value if value is None or key == "task_complexity" else complexity_band(value)
    found = task.get(key)
    if found is None:
        characteristics = task.get("project_characteristics")
        found = characteristics.get(key) if isinstance(characteristics, Mapping) else None
    return found if _scalar(found) else None


def _decides(key: str, condition: Any, known: Mapping[str, str]) -> bool:  # noqa: ANN401 - any condition
    if key not in {"min_complexity", "max_complexity"}:
        return key in known and all(_holds(condition, reading) for reading in _readings(known[key]))
    band = known.get("complexity_band")
    if band not in LOWEST_OF_BAND:
        return False
    if isinstance(condition, str):
        above = BAND_NAMES.index(band) - BAND_NAMES.index(condition)
        return above >= 0 if key == "min_complexity" else above <= 0
    if key == "min_complexity":
        return bool(LOWEST_OF_BAND[band] >= condition)
    uppers = dict(zip(BAND_NAMES, (*(upper for upper, _ in BANDS), 1.0), strict=True))
    return bool(uppers[band] <= condition)


def _readings(text: str) -> list[Any]:
    """List what a field may hold that a context knows as a text: contexts write numbers and booleans so too."""
    readings: list[Any] = [text]
    try:
        number = float(text)
    except ValueError:
        return readings + [text == "True"] * (text in {"True", "False"})
    return readings + [number] * math.isfinite(number)


def _within(value: float, key: str, bound: float | str) -> bool:
    if key == "min_complexity":
        return value >= (LOWEST_OF_BAND[bound] if isinstance(bound, str) else bound)
    if isinstance(bound, str):
        return BAND_NAMES.index(complexity_band(value)) <= BAND_NAMES.index(bound)
    return value <= bound


def _holds(condition: Any, found: Any) -> bool:  # noqa: ANN401 - any scalar
    if isinstance(condition, list):
        return any(_same(choice, found) for choice in condition)
    if not isinstance(condition, Mapping):
        return _same(condition, found)
    if "min" in condition or "max" in condition:
        low, high = condition.get("min", -math.inf), condition.get("max", math.inf)
        if not _number(found, low, high):
            return False
    refused = condition.get("not", [])
    return not any(_same(choice, found) for choice in (refused if isinstance(refused, list) else [refused]))


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any scalar
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _check_operators(condition: Mapping[str, Any], where: str) -> None:
    if not condition or condition.keys() - OPERATORS:
        raise InvalidExperiment(f"{where}: an object has at least one of min, max and not, and nothing else")
    for bound in ("min", "max"):
        if bound in condition and (isinstance(condition[bound], bool | str) or not _choice(condition[bound])):
            raise InvalidExperiment(f"{where}: {bound} must be a number")
    if "not" in condition:
        refused = condition["not"]
        _check_choices(refused if isinstance(refused, list) else [refused], where)


def _check_choices(choices: list[Any], where: str) -> None:
    if not 1 <= len(choices) <= MOST_CHOICES:
        raise InvalidExperiment(f"{where}: a list has 1 to {MOST_CHOICES} choices")
    if not all(map(_choice, choices)):
        raise InvalidExperiment(
            f"{where}: choices are texts of up to {LONGEST_TEXT} characters, numbers of up to 2^53, or booleans"
        )


def _choice(value: Any) -> bool:  # noqa: ANN401 - asks what it is
    return _scalar(value) and not (isinstance(value, int) and abs(value) > LARGEST_WHOLE)


def _normal(condition: Any) -> Any:  # noqa: ANN401 - any condition
    if isinstance(condition, Mapping):
        return {name: _normal(value) for name, value in condition.items()}
    if isinstance(condition, list):
        return [_normal(value) for value in condition]
    return float(condition) if isinstance(condition, int) and not isinstance(condition, bool) else condition


def _scalar(value: Any) -> bool:  # noqa: ANN401 - asks what it is
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return isinstance(value, bool) or _number(value, -math.inf, math.inf)


def _number(value: Any, low: float, high: float) -> bool:  # noqa: ANN401 - asks what it is
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Not math.isfinite: JSON has whole numbers that no float holds.
    return abs(value) <= sys.float_info.max and low <= value <= high
