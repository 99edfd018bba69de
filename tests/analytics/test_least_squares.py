"""Least squares from cells against statsmodels on the raw rows."""

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.cells import Cells
from analytics.least_squares import ErrorKind, line, weighted_least_squares
from analytics.moments import Floats
from models.dimensions import Variable
from models.errors import NotEnoughData

KINDS: tuple[ErrorKind, ...] = ("HC0", "HC1", "HC2", "HC3")
LEVELS = np.array([1.0, 2, 3, 4, 6, 8])


def rows(seed: int, size: int = 400) -> tuple[Floats, Floats]:
    """Draw unbalanced values and an outcome whose spread grows with them."""
    rng = np.random.default_rng(seed)
    x = rng.choice(LEVELS, size, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
    return x, 3 + 0.7 * np.log(x) + rng.normal(0, 0.2 + 0.1 * x)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("g", [Variable.X, Variable.LN_X])
@pytest.mark.parametrize("kind", KINDS)
def test_a_line_from_cells_equals_statsmodels_on_the_rows(seed: int, g: Variable, kind: ErrorKind) -> None:
    """Estimates, classical and robust errors, R² and intervals agree to 1e-9."""
    x, y = rows(seed)
    fit = line(Cells.from_rows({"x": x, "y": y}), "y", g, error=kind)
    expected = sm.OLS(y, sm.add_constant(x if g == Variable.X else np.log(x))).fit()
    robust = expected.get_robustcov_results(kind, use_t=True)
    for place, estimate in enumerate((fit.intercept, fit.coefficient)):
        assert estimate.estimate == pytest.approx(expected.params[place], rel=1e-9)
        assert estimate.se_classical == pytest.approx(expected.bse[place], rel=1e-9)
        assert estimate.se == pytest.approx(robust.bse[place], rel=1e-9)
        assert (estimate.lo, estimate.hi) == pytest.approx(tuple(robust.conf_int()[place]), rel=1e-9)
    assert fit.r_squared == pytest.approx(expected.rsquared, abs=1e-9)
    assert (fit.n, fit.dof, fit.error) == (400, 398, kind)


@pytest.mark.parametrize("g", [Variable.X, Variable.LN_X])
def test_binned_rows_give_the_exact_line_and_the_robust_error_of_their_geometric_means(g: Variable) -> None:
    """The line, its classical errors and R² are those of the raw x; HC3 is that of the fit on geometric means."""
    rng = np.random.default_rng(7)
    x = rng.lognormal(8, 1, 500)
    y = 0.1 * np.log(x) + rng.normal(0, 0.3, 500)
    bins = np.floor(4 * np.log2(x))
    cells = Cells.from_rows({"x": x, "y": y}, value=np.exp2(bins / 4), binned=np.ones(500, np.bool_))
    fit = line(cells, "y", g)
    expected = sm.OLS(y, sm.add_constant(x if g == Variable.X else np.log(x))).fit()
    assert fit.coefficient.estimate == pytest.approx(expected.params[1], rel=1e-9)
    assert fit.coefficient.se_classical == pytest.approx(expected.bse[1], rel=1e-9)
    assert fit.intercept.se_classical == pytest.approx(expected.bse[0], rel=1e-9)
    assert fit.r_squared == pytest.approx(expected.rsquared, abs=1e-9)
    middle = np.array([np.exp(np.log(x[bins == bin_]).mean()) for bin_ in bins])
    stand_in = sm.OLS(y, sm.add_constant(middle if g == Variable.X else np.log(middle))).fit()
    robust = stand_in.get_robustcov_results("HC3")
    assert fit.coefficient.se == pytest.approx(robust.bse[1], rel=1e-9)
    assert fit.intercept.se == pytest.approx(robust.bse[0], rel=1e-9)


@pytest.mark.parametrize("kind", [*KINDS, "CR1"])
def test_a_general_design_equals_statsmodels_on_the_rows(kind: ErrorKind) -> None:
    """A hinge and a logarithm beside the intercept: coefficients and full covariance agree to 1e-9."""
    x, y = rows(4)
    cluster = np.random.default_rng(8).integers(0, 9, len(x))
    cells = Cells.from_rows({"x": x, "y": y}, cluster=cluster)

    def design(at: Floats) -> Floats:
        return np.stack((np.ones(len(at)), np.log(at), np.maximum(at - 3, 0)), axis=1)

    fit = weighted_least_squares(design(cells.value), cells, "y", error=kind)
    ordinary = sm.OLS(y, design(x)).fit()
    if kind == "CR1":
        robust = ordinary.get_robustcov_results("cluster", groups=cluster, use_t=True, df_correction=True)
    else:
        robust = ordinary.get_robustcov_results(kind, use_t=True)
    np.testing.assert_allclose(fit.beta, ordinary.params, rtol=1e-9)
    np.testing.assert_allclose(fit.covariance, robust.cov_params(), rtol=1e-8)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), robust.bse, rtol=1e-9)
    np.testing.assert_allclose(fit.covariance_classical, ordinary.cov_params(), rtol=1e-9)
    assert fit.r_squared == pytest.approx(ordinary.rsquared, abs=1e-9)
    assert fit.dof == (8 if kind == "CR1" else 397)
    estimate = fit.estimate(2)
    assert (estimate.lo, estimate.hi) == pytest.approx(tuple(robust.conf_int()[2]), rel=1e-9)


