"""Runs read from files of every format."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from agents.decode import EventDecoder
from models.errors import InvalidEvent, ScalingError
from models.settings import load_settings
from streams.files import CHUNK_RECORDS, read_runs, size_of


def records(path: Path) -> list[tuple[int, bytes]]:
    """Read a file: lines and payloads."""
    return [pair for chunk in read_runs([path]) for pair in zip(chunk.lines, chunk.payloads, strict=True)]


def events(path: Path) -> list[dict[str, Any]]:
    """Read a file's payloads as JSON."""
    return [json.loads(payload) for _, payload in records(path)]


def written(path: Path, content: bytes) -> Path:
    """Write a file."""
    path.write_bytes(content)
    return path


def table(path: Path, columns: Mapping[str, Any]) -> Path:
    """Write a Parquet file."""
    parquet.write_table(pa.table(columns), path)
    return path


def test_json_lines_are_passed_on_untouched(tmp_path: Path) -> None:
    """Payloads are the bytes of the lines, broken ones included; only blank lines, line ends and a BOM go."""
    content = b'\xef\xbb\xbf{"agent_run_id": "a" }\r\n\n{"broken\n\xff\xfe\nnull'

    assert records(written(tmp_path / "runs.jsonl", content)) == [
        (1, b'{"agent_run_id": "a" }'),
        (3, b'{"broken'),
        (4, b"\xff\xfe"),
        (5, b"null"),
    ]


def test_compressed_files_are_read(tmp_path: Path) -> None:
    """A .gz gives the same records, and its progress counts the bytes of the file."""
    lines = [json.dumps({"agent_run_id": f"run-{number}"}).encode() for number in range(CHUNK_RECORDS + 5)]
    path = written(tmp_path / "runs.ndjson.gz", gzip.compress(b"\n".join(lines)))

    chunks = list(read_runs([path]))
    assert [payload for chunk in chunks for payload in chunk.payloads] == lines
    assert [len(chunk.lines) for chunk in chunks] == [CHUNK_RECORDS, 5]
    assert chunks[-1].done == path.stat().st_size == size_of(path)


def test_csv_cells_become_what_their_fields_want(tmp_path: Path) -> None:
    """Numbers and booleans are converted, empty cells are missing, unknown columns become characteristics."""
    content = (
        "agent_run_id,agent_count,success,total_cost,task_complexity,project,language,team_size,project_characteristics\n"
        'a,3.0,True,1e-2,medium,007,py,12,"{""ci"": true}"\n'
        "b,,0,,0.25,,,,\n"
    )

    assert events(written(tmp_path / "runs.csv", content.encode())) == [
        {
            "agent_run_id": "a",
            "agent_count": 3,
            "success": True,
            "total_cost": 0.01,
            "task_complexity": "medium",
            "project": "007",
            "project_characteristics": {"language": "py", "team_size": 12, "ci": True},
        },
        {"agent_run_id": "b", "success": False, "task_complexity": 0.25},
    ]


def test_csv_with_quotes_and_line_breaks_keeps_its_line_numbers(tmp_path: Path) -> None:
    """A record that spans lines is named by its last one."""
    text = io.StringIO()
    csv.writer(text).writerows([["agent_run_id", "project"], ["a", 'two\nlines, "quoted"'], ["b", "x"]])
    path = written(tmp_path / "runs.csv", b"\xef\xbb\xbf" + text.getvalue().encode())

    assert [line for line, _ in records(path)] == [3, 4]
    assert events(path)[0] == {"agent_run_id": "a", "project": 'two\nlines, "quoted"'}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"a,three,true", "agent_count"),
        (b"a,nan,true", "agent_count"),
        (b"a,2.5,true", "agent_count"),
        (b"a,2,maybe", "success"),
        (b"a,2,true,more", "not JSON"),
        (b"a,2", "not JSON"),
        (b"\xff,2,true", "not UTF-8"),
    ],
)
def test_a_broken_csv_row_is_kept_to_be_rejected(tmp_path: Path, row: bytes, reason: str) -> None:
    """Nothing is skipped or guessed: the decoder says what is wrong, and the rows around it are read."""
    content = b"agent_run_id,agent_count,success\nok1,1,true\n" + row + b"\nok2,1,false\n"
    found = records(written(tmp_path / "runs.csv", content))

    assert [line for line, _ in found] == [2, 3, 4]
    decoder = EventDecoder(load_settings())
    with pytest.raises(InvalidEvent, match=reason):
        decoder.decode(found[1][1])
    assert [decoder.decode(found[at][1]).agent_run_id for at in (0, 2)] == ["ok1", "ok2"]


