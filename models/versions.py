"""Schema versions: a record says its own, and a reader refuses one that is newer than it knows."""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import force_setattr

UNSAID = 0


class Versioned(Struct, frozen=True, kw_only=True):
    """A record of a topic or a table.

    `NEWEST` is the version that this program writes; it reads that one and all before it. A record without a version
    was written before records said theirs: it reads as one of the newest.

    Raises:
        ValueError: The record is of a newer version (a `msgspec.ValidationError` where it is decoded).
    """

    NEWEST: ClassVar[int] = 1
    # Not the newest version by default: a record that omits its defaults would not say it.
    schema_version: int = UNSAID

    def __post_init__(self) -> None:
        """Say the version, and refuse one that this program does not know."""
        if self.schema_version == UNSAID:
            force_setattr(self, "schema_version", self.NEWEST)
        elif not 1 <= self.schema_version <= self.NEWEST:
            raise ValueError(newer(type(self).__name__, self.schema_version, self.NEWEST))


def newer(what: str, found: int, newest: int) -> str:
    """Say that a record is newer than what reads it, and what to do."""
    return (
        f"{what} has schema_version {found} and this program reads 1 to {newest}: run the version that wrote it "
        "(docs/upgrade.md)"
    )
