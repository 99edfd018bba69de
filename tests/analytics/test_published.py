"""The published law: where it goes, on which scale, from what, and what its steps must bring."""

import math
from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import statsmodels.api as sm

from analytics.averaging import SATURATED, average
from analytics.families import ATTEMPT_CURVES, CURVES, LOG_CURVES
from analytics.hazards import AttemptCounts, fit_hazards
from analytics.moments import Floats
from analytics.points import independent
from analytics.published import Clusters, Curve, Fitting, Means, price_of, promise_of, publish, trend_of, trend_p
from models.dimensions import LESS_IS_BETTER, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import CurvePoint, Published

X = np.array([1.0, 2, 3, 4, 6, 8])
PLAIN = Fitting()
FLAT = np.full(6, 0.5)
RISE = np.array([0.3, 0.4, 0.46, 0.5, 0.56, 0.6])
HUMP = np.array([0.3, 0.45, 0.6, 0.55, 0.45, 0.35])


def successes(rate: Floats, runs: int, seed: int, x: Floats = X) -> Means:
    """Draw the successes of so many runs at each value."""
    mean = np.random.default_rng(seed).binomial(runs, rate) / runs
    n = np.full(len(x), float(runs))
    return Means(x, n, mean, n * mean * (1 - mean), mean)


def times(runs: int, seed: int, spread: float = 0.6) -> tuple[Means, list[Floats]]:
    """Draw skewed times that fall as 1/√x, with the rows."""
    rng = np.random.default_rng(seed)
    rows = [100 / np.sqrt(x) * rng.lognormal(0, spread, runs) for x in X]
    logs = [np.log(row) for row in rows]
    return (
        Means(
            X,
            np.full(6, float(runs)),
            np.array([log.mean() for log in logs]),
            np.array([((log - log.mean()) ** 2).sum() for log in logs]),
            np.array([row.mean() for row in rows]),
        ),
        rows,
    )


def curve_of(means: Means, outcome: Outcome = Outcome.SUCCESS, dimension: Dimension = Dimension.ITERATIONS) -> Curve:
    """Publish the law of a limit that was set beforehand."""
    return publish(means, dimension, outcome, Basis.DOSE, PLAIN)


@pytest.mark.parametrize(
    ("rate", "runs", "direction"),
    [
        (FLAT, 5000, "no effect"),
        (RISE, 1000, "rises"),
        (RISE[::-1], 1000, "falls"),
        (HUMP, 1000, "rises then falls"),
        (1 - HUMP, 1000, "falls then rises"),
        (FLAT, 100, "undetermined"),
        (RISE[[0, 0, 1, 0, 1, 1]], 30, "undetermined"),
    ],
    ids=["flat", "rise", "fall", "hump", "valley", "flat but few", "rise but few"],
)
def test_the_direction_is_that_of_the_planted_truth(rate: Floats, runs: int, direction: str) -> None:
    """In nine of ten streams each truth gets its word; with few runs neither a rise nor its absence is claimed."""
    found = Counter(curve_of(successes(rate, runs, seed)).published.direction for seed in range(20))
    assert found[direction] >= 18, found


def test_no_direction_is_invented_where_there_is_none() -> None:
    """Of a hundred flat streams of 200 runs a value, at most a tenth are said to go anywhere."""
    found = Counter(curve_of(successes(FLAT, 200, seed)).published.direction for seed in range(100))
    assert found["undetermined"] + found["no effect"] >= 90, found


def test_no_effect_has_to_be_shown_for_the_whole_curve() -> None:
    """Equal ends are no proof: a hump between them is one, and on the log scale 5 per cent is the margin."""
    hump = curve_of(successes(np.array([0.4, 0.5, 0.6, 0.6, 0.5, 0.4]), 5000, 1)).published
    assert hump.change is not None
    assert abs(hump.change.estimate) < 0.05
    assert hump.direction == "rises then falls"
    steady, _ = times(20_000, 2)
    level = Means(X, steady.n, steady.mean + 0.5 * np.log(X), steady.m2, steady.level * np.sqrt(X))
    assert curve_of(level, Outcome.TIME_TO_COMPLETE).published.direction == "no effect"


