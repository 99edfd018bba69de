"""Model averaging: weights by hand, intervals by their definition, clusters by the brute-force sandwich."""

import math

import numpy as np
import pytest
from scipy import stats

from analytics.averaging import SATURATED, Average, average
from analytics.families import CONSTANT, CURVES, HUMP, KINDS, LINEAR, LOGARITHMIC, QUADRATIC_LOG
from analytics.moments import Floats
from analytics.parameters import parameters
from analytics.points import Points, clustered, independent, variance_of_means
from models.errors import NotEnoughData

X = np.array([1.0, 2, 3, 4, 6, 8])
LINES = (CONSTANT, LINEAR, LOGARITHMIC, QUADRATIC_LOG)


def binary(rate: Floats, runs: int, seed: int, x: Floats = X) -> Points:
    """Draw successes at each value."""
    mean = np.random.default_rng(seed).binomial(runs, rate) / runs
    return independent(x, np.full(len(x), float(runs)), mean, runs * mean * (1 - mean), binary=True)


def basis(name: str) -> Floats:
    """Write down the design of a family without a shape."""
    z = np.log(X)
    columns = {CONSTANT: [X**0], LINEAR: [X**0, X], LOGARITHMIC: [X**0, z], QUADRATIC_LOG: [X**0, z, z * z]}
    return np.stack(columns[name], axis=1)


def fit_by_hand(points: Points, name: str, mean: Floats) -> tuple[Floats, float]:
    """Fit a family by numpy; give its curve and χ²."""
    root, design = points.root, basis(name)
    beta = np.linalg.lstsq(design * root[:, None], mean * root, rcond=None)[0]
    curve = design @ beta
    return curve, float((((mean - curve) * root) ** 2).sum())


def weights_by_hand(scores: dict[str, float]) -> dict[str, float]:
    """Give exp(-AICc/2) as shares."""
    least = min(scores.values())
    raw = {name: math.exp(-(score - least) / 2) for name, score in scores.items()}
    return {name: value / sum(raw.values()) for name, value in raw.items()}


@pytest.mark.parametrize("overdispersion", [1.0, 2.5])
def test_weights_and_the_law_are_those_of_aicc_by_hand(overdispersion: float) -> None:
    """χ²/ĉ + 2p + 2p(p+1)/(N-p-1); the law is the families' mean so weighted, the curve has the saturated one too."""
    plain = binary(0.3 + 0.1 * np.log(X), 40, 1)
    points = Points(plain.x, plain.mean, plain.variance, plain.covariance, plain.runs, overdispersion)
    law = average(points, LINES)
    curves, scores = {}, {}
    for name in LINES:
        curves[name], chi2 = fit_by_hand(points, name, points.mean)
        p = basis(name).shape[1]
        scores[name] = chi2 / overdispersion + 2 * p + 2 * p * (p + 1) / (240 - p - 1)
        assert law.chi2[name] == pytest.approx(chi2, rel=1e-9)
    alone = weights_by_hand(scores)
    assert law.mean == pytest.approx(sum(alone[name] * curves[name] for name in LINES), rel=1e-9)
    assert law.best == max(alone, key=lambda name: alone[name])
    whole = weights_by_hand(scores | {SATURATED: 2 * 6 + 2 * 6 * 7 / (240 - 6 - 1)})
    assert law.weights == pytest.approx(whole, rel=1e-9)
    curve = whole[SATURATED] * points.mean + sum(whole[name] * curves[name] for name in LINES)
    assert law.curve == pytest.approx(curve, rel=1e-9)


def test_every_draw_is_fitted_and_weighed_like_the_data() -> None:
    """A draw's law, recomputed from the draw by hand, is the average's, and the draws have the means' covariance."""
    points = binary(0.3 + 0.1 * np.log(X), 40, 2)
    law = average(points, LINES, draws=200)
    z = np.random.default_rng(20_170 + len(X)).standard_normal((200, len(X)))
    for draw in (0, 1, 77, 199):
        mean = points.mean + z[draw] * np.sqrt(points.variance)
        curves, scores = {}, {}
        for name in LINES:
            curves[name], chi2 = fit_by_hand(points, name, mean)
            p = basis(name).shape[1]
            scores[name] = chi2 + 2 * p + 2 * p * (p + 1) / (240 - p - 1)
        expected = weights_by_hand(scores)
        by_hand = sum(expected[name] * curves[name] for name in LINES)
        assert law.law_draws[draw] == pytest.approx(by_hand, rel=1e-9)
        if draw % 2 == 1:
            m = len(X)
            scores[SATURATED] = 2 * m + 2 * m * (m + 1) / (240 - m - 1)
            whole = weights_by_hand(scores)
            mixed = whole[SATURATED] * mean + sum(whole[name] * curves[name] for name in LINES)
            assert law.draws[draw] == pytest.approx(mixed, rel=1e-9)


