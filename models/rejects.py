"""The reject record: what scaling.rejected carries for a record that is not a valid run event."""

from typing import Literal

from msgspec import Struct, field

Encoding = Literal["utf-8", "base64"]

PAYLOAD_BYTES = 64 * 1024
"""How much of the original a reject keeps; the rest is reread from the source topic while it is retained."""


class Rejected(Struct, frozen=True):
    """One rejected record: where it was, why it was refused, and what it held.

    `topic`, `partition`, `offset` and `timestamp` (milliseconds since the epoch) are the original's. `payload` holds
    its first 64 KiB, `size` and `sha256` (hexadecimal) describe all of it; an original without a value has size 0.
    `encoding` and `key_encoding` say whether payload and key are plain text or base64 of bytes that are not UTF-8.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    reason: str
    size: int
    sha256: str
    payload: str
    encoding: Encoding
    key: str | None = None
    key_encoding: Encoding = "utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    import_id: str | None = None
    schema_version: Literal[1] = 1
