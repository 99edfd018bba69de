"""Power analysis against the design's published figures, statsmodels and simulated experiments."""

import numpy as np
import pytest
from statsmodels.stats.power import zt_ind_solve_power

from analytics.power_analysis import detectable_effect, power_of, rate_sd, runs_per_value
from models.errors import NotEnoughData

LEVELS = [1.0, 2, 3, 4, 6, 8]


@pytest.mark.parametrize(
    ("n", "slope", "total"),
    [(30, 0.148, 0.308), (100, 0.081, 0.169), (200, 0.057, 0.119), (300, 0.047, 0.097), (1000, 0.026, 0.053)],
)
def test_the_detectable_effect_of_a_rate_is_the_designs(n: int, slope: float, total: float) -> None:
    """At p = .6 and six values, 30 runs a value see only a rise of 31 points."""
    effect = detectable_effect(LEVELS, n, rate_sd(0.6))
    assert effect.slope == pytest.approx(slope, abs=6e-4)
    assert effect.total == pytest.approx(total, abs=6e-4)


def test_two_values_are_the_comparison_of_two_groups() -> None:
    """With two values the slope test is statsmodels' two-sample z test, for equal and unequal sizes."""
    for n_one, n_two in ((40, 40), (100, 25)):
        power = zt_ind_solve_power(effect_size=0.5, nobs1=n_one, alpha=0.05, ratio=n_two / n_one)
        assert power_of([1, 8], [n_one, n_two], 1.0 / np.log(8), 2.0) == pytest.approx(power, rel=1e-9)


def test_the_three_questions_have_one_answer() -> None:
    """The needed runs give the wanted power, one run less does not; the detectable slope needs just these runs."""
    for slope, sd, power in ((0.08, 0.49, 0.8), (-0.03, 0.2, 0.9), (2.0, 14.0, 0.95)):
        n = runs_per_value(LEVELS, slope, sd, power=power)
        assert power_of(LEVELS, n, slope, sd) >= power - 1e-6
        assert power_of(LEVELS, n - 1, slope, sd) < power
        assert detectable_effect(LEVELS, n, sd, power=power).slope <= abs(slope)
        assert runs_per_value(LEVELS, detectable_effect(LEVELS, n, sd, power=power).slope, sd, power=power) == n


def test_the_foretold_power_is_what_experiments_have() -> None:
    """Success from .5 to .7 over six values: simulated Cochran-Armitage tests find it in the share foretold."""
    rng = np.random.default_rng(13)
    ln_x = np.log(LEVELS)
    slope = 0.2 / np.log(8)
    rates = 0.5 + slope * ln_x
    away = ln_x - ln_x.mean()
    for n, measured in ((30, 0.46), (100, 0.92), (300, 1.0)):
        k = rng.binomial(n, rates, (4000, 6))
        pooled = k.sum(axis=1) / (6 * n)
        trend = (k @ away) / np.sqrt(pooled * (1 - pooled) * n * (away @ away))
        share = float((np.abs(trend) > 1.959964).mean())
        assert share == pytest.approx(measured, abs=0.02)
        assert power_of(LEVELS, n, slope, rate_sd(rates.mean())) == pytest.approx(share, abs=0.02)


def test_runs_in_the_middle_say_little_about_a_slope() -> None:
    """The same 1,200 runs see less when they pile up at one value, and more when most are near the ends."""
    balanced = detectable_effect(LEVELS, 200, 0.5).slope
    assert detectable_effect(LEVELS, [50, 50, 950, 50, 50, 50], 0.5).slope > 1.3 * balanced
    assert detectable_effect(LEVELS, [396, 168, 35, 79, 213, 308], 0.5).slope < 0.85 * balanced


def test_nothing_is_found_at_the_level_of_the_test() -> None:
    """A slope of 0 is "found" with probability alpha."""
    assert power_of(LEVELS, 50, 0.0, 0.5) == pytest.approx(0.05)
    assert power_of(LEVELS, 50, 0.0, 0.5, alpha=0.01) == pytest.approx(0.01)


def test_a_design_that_cannot_be_judged_is_said() -> None:
    """One value, a value at 0, no spread of outcomes and no effect are NotEnoughData."""
    with pytest.raises(NotEnoughData, match="2 distinct values"):
        detectable_effect([2.0, 2.0], 10, 1.0)
    with pytest.raises(NotEnoughData, match="2 distinct values"):
        power_of([1.0, 2.0], [10, 0], 1.0, 1.0)
    with pytest.raises(NotEnoughData, match="2 distinct values above 0"):
        runs_per_value([0.0, 2.0], 0.1, 1.0)
    with pytest.raises(NotEnoughData, match="0 runs or more"):
        power_of([1.0, 2.0, 3.0], [10, -1, 10], 1.0, 1.0)
    with pytest.raises(NotEnoughData, match="slope must not be 0"):
        runs_per_value(LEVELS, 0.0, 1.0)
    with pytest.raises(NotEnoughData, match="sd must not be 0"):
        power_of(LEVELS, 10, 0.1, 0.0)
    with pytest.raises(NotEnoughData, match="does not vary"):
        rate_sd(1.0)
