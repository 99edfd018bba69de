"""What is known of a task before its run: its contexts and its complexity."""

from collections.abc import Mapping
from typing import Any

from models.contexts import complexity_band, contexts_of
from models.errors import InvalidEvent
from models.settings import Settings

COMPLEXITY_STEP = 0.05
"""An estimate of complexity is no finer than this: tasks are told apart in 21 steps."""

Task = Mapping[str, Any]


def contexts_of_task(task: Task, settings: Settings) -> list[str]:
    """List the contexts a task belongs to, the global one first, then in the order of the configured keys.

    A key that the task lacks is looked up in its project_characteristics.

    Raises:
        InvalidEvent: A key's value is an object or a list, or task_complexity is neither in [0, 1] nor a known label.
    """
    values: dict[str, str] = {}
    for key in dict.fromkeys(key for keys in settings.context_keys for key in keys):
        value = _band(task, settings) if key == "complexity_band" else field_of_task(task, key)
        if value not in (None, ""):
            values[key] = str(value)[:256]
    return contexts_of(values, settings.context_keys)


def field_of_task(task: Task, name: str) -> Any:  # noqa: ANN401 - a JSON scalar
    """Look up a field of a task, or among its project_characteristics.

    Raises:
        InvalidEvent: It is an object or a list.
    """
    characteristics = task.get("project_characteristics") or {}
    if not isinstance(characteristics, Mapping):
        raise InvalidEvent(f"task field project_characteristics = {characteristics!r}: give an object")
    value = task.get(name) or characteristics.get(name)
    if isinstance(value, Mapping | list):
        raise InvalidEvent(f"task field {name} = {value!r}: give a text or a number")
    return value


def complexity_of_task(task: Task, settings: Settings) -> float | None:
    """Read the complexity of a task, in [0, 1]; None where it has none.

    Raises:
        InvalidEvent: It is neither in [0, 1] nor a known label.
    """
    value = task.get("task_complexity")
    if value is None:
        return None
    scale = settings.complexity_scale.model_dump()
    number = scale.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise InvalidEvent(
            f"task field task_complexity = {value!r}: give a number in [0, 1] or one of {', '.join(scale)}"
        )
    return float(number)


def stepped(complexity: float | None) -> float | None:
    """Round a complexity to its step."""
    return None if complexity is None else round(round(complexity / COMPLEXITY_STEP) * COMPLEXITY_STEP, 2)


def _band(task: Task, settings: Settings) -> str | None:
    complexity = complexity_of_task(task, settings)
    return None if complexity is None else complexity_band(complexity)