@pytest.mark.parametrize("outcome", [Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST])
def test_time_and_cost_are_laws_of_the_logarithm(outcome: Outcome) -> None:
    """The curve is a median, its means are `mean_factor` above it, and a single run lies within the predicted range."""
    means, rows = times(3000, 3)
    law = curve_of(means, outcome).published
    assert law.scale == "median"
    assert law.family in {"power", "log_quadratic", "power_ceiling"}
    assert law.direction == "falls"
    assert law.change is not None
    assert law.change.lo < -0.5 * math.log(8) < law.change.hi
    for point, row in zip(law.curve, rows, strict=True):
        assert point.mean == pytest.approx(float(np.median(row)), rel=0.06)
        assert point.predicted_lo is not None
        assert point.predicted_hi is not None
        inside = (row > point.predicted_lo) & (row < point.predicted_hi)
        assert inside.mean() == pytest.approx(0.95, abs=0.015)


def test_the_mean_factor_is_duans() -> None:
    """Row by row: the mean of y over its median law; close to exp(σ²/2) for lognormal times."""
    means, rows = times(500, 4)
    law = curve_of(means, Outcome.TIME_TO_COMPLETE).published
    ratios = np.concatenate([row / point.mean for row, point in zip(rows, law.curve, strict=True)])
    assert law.mean_factor == pytest.approx(float(ratios.mean()), rel=1e-9)
    assert law.mean_factor == pytest.approx(math.exp(0.6**2 / 2), rel=0.05)
    assert curve_of(successes(RISE, 100, 4)).published.mean_factor is None


@pytest.mark.parametrize(
    ("dimension", "outcome", "names"),
    [
        (Dimension.ITERATIONS, Outcome.SUCCESS, {*CURVES}),
        (Dimension.AGENT_COUNT, Outcome.SUCCESS, {*ATTEMPT_CURVES}),
        (Dimension.PARALLELISM_LEVEL, Outcome.SUCCESS, {*ATTEMPT_CURVES}),
        (Dimension.AGENT_COUNT, Outcome.QUALITY_SCORE, {*CURVES}),
        (Dimension.AGENT_COUNT, Outcome.TIME_TO_COMPLETE, {*LOG_CURVES}),
        (Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE, {*LOG_CURVES, "universal_scalability"}),
        (Dimension.PARALLELISM_LEVEL, Outcome.TOTAL_COST, {*LOG_CURVES}),
    ],
)
def test_the_families_are_those_that_the_outcome_can_follow(
    dimension: Dimension, outcome: Outcome, names: set[str]
) -> None:
    """Independent tries count for success alone, the scalability law for time over slots; names are those of y."""
    x = np.array([1.0, 2, 3, 4, 6, 8])
    n, mean = np.full(6, 100.0), 0.5 + 0.05 * np.sin(x)
    law = curve_of(Means(x, n, mean, n * 0.04, np.exp(mean)), outcome, dimension).published
    if outcome in LESS_IS_BETTER:
        renamed = {"linear": "exponential", "logarithmic": "power", "quadratic_log": "log_quadratic"}
        names = {renamed.get(name, name) for name in names}
    assert {*law.weights} == names | {SATURATED}
    assert sum(law.weights.values()) == pytest.approx(1)


def test_the_trend_is_weighted_least_squares_on_ln_x() -> None:
    """Slope and error are statsmodels', with the variances taken as known; p is the normal one."""
    means = successes(RISE, 60, 5)
    points = independent(means.x, means.n, means.mean, means.m2, binary=True)
    trend = trend_of(points)
    fit = sm.WLS(points.mean, sm.add_constant(np.log(X)), weights=1 / points.variance).fit(cov_type="fixed scale")
    assert trend.estimate == pytest.approx(fit.params[1], rel=1e-9)
    assert trend.se == pytest.approx(fit.bse[1], rel=1e-9)
    assert trend_p(trend) == pytest.approx(fit.pvalues[1], rel=1e-6)
    assert curve_of(means).trend == trend


