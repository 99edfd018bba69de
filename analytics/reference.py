"""The design document's own methods, kept exact and labelled as references; the published law is quasi_poisson's.

Its power fit takes the logarithm of max(y, 0.001), which biases the exponent wherever zeros occur, and its knee rule
compares the gain per unit of x with 0.05 whatever the units are. Both are reproduced here as they stand.
"""

import math

import numpy as np

from analytics.cells import LOG_VARIABLES, Cells
from analytics.intervals import LEVEL, t_quantile, wilson
from analytics.least_squares import ErrorKind, Line, line
from analytics.moments import Floats
from analytics.quasi_poisson import raised
from models.dimensions import CLIP, LESS_IS_BETTER, SIZE_CATEGORIES, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Estimate, LineFit, PowerFit, ValueRow

THRESHOLD = 0.05
TIE = 1e-12
UNITS = {Outcome.TIME_TO_COMPLETE: "seconds", Outcome.TOTAL_COST: "US dollars"}


def above_zero(cells: Cells) -> Cells:
    """Leave out the rows at x = 0, which has no logarithm."""
    positive = cells.value > 0
    return cells if positive.all() else cells.where(positive)


def fit_power_law(cells: Cells, outcome: Outcome) -> PowerFit:
    """Fit ln max(y, 0.001) = ln a + b ln x by least squares; rows at x = 0 are left out.

    Raises:
        NotEnoughData: As `analytics.least_squares.line`.
    """
    return power_fit(log_line(above_zero(cells), outcome), outcome)


def fit_logarithmic(cells: Cells, outcome: Outcome) -> LineFit:
    """Fit y = a ln x + b by least squares; rows at x = 0 are left out.

    Raises:
        NotEnoughData: As `analytics.least_squares.line`.
    """
    return line_fit(line(above_zero(cells), outcome, Variable.LN_X))


def fit_linear(cells: Cells, outcome: Outcome) -> LineFit:
    """Fit y = a x + b by least squares, rows at x = 0 included.

    Raises:
        NotEnoughData: As `analytics.least_squares.line`.
    """
    return line_fit(line(cells, outcome, Variable.X))


def log_line(cells: Cells, outcome: Outcome, *, error: ErrorKind = "HC3") -> Line:
    """Regress ln max(y, 0.001) on ln x.

    The clipped logarithm of success is ln(0.001) (1 - success), so its line is that of success, mapped exactly.

    Raises:
        NotEnoughData: As `analytics.least_squares.line`; or the cells keep no clipped logarithm of the outcome.
    """
    variable = LOG_VARIABLES.get(outcome)
    if variable is None and outcome != Outcome.SUCCESS:
        raise NotEnoughData(f"the clipped logarithm of {outcome} is not kept: read the published law")
    if variable is not None:
        return line(cells, variable, Variable.LN_X, error=error)
    fit = line(cells, outcome, Variable.LN_X, error=error)
    scale = -math.log(CLIP)
    return Line(
        coefficient=_mapped(fit.coefficient, scale, 0.0),
        intercept=_mapped(fit.intercept, scale, -scale),
        r_squared=fit.r_squared,
        n=fit.n,
        dof=fit.dof,
        error=fit.error,
    )


def power_fit(fit: Line, outcome: Outcome) -> PowerFit:
    """Read a line of ln max(y, 0.001) on ln x as a power law."""
    intercept, unit = fit.intercept, UNITS.get(outcome)
    return PowerFit(
        exponent=fit.coefficient,
        coefficient=raised(intercept.estimate, intercept.se, intercept.se_classical or 0.0, t_quantile(fit.dof)),
        r_squared=fit.r_squared,
        interpretation=interpret_exponent(fit.coefficient.estimate),
        clip=f"y below {CLIP:g}{' ' + unit if unit else ''} counts as {CLIP:g}",
    )


def line_fit(fit: Line) -> LineFit:
    """Keep what a law record says of a line."""
    return LineFit(fit.coefficient, fit.intercept, fit.r_squared)


def interpret_exponent(exponent: float) -> str:
    """Name the band of an exponent, as the design document does."""
    if exponent <= 0.1:  # noqa: PLR2004 - the document's bands
        return "Minimal scaling (ceiling reached)"
    if exponent < 0.5:  # noqa: PLR2004
        return "Logarithmic scaling (diminishing returns)"
    if exponent < 0.9:  # noqa: PLR2004
        return "Sublinear scaling (good efficiency)"
    if exponent <= 1.1:  # noqa: PLR2004
        return "Linear scaling"
    return "Superlinear scaling (unusual)"


def find_knee_point(cells: Cells, outcome: Outcome, threshold: float = THRESHOLD) -> float:
    """Find the first value after which the mean outcome rises by less than `threshold` for each unit of x.

    The last value if there is no such pair. As in the document, more counts as better even for time and cost.

    Raises:
        NotEnoughData: Fewer than two distinct values.
    """
    return knee(cells.value, cells.mean[:, cells.axis(outcome)], threshold)


def find_diminishing_returns_point(cells: Cells, outcome: Outcome) -> float:
    """Find the value after which a unit of x brings less than half of what the first unit brought.

    The document names the method and leaves it open. Here: the improvement per unit between neighbouring values (a
    fall is an improvement for time and cost) is compared with that of the first pair; the point is the lower value of
    the first pair below half of it. It has no unit, so it means the same for agents and for tokens. If the first step
    brings nothing, it is the first value.

    Raises:
        NotEnoughData: Fewer than two distinct values, or returns do not fall below half within the observed range.
    """
    return diminishing_returns(cells.value, cells.mean[:, cells.axis(outcome)], outcome)


