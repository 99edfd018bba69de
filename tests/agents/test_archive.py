"""What the archive writes, and when it acknowledges."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from agents.archive import (
    Acknowledge,
    TableColumns,
    Tables,
    archive,
    archive_laws,
    archive_rejected,
    archive_runs,
    merge_columns,
)
from agents.decode import EventDecoder
from agents.rejects import reject_record
from analytics.partitions import partition_of
from models.batches import Batch, Headers
from models.joint_laws import JointLaw
from models.laws import Estimate, Knee, Law, PowerFit, Published, Reference, ReferenceKnee
from models.settings import Settings, load_settings

ONE = load_settings(partitions=1)
NOW = 1_750_000_000_000


def batch_of(
    values: Sequence[bytes | None],
    *,
    partition: int = 0,
    first_offset: int = 100,
    headers: Mapping[int, Headers] | None = None,
    topic: str = "scaling.runs",
) -> Batch:
    """Make a batch of these values with offsets in steps of two."""
    count = len(values)
    return Batch(
        topic=topic,
        partition=partition,
        offsets=range(first_offset, first_offset + 2 * count, 2),
        timestamps=[NOW + index for index in range(count)],
        keys=[None] * count,
        values=values,
        headers=[(headers or {}).get(index, ()) for index in range(count)],
    )


def event(run: str, **fields: Any) -> bytes:  # noqa: ANN401 - any field
    """Write an event as JSON."""
    return json.dumps({"agent_run_id": run} | fields).encode()


def archived(*values: bytes | None, settings: Settings = ONE, **batch: Any) -> tuple[TableColumns, TableColumns]:  # noqa: ANN401
    """Archive one batch."""
    return archive_runs(batch_of(values, **batch), EventDecoder(settings), settings, NOW)


def row(*values: bytes, settings: Settings = ONE, **batch: Any) -> dict[str, Any]:  # noqa: ANN401
    """Archive one batch and take its first observation."""
    observations, _ = archived(*values, settings=settings, **batch)
    return {name: column[0] for name, column in observations.items()}


def test_an_observation_holds_every_field_of_its_event() -> None:
    """Each field stands in the column of its name, and where the record was stands beside it."""
    fields = {
        "revision": 3,
        "project": "shop",
        "task_type": "bug",
        "task_id": "T-1",
        "model": "m",
        "task_complexity": 0.5,
        "agent_count": 4,
        "parallelism_level": 2,
        "total_iterations": 9,
        "max_iterations": 10,
        "retry_limit": 2,
        "context_budget": 200_000,
        "retry_count": 1,
        "context_tokens": 150_000,
        "model_size_category": "large",
        "model_params_b": 70.0,
        "success": True,
        "quality_score": 0.75,
        "time_to_complete": 12.5,
        "total_cost": 0.0,
        "cost_source": "reported",
        "decision_id": "d",
        "policy_version": "p",
        "propensity": 0.25,
        "experiment_id": "e",
        "assigned_value": "large",
        "assignment_token": "t",
    }
    value = event("run-1", completed_at="2025-03-01T12:34:56.789+02:00", **fields)
    completed = datetime.fromisoformat("2025-03-01T10:34:56.789+00:00")

    assert row(value, headers={0: [("scaling-import-id", b"import-1")]}) == fields | {
        "agent_run_id": "run-1",
        "version": 3 * 2**47 + 100,
        "completed_at": round(completed.timestamp() * 1000),
        "complexity_band": "medium",
        "project_characteristics": "{}",
        "topic": "scaling.runs",
        "partition": 0,
        "offset": 100,
        "content_hash": int(xxhash.xxh64(value).hexdigest(), 16),
        "import_id": "import-1",
        "ingested_at": NOW,
    }


def test_a_bare_event_is_archived_with_the_kafka_timestamp() -> None:
    """An event that says nothing but its id is a row of nulls at the time Kafka gave it."""
    bare = row(event("run-1"))

    assert bare["completed_at"] == NOW
    assert {name for name, value in bare.items() if value is None} >= {
        "project",
        "success",
        "task_complexity",
        "import_id",
    }


def test_fields_are_looked_up_in_the_characteristics() -> None:
    """What is absent at the top level comes from project_characteristics; what is present there wins."""
    characteristics = {
        "project": "inner",
        "task_type": 7,
        "task_id": "T",
        "model": "m",
        "model_params_b": 8,
        "lang": "py",
    }
    found = row(event("run-1", project="outer", project_characteristics=characteristics))

    assert [found[name] for name in ("project", "task_type", "task_id", "model", "model_params_b")] == [
        "outer",
        "7",
        "T",
        "m",
        8.0,
    ]
    assert json.loads(found["project_characteristics"]) == characteristics


def test_unknown_fields_are_kept_in_the_characteristics() -> None:
    """A field that the wire format does not know is not lost."""
    assert json.loads(row(event("run-1", team="blue"))["project_characteristics"]) == {"team": "blue"}


def test_a_huge_integer_does_not_stop_the_archive() -> None:
    """An integer beyond 64 bits is valid JSON and is written as it came."""
    found = row(event("run-1", project_characteristics={"id": 2**90}))

    assert json.loads(found["project_characteristics"]) == {"id": 2**90}


@pytest.mark.parametrize(
    ("given_complexity", "number", "band"),
    [("low", 0.35, "low"), ("high", 0.9, "high"), (0.19, 0.19, "trivial"), (0.5, 0.5, "medium"), (None, None, None)],
)
def test_complexity_labels_become_numbers_and_numbers_bands(
    given_complexity: str | float | None, number: float | None, band: str | None
) -> None:
    """A label is mapped by the setting; the band follows from the number."""
    found = row(event("run-1", task_complexity=given_complexity))

    assert (found["task_complexity"], found["complexity_band"]) == (number, band)


@pytest.mark.parametrize(("assigned", "text"), [(4, "4"), (0.25, "0.25"), ("large", "large"), (None, None)])
def test_an_assigned_value_is_kept_as_text(assigned: float | str | None, text: str | None) -> None:
    """Numbers and labels share one column; whole numbers have no fraction."""
    assert row(event("run-1", assigned_value=assigned))["assigned_value"] == text


def test_a_malformed_record_does_not_take_its_neighbours_with_it() -> None:
    """Records that are no events are left out; the others keep their own offsets, hashes and import ids."""
    good = [event("a"), event("b")]
    observations, records = archived(
        b"not json", good[0], None, b'{"agent_run_id": ""}', good[1], headers={4: [("scaling-import-id", b"i")]}
    )

    assert observations["agent_run_id"] == ["a", "b"]
    assert observations["offset"] == [102, 108]
    assert observations["completed_at"] == [NOW + 1, NOW + 4]
    assert observations["import_id"] == [None, "i"]
    assert records == {
        "partition": [0, 0],
        "offset": [102, 108],
        "agent_run_id": ["a", "b"],
        "revision": [0, 0],
        "content_hash": [xxhash.xxh64_intdigest(value) for value in good],
    }


def test_a_run_from_the_future_is_not_archived() -> None:
    """A record that the stats worker refuses for its time is refused here too: both count the same runs."""
    assert archived(event("run-1", completed_at="2100-01-01T00:00:00Z")) == ({}, {})


def test_a_batch_without_events_has_no_rows() -> None:
    """Nothing to insert is no columns, whatever the reason."""
    assert archived() == ({}, {})
    assert archived(b"no", None) == ({}, {})
    settings = load_settings(partitions=2)
    wrong = 1 - partition_of(b"run-1", 2)
    assert archived(event("run-1"), settings=settings, partition=wrong) == ({}, {})


@given(
    st.lists(st.one_of(st.binary(max_size=4), st.text("abcdé🙂", min_size=1, max_size=6)), max_size=30),
    st.integers(0, 2),
)
def test_only_valid_records_of_this_partition_are_archived(contents: list[bytes | str], partition: int) -> None:
    """Of any mix of events, misplaced events and rubbish exactly the events of the partition are left, in order."""
    settings = load_settings(partitions=3)
    values = [event(content) if isinstance(content, str) else content for content in contents]
    expected = [
        (content, 100 + 2 * index)
        for index, content in enumerate(contents)
        if isinstance(content, str) and partition_of(content.encode(), 3) == partition
    ]

    observations, records = archived(*values, settings=settings, partition=partition)

    for columns in (observations, records):
        found = list(zip(columns.get("agent_run_id", []), columns.get("offset", []), strict=True))
        assert found == expected
        assert len({len(column) for column in columns.values()}) <= 1


REFUSED = ((0, "not JSON", None), (1, "no id", "i"))


def test_rejects_become_rows_and_unreadable_ones_problems() -> None:
    """A reject record is a row by its source's coordinates; what cannot be read is counted and never raised."""
    source = batch_of([b"\xff", b"{}"], partition=2, headers={1: [("trace", b"1")]})
    first, second = (reject_record(source, index, reason, run)[1] for index, reason, run in REFUSED)
    negative = first.replace(b'"offset":100', b'"offset":-1')
    values = [first, b"rubbish", None, second, negative]

    columns, problems = archive_rejected(batch_of(values, topic="scaling.rejected"))

    assert columns["offset"] == [100, 102]
    assert columns["partition"] == [2, 2]
    assert columns["reason"] == ["not JSON", "no id"]
    assert columns["payload"] == ["/w==", "{}"]
    assert columns["encoding"] == ["base64", "utf-8"]
    assert columns["headers"] == [{}, {"trace": "1"}]
    assert columns["import_id"] == [None, "i"]
    assert ["scaling.rejected[0]@102" in problems[0], "@104" in problems[1], "offset = -1" in problems[2]] == [True] * 3
    assert len(problems) == 3


