"""Dead letters."""

import base64
import hashlib
import json
from typing import Any

import pytest

from agents.rejects import reject_record
from models.batches import Batch, Headers
from models.rejects import PAYLOAD_BYTES

KAFKA_DEFAULT_LIMIT = 1_048_576


def reject(value: bytes | None, key: bytes | None = b"run-1", headers: Headers = (), reason: str = "why") -> Any:  # noqa: ANN401 - JSON
    """Reject the second record of a batch and read the dead letter with another JSON reader."""
    batch = Batch(
        topic="scaling.runs",
        partition=3,
        offsets=[40, 42],
        timestamps=[1_000, 2_000],
        keys=[b"other", key],
        values=[b"{}", value],
        headers=[(), headers],
    )
    record_key, record = reject_record(batch, 1, reason, "import-7")
    assert record_key == b"scaling.runs|3|42"
    assert len(record) < KAFKA_DEFAULT_LIMIT
    return json.loads(record)


def test_a_reject_says_where_the_original_was_and_what_it_held() -> None:
    """The coordinates, time, key, headers, size, digest and text of the original are kept with the reason."""
    value = '{"agent_run_id": "", "note": "größer"}'.encode()

    assert reject(value, headers=[("trace", b"abc")]) == {
        "schema_version": 1,
        "topic": "scaling.runs",
        "partition": 3,
        "offset": 42,
        "timestamp": 2_000,
        "reason": "why",
        "size": len(value),
        "sha256": hashlib.sha256(value).hexdigest(),
        "payload": value.decode(),
        "encoding": "utf-8",
        "key": "run-1",
        "key_encoding": "utf-8",
        "headers": {"trace": "abc"},
        "import_id": "import-7",
    }


def test_bytes_that_are_not_text_are_kept_as_base64() -> None:
    """A payload and a key that are not UTF-8 come back byte for byte."""
    record = reject(b"\xff\x00{", key=b"\xfe")

    assert (record["encoding"], base64.b64decode(record["payload"])) == ("base64", b"\xff\x00{")
    assert (record["key_encoding"], base64.b64decode(record["key"])) == ("base64", b"\xfe")


def test_a_record_without_value_or_key_is_told_from_an_empty_one() -> None:
    """No value has size 0 and an empty payload; no key is null, an empty key is not."""
    absent = reject(None, key=None)

    assert (absent["size"], absent["payload"], absent["key"]) == (0, "", None)
    assert reject(b"", key=b"")["key"] == ""


@pytest.mark.parametrize("before_cut", [0, 1, 2, 3])
def test_a_long_text_is_cut_between_characters(before_cut: int) -> None:
    """The first 64 KiB stay text even if the cut falls into a character; size and digest are those of the whole."""
    value = b"x" * (PAYLOAD_BYTES - before_cut) + "🙂".encode() * 10
    record = reject(value)

    assert record["encoding"] == "utf-8"
    assert record["payload"] == "x" * (PAYLOAD_BYTES - before_cut)
    assert (record["size"], record["sha256"]) == (len(value), hashlib.sha256(value).hexdigest())


def test_half_a_character_at_the_end_of_a_short_record_is_not_text() -> None:
    """Only the cut may halve a character: a whole record that ends in half of one is kept as base64."""
    assert reject("🙂".encode()[:3])["encoding"] == "base64"


def test_a_reject_fits_kafkas_default_limit_whatever_the_original_was() -> None:
    """Control characters grow sixfold in JSON, keys and headers may be huge: the dead letter stays below 1 MiB."""
    reject(
        b"\x01" * 2_000_000,
        key=b"\x01" * 500_000,
        headers=[(f"h{n}", b"\x01" * 5_000) for n in range(500)],
        reason="r" * 9_000,
    )
