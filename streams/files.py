"""Read runs from files, as the payloads to publish with the lines they stand on: JSON Lines, CSV and Parquet.

A broken line stays as it is: whoever decodes the payload rejects it with its reason. Nothing is skipped but blank
lines of JSON Lines, which hold no record.
"""

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, Annotated, Any, Literal, get_args, get_origin

import pyarrow as pa
from pyarrow import parquet

from models.errors import ScalingError
from models.events import RunEvent
from models.topics import MAX_MESSAGE_BYTES

Reader = Callable[[Path], Iterator["Chunk"]]

STANDARD_INPUT = Path("-")
CHUNK_RECORDS = 4000
CHUNK_BYTES = 4 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHARACTERISTICS = "project_characteristics"
PREFIX = f"{CHARACTERISTICS}."

LONGEST_NUMBER = 400
"""Digits of a number that JSON readers take; longer text stays text, and is rejected."""
EXACT_FLOATS = 2**53
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
BOOLEANS = {"true": True, "false": False}


def _plain_types(hint: Any) -> set[type]:  # noqa: ANN401 - a type hint
    if get_origin(hint) is Annotated:
        return _plain_types(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return set(map(type, get_args(hint)))
    return set().union(*map(_plain_types, get_args(hint))) if get_args(hint) else {hint}


TYPES: dict[str, set[type]] = {name: _plain_types(hint) for name, hint in RunEvent.__annotations__.items()}
"""The types that each field of an event may have."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some records of a file: their payloads, the lines (rows of Parquet) they stand on, and how far reading has come.

    `done` counts in the units of `size_of`.
    """

    path: Path
    lines: Sequence[int]
    payloads: Sequence[bytes]
    done: int


def read_runs(paths: Iterable[Path], change: Callable[[bytes], bytes] | None = None) -> Iterator[Chunk]:
    """Read files one after the other, in chunks.

    Args:
        paths: Files by their suffix: .jsonl, .ndjson, .csv (each also with .gz), .parquet; "-" is JSON Lines from
            standard input. All are looked at before the first is read.
        change: What to do to each payload on its way.

    Raises:
        ScalingError: A file is missing, cannot be read as what its name says, or is of an unknown format.
    """
    readers = [(path, _reader_of(path)) for path in paths]
    chunks = chain.from_iterable(_explained(path, reader) for path, reader in readers)
    if change is None:
        return chunks
    return (Chunk(each.path, each.lines, list(map(change, each.payloads)), each.done) for each in chunks)


def size_of(path: Path) -> int | None:
    """Say how much there is to read, where that is cheap to know: rows of a Parquet file, bytes of any other."""
    if path == STANDARD_INPUT:
        return None
    reader = _reader_of(path)
    if reader is _read_parquet:
        try:
            return int(parquet.read_metadata(path).num_rows)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from None
    return path.stat().st_size


def _reader_of(path: Path) -> Reader:
    if path == STANDARD_INPUT:
        return _read_json_lines
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    known: dict[str, Reader] = {".jsonl": _read_json_lines, ".ndjson": _read_json_lines, ".csv": _read_csv}
    if not path.name.endswith(".gz"):
        known |= {".parquet": _read_parquet, ".pq": _read_parquet}
    if suffix not in known:
        raise ScalingError(
            f"{path} is of no known format: name it .jsonl, .ndjson or .csv (also with .gz), or .parquet, as it is"
        )
    if not path.is_file():
        raise ScalingError(f"{path} is not a file: give the path of one")
    return known[suffix]


def _explained(path: Path, reader: Reader) -> Iterator[Chunk]:
    try:
        yield from reader(path)
    except (OSError, EOFError, zlib.error, csv.Error, pa.ArrowException) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ScalingError:
    return ScalingError(f"{path} cannot be read to its end: {error}; look whether it is whole and what its name says")


def _read_json_lines(path: Path) -> Iterator[Chunk]:
    if path == STANDARD_INPUT:
        yield from _chunked(path, _lines(sys.stdin.buffer), lambda: 0)
        return
    with path.open("rb") as raw, _opened(path, raw) as file:
        yield from _chunked(path, _lines(file), raw.tell)


def _lines(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(file, 1):
        payload = line.rstrip(b"\r\n")
        if number == 1:
            payload = payload.removeprefix(BYTE_ORDER_MARK)
        if payload.strip():
            yield number, payload


def _read_csv(path: Path) -> Iterator[Chunk]:
    with path.open("rb") as raw, _opened(path, raw) as file:
        yield from _chunked(path, _csv_records(file), raw.tell)


def _csv_records(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    # One unclosed quote may swallow many lines: what no record could hold is an error, not a file in memory.
    csv.field_size_limit(MAX_MESSAGE_BYTES)
    reader = csv.reader(line.decode("utf-8", "surrogateescape") for line in file)
    header = [name.strip().removeprefix(BYTE_ORDER_MARK.decode()) for name in next(reader, [])]
    for cells in reader:
        if not cells:
            continue
        if len(cells) == len(header):
            yield reader.line_num, _encode(_record(zip(header, cells, strict=True), _from_text))
        else:
            yield reader.line_num, ",".join(cells).encode("utf-8", "surrogateescape")


def _read_parquet(path: Path) -> Iterator[Chunk]:
    with parquet.ParquetFile(path) as file:
        first = 1
        for batch in file.iter_batches(batch_size=CHUNK_RECORDS):
            rows = _plain_times(batch).to_pylist(maps_as_pydicts="lossy")
            payloads = [_encode(_record(row.items(), _from_value)) for row in rows]
            lines = range(first, first + len(rows))
            first += len(rows)
            yield Chunk(path, lines, payloads, first - 1)


def _plain_times(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Cut times to microseconds, the finest that Python has."""
    schema = batch.schema
    for place, field in enumerate(schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            schema = schema.set(place, field.with_type(pa.timestamp("us", field.type.tz)))
    return batch if schema is batch.schema else batch.cast(schema, safe=False)


def _opened(path: Path, raw: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=raw) if path.name.endswith(".gz") else raw  # type: ignore[return-value]


def _chunked(path: Path, records: Iterable[tuple[int, bytes]], position: Callable[[], int]) -> Iterator[Chunk]:
    lines: list[int] = []
    payloads: list[bytes] = []
    size = 0
    for line, payload in records:
        lines.append(line)
        payloads.append(payload)
        size += len(payload)
        if len(lines) == CHUNK_RECORDS or size >= CHUNK_BYTES:
            yield Chunk(path, lines, payloads, position())
            lines, payloads, size = [], [], 0
    if lines:
        yield Chunk(path, lines, payloads, position())


def _record(cells: Iterable[tuple[str, Any]], convert: Callable[[str, Any], Any]) -> dict[str, Any]:
    """Make the event of a row; a column that is no field of an event goes under project_characteristics."""
    record: dict[str, Any] = {}
    characteristics: dict[str, Any] = {}
    for name, cell in cells:
        value = convert(name, cell)
        if value is None:
            continue
        if name == CHARACTERISTICS and isinstance(value, Mapping):
            characteristics |= {key: entry for key, entry in value.items() if entry is not None}
        elif name in TYPES:
            record[name] = value
        else:
            characteristics[name.removeprefix(PREFIX)] = value
    if characteristics and CHARACTERISTICS not in record:
        record[CHARACTERISTICS] = characteristics
    return record


def _from_text(name: str, text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read a cell of CSV: an empty one is missing; what is not what its field wants stays text, to be rejected."""
    if not text:
        return None
    if name == CHARACTERISTICS:
        return _json_object(text)
    kinds = TYPES.get(name, {bool, float, str})
    if bool in kinds and text.lower() in BOOLEANS:
        return BOOLEANS[text.lower()]
    if kinds & {int, float} and len(text) <= LONGEST_NUMBER and NUMBER.fullmatch(text):
        return _whole(json.loads(text)) if name in TYPES else json.loads(text)
    return {"0": False, "1": True}.get(text, text) if bool in kinds and name in TYPES else text


def _from_value(name: str, value: Any) -> Any:  # noqa: ANN401 - any Arrow value
    """Read a cell of Parquet; counts that were stored as floating point because of gaps become integers again."""
    if name == CHARACTERISTICS and isinstance(value, str):
        return _json_object(value)
    return _whole(value) if isinstance(value, float) and int in TYPES.get(name, ()) else value


def _json_object(text: str) -> Any:  # noqa: ANN401 - any JSON value
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _whole(number: float) -> float:
    """Write 3.0 as 3; CSV and Parquet files made of tables with gaps have counts as floating point."""
    return int(number) if abs(number) < EXACT_FLOATS and number == int(number) else number


def _encode(record: Mapping[str, Any]) -> bytes:
    # The standard library writes nan as NaN, which is then rejected with its reason; faster ones write null.
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=_other)
    return text.encode("utf-8", "surrogateescape")


def _other(value: object) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value)
