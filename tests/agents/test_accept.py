"""Which records of a batch count: valid, in their own partition, and not from the future."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import xxhash

from agents.accept import Accepted, accept, completed_seconds, import_id_of
from agents.decode import EventDecoder
from analytics.partitions import partition_of
from models.batches import Batch
from models.events import RunEvent
from models.settings import load_settings

FOUR = load_settings(partitions=4)
STAMP = 1_750_000_000_000
HOUR = 3600


def accepted_of(*events: dict[str, Any] | bytes | None, partition: int = 0) -> Accepted:
    """Accept events as one batch of one of four partitions."""
    values = [json.dumps(event).encode() if isinstance(event, dict) else event for event in events]
    count = len(values)
    batch = Batch(
        "scaling.runs", partition, range(count), [STAMP] * count, [None] * count, values, [()] * count
    )  # fmt: skip
    return accept(batch, EventDecoder(FOUR), FOUR)


def names_of(partition: int, count: int) -> list[str]:
    """Find run ids that belong to a partition."""
    names = (f"run-{number}" for number in range(1000))
    return [name for name in names if partition_of(name.encode(), 4) == partition][:count]


def iso(seconds: float) -> str:
    """Write seconds since the epoch as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def test_runs_of_the_partition_are_accepted_with_their_hashes() -> None:
    """Places, xxh64 of the id and the time of completion; the Kafka timestamp stands in for it."""
    one, two = names_of(0, 2)
    found = accepted_of({"agent_run_id": one}, b"{", {"agent_run_id": two, "completed_at": "2025-06-15T12:00:00+02:00"})
    assert [event.agent_run_id for event in found.events] == [one, two]
    assert found.indices == [0, 2]
    assert found.id_hashes == [xxhash.xxh64(name.encode()).intdigest() for name in (one, two)]
    assert found.completed.tolist() == [STAMP / 1000, datetime(2025, 6, 15, 10, tzinfo=UTC).timestamp()]
    assert [rejection.index for rejection in found.rejections] == [1]
    assert found.misplaced == {}


def test_a_record_in_the_wrong_partition_is_misplaced_not_rejected() -> None:
    """It is told with its own partition, and the others of the batch are not touched by it."""
    (own,), (other,) = names_of(0, 1), names_of(3, 1)
    found = accepted_of(None, {"agent_run_id": other}, {"agent_run_id": own})
    assert found.misplaced == {1: 3}
    assert [event.agent_run_id for event in found.events] == [own]
    assert found.indices == [2]
    assert [rejection.index for rejection in found.rejections] == [0]


@pytest.mark.parametrize(("hours", "counts"), [(23.9, True), (24.1, False), (-20_000, True)])
def test_completion_more_than_a_day_after_the_record_is_rejected(hours: float, *, counts: bool) -> None:
    """A run cannot end a day after its record was written; it may have ended long before."""
    (name,) = names_of(0, 1)
    found = accepted_of({"agent_run_id": name, "completed_at": iso(STAMP / 1000 + hours * HOUR)})
    assert len(found.events) == counts
    assert [rejection.reason for rejection in found.rejections] == (
        [] if counts else ["completed_at lies 24 h after the record's Kafka timestamp; at most 24 h is accepted"]
    )


def test_an_early_record_in_the_wrong_partition_is_rejected_once() -> None:
    """It is not sent on to its own partition, where it would be rejected again."""
    (name,) = names_of(2, 1)
    found = accepted_of({"agent_run_id": name, "completed_at": iso(STAMP / 1000 + 48 * HOUR)})
    assert (found.events, found.misplaced, len(found.rejections)) == ([], {}, 1)


def test_completion_keeps_fractions_of_a_second() -> None:
    """Milliseconds of the Kafka timestamp and microseconds of the event are kept."""
    moment = datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    events = [RunEvent("a"), RunEvent("b", completed_at=moment)]
    assert completed_seconds(events, [1_500, 0]).tolist() == [1.5, moment.timestamp()]


def test_the_import_id_is_read_from_the_headers_and_made_safe() -> None:
    """At most 64 characters, no separator of keys, bytes that are not UTF-8 replaced; other headers do not matter."""
    assert import_id_of([("trace", b"1"), ("scaling-import-id", b"im|1")]) == "im_1"
    assert import_id_of([("scaling-import-id", b"\xff" + b"x" * 100)]) == "\ufffd" + "x" * 63
    assert import_id_of([("trace", b"1")]) is None
    assert import_id_of(()) is None


def test_an_import_header_without_a_value_stops_nobody() -> None:
    """Kafka allows headers without a value; they name no import."""
    assert import_id_of([("scaling-import-id", None)]) is None  # type: ignore[list-item]
