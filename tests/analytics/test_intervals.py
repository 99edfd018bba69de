"""Intervals of proportions, means and knees."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analytics.intervals import bonferroni, knee_interval, mean_interval, t_quantile, wilson, z_quantile
from models.errors import NotEnoughData


def test_wilson_equals_statsmodels() -> None:
    """Counts from none to all, small and large, at two levels."""
    n = np.array([1, 5, 30, 30, 1000, 7])
    k = np.array([0, 5, 0, 29, 512, 3])
    for level in (0.95, 0.99):
        np.testing.assert_allclose(wilson(k, n, level), proportion_confint(k, n, 1 - level, "wilson"), atol=1e-12)


@pytest.mark.parametrize("p", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98])
def test_wilson_covers_where_wald_does_not(p: float) -> None:
    """At 30 runs the exact coverage is at least 0.92 for every p; Wald's falls below 0.5 at 0.98."""
    k = np.arange(31.0)
    lo, hi = wilson(k, 30.0)
    weight = stats.binom.pmf(k, 30, p)
    assert weight[(lo <= p) & (p <= hi)].sum() >= 0.92
    half = 1.96 * np.sqrt(k / 30 * (1 - k / 30) / 30)
    wald = weight[(k / 30 - half <= p) & (p <= k / 30 + half)].sum()
    assert (wald < 0.5) == (p == 0.98)


def test_the_interval_of_a_mean_is_students() -> None:
    """From n, mean and squared deviations comes what scipy computes from the runs."""
    runs = np.random.default_rng(5).exponential(3, 12)
    lo, hi = mean_interval(12, runs.mean(), ((runs - runs.mean()) ** 2).sum(), 0.9)
    expected = stats.t.interval(0.9, 11, runs.mean(), stats.sem(runs))
    assert (float(lo), float(hi)) == pytest.approx(expected, rel=1e-12)


def test_quantiles_equal_scipys() -> None:
    """Two-sided quantiles of t and of the normal distribution, and Bonferroni's level."""
    assert t_quantile(7, 0.9) == pytest.approx(stats.t.ppf(0.95, 7), rel=1e-12)
    assert z_quantile(0.95) == pytest.approx(stats.norm.ppf(0.975), rel=1e-12)
    assert bonferroni(0.95, 5) == pytest.approx(0.99)


def test_without_runs_there_is_no_interval() -> None:
    """No run, one run or no degree of freedom is NotEnoughData, not an interval of nothing."""
    with pytest.raises(NotEnoughData, match="0 runs"):
        wilson(0, 0)
    with pytest.raises(NotEnoughData, match="at least 2 runs, there are 1"):
        mean_interval(np.array([4.0, 1.0]), np.zeros(2), np.zeros(2))
    with pytest.raises(NotEnoughData, match="degree of freedom"):
        t_quantile(0)
    with pytest.raises(NotEnoughData, match="at least 2 distinct values"):
        knee_interval(np.ones(1), np.ones(1), np.ones(1), 0.05)


def test_a_knee_that_is_certain_has_a_narrow_interval_and_an_unknown_one_spans_all() -> None:
    """Gains .2, .1, 0: the knee is at 3. With tiny errors the interval is 3 to 3, with unknown ones 1 to 4."""
    x, mean = np.array([1.0, 2, 3, 4]), np.array([0.1, 0.3, 0.4, 0.4])
    assert knee_interval(x, mean, np.full(4, 1e-10), 0.05) == (3, 3)
    assert knee_interval(x, mean, np.full(4, np.inf), 0.05) == (1, 4)


def test_the_knee_interval_covers_the_planted_knee() -> None:
    """Over 400 planted saturating worlds of 100 runs a value the interval holds the true knee in at least 95 %."""
    rng = np.random.default_rng(6)
    x = np.array([1.0, 2, 3, 4, 6, 8])
    truth = 0.8 - 0.5 * np.exp(-(x - 1) / 1.5)
    gain = np.diff(truth) / np.diff(x)
    true_knee = x[np.flatnonzero(gain < 0.05)[0]]
    rates = rng.binomial(100, truth, (400, 6)) / 100
    held = 0
    for mean in rates:
        lo, hi = knee_interval(x, mean, mean * (1 - mean) / 100 + 1e-4, 0.05)
        held += lo <= true_knee <= hi
    assert held >= 0.95 * 400
