"""The independent check: the same law from raw rows, by design matrices and row-wise leverages, without any cell.

Nothing here uses moments or cells: a law that the stream fitted from merged running statistics is compared with this
one. For binned rows the robust errors and the power law see the bin's geometric-mean x, as those from cells do.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import numpy.typing as npt

from analytics.intervals import LEVEL, t_quantile
from analytics.laws import Heading, Table, assemble
from analytics.least_squares import LEVERAGE_ONE, VARIES, ErrorKind, Line
from analytics.moments import Floats
from analytics.published import Fitting, Means
from analytics.quasi_poisson import PowerLaw, expect_power_law, raised
from models.dimensions import CLIP, LESS_IS_BETTER, Outcome
from models.errors import NotEnoughData
from models.laws import Estimate, Law, Published

ITERATIONS = 500
TOLERANCE = 1e-12
OVERFLOW = 700.0


@dataclass(frozen=True, slots=True, eq=False)
class RowFits:
    """The regressions of an outcome y[N] on x[N]; `stand_in` is x, or the geometric mean of the bin's x."""

    x: Floats
    y: Floats
    stand_in: Floats
    outcome: Outcome

    def power(self) -> Line:
        """Regress ln max(y, 0.001) on ln x."""
        kept = self.x > 0
        return row_line(np.log(self.x[kept]), np.log(np.maximum(self.y[kept], CLIP)), np.log(self.stand_in[kept]))

    def log(self) -> Line:
        """Regress y on ln x."""
        kept = self.x > 0
        return row_line(np.log(self.x[kept]), self.y[kept], np.log(self.stand_in[kept]))

    def linear(self) -> Line:
        """Regress y on x."""
        return row_line(self.x, self.y, self.stand_in)

    def power_mean(self) -> PowerLaw:
        """Fit E[y] = a x**b."""
        kept = self.x > 0
        return row_power_mean(np.log(self.stand_in[kept]), self.y[kept])

    def means(self) -> Means:
        """Give the means by value above zero that families of curves are fitted to."""
        kept = self.x > 0
        y = self.y[kept]
        x, place = np.unique(self.stand_in[kept], return_inverse=True)
        scaled = np.log(np.maximum(y, CLIP)) if self.outcome in LESS_IS_BETTER else y
        groups = [scaled[place == group] for group in range(len(x))]
        return Means(
            x=x,
            n=np.array([float(len(group)) for group in groups]),
            mean=np.array([group.mean() for group in groups]),
            m2=np.array([((group - group.mean()) ** 2).sum() for group in groups]),
            level=np.array([y[place == group].mean() for group in range(len(x))]),
        )


def fit_rows(
    x: Floats,
    y: Floats,
    binned: npt.NDArray[np.bool_],
    bin_id: Floats,
    *,
    labels: Sequence[str] | None = None,
    fitting: Fitting | None = None,
    cost: Published | None = None,
    **heading: Unpack[Heading],
) -> Law:
    """Fit the law of an outcome from raw rows; compare it by `analytics.equality.compare_laws`.

    Args:
        x: The measured value of the dimension; not read where there are labels. [N]
        y: The outcome; nan where it is missing, and the row then does not count. [N]
        binned: Whether the row falls into a bin. [N]
        bin_id: The value that the row is tabled under: x itself, or its bin's nominal x. [N]
        labels: The categories, for a dimension without a number. [N]
        fitting: How to fit, and the price table.
        cost: The cost law of the same runs.
        **heading: What the record says besides.
    """
    seen = np.isfinite(y)
    x, y, binned, bin_id = x[seen], y[seen], binned[seen], bin_id[seen]
    if labels is not None:
        names, place = np.unique(np.asarray(labels)[seen], return_inverse=True)
        return assemble(
            _table(np.full(len(names), np.nan), names.tolist(), place, y),
            RowFits(x, y, x, heading["outcome"]),
            heading,
            fitting,
            cost,
        )[0]
    keys, place = np.unique(np.stack((bin_id, binned)), axis=1, return_inverse=True)
    place = place.reshape(-1)
    stand_in = x.copy()
    for group in np.flatnonzero(keys[1]):
        rows = place == group
        stand_in[rows] = np.exp(np.log(x[rows]).mean())
    return assemble(
        _table(keys[0], [None] * keys.shape[1], place, y),
        RowFits(x, y, stand_in, heading["outcome"]),
        heading,
        fitting,
        cost,
    )[0]


def row_line(g: Floats, y: Floats, stand_in: Floats, level: float = LEVEL) -> Line:
    """Regress y on g by QR; HC3 errors are those of the regression of y on `stand_in`.

    Raises:
        NotEnoughData: Fewer than two distinct values, fewer than three rows, or an outcome that does not vary.
    """
    _expect_line(stand_in, y)
    size = len(y)
    centre, q, r, beta, residual = _regress(g, y)
    sse, away = float(residual @ residual), y - y.mean()
    inverse = np.linalg.inv(r)
    classical = inverse @ inverse.T * (sse / (size - 2))
    robust_centre = centre
    if not np.array_equal(g, stand_in):
        robust_centre, q, r, _, residual = _regress(stand_in, y)
    leverage = (q * q).sum(axis=1)
    error: ErrorKind = "HC1" if leverage.max() >= LEVERAGE_ONE else "HC3"
    scaled = residual * np.sqrt(size / (size - 2)) if error == "HC1" else residual / (1 - leverage)
    pull = np.linalg.solve(r, q.T * scaled)
    t = t_quantile(size - 2, level)
    slope, at_zero, robust_at_zero = np.array([0.0, 1.0]), np.array([1.0, -centre]), np.array([1.0, -robust_centre])
    return Line(
        coefficient=_estimate(beta[1], slope @ pull, _variance(slope, classical), t),
        intercept=_estimate(beta[0] - centre * beta[1], robust_at_zero @ pull, _variance(at_zero, classical), t),
        r_squared=1 - sse / float(away @ away),
        n=size,
        dof=size - 2,
        error=error,
    )


