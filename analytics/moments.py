"""Moments as arrays: counts, means and co-moments that merge and unmerge, for any leading shape.

A block of moments is a triple (n[...], mean[..., V], comoment[..., T]). The co-moment sum((y_i - m_i) (y_j - m_j)) is
kept as the upper triangle in row-major order, pairs (i, j) with i <= j, so T = V (V + 1) / 2. Raw sums of squares never
occur: at a mean of 1e9 and a standard deviation of 1 they give a variance of 168.

References:
    Chan, Golub and LeVeque (1983), "Algorithms for Computing the Sample Variance".
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from models.errors import NotEnoughData

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Moments = tuple[Floats, Floats, Floats]


@cache
def triangle(v: int) -> tuple[Ints, Ints]:
    """List the index pairs (i, j), i <= j, of the packed co-moments of `v` variables; read-only arrays of length T."""
    i_index, j_index = np.triu_indices(v)
    i_index, j_index = i_index.astype(np.int64), j_index.astype(np.int64)
    i_index.setflags(write=False)
    j_index.setflags(write=False)
    return i_index, j_index


def merge(n_a: Counts, mean_a: Floats, c_a: Floats, n_b: Counts, mean_b: Floats, c_b: Floats) -> Moments:  # noqa: PLR0917 - two triples
    """Join the moments of two disjoint sets of runs.

    Equation: d = m_b - m_a; m = m_a + d n_b / n; C = C_a + C_b + d d' n_a n_b / n. An empty side (n = 0) is the
    identity, bit for bit; the leading shapes broadcast.

    Returns:
        The joint (n, mean, comoment), float64.
    """
    count_a, count_b = np.asarray(n_a, np.float64), np.asarray(n_b, np.float64)
    n = count_a + count_b
    share_b = count_b / np.where(n > 0, n, 1.0)
    delta = mean_b - mean_a
    i_index, j_index = triangle(delta.shape[-1])
    mean = np.where((count_a > 0)[..., None], mean_a + delta * share_b[..., None], mean_b)
    weight = count_a * share_b
    comoment = c_a + c_b + weight[..., None] * (delta[..., i_index] * delta[..., j_index])
    return n, mean, comoment


def unmerge(n_a: Counts, mean_a: Floats, c_a: Floats, n_b: Counts, mean_b: Floats, c_b: Floats) -> Moments:  # noqa: PLR0917 - two triples
    """Take the moments b out of a, of which b is a part.

    Equation: n = n_a - n_b; m = m_a + (m_a - m_b) n_b / n; C = C_a - C_b - (m_b - m)(m_b - m)' n n_b / n_a. Where
    nothing remains all is exactly zero; where one run remains its co-moments are; no sum of squares turns negative.

    Returns:
        The remaining (n, mean, comoment), float64.

    Raises:
        NotEnoughData: b counts more runs than a.
    """
    count_a, count_b = np.asarray(n_a, np.float64), np.asarray(n_b, np.float64)
    n = count_a - count_b
    if np.any(n < 0):
        message = (
            f"cannot take {count_b.max():g} runs out of fewer ({n.min():g} would remain): take out only what is in"
        )
        raise NotEnoughData(message)
    ratio = count_b / np.where(n > 0, n, 1.0)
    kept = (n > 0)[..., None]
    mean = np.where(kept, mean_a + (mean_a - mean_b) * ratio[..., None], 0.0)
    delta = mean_b - mean
    i_index, j_index = triangle(delta.shape[-1])
    weight = n * count_b / np.where(count_a > 0, count_a, 1.0)
    comoment = c_a - c_b - weight[..., None] * (delta[..., i_index] * delta[..., j_index])
    comoment = np.where((i_index == j_index) & (comoment < 0), 0.0, comoment)
    return n, mean, np.where((n > 1)[..., None], comoment, 0.0)


def unpack(comoment: Floats) -> Floats:
    """Spread packed co-moments [..., T] to symmetric matrices [..., V, V]."""
    v = round((np.sqrt(8 * comoment.shape[-1] + 1) - 1) / 2)
    i_index, j_index = triangle(v)
    full = np.empty((*comoment.shape[:-1], v, v))
    full[..., i_index, j_index] = comoment
    full[..., j_index, i_index] = comoment
    return full


def pack(full: Floats) -> Floats:
    """Keep the upper triangle of symmetric matrices [..., V, V] as [..., T]; the inverse of `unpack`."""
    i_index, j_index = triangle(full.shape[-1])
    return full[..., i_index, j_index]


def from_rows(y: Floats) -> Moments:
    """Reduce raw rows y[N, V] to (n[], mean[V], comoment[T]) in two passes.

    The first row is subtracted before the mean is taken: a constant column has exactly that mean, co-moments zero.
    """
    v = y.shape[-1]
    i_index, j_index = triangle(v)
    if len(y) == 0:
        return np.zeros(()), np.zeros(v), np.zeros(len(i_index))
    shifted = y - y[0]
    shift = shifted.mean(axis=0)
    centred = shifted - shift
    products = centred.T @ centred
    return np.asarray(float(len(y))), y[0] + shift, products[i_index, j_index]
