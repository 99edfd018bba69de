"""Turn what Kafka brings into columns for ClickHouse, and acknowledge it once it is there."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

import msgspec
import xxhash

from agents.accept import accept, import_id_of
from agents.decode import EventDecoder, complexity, params_field, text_field
from models.batches import Batch
from models.contexts import complexity_band
from models.events import RunEvent
from models.joint_laws import LawRecord, read_record
from models.laws import Law, Reference
from models.rejects import Rejected
from models.settings import Settings

OBSERVATIONS = "scaling_observations"
RECORDS = "scaling_records"
REJECTED = "scaling_rejected"
LAWS = "scaling_laws"

TableColumns = dict[str, list[Any]]
Tables = Mapping[str, TableColumns]
Acknowledge = Callable[[], Awaitable[None]]
Insert = Callable[[str, TableColumns], Awaitable[None]]

REVISION_SHIFT = 47
"""A row's version is revision * 2**47 + offset: the higher revision wins, then the later record."""

AS_THEY_ARE: tuple[str, ...] = (
    "agent_run_id",
    "revision",
    "agent_count",
    "parallelism_level",
    "total_iterations",
    "max_iterations",
    "retry_limit",
    "context_budget",
    "retry_count",
    "context_tokens",
    "model_size_category",
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
    "cost_source",
    "decision_id",
    "policy_version",
    "propensity",
    "experiment_id",
    "assignment_token",
)
TEXTS: tuple[str, ...] = ("project", "task_type", "task_id", "model")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LONGEST_INT = 2**63

_json = msgspec.json.Encoder().encode
_read_reject = msgspec.json.Decoder(Rejected).decode


def archive_runs(
    batch: Batch, decoder: EventDecoder, settings: Settings, now_ms: int
) -> tuple[TableColumns, TableColumns]:
    """Turn a batch of run events into the columns of scaling_observations and scaling_records.

    Records that are not accepted are left out: the stats worker publishes them on scaling.rejected, or, if they are
    only in another partition than their run id belongs to, once more to their own.

    Args:
        batch: Records of scaling.runs.
        decoder: The decoder of this deployment.
        settings: Its partition count and complexity scale are used.
        now_ms: The time of ingestion in milliseconds since the epoch.
    """
    accepted = accept(batch, decoder, settings)
    events = accepted.events
    if not events:
        return {}, {}
    observations = _observations(events, batch, accepted.indices, settings.complexity_scale.model_dump())
    observations["ingested_at"] = [now_ms] * len(events)
    records = {name: observations[name] for name in ("partition", "offset", "agent_run_id", "revision", "content_hash")}
    return observations, records


def _observations(
    events: Sequence[RunEvent], batch: Batch, indices: Sequence[int], scale: Mapping[str, float]
) -> TableColumns:
    """Build one list a column. Times are ticks: a datetime object a row would cost more than all the rest."""
    count = len(events)
    offsets = [batch.offsets[index] for index in indices]
    columns: TableColumns = {name: list(map(attrgetter(name), events)) for name in AS_THEY_ARE}
    columns |= {name: [getattr(event, name) or text_field(event, name) for event in events] for name in TEXTS}
    complexities = [complexity(event, scale) for event in events]
    return columns | {
        "version": [(event.revision << REVISION_SHIFT) + offset for event, offset in zip(events, offsets, strict=True)],
        "completed_at": [
            batch.timestamps[index] if event.completed_at is None else (event.completed_at - EPOCH) // MILLISECOND
            for event, index in zip(events, indices, strict=True)
        ],
        "model_params_b": [event.model_params_b or params_field(event) for event in events],
        "task_complexity": complexities,
        "complexity_band": [None if value is None else complexity_band(value) for value in complexities],
        # msgspec and not orjson: an integer beyond 64 bits is valid JSON, and orjson refuses to write it.
        "project_characteristics": [_json(event.project_characteristics or {}).decode() for event in events],
        "assigned_value": [text_of_value(event.assigned_value) for event in events],
        "topic": [batch.topic] * count,
        "partition": [batch.partition] * count,
        "offset": offsets,
        "content_hash": [xxhash.xxh64_intdigest(batch.values[index] or b"") for index in indices],
        "import_id": [import_id_of(batch.headers[index]) if batch.headers[index] else None for index in indices],
    }


def text_of_value(value: float | str | None) -> str | None:
    """Write an assigned value as text; a whole number without a fraction, as orchestrators write it."""
    return value if value is None or isinstance(value, str) else repr(value).removesuffix(".0")