def test_clustered_errors_of_a_line_equal_statsmodels() -> None:
    """CR1 with t of G - 1 degrees of freedom."""
    x, y = rows(5)
    cluster = np.random.default_rng(9).integers(0, 7, len(x))
    fit = line(Cells.from_rows({"x": x, "y": y}, cluster=cluster), "y", Variable.LN_X, error="CR1")
    expected = sm.OLS(y, sm.add_constant(np.log(x))).fit().get_robustcov_results("cluster", groups=cluster, use_t=True)
    assert fit.coefficient.se == pytest.approx(expected.bse[1], rel=1e-9)
    assert (fit.coefficient.lo, fit.coefficient.hi) == pytest.approx(tuple(expected.conf_int()[1]), rel=1e-9)
    assert fit.intercept.se == pytest.approx(expected.bse[0], rel=1e-9)
    assert fit.dof == 6


def test_clustered_intervals_cover_where_the_slopes_differ_by_project() -> None:
    """With 20 projects of random slopes CR1 covers the mean slope in about 95 % of worlds, HC3 in less than 90 %."""
    rng = np.random.default_rng(10)
    worlds, projects, each = 300, 20, 15
    x = np.tile(np.repeat(LEVELS, each), projects)
    project = np.repeat(np.arange(projects), len(LEVELS) * each)
    held = {"CR1": 0, "HC3": 0}
    for _ in range(worlds):
        slope = rng.normal(0.1, 0.08, projects)[project]
        y = 0.4 + slope * np.log(x) + rng.normal(0, 0.3, len(x))
        cells = Cells.from_rows({"x": x, "y": y}, cluster=project)
        for kind in ("CR1", "HC3"):
            fit = line(cells, "y", Variable.LN_X, error=kind).coefficient
            held[kind] += fit.lo <= 0.1 <= fit.hi
    assert 0.91 <= held["CR1"] / worlds <= 0.985
    assert held["HC3"] / worlds < 0.9


def test_a_single_run_that_decides_the_fit_falls_back_to_hc1_and_says_so() -> None:
    """Leverage 1 makes HC3 a division by zero; the result names HC1 instead."""
    x = np.array([1.0, 1, 1, 2])
    y = np.array([0.1, 0.5, 0.2, 0.9])
    fit = line(Cells.from_rows({"x": x, "y": y}), "y", Variable.X)
    expected = sm.OLS(y, sm.add_constant(x)).fit().get_robustcov_results("HC1")
    assert fit.error == "HC1"
    assert fit.coefficient.se == pytest.approx(expected.bse[1], rel=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "g", "reason"),
    [
        ([2.0, 2, 2], [1.0, 2, 3], "x", "at least 2 distinct values, there is 1"),
        ([], [], "x", "at least 2 distinct values, there is 0"),
        ([1.0, 2], [1.0, 2], "x", "more than 2 runs, there are 2"),
        ([1.0, 2, 3], [0.7, 0.7, 0.7], "x", r"same y \(0.7\)"),
        ([0.0, 1, 2], [0.1, 0.2, 0.4], "ln_x", "x = 0 has no logarithm"),
        ([1.0, 2, 3], [0.1, 0.2, 0.4], "ln_z", "no variable 'ln_z'"),
    ],
)
def test_what_cannot_be_fitted_says_why(x: list[float], y: list[float], g: str, reason: str) -> None:
    """Too few values, too few runs, an outcome that never varies and ln 0 are NotEnoughData with the reason."""
    cells = Cells.from_rows({"x": np.array(x), "y": np.array(y)})
    with pytest.raises(NotEnoughData, match=reason):
        line(cells, "y", g)


def test_a_design_with_dependent_columns_or_without_clusters_says_so() -> None:
    """A column that repeats another cannot be told from it; CR1 needs clusters that are kept apart."""
    x, y = rows(6)
    cells = Cells.from_rows({"x": x, "y": y})
    twice = np.stack((np.ones(6), cells.value, 2 * cells.value), axis=1)
    with pytest.raises(NotEnoughData, match="not independent"):
        weighted_least_squares(twice, cells, "y")
    with pytest.raises(NotEnoughData, match="at least 2 clusters, there are 0"):
        line(cells, "y", "x", error="CR1")
    with pytest.raises(NotEnoughData, match="at least 7 distinct settings"):
        weighted_least_squares(np.ones((6, 7)), cells, "y")
