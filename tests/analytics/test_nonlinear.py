"""Non-linear least squares against NIST's certified values, raw rows and scipy."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import curve_fit

from analytics.moments import Floats
from analytics.nonlinear import HYPERBOLIC, POWER, SATURATING, NonlinearFit, Shape, fit_separable, gauss_newton
from models.errors import NotEnoughData
from models.laws import Estimate

NIST = Path(__file__).parents[3] / "shared" / "data" / "nist"
certified = pytest.mark.skipif(not NIST.exists(), reason="NIST's sets of ../shared/data/nist are not on this machine")

SETS = [("DanWood", POWER), ("Misra1a", SATURATING), ("Misra1d", HYPERBOLIC), ("BoxBOD", SATURATING)]


def load(name: str) -> tuple[Floats, Floats, list[tuple[float, float]], float]:
    """Read x, y, the certified (value, error) of each parameter, and the residual sum of squares."""
    text = (NIST / f"{name}.dat").read_text(encoding="ascii")
    rows = np.array([[float(word) for word in line.split()] for line in text.splitlines()[60:] if line.strip()])
    lines = re.findall(r"^ *b\d = +(.*)$", text, re.MULTILINE)
    values = [(float(line.split()[-2]), float(line.split()[-1])) for line in lines]
    squares = re.search(r"Residual Sum of Squares: +(\S+)", text)
    assert squares is not None
    return rows[:, 1], rows[:, 0], values, float(squares[1])


def digits(found: float, right: float) -> float:
    """Count the digits that agree, 11 at most as certified."""
    return min(-math.log10(abs(found / right - 1) + 1e-16), 11)


def expect_certified(fit: NonlinearFit, values: list[tuple[float, float]], squares: float) -> None:
    """Compare parameters, errors and the sum of squares."""
    assert len(fit.parameters) == len(values)
    for found, (value, error) in zip(fit.parameters, values, strict=True):
        assert digits(found.estimate, value) >= 9
        assert digits(found.se, error) >= 9
    assert digits(fit.sse, squares) >= 9


@certified
@pytest.mark.parametrize(("name", "shape"), SETS)
def test_certified_values(name: str, shape: Shape) -> None:
    """Parameters, errors and sums of squares agree with NIST's in at least 9 of 11 digits, without a start."""
    x, y, values, squares = load(name)
    expect_certified(fit_separable(x, y, shape), values, squares)


@certified
def test_certified_values_of_a_curve_that_does_not_separate() -> None:
    """Gauss-Newton reaches NIST's values of Chwirut2 from both of its starts."""
    x, y, values, squares = load("Chwirut2")

    def model(theta: Floats) -> tuple[Floats, Floats]:
        f = np.exp(-theta[0] * x) / (theta[1] + theta[2] * x)
        g = f / (theta[1] + theta[2] * x)
        return f, np.stack((-x * f, -g, -x * g), axis=1)

    for start in ([0.1, 0.01, 0.02], [0.15, 0.008, 0.010]):
        expect_certified(gauss_newton(model, y, np.array(start)), values, squares)


@pytest.mark.parametrize("shape", [POWER, SATURATING, HYPERBOLIC])
def test_slopes_are_the_derivatives(shape: Shape) -> None:
    """The analytic derivative in tau agrees with differences."""
    x = np.array([0.5, 1, 2, 7])
    for tau in (0.05, 0.4, 1.5):
        difference = (shape.curve(x, np.array(tau + 1e-6)) - shape.curve(x, np.array(tau - 1e-6))) / 2e-6
        assert shape.slope(x, np.array(tau)) == pytest.approx(difference, abs=1e-7)


