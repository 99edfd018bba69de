from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import norm

from analytics.pooling import combine_with_observation, mixture_estimate, pool, pool_vectors
from models.errors import NotEnoughData

Floats = npt.NDArray[np.float64]

DENSE = np.concatenate((np.linspace(0, 1, 4000)[:-1], np.geomspace(1, 1e4, 4000)))


def estimates(contexts: int, spread: float, seed: int = 1) -> tuple[Floats, Floats]:
    """Draw estimates around .3 with unequal errors."""
    rng = np.random.default_rng(seed)
    variances = rng.uniform(0.02, 0.09, contexts) ** 2
    return 0.3 + rng.normal(0, np.sqrt(spread**2 + variances)), variances


def masses(log_density: Floats) -> Floats:
    """Turn log densities at the dense points into probabilities by the trapezoid rule."""
    step = np.diff(DENSE)
    mass = np.exp(log_density - log_density.max()) * (np.append(step, 0) + np.append(0, step)) / 2
    return np.asarray(mass / mass.sum())


def by_gaussian_elimination(
    blocks: Callable[[float], tuple[Floats, Floats]], log_density: Floats, size: int
) -> tuple[Floats, Floats]:
    """Mix the posteriors of joint normal models, given by precision matrix and right side, over the dense points."""
    weight = masses(log_density)
    kept = np.flatnonzero(weight > 1e-11)
    mean, square = np.zeros(size), np.zeros(size)
    for place in kept.tolist():
        precision, right = blocks(float(DENSE[place]))
        covariance = np.linalg.inv(precision)
        centre = covariance @ right
        mean += weight[place] * centre
        square += weight[place] * (centre**2 + np.diag(covariance))
    return mean, np.sqrt(square - mean**2)


def log_posterior(values: Floats, variances: Floats, scale: float) -> Floats:
    """Give the density of the spread: the restricted normal likelihood, by determinants, and the prior."""
    out = np.empty(len(DENSE))
    ones = np.ones((len(values), 1))
    for place, tau in enumerate(DENSE.tolist()):
        inverse = np.diag(1 / (variances + tau**2))
        information = ones.T @ inverse @ ones
        projected = inverse - inverse @ ones @ np.linalg.inv(information) @ ones.T @ inverse
        out[place] = (
            np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(information)[1] - values @ projected @ values
        ) / 2
    return np.asarray(out - np.log1p((DENSE / scale) ** 2) / 2)


@pytest.mark.parametrize(("contexts", "spread"), [(3, 0.1), (5, 0.0), (8, 0.05), (8, 0.4)])
def test_pooled_posterior_is_that_of_the_joint_normal_model(contexts: int, spread: float) -> None:
    """Means and deviations agree with solving the joint model of parameters and centre at 8,000 spreads."""
    values, variances = estimates(contexts, spread)

    def blocks(tau: float) -> tuple[Floats, Floats]:
        between = 1 / max(tau, 1e-4) ** 2
        precision = np.diag(np.append(1 / variances + between, contexts * between))
        precision[:-1, -1] = precision[-1, :-1] = -between
        return precision, np.append(values / variances, 0.0)

    mean, deviation = by_gaussian_elimination(blocks, log_posterior(values, variances, 0.1), contexts + 1)
    pooled = pool(values, variances)
    np.testing.assert_allclose(pooled.mean, mean[:-1], atol=1e-5)
    np.testing.assert_allclose(pooled.se, deviation[:-1], rtol=1e-4)
    assert pooled.common().estimate == pytest.approx(mean[-1], abs=1e-5)


def test_new_context_interval_holds_the_quantiles_of_the_mixture() -> None:
    """The prediction interval's ends are the roots of the mixture's distribution function on 8,000 spreads."""
    values, variances = estimates(6, 0.1)
    weight = masses(log_posterior(values, variances, 0.1))
    precision = 1 / (variances + DENSE[:, None] ** 2)
    total = precision.sum(axis=1)
    centre, deviation = precision @ values / total, np.sqrt(DENSE**2 + 1 / total + 0.05**2)
    predicted = pool(values, variances).new_context(0.05**2)
    for end, tail in ((predicted.lo, 0.025), (predicted.hi, 0.975)):
        root = brentq(lambda at, tail=tail: float(weight @ norm.cdf((at - centre) / deviation)) - tail, -50, 50)
        assert end == pytest.approx(root, abs=1e-4)


def test_alike_contexts_are_pooled_and_unlike_ones_are_left_alone() -> None:
    """Equal estimates with wide errors are dominated by the others; far ones with small errors keep their own."""
    alike = pool(np.full(10, 0.2), np.full(10, 0.1**2))
    assert alike.record(0, "quality").prior_dominated
    assert alike.se.max() < 0.06
    assert alike.mean == pytest.approx(np.full(10, 0.2))
    values = np.linspace(-2, 2, 10)
    unlike = pool(values, np.full(10, 0.02**2))
    record = unlike.record(9, "quality")
    assert not record.prior_dominated
    assert record.slope.estimate == pytest.approx(2, abs=0.002)
    assert record.slope.se == pytest.approx(0.02, rel=0.01)
    assert record.between_sd == pytest.approx(values.std(ddof=1), rel=0.15)
    assert (record.contexts, record.family) == (10, "quality")