def test_every_second_draw_takes_one_family() -> None:
    """The other half of the draws are each one of the fits, so that intervals count how far families are apart."""
    points = binary(0.3 + 0.1 * np.log(X), 40, 2)
    law = average(points, LINES, draws=100)
    z = np.random.default_rng(20_170 + len(X)).standard_normal((100, len(X)))
    taken = set()
    for draw in range(0, 100, 2):
        mean = points.mean + z[draw] * np.sqrt(points.variance)
        fits = {name: fit_by_hand(points, name, mean)[0] for name in LINES} | {SATURATED: mean}
        taken |= {name for name, curve in fits.items() if np.allclose(law.draws[draw], curve, rtol=1e-9)}
        assert any(np.allclose(law.draws[draw], curve, rtol=1e-9) for curve in fits.values())
    assert len(taken) > 1


def test_intervals_bands_and_contrasts_are_quantiles_of_the_draws() -> None:
    """Pointwise by percentiles, together by the quantile of the largest studentised distance."""
    law = average(binary(0.3 + 0.1 * np.log(X), 60, 3), CURVES)
    lo, hi = law.interval()
    assert lo == pytest.approx(np.percentile(law.draws, 2.5, axis=0))
    assert hi == pytest.approx(np.percentile(law.draws, 97.5, axis=0))
    band_lo, band_hi = law.band()
    inside = ((law.draws >= band_lo - 1e-12) & (law.draws <= band_hi + 1e-12)).all(axis=1)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)
    estimate, se, low, high = law.contrast(0, 5)
    away = law.draws[:, 5] - law.draws[:, 0]
    assert estimate == pytest.approx(law.curve[5] - law.curve[0])
    assert (low, high) == pytest.approx(np.percentile(away, (2.5, 97.5)))
    assert se == pytest.approx(away.std())
    wide = law.contrast(0, 5, 0.99)
    assert wide[2] < low < high < wide[3]


def test_the_band_covers_every_point_together_more_often_than_the_intervals() -> None:
    """A band that is to hold everywhere is wider than the intervals that hold one by one."""
    law = average(binary(0.3 + 0.1 * np.log(X), 60, 4), CURVES)
    (lo, hi), (band_lo, band_hi) = law.interval(), law.band()
    assert float((band_hi - band_lo).mean()) > float((hi - lo).mean())


def test_a_lack_of_fit_is_the_chi_squared_tail() -> None:
    """Its p is that of χ² on values less parameters; a hump that only lines may describe does not fit."""
    law = average(binary(np.array([0.2, 0.5, 0.8, 0.8, 0.5, 0.2]), 300, 5), (CONSTANT, LINEAR, LOGARITHMIC))
    freedom = len(X) - law.fits[law.best].size
    assert law.lack_of_fit == pytest.approx(stats.chi2.sf(law.chi2[law.best], freedom), rel=1e-9)
    assert law.lack_of_fit < 1e-6
    assert average(binary(np.full(6, 0.5), 300, 5), CURVES).lack_of_fit > 0.001


@pytest.mark.parametrize("runs", [100, 5000, 50_000, 1_000_000])
def test_where_no_family_describes_the_means_they_stand_for_themselves(runs: int) -> None:
    """A step between 3 and 4 is in no family: with many runs the curve is the means, always inside its interval."""
    mean, n = np.array([0.5, 0.5, 0.5, 0.6, 0.6, 0.6]), np.full(6, float(runs))
    law = average(independent(X, n, mean, n * mean * (1 - mean), binary=True), CURVES)
    lo, hi = law.interval()
    assert (lo <= law.curve).all()
    assert (law.curve <= hi).all()
    assert law.described == (runs == 100)
    if runs >= 5000:
        assert law.weights[SATURATED] > 0.99
        assert law.curve == pytest.approx(mean, abs=1e-3)
        assert law.lack_of_fit < 1e-9
    assert law.best in CURVES


