"""Forgetting, against weighted and ordinary least squares of the raw rows."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from analytics.buckets import Buckets
from analytics.forgetting import forgotten
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData


def rows(seed: int) -> tuple[Ints, Floats, Floats]:
    """Draw 500 runs of y = .4 + .15 ln x in 20 buckets: bucket, ln x, y."""
    rng = np.random.default_rng(seed)
    g = np.log(rng.choice([1.0, 2, 3, 4, 6, 8], 500))
    return np.sort(rng.integers(0, 20, 500)), g, 0.4 + 0.15 * g + rng.normal(0, 0.2, 500)


def buckets(bucket: Ints, g: Floats, y: Floats) -> Buckets:
    """Reduce them by their raw sums."""
    n = np.bincount(bucket).astype(np.float64)
    g1, y1, gg, gy, yy = (np.bincount(bucket, v).astype(np.float64) for v in (g, y, g * g, g * y, y * y))
    A = np.stack((np.stack((n, g1), -1), np.stack((g1, gg), -1)), -1)
    return Buckets.from_sums(n, A, np.stack((y1, gy), -1), yy)


def test_forgetting_is_weighted_least_squares_with_the_variance_of_independent_runs() -> None:
    """The estimate is statsmodels' WLS; its error is the residuals' sd times √(sum of squared influences)."""
    bucket, g, y = rows(15)
    age = np.arange(19.0, -1, -1)
    law = forgotten(buckets(bucket, g, y), age, 6.0)
    w = 2 ** (-age[bucket] / 6)
    X = sm.add_constant(g - np.average(g, weights=w))
    fit = sm.WLS(y, X, weights=w).fit()
    influence = np.linalg.solve((X * w[:, None]).T @ X, (X * w[:, None]).T)
    freedom = w.sum() - np.trace(influence @ np.diag(w) @ X)
    sigma2 = float((w * fit.resid**2).sum() / freedom)
    assert law.centre == pytest.approx(np.average(g, weights=w))
    assert law.runs == pytest.approx(w.sum() ** 2 / (w**2).sum())
    for estimate, j in ((law.level, 0), (law.slope, 1)):
        assert estimate.estimate == pytest.approx(fit.params[j], rel=1e-9)
        assert estimate.se == pytest.approx(np.sqrt(sigma2 * (influence[j] ** 2).sum()), rel=1e-9)
        half = stats.t.ppf(0.975, law.runs - 2) * estimate.se
        assert (estimate.lo, estimate.hi) == pytest.approx((estimate.estimate - half, estimate.estimate + half))


def test_without_forgetting_it_is_ordinary_least_squares() -> None:
    """With an endless half-life the slope has statsmodels' classical error and interval."""
    bucket, g, y = rows(16)
    law = forgotten(buckets(bucket, g, y), np.arange(20.0), 1e12)
    fit = sm.OLS(y, sm.add_constant(g)).fit()
    assert law.slope.estimate == pytest.approx(fit.params[1])
    assert law.slope.se == pytest.approx(fit.bse[1])
    assert (law.slope.lo, law.slope.hi) == pytest.approx(tuple(fit.conf_int()[1]))


def test_what_is_forgotten_too_fast_has_no_law() -> None:
    """Too few effective runs, no runs, and no variation of x are NotEnoughData."""
    made = buckets(np.arange(9), np.zeros(9), np.arange(9.0))
    with pytest.raises(NotEnoughData, match="take a longer half-life"):
        forgotten(made, np.arange(9.0), 0.2)
    with pytest.raises(NotEnoughData, match="2 distinct values"):
        forgotten(made, np.arange(9.0), 100.0)
    with pytest.raises(NotEnoughData, match="3 effective runs"):
        forgotten(Buckets(np.zeros(2), np.zeros((2, 2)), np.zeros((2, 3))), np.arange(2.0), 1.0)
