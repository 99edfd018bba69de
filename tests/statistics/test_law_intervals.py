"""Intervals of the averaged law know that its family is not known: contrasts, points and bands cover (T7)."""

from collections.abc import Callable

import numpy as np
import pytest

from analytics.averaging import Average, average
from analytics.families import CURVES
from analytics.intervals import z_quantile
from analytics.moments import Floats
from analytics.points import Points, clustered, independent

pytestmark = pytest.mark.statistics

X = np.array([1.0, 2, 3, 4, 6, 8])
TRUTHS = {
    "logarithmic": 0.5 + 0.1 * np.log(X),
    "saturating exponential": 0.7 - 0.3 * np.exp(-(X - 1) / 1.5),
    "any of k": 1 - 0.75**X,
    "plateau": 0.4 + 0.08 * (np.minimum(X, 4) - 1),
    "smooth hump": 0.45 + 0.30 * np.log(X) - 0.125 * np.log(X) ** 2,
}
KINKED_HUMP = 0.4 + 0.12 * (np.minimum(X, 4) - 1) - 0.06 * np.maximum(X - 4, 0)
CONTRASTS = {"f(4) - f(2)": (1, 3), "f(8) - f(4)": (3, 5)}
RUNS = (30, 100, 300)
PROJECTS = 20


def draw(rng: np.random.Generator, truth: Floats, runs: int) -> Points:
    """Draw successes and failures, `runs` at each value, as the points that a law is fitted to."""
    mean = rng.binomial(runs, truth) / runs
    n = np.full(len(X), float(runs))
    return independent(X, n, mean, n * mean * (1 - mean), binary=True)


def inside(law: Average, truth: Floats) -> tuple[list[bool], Floats, bool]:
    """Tell what covers the truth: the interval of each contrast, of each point, and the band."""
    contrasts = [law.contrast(first, second) for first, second in CONTRASTS.values()]
    gains = [truth[second] - truth[first] for first, second in CONTRASTS.values()]
    lo, hi = law.interval()
    band_lo, band_hi = law.band()
    return (
        [bool(at[2] <= gain <= at[3]) for at, gain in zip(contrasts, gains, strict=True)],
        np.asarray((lo <= truth) & (truth <= hi)),
        bool(((band_lo <= truth) & (truth <= band_hi)).all()),
    )


def widths(law: Average) -> Floats:
    """Give the width of each contrast's interval over that of the difference of the two cells alone."""
    variance = law.points.variance
    own = [2 * z_quantile() * np.sqrt(variance[i] + variance[j]) for i, j in CONTRASTS.values()]
    ends = [law.contrast(i, j)[2:] for i, j in CONTRASTS.values()]
    return np.array([(hi - lo) / width for (lo, hi), width in zip(ends, own, strict=True)])


def logarithmic_line(points: Points, gain: float, truth: float) -> bool:
    """Tell whether the interval of the least-squares line on ln x covers a gain: the document's logarithmic law."""
    z = np.log(X) - np.log(X).mean()
    slope = float(z @ points.mean) / float(z @ z)
    se = float(np.sqrt(z**2 @ points.variance)) / float(z @ z)
    return abs(slope * gain - truth) <= z_quantile() * se * gain