def success_rate_by_value(cells: Cells, level: float = LEVEL) -> list[ValueRow]:
    """List the success rate at each value with Wilson's interval."""
    axis = cells.axis(Outcome.SUCCESS)
    lo, hi = wilson(cells.n * cells.mean[:, axis], cells.n, level)
    return value_rows(cells.value, cells.label, cells.n, cells.mean[:, axis], lo, hi)


def recommend_value(cells: Cells, outcome: Outcome) -> float | str:
    """Recommend the smallest value whose mean is within one standard error of the best; for categories its label.

    Best is lowest for time and cost. Values with a single run, whose error is not known, cannot be the best.

    Raises:
        NotEnoughData: No value has two runs.
    """
    axis = cells.axis(outcome)
    m2 = cells.comoment[:, axis, axis]
    order = sorted(range(len(cells.n)), key=lambda place: size_rank(cells.label[place]))
    mean = cells.mean[order, axis]
    place = order[recommended(mean, variance_of_mean(cells.n[order], mean, m2[order], outcome), outcome)]
    label = cells.label[place]
    return float(cells.value[place]) if label is None else label


def knee(x: Floats, mean: Floats, threshold: float = THRESHOLD) -> float:
    """Apply the document's knee rule to means at ascending values.

    Raises:
        NotEnoughData: Fewer than two values.
    """
    _expect_pair(x)
    below = np.flatnonzero(np.diff(mean) < threshold * np.diff(x) - rounding(mean))
    return float(x[below[0]] if len(below) else x[-1])


def diminishing_returns(x: Floats, mean: Floats, outcome: Outcome) -> float:
    """Apply `find_diminishing_returns_point` to means at ascending values.

    Raises:
        NotEnoughData: As there.
    """
    _expect_pair(x)
    gain, width, slack = np.diff(mean if outcome not in LESS_IS_BETTER else -mean), np.diff(x), rounding(mean)
    if gain[0] <= slack:
        return float(x[0])
    below = np.flatnonzero(gain < gain[0] / width[0] / 2 * width - slack)
    if not len(below):
        message = (
            f"returns do not fall below half of the first step's within x = {x[0]:g} to {x[-1]:g}: "
            "run at larger values, or at values between"
        )
        raise NotEnoughData(message)
    return float(x[below[0]])


def recommended(mean: Floats, variance: Floats, outcome: Outcome) -> int:
    """Find the first place whose mean is within one standard error of the best.

    Raises:
        NotEnoughData: No variance is known.
    """
    better = -mean if outcome in LESS_IS_BETTER else mean
    known = np.isfinite(variance)
    if not known.any():
        raise NotEnoughData("no value has 2 runs, so the error of the best is not known: repeat runs at some value")
    slack = rounding(mean)
    best = int(np.flatnonzero(known & (better >= better[known].max() - slack))[0])
    return int(np.flatnonzero(better >= better[best] - math.sqrt(variance[best]) - slack)[0])


def variance_of_mean(n: Floats, mean: Floats, m2: Floats, outcome: Outcome) -> Floats:
    """Give the variance of each mean; inf for a single run.

    For success it is (k + 1/2)(n - k + 1/2) / (n + 1)² / n, which is not zero when all runs succeed or all fail.
    """
    if outcome == Outcome.SUCCESS:
        k = n * mean
        return np.asarray((k + 0.5) * (n - k + 0.5) / (n + 1) ** 2 / n)
    return np.where(n > 1, m2 / np.maximum(n - 1, 1.0) / n, np.inf)


def rounding(mean: Floats) -> float:
    """Give the difference of two means below which they are equal but for rounding; ties decide for "reached"."""
    return TIE * float(np.abs(mean).max())


def size_rank(label: str | None) -> int:
    """Rank a size category, small first; other labels keep their order behind."""
    return SIZE_CATEGORIES.index(label) if label in SIZE_CATEGORIES else len(SIZE_CATEGORIES)


def value_rows(  # noqa: PLR0917 - the columns of a table
    value: Floats, label: tuple[str | None, ...], n: Floats, mean: Floats, lo: Floats, hi: Floats
) -> list[ValueRow]:
    """Make the rows of a per-value table."""
    columns = (array.tolist() for array in (n, mean, lo, hi, value))
    return [
        ValueRow(int(runs), at, low, high, x=x if name is None else None, label=name)
        for runs, at, low, high, x, name in zip(*columns, label, strict=True)
    ]


def _mapped(estimate: Estimate, scale: float, shift: float) -> Estimate:
    """Map an estimate by scale > 0 and shift."""
    return Estimate(
        scale * estimate.estimate + shift,
        scale * estimate.se,
        scale * estimate.lo + shift,
        scale * estimate.hi + shift,
        None if estimate.se_classical is None else scale * estimate.se_classical,
    )


def _expect_pair(x: Floats) -> None:
    if len(x) < 2:  # noqa: PLR2004 - a step
        message = f"a step needs at least 2 distinct values, there is {len(x)}: run at another value too"
        raise NotEnoughData(message)
    if not (np.diff(x) > 0).all():
        message = f"two rows stand at the same or a falling x in {x.tolist()}: a bin's nominal value must be its own"
        raise NotEnoughData(message)
