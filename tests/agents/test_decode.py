"""Decoding run events: total, and one bad record never takes its neighbours with it."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.decode import EventDecoder, complexity, field, params_field, text_field
from models.errors import InvalidEvent
from models.events import RunEvent
from models.settings import load_settings

KEEP = EventDecoder(load_settings())
REFUSE = EventDecoder(load_settings(unknown_fields="refuse"))
GOOD = b'{"agent_run_id": "r", "success": true, "agent_count": 2}'


def decoded(**fields: Any) -> RunEvent:  # noqa: ANN401 - any field
    """Decode an event with these fields."""
    return KEEP.decode(json.dumps({"agent_run_id": "r"} | fields).encode())


@given(st.lists(st.one_of(st.just(GOOD), st.none(), st.binary(max_size=20), st.just(b'{"agent_run_id": 3}'))))
def test_good_records_come_through_whatever_stands_beside_them(values: list[bytes | None]) -> None:
    """Every record is either an event at its place or a rejection at its place; nothing raises."""
    found = KEEP.decode_batch(values)
    assert found.indices == [place for place, value in enumerate(values) if value == GOOD]
    rejected = [rejection.index for rejection in found.rejections]
    assert sorted([*found.indices, *rejected]) == list(range(len(values)))
    assert rejected == sorted(rejected)
    assert all(event == KEEP.decode(GOOD) for event in found.events)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "no value"),
        (b"[1]", "Expected `object`"),
        (b'{"agent_run_id": "r"', "not JSON"),
        (b"\xff\xfe", "not JSON|not UTF-8"),
        (b'{"agent_run_id": "\xff"}', "not UTF-8|not JSON"),
        (b"{}", "agent_run_id"),
        (b'{"agent_run_id": ""}', "agent_run_id"),
        (b'{"agent_run_id": "r", "success": 1}', "success"),
        (b'{"agent_run_id": "r", "agent_count": 0}', "agent_count"),
        (b'{"agent_run_id": "r", "agent_count": 2.5}', "agent_count"),
        (b'{"agent_run_id": "r", "quality_score": 1.1}', "quality_score"),
        (b'{"agent_run_id": "r", "time_to_complete": 0}', "time_to_complete"),
        (b'{"agent_run_id": "r", "total_cost": -1}', "total_cost"),
        (b'{"agent_run_id": "r", "total_cost": NaN}', "not JSON"),
        (b'{"agent_run_id": "r", "total_cost": 1e999}', "out of range|total_cost"),
        (b'{"agent_run_id": "r", "completed_at": "2026-01-01T00:00:00"}', "completed_at"),
        (b'{"agent_run_id": "r", "schema_version": 2}', "schema_version"),
        (b'{"agent_run_id": "r", "project_characteristics": {"a": [1]}}', "project_characteristics"),
    ],
)
def test_a_broken_rule_is_told_with_its_field(record: bytes | None, reason: str) -> None:
    """The message names the field and the rule."""
    with pytest.raises(InvalidEvent, match=reason):
        KEEP.decode(record)


def test_a_record_over_the_limit_is_rejected_and_its_neighbours_are_not() -> None:
    """max_event_bytes holds in a batch as for one record."""
    small = EventDecoder(load_settings(max_event_bytes=1024))
    large = json.dumps({"agent_run_id": "r", "project_characteristics": {"a": "x" * 1024}}).encode()
    found = small.decode_batch([GOOD, large, GOOD])
    assert found.indices == [0, 2]
    assert found.rejections[0].reason == f"the record has {len(large)} bytes; the limit max_event_bytes is 1024"


def test_unknown_fields_are_kept_under_project_characteristics_or_refused() -> None:
    """The setting decides; the event's own characteristics win over an unknown field of the same name."""
    record = json.dumps({"agent_run_id": "r", "team": "x", "tier": 1, "project_characteristics": {"tier": 2}}).encode()
    assert KEEP.decode(record).project_characteristics == {"team": "x", "tier": 2}
    with pytest.raises(InvalidEvent, match="unknown field `team`"):
        REFUSE.decode(record)
    with pytest.raises(InvalidEvent, match="success"):
        KEEP.decode(b'{"agent_run_id": "r", "team": "x", "success": "yes"}')
    with pytest.raises(InvalidEvent, match="project_characteristics"):
        KEEP.decode(json.dumps({"agent_run_id": "r"} | {f"f{number}": 1 for number in range(65)}).encode())


def test_some_fields_may_stand_under_project_characteristics() -> None:
    """The top level wins; numbers become text; other fields are not looked up there."""
    event = decoded(project_characteristics={"project": "p", "model": 7, "agent_count": 3, "model_params_b": 8})
    assert text_field(event, "project") == "p"
    assert text_field(event, "model") == "7"
    assert field(event, "agent_count") is None
    assert params_field(event) == 8
    assert text_field(decoded(project="top", project_characteristics={"project": "p"}), "project") == "top"
    assert text_field(decoded(project=""), "project") is None


@pytest.mark.parametrize("value", [0, -1, True, "7", 2_000_000, None])
def test_params_that_are_not_a_positive_number_are_ignored(value: object) -> None:
    """Free characteristics may hold anything; only a number of billions is a model size."""
    assert params_field(decoded(project_characteristics={"model_params_b": value})) is None


def test_complexity_labels_are_numbers_of_the_settings() -> None:
    """A number is itself, a label is what the settings say, nothing is nothing."""
    scale = {"trivial": 0.05, "low": 0.2, "medium": 0.5, "high": 0.7}
    assert complexity(decoded(task_complexity=0.3), scale) == 0.3
    assert complexity(decoded(task_complexity="high"), scale) == 0.7
    assert complexity(decoded(), scale) is None
    with pytest.raises(InvalidEvent):
        decoded(task_complexity="extreme")


def test_an_event_written_by_us_reads_back() -> None:
    """Encoding leaves out what is not said, and decoding gives the same event."""
    event = decoded(project="p", success=False, completed_at="2026-01-01T00:00:00Z", assigned_value=4)
    assert KEEP.decode(msgspec.json.encode(event)) == event
