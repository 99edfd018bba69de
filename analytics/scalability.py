"""The Universal Scalability Law: what parallel workers bring, and where waiting and talking take it back.

T(p) = T(1) (1 + sigma (p - 1) + kappa p (p - 1)) / p: sigma is the share of the work that queues (contention), kappa
the price of each pair of workers that must agree (coherence). With kappa > 0 there is a p of least time.

References:
    Gunther (2007), "Guerrilla Capacity Planning".
"""

import math
from dataclasses import dataclass

import numpy as np

from analytics.cells import Cells
from analytics.intervals import LEVEL, t_quantile
from analytics.least_squares import ErrorKind, sandwich
from analytics.moments import Floats
from analytics.nonlinear import gauss_newton
from analytics.quasi_poisson import raised
from models.errors import NotEnoughData
from models.laws import CurvePoint, Estimate, UniversalScalability

ITERATIONS = 200
TOLERANCE = 1e-12
PARAMETERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class TimeLaw:
    """T(p) = A + B / p + C p: the law is linear in A = T(1)(sigma - kappa), B = T(1)(1 - sigma), C = T(1) kappa.

    Attributes:
        beta: (A, B, C). [3]
        covariance: Robust. [3, 3]
        covariance_classical: Of a variance proportional to the squared mean. [3, 3]
        n: Runs.
        dof: Degrees of freedom of the intervals.
        error: The robust error used.
        level: The coverage of the intervals.
    """

    beta: Floats
    covariance: Floats
    covariance_classical: Floats
    n: int
    dof: int
    error: ErrorKind
    level: float

    def law(self) -> UniversalScalability:
        """Give T(1), sigma and kappa with delta-method errors, and the optimum if there is one.

        Raises:
            NotEnoughData: The fitted T(1) is not above zero.
        """
        first, (_, b, c) = float(self.beta.sum()), self.beta.tolist()
        if first <= 0:
            message = f"the fitted time of one worker is {first:g}, which is no time: run with few workers too"
            raise NotEnoughData(message)
        ones, of_b, of_c = np.ones(3), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
        try:
            optimum = self.optimum()
        except NotEnoughData:
            optimum = None
        return UniversalScalability(
            first=self._estimate(first, ones),
            contention=self._estimate(1 - b / first, (ones * b / first - of_b) / first),
            coherence=self._estimate(c / first, (of_c - ones * c / first) / first),
            optimum=optimum,
        )

    def optimum(self) -> Estimate:
        """Give the p of least time, √(B / C); errors of ln p by the delta method, gradient (0, 1/2B, -1/2C).

        Raises:
            NotEnoughData: There is no interior optimum.
        """
        _, b, c = self.beta.tolist()
        if c <= 0:
            message = f"no interior optimum: time does not rise with many workers (C = {c:g}); run with more workers"
            raise NotEnoughData(message)
        if b <= 0:
            message = f"no interior optimum: time does not fall with the first workers (B = {b:g}); use one worker"
            raise NotEnoughData(message)
        gradient = np.array([0.0, 0.5 / b, -0.5 / c])
        robust, classical = (_error(gradient, of) for of in (self.covariance, self.covariance_classical))
        return raised(0.5 * math.log(b / c), robust, classical, t_quantile(self.dof, self.level))

    def curve(self, p: Floats) -> list[CurvePoint]:
        """Give the mean time at each p > 0 with its pointwise interval."""
        rows = zip(p.tolist(), _basis(p), strict=True)
        points = [(at, self._estimate(float(row @ self.beta), row)) for at, row in rows]
        return [CurvePoint(at, point.estimate, point.lo, point.hi) for at, point in points]

    def _estimate(self, value: float, gradient: Floats) -> Estimate:
        se = _error(gradient, self.covariance)
        half = t_quantile(self.dof, self.level) * se
        return Estimate(value, se, value - half, value + half, _error(gradient, self.covariance_classical))


@dataclass(frozen=True, slots=True)
class ThroughputLaw:
    """X(p) = first p / (1 + contention (p - 1) + coherence p (p - 1)) at load p."""

    first: Estimate
    contention: Estimate
    coherence: Estimate
    sse: float
    dof: int


