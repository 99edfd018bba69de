"""The live tables: as stored, as plain observers that never stop fold them from the log, and where the two differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from aiokafka import ConsumerRecord

from agents.decode import EventDecoder
from agents.moment_table import decode_rows
from agents.observer import Counts, Cut, Observer
from analytics.moments import triangle
from models.batches import Batch
from models.settings import Settings
from models.topics import CELLS_TABLE, GRAMS_TABLE, REJECTED, RUNS, TABLES
from streams.kafka_clients import read_compacted
from streams.ledger import Ledger
from streams.run_records import batch_of

VARIABLES = {False: 8, True: 10}
GRAM_VARIABLES = 13
CHUNK = 2000

Tables = dict[str, dict[bytes, bytes]]
Log = dict[int, Batch]
"""What stands in each partition of scaling.runs."""


@dataclass
class Undisturbed:
    """What observers that never stop make of the log: tables, dead letters by key, and counts over all partitions."""

    tables: Tables = field(default_factory=lambda: {table: {} for table in TABLES})
    rejected: dict[bytes, bytes] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    next_offsets: dict[int, int] = field(default_factory=dict)


async def read_log(settings: Settings) -> Log:
    """Read every committed record of scaling.runs."""
    records: dict[int, list[ConsumerRecord]] = {number: [] for number in range(settings.partitions)}
    async for record in read_compacted(settings, RUNS):
        records[record.partition].append(record)
    return {partition: batch_of(partition, found) for partition, found in records.items()}


def fold(settings: Settings, log: Log) -> Undisturbed:
    """Fold the log by an observer for each partition that never stops."""
    found = Undisturbed()
    decoder = EventDecoder(settings)
    for partition, batch in log.items():
        observer = Observer(partition, settings, decoder)
        for at in range(0, len(batch), CHUNK):
            part = batch.slice(at, at + CHUNK)
            observer.observe(_read_from(part, observer.next_offset))
        if not len(batch):
            continue
        places = {offset: place for place, offset in enumerate(batch.offsets)}
        while replaced := observer.replaced:
            observer.take_out(replaced, batch.take([places[offset] for offset in replaced]))
        flush = observer.drain()
        for table, changes in flush.tables.items():
            found.tables[table] |= {key: value for key, value in changes.items() if value is not None}
        found.rejected |= {each.key or b"": each.value or b"" for each in flush.records if each.topic == REJECTED}
        found.next_offsets[partition] = observer.next_offset
        for name in Counts.__slots__:
            setattr(found.counts, name, getattr(found.counts, name) + getattr(observer.counts, name))
    return found


def _read_from(batch: Batch, start: int) -> Batch:
    """Say that a batch was read from `start` on: between transaction markers nothing is missing."""
    return Batch(
        batch.topic,
        batch.partition,
        batch.offsets,
        batch.timestamps,
        batch.keys,
        batch.values,
        batch.headers,
        start,
    )


async def stored(settings: Settings) -> Tables:
    """Read the tables back from their changelogs, as a new owner of all partitions would; earlier owners are fenced."""
    ledger = Ledger(settings)
    await ledger.take(1, range(settings.partitions))
    tables: Tables = {table: {} for table in TABLES}
    for owned in ledger.owned.values():
        for table, entries in owned.tables.items():
            tables[table] |= entries
    await ledger.release()
    return tables


def compare_tables(found: Tables, expected: Tables, *, corrected: bool = False) -> Iterator[str]:
    """Name where tables differ: keys, counts and offsets exactly, moments within the promise of docs/wire.md.

    Args:
        found: As stored.
        expected: As folded.
        corrected: Whether runs were taken out again, which leaves rounding of what they were.
    """
    for table in TABLES:
        for key in sorted(found[table].keys() ^ expected[table].keys()):
            yield f"table {table}: {key.decode()} is {'in excess' if key in found[table] else 'missing'}"
        for key in sorted(found[table].keys() & expected[table].keys()):
            yield from _compare_values(table, key, found[table][key], expected[table][key], corrected=corrected)


def _compare_values(table: str, key: bytes, found: bytes, expected: bytes, *, corrected: bool) -> Iterator[str]:
    if key.endswith(b"|cut") and table == CELLS_TABLE:
        cuts = [msgspec.json.decode(each, type=Cut) for each in (found, expected)]
        if len({(cut.offset, cut.settings_hash, cut.schema_version) for cut in cuts}) > 1:
            yield f"table {table}: {key.decode()}: {cuts[0]}, and from the log {cuts[1]}"
    elif table in {CELLS_TABLE, GRAMS_TABLE}:
        variables = GRAM_VARIABLES if table == GRAMS_TABLE else VARIABLES[b"|~" in key]
        problem = compare_moments(found, expected, variables, corrected=corrected)
        if problem:
            yield f"table {table}: {key.decode()}: {problem}"
    elif found != expected:
        yield f"table {table}: {key.decode()} has another value"


def compare_moments(found: bytes, expected: bytes, variables: int, *, corrected: bool) -> str:
    """Compare two packed rows of moments; say what differs, or nothing."""
    _, _, (counts, means, comoments) = decode_rows([found, expected], variables)
    n, mean, comoment = float(counts[1]), means[1], comoments[1]
    if counts[0] != n:
        return f"{counts[0]} runs, and from the log {n}"
    first, second = triangle(variables)
    deviation = np.sqrt(np.abs(comoment[first == second]))
    relative = 1e-12
    size = np.abs(mean) + deviation / np.sqrt(max(n, 1.0))
    if corrected:
        # What was taken out may have been far larger than what is left, which says nothing of its spread: a hundredth
        # of the size stands for it. Both sides have the rounding.
        relative = 1e-9
        size = np.maximum(size, 1.0)
        deviation = np.sqrt(deviation**2 + max(n, 1.0) * (size / 100) ** 2)
    if not (np.abs(means[0] - mean) <= 1e-12 * size).all():
        return f"another mean: {means[0].tolist()}, and from the log {mean.tolist()}"
    # Means are doubles: an ulp of a mean, beside a spread that is tiny against it, is part of every way to compute.
    ulp = 4 * np.finfo(np.float64).eps * np.abs(mean) * np.sqrt(n)
    rounding = ulp[first] * deviation[second] + ulp[second] * deviation[first] + ulp[first] * ulp[second]
    if not (np.abs(comoments[0] - comoment) <= relative * deviation[first] * deviation[second] + rounding).all():
        return "another co-moment"
    return ""


def compare_rejected(found: Mapping[bytes, bytes], written: int, expected: Mapping[bytes, bytes]) -> Iterator[str]:
    """Name where scaling.rejected differs from what the log must bring: each bad record exactly once, as it is."""
    if written != len(found):
        yield f"scaling.rejected: {written} records under {len(found)} keys: some were written twice"
    for key in sorted(found.keys() ^ expected.keys()):
        yield f"scaling.rejected: {key.decode()} is {'in excess' if key in found else 'missing'}"
    for key in sorted(found.keys() & expected.keys()):
        if found[key] != expected[key]:
            yield f"scaling.rejected: {key.decode()} has another value"
