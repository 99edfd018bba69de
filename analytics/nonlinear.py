"""Non-linear least squares, certified: curves that are linear but for one shape parameter, and Gauss-Newton steps.

For y = a + b g(x; tau) the best a and b of each tau have a closed form (variable projection), so a grid of tau finds
the basin and a root of the profile's derivative its bottom: no starting values, no luck.

References:
    Golub and Pereyra (1973), "The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose
    Variables Separate"; NIST Statistical Reference Datasets (the certified values that the tests compare with).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats
from models.errors import NotEnoughData
from models.laws import Estimate

GRID = 120
REFINEMENTS = 4
ITERATIONS = 500
TOLERANCE = 1e-12
"""Gauss-Newton stops when the next step is below this share of the standard errors."""

STUCK = 1e16
SLACK = 1e-10
"""Near the bottom the sum of squares no longer tells a good step from none."""

FLAT = 1e-24
"""A curve whose variance is below this share of its square cannot be told from a constant."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A curve g(x; tau) with its derivative in tau, and where to look for tau.

    Attributes:
        name: What it is called.
        curve: g; broadcasts x [R] with tau [T, 1].
        slope: dg / dtau, likewise.
        grid: Candidates of tau for given x, ascending. [T]
    """

    name: str
    curve: Callable[[Floats, Floats], Floats]
    slope: Callable[[Floats, Floats], Floats]
    grid: Callable[[Floats], Floats]


def _rates(x: Floats) -> Floats:
    """Look for a rate from "nearly a line" to "over before the first x"."""
    positive = np.abs(x[x != 0])
    return np.geomspace(1e-3 / positive.max(), 30 / positive.min(), GRID)


POWER = Shape("x^tau", lambda x, tau: x**tau, lambda x, tau: x**tau * np.log(x), lambda _: np.linspace(-6, 6, GRID))
"""For x > 0."""

SATURATING = Shape("1 - exp(-tau x)", lambda x, tau: -np.expm1(-tau * x), lambda x, tau: x * np.exp(-tau * x), _rates)
HYPERBOLIC = Shape(
    "tau x / (1 + tau x)", lambda x, tau: tau * x / (1 + tau * x), lambda x, tau: x / (1 + tau * x) ** 2, _rates
)
"""Michaelis and Menten's curve, half way up at x = 1 / tau."""


@dataclass(frozen=True, slots=True, eq=False)
class NonlinearFit:
    """Estimates with classical errors s² (J' W J)⁻¹ and t intervals of N - p degrees of freedom.

    Attributes:
        parameters: In the order of the model's arguments.
        covariance: Of the parameters. [p, p]
        sse: The sum of squared residuals, pure error included.
        dof: N - p.
    """

    parameters: tuple[Estimate, ...]
    covariance: Floats
    sse: float
    dof: int


def fit_separable(
    x: Floats,
    y: Floats,
    shape: Shape,
    *,
    intercept: bool = False,
    n: Floats | None = None,
    m2: Floats | None = None,
    level: float = LEVEL,
) -> NonlinearFit:
    """Fit y = b g(x; tau), or y = a + b g(x; tau), by least squares; from cells exactly as from their raw rows.

    Equation: minimise Σ m2 + n (y - f)²; the profile's derivative is -2 b Σ n (y - f) dg/dtau, whose root is found to
    the last digits.

    Args:
        x: Settings. [R]
        y: The outcome, or its mean, at each. [R]
        shape: The curve.
        intercept: Whether a stands in the model.
        n: Runs at each x; one where absent. [R]
        m2: Their squared deviations from y; none where absent. [R]
        level: The coverage of the intervals.

    Returns:
        The fit with the parameters ([a,] b, tau).

    Raises:
        NotEnoughData: Fewer distinct x than parameters, no degree of freedom left, or no tau inside the grid is best.
    """
    weight = np.ones(len(x)) if n is None else n
    pure = 0.0 if m2 is None else float(m2.sum())
    p = 3 if intercept else 2
    if len(np.unique(x)) < p:
        message = f"{shape.name} has {p} parameters, there are {len(np.unique(x))} distinct x: vary x"
        raise NotEnoughData(message)
    _expect_freedom(weight, p)
    tau = _shape_parameter(x, y, weight, shape, intercept=intercept)
    a, b, residual = _linear(shape.curve(x, np.array([[tau]])), y, weight, intercept=intercept)
    columns = [shape.curve(x, np.array(tau)), b[0] * shape.slope(x, np.array(tau))]
    jacobian = np.stack([np.ones(len(x)), *columns] if intercept else columns, axis=1)
    values = [float(a[0])] if intercept else []
    sse = pure + float(weight @ residual[0] ** 2)
    return _summary(np.array([*values, float(b[0]), tau]), jacobian, weight, sse, level)


