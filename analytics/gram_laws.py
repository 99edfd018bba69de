"""Adjusted linear laws from Grams: least squares on several logarithms at once, from moments that the stream keeps."""

from collections.abc import Sequence

import numpy as np

from analytics.adjustment import COMPLEXITY, NOT_IDENTIFIED, differ_in_sign
from analytics.intervals import LEVEL, t_quantile
from analytics.joint_cells import MIN_CLUSTERS
from analytics.least_squares import VARIES
from analytics.moments import Floats, Ints
from models.dimensions import Dimension, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Adjusted, Estimate

REGRESSORS: tuple[str, ...] = (*(str(dimension) for dimension in Dimension), COMPLEXITY)
"""The regressors of a Gram, in order: ln of each dimension, then complexity."""

VARIABLES: tuple[str, ...] = (
    *REGRESSORS,
    *map(str, (Variable.SUCCESS, Variable.QUALITY, Variable.TIME, Variable.COST, Variable.LN_TIME, Variable.LN_COST)),
)
"""The axes of a Gram's moments: regressors, then outcomes."""

ON_LOG_SCALE = {Outcome.TIME_TO_COMPLETE: Variable.LN_TIME, Outcome.TOTAL_COST: Variable.LN_COST}

Grams = tuple[Floats, Floats, Floats]
"""n [B], means [B, 13] and co-moments [B, 13, 13] of B time buckets, of runs that carry all that is regressed."""

DETERMINED = 1e-8
"""Regressors that leave less than this share of another's variation determine it."""


def adjust_gram(
    grams: Grams, dimension: Dimension, outcome: Outcome, held: Sequence[str], *, level: float = LEVEL
) -> Adjusted:
    """Regress an outcome on ln of a dimension with other regressors held fixed, exactly as on the raw rows.

    Equation: b = S_xx⁻¹ S_xy from the merged co-moments. Classical errors: SSE / (N - p) S_xx⁻¹. With six buckets or
    more the errors are clustered by bucket (CR1): s_g = Σ (x - x̄)(y - ȳ - (x - x̄)'b) over the bucket's runs, which its
    own moments give as C_xy + n d_x d_y - (C_xx + n d_x d_x') b, d being the bucket's mean less the overall one.

    Args:
        grams: The moments by time bucket; a single bucket where they are merged. Whoever calls merges only runs that
            carry the dimension, all that is held, and the outcome.
        dimension: The dimension whose law it is.
        outcome: The outcome; ln of time and of cost (above zero).
        held: Names from `REGRESSORS` to hold fixed. Those that do not vary, or that the others determine, are left out;
            iterations hold the agents in any case.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: A dimension or outcome that does not vary, a dimension that moves together with what is held, or
            no degree of freedom left.
    """
    n, mean, comoment = grams
    size, centre, total = _merge(n, mean, comoment)
    target = VARIABLES.index(str(ON_LOG_SCALE.get(outcome, outcome)))
    wanted = [name for name in REGRESSORS if name != dimension and (name in held or _with_agents(name, dimension))]
    at = REGRESSORS.index(str(dimension))
    if not _varies(at, size, centre, total):
        message = f"{dimension} has the same value in all {size:g} runs: vary it"
        raise NotEnoughData(message)
    if not _varies(target, size, centre, total):
        message = f"all {size:g} runs have the same {outcome}: there is nothing to explain"
        raise NotEnoughData(message)
    places = [place for place in map(REGRESSORS.index, wanted) if _varies(place, size, centre, total)]
    kept = _independent(total, places)
    if not _leaves_variation(total, at, kept):
        fixed = ", ".join(REGRESSORS[place] for place in kept)
        message = f"{dimension} does not vary at equal {fixed}: their effects cannot be told apart; vary it on its own"
        raise NotEnoughData(message)
    slope, clustered = _slope(grams, (size, centre, total), [at, *kept], target, level)
    naive, _ = _slope(grams, (size, centre, total), [at], target, level)
    names = [REGRESSORS[place] for place in kept]
    form = "linear in complexity" if COMPLEXITY in names else "complexity not held"
    errors = "errors clustered by time bucket" if clustered else "classical errors"
    only = f"; {NOT_IDENTIFIED}" if dimension is Dimension.ITERATIONS else ""
    return Adjusted(
        method=f"least squares, {form}; {errors}{only}",
        slope=slope,
        naive=naive,
        gap=naive.estimate - slope.estimate,
        n=int(size),
        strata=0,
        covariates=names,
        sign_differs=differ_in_sign(slope, naive),
    )


