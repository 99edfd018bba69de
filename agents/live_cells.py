"""Fold a batch into the value cells of one source partition."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.columns import Columns, DimensionBasis, observed_outcomes
from agents.context_index import ContextIndex
from agents.memberships import compress, memberships
from agents.moment_table import MomentTable
from analytics.fold import fold
from models.cells import BIN_MARK, BINS_PER_OCTAVE, LARGEST_OWN_VALUE, CellKey, bin_value, value_text
from models.dimensions import BASES, OUTCOME_VARIABLES, SIZE_CATEGORIES, VARIABLES, Basis, Dimension, Source

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DIMENSION_BASES: tuple[DimensionBasis, ...] = tuple(
    (dimension, basis) for dimension in Dimension for basis in BASES[dimension]
)
SIZE = (Dimension.MODEL_SIZE, Basis.REALISED)
CATEGORY = (Dimension.MODEL_SIZE, Basis.CATEGORY)

POLICY_BIT = 5
MASKS = 1 << POLICY_BIT
OUTCOMES = len(OUTCOME_VARIABLES)

# A value's code within its dimension: 0..64 integers, then bins, then model sizes in order of appearance.
FIRST_BIN = LARGEST_OWN_VALUE + 1
LOWEST_BIN = -128
FIRST_SIZE = 512
VALUE_CODES = 1024
MOST_SIZES = VALUE_CODES - FIRST_SIZE
SLOTS = 2 * MASKS * VALUE_CODES


def group_codes(columns: Columns) -> Ints:
    """Number each event's group: the mask of its outcomes and the source of its setting."""
    return columns.mask | (columns.policy << POLICY_BIT)


def split_group(group: int) -> tuple[Source, int]:
    """Read a group code back: source and mask."""
    return (Source.POLICY if group >= MASKS else Source.OBSERVATIONAL), group % MASKS