LAW = Law(
    law_id="global|agent_count|success|live",
    tier="live",
    context="global",
    dimension="agent_count",
    outcome="success",
    version=4,
    epoch=2,
    fitted_at="2025-03-01T12:00:00.5Z",
    n=120,
    status="established",
    evidence="associational",
    settings_hash="abc",
    basis="realised",
    reference=Reference(
        power=PowerFit(
            Estimate(0.4, 0.1, 0.2, 0.6), Estimate(1.0, 0.1, 0.8, 1.2), 0.9, interpretation="logarithmic", clip="none"
        ),
        knee=ReferenceKnee(3.0, 2.0, 5.0, "10 %"),
        recommended_value=4.0,
    ),
    published=Published("plateau", {"plateau": 0.7, "power": 0.3}, {}, [], "families"),
    knee=Knee(4.0, 3.0, 6.0, "the next unit costs more than it brings"),
)


def test_a_law_becomes_a_row_with_its_whole_record() -> None:
    """The numbers that people ask for stand in columns, and the record beside them loses nothing."""
    value = msgspec.json.encode(LAW)
    columns, problems = archive_laws(batch_of([value], topic="scaling.laws"))

    assert problems == []
    assert {name: column[0] for name, column in columns.items()} == {
        "law_id": LAW.law_id,
        "epoch": 2,
        "version": 4,
        "tier": "live",
        "context": "global",
        "dimension": "agent_count",
        "outcome": "success",
        "fitted_at": round(datetime(2025, 3, 1, 12, 0, 0, 500_000, tzinfo=UTC).timestamp() * 1000),
        "n": 120,
        "status": "established",
        "evidence": "associational",
        "basis": "realised",
        "exponent": 0.4,
        "exponent_se": 0.1,
        "exponent_lo": 0.2,
        "exponent_hi": 0.6,
        "r_squared": 0.9,
        "interpretation": "logarithmic",
        "family": "plateau",
        "knee": 4.0,
        "knee_lo": 3.0,
        "knee_hi": 6.0,
        "reference_knee": 3.0,
        "recommended_value": 4.0,
        "settings_hash": "abc",
        "record": value.decode(),
    }