def _slope(
    grams: Grams, merged: tuple[float, Floats, Floats], places: list[int], target: int, level: float
) -> tuple[Estimate, bool]:
    """Give the first regressor's coefficient, and whether its error is clustered."""
    n, mean, comoment = grams
    size, centre, total = merged
    p, axes = len(places) + 1, np.array(places)
    if size <= p:
        message = f"a fit of {p} parameters needs more than {p} runs, there are {size:g}: collect more runs"
        raise NotEnoughData(message)
    bread = np.linalg.inv(total[np.ix_(axes, axes)])
    beta = bread @ total[axes, target]
    sse = max(float(total[target, target] - beta @ total[axes, target]), 0.0)
    classical = float(bread[0, 0]) * sse / (size - p)
    groups = int((n > 0).sum())
    if groups < MIN_CLUSTERS:
        return _estimate(float(beta[0]), classical, classical, t_quantile(size - p, level)), False
    away = mean - centre
    d_x, d_y = away[:, axes], away[:, target]
    c_xx, c_xy = comoment[:, axes][:, :, axes], comoment[:, axes, target]
    scores = c_xy - c_xx @ beta + (n * (d_y - d_x @ beta))[:, None] * d_x
    factor = groups / (groups - 1) * (size - 1) / (size - p)
    variance = factor * float(((scores @ bread[0]) ** 2).sum())
    return _estimate(float(beta[0]), variance, classical, t_quantile(groups - 1, level)), True


def _merge(n: Floats, mean: Floats, comoment: Floats) -> tuple[float, Floats, Floats]:
    """Merge the buckets around the first one's mean."""
    size = float(n.sum())
    if not size > 0:
        raise NotEnoughData("there are no runs that carry the dimension, what is held fixed, and the outcome")
    first = mean[int(np.argmax(n > 0))]
    away = np.where((n > 0)[:, None], mean - first, 0.0)
    shift = n @ away / size
    away = np.where((n > 0)[:, None], away - shift, 0.0)
    return size, first + shift, comoment.sum(axis=0) + (away * n[:, None]).T @ away


def _with_agents(name: str, dimension: Dimension) -> bool:
    return dimension is Dimension.ITERATIONS and name == Dimension.AGENT_COUNT


def _varies(place: int, size: float, centre: Floats, total: Floats) -> bool:
    return bool(total[place, place] > size * (VARIES * max(abs(float(centre[place])), 1e-3)) ** 2)


def _independent(total: Floats, places: Sequence[int]) -> list[int]:
    """Keep, in order, the regressors that those before them do not determine."""
    kept: list[int] = []
    for place in places:
        if _leaves_variation(total, place, kept):
            kept.append(place)
    return kept


def _leaves_variation(total: Floats, place: int, held: Sequence[int]) -> bool:
    """Tell whether a regressor varies once others are held fixed."""
    if not held:
        return True
    axes: Ints = np.array(held)
    scale = np.sqrt(np.diag(total))
    correlation = total / np.where(scale > 0, scale, 1.0) / np.where(scale > 0, scale, 1.0)[:, None]
    with_others = correlation[axes, place]
    explained = float(with_others @ np.linalg.solve(correlation[np.ix_(axes, axes)], with_others))
    return 1 - explained > DETERMINED


def _estimate(value: float, variance: float, classical: float, t: float) -> Estimate:
    se = max(variance, 0.0) ** 0.5
    return Estimate(value, se, value - t * se, value + t * se, max(classical, 0.0) ** 0.5)