def test_evidence_grows_with_the_runs_of_a_trend_and_not_without_one() -> None:
    """The e-value stays small on flat truths and is large on a clear rise."""
    flat = [curve_of(successes(FLAT, 200, seed)).e_value for seed in range(60)]
    assert float(np.mean(flat)) < 2.5
    assert float(np.mean(np.array(flat) >= 20)) <= 0.05
    assert curve_of(successes(RISE, 200, 6)).e_value > 1000


def attempts(runs: int, seed: int) -> tuple[Means, AttemptCounts]:
    """Draw runs that try up to four times and stop at a success; half of them are hard and seldom succeed."""
    rng = np.random.default_rng(seed)
    chance = np.where(rng.random(runs) < 0.5, 0.6, 0.15)
    tries = rng.random((runs, 4)) < chance[:, None]
    success = tries.max(axis=1)
    made = np.where(success, tries.argmax(axis=1) + 1, 4)
    values = np.unique(made)
    n = np.array([float((made == value).sum()) for value in values])
    mean = np.array([float(success[made == value].mean()) for value in values])
    counts = AttemptCounts.from_runs(values, n, n * mean)
    return Means(values.astype(np.float64), n, mean, n * mean * (1 - mean), mean), counts


def test_success_over_attempts_made_is_fitted_from_hazards() -> None:
    """Success falls with the attempts made, the law rises: it is P(success within k), with Greenwood's errors."""
    means, counts = attempts(4000, 7)
    assert means.mean[-1] < means.mean[0]
    law = publish(means, Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED, PLAIN)
    truth = [0.5 * (1 - 0.4**k) + 0.5 * (1 - 0.85**k) for k in (1, 2, 3, 4)]
    assert law.published.direction == "rises"
    assert law.published.method.startswith("families fitted to hazards of attempts")
    assert [point.x for point in law.published.curve] == [1, 2, 3, 4]
    for point, expected in zip(law.published.curve, truth, strict=True):
        assert point.lo - 0.01 < expected < point.hi + 0.01
        assert point.predicted_lo is None
    hazard = fit_hazards(counts)
    assert law.average.points.mean == pytest.approx(hazard.probability)
    assert np.sqrt(law.average.points.variance) == pytest.approx(hazard.se)
    naive = publish(means, Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.DOSE, PLAIN)
    assert naive.published.direction != "rises"


def test_chances_within_more_and_more_attempts_are_correlated_as_resampling_shows() -> None:
    """The covariance behind the law is that of the estimate over redrawn runs."""
    runs = 1500
    found = np.array([fit_hazards(attempts(runs, seed)[1]).probability for seed in range(400)])
    covariance = publish(
        attempts(runs, 0)[0], Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED, PLAIN
    ).average.points.covariance
    assert covariance == pytest.approx(np.cov(found.T), rel=0.35)


def test_attempts_that_are_no_counts_or_only_one_are_told() -> None:
    """Half an attempt is none, and runs that all stop after the first say nothing of a second."""
    n, rate = np.array([50.0, 50.0]), np.array([0.9, 0.2])
    means = Means(np.array([1.0, 2.5]), n, rate, n * rate * (1 - rate), rate)
    with pytest.raises(NotEnoughData, match="not whole numbers"):
        publish(means, Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED, PLAIN)
    lone = Means(np.ones(1), n[:1], rate[:1], n[:1] * 0.09, rate[:1])
    with pytest.raises(NotEnoughData, match="allow retries"):
        publish(lone, Dimension.ATTEMPTS, Outcome.SUCCESS, Basis.REALISED, PLAIN)


def test_runs_that_all_brought_the_same_have_no_law() -> None:
    """There is no error to estimate where nothing varies."""
    n = np.full(6, 50.0)
    with pytest.raises(NotEnoughData, match="all 300 runs have the same success"):
        curve_of(Means(X, n, np.ones(6), np.zeros(6), np.ones(6)))


