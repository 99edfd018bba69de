"""Which settings of topics have drifted, and which of them may be set right."""

import pytest

from models.topics import LAWS, RUNS, TOPICS
from streams.topic_settings import Drift, TopicSetting, find_drifts, wanted_settings

AS_WANTED = {
    spec.name: {name: TopicSetting(value, own=True) for name, value in wanted_settings(spec).items()} for spec in TOPICS
}


def with_setting(topic: str, name: str, value: str) -> dict[str, dict[str, TopicSetting]]:
    """Change one setting of one topic."""
    return AS_WANTED | {topic: AS_WANTED[topic] | {name: TopicSetting(value, own=True)}}


def test_topics_as_they_are_created_have_no_drift() -> None:
    """What models.topics does not name may be anything, and a topic that is missing has none."""
    assert find_drifts(AS_WANTED) == []
    assert find_drifts(with_setting(RUNS, "retention.ms", "-1")) == []
    assert find_drifts({}) == []


def test_a_drift_is_named_with_what_it_should_be() -> None:
    """Topic, setting, both values."""
    (drift,) = find_drifts(with_setting(RUNS, "max.message.bytes", "1000"))
    assert drift == Drift(RUNS, "max.message.bytes", "1000", "16777216")
    assert str(drift) == f"{RUNS} has max.message.bytes = 1000 and should have 16777216"


@pytest.mark.parametrize(
    ("topic", "name", "value", "dangerous"),
    [
        (RUNS, "cleanup.policy", "compact", True),
        (LAWS, "cleanup.policy", "delete", False),
        (LAWS, "cleanup.policy", "compact,delete", False),
        ("scaling.allocate.requests", "retention.ms", "-1", True),
        ("scaling.allocate.requests", "retention.ms", "7200000", True),
        ("scaling.allocate.requests", "retention.ms", "60000", False),
        ("scaling.assign.requests", "message.timestamp.type", "CreateTime", False),
    ],
)
def test_what_would_delete_records_is_left_to_a_person(topic: str, name: str, value: str, *, dangerous: bool) -> None:
    """A shorter retention and an end of compaction delete; a longer one and its beginning keep more."""
    (drift,) = find_drifts(with_setting(topic, name, value))
    assert (drift.danger is not None) == dangerous
