"""Fold many rows into many cells at once: one sparse one-hot product a batch, exact to rounding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from analytics.moments import Moments, triangle

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HALF = 0.5
BLOCK = 1000
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Membership:
    """Which cells each row falls in: row r falls in cells[start[r] : start[r + 1]], cell ids below `count`."""

    start: NDArray[np.int32]
    cells: NDArray[np.int32]
    count: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.start) - 1

    def rows_from(self, start: int, stop: int) -> "Membership":
        """Keep some of the rows; the cells keep their ids."""
        bounds = self.start[start : stop + 1]
        return Membership(bounds - bounds[0], self.cells[bounds[0] : bounds[-1]], self.count)

    def one_hot(self) -> csr_array:
        """The matrix [rows, cells] of zeros and ones."""
        return csr_array((np.ones(len(self.cells)), self.cells, self.start), shape=(self.rows, self.count))


@dataclass(frozen=True, slots=True)
class Folded:
    """The moments of every cell of a batch.

    `error` [cells, V] estimates what rounding may have cost each variable's sum of squares. Where that is too much for
    the cell that the moments are merged into, `refine` computes them again without that cost.
    """

    moments: Moments
    error: Floats
    membership: Membership
    y: Floats
    origin: Floats

    def constant(self, cells: Ints) -> tuple[NDArray[np.bool_], Floats]:
        """Tell which variables have one value in the whole of each of these cells, and that value: [cells, V] each."""
        entries, rows = self._entries(cells)
        first = np.zeros(len(cells), dtype=np.int64)
        first[entries.cells[::-1]] = rows[::-1]
        value = self.y[first]
        differs = self.y[rows] != value[entries.cells]
        same = np.asarray((entries.one_hot().T @ differs.astype(np.float64)) == 0)
        return same, value + (self.origin[cells] if self.origin.ndim > 1 else self.origin)

    def refine(self, cells: Ints) -> Moments:
        """Compute the moments of some cells again, in two passes about each cell's own mean."""
        entries, rows = self._entries(cells)
        one_hot = entries.one_hot().T
        origin = self.origin[cells] if self.origin.ndim > 1 else self.origin
        n, mean = self.moments[0][cells], self.moments[1][cells] - origin
        residual = self.y[rows] - mean[entries.cells]
        correction = (one_hot @ residual) / n[:, None]
        residual -= correction[entries.cells]
        first, second = triangle(self.y.shape[1])
        comoment = one_hot @ (residual[:, first] * residual[:, second])
        clear_constants(comoment, comoment[:, first == second] == 0)
        return n, origin + mean + correction, comoment

    def _entries(self, cells: Ints) -> tuple[Membership, Ints]:
        """List the entries of some cells, numbered anew: their membership, one cell an entry, and their rows."""
        local = np.full(self.membership.count, -1, dtype=np.int32)
        local[cells] = np.arange(len(cells), dtype=np.int32)
        cell_of_entry = local[self.membership.cells]
        chosen = np.flatnonzero(cell_of_entry >= 0)
        rows = np.repeat(np.arange(self.membership.rows), np.diff(self.membership.start))[chosen]
        start = np.arange(len(chosen) + 1, dtype=np.int32)
        return Membership(start, cell_of_entry[chosen], len(cells)), rows


def fold(membership: Membership, y: Floats, centre: Floats, origin: Floats | None = None) -> Folded:
    """Compute the moments of every cell.

    Equation: with z = y - c, S0 = Σ 1, S1 = Σ z and S2 = Σ z_i z_j per cell, mean = c + S1 / S0 and
    C_ij = S2_ij - S1_i S1_j / S0.

    Args:
        membership: The cells of each row; every cell has at least one row.
        y: Rows [N, V], taken relative to `origin` where that is given.
        centre: Values near the middle of y, [V]; what it is changes rounding only.
        origin: For each cell [cells, V] the point that its rows are relative to, such as the middle of a bin.

    Returns:
        n[cells], mean[cells, V], packed co-moments [cells, T], and their rounding error.
    """
    rows, v = y.shape
    first, second = triangle(v)
    z = y - centre
    start = np.zeros(v) if origin is None else origin
    # Equal terms are rounded the same way each time they are added: long sums are taken block by block. Where the
    # cells are so many that their sums would be the larger part of the work, each has few rows of a batch anyway.
    step = BLOCK if membership.count <= BLOCK else rows
    sums = np.zeros((membership.count, 1 + v + len(first)))
    for at in range(0, rows, step):
        sums += membership.rows_from(at, at + step).one_hot().T @ _products(z[at : at + step])
    n, shift, raw = sums[:, 0].copy(), sums[:, 1 : 1 + v] / sums[:, :1], sums[:, 1 + v :]
    comoment = raw - n[:, None] * shift[:, first] * shift[:, second]
    comoment[n == 1] = 0.0
    clear_constants(comoment, comoment[:, first == second] == 0)
    error = EPSILON * (4 + np.minimum(n, BLOCK) / 4)[:, None] * raw[:, first == second]
    error[n == 1] = 0.0
    # Values 0 and 1 about a half have exact sums: what is zero there is zero.
    error[(comoment[:, first == second] == 0) & (np.abs(shift) == HALF)] = 0.0
    return Folded((n, start + (centre + shift), comoment), error, membership, y, start)


def _products(z: Floats) -> Floats:
    """Line up 1, z_i and z_i z_j (i <= j) for each row."""
    rows, v = z.shape
    products = np.empty((rows, 1 + v + v * (v + 1) // 2))
    products[:, 0] = 1.0
    products[:, 1 : 1 + v] = z
    at = 1 + v
    for i in range(v):
        np.multiply(z[:, i : i + 1], z[:, i:], out=products[:, at : at + v - i])
        at += v - i
    return products


def clear_constants(comoment: Floats, constant: NDArray[np.bool_]) -> None:
    """Set to zero, in place, what rounding left of the co-moments of variables that are constant in a cell.

    Args:
        comoment: Packed co-moments [cells, T].
        constant: Which variables are constant in which cell [cells, V].
    """
    if constant.any():
        first, second = triangle(constant.shape[1])
        comoment[constant[:, first] | constant[:, second]] = 0.0