def test_further_points_extend_the_curve_without_touching_the_fit() -> None:
    """Asking for larger values changes nothing at the observed ones."""
    points = binary(0.3 + 0.1 * np.log(X), 60, 6)
    short, long = average(points, CURVES), average(points, CURVES, also=np.array([12.0, 16.0]))
    assert long.at.tolist() == [*X.tolist(), 12.0, 16.0]
    assert long.mean[:6] == pytest.approx(short.mean, rel=1e-9)
    assert long.weights == pytest.approx(short.weights, rel=1e-9)
    assert long.law_draws.shape == (300, 8)


def test_bounds_hold_the_law_and_every_draw() -> None:
    """Success neither falls below 0 nor rises above 1, whatever a line would say."""
    law = average(binary(np.array([0.02, 0.3, 0.6, 0.9, 0.98, 0.99]), 20, 7), (LINEAR, LOGARITHMIC), bounds=(0.0, 1.0))
    for values in (law.mean, law.curve, law.draws, law.law_draws):
        assert float(values.min()) >= 0
        assert float(values.max()) <= 1


def test_the_variance_of_a_mean_is_never_zero_by_luck() -> None:
    """Jeffreys' for 0/1; else four runs' worth of the pooled variance are added: both written down."""
    n, mean = np.array([4.0, 10.0]), np.array([0.0, 0.5])
    found = variance_of_means(n, mean, n * mean * (1 - mean), binary=True)
    assert found == pytest.approx([0.5 * 4.5 / 25 / 4, 5.5 * 5.5 / 121 / 10])
    rows = [np.array([3.0, 3.0]), np.array([1.0, 2.0, 4.0, 5.0])]
    m2 = np.array([((row - row.mean()) ** 2).sum() for row in rows])
    sizes, means = np.array([2.0, 4.0]), np.array([row.mean() for row in rows])
    pooled = 10.0 / 4
    assert variance_of_means(sizes, means, m2, binary=False) == pytest.approx(
        [(4 * pooled + 0) / 5 / 2, (4 * pooled + 10) / 7 / 4]
    )
    with pytest.raises(NotEnoughData, match="no error to estimate"):
        variance_of_means(sizes, means, np.zeros(2), binary=False)


