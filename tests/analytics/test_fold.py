"""Folding a batch into many cells at once, against each cell's own rows in extended precision."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from analytics.fold import Membership, fold
from analytics.moments import triangle

Floats = NDArray[np.float64]


def membership_of(cells_of_rows: list[list[int]], count: int) -> Membership:
    """List which cells each row falls in."""
    start = np.cumsum([0, *map(len, cells_of_rows)]).astype(np.int32)
    return Membership(start, np.array(list(chain.from_iterable(cells_of_rows)), dtype=np.int32), count)


def two_passes(y: Floats) -> tuple[Floats, Floats]:
    """Compute mean and packed co-moments of rows in extended precision."""
    wide = y.astype(np.longdouble)
    away = wide - wide.mean(axis=0)
    first, second = triangle(y.shape[1])
    return np.asarray(wide.mean(axis=0), np.float64), np.asarray((away.T @ away)[first, second], np.float64)


@given(
    st.lists(st.lists(st.sampled_from((1, 2, 3)), unique=True, max_size=3), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_every_cell_has_the_moments_of_its_rows(extra: list[list[int]], seed: int) -> None:
    """Whatever the memberships, count, means and co-moments are those of two passes over the cell's rows."""
    cells = [[0, *own] for own in extra]
    used = sorted({cell for own in cells for cell in own})
    cells = [[used.index(cell) for cell in own] for own in cells]
    y = np.random.default_rng(seed).normal(5, 2, (len(cells), 3))
    n, mean, comoment = fold(membership_of(cells, len(used)), y, y.mean(axis=0)).moments
    for cell in range(len(used)):
        rows = y[[cell in own for own in cells]]
        expected_mean, expected = two_passes(rows)
        assert n[cell] == len(rows)
        np.testing.assert_allclose(mean[cell], expected_mean, rtol=1e-13)
        np.testing.assert_allclose(comoment[cell], expected, rtol=1e-10, atol=1e-11)


def test_refinement_keeps_the_variance_at_an_offset_of_a_billion() -> None:
    """Two cells far apart share a centre; where it stands far off, one product loses digits and `refine` has them."""
    rng = np.random.default_rng(5)
    near, far = rng.integers(-512, 512, (400, 1)) / 256, 1e9 + rng.integers(-512, 512, (400, 1)) / 256
    y = np.concatenate((near, far))
    folded = fold(membership_of([[0]] * 400 + [[1]] * 400, 2), y, y.mean(axis=0))
    for cell, rows in enumerate((near, far)):
        _, expected = two_passes(rows)
        assert abs(folded.moments[2][cell, 0] - expected[0]) > 0.1 * expected[0], "too easy to show anything"
        assert folded.error[cell, 0] > expected[0], "the error must tell of the loss"
    again = folded.refine(np.array([0, 1]))
    np.testing.assert_allclose(again[2][0], two_passes(near)[1], rtol=1e-12)
    np.testing.assert_allclose(again[2][1], two_passes(far)[1], rtol=1e-12)
    np.testing.assert_allclose(again[1][1], far.mean(), rtol=1e-16)


@pytest.mark.parametrize("offset", [0.0, 3.0, 10.0, 30.0])
def test_the_error_tells_what_rounding_costs(offset: float) -> None:
    """However far the centre stands from a cell of many rows, the loss stays below the estimate."""
    for seed in range(5):
        y = np.random.default_rng(seed).normal(offset, 1, (8000, 1))
        folded = fold(membership_of([[0]] * 8000, 1), y, np.zeros(1))
        assert abs(folded.moments[2][0, 0] - two_passes(y)[1][0]) <= folded.error[0, 0]


def test_a_cell_of_one_run_has_no_spread_at_all() -> None:
    """With one run the co-moments are exactly zero and nothing needs to be refined."""
    y = np.array([[1e9 + 0.1], [3.0]])
    folded = fold(membership_of([[0], [1]], 2), y, y.mean(axis=0))
    assert folded.moments[2].tolist() == [[0.0], [0.0]]
    assert folded.error.tolist() == [[0.0], [0.0]]


def test_rows_may_be_relative_to_their_cells_origin() -> None:
    """Rows given about the middle of their bin come out about zero, co-moments untouched."""
    x = np.array([1000.0, 1010.0, 5000.0, 5020.0])
    origin = np.array([[1005.0], [5010.0]])
    members = membership_of([[0], [0], [1], [1]], 2)
    inside = x[:, None] - origin[[0, 0, 1, 1]]
    n, mean, comoment = fold(members, inside, np.zeros(1), origin).moments
    assert n.tolist() == [2, 2]
    assert mean[:, 0].tolist() == [1005.0, 5010.0]
    assert comoment[:, 0] == pytest.approx([50.0, 200.0], rel=1e-15)
    refined = fold(members, inside, np.zeros(1), origin).refine(np.array([1]))
    assert [part.ravel().tolist() for part in refined] == [[2.0], [5010.0], [200.0]]
