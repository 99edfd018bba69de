"""What is known of a task before its run."""

from typing import Any

import pytest

from agents.tasks import complexity_of_task, contexts_of_task, field_of_task, stepped
from models.errors import InvalidEvent
from models.settings import load_settings

SETTINGS = load_settings()


def test_the_contexts_of_a_task() -> None:
    """Keys come from the task, else from its characteristics; complexity becomes its band by number or label."""
    task = {"project": "web", "model_size_category": "small", "project_characteristics": {"task_type": "bug"}}
    assert contexts_of_task(task, SETTINGS) == ["global", "project=web", "task_type=bug", "model_size_category=small"]
    assert contexts_of_task({"task_complexity": "high"}, SETTINGS) == ["global", "complexity_band=high"]
    assert contexts_of_task({"task_complexity": 0}, SETTINGS) == ["global", "complexity_band=trivial"]
    assert contexts_of_task({"project": "", "model": None}, SETTINGS) == ["global"]
    assert contexts_of_task({"project": "x" * 1000}, SETTINGS) == ["global", f"project={'x' * 256}"]
    pairs = load_settings(context_keys=[["project", "language"]])
    characterised = {"project": "a b", "project_characteristics": {"language": "c&c"}}
    assert contexts_of_task(characterised, pairs) == ["global", "project=a%20b&language=c%26c"]


@pytest.mark.parametrize(
    ("value", "complexity"), [(None, None), (0, 0.0), (1, 1.0), (0.4, 0.4), ("trivial", 0.1), ("high", 0.9)]
)
def test_complexity_is_a_number_or_a_label(value: object, complexity: float | None) -> None:
    """A task may have none."""
    assert complexity_of_task({"task_complexity": value}, SETTINGS) == complexity


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ({"task_complexity": "extreme"}, "extreme"),
        ({"task_complexity": 1.5}, "1.5"),
        ({"task_complexity": float("nan")}, "nan"),
        ({"task_complexity": True}, "True"),
        ({"task_complexity": []}, "task_complexity"),
        ({"project": ["web"]}, "project"),
        ({"project": {}, "project_characteristics": {"project": {"a": 1}}}, "project"),
        ({"project_characteristics": "none"}, "project_characteristics"),
    ],
)
def test_a_wrong_task_is_refused_by_name(task: dict[str, Any], name: str) -> None:
    """The message names the field or the value that is wrong."""
    with pytest.raises(InvalidEvent, match=name):
        contexts_of_task(task, SETTINGS)


def test_fields_are_looked_up_in_the_characteristics() -> None:
    """The task's own come first."""
    task = {"model": "own", "project_characteristics": {"model": "other", "model_size_category": "small"}}
    assert field_of_task(task, "model") == "own"
    assert field_of_task(task, "model_size_category") == "small"
    assert field_of_task(task, "project") is None
    assert field_of_task({"project_characteristics": None}, "project") is None


def test_complexity_is_read_in_steps() -> None:
    """Of a twentieth; 21 of them."""
    assert [stepped(each) for each in (0.0, 0.024, 0.026, 0.5, 0.977, 1.0)] == [0.0, 0.0, 0.05, 0.5, 1.0, 1.0]
    assert stepped(None) is None
    assert len({stepped(place / 1000) for place in range(1001)}) == 21
