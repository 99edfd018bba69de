"""The published law: an average of families over one dimension, in words and numbers that a reader can act on."""

import math
from dataclasses import dataclass, replace

import numpy as np
from msgspec import structs
from scipy.special import ndtr

from analytics.averaging import SATURATED, Average, average
from analytics.confidence_sequences import e_value
from analytics.families import ATTEMPT_CURVES, CURVES, LOG_CURVES, LOG_NAMES, SCALABILITY
from analytics.hazards import AttemptCounts, fit_hazards
from analytics.intervals import bonferroni, t_quantile, z_quantile
from analytics.knees import Price, economic_price, fixed_price, rounded
from analytics.moments import Floats, Ints
from analytics.parameters import parameters
from analytics.points import Points, clustered, independent
from analytics.promise import shrink
from analytics.standardisation import StandardisedMeans
from models.dimensions import LESS_IS_BETTER, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import CurvePoint, Estimate, Promise, Published

CURVE_POINTS = 64
SUPPORTED_RUNS = 30
"""Runs that a value needs to be a point of the curve; with fewer it is shown in the table only."""

TRIES = frozenset({Dimension.ATTEMPTS, Dimension.AGENT_COUNT, Dimension.PARALLELISM_LEVEL})
"""Dimensions that may count independent tries, any of which is enough."""

NO_EFFECT = 0.05
"""A law whose every change lies within this (within 5 % for time and cost) has no effect that matters."""

COMPATIBLE = 0.05
"""The design document's least gain: 0.05 for each unit; for time 5 % of it."""

ROUNDED = 1 - 1e-9
"""Means of a bin's x are the same but for rounding."""

TUNED_SE = {False: 0.03, True: 0.05}
"""Standard error of a trend at which its e-value is tightest, on the scale of the outcome and on that of logarithms."""

RISES, FALLS = "rises", "falls"
RISES_THEN_FALLS, FALLS_THEN_RISES = "rises then falls", "falls then rises"
FLAT, UNDETERMINED = "no effect", "undetermined"