def test_a_joint_law_is_a_row_of_the_dimension_joint(make_joint_law: Callable[..., JointLaw]) -> None:
    """It stands beside laws of one dimension in the same columns; exponent, curve and knee are null."""
    joint = make_joint_law(version=3, epoch=2)
    records = {LAW.law_id: msgspec.json.encode(LAW), joint.law_id: msgspec.json.encode(joint)}
    batch = replace(batch_of([*records.values()], topic="scaling.laws"), keys=[name.encode() for name in records])
    columns, problems = archive_laws(batch)

    assert problems == []
    row = {name: column[1] for name, column in columns.items()}
    assert (row["law_id"], row["dimension"], row["outcome"], row["tier"]) == (
        "global|joint|success|audited",
        "joint",
        "success",
        "audited",
    )
    assert (row["version"], row["epoch"], row["n"], row["record"]) == (3, 2, 200, records[joint.law_id].decode())
    of_one = {"basis", "family", "interpretation", "r_squared", "recommended_value", "reference_knee"}
    of_one |= {"exponent", "exponent_se", "exponent_lo", "exponent_hi", "knee", "knee_lo", "knee_hi"}
    assert {name for name, value in row.items() if value is None} == of_one


def test_tombstones_are_skipped_and_unreadable_laws_are_problems() -> None:
    """A law that was withdrawn leaves no row; a bad record leaves a problem and its neighbours alone."""
    bare = msgspec.structs.replace(LAW, reference=Reference(), published=None, knee=None)
    bad_time = msgspec.structs.replace(LAW, fitted_at="yesterday")
    huge = msgspec.structs.replace(LAW, version=2**70)
    values = [None, b"{}", *(msgspec.json.encode(law) for law in (bad_time, bare, huge))]

    columns, problems = archive_laws(batch_of(values, topic="scaling.laws"))

    assert columns["law_id"] == [LAW.law_id]
    assert [columns[name] for name in ("exponent", "knee", "family", "recommended_value")] == [[None]] * 4
    assert len(problems) == 3