def test_parquet_rows_become_events(tmp_path: Path) -> None:
    """Nulls are missing, counts stored as floating point are integers again, times are RFC 3339."""
    path = table(
        tmp_path / "runs.parquet",
        {
            "agent_run_id": ["a", "b"],
            "agent_count": [2.0, None],
            "success": [True, False],
            "completed_at": pa.array([datetime(2026, 1, 2, 3, tzinfo=UTC)] * 2, pa.timestamp("ns", "UTC")),
            "language": ["py", None],
            "project_characteristics": [{"ci": True, "os": None}, None],
        },
    )

    assert size_of(path) == 2
    assert events(path) == [
        {
            "agent_run_id": "a",
            "agent_count": 2,
            "success": True,
            "completed_at": "2026-01-02T03:00:00+00:00",
            "project_characteristics": {"language": "py", "ci": True},
        },
        {"agent_run_id": "b", "success": False, "completed_at": "2026-01-02T03:00:00+00:00"},
    ]


@pytest.mark.parametrize(
    "characteristics",
    [
        pa.array([{"lines": 5}]),
        pa.array([[("lines", 5)]], pa.map_(pa.string(), pa.int64())),
        pa.array(['{"lines": 5}']),
    ],
)
def test_parquet_characteristics_may_be_a_struct_a_map_or_json(tmp_path: Path, characteristics: pa.Array) -> None:
    """All three mean the same."""
    path = table(tmp_path / "runs.parquet", {"agent_run_id": ["a"], "project_characteristics": characteristics})

    assert events(path) == [{"agent_run_id": "a", "project_characteristics": {"lines": 5}}]


def test_a_parquet_nan_is_rejected(tmp_path: Path) -> None:
    """A number that is none is not taken for a missing one."""
    path = table(tmp_path / "runs.parquet", {"agent_run_id": ["a"], "quality_score": [float("nan")]})

    with pytest.raises(InvalidEvent, match="not JSON"):
        EventDecoder(load_settings()).decode(records(path)[0][1])


def test_payloads_are_changed_on_request(tmp_path: Path) -> None:
    """A mapping sees each payload once, and lines stay with their payloads."""
    path = written(tmp_path / "runs.jsonl", b"a\n\nb\n")

    assert [(list(chunk.lines), chunk.payloads) for chunk in read_runs([path, path], bytes.upper)] == [
        ([1, 3], [b"A", b"B"])
    ] * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("runs.xlsx", b"", "no known format"),
        ("runs.json", b"[]", "no known format"),
        ("absent.jsonl", None, "is not a file"),
        ("runs.jsonl.gz", b"not compressed", "cannot be read"),
        ("runs.csv.gz", gzip.compress(b"agent_run_id\n" + b"a\n" * 9999, mtime=0)[:-20], "cannot be read"),
        ("runs.parquet", b"not parquet", "cannot be read"),
    ],
)
def test_an_unreadable_file_is_one_sentence(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """The message names the file and what to look at."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ScalingError, match=message) as told:
        list(read_runs([path]))
    assert str(path) in str(told.value)


def test_all_files_are_looked_at_before_the_first_is_read(tmp_path: Path) -> None:
    """A wrong name at the end of the command does not leave half an import behind."""
    path = written(tmp_path / "runs.jsonl", b"{}")

    with pytest.raises(ScalingError, match="no known format"):
        read_runs([path, tmp_path / "runs.doc"])
