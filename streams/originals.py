"""Rejected records as they were published: from ClickHouse, and from their topic where a reject keeps only the head."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from models.errors import ScalingError
from models.rejects import PAYLOAD_BYTES
from models.settings import Settings
from streams.clickhouse import query
from streams.kafka_clients import reader

PAGE = 200
REREAD_MS = 10_000
FIRST_OF_CONTENT = (
    "(topic, partition, offset) IN (SELECT min((topic, partition, offset)) FROM rejected WHERE true GROUP BY sha256)"
)
"""Equal records break the same rule: without this, every replay of all would double what stays broken."""
COORDINATES = "concat(topic, ':', toString(partition), ':', toString(offset))"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rejected records: of one import, at some coordinates (topic:partition:offset), or, with neither, all."""

    import_id: str | None = None
    coordinates: tuple[str, ...] = ()

    @property
    def condition(self) -> tuple[str, dict[str, Any]]:
        """The condition in SQL, and its parameters."""
        if self.import_id is not None:
            return "import_id = {import_id:String}", {"import_id": self.import_id}
        if self.coordinates:
            return f"{COORDINATES} IN {{coordinates:Array(String)}}", {"coordinates": list(self.coordinates)}
        return "true", {}


@dataclass(frozen=True, slots=True)
class Original:
    """A rejected record: where it was, and its payload; None when it is gone, and `gone` then says why."""

    topic: str
    partition: int
    offset: int
    payload: bytes | None
    gone: str = ""


def count_rejected(settings: Settings, selection: Selection) -> int:
    """Count the rejected records of a selection.

    Raises:
        QueryError: ClickHouse refuses the query.
        NotReachable: ClickHouse does not answer.
    """
    condition, parameters = selection.condition
    sql = f"SELECT count() FROM rejected WHERE {condition}"  # noqa: S608 - the conditions are constants
    return int(query(settings, sql, parameters=parameters).rows[0][0])


def list_rejected(settings: Settings, selection: Selection, limit: int) -> list[dict[str, Any]]:
    """List the latest rejected records of a selection, each with the first 200 characters of its payload.

    Raises:
        QueryError: ClickHouse refuses the query.
        NotReachable: ClickHouse does not answer.
    """
    condition, parameters = selection.condition
    found = query(
        settings,
        "SELECT topic, partition, offset, timestamp, reason, size, import_id, encoding, "  # noqa: S608 - as above
        f"substringUTF8(payload, 1, 200) AS payload_head FROM rejected WHERE {condition} "
        "ORDER BY timestamp DESC, topic, partition, offset DESC LIMIT {limit:UInt32}",
        parameters=parameters | {"limit": limit},
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


async def read_originals(settings: Settings, selection: Selection) -> AsyncIterator[Sequence[Original]]:
    """Yield the originals of a selection, some at a time and of one topic partition, in the order of their offsets.

    Of records with the same content only the first is read, unless coordinates are given.

    Raises:
        QueryError: ClickHouse refuses the query.
        NotReachable: ClickHouse or Kafka does not answer.
        ScalingError: A coordinate of the selection was not rejected.
    """
    unknown = set(selection.coordinates)
    last: Mapping[str, Any] = {"topic": "", "partition": 0, "offset": 0}
    while rows := await asyncio.to_thread(_page, settings, selection, last):
        last = rows[-1]
        unknown -= {f"{row['topic']}:{row['partition']}:{row['offset']}" for row in rows}
        for place, part in _by_partition(rows):
            yield await _originals(settings, place, part)
    if unknown:
        raise ScalingError(
            f"{', '.join(sorted(unknown))} is not among the rejected records: see them with scaling rejected list"
        )


def _page(settings: Settings, selection: Selection, last: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    condition, parameters = selection.condition
    if not selection.coordinates:
        condition = f"({condition}) AND {FIRST_OF_CONTENT.replace('true', condition)}"
    after = {f"last_{name}": last[name] for name in ("topic", "partition", "offset")}
    found = query(
        settings,
        f"SELECT topic, partition, offset, size, sha256, encoding, payload FROM rejected WHERE {condition} "  # noqa: S608 - as above
        "AND (topic, partition, offset) > ({last_topic:String}, {last_partition:UInt16}, {last_offset:UInt64}) "
        f"ORDER BY topic, partition, offset LIMIT {PAGE}",
        parameters=parameters | after,
    )
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _by_partition(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[TopicPartition, list[Mapping[str, Any]]]]:
    places = [TopicPartition(row["topic"], row["partition"]) for row in rows]
    for place in dict.fromkeys(places):
        yield place, [row for row, its in zip(rows, places, strict=True) if its == place]


async def _originals(
    settings: Settings, place: TopicPartition, rows: Sequence[Mapping[str, Any]]
) -> Sequence[Original]:
    if all(row["size"] <= PAYLOAD_BYTES for row in rows):
        return [_original(place, row) for row in rows]
    async with reader(settings, place.topic, [place.partition]) as consumer:
        first = (await consumer.beginning_offsets([place]))[place]
        return [
            _original(place, row) if row["size"] <= PAYLOAD_BYTES else await _reread(consumer, place, row, first)
            for row in rows
        ]


def _original(place: TopicPartition, row: Mapping[str, Any]) -> Original:
    text: str = row["payload"]
    payload = base64.b64decode(text) if row["encoding"] == "base64" else text.encode()
    return Original(place.topic, place.partition, row["offset"], payload)


async def _reread(consumer: AIOKafkaConsumer, place: TopicPartition, row: Mapping[str, Any], first: int) -> Original:
    """Read a record from its topic once more, and make sure that it is the same."""
    offset = row["offset"]
    head = f"of its {row['size']} bytes only the first {PAYLOAD_BYTES} were kept"
    if offset < first:
        return Original(
            place.topic, place.partition, offset, None, f"{head}, and {place.topic} does not retain it any more"
        )
    consumer.seek(place, offset)
    fetched = await consumer.getmany(place, timeout_ms=REREAD_MS, max_records=1)
    payload = next((record.value for record in fetched.get(place, ()) if record.offset == offset), None)
    sha256 = row["sha256"].decode() if isinstance(row["sha256"], bytes) else row["sha256"]
    if payload is None or hashlib.sha256(payload).hexdigest() != sha256:
        return Original(
            place.topic, place.partition, offset, None, f"{head}, and {place.topic} holds another record there now"
        )
    return Original(place.topic, place.partition, offset, payload)