@given(st.floats(-5, 5), st.floats(0.01, 100))
def test_pooling_commutes_with_a_change_of_unit_and_origin(shift: float, unit: float) -> None:
    """Estimates in other units, with the prior's scale in them too, are pooled to the same place."""
    values, variances = estimates(7, 0.1)
    pooled, moved = pool(values, variances), pool(shift + unit * values, unit**2 * variances, scale=0.1 * unit)
    np.testing.assert_allclose(moved.mean, shift + unit * pooled.mean, rtol=1e-8, atol=1e-8 * unit)
    np.testing.assert_allclose(moved.se, unit * pooled.se, rtol=1e-8)
    assert moved.new_context().se == pytest.approx(unit * pooled.new_context().se, rel=1e-6)


def test_slope_of_a_vector_is_pooled_as_a_slope() -> None:
    """The last parameter comes out exactly as `pool` has it, covariances are proper, equal vectors stay."""
    rng = np.random.default_rng(2)
    x = np.column_stack((np.ones(6), np.log([1, 2, 3, 4, 6, 8])))
    covariances = np.stack([0.25 / n * np.linalg.inv(x.T @ x) for n in (20, 30, 40, 60)])
    vectors = rng.normal([0.3, 0.1], [0.1, 0.05], (4, 2))
    pooled, slope = pool_vectors(vectors, covariances), pool(vectors[:, 1], covariances[:, 1, 1])
    np.testing.assert_allclose(pooled.mean[:, 1], slope.mean, rtol=1e-9)
    np.testing.assert_allclose(np.sqrt(pooled.covariance[:, 1, 1]), slope.se, rtol=1e-9)
    np.testing.assert_allclose(pooled.new_covariance[1, 1] ** 0.5, slope.new_context().se, rtol=1e-6)
    assert (np.linalg.eigvalsh(pooled.covariance) > 0).all()
    same = pool_vectors(np.tile([0.3, 0.1], (4, 1)), covariances)
    np.testing.assert_allclose(same.mean, np.tile([0.3, 0.1], (4, 1)), rtol=1e-12)


def test_combination_is_the_posterior_of_the_joint_model_of_effects_and_biases() -> None:
    """Effects, biases and their centre solved jointly at 8,000 spreads give the same means and deviations."""
    rng = np.random.default_rng(3)
    k = 5
    v_exp, v_obs = rng.uniform(0.03, 0.08, k) ** 2, rng.uniform(0.01, 0.04, k) ** 2
    experiment, observation = rng.normal(0.1, 0.08, k), rng.normal(0.17, 0.08, k)
    experiment[4] = v_exp[4] = np.nan
    both = slice(0, 4)

    def blocks(tau: float) -> tuple[Floats, Floats]:
        between = 1 / max(tau, 1e-4) ** 2
        precision, right = np.zeros((2 * k + 1, 2 * k + 1)), np.zeros(2 * k + 1)
        for each in range(k):
            rows = [(np.eye(2 * k + 1)[each] + np.eye(2 * k + 1)[k + each], observation[each], 1 / v_obs[each])]
            if each < 4:
                rows.append((np.eye(2 * k + 1)[each], experiment[each], 1 / v_exp[each]))
            rows.append((np.eye(2 * k + 1)[k + each] - np.eye(2 * k + 1)[2 * k], 0.0, between))
            for row, value, weight in rows:
                precision += weight * np.outer(row, row)
                right += weight * value * row
        return precision, right

    density = log_posterior(observation[both] - experiment[both], v_exp[both] + v_obs[both], 0.1)
    mean, deviation = by_gaussian_elimination(blocks, density, 2 * k + 1)
    combined = combine_with_observation(experiment, v_exp, observation, v_obs)
    np.testing.assert_allclose([each.estimate for each in combined], mean[:k], atol=1e-5)
    np.testing.assert_allclose([each.se for each in combined[:4]], deviation[:4], rtol=1e-4)
    assert combined[4].se == pytest.approx(deviation[4], rel=0.2)


def test_mixture_with_a_point_mass_keeps_it() -> None:
    """A component of variance zero holds the quantiles that fall into it."""
    half = mixture_estimate(np.array([0.5, 0.5]), np.array([0.0, 3.0]), np.array([0.0, 0.01]), 0.95)
    assert half.estimate == 1.5
    assert half.lo == pytest.approx(0.0, abs=1e-6)
    assert half.hi == pytest.approx(3 + 0.1 * norm.ppf(0.95), rel=1e-6)


def test_too_little_is_said_so() -> None:
    """Two contexts, an absent error and a singular covariance raise NotEnoughData with what to do."""
    with pytest.raises(NotEnoughData, match="at least 3 contexts, there are 2"):
        pool(np.zeros(2), np.ones(2))
    with pytest.raises(NotEnoughData, match="estimate 1 is 0 with variance 0"):
        pool(np.zeros(3), np.array([1.0, 0.0, 1.0]))
    with pytest.raises(NotEnoughData, match="estimate 2 is nan"):
        pool(np.array([0.0, 0.0, np.nan]), np.ones(3))
    with pytest.raises(NotEnoughData, match="singular"):
        pool_vectors(np.zeros((3, 2)), np.ones((3, 2, 2)))
    with pytest.raises(NotEnoughData, match="at least 3 contexts, there are 1"):
        combine_with_observation(np.array([0.1, np.nan]), np.array([0.1, np.nan]), np.zeros(2), np.ones(2))