class LiveCells:
    """The value cells of one source partition."""

    def __init__(self, partition: int, contexts: ContextIndex) -> None:
        self._own = MomentTable(len(OUTCOME_VARIABLES))
        self._binned = MomentTable(len(VARIABLES))
        self._partition = partition
        self._contexts = contexts
        self._sizes: dict[float, int] = {}
        self._keys: dict[int, bytes] = {}

    def load(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Fill the empty cells from stored values."""
        self._own.load([item for item in items if not CellKey.decode(item[0]).binned])
        self._binned.load([item for item in items if CellKey.decode(item[0]).binned])
        for key in map(CellKey.decode, self._own):
            if (key.dimension, key.basis) == SIZE and not key.binned:
                self._sizes.setdefault(float(key.value), FIRST_SIZE + len(self._sizes))

    def __len__(self) -> int:
        return len(self._own) + len(self._binned)

    @property
    def full(self) -> list[str]:
        """Name the cap on model sizes if it is reached, and what happens at it."""
        if len(self._sizes) < MOST_SIZES:
            return []
        return [
            f"{MOST_SIZES} values of model_params_b have cells of their own: further ones share quarter-octave bins"
        ]

    def drain(self, offset: int, *, whole: bool = False) -> dict[bytes, bytes | None]:
        """Take the cells that changed since the last drain, or all of them, stamped with `offset`."""
        return self._own.drain(offset, whole=whole) | self._binned.drain(offset, whole=whole)

    def fold(self, columns: Columns, contexts: Ints, *, out: bool = False) -> None:
        """Fold the events of a batch into the cells of their contexts, given as codes [N, K], or out of them again."""
        groups = group_codes(columns)
        own: list[tuple[int, Ints]] = []
        for number, key in enumerate(DIMENSION_BASES):
            x = columns.dimensions[key]
            if np.isnan(x).all():
                continue
            codes = self._value_codes(key, x)
            slots = np.where(codes >= 0, groups * VALUE_CODES + codes, -1)
            binned = (codes >= FIRST_BIN) & (codes < FIRST_SIZE)
            if binned.any():
                self._fold_binned((number, x, np.where(binned, slots, -1)), columns, contexts, out=out)
                slots = np.where(binned, -1, slots)
            own.append((number, slots))
        self._fold_own(own, columns, contexts, out=out)

    def _value_codes(self, key: DimensionBasis, x: Floats) -> Ints:
        present = ~np.isnan(x)
        filled = np.where(present, x, 1.0)
        if key == CATEGORY:
            codes = filled.astype(np.int64)
        elif key == SIZE:
            codes = self._size_codes(filled, present)
        else:
            own = (filled <= LARGEST_OWN_VALUE) & (filled == np.floor(filled))
            codes = np.where(own, np.where(own, filled, 0.0).astype(np.int64), _bin_codes(filled))
        return np.where(present, codes, -1)

    def _size_codes(self, x: Floats, present: NDArray[np.bool_]) -> Ints:
        distinct, first, place = np.unique(x[present], return_index=True, return_inverse=True)
        # In the order of their appearance, so that it does not matter where batches end.
        for at in np.argsort(first).tolist():
            size = float(distinct[at])
            if size not in self._sizes and len(self._sizes) < MOST_SIZES:
                self._sizes[size] = FIRST_SIZE + len(self._sizes)
        own = np.array([self._sizes.get(size, -1) for size in distinct.tolist()], dtype=np.int64)
        codes = np.zeros(len(x), dtype=np.int64)
        codes[present] = np.where(own >= 0, own, _bin_codes(distinct))[place]
        return codes

    def _fold_own(self, own: Iterable[tuple[int, Ints]], columns: Columns, contexts: Ints, *, out: bool) -> None:
        """Fold the cells in which x is one value."""
        names: list[tuple[int, int]] = []
        locals_: list[Ints] = []
        for number, slots in own:
            distinct, local = compress(slots)
            locals_.append(np.where(local >= 0, local + len(names), -1))
            names.extend((number, slot) for slot in distinct.tolist())
        if not names:
            return
        membership, crossings = memberships(contexts, np.column_stack(locals_), len(names))
        folded = fold(membership, columns.outcomes, columns.centre)
        change = self._own.unfold if out else self._own.fold
        change(self._name(crossings, names), folded, _observed(crossings, names))

    def _fold_binned(self, binned: tuple[int, Floats, Ints], columns: Columns, contexts: Ints, *, out: bool) -> None:
        """Fold quarter-octave bins, in which x and ln x vary: the number of a dimension and basis, x, and the slots."""
        number, x, slots = binned
        rows = np.flatnonzero(slots >= 0)
        distinct, local = compress(slots[rows])
        names = [(number, slot) for slot in distinct.tolist()]
        membership, crossings = memberships(contexts[rows], local[:, None], len(names))
        middles = np.array([bin_value(slot % VALUE_CODES - FIRST_BIN + LOWEST_BIN) for slot in distinct.tolist()])
        origins = np.zeros((len(names), len(VARIABLES)))
        origins[:, OUTCOMES], origins[:, OUTCOMES + 1] = middles, np.log(middles)
        inside = np.column_stack((x[rows] - middles[local], np.log(x[rows] / middles[local])))
        folded = fold(
            membership,
            np.column_stack((columns.outcomes[rows], inside)),
            np.concatenate((columns.centre, (0.0, 0.0))),
            origins[crossings % len(names)],
        )
        observed = np.pad(_observed(crossings, names), ((0, 0), (0, 2)), constant_values=True)
        change = self._binned.unfold if out else self._binned.fold
        change(self._name(crossings, names), folded, observed)

    def _name(self, crossings: Ints, names: Sequence[tuple[int, int]]) -> list[bytes]:
        """Give the key of each crossing of a context with a slot."""
        context, at = np.divmod(crossings, len(names))
        number, slot = np.array(names, dtype=np.int64)[at].T
        codes: list[int] = ((context * len(DIMENSION_BASES) + number) * SLOTS + slot).tolist()
        if None in map(self._keys.get, codes):
            self._keys.update((code, self._new_name(code)) for code in codes if code not in self._keys)
        return list(map(self._keys.__getitem__, codes))

    def _new_name(self, crossing: int) -> bytes:
        of_context, slot = divmod(crossing, SLOTS)
        context, number = divmod(of_context, len(DIMENSION_BASES))
        group, code = divmod(slot, VALUE_CODES)
        source, mask = split_group(group)
        text = self._value(DIMENSION_BASES[number], code)
        return CellKey(
            self._partition, self._contexts.ids[context], *DIMENSION_BASES[number], text, source, mask
        ).encode()

    def _value(self, key: DimensionBasis, code: int) -> str:
        if key == CATEGORY:
            return SIZE_CATEGORIES[code]
        if code >= FIRST_SIZE:
            return value_text(next(size for size, own in self._sizes.items() if own == code))
        if code >= FIRST_BIN:
            return f"{BIN_MARK}{code - FIRST_BIN + LOWEST_BIN}"
        return str(code)


def _observed(crossings: Ints, names: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    slots = np.array([slot for _, slot in names], dtype=np.int64)
    return observed_outcomes(slots // VALUE_CODES)[crossings % len(names)]


def _bin_codes(x: Floats) -> Ints:
    index = np.floor(BINS_PER_OCTAVE * np.log2(np.maximum(x, 1e-9))).astype(np.int64)
    codes: Ints = FIRST_BIN + np.clip(index - LOWEST_BIN, 0, FIRST_SIZE - FIRST_BIN - 1, dtype=np.int64)
    return codes