def test_clusters_widen_the_law_and_are_named() -> None:
    """Projects that differ by more than chance: the same curve with wider intervals, QAICc and its factor."""
    rng = np.random.default_rng(8)
    value, cluster = np.repeat(np.arange(6), 10), np.tile(np.arange(10), 6)
    mean = RISE[value] + rng.normal(0, 0.1, 10)[cluster]
    n = np.full(60, 40.0)
    total = np.array([mean[value == place].mean() for place in range(6)])
    plain = Means(X, np.full(6, 400.0), total, np.full(6, 400 * 0.05), total)
    inside = replace(plain, clusters=Clusters(value, cluster, n, mean))
    apart, together = curve_of(plain, Outcome.QUALITY_SCORE), curve_of(inside, Outcome.QUALITY_SCORE)
    assert together.published.overdispersion > 2
    assert "QAICc" in together.published.method
    assert "clustered" in together.published.method
    assert apart.published.overdispersion == 1
    assert "independent" in apart.published.method
    assert together.trend.estimate == apart.trend.estimate
    widths = [[point.hi - point.lo for point in law.published.curve] for law in (apart, together)]
    assert np.mean(widths[1]) > 1.5 * np.mean(widths[0])
    # What all clusters share shifts every value alike: the level is uncertain, the trend hardly.
    assert together.trend.se < 1.5 * apart.trend.se


def cost_law(dollars: dict[float, float], factor: float | None = None) -> Published:
    """Make a law of cost."""
    curve = [CurvePoint(x, y, y, y) for x, y in dollars.items()]
    return Published("linear", {}, {}, curve, "", scale="median", mean_factor=factor)


@pytest.mark.parametrize(
    ("dimension", "threshold"),
    [
        (Dimension.AGENT_COUNT, 0.05),
        (Dimension.ITERATIONS, 0.02),
        (Dimension.CONTEXT, 0.003 / 1000),
        (Dimension.PARALLELISM_LEVEL, 0.05),
        (Dimension.ATTEMPTS, 0.05),
    ],
)
def test_without_a_cost_law_the_price_table_prices_a_step(dimension: Dimension, threshold: float) -> None:
    """What has no price must bring the document's 0.05 a unit; at twice the value, half of a price will do."""
    price = price_of(X, dimension, Outcome.SUCCESS, None, PLAIN)
    assert price.threshold == pytest.approx(threshold)
    dear = price_of(X, dimension, Outcome.SUCCESS, None, Fitting(value_of_success=2.0))
    table = {Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT}
    assert dear.threshold == pytest.approx(threshold / 2 if dimension in table else threshold)
    assert ("by the price table" in price.rule) == (dimension in table)


def test_the_cost_law_prices_each_step_by_its_own_slope() -> None:
    """Mean cost, so the median times its factor, between neighbouring values, over the value of a success."""
    dollars = {1.0: 0.1, 2.0: 0.15, 3.0: 0.2, 4.0: 0.25, 6.0: 0.45, 8.0: 0.4}
    price = price_of(X, Dimension.AGENT_COUNT, Outcome.SUCCESS, cost_law(dollars, 1.2), Fitting(value_of_success=2.0))
    assert price.threshold == pytest.approx([0.03, 0.03, 0.03, 0.06, 0.0])
    assert price.rule == "the next unit costs more, by the cost law, than it brings at $2 a success"
    plain = price_of(X, Dimension.AGENT_COUNT, Outcome.QUALITY_SCORE, cost_law(dollars), PLAIN)
    assert plain.threshold == pytest.approx([0.05, 0.05, 0.05, 0.1, 0.0])


def test_a_cost_law_that_does_not_reach_is_not_extrapolated() -> None:
    """Costs known from 2 to 6 say nothing of a step from 1, or to 8: the table prices those."""
    for dollars in ({2.0: 0.1, 8.0: 0.4}, {1.0: 0.1, 6.0: 0.3}, {1.0: 0.1}):
        price = price_of(X, Dimension.AGENT_COUNT, Outcome.SUCCESS, cost_law(dollars), PLAIN)
        assert "by the price table" in price.rule


def test_time_asks_for_five_per_cent_and_cost_for_nothing() -> None:
    """A unit, or a doubling of context or model size, must save 5 % of time; cost is what is paid with."""
    time = price_of(X, Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE, cost_law({1.0: 1.0, 8.0: 2.0}), PLAIN)
    assert (time.threshold.tolist(), time.rule) == (pytest.approx([0.05] * 5), "the next unit saves less than 5 %")
    size = price_of(X, Dimension.MODEL_SIZE, Outcome.TIME_TO_COMPLETE, None, PLAIN)
    assert size.threshold * np.diff(X) == pytest.approx(0.05 * np.log2(X[1:] / X[:-1]))
    assert "doubling" in size.rule
    gain = price_of(X, Dimension.MODEL_SIZE, Outcome.SUCCESS, None, PLAIN)
    assert gain.threshold * np.diff(X) == pytest.approx(0.05 * np.log2(X[1:] / X[:-1]))
    with pytest.raises(NotEnoughData, match="cost has no knee"):
        price_of(X, Dimension.AGENT_COUNT, Outcome.TOTAL_COST, None, PLAIN)


