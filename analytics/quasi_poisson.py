"""The published power law: E[y] = a x**b by quasi-Poisson regression with a log link and robust errors."""

import math
from dataclasses import dataclass

import numpy as np

from analytics.cells import Cells
from analytics.intervals import LEVEL, t_quantile
from analytics.least_squares import VARIES, expect_two_values
from analytics.moments import Floats
from models.dimensions import Variable
from models.errors import NotEnoughData
from models.laws import CurvePoint, Estimate

TOLERANCE = 1e-12
ITERATIONS = 200
EXPONENT_LIMIT = 300.0
"""Logarithms are held within ±300 before they are raised, so that every published number is finite."""


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """E[y] = coefficient * x**exponent, mean and variance proportional.

    The covariance of (log_mean, exponent) is kept as its factor L, L L' = V, at the weighted centre of ln x: a standard
    error that is zero or nearly so, where a single run decides the law, then stays free of cancellation.

    Attributes:
        exponent: b, with HC1 and quasi-Poisson (`se_classical`) errors.
        coefficient: a = E[y] at x = 1; delta-method error, interval on the log scale.
        centre: The centre c of ln x.
        log_mean: ln E[y] at the centre.
        factor: L by its entries (1, 1), (2, 1), (2, 2).
        n: Runs.
        dof: N - 2.
        level: The coverage of the intervals.
    """

    exponent: Estimate
    coefficient: Estimate
    centre: float
    log_mean: float
    factor: tuple[float, float, float]
    n: int
    dof: int
    level: float

    def curve(self, x: Floats) -> list[CurvePoint]:
        """Give the law's mean at each x > 0 with its pointwise interval."""
        z = np.log(x) - self.centre
        eta = self.log_mean + self.exponent.estimate * z
        half = t_quantile(self.dof, self.level) * spread_at(self.factor, z)
        bands = np.exp(np.clip((eta, eta - half, eta + half), -EXPONENT_LIMIT, EXPONENT_LIMIT))
        rows = zip(x.tolist(), *bands.tolist(), strict=True)
        return [CurvePoint(at, mean, lo, hi) for at, mean, lo, hi in rows]


def fit_power_mean(cells: Cells, y: str, *, level: float = LEVEL) -> PowerLaw:
    """Fit E[y] = exp(a + b ln x) by quasi-Poisson regression.

    Equation: Σ n (ȳ - μ)(1, ln x)' = 0, solved by Newton steps on the centred ln x to 1e-12; covariance
    N/(N-2) A (Σ z z' (M2 + n (ȳ - μ)²)) A with A = (Σ n μ z z')⁻¹; t with N - 2 degrees of freedom. In a binned row the
    geometric mean of x stands for x.

    Args:
        cells: At least two distinct values, all above zero.
        y: A non-negative outcome, not zero throughout.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two distinct values, fewer than three runs, an outcome that does not vary, or one that
            is above zero only at the smallest or only at the largest value, where the exponent is infinite.

    References:
        Santos Silva and Tenreyro (2006), "The Log of Gravity".
    """
    expect_two_values(cells, Variable.LN_X)
    axis = cells.axis(y)
    n, mean, m2 = cells.n, cells.mean[:, axis], cells.comoment[:, axis, axis]
    size = float(n.sum())
    if size <= 2:  # noqa: PLR2004 - two parameters
        message = f"a power law needs more than 2 runs, there are {size:g}: collect more runs"
        raise NotEnoughData(message)
    ln_x = np.log(cells.geometric_x)
    expect_power_law(ln_x, mean, y)
    grand = float(n @ mean) / size
    away = mean - grand
    if float(m2.sum() + n @ (away * away)) <= size * (VARIES * max(grand, 1e-3)) ** 2:
        message = f"all {size:g} runs have the same {y} ({grand:g}): there is no error to estimate; collect more runs"
        raise NotEnoughData(message)
    centre = float(n @ ln_x) / size
    z = ln_x - centre
    log_mean, b = _solve(z, n, mean, grand)
    mu = np.exp(log_mean + b * z)
    residual = mean - mu
    squares = m2 + n * residual * residual
    weight = n * mu
    i_aa, i_ab, i_bb = _inverse(float(weight.sum()), float(weight @ z), float(weight @ (z * z)))
    share = np.sqrt(squares * (size / (size - 2)))
    factor = factor_of((i_aa + i_ab * z) * share, (i_ab + i_bb * z) * share)
    dispersion = float((squares / mu).sum()) / (size - 2)
    t = t_quantile(size - 2, level)
    se = math.hypot(factor[1], factor[2])
    return PowerLaw(
        exponent=Estimate(b, se, b - t * se, b + t * se, math.sqrt(dispersion * i_bb)),
        coefficient=raised(
            log_mean - b * centre,
            float(spread_at(factor, np.array(-centre))),
            math.sqrt(dispersion * (i_aa + centre * (centre * i_bb - 2 * i_ab))),
            t,
        ),
        centre=centre,
        log_mean=log_mean,
        factor=factor,
        n=int(size),
        dof=int(size) - 2,
        level=level,
    )


