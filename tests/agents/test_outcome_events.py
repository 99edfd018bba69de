"""Outcomes of experiments: what is read of a run's event, when it is evidence, and where it came from."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agents.definitions import assignment_mac, assignment_token, read_definition
from agents.outcome_events import (
    actual_value,
    corrected,
    joined_run,
    source_header,
    source_of,
    task_fields,
    unproven,
)
from models.events import RunEvent
from models.experiments import Assignment, Definition, Joined
from models.topics import SOURCE_HEADER

SECRET = "0123456789abcdef"  # noqa: S105 - a test's
SCALE = {"trivial": 0.1, "low": 0.35, "medium": 0.65, "high": 0.9}


def event(**fields: object) -> RunEvent:
    """Read a run event with these fields."""
    return msgspec.convert({"agent_run_id": "r", **fields}, RunEvent)


def definition(dimension: str = "agent_count", **fields: object) -> Definition:
    """Read a definition that tests a dimension."""
    sizes = fields.pop("sizes", False)
    base: dict[str, Any] = {
        "experiment_id": "e",
        "name": "n",
        "hypothesis": "h",
        "dimension_tested": dimension,
        "values_tested": ["small", "large"] if sizes else [1, 2],
        "control_value": "small" if sizes else 1,
        "estimand": "contrast",
        "assignment": "switchback" if dimension == "parallelism_level" else "blocks",
    }
    return read_definition({**base, **fields})


@pytest.mark.parametrize(
    ("dimension", "fields", "expected"),
    [
        ("agent_count", {"agent_count": 3}, 3.0),
        ("agent_count", {}, None),
        ("iterations", {"max_iterations": 5, "total_iterations": 12, "agent_count": 4}, 5.0),
        ("iterations", {"total_iterations": 12, "agent_count": 4}, 3.0),
        ("iterations", {"total_iterations": 12}, None),
        ("parallelism_level", {"parallelism_level": 2}, 2.0),
        ("context", {"context_budget": 8000, "context_tokens": 7000}, 8000.0),
        ("context", {"context_tokens": 7000}, 7000.0),
        ("model_size", {"model_params_b": 7.5, "model_size_category": "small"}, 7.5),
        ("model_size", {"project_characteristics": {"model_params_b": 70}}, 70.0),
        ("attempts", {"retry_limit": 2, "retry_count": 1}, 3.0),
        ("attempts", {"retry_limit": 0}, 1.0),
        ("attempts", {"retry_count": 1}, 2.0),
    ],
)
def test_the_value_that_a_run_used(dimension: str, fields: dict[str, Any], expected: float | None) -> None:
    """A limit set beforehand comes before what was used of it; what the run does not say is not known."""
    assert actual_value(event(**fields), definition(dimension)) == expected


def test_the_size_of_a_model_is_a_label_where_labels_are_tested() -> None:
    """An experiment on categories reads the category, though the number of parameters stands there too."""
    run = event(model_params_b=7.5, model_size_category="large")
    assert actual_value(run, definition("model_size", sizes=True)) == "large"
    assert actual_value(event(model_params_b=7.5), definition("model_size", sizes=True)) is None


def test_a_joined_run_has_what_the_analysis_reads() -> None:
    """Success is a number, what is not told stays unknown, and revision and offset give its place."""
    run = event(success=True, quality_score=0.5, total_cost=0.25, agent_count=2)
    assert joined_run(run, (3, 7), 12.5, definition(), SCALE) == Joined(
        "r", 12.5, (3, 7), actual_value=2.0, success=1.0, quality_score=0.5, total_cost=0.25
    )
    empty = joined_run(event(success=False), (0, 0), 1.0, definition(), SCALE)
    assert (empty.success, empty.quality_score, empty.time_to_complete, empty.actual_value) == (0.0, None, None, None)


@pytest.mark.parametrize(
    ("exclusions", "fields", "excluded"),
    [
        ({}, {"project": "a"}, False),
        ({"project": "a"}, {"project": "a"}, True),
        ({"project": "a"}, {"project_characteristics": {"project": "a"}}, True),
        ({"project": "b"}, {"project": "a"}, False),
        ({"project": "a"}, {}, False),
        ({"max_complexity": "low"}, {"task_complexity": "low"}, True),
        ({"task_complexity": {"max": 0.4}}, {"task_complexity": "low"}, True),
        ({"model_size_category": "small"}, {"model_size_category": "small"}, True),
        ({"language": ["go"]}, {"project_characteristics": {"language": "go"}}, True),
        ({"model_params_b": {"min": 7}}, {"project_characteristics": {"model_params_b": 8}}, True),
    ],
)
def test_exclusions_are_read_from_the_run(exclusions: dict[str, Any], fields: dict[str, Any], excluded: bool) -> None:  # noqa: FBT001
    """A run that matches is excluded; without exclusions, or without the field, none is."""
    assert joined_run(event(**fields), (0, 0), 1.0, definition(exclusions=exclusions), SCALE).excluded is excluded


def test_task_fields_are_those_a_filter_may_name() -> None:
    """Texts from the top level or the characteristics, labels of complexity as numbers, what is absent left out."""
    run = event(task_type="bug", task_complexity="high", project_characteristics={"project": "a", "language": "go"})
    assert task_fields(run, SCALE) == {
        "project": "a",
        "task_type": "bug",
        "model_size_category": None,
        "model_params_b": None,
        "task_complexity": 0.9,
        "project_characteristics": {"project": "a", "language": "go"},
    }


# --- evidence ---------------------------------------------------------------------------------------------------------


def an_assignment(unit: str = "task=t", value: float | str = 2.0) -> Assignment:
    """Make an assignment with a true MAC."""
    made = Assignment("e", 1, "id", "sha", unit, value, "s", 0, 0, 0.5, [0.5, 0.5], 1.0, "")
    return replace(made, mac=assignment_mac(made, SECRET))


@pytest.mark.parametrize(
    ("unit", "value", "fields"),
    [
        ("task=t", 2.0, {"task_id": "t"}),
        ("task=t", 2.0, {}),
        ("task=a=b", 2.0, {"task_id": "a=b", "assigned_value": 2}),
        ("task=t", 2.0, {"assigned_value": 2.0000001}),
        ("task=t", 2.0, {"assigned_value": "2"}),
        ("task=t", "small", {"assigned_value": "small"}),
        ("run=r", 2.0, {"task_id": "whatever"}),
        ("request=q", 2.0, {"task_id": "whatever"}),
    ],
)
def test_a_run_with_its_token_is_evidence(unit: str, value: float | str, fields: dict[str, Any]) -> None:
    """Its task or run is that of the assignment, and the value that it echoes, if it does, is the assigned one."""
    made = an_assignment(unit, value)
    assert unproven(event(assignment_token=assignment_token(made), **fields), made) is None


@pytest.mark.parametrize(
    ("unit", "value", "fields", "reason"),
    [
        ("task=t", 2.0, {"task_id": "u"}, "the token is that of task t"),
        ("run=q", 2.0, {}, "the token is that of run q"),
        ("task=t", 2.0, {"assigned_value": 2.1}, "assigned_value = 2.1 is not the 2.0 that was assigned"),
        ("task=t", 2.0, {"assigned_value": "nan"}, "assigned_value = nan is not the 2.0 that was assigned"),
        ("task=t", 2.0, {"assigned_value": "two"}, "assigned_value = two is not the 2.0 that was assigned"),
        ("task=t", "small", {"assigned_value": 2}, "assigned_value = 2.0 is not the small that was assigned"),
        ("task=t", "small", {"assigned_value": "large"}, "assigned_value = large is not the small that was assigned"),
    ],
)
def test_a_run_that_contradicts_its_assignment_is_none(
    unit: str, value: float | str, fields: dict[str, Any], reason: str
) -> None:
    """The reason says what the token stands for, and what the run says."""
    made = an_assignment(unit, value)
    assert unproven(event(assignment_token=assignment_token(made), **fields), made) == reason


@given(st.text(max_size=40) | st.builds("v1.id.{}".format, st.text(max_size=70)))
def test_no_invented_token_proves_anything(token: str) -> None:
    """Whatever stands in the token's place, there is a reason, and no error."""
    made = an_assignment()
    reasons = {
        "the assignment token has another form",
        "the token names no assignment",
        "the token was not made by this deployment",
    }
    assert unproven(event(assignment_token=token), made) in reasons
    assert unproven(event(assignment_token=token), None) in reasons
    assert unproven(event(), made) == "no assignment token"


