"""Make the dead letter of a record that is not a valid run event."""

import base64
import codecs
import hashlib

import msgspec

from models.batches import Batch, Headers
from models.rejects import PAYLOAD_BYTES, Encoding, Rejected

# A dead letter must fit Kafka's default limit of 1 MiB a record, whatever the original was, even where JSON writes a
# byte as six characters: it would otherwise stop the worker that tries to get rid of it.
KEY_BYTES = 4096
HEADERS = 64
HEADER_BYTES = 1024
HEADER_NAME = 128
REASON = 1024

_encode = msgspec.json.Encoder().encode


def reject_record(batch: Batch, index: int, reason: str, import_id: str | None) -> tuple[bytes, bytes]:
    """Make the record of scaling.rejected for one record of a batch.

    Args:
        batch: The micro-batch that holds the original.
        index: Its place in the batch.
        reason: The rule that it breaks.
        import_id: The import that published it, if any.

    Returns:
        The key, `topic|partition|offset` of the original, and the value, a JSON `Rejected`.
    """
    original = batch.values[index] or b""
    key = batch.keys[index]
    payload, encoding = _text(original, PAYLOAD_BYTES)
    key_text, key_encoding = _text(key or b"", KEY_BYTES)
    offset = batch.offsets[index]
    reject = Rejected(
        topic=batch.topic,
        partition=batch.partition,
        offset=offset,
        timestamp=batch.timestamps[index],
        reason=reason[:REASON],
        size=len(original),
        sha256=hashlib.sha256(original).hexdigest(),
        payload=payload,
        encoding=encoding,
        key=None if key is None else key_text,
        key_encoding=key_encoding,
        headers=_texts(batch.headers[index]),
        import_id=import_id,
    )
    return f"{batch.topic}|{batch.partition}|{offset}".encode(), _encode(reject)


def _text(content: bytes, limit: int) -> tuple[str, Encoding]:
    """Take the first bytes as text, without the half of a character at the cut; base64 where they are not UTF-8."""
    head = content[:limit]
    try:
        return codecs.utf_8_decode(head, "strict", len(content) <= limit)[0], "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(head).decode(), "base64"


def _texts(headers: Headers) -> dict[str, str]:
    shown = headers[:HEADERS]
    return {
        name[:HEADER_NAME]: (value or b"")[:HEADER_BYTES].decode(errors="backslashreplace") for name, value in shown
    }
