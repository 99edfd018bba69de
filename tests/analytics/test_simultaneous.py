"""Simultaneous comparisons against Dunnett's tables, scipy's multivariate distributions and simulated experiments."""

import numpy as np
import pytest
from scipy import stats

from analytics.intervals import z_quantile
from analytics.moments import Floats
from analytics.simultaneous import dunnett_p, dunnett_quantile, max_z_quantile
from models.errors import NotEnoughData

UNEQUAL = np.array([0.4, 0.2, 1.0, 3.0, 0.05])


def correlation_with(variance: Floats, control: int) -> Floats:
    """Give the correlation of the contrasts from the covariance matrix of the means."""
    contrasts = np.delete(np.eye(len(variance)), control, axis=0)
    contrasts[:, control] = -1
    covariance = contrasts @ np.diag(variance) @ contrasts.T
    root = np.sqrt(np.diag(covariance))
    return np.asarray(covariance / root / root[:, None])


@pytest.mark.parametrize(
    ("contrasts", "at_95", "at_99"),
    [(1, 1.96, 2.58), (2, 2.21, 2.79), (3, 2.35, 2.92), (5, 2.51, 3.06), (9, 2.69, 3.22)],
)
def test_quantiles_are_those_of_dunnetts_table(contrasts: int, at_95: float, at_99: float) -> None:
    """For equal groups and known variance they are the two-sided table of 1964, to its two digits."""
    equal = np.ones(contrasts + 1)
    assert dunnett_quantile(equal, 0) == pytest.approx(at_95, abs=0.0051)
    assert dunnett_quantile(equal, 0, 0.99) == pytest.approx(at_99, abs=0.0051)


@pytest.mark.parametrize("control", range(5))
def test_the_box_of_a_quantile_has_its_level(control: int) -> None:
    """Genz's integral of the correlated contrasts over ± c is the level, whichever mean is the control."""
    c = dunnett_quantile(UNEQUAL, control)
    box = stats.multivariate_normal(np.zeros(4), correlation_with(UNEQUAL, control), seed=1)
    assert box.cdf(np.full(4, c), lower_limit=np.full(4, -c)) == pytest.approx(0.95, abs=2e-4)


def test_p_values_are_those_of_dunnetts_test() -> None:
    """With many runs a group they agree with scipy's own test of the same groups."""
    rng = np.random.default_rng(5)
    sizes, means = (900, 1500, 700, 1100), (0.0, 0.08, -0.12, 0.02)
    groups = [rng.normal(mean, 1, size) for mean, size in zip(means, sizes, strict=True)]
    expected = stats.dunnett(*groups[1:], control=groups[0], rng=np.random.default_rng(1))
    found = dunnett_p(expected.statistic, 1 / np.array(sizes, np.float64), 0)
    np.testing.assert_allclose(found, expected.pvalue, atol=2e-3)


def test_an_interval_excludes_zero_where_its_p_says_so() -> None:
    """At c standard errors the p is one minus the level, and p falls from 1 as contrasts grow, in digits that last."""
    for level in (0.5, 0.95, 0.999):
        c = dunnett_quantile(UNEQUAL, 2, level)
        np.testing.assert_allclose(dunnett_p(np.array([c, -c]), UNEQUAL, 2), 1 - level, rtol=1e-6)
    p = dunnett_p(np.array([0.0, 1, 3, 10, 30]), np.ones(6), 0)
    assert p[0] == pytest.approx(1)
    assert (np.diff(p) < 0).all()
    alone = 5 * 2 * stats.norm.sf([10, 30])
    assert (0.9 * alone < p[3:]).all()
    assert (p[3:] <= alone * (1 + 1e-9)).all()


def test_no_contrast_is_found_in_95_percent_of_flat_experiments() -> None:
    """Of 20,000 experiments without an effect 5 % find some contrast; with intervals for one look 17 % do."""
    sd = np.sqrt(UNEQUAL)
    means = np.random.default_rng(8).normal(0, sd, (20_000, 5))
    z = np.abs(means[:, 1:] - means[:, :1]) / np.sqrt(UNEQUAL[1:] + UNEQUAL[0])
    assert (z.max(axis=1) > dunnett_quantile(UNEQUAL, 0)).mean() == pytest.approx(0.05, abs=0.005)
    assert (z.max(axis=1) > z_quantile()).mean() > 0.12


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_a_general_correlation_gives_what_special_ones_are_known_for(level: float) -> None:
    """Independent estimates have Šidák's quantile, equal ones that of one, contrasts with a control Dunnett's."""
    assert max_z_quantile(np.eye(5), level) == pytest.approx(stats.norm.ppf((1 + level**0.2) / 2), abs=0.02)
    assert max_z_quantile(np.ones((4, 4)), level) == pytest.approx(z_quantile(level), abs=0.02)
    contrasts = correlation_with(UNEQUAL, 1)
    assert max_z_quantile(contrasts, level) == pytest.approx(dunnett_quantile(UNEQUAL, 1, level), abs=0.02)


def test_the_quantile_is_that_of_a_multivariate_t_with_many_degrees_of_freedom() -> None:
    """Genz and Bretz' integral over ± c is the level, for estimates that correlate in both directions."""
    correlation = np.array([[1, 0.7, -0.4], [0.7, 1, 0.1], [-0.4, 0.1, 1]])
    c = max_z_quantile(correlation)
    t = stats.multivariate_t(np.zeros(3), correlation, df=100_000, seed=2)
    assert t.cdf(np.full(3, c), lower_limit=np.full(3, -c)) == pytest.approx(0.95, abs=2e-3)
    assert max_z_quantile(correlation.copy()) == c


@pytest.mark.parametrize("variance", [[1.0], [1.0, 0.0], [1.0, np.nan], [-1.0, 1.0]])
def test_contrasts_without_variances_are_refused(variance: list[float]) -> None:
    """One mean alone, or one without a variance, has no contrast."""
    with pytest.raises(NotEnoughData, match="contrasts need 2 means"):
        dunnett_quantile(np.array(variance), 0)
    with pytest.raises(NotEnoughData, match="contrasts need 2 means"):
        dunnett_p(np.array([1.0]), np.array(variance), 0)


def test_a_correlation_that_is_no_number_is_refused() -> None:
    """An estimate without a standard error has no correlation."""
    with pytest.raises(NotEnoughData, match="not a number"):
        max_z_quantile(np.array([[1, np.nan], [np.nan, 1]]))