# --- corrections ------------------------------------------------------------------------------------------------------

BEFORE = Joined("r", 60.0, (0, 7), 2.0, 1.0, 0.5, 30.0, 0.25)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (BEFORE, False),
        (replace(BEFORE, order=(1, 2)), False),
        (replace(BEFORE, order=(1, 2), completed_at=61.0), False),
        (replace(BEFORE, order=(1, 2), success=0.0), True),
        (replace(BEFORE, order=(1, 2), quality_score=None), True),
        (replace(BEFORE, order=(1, 2), time_to_complete=31.0), True),
        (replace(BEFORE, order=(1, 2), total_cost=0.5), True),
        (replace(BEFORE, order=(1, 2), actual_value=4.0), True),
        (replace(BEFORE, order=(1, 2), excluded=True), True),
    ],
)
def test_a_run_is_corrected_where_an_analysis_reads_it_differently(after: Joined, expected: bool) -> None:  # noqa: FBT001
    """Another order or time of completion is no other outcome; a run that was not there before corrects none."""
    assert corrected(BEFORE, after) is expected
    assert not corrected(None, after)
    assert not corrected(None, None)


# --- sources ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_source_is_read_as_it_was_written(offset: int, timestamp: int) -> None:
    """Offset and timestamp come back, whatever other headers there are."""
    assert source_of([("other", b"x"), source_header(offset, timestamp)]) == (offset, timestamp)


@pytest.mark.parametrize("value", [b"", b"7", b"7:", b":7", b"a:7", b"7:8:9", b"\xff:1"])
def test_a_source_of_another_form_is_refused(value: bytes) -> None:
    """It is no outcome of the stats worker."""
    with pytest.raises(ValueError, match="invalid literal"):
        source_of([(SOURCE_HEADER, value)])


def test_a_record_without_a_source_is_refused() -> None:
    """The message says who publishes outcomes."""
    message = f"the record has no header {SOURCE_HEADER}: only the stats worker publishes outcomes"
    with pytest.raises(ValueError, match=re.escape(message)):
        source_of([("other", b"1:2")])