def gauss_newton(
    model: Callable[[Floats], tuple[Floats, Floats]],
    y: Floats,
    start: Floats,
    *,
    n: Floats | None = None,
    level: float = LEVEL,
) -> NonlinearFit:
    """Minimise Σ n (y - f(theta))² from a start, by Gauss-Newton steps that are damped until they descend.

    Args:
        model: Gives f [R] and its derivatives [R, p] at theta [p].
        y: The outcome. [R]
        start: Where to start. [p]
        n: Runs behind each y; one where absent. [R]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: No degree of freedom is left, a parameter changes nothing, or the steps do not settle.
    """
    weight = np.ones(len(y)) if n is None else n
    _expect_freedom(weight, len(start))
    rounding = 8 * np.finfo(np.float64).eps * math.sqrt(float(weight @ (y * y)))
    theta, damping = start, 1e-3
    mean, jacobian = model(theta)
    sse = float(weight @ (y - mean) ** 2)
    for _ in range(ITERATIONS):
        root = np.sqrt(weight)
        scale = np.sqrt(weight @ jacobian**2)
        if not (scale > 0).all():
            message = f"parameter {int(np.argmin(scale))} of the curve changes nothing at {theta.tolist()}: vary x"
            raise NotEnoughData(message)
        design, residual = jacobian / scale * root[:, None], (y - mean) * root
        q, r = np.linalg.qr(design)
        told_apart = np.abs(np.diag(r)) > FLAT**0.5
        if float(np.linalg.norm((q.T @ residual)[told_apart])) <= max(TOLERANCE * math.sqrt(sse), rounding):
            return _summary(theta, jacobian, weight, sse, level)
        while True:
            damped = np.linalg.solve(r.T @ r + damping * np.eye(len(theta)), design.T @ residual)
            trial = theta + damped / scale
            trial_mean, trial_jacobian = model(trial)
            trial_sse = float(weight @ (y - trial_mean) ** 2)
            if trial_sse <= sse * (1 + SLACK) + rounding**2:
                break
            damping *= 8
            if damping > STUCK:
                message = f"no step from {theta.tolist()} brings the curve closer: start elsewhere"
                raise NotEnoughData(message)
        theta, mean, jacobian, sse, damping = trial, trial_mean, trial_jacobian, trial_sse, damping / 8
    message = f"the curve did not settle within {ITERATIONS} steps (at {theta.tolist()}): vary x over a wider range"
    raise NotEnoughData(message)


def _shape_parameter(x: Floats, y: Floats, weight: Floats, shape: Shape, *, intercept: bool) -> float:
    """Find the tau of least squares: a grid for the basin, finer ones until its bottom is bracketed, then the root."""

    def derivative(tau: float) -> float:
        _, b, residual = _linear(shape.curve(x, np.array([[tau]])), y, weight, intercept=intercept)
        return -float(b[0] * (weight * residual[0]) @ shape.slope(x, np.array(tau)))

    grid = shape.grid(x)
    for _ in range(REFINEMENTS):
        _, _, residual = _linear(shape.curve(x, grid[:, None]), y, weight, intercept=intercept)
        best = int(np.argmin(residual**2 @ weight))
        if best in {0, len(grid) - 1}:
            break
        lo, hi = float(grid[best - 1]), float(grid[best + 1])
        if derivative(lo) < 0 < derivative(hi):
            return float(brentq(derivative, lo, hi, xtol=1e-300, rtol=4 * np.finfo(np.float64).eps, maxiter=200))
        grid = np.linspace(lo, hi, GRID)
    message = (
        f"no tau of {shape.name} between {grid[0]:g} and {grid[-1]:g} fits best: the curve is not told apart from a "
        "simpler one; vary x over a wider range"
    )
    raise NotEnoughData(message)


def _linear(g: Floats, y: Floats, weight: Floats, *, intercept: bool) -> tuple[Floats, Floats, Floats]:
    """Solve for a and b at each of T shapes, g [T, R]; give a [T], b [T] and residuals [T, R]."""
    size = weight.sum()
    g_mean = (g @ weight / size if intercept else np.zeros(len(g)))[:, None]
    y_mean = float(weight @ y / size) if intercept else 0.0
    away, dy = g - g_mean, y - y_mean
    spread = away**2 @ weight
    flat = spread <= FLAT * (g**2 @ weight)
    b = np.where(flat, 0.0, away @ (weight * dy) / np.where(flat, 1.0, spread))
    return y_mean - b * g_mean[:, 0], b, dy - b[:, None] * away


def _summary(theta: Floats, jacobian: Floats, weight: Floats, sse: float, level: float) -> NonlinearFit:
    p, dof = len(theta), _expect_freedom(weight, len(theta))
    _, r = np.linalg.qr(jacobian * np.sqrt(weight)[:, None])
    pivots = np.abs(np.diag(r))
    if not (pivots > np.finfo(np.float64).eps * np.abs(r).max(axis=0)).all():
        message = f"the {p} parameters of the curve are not told apart by {len(jacobian)} settings: vary x"
        raise NotEnoughData(message)
    inverse = np.linalg.inv(r)
    covariance = inverse @ inverse.T * (sse / dof)
    t = t_quantile(dof, level)
    rows = zip(theta.tolist(), np.sqrt(np.diag(covariance)).tolist(), strict=True)
    estimates = tuple(Estimate(value, se, value - t * se, value + t * se) for value, se in rows)
    return NonlinearFit(estimates, covariance, sse, dof)


def _expect_freedom(weight: Floats, p: int) -> int:
    size = float(weight.sum())
    if size <= p:
        message = f"a curve of {p} parameters needs more than {p} runs, there are {size:g}: collect more runs"
        raise NotEnoughData(message)
    return int(size) - p
