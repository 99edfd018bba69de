"""The families of curves: their parameters against scipy's optimiser, their slopes against differences."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import curve_fit

from analytics.families import (
    ANY_OF_K,
    ATTEMPT_CURVES,
    BETA_BINOMIAL,
    CURVES,
    HUMP,
    KINDS,
    LINEAR,
    LOG_CURVES,
    LOGARITHMIC,
    MICHAELIS_MENTEN,
    PLATEAU,
    POWER,
    POWER_CEILING,
    QUADRATIC_LOG,
    SATURATING_EXPONENTIAL,
    SCALABILITY,
    families,
    make,
)
from analytics.moments import Floats
from analytics.refinement import refine
from models.errors import NotEnoughData

X = np.array([1.0, 2, 3, 4, 6, 8, 12])

FORMULAS: dict[str, tuple[Callable[..., Floats], tuple[float, ...]]] = {
    LINEAR: (lambda x, a, b: a + b * x, (0.3, 0.02)),
    LOGARITHMIC: (lambda x, a, b: a + b * np.log(x), (0.3, 0.1)),
    QUADRATIC_LOG: (lambda x, a, b, c: a + b * np.log(x) + c * np.log(x) ** 2, (0.3, 0.3, -0.08)),
    POWER: (lambda x, a, b: a * x**b, (0.3, 0.35)),
    POWER_CEILING: (lambda x, e, a, b: e - a * x**-b, (0.8, 0.5, 0.9)),
    SATURATING_EXPONENTIAL: (lambda x, e, a, t: e - a * np.exp(-(x - 1) / t), (0.75, 0.45, 2.5)),
    MICHAELIS_MENTEN: (lambda x, a, b, t: a + b * x / (t + x), (0.1, 0.8, 3.0)),
    ANY_OF_K: (lambda x, p, b: 1 - (1 - p) ** (x**b), (0.3, 0.6)),
    SCALABILITY: (
        lambda x, a, s, k: a + np.log((1 + s * (x - 1) + k * x * (x - 1)) / x),
        (4.0, 0.12, 0.006),
    ),
}
"""Each smooth family as a reader would write it down, with parameters to plant."""


def noisy(name: str, seed: int) -> tuple[Floats, Floats]:
    """Draw means about the planted curve, and their standard errors, which differ."""
    rng = np.random.default_rng(seed)
    formula, planted = FORMULAS[name]
    se = rng.uniform(0.005, 0.02, len(X))
    return formula(X, *planted) + rng.normal(0, se), se


def start_on_grid(name: str, mean: Floats, root: Floats) -> Floats:
    """Try every shape of the grid by plain weighted least squares; give the best."""
    grid = KINDS[name].grid(X)
    losses = []
    for shape in grid:
        family = make(name, X, X, shape[None])
        away = (mean - family.base[0]) * root
        if family.columns:
            design = np.stack([column[0] for column in family.columns], axis=1) * root[:, None]
            away = away - design @ np.linalg.lstsq(design, away, rcond=None)[0]
        losses.append(float(away @ away))
    return np.asarray(grid[int(np.argmin(losses))])


@pytest.mark.parametrize("name", list(FORMULAS))
@pytest.mark.parametrize("seed", range(4))
def test_parameters_are_those_of_scipys_optimiser(name: str, seed: int) -> None:
    """On noisy means with unequal errors, each smooth family has scipy's weighted least-squares fit."""
    mean, se = noisy(name, seed)
    formula, planted = FORMULAS[name]
    fit = refine(name, start_on_grid(name, mean, 1 / se), X, mean, 1 / se)
    found = np.concatenate((fit.linear, fit.shape))
    expected, _ = curve_fit(formula, X, mean, planted, sigma=se, xtol=1e-14, ftol=1e-14, gtol=1e-14, maxfev=20_000)

    def chi2(parameters: Floats) -> float:
        return float((((mean - formula(X, *parameters)) / se) ** 2).sum())

    assert chi2(found) == pytest.approx(chi2(expected), abs=1e-9)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_heterogeneous_tries_are_the_mean_over_betas_chances() -> None:
    """1 - E[(1 - p)^x] is what an integral over Beta's density gives; with a huge concentration all chances agree."""
    chance, concentration = 0.3, 4.0
    p = (np.arange(200_000) + 0.5) / 200_000
    density = p ** (chance * concentration - 1) * (1 - p) ** ((1 - chance) * concentration - 1)
    expected = [1 - float((density * (1 - p) ** k).sum() / density.sum()) for k in X]
    base = make(BETA_BINOMIAL, X, X, np.array([[chance, concentration], [chance, 1e7]])).base
    assert base[0] == pytest.approx(expected, abs=1e-4)
    assert base[1] == pytest.approx(1 - 0.7**X, abs=1e-5)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.slopes is not None])
