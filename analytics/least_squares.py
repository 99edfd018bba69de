"""Least squares from cells: exactly the line through the raw rows, with classical, robust and clustered errors."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analytics.cells import Cells
from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats, Ints
from models.dimensions import Variable
from models.errors import NotEnoughData
from models.laws import Estimate

ErrorKind = Literal["HC0", "HC1", "HC2", "HC3", "CR1"]

LEVERAGE_ONE = 1 - 1e-6
"""From this leverage on a run fits itself, its residual is rounding, and HC2 and HC3 divide rounding by rounding."""

VARIES = 1e-12
"""Outcomes whose standard deviation is below this share of their size differ by rounding only."""


@dataclass(frozen=True, slots=True)
class Line:
    """y = intercept + coefficient * g(x) by least squares.

    `error` names the robust error of the estimates: the one that was asked for, or HC1 where a leverage of 1 forbids
    HC2 and HC3. `dof` are the degrees of freedom of the intervals.
    """

    coefficient: Estimate
    intercept: Estimate
    r_squared: float
    n: int
    dof: int
    error: ErrorKind


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """y = X beta by least squares. beta[p], covariances [p, p]; the other fields as in `Line`."""

    beta: Floats
    covariance: Floats
    covariance_classical: Floats
    r_squared: float
    n: int
    dof: int
    error: ErrorKind
    level: float = LEVEL

    def estimate(self, column: int) -> Estimate:
        """Give one coefficient with its robust error and t interval."""
        return _estimate(
            float(self.beta[column]),
            float(self.covariance[column, column]),
            float(self.covariance_classical[column, column]),
            t_quantile(self.dof, self.level),
        )


def line(cells: Cells, y: str, g: str, *, error: ErrorKind = "HC3", level: float = LEVEL) -> Line:
    """Regress y on g(x), g being x or ln_x, exactly as on the raw rows.

    Equation: b = C_gy / C_gg, a = ȳ - b ḡ, SSE = Σ rows (C_yy - 2 b C_gy + b² C_gg + n (ȳ_v - a - b ḡ_v)²). Robust
    errors see g as constant in a row. For binned rows they are those of the fit in which the row's geometric-mean x
    stands for x; estimates, classical errors and R² stay exact.

    Args:
        cells: At least two distinct values; all above zero for ln_x.
        y: The variable to explain.
        g: "x" or "ln_x".
        error: The kind of robust error; CR1 needs clusters.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two distinct values, fewer than three runs, an outcome that does not vary, or, for
            CR1, fewer than two clusters.
    """
    expect_two_values(cells, g)
    n, size = _expect_runs(cells, 2)
    g_axis, y_axis = cells.axis(g), cells.axis(y)
    gv, yv = cells.mean[:, g_axis], cells.mean[:, y_axis]
    c_gg, c_gy, c_yy = (cells.comoment[:, i, j] for i, j in ((g_axis, g_axis), (g_axis, y_axis), (y_axis, y_axis)))
    g_mean, dg = _centre(n, gv)
    y_mean, dy = _centre(n, yv)
    s_gg = float(n @ (dg * dg) + c_gg.sum())
    s_yy = float(n @ (dy * dy) + c_yy.sum())
    _expect_varying(s_yy, y_mean, size, y)
    b = float((n * dg) @ dy + c_gy.sum()) / s_gg
    residual = dy - b * dg
    sse = float(n @ (residual * residual) + (c_yy - 2 * b * c_gy + b * b * c_gg).sum())
    variance = max(sse, 0.0) / (size - 2)
    centre, spread = g_mean, s_gg
    if cells.binned.any():
        x = cells.geometric_x
        centre, dg = _centre(n, np.log(x) if g == Variable.LN_X else x)
        spread = float(n @ (dg * dg))
        residual = dy - float((n * dg) @ dy) / spread * dg
    slope_pull = dg / spread
    influence = np.stack((1 / size - centre * slope_pull, slope_pull), axis=1)
    robust, used, dof = sandwich(
        influence, 1 / size + dg * slope_pull, residual, c_yy, n, error=error, cluster=cells.cluster
    )
    t = t_quantile(dof, level)
    return Line(
        coefficient=_estimate(b, float(robust[1, 1]), variance / s_gg, t),
        intercept=_estimate(
            y_mean - b * g_mean, float(robust[0, 0]), variance * (1 / size + g_mean * g_mean / s_gg), t
        ),
        r_squared=1 - sse / s_yy,
        n=int(size),
        dof=dof,
        error=used,
    )


def weighted_least_squares(
    X: Floats, cells: Cells, y: str, *, error: ErrorKind = "HC3", level: float = LEVEL
) -> Regression:
    """Regress y on a design that is constant in each row; equal to ordinary least squares on the raw rows.

    Args:
        X: Design rows, one for each row of the cells, with an intercept among the columns. [R, p]
        cells: The rows.
        y: The variable to explain.
        error: The kind of robust error.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: The columns are not independent over the rows, no degree of freedom is left, the outcome does
            not vary, or CR1 finds fewer than two clusters.
    """
    p = X.shape[1]
    n, size = _expect_runs(cells, p)
    axis = cells.axis(y)
    yv, m2 = cells.mean[:, axis], cells.comoment[:, axis, axis]
    root = np.sqrt(n)
    q, r = np.linalg.qr(root[:, None] * X)
    pivots = np.abs(np.diag(r))
    if pivots.min() <= np.finfo(np.float64).eps * len(n) * pivots.max():
        message = f"the {p} columns of the design are not independent over {len(n)} rows: drop one, or vary the setting"
        raise NotEnoughData(message)
    y_mean, dy = _centre(n, yv)
    s_yy = float(n @ (dy * dy) + m2.sum())
    _expect_varying(s_yy, y_mean, size, y)
    beta = np.linalg.solve(r, q.T @ (root * yv))
    residual = yv - X @ beta
    sse = float(n @ (residual * residual) + m2.sum())
    r_inverse = np.linalg.inv(r)
    bread = r_inverse @ r_inverse.T
    leverage = (q * q).sum(axis=1) / n
    covariance, used, dof = sandwich(X @ bread, leverage, residual, m2, n, error=error, cluster=cells.cluster)
    return Regression(
        beta=beta,
        covariance=covariance,
        covariance_classical=bread * (sse / (size - p)),
        r_squared=1 - sse / s_yy,
        n=int(size),
        dof=dof,
        error=used,
        level=level,
    )


def sandwich(
    influence: Floats,
    leverage: Floats,
    residual: Floats,
    m2: Floats,
    n: Floats,
    *,
    error: ErrorKind,
    cluster: Ints | None = None,
) -> tuple[Floats, ErrorKind, int]:
    """Give the robust covariance of a linear estimate whose design is constant in each row.

    Equation: Σ u u' (M2 + n r²) f, u the influence of one run, f = 1, N/(N-p), 1/(1-h), 1/(1-h)² for HC0 to HC3; CR1:
    G/(G-1) (N-1)/(N-p) Σ_g s_g s_g', s_g = Σ u n r over the cluster's rows.

    Args:
        influence: What one run of the row adds to the estimate for each unit of its residual. [R, p]
        leverage: Of one run. [R]
        residual: Of the row's mean. [R]
        m2: Squared deviations of the outcome in the row. [R]
        n: Runs of the row. [R]
        error: The kind asked for.
        cluster: The rows' clusters, for CR1. [R]

    Returns:
        The covariance [p, p], the kind used, and the degrees of freedom of its t intervals (N - p, or G - 1).

    Raises:
        NotEnoughData: CR1 with fewer than two clusters.
    """
    size, p = float(n.sum()), influence.shape[1]
    if error == "CR1":
        groups = 0 if cluster is None else len(np.unique(cluster))
        if cluster is None or groups < 2:  # noqa: PLR2004 - between-cluster variance needs two
            message = f"clustered errors need at least 2 clusters, there are {groups}: use HC3 or keep clusters apart"
            raise NotEnoughData(message)
        _, place = np.unique(cluster, return_inverse=True)
        scores = np.zeros((groups, p))
        np.add.at(scores, place, influence * (n * residual)[:, None])
        factor = groups / (groups - 1) * (size - 1) / (size - p)
        return factor * (scores.T @ scores), error, groups - 1
    squares = m2 + n * residual * residual
    if error in {"HC2", "HC3"} and leverage.max() >= LEVERAGE_ONE:
        error = "HC1"
    if error == "HC1":
        squares = squares * (size / (size - p))
    elif error != "HC0":
        slack = 1 - leverage
        squares = squares / (slack if error == "HC2" else slack * slack)
    return influence.T @ (influence * squares[:, None]), error, int(size) - p


def _centre(n: Floats, values: Floats) -> tuple[float, Floats]:
    """Give the weighted mean, free of cancellation, and the deviations from it."""
    away = values - values[0]
    shift = float(n @ away) / float(n.sum())
    return float(values[0]) + shift, away - shift


def _estimate(value: float, robust: float, classical: float, t: float) -> Estimate:
    se = max(robust, 0.0) ** 0.5
    return Estimate(value, se, value - t * se, value + t * se, max(classical, 0.0) ** 0.5)


def _expect_runs(cells: Cells, p: int) -> tuple[Floats, float]:
    size = float(cells.n.sum())
    if len(cells.n) < p:
        message = f"a fit of {p} parameters needs at least {p} distinct settings, there are {len(cells.n)}: vary them"
        raise NotEnoughData(message)
    if size <= p:
        message = f"a fit of {p} parameters needs more than {p} runs, there are {size:g}: collect more runs"
        raise NotEnoughData(message)
    return cells.n, size


def expect_two_values(cells: Cells, g: str) -> None:
    """Make sure that a line over g can be fitted.

    Raises:
        NotEnoughData: Fewer than two distinct values, or a value of 0 where its logarithm is needed.
    """
    if cells.distinct < 2:  # noqa: PLR2004 - a line
        message = f"a line needs at least 2 distinct values, there is {cells.distinct}: run at another value too"
        raise NotEnoughData(message)
    if g == Variable.LN_X and bool((cells.value <= 0).any()):
        raise NotEnoughData("x = 0 has no logarithm: leave out the rows at 0 before a fit on ln x")


def _expect_varying(s_yy: float, y_mean: float, size: float, y: str) -> None:
    if s_yy <= size * (VARIES * max(abs(y_mean), 1e-3)) ** 2:
        message = (
            f"all {size:g} runs have the same {y} ({y_mean:g}): there is nothing to explain and no error to estimate"
        )
        raise NotEnoughData(message)
