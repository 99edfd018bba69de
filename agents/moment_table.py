"""A growing table of moments by key: the working copy of the Faust tables of one source partition."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analytics.fold import Folded, clear_constants
from analytics.moments import Moments, merge, triangle, unmerge
from models.errors import NotEnoughData, StackError
from models.versions import newer

SCHEMA: Final = 1
HEADER = 4
"""Words before the moments: schema version, offset, last bucket (history of Grams only), n."""
NO_BUCKET: Final = -(2**62)
FIRST_ROWS: Final = 256
EXACTNESS: Final = 5e-13
"""Rounding that a batch may cost a cell's sum of squares, relative to it; cells promise 1e-12."""

LOST: Final = 64 * float(np.finfo(np.float64).eps)
"""What taking runs out leaves of a sum of squares, or changes a mean by, below this share of it is rounding."""

Floats = NDArray[np.float64]


def encode_rows(offset: int, buckets: NDArray[np.int64], moments: Moments) -> list[bytes]:
    """Pack moments as table values: little-endian 64-bit words, header then means then co-moments."""
    n, mean, comoment = moments
    words = np.empty((len(n), HEADER + mean.shape[1] + comoment.shape[1]), dtype="<f8")
    integers = words.view("<i8")
    integers[:, 0] = SCHEMA
    integers[:, 1] = offset
    integers[:, 2] = buckets
    words[:, 3] = n
    words[:, HEADER : HEADER + mean.shape[1]] = mean
    words[:, HEADER + mean.shape[1] :] = comoment
    packed, width = words.tobytes(), words.shape[1] * 8
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def decode_rows(values: Sequence[bytes], variables: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Moments]:
    """Unpack table values to (offsets, buckets, moments).

    Raises:
        StackError: A value was written by another schema version.
    """
    # The version comes first: another one may have values of another length.
    for found in {value[:8] for value in values} - {SCHEMA.to_bytes(8, "little")}:
        raise StackError(newer("a row of a table of moments", int.from_bytes(found, "little", signed=True), SCHEMA))
    width = HEADER + variables + len(triangle(variables)[0])
    if any(len(value) != width * 8 for value in values):
        raise StackError(f"a table value is not {width * 8} bytes long: it was written by another version")
    words = np.frombuffer(b"".join(values), dtype="<f8").reshape(len(values), width)
    integers = words.view("<i8")
    body = words[:, HEADER:]
    moments = (words[:, 3].copy(), body[:, :variables].copy(), body[:, variables:].copy())
    return integers[:, 1].copy(), integers[:, 2].copy(), moments


def is_empty(value: bytes) -> bool:
    """Tell whether a table value has no run: corrections have taken out all that there were."""
    return value[8 * (HEADER - 1) : 8 * HEADER] == bytes(8)