def test_cells_give_the_fit_of_their_raw_rows() -> None:
    """Means with counts and squared deviations fit exactly as the rows do, errors included."""
    rng = np.random.default_rng(1)
    x = np.array([1.0, 2, 3, 5, 8])
    n = np.array([4, 7, 5, 9, 6])
    rows = [0.2 + 0.7 * (1 - np.exp(-0.5 * at)) + rng.normal(0, 0.05, count) for at, count in zip(x, n, strict=True)]
    raw = fit_separable(np.repeat(x, n), np.concatenate(rows), SATURATING, intercept=True)
    means = np.array([row.mean() for row in rows])
    m2 = np.array([((row - row.mean()) ** 2).sum() for row in rows])
    cells = fit_separable(x, means, SATURATING, intercept=True, n=n.astype(np.float64), m2=m2)
    assert [e.estimate for e in cells.parameters] == pytest.approx([e.estimate for e in raw.parameters], rel=1e-9)
    assert cells.covariance == pytest.approx(raw.covariance, rel=1e-7)
    assert cells.dof == raw.dof == 28


def test_an_intercept_agrees_with_scipy() -> None:
    """Y = a + b x^tau: estimates and covariance are those of scipy's least squares."""
    rng = np.random.default_rng(2)
    x = np.linspace(1, 9, 30)
    y = 5 - 3 * x**-0.7 + rng.normal(0, 0.05, 30)
    fit = fit_separable(x, y, POWER, intercept=True)
    other, covariance = curve_fit(lambda x, a, b, tau: a + b * x**tau, x, y, p0=[5, -3, -0.7], xtol=1e-14, ftol=1e-14)
    assert [e.estimate for e in fit.parameters] == pytest.approx(other, rel=1e-6)
    assert fit.covariance == pytest.approx(covariance, rel=1e-4)


def test_gauss_newton_finds_the_separable_fit() -> None:
    """From a far start the damped steps end at the same bottom."""
    x = np.arange(1.0, 9)
    y = 2 * (1 - np.exp(-0.4 * x)) + 0.01 * np.cos(x)

    def model(theta: Floats) -> tuple[Floats, Floats]:
        tau = np.array(theta[1])
        return theta[0] * SATURATING.curve(x, tau), np.stack(
            (SATURATING.curve(x, tau), theta[0] * SATURATING.slope(x, tau)), axis=1
        )

    def near(a: tuple[Estimate, ...], b: tuple[Estimate, ...]) -> bool:
        return all(
            math.isclose(x.estimate, y.estimate, rel_tol=1e-8) and math.isclose(x.se, y.se, rel_tol=1e-6)
            for x, y in zip(a, b, strict=True)
        )

    separable = fit_separable(x, y, SATURATING)
    assert near(gauss_newton(model, y, np.array([20.0, 3.0])).parameters, separable.parameters)


def test_a_shape_that_the_data_do_not_show_is_told() -> None:
    """A rising line has no best rate of saturation within reach; two values or two runs are too few."""
    x = np.arange(1.0, 7)
    with pytest.raises(NotEnoughData, match="not told apart from a simpler one"):
        fit_separable(x, x**1.5, SATURATING)
    with pytest.raises(NotEnoughData, match="has 3 parameters, there are 2 distinct x"):
        fit_separable(np.array([1.0, 1, 2, 2]), np.arange(4.0), POWER, intercept=True)
    with pytest.raises(NotEnoughData, match="needs more than 2 runs, there are 2"):
        fit_separable(np.array([1.0, 2]), np.array([1.0, 3]), POWER)


def test_parameters_that_are_not_told_apart_are_told() -> None:
    """Two parameters that move the curve alike, or one that does not move it, have no estimates."""
    x = np.arange(1.0, 7)
    with pytest.raises(NotEnoughData, match="not told apart"):
        gauss_newton(lambda t: ((t[0] + t[1]) * x, np.stack((x, x), axis=1)), x**2, np.ones(2))
    with pytest.raises(NotEnoughData, match="parameter 1 of the curve changes nothing"):
        gauss_newton(lambda t: (t[0] * x, np.stack((x, 0 * x), axis=1)), x**2, np.ones(2))