def test_merged_columns_are_appended() -> None:
    """Columns of the same names are put one behind the other; empty parts count for nothing."""
    assert merge_columns([{}, {"a": [1], "b": ["x"]}, {}, {"a": [2, 3], "b": ["y", "z"]}]) == {
        "a": [1, 2, 3],
        "b": ["x", "y", "z"],
    }
    assert merge_columns([]) == {}


class Diary:
    """Writes down what the archive does, in order."""

    def __init__(self) -> None:
        self.entries: list[object] = []
        self.inserted = asyncio.Event()

    async def insert(self, table: str, columns: TableColumns) -> None:
        """Note an insert."""
        self.entries.append((table, columns["value"]))
        self.inserted.set()

    def arrival(self, *values: bytes) -> tuple[Batch, Acknowledge]:
        """Make a batch whose acknowledgement is noted."""

        async def acknowledge() -> None:
            self.entries.append(f"ack {values}")

        return batch_of(values), acknowledge


def tables_of(batch: Batch) -> Tables:
    """Put every record in two tables, as runs are."""
    return {name: {"value": list(batch.values)} if len(batch) else {} for name in ("first", "second")}


async def stream_of(*arrivals: tuple[Batch, Acknowledge]) -> AsyncIterator[tuple[Batch, Acknowledge]]:
    """Deliver these and end."""
    for arrival in arrivals:
        yield arrival


async def test_batches_are_collected_and_acknowledged_after_their_insert() -> None:
    """Two batches of two records fill an insert of four; the rest goes when the stream ends, acks follow inserts."""
    diary = Diary()
    batches = [diary.arrival(b"1", b"2"), diary.arrival(b"3", b"4"), diary.arrival(b"5")]

    await archive(stream_of(*batches), tables_of, diary.insert, rows=4, seconds=3600)

    assert diary.entries == [
        ("first", [b"1", b"2", b"3", b"4"]),
        ("second", [b"1", b"2", b"3", b"4"]),
        "ack (b'1', b'2')",
        "ack (b'3', b'4')",
        ("first", [b"5"]),
        ("second", [b"5"]),
        "ack (b'5',)",
    ]


async def test_a_lone_batch_does_not_wait_for_the_next() -> None:
    """What has been collected is inserted after `seconds` although nothing follows, and the stream reads on."""
    diary = Diary()
    go_on = asyncio.Event()

    async def stream() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        yield diary.arrival(b"1")
        await go_on.wait()
        yield diary.arrival(b"2")

    running = asyncio.create_task(archive(stream(), tables_of, diary.insert, rows=1000, seconds=0.01))
    await diary.inserted.wait()
    go_on.set()
    await running

    assert [entry for entry in diary.entries if isinstance(entry, str)] == ["ack (b'1',)", "ack (b'2',)"]


async def test_a_batch_without_rows_is_acknowledged_without_an_insert() -> None:
    """A batch of nothing but rejected records must not hold up the commits."""
    diary = Diary()

    await archive(stream_of(diary.arrival()), tables_of, diary.insert, rows=10, seconds=3600)

    assert diary.entries == ["ack ()"]


async def test_nothing_is_acknowledged_when_the_insert_fails() -> None:
    """An insert that gives up is raised, and Kafka keeps the batches."""
    diary = Diary()

    async def refuse(table: str, _columns: TableColumns) -> None:
        raise ValueError(table)

    with pytest.raises(ValueError, match="first"):
        await archive(stream_of(diary.arrival(b"1")), tables_of, refuse, rows=1, seconds=3600)
    assert diary.entries == []


async def test_what_came_before_an_error_of_the_stream_is_stored() -> None:
    """The stream's error is raised after what it had delivered has been inserted and acknowledged."""
    diary = Diary()

    async def stream() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        yield diary.arrival(b"1")
        raise ValueError("revoked")

    with pytest.raises(ValueError, match="revoked"):
        await archive(stream(), tables_of, diary.insert, rows=1000, seconds=3600)
    assert diary.entries[-1] == "ack (b'1',)"


async def test_a_cancelled_archive_acknowledges_nothing_and_closes_its_stream() -> None:
    """Stopping in the middle of an insert leaves the batch to be read again, and no task behind."""
    diary = Diary()
    inserting, closed = asyncio.Event(), asyncio.Event()

    async def stream() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        try:
            for number in range(100):
                yield diary.arrival(str(number).encode())
        finally:
            closed.set()

    async def insert(_table: str, _columns: TableColumns) -> None:
        inserting.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(archive(stream(), tables_of, insert, rows=1, seconds=3600))
    await inserting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert diary.entries == []
    await closed.wait()
    assert asyncio.all_tasks() == {asyncio.current_task()}