def test_the_curve_has_the_laws_intervals_within_bounds() -> None:
    """Each point carries the average's interval and band, held within 0 and 1, and reads back from JSON."""
    found = curve_of(successes(RISE, 30, 9))
    lo, hi = found.average.interval()
    for place, point in enumerate(found.published.curve):
        assert point.x == X[place]
        assert point.mean == pytest.approx(found.average.curve[place])
        assert (point.lo, point.hi) == pytest.approx((lo[place], hi[place]))
        assert point.band_lo is not None
        assert point.band_hi is not None
        assert 0 <= point.band_lo <= point.lo <= point.mean <= point.hi <= point.band_hi <= 1
    assert msgspec.json.decode(msgspec.json.encode(found.published), type=Published) == found.published


def test_means_that_no_family_describes_are_told_as_they_are() -> None:
    """A step that no curve has: the law is named saturated, without parameters, and goes through the means."""
    mean, n = np.array([0.5, 0.5, 0.5, 0.6, 0.6, 0.6]), np.full(6, 20_000.0)
    law = curve_of(Means(X, n, mean, n * mean * (1 - mean), mean)).published
    assert (law.family, law.params, law.direction) == (SATURATED, {}, "rises")
    assert law.lack_of_fit is not None
    assert law.lack_of_fit < 1e-9
    assert all(point.lo < y < point.hi for point, y in zip(law.curve, mean, strict=True))


def test_a_chance_near_its_bounds_stays_within_them() -> None:
    """Where almost all runs succeed, neither the law nor an end of an interval or band leaves 0 to 1."""
    law = curve_of(successes(np.array([0.01, 0.3, 0.6, 0.9, 0.99, 0.99]), 30, 9)).published
    ends = [(point.mean, point.lo, point.hi, point.band_lo, point.band_hi) for point in law.curve]
    assert all(end is not None and 0 <= end <= 1 for point in ends for end in point)


def test_the_change_is_from_the_smallest_to_the_largest_value() -> None:
    """Its estimate, error and interval are the average's contrast of the ends."""
    found = curve_of(successes(RISE, 100, 10))
    change = found.published.change
    assert change is not None
    assert (change.estimate, change.se, change.lo, change.hi) == found.average.contrast(0, 5)
    law = average(found.average.points, CURVES, bounds=(0.0, 1.0))
    assert law.mean == pytest.approx(found.average.mean)


def test_the_promise_of_a_flat_truth_is_a_fraction_of_what_the_means_say() -> None:
    """Over 200 flat streams of 30 runs a value the best of six seems to gain .11, and is promised to gain under .03."""
    rng = np.random.default_rng(77)
    x, n = np.array([1.0, 2, 3, 4, 6, 8]), np.full(6, 30.0)
    promised, raw = [], []
    for _ in range(200):
        mean = rng.binomial(30, 0.5, 6) / 30
        told = promise_of(independent(x, n, mean, n * mean * (1 - mean), binary=True), less_is_better=False)
        promised.append(told.gain.estimate)
        raw.append(told.raw)
    assert np.mean(raw) > 0.09
    assert np.mean(promised) < 0.03


def test_the_promise_of_a_fall_in_time_is_a_gain() -> None:
    """Where less is better the largest value is promised, by what its log falls."""
    x, n = np.array([1.0, 2, 4, 8]), np.full(4, 400.0)
    mean = 5 - 0.7 * np.log(x)
    told = promise_of(independent(x, n, mean, n * 0.25, binary=False), less_is_better=True)
    assert (told.value, told.over) == (8, 1)
    assert told.gain.estimate == pytest.approx(0.7 * np.log(8), rel=0.05)