def factor_of(f_a: Floats, f_b: Floats) -> tuple[float, float, float]:
    """Factor the covariance of two sums of independent parts f_a and f_b, without squaring it."""
    l_aa = float(np.linalg.norm(f_a))
    if l_aa == 0:
        return 0.0, 0.0, float(np.linalg.norm(f_b))
    along = f_a / l_aa
    l_ab = float(f_b @ along)
    return l_aa, l_ab, float(np.linalg.norm(f_b - l_ab * along))


def spread_at(factor: tuple[float, float, float], z: Floats) -> Floats:
    """Give the standard error of log_mean + exponent * z."""
    l_aa, l_ab, l_bb = factor
    return np.hypot(l_aa + z * l_ab, z * l_bb)


def raised(log: float, se: float, se_classical: float, t: float) -> Estimate:
    """Turn an estimate of ln a into one of a: delta-method errors, interval exp(log ± t se)."""
    value = bounded_exp(log)
    return Estimate(value, value * se, bounded_exp(log - t * se), bounded_exp(log + t * se), value * se_classical)


def bounded_exp(log: float) -> float:
    """Raise e to a power that is held within ±300."""
    return math.exp(min(max(log, -EXPONENT_LIMIT), EXPONENT_LIMIT))


def expect_power_law(ln_x: Floats, mean: Floats, y: str) -> None:
    """Make sure that the quasi-likelihood has a finite maximum.

    It has one if the outcome is positive at two values of x, or at one with zeros on both sides.

    Raises:
        NotEnoughData: It has none; the message says why.
    """
    positive = np.unique(ln_x[mean > 0])
    if not len(positive):
        message = f"{y} is 0 in every run: a power law needs a positive outcome"
        raise NotEnoughData(message)
    if len(positive) == 1 and not ln_x.min() < positive[0] < ln_x.max():
        message = f"{y} is above 0 only at x = {math.exp(positive[0]):g}, an end of the range: the exponent is infinite"
        raise NotEnoughData(message)


def _solve(z: Floats, n: Floats, mean: Floats, grand: float) -> tuple[float, float]:
    """Maximise Σ n (ȳ η - exp η), η = a + b z, by Newton steps that are halved until they climb."""
    start = np.log(np.maximum(mean, 0.1 * grand))
    total = float(n.sum())
    a = float(n @ start) / total
    b = float((n * z) @ (start - a)) / float((n * z) @ z)
    height = _height(a, b, z, n, mean)
    for _ in range(ITERATIONS):
        mu = np.exp(a + b * z)
        weight, score = n * mu, n * (mean - mu)
        i_aa, i_ab, i_bb = _inverse(float(weight.sum()), float(weight @ z), float(weight @ (z * z)))
        s_a, s_b = float(score.sum()), float(score @ z)
        step_a, step_b = i_aa * s_a + i_ab * s_b, i_ab * s_a + i_bb * s_b
        if abs(step_a) <= TOLERANCE * max(1.0, abs(a)) and abs(step_b) <= TOLERANCE * max(1.0, abs(b)):
            return a + step_a, b + step_b
        share = 1.0
        reached = _height(a + step_a, b + step_b, z, n, mean)
        while reached < height - 1e-10 * abs(height) and share > TOLERANCE:
            share /= 2
            reached = _height(a + share * step_a, b + share * step_b, z, n, mean)
        a, b, height = a + share * step_a, b + share * step_b, reached
    message = f"the power law did not settle within {ITERATIONS} steps (exponent {b:g}): vary x over a wider range"
    raise NotEnoughData(message)


def _height(a: float, b: float, z: Floats, n: Floats, mean: Floats) -> float:
    eta = a + b * z
    if float(eta.max()) > EXPONENT_LIMIT:
        return -math.inf
    return float(n @ (mean * eta - np.exp(eta)))


def _inverse(aa: float, ab: float, bb: float) -> tuple[float, float, float]:
    """Invert the symmetric matrix ((aa, ab), (ab, bb)), by the determinant of its centred form."""
    spread = bb - ab * ab / aa
    if not spread > 0:
        raise NotEnoughData(
            "the power law's weight falls on a single x: vary x over a wider range, or collect more runs"
        )
    return 1 / aa + (ab / aa) ** 2 / spread, -ab / aa / spread, 1 / spread
