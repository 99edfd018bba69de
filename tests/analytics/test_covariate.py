"""Means without a covariate against statsmodels' regression on the runs, and against planted worlds."""

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.covariate import Adjusted, without_covariate
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData


def regression(y: Floats, arm: Ints, z: Floats, arms: int) -> tuple[Adjusted, float]:
    """Regress y on an indicator of each value and on z, and read the means at z's mean; also give s²."""
    design = np.column_stack([np.eye(arms)[arm], z])
    fit = sm.OLS(y, design).fit()
    at = np.column_stack([np.eye(arms), np.full(arms, z.mean())])
    raw = sm.OLS(y, np.eye(arms)[arm]).fit()
    return (
        Adjusted(at @ fit.params, at @ fit.cov_params() @ at.T, 1 - fit.scale / raw.scale, float(fit.params[-1])),
        float(fit.scale),
    )


def world(seed: int, sizes: tuple[int, ...] = (20, 35, 9, 50)) -> tuple[Floats, Ints, Floats]:
    """Draw outcomes that fall with z, with noise that differs by value."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    z = rng.beta(2, 2, len(arm))
    return 0.5 + 0.1 * arm - 0.8 * z + rng.normal(0, 0.1 + 0.05 * arm), arm, z


@pytest.mark.parametrize("seed", range(3))
def test_means_slope_and_savings_are_those_of_the_regression(seed: int) -> None:
    """Whatever the sizes, they agree with least squares to rounding, also far from zero."""
    y, arm, z = world(seed)
    expected, _ = regression(y, arm, z, 4)
    for shift in (0.0, 1e6):
        found = without_covariate(y + shift, arm, z + shift, 4)
        np.testing.assert_allclose(found.mean - shift, expected.mean, rtol=1e-8)
        assert found.theta == pytest.approx(expected.theta, rel=1e-7)
        assert found.saved == pytest.approx(expected.saved, rel=1e-6)


def test_the_covariance_is_that_of_the_regression_where_all_values_have_the_same_noise() -> None:
    """With the same residuals at each value it equals least squares' own, its correlations included."""
    rng = np.random.default_rng(7)
    pattern, noise = rng.normal(size=25), rng.normal(size=25)
    arm = np.repeat(np.arange(3), 25)
    z = np.concatenate([pattern, pattern + 0.4, pattern - 0.1])
    y = 0.3 * arm + 2 * z + np.tile(noise, 3)
    found, (expected, _) = without_covariate(y, arm, z, 3), regression(y, arm, z, 3)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9, atol=1e-15)
    assert found.covariance[0, 1] != 0


def test_unequal_noise_is_kept_apart_and_adds_up_to_the_regressions() -> None:
    """The noisiest value has the largest variance; weighted by n + 3 their mean is least squares' own."""
    y, arm, z = world(11)
    found, (_, scale) = without_covariate(y, arm, z, 4), regression(y, arm, z, 4)
    n = np.bincount(arm)
    away = np.array([z[arm == v].mean() for v in range(4)]) - z.mean()
    slope = sm.OLS(y, np.column_stack([np.eye(4)[arm], z])).fit().bse[-1] ** 2
    noise = (np.diag(found.covariance) - away**2 * slope) * n
    assert noise.argmax() == 3
    assert np.average(noise, weights=n + 3) == pytest.approx(scale, rel=1e-9)


def test_a_missing_covariate_counts_as_the_mean_of_the_others() -> None:
    """Runs without z are neither left out nor moved."""
    y, arm, z = world(2)
    gone = np.random.default_rng(0).random(len(z)) < 0.2
    filled = np.where(gone, z[~gone].mean(), z)
    found, expected = without_covariate(y, arm, np.where(gone, np.nan, z), 4), without_covariate(y, arm, filled, 4)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_array_equal(found.covariance, expected.covariance)


@pytest.mark.parametrize("z", ["constant", "missing", "by value"])
def test_a_covariate_that_does_not_vary_within_values_changes_nothing(z: str) -> None:
    """The means are plain means, nothing is saved and the slope is 0."""
    y, arm, _ = world(3)
    covariate = {"constant": np.full(len(y), 0.1), "missing": np.full(len(y), np.nan), "by value": arm / 3}[z]
    found = without_covariate(y, arm, covariate, 4)
    np.testing.assert_allclose(found.mean, [y[arm == v].mean() for v in range(4)], rtol=1e-12)
    assert (found.saved, found.theta) == (0.0, 0.0)
    np.testing.assert_array_equal(found.covariance, np.diag(np.diag(found.covariance)))


def test_a_covariate_that_explains_nothing_saves_nothing() -> None:
    """Its estimated share would be a little below zero; it is said to be zero."""
    arm = np.repeat([0, 1], 4)
    y = np.tile([1.0, -1.0, 1.0, -1.0], 2)
    z = np.tile([1.0, 1.0, -1.0, -1.0], 2)
    assert without_covariate(y, arm, z, 2).saved == 0.0


def test_a_small_value_with_equal_outcomes_still_has_an_error() -> None:
    """Three successes of three runs do not make a certain mean."""
    y, arm, z = world(4, (30, 30, 3))
    y[arm == 2] = 1.0
    assert without_covariate(y, arm, np.where(arm == 2, 0.5, z), 3).covariance[2, 2] > 0.001


def test_contrasts_cover_and_need_fewer_runs() -> None:
    """With half of the variance explained, 95 % intervals of contrasts cover in 95 %, at about half of the variance."""
    rng = np.random.default_rng(20)
    worlds, m, n = 2000, 3, 40
    errors, variances, raw = [], [], []
    arm = np.repeat(np.arange(m), n)
    for _ in range(worlds):
        z = rng.normal(size=m * n)
        y = 0.2 * arm + z + rng.normal(0, 0.7 + 0.3 * arm)
        found = without_covariate(y, arm, z, m)
        v = found.covariance
        errors.append(found.mean[2] - found.mean[0] - 0.4)
        variances.append(v[2, 2] + v[0, 0] - 2 * v[0, 2])
        raw.append(y[arm == 2].mean() - y[arm == 0].mean())
    covered = np.abs(errors) <= 1.98 * np.sqrt(variances)
    assert float(covered.mean()) == pytest.approx(0.95, abs=0.015)
    assert np.var(errors) / np.var(raw) == pytest.approx((0.49 + 1.69) / (2.49 + 1.69), abs=0.06)


def test_too_few_runs_or_no_noise_are_told() -> None:
    """One run at a value, none at all, or outcomes that z tells exactly have no error."""
    y, arm, z = world(5)
    with pytest.raises(NotEnoughData, match="at least 2 runs"):
        without_covariate(y, arm, z, 5)
    with pytest.raises(NotEnoughData, match="at least 2 runs"):
        without_covariate(np.append(y, 1.0), np.append(arm, 4), np.append(z, 0.5), 5)
    with pytest.raises(NotEnoughData, match="no error to estimate"):
        without_covariate(arm + 2.0 * z, arm, z, 4)