def fit_time(cells: Cells, y: str, *, error: ErrorKind = "HC3", level: float = LEVEL) -> TimeLaw:
    """Fit T(p) to cells of parallelism, the variance taken as proportional to the squared mean.

    Equation: Σ n (ȳ - T(p)) (1, 1/p, p) / T(p)² = 0, by weighted least squares whose weights are renewed until they
    settle; the errors are robust to any other variance.

    Args:
        cells: At least three distinct p, all above zero; x is p.
        y: A positive outcome, such as time in seconds.
        error: The kind of robust error; CR1 where the cells keep clusters apart.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than three distinct p, fewer than four runs, an outcome that is zero throughout a row or
            varies nowhere, or weights that do not settle.
    """
    axis = cells.axis(y)
    p, n, mean, m2 = cells.geometric_x, cells.n, cells.mean[:, axis], cells.comoment[:, axis, axis]
    size = float(n.sum())
    if cells.distinct < PARAMETERS or size <= PARAMETERS:
        message = (
            f"the scalability law needs 3 distinct values and 4 runs, there are {cells.distinct} and {size:g}: "
            "run at other degrees of parallelism"
        )
        raise NotEnoughData(message)
    if not ((p > 0).all() and (mean > 0).all()):
        message = f"the scalability law needs x > 0 and a mean {y} > 0 in each row: leave out the others"
        raise NotEnoughData(message)
    basis = _basis(p)
    beta, fitted = _settled(basis, n, mean)
    q, r = np.linalg.qr(basis * (np.sqrt(n) / fitted)[:, None])
    inverse = np.linalg.inv(r)
    bread = inverse @ inverse.T
    residual = mean - fitted
    covariance, used, dof = sandwich(
        basis @ bread / (fitted * fitted)[:, None],
        (q * q).sum(axis=1) / n,
        residual,
        m2,
        n,
        error=error,
        cluster=cells.cluster,
    )
    dispersion = float(((m2 + n * residual * residual) / (fitted * fitted)).sum()) / (size - PARAMETERS)
    if dispersion <= TOLERANCE**2:
        message = f"all {size:g} runs lie on the curve: there is no error to estimate; collect more runs"
        raise NotEnoughData(message)
    return TimeLaw(beta, covariance, bread * dispersion, int(size), dof, used, level)


def fit_throughput(p: Floats, throughput: Floats, *, level: float = LEVEL) -> ThroughputLaw:
    """Fit X(p) = g p / (1 + a (p - 1) + b p (p - 1)) by non-linear least squares of measured throughputs.

    It starts at the linear fit of p / X on (1, p - 1, p (p - 1)), which is exact without noise, each row weighted by
    what an error of X means for p / X.

    Args:
        p: Loads above zero, at least three distinct ones. [R]
        throughput: Work done per unit of time at each, above zero. [R]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than three distinct loads or four rows, or values not above zero.
    """
    if len(np.unique(p)) < PARAMETERS or not ((p > 0).all() and (throughput > 0).all()):
        message = f"a throughput law needs 3 distinct loads and values above 0, there are {len(np.unique(p))}: add some"
        raise NotEnoughData(message)
    shape = np.stack((np.ones(len(p)), p - 1, p * (p - 1)), axis=1)
    weight = throughput * throughput / p
    linear = np.linalg.lstsq(shape * weight[:, None], p / throughput * weight, rcond=None)[0]
    start = np.array([1 / linear[0], linear[1] / linear[0], linear[2] / linear[0]])

    def model(theta: Floats) -> tuple[Floats, Floats]:
        slowed = 1 + shape[:, 1:] @ theta[1:]
        per_unit = p / slowed
        jacobian = np.concatenate((per_unit[:, None], -theta[0] * (per_unit / slowed)[:, None] * shape[:, 1:]), axis=1)
        return theta[0] * per_unit, jacobian

    fit = gauss_newton(model, throughput, start, level=level)
    first, contention, coherence = fit.parameters
    return ThroughputLaw(first, contention, coherence, fit.sse, fit.dof)


def _basis(p: Floats) -> Floats:
    return np.stack((np.ones(len(p)), 1 / p, p), axis=1)


def _settled(basis: Floats, n: Floats, mean: Floats) -> tuple[Floats, Floats]:
    """Renew the weights n / T² until the curve stays; give (A, B, C) and T."""
    fitted, least = mean, 1e-3 * float(mean.min())
    for _ in range(ITERATIONS):
        root = np.sqrt(n) / np.maximum(fitted, least)
        beta, _, rank, _ = np.linalg.lstsq(basis * root[:, None], mean * root, rcond=None)
        if rank < PARAMETERS:
            raise NotEnoughData("the degrees of parallelism are too close to tell the law's parts apart: vary them")
        before, fitted = fitted, basis @ beta
        if float(np.abs(fitted - before).max()) <= TOLERANCE * float(mean.max()) and float(fitted.min()) > least:
            return np.asarray(beta, np.float64), fitted
    message = f"the scalability law did not settle within {ITERATIONS} steps: run at more degrees of parallelism"
    raise NotEnoughData(message)


def _error(gradient: Floats, covariance: Floats) -> float:
    return math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