@pytest.mark.timeout(900)
def test_contrasts_points_and_bands_cover_whatever_the_family(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T7: five truths, three sizes: every contrast covers, in intervals shorter than those of the two cells.

    The least is f(4) - f(2) of the plateau, 0.91 to 0.92 at 30 and 100 runs; the rest, and the means, are above 0.94.
    """
    worlds = simulations(100, 1000)
    covered, pointwise, banded, width, lined = [], [], [], [], []
    for truth in TRUTHS.values():
        for runs in RUNS:
            rng = np.random.default_rng(runs)
            laws = [average(draw(rng, truth, runs), CURVES, bounds=(0.0, 1.0)) for _ in range(worlds)]
            checks = [inside(law, truth) for law in laws]
            covered.append(np.mean([check[0] for check in checks], axis=0))
            pointwise.append(np.mean([check[1] for check in checks], axis=0))
            banded.append(np.mean([check[2] for check in checks]))
            width.append(np.mean([widths(law) for law in laws], axis=0))
            lined.append([logarithmic_line(law.points, np.log(2), truth[5] - truth[3]) for law in laws])
    cover, ratio = np.array(covered), np.array(width)
    line = np.mean(lined, axis=1)
    slack, tolerance = 3 * np.sqrt(0.95 * 0.05 / worlds), 2.6 * np.sqrt(0.95 * 0.05 / worlds)
    for place, name in enumerate(CONTRASTS):
        record("T7", f"least coverage of {name}, 15 worlds", cover[:, place].min(),
               threshold=f">= .92 - {tolerance:.3f} of chance", runs=worlds)  # fmt: skip
        record("T7", f"mean coverage of {name}, 15 worlds", cover[:, place].mean(), threshold="[.94, .975]",
               runs=worlds)  # fmt: skip
        record("T7", f"mean width of {name} over that of two cells", ratio[:, place].mean(),
               threshold="<= .95", runs=worlds, reference="two cells alone: 1")  # fmt: skip
    record("T7", "mean width of both over that of two cells", ratio.mean(), threshold="<= .9", runs=worlds)
    record("T7", "least coverage of f(8) - f(4) by the line on ln x", line.min(), threshold="< .5: misses",
           runs=worlds)  # fmt: skip
    record("T7", "least pointwise coverage", np.min(pointwise), threshold=">= .90", runs=worlds)
    record("T7", "mean pointwise coverage", np.mean(pointwise), threshold=">= .93", runs=worlds)
    record("T7", "mean coverage of the simultaneous band", np.mean(banded), threshold=">= .93", runs=worlds)
    assert (cover >= 0.92 - tolerance).all()
    assert (cover.mean(axis=0) >= 0.94 - slack / np.sqrt(15)).all()
    assert (cover.mean(axis=0) <= 0.975 + slack / np.sqrt(15)).all()
    assert ratio.mean() <= 0.9
    assert (ratio.mean(axis=0) <= 0.95).all()
    assert line.min() < 0.5
    assert np.min(pointwise) >= min(0.90, 0.95 - slack)
    assert np.mean(pointwise) >= 0.93
    assert np.mean(banded) >= 0.93


def test_a_sharp_kink_is_covered_a_little_too_seldom(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """A known limit: with 30 runs a value a sharp peak is smoothed, and the slopes beside it covered about 0.92."""
    worlds, rng = simulations(150, 1000), np.random.default_rng(4)
    held = np.mean([
        inside(average(draw(rng, KINKED_HUMP, 30), CURVES, bounds=(0.0, 1.0)), KINKED_HUMP)[0] for _ in range(worlds)
    ], axis=0)  # fmt: skip
    for place, name in enumerate(CONTRASTS):
        record("T7", f"coverage of {name}, sharply kinked hump, n=30", held[place], threshold="known limit: >= .85",
               runs=worlds)  # fmt: skip
    assert (held >= 0.85 - 3 * np.sqrt(0.85 * 0.15 / worlds)).all()


def test_clustered_draws_cover_where_those_of_independent_runs_do_not(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T7: twenty projects with slopes of their own, runs at every value: only clustered points cover the mean law."""
    worlds = simulations(200, 1000)
    truth = 0.4 + 0.1 * np.log(X)
    n = np.full(len(X), 20.0 * PROJECTS)
    value, cluster = np.tile(np.arange(len(X)), PROJECTS), np.repeat(np.arange(PROJECTS), len(X))
    each = np.full(len(value), 20.0)
    held = np.zeros((worlds, 2, len(X) + 2))
    for place in range(worlds):
        rng = np.random.default_rng(place)
        shift, slope = rng.normal(0, 0.1, PROJECTS), rng.normal(0, 0.05, PROJECTS)
        chance = np.clip(truth[value] + shift[cluster] + slope[cluster] * np.log(X)[value], 0.01, 0.99)
        rate = rng.binomial(20, chance) / 20
        mean = np.bincount(value, rate) / PROJECTS
        points = independent(X, n, mean, n * mean * (1 - mean), binary=True)
        for column, seen in enumerate((clustered(points, value, cluster, each, rate), points)):
            contrasts, pointwise, _ = inside(average(seen, CURVES, bounds=(0.0, 1.0)), truth)
            held[place, column] = [*contrasts, *pointwise.tolist()]
    coverage = held.mean(axis=0)
    names = [*CONTRASTS, *(f"f({x:g})" for x in X.tolist())]
    for at, name in enumerate(names):
        record("T7", f"coverage of {name}, 20 projects", coverage[0, at], threshold=">= .92", runs=worlds,
               reference=f"independent runs {coverage[1, at]:.3f}")  # fmt: skip
    assert (coverage[0] >= min(0.92, 0.95 - 3 * np.sqrt(0.95 * 0.05 / worlds))).all()
    assert (coverage[1, 2:] < 0.90).all()
