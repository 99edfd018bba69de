"""Cells: rows of moments that add, subtract, select and merge."""

import numpy as np
import pytest

from analytics.cells import Cells, law_cells, law_variables
from models.dimensions import Outcome
from models.errors import NotEnoughData

RNG = np.random.default_rng(4)
X = RNG.choice([1.0, 2.0, 4.0, 0.3], 90)
Y = RNG.normal(size=90)
GROUP = RNG.integers(0, 3, 90)


def alike(a: Cells, b: Cells) -> None:
    """Assert that two cells are equal but for rounding."""
    assert (a.variables, a.label) == (b.variables, b.label)
    np.testing.assert_array_equal(a.value, b.value)
    np.testing.assert_array_equal(a.n, b.n)
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(a.comoment, b.comoment, rtol=1e-11, atol=1e-11)


def test_rows_become_one_sorted_row_a_value() -> None:
    """Each row holds the count, mean and squared deviations of its runs; x does not vary within it, exactly."""
    cells = Cells.from_rows({"x": X, "y": Y})
    assert cells.variables == ("x", "y", "ln_x")
    assert cells.value.tolist() == [0.3, 1, 2, 4]
    for place, value in enumerate(cells.value):
        runs = Y[value == X]
        assert cells.n[place] == len(runs)
        assert cells.mean[place, 1] == pytest.approx(runs.mean(), rel=1e-12)
        assert cells.comoment[place, 1, 1] == pytest.approx(((runs - runs.mean()) ** 2).sum(), rel=1e-12)
        assert cells.mean[place, 0] == value
    assert not cells.comoment[:, 0].any()
    assert not cells.comoment[:, 2].any()
    assert cells.distinct == 4


def test_adding_parts_equals_reducing_all_rows_and_subtracting_undoes_it() -> None:
    """Cells are a monoid with inverses: parts add to the whole, in either order, and come out again."""
    first, second = (Cells.from_rows({"x": X[rows], "y": Y[rows]}) for rows in (slice(40), slice(40, None)))
    whole = Cells.from_rows({"x": X, "y": Y})
    alike(first + second, whole)
    alike(second + first, whole)
    alike(whole - second, first)
    alike(whole + Cells.empty(whole.variables), whole)
    assert len((whole - whole).n) == 0


def test_only_what_is_in_comes_out() -> None:
    """Taking out a value that is not there, or too many runs of it, is NotEnoughData."""
    cells = Cells.from_rows({"x": X, "y": Y})
    with pytest.raises(NotEnoughData, match=r"runs at \(9\.0"):
        _ = cells - Cells.from_rows({"x": np.array([9.0]), "y": np.array([1.0])})
    with pytest.raises(NotEnoughData, match="cannot take"):
        _ = cells - (cells + cells)
    with pytest.raises(NotEnoughData, match="do not add"):
        _ = cells + cells.select(["x", "y"])


def test_the_total_is_that_of_all_rows_at_once() -> None:
    """Between-row and within-row deviations add up to the raw rows' covariance, in bins too."""
    value = np.where(X > 1, 3.0, X)
    cells = Cells.from_rows({"x": X, "y": Y}, value=value, binned=X > 1)
    n, mean, comoment = cells.total()
    rows = np.stack((X, Y, np.log(X)))
    assert n == 90
    np.testing.assert_allclose(mean, rows.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(comoment, np.cov(rows) * 89, rtol=1e-12)
    with pytest.raises(NotEnoughData, match="no runs"):
        Cells.empty(("x",)).total()


def test_a_bin_keeps_the_moments_of_x_and_stands_at_its_geometric_mean() -> None:
    """A binned row knows the mean and the geometric mean of its x; an unbinned one is at its value."""
    value = np.where(X > 1, 3.0, X)
    cells = Cells.from_rows({"x": X, "y": Y}, value=value, binned=X > 1)
    assert cells.value.tolist() == [0.3, 1, 3]
    assert cells.x.tolist()[2] == pytest.approx(X[X > 1].mean())
    np.testing.assert_allclose(cells.geometric_x, [0.3, 1, np.exp(np.log(X[X > 1]).mean())])
    assert cells.comoment[2, 0, 0] == pytest.approx(X[X > 1].var() * (X > 1).sum())


def test_bins_labels_and_clusters_keep_rows_apart() -> None:
    """A bin never mixes with a number, a label with another, a cluster with another; law cells merge the clusters."""
    columns = {"x": np.full(4, 2.0), "success": np.array([1.0, 0, 1, 1])}
    by_bin = Cells.from_rows(columns, binned=np.array([True, False, True, False]))
    assert by_bin.n.tolist() == [2, 2]
    by_cluster = Cells.from_rows(columns, cluster=np.array([5, 5, 5, 1]))
    assert by_cluster.n.tolist() == [1, 3]
    assert by_cluster.cluster is not None
    assert by_cluster.cluster.tolist() == [1, 5]
    assert law_cells(by_cluster, Outcome.SUCCESS).n.tolist() == [4]
    by_label = Cells.from_rows({"success": columns["success"]}, label=["small", "large", "small", "medium"])
    assert by_label.label == ("large", "medium", "small")
    assert by_label.n.tolist() == [1, 1, 2]
    assert np.isnan(by_label.value).all()
    alike(by_label + by_label - by_label, by_label)
    assert by_label.distinct == 3


def test_selection_keeps_the_chosen_axes_in_order() -> None:
    """Selecting variables reorders means and co-moments alike; an unknown one is told with those there are."""
    cells = Cells.from_rows({"x": X, "y": Y, "z": Y**2})
    chosen = cells.select(["z", "y"])
    np.testing.assert_array_equal(chosen.mean, cells.mean[:, [2, 1]])
    np.testing.assert_array_equal(chosen.comoment[:, 0, 1], cells.comoment[:, 2, 1])
    np.testing.assert_array_equal(cells.where(cells.value > 1).value, [2, 4])
    with pytest.raises(NotEnoughData, match=r"no variable 'w' \(they keep z, y\)"):
        chosen.select(["w"])


def test_empty_rows_count_for_nothing() -> None:
    """A cell that a correction emptied is dropped when cells are merged."""
    cells = Cells.from_rows({"x": X, "y": Y})
    emptied = Cells(
        variables=cells.variables,
        value=cells.value,
        label=cells.label,
        binned=cells.binned,
        n=np.where(cells.value == 2, 0, cells.n),
        mean=cells.mean,
        comoment=cells.comoment,
    )
    assert emptied.merged().value.tolist() == [0.3, 1, 4]


def test_law_variables_name_the_clipped_log_where_one_is_kept() -> None:
    """Success needs no logarithm of its own; the other outcomes bring theirs."""
    assert law_variables(Outcome.SUCCESS) == ("x", "ln_x", "success")
    assert law_variables(Outcome.TIME_TO_COMPLETE) == ("x", "ln_x", "time_to_complete", "ln_time")
    assert law_variables(Outcome.TOTAL_COST)[3] == "clipped_ln_cost"