class MomentTable:
    """Moments of `variables` variables by key, with the rows that changed since the last drain."""

    def __init__(self, variables: int) -> None:
        self._variables = variables
        self._rows: dict[bytes, int] = {}
        self._keys: list[bytes | None] = []
        self._free: list[int] = []
        self._removed: set[bytes] = set()
        self._n = np.zeros(FIRST_ROWS)
        self._mean = np.zeros((FIRST_ROWS, variables))
        self._comoment = np.zeros((FIRST_ROWS, len(triangle(variables)[0])))
        self._dirty = np.zeros(FIRST_ROWS, dtype=bool)
        self._bucket = np.full(FIRST_ROWS, NO_BUCKET, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._rows)

    def moments(self, keys: Sequence[bytes]) -> Moments:
        """Read the moments of the given keys."""
        rows = [self._rows[key] for key in keys]
        return self._n[rows], self._mean[rows], self._comoment[rows]

    def bucket(self, key: bytes) -> int:
        """Read the bucket word of a key."""
        return int(self._bucket[self._rows[key]])

    def fold(self, keys: Sequence[bytes], folded: Folded, observed: NDArray[np.bool_]) -> None:
        """Merge a folded batch, computing anew the cells whose sums of squares rounding would touch.

        Args:
            keys: The key of each cell.
            folded: The batch's moments by cell.
            observed: Which variables each cell's runs carry [cells, V]; the means of the others are set to 0.
        """
        rows = self._rows_of(keys)
        n, mean, comoment = folded.moments
        first, second = triangle(self._variables)
        diagonal = np.flatnonzero(first == second)
        # Where rounding may have made all of a spread, there may be none: one value in the whole cell.
        unsure = observed & ((folded.error > 0) | (n == 1)[:, None])
        flat = np.flatnonzero((unsure & (folded.error >= comoment[:, diagonal])).any(axis=1))
        if len(flat):
            constant, value = folded.constant(flat)
            # The mean of equal values is that value, to the last bit: so it stays when batches are merged.
            mean[flat] = np.where(constant, value, mean[flat])
            cleared = comoment[flat]
            clear_constants(cleared, constant)
            comoment[flat] = cleared
            folded.error[flat] = np.where(constant, 0.0, folded.error[flat])
        self._put(rows, self._exactly(self._merged, rows, folded, observed))

    def unfold(self, keys: Sequence[bytes], folded: Folded, observed: NDArray[np.bool_]) -> None:
        """Take runs out that were folded in before; a cell without runs stays, with n = 0.

        What is left of a sum of squares is exact to a few ulps of what was there before: of a cell that loses a far
        outlier fewer digits remain. Where only rounding is left it becomes zero, and a mean that is a whole number but
        for rounding becomes that number: shares do not leave [0, 1].

        Args:
            keys: The key of each cell.
            folded: The moments of the runs to take out, by cell.
            observed: Which variables each cell's runs carry [cells, V].

        Raises:
            StackError: A cell has fewer runs than are to be taken out of it.
        """
        rows = self._rows_of(keys)
        first, second = triangle(self._variables)
        diagonal = np.flatnonzero(first == second)
        left = self._exactly(self._unmerged, rows, folded, observed)
        clear_constants(left[2], left[2][:, diagonal] <= LOST * self._comoment[rows][:, diagonal])
        whole = np.rint(left[1])
        rounding = LOST * np.maximum(np.abs(self._mean[rows]), np.abs(folded.moments[1] * observed))
        self._put(rows, (left[0], np.where(np.abs(left[1] - whole) <= rounding, whole, left[1]), left[2]))

    def merge(self, keys: Sequence[bytes], moments: Moments) -> None:
        """Merge moments into the rows of distinct keys; a new key starts empty."""
        rows = self._rows_of(keys)
        self._put(rows, self._merged(rows, moments))

    def set_bucket(self, key: bytes, bucket: int) -> None:
        """Set the bucket word of a key that the current batch has touched."""
        self._bucket[self._rows[key]] = bucket

    def remove(self, key: bytes) -> None:
        """Remove a key; the next drain writes its tombstone."""
        row = self._rows.pop(key)
        self._keys[row] = None
        self._n[row] = self._mean[row] = self._comoment[row] = 0.0
        self._dirty[row] = False
        self._bucket[row] = NO_BUCKET
        self._free.append(row)
        self._removed.add(key)

    def load(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Fill an empty table from stored values."""
        if not items:
            return
        _, buckets, (n, mean, comoment) = decode_rows([value for _, value in items], self._variables)
        rows = self._rows_of([key for key, _ in items])
        self._n[rows], self._mean[rows], self._comoment[rows], self._bucket[rows] = n, mean, comoment, buckets

    def drain(self, offset: int, *, whole: bool = False) -> dict[bytes, bytes | None]:
        """Take what changed since the last drain, or all there is, stamped with `offset`; None marks a removed key."""
        rows = np.array(list(self._rows.values()), dtype=np.int64) if whole else np.flatnonzero(self._dirty)
        values = encode_rows(offset, self._bucket[rows], (self._n[rows], self._mean[rows], self._comoment[rows]))
        changes: dict[bytes, bytes | None] = dict.fromkeys(self._removed)
        # A removed row is not dirty, so every key here is one.
        keys: Iterator[bytes] = map(self._keys.__getitem__, rows.tolist())  # type: ignore[arg-type]
        changes.update(zip(keys, values, strict=True))
        self._dirty[rows] = False
        self._removed.clear()
        return changes

    def _rows_of(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        found = list(map(self._rows.get, keys))
        if None in found:
            found = [self._row(key) for key in keys]
        return np.array(found, dtype=np.int64)

    def _put(self, rows: NDArray[np.int64], moments: Moments) -> None:
        self._n[rows], self._mean[rows], self._comoment[rows] = moments
        self._dirty[rows] = True

    def _exactly(
        self,
        combine: Callable[[NDArray[np.int64], Moments], Moments],
        rows: NDArray[np.int64],
        folded: Folded,
        observed: NDArray[np.bool_],
    ) -> Moments:
        """Combine rows with a folded batch, anew from its runs where rounding would touch a sum of squares."""
        first, second = triangle(self._variables)
        n, mean, comoment = folded.moments
        combined = combine(rows, (n, mean * observed, comoment))
        doubtful = np.flatnonzero((folded.error > EXACTNESS * combined[2][:, first == second]).any(axis=1))
        if len(doubtful):
            n, mean, comoment = folded.refine(doubtful)
            again = combine(rows[doubtful], (n, mean * observed[doubtful], comoment))
            for part, refined in zip(combined, again, strict=True):
                part[doubtful] = refined
        return combined

    def _merged(self, rows: NDArray[np.int64], moments: Moments) -> Moments:
        return merge(self._n[rows], self._mean[rows], self._comoment[rows], *moments)

    def _unmerged(self, rows: NDArray[np.int64], moments: Moments) -> Moments:
        try:
            return unmerge(self._n[rows], self._mean[rows], self._comoment[rows], *moments)
        except NotEnoughData as reason:
            raise StackError(
                f"a correction takes runs out of cells that do not have them ({reason}): the tables were not built "
                "from this topic as this version reads it; compute them anew with scaling rebuild"
            ) from None

    def _row(self, key: bytes) -> int:
        row = self._rows.get(key)
        if row is None:
            if self._free:
                row = self._free.pop()
                self._keys[row] = key
            else:
                row = len(self._keys)
                self._keys.append(key)
                if row == len(self._n):
                    self._grow()
            self._rows[key] = row
            self._removed.discard(key)
        return row

    def _grow(self) -> None:
        more = len(self._n)
        self._n = np.concatenate((self._n, np.zeros(more)))
        self._mean = np.concatenate((self._mean, np.zeros_like(self._mean)))
        self._comoment = np.concatenate((self._comoment, np.zeros_like(self._comoment)))
        self._dirty = np.concatenate((self._dirty, np.zeros(more, dtype=bool)))
        self._bucket = np.concatenate((self._bucket, np.full(more, NO_BUCKET, dtype=np.int64)))