def row_power_mean(ln_x: Floats, y: Floats, level: float = LEVEL) -> PowerLaw:
    """Fit E[y] = exp(a + b ln x) by reweighted least squares over rows; HC1 errors.

    Raises:
        NotEnoughData: As `analytics.quasi_poisson.fit_power_mean`.
    """
    _expect_line(ln_x, y)
    expect_power_law(ln_x, y, "the outcome")
    size = len(y)
    centre = float(ln_x.mean())
    design = np.stack((np.ones(size), ln_x - centre), axis=1)
    beta = _solve(design, y)
    mu = np.exp(design @ beta)
    try:
        bread = np.asarray(np.linalg.inv(design.T @ (design * mu[:, None])), np.float64)
    except np.linalg.LinAlgError:
        raise NotEnoughData("the fit has no interval: its means are too far apart for a power law") from None
    parts = (bread @ (design * (y - mu)[:, None]).T) * math.sqrt(size / (size - 2))
    classical = bread * float(((y - mu) ** 2 / mu).sum() / (size - 2))
    triangle = np.linalg.qr(parts.T)[1]
    t = t_quantile(size - 2, level)
    at_one = np.array([1.0, -centre])
    slope, se = float(beta[1]), float(np.linalg.norm(parts[1]))
    return PowerLaw(
        exponent=Estimate(slope, se, slope - t * se, slope + t * se, math.sqrt(classical[1, 1])),
        coefficient=raised(
            float(at_one @ beta),
            float(np.linalg.norm(at_one @ parts)),
            math.sqrt(_variance(at_one, classical)),
            t,
        ),
        centre=centre,
        log_mean=float(beta[0]),
        factor=(float(triangle[0, 0]), float(triangle[0, 1]), float(triangle[1, 1])),
        n=size,
        dof=size - 2,
        level=level,
    )


def _solve(design: Floats, y: Floats) -> Floats:
    """Maximise Σ y η - exp η by reweighted least squares, each step halved while it leads down."""

    def height(at: Floats) -> float:
        eta = design @ at
        return float(y @ eta - np.exp(np.minimum(eta, OVERFLOW)).sum())

    beta = np.asarray(np.linalg.lstsq(design, np.log((y + y.mean()) / 2))[0])
    for _ in range(ITERATIONS):
        mu = np.exp(design @ beta)
        root = np.sqrt(mu)
        step = np.linalg.lstsq(design * root[:, None], (y - mu) / root)[0]
        if np.abs(step).max() <= TOLERANCE * max(1.0, float(np.abs(beta).max())):
            return np.asarray(beta + step)
        least = height(beta) * (1 - np.sign(height(beta)) * 1e-10)
        while height(beta + step) < least and np.abs(step).max() > TOLERANCE:
            step = step / 2
        beta = beta + step
    message = f"the power law did not settle within {ITERATIONS} steps: vary x over a wider range"
    raise NotEnoughData(message)


def _regress(g: Floats, y: Floats) -> tuple[float, Floats, Floats, Floats, Floats]:
    """Solve y = Q R beta on the design (1, g - mean g); give the mean, Q, R, beta and the residuals."""
    centre = float(g.mean())
    design = np.stack((np.ones(len(g)), g - centre), axis=1)
    q, r = np.linalg.qr(design)
    beta = np.linalg.solve(r, q.T @ y)
    return centre, q, r, beta, y - design @ beta


def _estimate(value: float, parts: Floats, classical: float, t: float) -> Estimate:
    value, se = float(value), float(np.linalg.norm(parts))
    return Estimate(value, se, value - t * se, value + t * se, math.sqrt(classical))


def _variance(at: Floats, covariance: Floats) -> float:
    return float(at @ covariance @ at)


def _table(keys: Floats, labels: Sequence[str | None], place: npt.NDArray[np.intp], y: Floats) -> Table:
    groups = [y[place == group] for group in range(len(labels))]
    return Table(
        x=keys,
        label=tuple(labels),
        n=np.array([len(group) for group in groups], np.float64),
        mean=np.array([group.mean() for group in groups], np.float64),
        m2=np.array([((group - group.mean()) ** 2).sum() for group in groups], np.float64),
    )


def _expect_line(g: Floats, y: Floats) -> None:
    distinct = len(np.unique(g))
    if distinct < 2:  # noqa: PLR2004 - a line
        message = f"a line needs at least 2 distinct values, there is {distinct}: run at another value too"
        raise NotEnoughData(message)
    if len(y) <= 2:  # noqa: PLR2004 - two parameters
        message = f"a line needs more than 2 runs, there are {len(y)}: collect more runs"
        raise NotEnoughData(message)
    if np.ptp(y) <= VARIES * max(abs(float(y.mean())), 1e-3):
        message = f"all {len(y)} runs have the same outcome ({y[0]:g}): there is nothing to explain"
        raise NotEnoughData(message)
