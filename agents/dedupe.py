"""Remember the last run ids of a partition exactly, in blocks that are written like any other table value."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import StackError
from models.versions import newer

BLOCK: Final = 4096
ENTRY = np.dtype([("id", "<u8"), ("content", "<u8"), ("offset", "<i8"), ("revision", "<i8")])
SCHEMA = b"\x01"


class Verdict(IntEnum):
    """What an event is, given the runs already seen."""

    NEW = 0
    DUPLICATE = 1
    CORRECTION = 2
    SUPERSEDED = 3


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdicts on some events, and, by the place of each correction, the offset of the record that it replaces."""

    verdicts: NDArray[np.int8]
    replaced: Mapping[int, int] = field(default_factory=dict)


class SeenRuns:
    """The last `capacity` runs of one partition: 64-bit hashes of id and content, offset and revision.

    The offset is that of the record which counts in the tables: there a correction finds what it takes out again.

    Blocks of 4,096 entries are appended to and written whole; the oldest block goes when the capacity is passed.
    Two different ids share a hash with probability 3e-8 among a million.
    """

    def __init__(self, partition: int, capacity: int) -> None:
        self._prefix = f"{partition}|"
        self._capacity = capacity
        self._place: dict[int, int] = {}
        self._blocks: dict[int, NDArray[np.void]] = {}
        self._next = 0
        self._dirty: set[int] = set()
        self._evicted: set[int] = set()

    def __len__(self) -> int:
        return len(self._place)

    def judge(
        self, ids: Sequence[int], contents: Sequence[int], offsets: Sequence[int], revisions: Sequence[int]
    ) -> Judged:
        """Judge events in offset order and remember them.

        The same revision with the same content is a duplicate; a higher (revision, offset) is a correction; a lower
        revision is superseded.
        """
        verdicts = np.zeros(len(ids), dtype=np.int8)
        replaced: dict[int, int] = {}
        place, first = self._place, self._next
        fresh: list[int] = []
        # The common case: every run is new, and none occurs twice.
        if place.keys().isdisjoint(ids) and len(set(ids)) == len(ids):
            place.update(zip(ids, range(first, first + len(ids)), strict=True))
            self._append(ids, contents, offsets, revisions)
            self._evict()
            return Judged(verdicts)
        for index, run in enumerate(ids):
            found = place.setdefault(run, first + len(fresh))
            if found == first + len(fresh):
                fresh.append(index)
                continue
            if found >= first:
                # The run occurs twice in this batch: what it meets is not in a block yet.
                self._append(*(_taken(column, fresh) for column in (ids, contents, offsets, revisions)))
                first, fresh = self._next, []
            verdicts[index], before = self._meet(found, contents[index], offsets[index], revisions[index])
            if verdicts[index] == Verdict.CORRECTION:
                replaced[index] = before
        self._append(*(_taken(column, fresh) for column in (ids, contents, offsets, revisions)))
        self._evict()
        return Judged(verdicts, replaced)

    def keep(self, run: int, offset: int) -> None:
        """Say that what counts of a run is still an earlier record, because it could not be taken out."""
        place = self._place.get(run)
        if place is not None:
            number, at = divmod(place, BLOCK)
            self._blocks[number][at]["offset"] = offset
            self._dirty.add(number)

    def drain(self, *, whole: bool = False) -> dict[bytes, bytes | None]:
        """Take the blocks that changed since the last drain, or all; None marks an evicted one."""
        changes: dict[bytes, bytes | None] = {self._key(number): None for number in self._evicted}
        for number in sorted(self._blocks if whole else self._dirty):
            filled = min(BLOCK, self._next - number * BLOCK)
            changes[self._key(number)] = SCHEMA + self._blocks[number][:filled].tobytes()
        self._dirty.clear()
        self._evicted.clear()
        return changes

    def load(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Fill an empty index from stored blocks."""
        for key, value in sorted(items):
            if value[:1] != SCHEMA:
                raise StackError(newer("a block of run ids", value[0] if value else 0, SCHEMA[0]))
            number = int(key.decode().partition("|")[2])
            entries = np.frombuffer(value, dtype=ENTRY, offset=1)
            block = self._blocks[number] = np.zeros(BLOCK, dtype=ENTRY)
            block[: len(entries)] = entries
            start = number * BLOCK
            self._place.update(zip(entries["id"].tolist(), range(start, start + len(entries)), strict=True))
            self._next = start + len(entries)

    def _key(self, number: int) -> bytes:
        return f"{self._prefix}{number:012d}".encode()

    def _meet(self, found: int, content: int, offset: int, revision: int) -> tuple[Verdict, int]:
        """Judge an event of a known run; also give the offset of the record that counted until now."""
        number, at = divmod(found, BLOCK)
        entry = self._blocks[number][at]
        before = int(entry["offset"])
        if entry["revision"] == revision and entry["content"] == content:
            return Verdict.DUPLICATE, before
        if revision < entry["revision"]:
            return Verdict.SUPERSEDED, before
        entry["content"], entry["offset"], entry["revision"] = content, offset, revision
        self._dirty.add(number)
        return Verdict.CORRECTION, before

    def _append(
        self, ids: Sequence[int], contents: Sequence[int], offsets: Sequence[int], revisions: Sequence[int]
    ) -> None:
        entries = np.empty(len(ids), dtype=ENTRY)
        # The array module reads Python integers several times as fast as NumPy.
        for name, column in zip(ENTRY.names or (), (ids, contents, offsets, revisions), strict=True):
            entries[name] = np.frombuffer(array("Q", column), dtype=np.uint64)
        while len(entries):
            number, at = divmod(self._next, BLOCK)
            if number not in self._blocks:
                self._blocks[number] = np.zeros(BLOCK, dtype=ENTRY)
            part, entries = entries[: BLOCK - at], entries[BLOCK - at :]
            self._blocks[number][at : at + len(part)] = part
            self._dirty.add(number)
            self._next += len(part)

    def _evict(self) -> None:
        while self._next - min(self._blocks, default=0) * BLOCK > self._capacity + BLOCK:
            number = min(self._blocks)
            start = number * BLOCK
            for at, run in enumerate(self._blocks.pop(number)["id"].tolist()):
                if self._place.get(run) == start + at:
                    del self._place[run]
            self._dirty.discard(number)
            self._evicted.add(number)


def _taken(column: Sequence[int], places: Sequence[int]) -> list[int]:
    return [column[place] for place in places]
