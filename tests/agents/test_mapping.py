"""Renaming and rescaling of records before they are validated."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.decode import EventDecoder
from agents.mapping import Mapping, parse_mapping
from models.errors import InvalidEvent, SettingsError
from models.settings import load_settings


def mapped(record: object, *renames: str, scale: str | None = None) -> object:
    """Map one record, JSON in and out."""
    return json.loads(parse_mapping(renames, scale).apply(json.dumps(record).encode()))


def test_a_top_level_field_is_moved() -> None:
    """The source is taken away where it was: a count becomes the limit that it was."""
    record = {"agent_run_id": "a", "total_iterations": 5}

    assert mapped(record, "max_iterations=total_iterations") == {"agent_run_id": "a", "max_iterations": 5}


@pytest.mark.parametrize("source", ["max_rounds", "project_characteristics.max_rounds"])
def test_a_characteristic_is_moved(source: str) -> None:
    """Plain names reach into project_characteristics too, and leave its other entries."""
    record = {"agent_run_id": "a", "project_characteristics": {"max_rounds": 3, "subject": "law"}}

    moved = {"agent_run_id": "a", "project_characteristics": {"subject": "law"}, "max_iterations": 3}
    assert mapped(record, f"max_iterations={source}") == moved


def test_the_top_level_wins_over_a_characteristic_of_the_same_name() -> None:
    """The long form reaches the other one."""
    record = {"n": 1, "project_characteristics": {"n": 2}}

    assert mapped(record, "agent_count=n") == {"agent_count": 1, "project_characteristics": {"n": 2}}
    assert mapped(record, "agent_count=project_characteristics.n") == {
        "n": 1,
        "agent_count": 2,
        "project_characteristics": {},
    }


def test_what_is_absent_leaves_the_record_alone() -> None:
    """A record without the source keeps what it has in the field."""
    assert mapped({"agent_run_id": "a", "model": "m"}, "model=llm", "agent_count=n") == {
        "agent_run_id": "a",
        "model": "m",
    }


def test_fields_can_change_places() -> None:
    """All sources are read before any field is written."""
    assert mapped({"project": "p", "model": "m"}, "project=model", "model=project") == {"project": "m", "model": "p"}


def test_a_number_becomes_text_in_a_field_of_text() -> None:
    """Task ids are often numbers elsewhere; other fields keep the type they are given."""
    assert mapped({"q": 7, "n": "7"}, "task_id=q", "agent_count=n") == {"task_id": "7", "agent_count": "7"}


@pytest.mark.parametrize("payload", [b"no json", b"[1, 2]", b"null", b'{"a": NaN}', b"\xff", b""])
def test_what_is_no_object_stays_as_it_is(payload: bytes) -> None:
    """A broken record is left for the validation to reject, byte for byte."""
    assert parse_mapping(["agent_count=a"], "0:10").apply(payload) == payload


@given(st.floats(-50, 50), st.floats(0.5, 100), st.floats(0, 1))
def test_complexity_is_rescaled_linearly(lowest: float, width: float, share: float) -> None:
    """A value at a share of the way from lowest to highest becomes that share."""
    mapping = Mapping(complexity=(lowest, lowest + width))
    record = json.dumps({"task_complexity": lowest + share * width}).encode()

    assert json.loads(mapping.apply(record))["task_complexity"] == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("value", [0, 0.5, 11])
def test_complexity_outside_the_scale_is_rejected(value: float) -> None:
    """A value that lies outside, even if it would have been a complexity as it was, does not slip through."""
    payload = json.dumps({"agent_run_id": "a", "task_complexity": value}).encode()

    with pytest.raises(InvalidEvent, match="task_complexity"):
        EventDecoder(load_settings()).decode(parse_mapping([], "1:10").apply(payload))


@pytest.mark.parametrize("value", ["medium", None, True])
def test_only_numbers_are_rescaled(value: object) -> None:
    """Labels stay labels."""
    assert mapped({"task_complexity": value}, scale="1:10") == {"task_complexity": value}


def test_complexity_is_rescaled_after_it_is_moved() -> None:
    """A scale applies to what a mapping brings."""
    assert mapped({"difficulty": 10}, "task_complexity=difficulty", scale="0:20") == {"task_complexity": 0.5}


@pytest.mark.parametrize(
    ("renames", "scale", "message"),
    [
        (["agents"], None, "--map agents: write FIELD=SOURCE"),
        (["agents=n"], None, "agents is no field of an event"),
        (["project_characteristics=n"], None, "is no field"),
        (["model=a", "model=b"], None, "the field model twice"),
        (["model=a", "project=a"], None, "the source a twice"),
        ([], "1", "--complexity-scale 1: write MIN:MAX"),
        ([], "10:1", "MIN below MAX"),
        ([], "0:nan", "MIN:MAX"),
        ([], "0:inf", "MIN:MAX"),
    ],
)
def test_a_wrong_mapping_is_told(renames: list[str], scale: str | None, message: str) -> None:
    """The message repeats what was written and says what would be right."""
    with pytest.raises(SettingsError, match=message):
        parse_mapping(renames, scale)


def test_no_mapping_is_false() -> None:
    """Whoever has nothing to change can tell, and leave payloads untouched."""
    assert not parse_mapping([], None)
    assert parse_mapping(["model=m"], None)
    assert parse_mapping([], "0:1")