def clustered_rows(seed: int, groups: int = 12) -> tuple[Floats, Floats, Floats]:
    """Draw runs of which those of one cluster share a level."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, groups, 900)
    x = rng.choice(X, 900)
    y = 0.5 + 0.1 * np.log(x) + rng.normal(0, 0.2, groups)[cluster] + rng.normal(0, 0.1, 900)
    return x, y, cluster.astype(np.float64)


def points_of(x: Floats, y: Floats) -> Points:
    """Reduce rows to the points of independent runs."""
    groups = [y[x == at] for at in X]
    n = np.array([float(len(group)) for group in groups])
    m2 = np.array([((group - group.mean()) ** 2).sum() for group in groups])
    return independent(X, n, np.array([group.mean() for group in groups]), m2, binary=False)


def test_the_covariance_of_clustered_means_is_the_brute_force_sandwich() -> None:
    """Row by row: regress on a dummy a value, sum the residuals of each cluster, G/(G-1) times their outer products."""
    x, y, cluster = clustered_rows(8)
    plain = points_of(x, y)
    keys = sorted({(at, group) for at, group in zip(x.tolist(), cluster.tolist(), strict=True)})
    cells = [y[(x == at) & (cluster == group)] for at, group in keys]
    points = clustered(
        plain,
        np.searchsorted(X, [at for at, _ in keys]),
        np.array([int(group) for _, group in keys]),
        np.array([float(len(cell)) for cell in cells]),
        np.array([cell.mean() for cell in cells]),
    )
    design = (x[:, None] == X).astype(np.float64)
    bread = np.linalg.inv(design.T @ design)
    residual = y - design @ (bread @ design.T @ y)
    meat = np.zeros((6, 6))
    for group in range(12):
        score = design[cluster == group].T @ residual[cluster == group]
        meat += np.outer(score, score)
    expected = 12 / 11 * bread @ meat @ bread
    assert (np.diag(expected) > plain.variance).all()
    assert points.covariance == pytest.approx(expected, rel=1e-9)
    assert points.overdispersion == pytest.approx(float((np.diag(expected) / plain.variance).mean()), rel=1e-9)
    assert points.stretch == pytest.approx(stats.t.ppf(0.975, 11) / stats.norm.ppf(0.975), rel=1e-9)
    assert points.variance is plain.variance


def test_clusters_that_explain_nothing_do_not_shrink_an_error() -> None:
    """Where clusters happen to agree better than chance, the variance of independent runs stays, and ĉ is 1."""
    x, y, _ = clustered_rows(9)
    plain = points_of(x, y)
    value = np.repeat(np.arange(6), 12)
    group = np.tile(np.arange(12), 6)
    agree = clustered(plain, value, group, np.full(72, 10.0), plain.mean[value])
    assert agree.covariance == pytest.approx(np.diag(plain.variance))
    assert agree.overdispersion == 1.0


def test_clustered_errors_widen_the_law() -> None:
    """The same means with the covariance of clusters have wider intervals, stretched for few clusters besides."""
    x, y, cluster = clustered_rows(10, groups=6)
    plain = points_of(x, y)
    keys = sorted({(at, group) for at, group in zip(x.tolist(), cluster.tolist(), strict=True)})
    cells = [y[(x == at) & (cluster == group)] for at, group in keys]
    points = clustered(
        plain,
        np.searchsorted(X, [at for at, _ in keys]),
        np.array([int(group) for _, group in keys]),
        np.array([float(len(cell)) for cell in cells]),
        np.array([cell.mean() for cell in cells]),
    )

    def width(law: Average) -> float:
        lo, hi = law.interval()
        return float((hi - lo).mean())

    assert width(average(points, CURVES)) > 1.5 * width(average(plain, CURVES))


def test_parameters_of_a_line_have_the_errors_of_weighted_least_squares() -> None:
    """Without clusters (X'WX)⁻¹ with known variances; with a covariance V the sandwich of it."""
    points = binary(0.2 + 0.07 * X, 400, 11)
    law = average(points, (LINEAR,))
    design, weight = basis(LINEAR), np.diag(1 / points.variance)
    bread = np.linalg.inv(design.T @ weight @ design)
    beta = bread @ design.T @ weight @ points.mean
    found = parameters(law)
    assert list(found) == ["intercept", "slope"]
    assert [part.estimate for part in found.values()] == pytest.approx(beta)
    assert [part.se for part in found.values()] == pytest.approx(np.sqrt(np.diag(bread)))
    assert found["slope"].hi - found["slope"].estimate == pytest.approx(1.959964 * found["slope"].se, rel=1e-6)
    covariance = points.covariance + 0.0004
    together = Points(points.x, points.mean, points.variance, covariance, points.runs, 1.0, 1.1)
    sandwich = bread @ design.T @ weight @ covariance @ weight @ design @ bread
    wide = parameters(average(together, (LINEAR,)))
    assert [part.se for part in wide.values()] == pytest.approx(np.sqrt(np.diag(sandwich)))
    assert wide["slope"].hi - wide["slope"].estimate == pytest.approx(1.1 * 1.959964 * wide["slope"].se, rel=1e-6)


def test_a_breakpoint_has_no_standard_error() -> None:
    """Parameters that stay on their grid are left out; the slopes on both sides hold given the breakpoint."""
    law = average(binary(np.array([0.2, 0.5, 0.8, 0.6, 0.4, 0.2]), 4000, 12), (CONSTANT, HUMP))
    assert law.best == HUMP
    assert list(parameters(law)) == ["intercept", "slope", "slope_after"]
    assert KINDS[HUMP].names[-1] == "breakpoint"


def test_many_runs_are_fitted_finer_than_the_grid() -> None:
    """A planted curve between two shapes of the grid is found exactly, in the data and by every draw near it."""
    truth = 0.8 - 0.5 * np.exp(-(X - 1) / 2.345)
    n = np.full(6, 1e8)
    points = independent(X, n, truth, n * 0.04, binary=False)
    law = average(points, CURVES)
    assert law.best == "saturating_exponential"
    assert law.mean == pytest.approx(truth, abs=1e-6)
    assert parameters(law)["scale"].estimate == pytest.approx(2.345, abs=1e-3)
    # With grid shapes alone the draws would jump between them: the spread shows that they follow the noise.
    assert law.draws.std(axis=0) == pytest.approx(np.sqrt(points.variance), rel=0.5)


def test_too_few_runs_for_the_families_are_told() -> None:
    """AICc needs more runs than parameters and one."""
    with pytest.raises(NotEnoughData, match="needs more than"):
        average(binary(np.full(3, 0.5), 1, 13, X[:3]), CURVES)


def test_the_same_cells_give_the_same_law() -> None:
    """Nothing is drawn anew: two averages of the same points agree bit for bit."""
    points = binary(0.3 + 0.1 * np.log(X), 60, 14)
    one, other = average(points, CURVES), average(points, CURVES)
    assert np.array_equal(one.draws, other.draws)
    assert np.array_equal(one.law_draws, other.law_draws)
    assert one.weights == other.weights
