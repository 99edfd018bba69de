"""What became of the records of each import: counts and the first reasons for rejection."""

from collections.abc import Sequence

import msgspec

from models.errors import StackError
from models.versions import Versioned

FIRST_REASONS = 10
LAST_IMPORTS = 1000


class Tally(Versioned, frozen=True):
    """Counts of one import in one source partition (or, added up, in all)."""

    accepted: int = 0
    duplicate: int = 0
    corrected: int = 0
    rejected: int = 0
    reasons: tuple[str, ...] = ()

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.corrected + other.corrected,
            self.rejected + other.rejected,
            tuple(dict.fromkeys(self.reasons + other.reasons))[:FIRST_REASONS],
        )


class Tallies:
    """The tallies of the last thousand imports of one source partition."""

    def __init__(self, partition: int) -> None:
        self._prefix = f"{partition}|"
        self._tallies: dict[str, Tally] = {}
        self._dirty: set[str] = set()
        self._evicted: set[str] = set()

    def add(self, import_id: str, tally: Tally) -> None:
        """Add counts to an import."""
        self._tallies[import_id] = self._tallies.get(import_id, Tally()) + tally
        self._dirty.add(import_id)
        while len(self._tallies) > LAST_IMPORTS:
            oldest = next(iter(self._tallies))
            del self._tallies[oldest]
            self._dirty.discard(oldest)
            self._evicted.add(oldest)

    @property
    def full(self) -> list[str]:
        """Name the cap on imports if it is reached, and what happens at it."""
        if len(self._tallies) < LAST_IMPORTS:
            return []
        return [f"the tallies of {LAST_IMPORTS} imports are kept: with each further one the oldest goes"]

    def drain(self, *, whole: bool = False) -> dict[bytes, bytes | None]:
        """Take the tallies that changed since the last drain, or all; None marks an evicted one."""
        changes: dict[bytes, bytes | None] = {self._key(import_id): None for import_id in self._evicted}
        # In the order of their age, which a restart takes over.
        changes |= {
            self._key(name): msgspec.json.encode(tally)
            for name, tally in self._tallies.items()
            if whole or name in self._dirty
        }
        self._dirty.clear()
        self._evicted.clear()
        return changes

    def load(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Fill an empty index from stored values.

        Raises:
            StackError: One of them is of a newer version.
        """
        try:
            for key, value in items:
                self._tallies[key.decode().partition("|")[2]] = msgspec.json.decode(value, type=Tally)
        except msgspec.MsgspecError as error:
            raise StackError(f"a tally of an import cannot be read: {error}") from None

    def _key(self, import_id: str) -> bytes:
        return f"{self._prefix}{import_id}".encode()