def archive_rejected(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn a batch of reject records into the columns of scaling_rejected.

    Returns:
        The columns, and one sentence for each record that cannot be read.
    """
    rejects: list[Rejected] = []
    problems: list[str] = []
    for index, value in enumerate(batch.values):
        try:
            reject = _read_reject(value or b"")
            check_range(partition=reject.partition, offset=reject.offset, size=reject.size)
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            problems.append(problem_with(batch, index, error))
        else:
            rejects.append(reject)
    names = (name for name in Rejected.__struct_fields__ if name != "schema_version")
    return ({name: list(map(attrgetter(name), rejects)) for name in names} if rejects else {}), problems


def archive_laws(batch: Batch) -> tuple[TableColumns, list[str]]:
    """Turn a batch of law records into the columns of scaling_laws; a record without a value (a tombstone) is skipped.

    Returns:
        The columns, and one sentence for each record that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for index, value in enumerate(batch.values):
        if value is None:
            continue
        try:
            law = read_record((batch.keys[index] or b"").decode(), value)
            rows.append(_law_row(law) | {"record": value.decode()})
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
            problems.append(problem_with(batch, index, error))
    return ({name: [row[name] for row in rows] for name in rows[0]} if rows else {}), problems


def _law_row(law: LawRecord) -> dict[str, Any]:
    """Spread what people ask a law for over columns of its own; a joint law has neither exponent nor curve nor knee."""
    check_range(epoch=law.epoch, version=law.version, n=law.n)
    basis, published, knee, reference = (
        (law.basis, law.published, law.knee, law.reference) if isinstance(law, Law) else (None, None, None, Reference())
    )
    power = reference.power
    exponent = power.exponent if power else None
    return {
        "law_id": law.law_id,
        "epoch": law.epoch,
        "version": law.version,
        "tier": law.tier,
        "context": law.context,
        "dimension": law.dimension,
        "outcome": law.outcome,
        "fitted_at": ticks(law.fitted_at),
        "n": law.n,
        "status": law.status,
        "evidence": law.evidence,
        "basis": basis,
        "exponent": exponent.estimate if exponent else None,
        "exponent_se": exponent.se if exponent else None,
        "exponent_lo": exponent.lo if exponent else None,
        "exponent_hi": exponent.hi if exponent else None,
        "r_squared": power.r_squared if power else None,
        "interpretation": power.interpretation if power else None,
        "family": published.family if published else None,
        "knee": knee.value if knee else None,
        "knee_lo": knee.lo if knee else None,
        "knee_hi": knee.hi if knee else None,
        "reference_knee": reference.knee.value if reference.knee else None,
        "recommended_value": reference.recommended_value,
        "settings_hash": law.settings_hash,
    }


def ticks(moment: str) -> int:
    """Read an RFC 3339 time as milliseconds since the epoch."""
    return (msgspec.convert(moment, datetime).astimezone(UTC) - EPOCH) // MILLISECOND


def check_range(**numbers: int) -> None:
    """Refuse a number that no column could hold: it would keep its whole insert, and the archive, from going on."""
    for name, number in numbers.items():
        if not 0 <= number < LONGEST_INT:
            raise ValueError(f"{name} = {number} is not between 0 and 2^63 - 1")


def problem_with(batch: Batch, index: int, error: Exception) -> str:
    """Say which record cannot be archived, and why."""
    return f"the record {batch.topic}[{batch.partition}]@{batch.offsets[index]} cannot be archived: {error}"


def merge_columns(parts: Iterable[TableColumns]) -> TableColumns:
    """Append columns of the same names; parts without rows may be empty."""
    merged: TableColumns = {}
    for part in parts:
        for name, values in part.items():
            merged.setdefault(name, []).extend(values)
    return merged


async def archive(
    batches: AsyncIterable[tuple[Batch, Acknowledge]],
    tables_of: Callable[[Batch], Tables],
    insert: Insert,
    *,
    rows: int,
    seconds: float,
) -> None:
    """Insert batches, several at once, and acknowledge each after the insert that holds it has succeeded.

    A batch waits for `seconds` at the most, also when no other follows it. When the stream ends, or raises, what was
    collected is inserted first. When an insert raises, or this coroutine is cancelled, nothing that was collected is
    acknowledged: Kafka brings it again, and inserting it again changes nothing.

    Args:
        batches: Batches with what acknowledges each.
        tables_of: The columns of each table that a batch brings.
        insert: Writes columns to a table; returns when they are stored.
        rows: Records that are collected before an insert is forced.
        seconds: Longest time that a batch waits for others.
    """
    # The stream is read by one task from beginning to end: giving up on it at a deadline would cancel its generator.
    arrivals: asyncio.Queue[Arrival | None] = asyncio.Queue(maxsize=1)
    reader = asyncio.create_task(_read(batches, tables_of, arrivals))
    try:
        going = True
        while going:
            collected, going = await _collect(arrivals, rows, seconds)
            await _store([arrival.tables for arrival in collected], insert)
            for arrival in collected:
                await arrival.acknowledge()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A batch as columns, how many records it had, and what acknowledges it."""

    tables: Tables
    records: int
    acknowledge: Acknowledge


async def _read(
    batches: AsyncIterable[tuple[Batch, Acknowledge]],
    tables_of: Callable[[Batch], Tables],
    arrivals: asyncio.Queue[Arrival | None],
) -> None:
    """Queue what arrives, and None at the end; a batch becomes columns while the insert before it is under way."""
    try:
        async for batch, acknowledge in batches:
            await arrivals.put(Arrival(tables_of(batch), len(batch), acknowledge))
    except Exception:
        await arrivals.put(None)
        raise
    await arrivals.put(None)


async def _collect(arrivals: asyncio.Queue[Arrival | None], rows: int, seconds: float) -> tuple[list[Arrival], bool]:
    """Take arrivals until there are enough, the first has waited long enough, or the stream has ended (False)."""
    collected: list[Arrival] = []
    records = 0
    arrival = await arrivals.get()
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while arrival is not None:
            collected.append(arrival)
            records += arrival.records
            if records >= rows:
                return collected, True
            async with asyncio.timeout_at(deadline):
                arrival = await arrivals.get()
    except TimeoutError:
        return collected, True
    return collected, False


async def _store(tables: Sequence[Tables], insert: Insert) -> None:
    for name in dict.fromkeys(name for each in tables for name in each):
        columns = merge_columns(each[name] for each in tables if name in each)
        if columns:
            await insert(name, columns)
