"""From the grid to the best shape: Gauss-Newton steps that never lose, and the tangent at the fit."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from analytics.families import CURVES, KINDS, PLATEAU, POWER, POWER_CEILING, SATURATING_EXPONENTIAL, make
from analytics.moments import Floats
from analytics.refinement import refine

X = np.array([1.0, 2, 3, 4, 6, 8])


def means(seed: int) -> tuple[Floats, Floats]:
    """Draw rising means and one over their errors."""
    rng = np.random.default_rng(seed)
    se = rng.uniform(0.01, 0.04, len(X))
    return 0.7 - 0.4 * np.exp(-(X - 1) / 2) + rng.normal(0, se), 1 / se


def loss(name: str, shape: float, mean: Floats, root: Floats) -> float:
    """Compute χ² at a shape, the linear parameters by least squares."""
    family = make(name, X, X, np.array([[shape]]))
    design = np.stack([column[0] for column in family.columns], axis=1) * root[:, None]
    return float(np.linalg.lstsq(design, mean * root, rcond=None)[1].sum())


@pytest.mark.parametrize("name", [POWER, POWER_CEILING, SATURATING_EXPONENTIAL, "michaelis_menten"])
@pytest.mark.parametrize("seed", range(5))
def test_the_refined_shape_has_the_least_loss_within_the_grids_range(name: str, seed: int) -> None:
    """A bounded scalar search around the grid's best shape finds nothing better, and the ends are held."""
    mean, root = means(seed)
    grid = KINDS[name].grid(X)[:, 0]
    place = int(np.argmin([loss(name, shape, mean, root) for shape in grid]))
    fit = refine(name, grid[[place]], X, mean, root)
    bounds = float(grid[max(place - 1, 0)]), float(grid[min(place + 1, len(grid) - 1)])
    best = minimize_scalar(lambda at: loss(name, at, mean, root), bounds=bounds, options={"xatol": 1e-12})
    assert loss(name, float(fit.shape[0]), mean, root) <= best.fun + 1e-9
    assert fit.inside == bool(grid[0] < fit.shape[0] < grid[-1])
    if fit.inside:
        assert fit.shape[0] == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize("name", CURVES)
def test_the_tangent_is_the_fit_with_all_its_derivatives(name: str) -> None:
    """Its base is f at the fit; its columns are the Jacobian, which finite differences of f confirm."""
    mean, root = means(7)
    grid = KINDS[name].grid(X)
    fit = refine(name, grid[len(grid) // 2], X, mean, root)
    tangent = fit.tangent(X, X)
    jacobian = fit.jacobian(X, X)

    def curve(parameters: Floats) -> Floats:
        family = make(name, X, X, parameters[None, len(fit.linear) :])
        columns = np.stack([column[0] for column in family.columns], axis=1)
        return np.asarray(family.base[0] + columns @ parameters[: len(fit.linear)])

    at = np.concatenate((fit.linear, fit.shape))
    assert tangent.base[0] == pytest.approx(curve(at), abs=1e-12)
    assert np.stack([column[0] for column in tangent.columns], axis=1) == pytest.approx(jacobian)
    assert jacobian.shape == (len(X), fit.size if fit.inside else len(fit.linear))
    for place in range(jacobian.shape[1]):
        step = np.zeros(len(at))
        step[place] = 1e-6
        numeric = (curve(at + step) - curve(at - step)) / 2e-6
        assert jacobian[:, place] == pytest.approx(numeric, rel=1e-5, abs=1e-7)


def test_a_breakpoint_stays_where_the_grid_has_it() -> None:
    """A kink has no derivative to step along: the shape is that of the start, only its line is fitted."""
    mean, root = means(3)
    fit = refine(PLATEAU, np.array([4.0]), X, mean, root)
    assert (fit.inside, fit.shape.tolist()) == (False, [4.0])
    expected = np.polyfit(np.minimum(X, 4.0), mean, 1, w=root)
    assert fit.linear == pytest.approx(expected[::-1])


def test_a_shape_that_wants_to_leave_its_range_stays_at_the_end() -> None:
    """Means that fall steeper than any power of the range are fitted at its end, and that is said."""
    mean, grid = X**-5.0, KINDS[POWER].grid(X)
    fit = refine(POWER, grid[1], X, mean, np.full(len(X), 100.0))
    assert -5.0 < grid[0, 0] < grid[1, 0]
    assert fit.shape.tolist() == grid[0].tolist()
    assert not fit.inside
