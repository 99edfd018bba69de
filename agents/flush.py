"""A flush: everything that must be written, all or nothing."""

from dataclasses import dataclass

import msgspec

from models.batches import Headers


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record to publish."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Flush:
    """Changes of a partition's tables, None removing a key, and the records that go out with them.

    `offset` is the first one of the source that is not in; 0 where the state is not one of offsets. `whole` names the
    topics for which the flush holds not only what changed but everything that there is.
    """

    tables: dict[str, dict[bytes, bytes | None]]
    records: list[Record]
    offset: int = 0
    whole: tuple[str, ...] = ()