@pytest.mark.parametrize("seed", range(3))
def test_slopes_by_the_shape_are_those_of_differences(name: str, seed: int) -> None:
    """The analytic derivative of f by each shape parameter is the central difference, anywhere inside the grid."""
    rng = np.random.default_rng(seed)
    grid = KINDS[name].grid(X)
    low, high = grid.min(axis=0), grid.max(axis=0)
    shape = low + (high - low) * rng.uniform(0.2, 0.8, grid.shape[1])
    linear = rng.normal(0, 1, len(KINDS[name].names) - grid.shape[1])

    def curve(at: Floats) -> Floats:
        family = make(name, X, X, at[None])
        total = family.base[0]
        for value, column in zip(linear, family.columns, strict=True):
            total = total + value * column[0]
        return np.asarray(total)

    slopes = KINDS[name].slopes
    assert slopes is not None
    found = slopes(X, shape, linear)
    for place in range(len(shape)):
        step = np.zeros(len(shape))
        step[place] = 1e-5 * max(abs(shape[place]), 1e-2)
        numeric = (curve(shape + step) - curve(shape - step)) / (2 * step[place])
        assert found[place] == pytest.approx(numeric, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", [PLATEAU, HUMP])
@pytest.mark.parametrize("x", [X, 1000 * 2.0 ** np.arange(8)], ids=["counts", "tokens"])
def test_broken_lines_bend_at_their_breakpoint_alone(name: str, x: Floats) -> None:
    """On x, or on ln x over a wide range, a plateau is flat beyond its breakpoint and both are straight before it."""
    axis = np.log(x) if x[-1] > 24.5 * x[0] else x
    for shape in KINDS[name].grid(x):
        bend = np.log(shape[0]) if x[-1] > 24.5 * x[0] else shape[0]
        family = make(name, x, x, shape[None])
        assert axis[0] < bend < axis[-1]
        assert family.columns[1][0] == pytest.approx(np.minimum(axis, bend))
        if name == HUMP:
            assert family.columns[2][0] == pytest.approx(np.maximum(axis - bend, 0.0), abs=1e-12)


def test_two_values_have_a_line_and_more_values_more_families() -> None:
    """A family needs fewer parameters than there are values; of two values only level and step can be told."""

    def names(x: Floats, wanted: tuple[str, ...] = ATTEMPT_CURVES) -> set[str]:
        return {family.name for family in families(wanted, x, x)}

    assert names(X[:2]) == {"constant", LOGARITHMIC}
    assert names(X[:3]) == {name for name in ATTEMPT_CURVES if len(KINDS[name].names) < 3}
    assert names(X[:4]) == {name for name in ATTEMPT_CURVES if len(KINDS[name].names) < 4}
    assert names(X) == {*ATTEMPT_CURVES}
    assert names(X, CURVES) == {*CURVES}
    assert names(X, (*LOG_CURVES, SCALABILITY)) == {*CURVES, SCALABILITY} - {POWER}
    with pytest.raises(NotEnoughData, match="at least 2 distinct values above 0, there are 1"):
        families(CURVES, X[:1], X[:1])
