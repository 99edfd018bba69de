"""Moments: the algebra of counts, means and co-moments."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from analytics import moments
from analytics.moments import Floats, Moments
from models.errors import NotEnoughData

ROWS = st.integers(0, 12).flatmap(
    lambda size: arrays(np.float64, (size, 3), elements=st.floats(-1e3, 1e3, allow_subnormal=False))
)


def by_definition(y: Floats) -> Moments:
    """Compute the moments of rows from their definition, pair by pair."""
    mean = np.array([sum(column) / len(y) for column in y.T])
    pairs = [(i, j) for i in range(y.shape[1]) for j in range(i, y.shape[1])]
    return (
        np.asarray(float(len(y))),
        mean,
        np.array([sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in y) for i, j in pairs]),
    )


def close(a: Moments, b: Moments, scale: float = 1e3) -> None:
    """Assert equality but for rounding at the data's scale."""
    assert float(a[0]) == float(b[0])
    np.testing.assert_allclose(a[1], b[1], rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(a[2], b[2], rtol=1e-12, atol=1e-10 * scale**2)


def test_the_triangle_is_row_major() -> None:
    """Pairs (i, j) with i <= j stand in the order (0,0) (0,1) ... (1,1) ..., as a record on the wire needs."""
    i_index, j_index = moments.triangle(3)
    assert list(zip(i_index.tolist(), j_index.tolist(), strict=True)) == [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
        (2, 2),
    ]
    with pytest.raises(ValueError, match="read-only"):
        i_index[0] = 5


@given(ROWS.filter(len))
def test_rows_reduce_to_their_definition(y: Floats) -> None:
    """The two-pass reduction gives what the definition gives."""
    close(moments.from_rows(y), by_definition(y))


@given(ROWS, ROWS, ROWS)
def test_merging_is_a_commutative_monoid(a: Floats, b: Floats, c: Floats) -> None:
    """No rows are the identity bit for bit; order and grouping do not matter; the whole is that of all rows at once."""
    x, y, z = (moments.from_rows(rows) for rows in (a, b, c))
    none = moments.from_rows(np.zeros((0, 3)))
    for left, right in ((moments.merge(*x, *none), x), (moments.merge(*none, *x), x)):
        assert all(np.array_equal(p, q) for p, q in zip(left, right, strict=True))
    close(moments.merge(*x, *y), moments.merge(*y, *x))
    whole = moments.merge(*moments.merge(*x, *y), *z)
    close(whole, moments.merge(*x, *moments.merge(*y, *z)))
    close(whole, moments.from_rows(np.concatenate((a, b, c))))


@given(ROWS, ROWS)
def test_unmerging_undoes_merging(a: Floats, b: Floats) -> None:
    """What was merged in comes out again; what is emptied is exactly zero."""
    x, y = moments.from_rows(a), moments.from_rows(b)
    close(moments.unmerge(*moments.merge(*x, *y), *y), x)
    emptied = moments.unmerge(*y, *y)
    assert all(not part.any() for part in emptied)


@pytest.mark.parametrize(("offset", "spread"), [(0.0, 1e-12), (1e9, 1e-6)])
def test_a_thousand_parts_in_any_order_agree(offset: float, spread: float) -> None:
    """Merge orders agree to 1e-12, and at a mean of 1e9 to 1e-6, where raw sums of squares give a variance of 168."""
    rng = np.random.default_rng(1)
    y = rng.normal(offset, 1, (5000, 2))
    parts = [moments.from_rows(rows) for rows in np.array_split(y, 1000)]
    exact = np.var(y - offset, axis=0) * len(y)
    results = []
    for _ in range(5):
        total = moments.from_rows(y[:0])
        for place in rng.permutation(1000):
            total = moments.merge(*total, *parts[place])
        results.append(total)
        np.testing.assert_allclose(total[2][[0, 2]], exact, rtol=spread)
    for total in results[1:]:
        np.testing.assert_allclose(total[1], results[0][1], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(total[2][[0, 2]], results[0][2][[0, 2]], rtol=spread)
    n, mean, comoment = results[0]
    for part in parts[:500]:
        n, mean, comoment = moments.unmerge(n, mean, comoment, *part)
    rest = np.concatenate(np.array_split(y, 1000)[500:])
    assert float(n) == len(rest)
    np.testing.assert_allclose(mean, rest.mean(axis=0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(comoment[[0, 2]], ((rest - rest.mean(axis=0)) ** 2).sum(axis=0), rtol=10 * spread)


def test_leading_shapes_are_merged_cell_by_cell_and_empty_cells_make_no_warning() -> None:
    """A table of cells merges in one call; n = 0 on one side, the other or both is fine."""
    rng = np.random.default_rng(2)
    sizes = [(0, 0), (0, 3), (4, 0), (5, 6)]
    rows = [(rng.normal(size=(p, 3)), rng.normal(size=(q, 3))) for p, q in sizes]
    left, right = (
        tuple(np.stack(parts) for parts in zip(*(moments.from_rows(pair[side]) for pair in rows), strict=True))
        for side in (0, 1)
    )
    n, mean, comoment = moments.merge(*left, *right)
    for place, pair in enumerate(rows):
        close((n[place], mean[place], comoment[place]), moments.from_rows(np.concatenate(pair)), scale=1)


def test_a_constant_column_keeps_its_value_and_zero_comoments_exactly() -> None:
    """The x of an unbinned cell is constant, and merging, unmerging and reducing must not blur it."""
    part = moments.from_rows(np.column_stack((np.full(7, 0.1), np.arange(7.0))))
    total = moments.merge(*part, *moments.from_rows(np.column_stack((np.full(5, 0.1), np.arange(5.0)))))
    left = moments.unmerge(*total, *part)
    for _, mean, comoment in (part, total, left):
        assert mean[0] == 0.1
        assert comoment[0] == 0
        assert comoment[1] == 0


def test_packing_and_unpacking_are_inverse() -> None:
    """A packed triangle becomes the symmetric matrix that numpy's covariance gives, and back."""
    y = np.random.default_rng(3).normal(size=(2, 20, 4))
    packed = np.stack([moments.from_rows(block)[2] for block in y])
    full = moments.unpack(packed)
    np.testing.assert_allclose(full, [np.cov(block.T) * 19 for block in y])
    np.testing.assert_array_equal(moments.pack(full), packed)


def test_more_cannot_come_out_than_is_in() -> None:
    """Taking three runs out of two is told, not computed."""
    y = np.ones((3, 2))
    with pytest.raises(NotEnoughData, match="cannot take 3 runs out"):
        moments.unmerge(*moments.from_rows(y[:2]), *moments.from_rows(y))