@dataclass(frozen=True, slots=True)
class Fitting:
    """How laws are fitted, and what a step costs where no cost law says so.

    Attributes:
        draws: Bootstrap draws behind the intervals.
        value_of_success: Dollars that a success, or a quality of 1, is worth.
        agent_cost: Dollars for one agent; iteration_cost likewise, context_cost_per_1k for 1,000 tokens.
        families: Which families to average; empty: all that the outcome may follow.
    """

    draws: int = 300
    value_of_success: float = 1.0
    agent_cost: float = 0.05
    iteration_cost: float = 0.02
    context_cost_per_1k: float = 0.003
    families: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """The means of each value's clusters. The place of a row's value [R], its cluster [R], runs [R] and mean [R]."""

    value: Ints
    cluster: Ints
    n: Floats
    mean: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Means by value, on the scale of the fit: of ln y for time and cost, of y else.

    Attributes:
        x: Above zero, ascending. [m]
        n: Runs. [m]
        mean: On the scale of the fit. [m]
        m2: Squared deviations from it. [m]
        level: The mean of y itself. [m]
        clusters: Means by value and cluster, where clusters are told apart.
    """

    x: Floats
    n: Floats
    mean: Floats
    m2: Floats
    level: Floats
    clusters: Clusters | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """An averaged law with what it is made of."""

    published: Published
    average: Average
    trend: Estimate
    e_value: float
    noise: Floats | None = None


def publish(means: Means, dimension: Dimension, outcome: Outcome, basis: Basis, fitting: Fitting) -> Curve:
    """Average the families that an outcome over a dimension may follow.

    Values with fewer than 30 runs stay out of the curve while two have more. Success over attempts made, where only
    failures are tried again, is fitted from hazards: by runs at risk.

    Raises:
        NotEnoughData: Fewer than two values above zero, too few runs, or an outcome that does not vary.
    """
    if by_hazards(dimension, outcome, basis):
        method = _method("hazards of attempts", overdispersed=False, errors="independent runs")
        return _curve_of(_hazard_points(means), dimension, outcome, fitting, method)
    means = _supported(means)
    points = _points(means, outcome)
    log = outcome in LESS_IS_BETTER
    method = _method(
        "means of ln y" if log else "means",
        overdispersed=points.overdispersion > 1,
        errors="independent runs" if means.clusters is None else "clustered errors",
    )
    curve = _curve_of(points, dimension, outcome, fitting, method, noise=points.variance * means.n)
    if not log:
        return curve
    factor = _smearing(means, curve.average.curve)
    return replace(curve, published=structs.replace(curve.published, mean_factor=factor))


def publish_adjusted(
    means: StandardisedMeans, naive: Curve, dimension: Dimension, outcome: Outcome, fitting: Fitting
) -> Curve:
    """Average the families over adjusted means, with the covariance that the adjustment gave them.

    What a single run scatters about its mean, and Duan's factor, are those of the naive law.

    Raises:
        NotEnoughData: Fewer than two values.
    """
    kept = np.flatnonzero(means.weight >= SUPPORTED_RUNS)
    if len(kept) < 2:  # noqa: PLR2004 - a curve
        kept = np.arange(len(means.mean))
    covariance = means.covariance[np.ix_(kept, kept)]
    points = Points(
        x=np.exp(means.ln_x[kept]),
        mean=means.mean[kept],
        variance=np.diag(covariance).copy(),
        covariance=covariance,
        runs=float(means.weight.sum()),
        stretch=t_quantile(means.dof) / z_quantile(),
    )
    noise = None if naive.noise is None else np.full(len(kept), float(np.median(naive.noise)))
    method = _method("means at equal complexity (AIPW)", overdispersed=False, errors="errors of the adjustment")
    curve = _curve_of(points, dimension, outcome, fitting, method, noise=noise)
    factor = naive.published.mean_factor
    return replace(curve, published=structs.replace(curve.published, mean_factor=factor))


def by_hazards(dimension: Dimension, outcome: Outcome, basis: Basis) -> bool:
    """Tell whether a law of attempts made is fitted from hazards: success stops them."""
    return (dimension, outcome, basis) == (Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED)


def _curve_of(
    points: Points,
    dimension: Dimension,
    outcome: Outcome,
    fitting: Fitting,
    method: str,
    *,
    noise: Floats | None = None,
) -> Curve:
    """Average the families over points; `noise` [m] is the variance of a single run at each."""
    log = outcome in LESS_IS_BETTER
    names = fitting.families or curve_families(dimension, outcome)
    law = average(points, names, draws=fitting.draws, bounds=None if log else (0.0, 1.0))
    trend = trend_of(points)
    published = Published(
        family=_name(law.best, log=log) if law.described else SATURATED,
        weights={_name(name, log=log): weight for name, weight in law.weights.items()},
        params=parameters(law) if law.described else {},
        curve=_curve(law, None if outcome is Outcome.SUCCESS else noise, log=log),
        method=method,
        direction=direction(law),
        change=_change(law),
        scale="median" if log else "mean",
        lack_of_fit=law.lack_of_fit,
        overdispersion=points.overdispersion,
    )
    evidence = float(e_value(trend.estimate, trend.se, 1 / TUNED_SE[log] ** 2))
    return Curve(published, law, trend, evidence, noise)


def _supported(means: Means) -> Means:
    """Leave out the values with fewer than 30 runs, if two have more: they are shown, not fitted."""
    kept = np.flatnonzero(means.n >= SUPPORTED_RUNS)
    if len(kept) < 2 or len(kept) == len(means.n):  # noqa: PLR2004 - a curve
        return means
    clusters = means.clusters
    if clusters is not None:
        place = np.full(len(means.n), -1)
        place[kept] = np.arange(len(kept))
        rows = np.flatnonzero(place[clusters.value] >= 0)
        clusters = Clusters(place[clusters.value[rows]], clusters.cluster[rows], clusters.n[rows], clusters.mean[rows])
    return Means(means.x[kept], means.n[kept], means.mean[kept], means.m2[kept], means.level[kept], clusters)


def promise_of(points: Points, *, less_is_better: bool) -> Promise:
    """Promise what the best value gains over the smallest, its mean shrunk towards all values' common mean.

    References:
        Smith and Winkler (2006), "The Optimizer's Curse".
    """
    observed = -points.mean if less_is_better else points.mean
    shrunk = shrink(observed, np.diag(points.covariance).copy())
    best = int(np.argmax(shrunk.mean))
    return Promise(
        value=rounded(float(points.x[best])),
        over=rounded(float(points.x[0])),
        gain=shrunk.difference(best, 0),
        raw=float(observed.max() - observed[0]),
    )


def trend_of(points: Points) -> Estimate:
    """Estimate the slope of the means on ln x: weighted least squares, with the covariance that the means have."""
    z = np.log(points.x)
    weight = 1 / points.variance
    z = z - float(weight @ z) / float(weight.sum())
    pull = weight * z / float(weight @ (z * z))
    slope = float(pull @ points.mean)
    se = math.sqrt(max(float(pull @ points.covariance @ pull), 0.0)) * points.stretch
    half = z_quantile() * se
    return Estimate(slope, se, slope - half, slope + half)


def trend_p(trend: Estimate) -> float:
    """Give the two-sided p of a trend of zero."""
    return float(2 * ndtr(-abs(trend.estimate) / trend.se)) if trend.se > 0 else 1.0


def direction(law: Average) -> str:
    """Say where a law goes, as far as the runs can tell.

    It rises if it gains from the first value to its highest, falls if it loses from the first to its lowest, and turns
    if it also comes back by the last value, each at 97.5 % confidence because the turning point was looked for. It has
    no effect if every change from the first value lies within ±0.05 (5 % on the log scale) at 95 %. Else it is
    undetermined: "no effect" has to be shown, like any other.
    """
    last = len(law.points.x) - 1
    peak, trough = int(law.curve.argmax()), int(law.curve.argmin())
    level = bonferroni(0.95, 2)
    if (law.described and law.best == "constant") or peak == trough:
        risen = fallen = False
    else:
        risen = peak > 0 and law.contrast(0, peak, level)[2] > 0
        fallen = trough > 0 and law.contrast(0, trough, level)[3] < 0
    if risen and peak < last and law.contrast(peak, last, level)[3] < 0:
        return RISES_THEN_FALLS
    if fallen and trough < last and law.contrast(trough, last, level)[2] > 0:
        return FALLS_THEN_RISES
    if risen != fallen:
        return RISES if risen else FALLS
    lo, hi = law.changes()
    if lo.min() > -NO_EFFECT and hi.max() < NO_EFFECT:
        return FLAT
    return UNDETERMINED


def price_of(x: Floats, dimension: Dimension, outcome: Outcome, cost: Published | None, fitting: Fitting) -> Price:
    """Say what a step along the dimension must bring to pay.

    Success and quality: what the step costs, by the cost law of the same runs, over the value of a success; where there
    is no cost law, by the price table; where that has no price, the design document's 0.05 for a unit (a doubling of
    model size). Time: 5 % for a unit, or for a doubling of context or model size.

    Raises:
        NotEnoughData: The outcome is the cost: it is what steps are paid with.
    """
    if outcome is Outcome.TOTAL_COST:
        raise NotEnoughData("cost has no knee: it is what the other outcomes are bought with")
    doubling = dimension in {Dimension.CONTEXT, Dimension.MODEL_SIZE}
    unit = "doubling" if doubling else "unit"
    if outcome in LESS_IS_BETTER:
        return fixed_price(x, COMPATIBLE, f"the next {unit} saves less than 5 %", per_doubling=doubling)
    value = fitting.value_of_success
    if cost is not None and len(cost.curve) > 1:
        at = np.array([point.x for point in cost.curve])
        dollars = np.array([point.mean for point in cost.curve]) * (cost.mean_factor or 1.0)
        if at[0] * ROUNDED <= x[0] and x[-1] * ROUNDED <= at[-1]:
            rule = f"the next unit costs more, by the cost law, than it brings at ${value:g} a success"
            return economic_price(x, np.interp(x, at, dollars), value, rule)
    prices = {
        Dimension.AGENT_COUNT: fitting.agent_cost,
        Dimension.ITERATIONS: fitting.iteration_cost,
        Dimension.CONTEXT: fitting.context_cost_per_1k / 1000,
    }
    if dimension in prices:
        rule = f"the next unit costs more, by the price table, than it brings at ${value:g} a success"
        return fixed_price(x, prices[dimension] / value, rule)
    return fixed_price(x, COMPATIBLE, f"the next {unit} gains less than {COMPATIBLE:g}", per_doubling=doubling)


def curve_families(dimension: Dimension, outcome: Outcome) -> tuple[str, ...]:
    """Name the families that an outcome over a dimension may follow."""
    if outcome in LESS_IS_BETTER:
        timed = (dimension, outcome) == (Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE)
        return (*LOG_CURVES, SCALABILITY) if timed else LOG_CURVES
    return ATTEMPT_CURVES if outcome is Outcome.SUCCESS and dimension in TRIES else CURVES


def _name(name: str, *, log: bool) -> str:
    return LOG_NAMES.get(name, name) if log else name


def _points(means: Means, outcome: Outcome) -> Points:
    if float(means.m2.sum()) <= 0 and float(np.ptp(means.mean)) <= 0:
        message = (
            f"all {means.n.sum():g} runs have the same {outcome}: there is no law to tell and no error to estimate"
        )
        raise NotEnoughData(message)
    points = independent(means.x, means.n, means.mean, means.m2, binary=outcome is Outcome.SUCCESS)
    inside = means.clusters
    if inside is None:
        return points
    return clustered(points, inside.value, inside.cluster, inside.n, inside.mean)


def _hazard_points(means: Means) -> Points:
    """Make points of P(success within k attempts), k = 1, 2, ..., from hazards; correlated as Greenwood has it."""
    whole = means.x == np.floor(means.x)
    if not whole.all():
        raise NotEnoughData("attempts made are not whole numbers: publish retry_count as a count")
    counts = AttemptCounts.from_runs(means.x.astype(np.int64), means.n, means.n * means.mean)
    law = fit_hazards(counts)
    k = np.arange(1, len(law.probability) + 1, dtype=np.float64)
    if len(k) < 2:  # noqa: PLR2004 - a curve
        raise NotEnoughData("hazards of attempts need runs that made two attempts: allow retries")
    # Survival to j and to k >= j share their first j factors: their covariance is S_j S_k times j's relative variance.
    survival = np.maximum(1 - law.probability, 1e-12)
    relative = (law.se / survival) ** 2
    covariance = np.outer(survival, survival) * np.minimum.outer(relative, relative)
    return Points(k, law.probability, law.se**2, covariance, float(means.n.sum()))


def _smearing(means: Means, curve: Floats) -> float:
    """Give Duan's factor: the mean of y over the mean of exp(f(x)), f the law of ln y.

    References:
        Duan (1983), "Smearing Estimate: A Nonparametric Retransformation Method".
    """
    fitted = np.exp(curve)
    return float(means.n @ (means.level / fitted)) / float(means.n.sum())


def _curve(law: Average, noise: Floats | None, *, log: bool) -> list[CurvePoint]:
    m = len(law.points.x)
    lo, hi = law.interval()
    band_lo, band_hi = law.band()
    columns = [law.points.x, law.curve, lo, hi, band_lo, band_hi]
    if noise is not None:
        half = z_quantile() * np.sqrt(noise + (law.draws.std(axis=0) * law.points.stretch) ** 2)
        columns += [law.curve - half, law.curve + half]
    shown = np.unique(np.linspace(0, m - 1, min(m, CURVE_POINTS)).round().astype(np.int64))
    table = np.stack(columns, axis=1)[shown]
    table[:, 1:] = np.exp(np.clip(table[:, 1:], -300.0, 300.0)) if log else np.clip(table[:, 1:], 0.0, 1.0)
    return [CurvePoint(rounded(x), *rest) for x, *rest in table.tolist()]


def _change(law: Average) -> Estimate:
    estimate, se, lo, hi = law.contrast(0, len(law.points.x) - 1)
    return Estimate(estimate, se, lo, hi)


def _method(what: str, *, overdispersed: bool, errors: str) -> str:
    criterion = "QAICc" if overdispersed else "AICc"
    return f"families fitted to {what} by weighted least squares, {criterion} average, bootstrap of the means, {errors}"
