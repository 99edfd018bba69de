"""How much an imprecise complexity score matters: the adjusted slope as a function of the score's reliability."""

from dataclasses import dataclass

import numpy as np

from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats
from analytics.standardisation import Comparison
from models.errors import NotEnoughData
from models.laws import Estimate

STEPS = 40
"""Reliabilities tried between 1 and the least possible one, before the crossing is bisected."""

BISECTIONS = 20


@dataclass(frozen=True, slots=True, eq=False)
class ErrorsInVariables:
    """The linear model y = a + b ln x + g z + h'c, where only w = z + u is seen, u being pure noise.

    The reliability r = Var z / Var w says how much of the score is difficulty. Noise inflates the score's own sum of
    squares by (1 - r) N Var w and no other moment, so that with ~ for what is left after c (and the constant):

        (b, g)' = M(r)⁻¹ (S_xy, S_wy)',   M(r) = ((S_xx, S_xw), (S_xw, S_ww - (1 - r) N Var w)).

    M is singular at r = R² of w on (ln x, c): no lower reliability is possible, as noise cannot be explained by them.
    The slope's standard error is that of its estimating equations, Var w being estimated too: a run's influence is
    M⁻¹ (x~ ε, w~ ε + g (1 - r) (w - w̄)²)'.

    Attributes:
        x: ln x after c. [R]
        w: The score after c. [R]
        y: The mean outcome after c. [R]
        square: (w - w̄)². [R]
        runs: The rows.
        least: The least possible reliability.
        parameters: Number of coefficients.

    References:
        Fuller (1987), "Measurement Error Models", section 2.2.
    """

    x: Floats
    w: Floats
    y: Floats
    square: Floats
    runs: Comparison
    least: float
    parameters: int

    def slope(self, reliability: float, level: float = LEVEL) -> Estimate:
        """Give the slope on ln x, corrected for the score's reliability.

        Raises:
            NotEnoughData: The reliability is not above the least possible one.
        """
        if not self.least < reliability <= 1:
            message = (
                f"a complexity score of reliability {reliability:g} cannot be corrected for: ln x and the covariates "
                f"explain {self.least:.3g} of it, so its reliability lies above that and is at most 1"
            )
            raise NotEnoughData(message)
        n, x, w, runs = self.runs.n, self.x, self.w, self.runs
        noise = 1 - reliability
        xx, xw, ww = (n * x) @ x, (n * x) @ w, (n * w) @ w - noise * (n @ self.square)
        xy, wy = (n * x) @ self.y, (n * w) @ self.y
        determinant = xx * ww - xw * xw
        b, gamma = (xy * ww - xw * wy) / determinant, (xx * wy - xw * xy) / determinant
        pull = (ww * x - xw * w) / determinant
        residual = self.y - b * x - gamma * w
        run = pull * residual - xw / determinant * gamma * noise * self.square
        size = float(n.sum())
        if runs.cluster is None:
            dof = int(size) - self.parameters
            variance = (n @ (run * run) + (pull * pull) @ runs.m2) * size / dof
        else:
            _, place = np.unique(runs.cluster, return_inverse=True)
            scores = np.bincount(place, n * run)
            dof = len(scores) - 1
            variance = scores @ scores * (dof + 1) / dof
        se, t = float(variance) ** 0.5, t_quantile(dof, level)
        return Estimate(float(b), se, float(b) - t * se, float(b) + t * se)


def errors_in_variables(runs: Comparison) -> ErrorsInVariables:
    """Prepare the correction: partial the covariates out of ln x, the score and the outcome.

    Raises:
        NotEnoughData: The score does not vary once ln x and the covariates are held fixed, or too few runs.
    """
    n, ln_x = runs.n, runs.ln_x[runs.value]
    parameters = 3 + runs.covariates.shape[1]
    if n.sum() <= parameters:
        message = f"a slope held at equal complexity needs more than {parameters} runs, there are {n.sum():g}"
        raise NotEnoughData(message)
    root = np.sqrt(n)[:, None]
    held = np.column_stack((np.ones(len(n)), runs.covariates))
    columns = np.column_stack((ln_x, runs.score, runs.mean))
    left = columns - held @ np.linalg.lstsq(root * held, root * columns)[0]
    x, w, y = (np.ascontiguousarray(column) for column in left.T)
    square = (runs.score - n @ runs.score / n.sum()) ** 2
    total, xx = float(n @ square), float((n * x) @ x)
    unexplained = float((n * w) @ w) - float((n * x) @ w) ** 2 / xx if xx > 0 else 0.0
    if not unexplained > 1e-9 * total:
        raise NotEnoughData("complexity does not vary at equal settings: run each value on easy and on hard tasks")
    return ErrorsInVariables(x, w, y, square, runs, 1 - unexplained / total, parameters)


def corrected_slope(runs: Comparison, reliability: float) -> Estimate:
    """Give the slope of the outcome on ln x at equal difficulty, the score having the given reliability.

    Raises:
        NotEnoughData: As `errors_in_variables`, or a reliability that cannot be.
    """
    return errors_in_variables(runs).slope(reliability)


def tipping_reliability(runs: Comparison, adjusted: Estimate) -> float | None:
    """Find the largest reliability at which the adjusted slope, or an end of its interval, is zero.

    A score of reliability r removes only part of the bias. The adjusted slope is moved by as much as the linear model's
    corrected slope moves from r = 1, and its error grows in the same proportion. 1 if its interval holds zero as it is;
    None if no possible reliability brings it there.

    Raises:
        NotEnoughData: As `errors_in_variables`.
    """
    sign = 1.0 if adjusted.estimate > 0 else -1.0
    half = (adjusted.hi - adjusted.lo) / 2
    if sign * adjusted.estimate <= half:
        return 1.0
    model = errors_in_variables(runs)
    exact = model.slope(1.0)

    def clears_zero(reliability: float) -> bool:
        at = model.slope(reliability)
        stretch = at.se / exact.se if exact.se > 0 else 1.0
        return sign * (adjusted.estimate + at.estimate - exact.estimate) > half * stretch

    upper = 1.0
    for step in range(1, STEPS):
        lower = 1 - (1 - model.least) * step / STEPS
        if not clears_zero(lower):
            break
        upper = lower
    else:
        return None
    for _ in range(BISECTIONS):
        middle = (lower + upper) / 2
        lower, upper = (lower, middle) if clears_zero(middle) else (middle, upper)
    return upper
