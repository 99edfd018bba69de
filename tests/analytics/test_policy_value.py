"""Off-policy values against formulas written out, other libraries, and worlds in which the truth is known."""

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from analytics.cells import Flags
from analytics.moments import Floats, Ints
from analytics.policy_value import (
    Logged,
    OutcomeModel,
    cell_model,
    cross_fitted,
    doubly_robust,
    policy_value,
    regression_model,
)
from models.errors import NotEnoughData

STRATA, ACTIONS = 3, 4
LOGGING = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25], [0.1, 0.1, 0.2, 0.6]])
POLICY = np.array([[0, 1, 0, 0], [0, 0, 0.5, 0.5], [1, 0, 0, 0]])
MEAN = np.array([[0.2, 0.3, 0.4, 0.5], [0.3, 0.4, 0.5, 0.4], [0.8, 0.5, 0.4, 0.2]])


def log(seed: int, size: int = 3000) -> tuple[Ints, Ints, Floats, Logged]:
    """Draw stratum, action and outcome of decisions, and log them."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(STRATA, size=size)
    action = np.array([rng.choice(ACTIONS, p=LOGGING[place]) for place in stratum])
    y = (rng.random(size) < MEAN[stratum, action]).astype(np.float64)
    logged = Logged(y, LOGGING[stratum, action], POLICY[stratum, action], rng.integers(5, size=size))
    return stratum, action, y, logged


def constant(expected: float, under: float, size: int) -> OutcomeModel:
    """Make a model that knows nothing."""
    return lambda _: (np.full(size, expected), np.full(size, under))


def test_the_doubly_robust_value_is_the_mean_of_its_scores() -> None:
    """Estimate, error, SNIPS, IPS and effective sample size agree with the sums written out."""
    stratum, action, y, logged = log(1)
    q, u = MEAN[stratum, action] + 0.1, (POLICY * (MEAN + 0.1)).sum(axis=1)[stratum]
    found = doubly_robust(logged, q, u)
    weight = POLICY[stratum, action] / LOGGING[stratum, action]
    scores = u + weight * (y - q)
    assert found.value.estimate == pytest.approx(scores.mean())
    assert found.value.se == pytest.approx(stats.sem(scores), rel=1e-3)
    assert (found.value.lo, found.value.hi) == pytest.approx(
        stats.norm.interval(0.95, found.value.estimate, found.value.se)
    )
    assert found.ips.estimate == pytest.approx((weight * y).mean())
    snips = (weight * y).sum() / weight.sum()
    assert found.snips.estimate == pytest.approx(snips)
    assert found.snips.se == pytest.approx(math.sqrt((weight**2 * (y - snips) ** 2).sum()) / weight.sum(), rel=1e-3)
    assert found.ess == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert found.modelled == pytest.approx(u.mean())
    assert (found.logged.estimate, found.logged.se) == pytest.approx((y.mean(), stats.sem(y)), rel=1e-3)
    assert (found.gain.estimate, found.gain.se) == pytest.approx(((scores - y).mean(), stats.sem(scores - y)), rel=1e-3)
    assert (found.weight.estimate, found.weight.se) == pytest.approx((weight.mean(), stats.sem(weight)), rel=1e-3)
    assert (found.n, found.matched) == (3000, int((weight > 0).sum()))


@pytest.mark.parametrize("wrong", [0.0, 0.9], ids=["pessimist", "optimist"])
def test_a_wrong_model_is_corrected_by_right_propensities(wrong: float) -> None:
    """Over many logs the value is the policy's true one, whatever the model says, and its interval covers."""
    truth = float((POLICY * MEAN).sum(axis=1).mean())
    found = [policy_value(log(seed, 1500)[3], constant(wrong, wrong, 1500)) for seed in range(120)]
    values = np.array([one.value.estimate for one in found])
    assert values.mean() == pytest.approx(truth, abs=3 * values.std() / math.sqrt(len(found)))
    assert np.mean([one.value.lo <= truth <= one.value.hi for one in found]) >= 0.89


def test_wrong_propensities_are_corrected_by_a_right_model() -> None:
    """With the true means as model, propensities that are off by half do no harm."""
    stratum, action, y, logged = log(2, 20_000)
    off = Logged(y, np.minimum(logged.propensity * 1.5, 1), logged.chosen, logged.fold)
    found = doubly_robust(off, MEAN[stratum, action], (POLICY * MEAN).sum(axis=1)[stratum])
    truth = float((POLICY * MEAN).sum(axis=1).mean())
    assert found.value.estimate == pytest.approx(truth, abs=4 * found.value.se)
    assert abs(found.ips.estimate - truth) > 10 * found.ips.se


def test_each_decision_is_judged_by_a_model_that_has_not_seen_its_fold() -> None:
    """Every fold is predicted once, from all the others."""
    _, _, _, logged = log(3)
    seen: list[Flags] = []

    def model(fitted: Flags) -> tuple[Floats, Floats]:
        seen.append(fitted)
        mark = float(logged.fold[~fitted][0])
        return np.full(len(fitted), mark), np.full(len(fitted), 10 + mark)

    expected, under = cross_fitted(logged, model)
    np.testing.assert_array_equal(expected, logged.fold)
    np.testing.assert_array_equal(under, 10 + logged.fold)
    np.testing.assert_array_equal(np.sum(seen, axis=0), 4)


def test_cells_are_drawn_to_what_stratum_and_action_add_up_to() -> None:
    """A cell of n runs is n / (n + 4) its own mean, the rest its additive expectation; only fitted runs count."""
    stratum, action, y, logged = log(4)
    fitted = logged.fold != 0
    expected, under = cell_model(stratum, action, y, POLICY)(fitted)
    grand = y[fitted].mean()
    q = np.empty((STRATA, ACTIONS))
    for s in range(STRATA):
        for a in range(ACTIONS):
            rows = [fitted & (stratum == s), fitted & (action == a), fitted & (stratum == s) & (action == a)]
            by = [(y[row].sum() + 4 * grand) / (row.sum() + 4) for row in rows[:2]]
            additive = min(max(sum(by) - grand, 0.0), 1.0)
            q[s, a] = (y[rows[2]].sum() + 4 * additive) / (rows[2].sum() + 4)
    np.testing.assert_allclose(expected, q[stratum, action])
    np.testing.assert_allclose(under, (POLICY * q).sum(axis=1)[stratum])


def test_a_regression_is_that_of_statsmodels_with_a_light_ridge() -> None:
    """Predictions at what was done, and at what the policy would do, agree with a plain logit to a hundredth."""
    rng = np.random.default_rng(5)
    z, x, other = rng.random(4000), rng.normal(size=4000), rng.normal(size=4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.3 + x - 2 * z)))).astype(np.float64)
    X, at = sm.add_constant(np.stack((x, z), axis=1)), sm.add_constant(np.stack((other, z), axis=1))
    fitted = rng.random(4000) < 0.8
    expected, under = regression_model(X, at, y)(fitted)
    logit = sm.GLM(y[fitted], X[fitted], family=sm.families.Binomial()).fit()
    np.testing.assert_allclose(expected, logit.predict(X), atol=0.01)
    np.testing.assert_allclose(under, logit.predict(at), atol=0.01)


def test_a_column_that_does_not_vary_changes_nothing() -> None:
    """Neither zeros, nor a constant, nor one whose spread is rounding."""
    rng = np.random.default_rng(10)
    X = sm.add_constant(rng.normal(size=(500, 1)))
    y = (rng.random(500) < 0.5).astype(np.float64)
    constant = X[:, :1] * np.array([0.0, 0.1, 1.7763568394002505e-15])
    everything = np.ones(500, dtype=bool)
    plain, wide = (regression_model(each, each, y)(everything)[0] for each in (X, np.hstack((X, constant))))
    np.testing.assert_allclose(wide, plain, atol=1e-4)


def test_a_policy_that_draws_is_averaged_over_what_it_may_do() -> None:
    """Features of several equally likely actions give the mean of their predictions."""
    rng = np.random.default_rng(6)
    X = sm.add_constant(rng.normal(size=(500, 1)))
    y = (rng.random(500) < 0.5).astype(np.float64)
    several = np.stack((X, X + 1.0))
    everything = np.ones(500, dtype=bool)
    one, two = (regression_model(X, at, y)(everything)[1] for at in several)
    np.testing.assert_allclose(regression_model(X, several, y)(everything)[1], (one + two) / 2)


def test_costs_are_valued_by_a_gamma_regression() -> None:
    """With the link log the model is that of positive outcomes: values of spend come out right."""
    rng = np.random.default_rng(7)
    action = rng.integers(2, size=4000)
    cost = np.where(action == 1, 3.0, 1.0) * rng.lognormal(-0.125, 0.5, 4000)
    X = sm.add_constant(action.astype(np.float64))
    at = sm.add_constant(np.ones(4000), has_constant="add")
    logged = Logged(cost, np.full(4000, 0.5), (action == 1).astype(np.float64), rng.integers(5, size=4000))
    found = policy_value(logged, regression_model(X, at, cost, "log"))
    assert found.value.estimate == pytest.approx(3.0, abs=4 * found.value.se)
    assert found.modelled == pytest.approx(3.0, abs=0.15)


def test_repeated_tasks_widen_the_interval() -> None:
    """With clusters errors are those of the clusters' sums; copies of a log say no more than the log."""
    stratum, action, y, logged = log(8, 1000)
    q, u = MEAN[stratum, action], (POLICY * MEAN).sum(axis=1)[stratum]
    task = np.tile(np.arange(1000), 3)
    three = Logged(
        np.tile(y, 3), np.tile(logged.propensity, 3), np.tile(logged.chosen, 3), np.tile(logged.fold, 3), cluster=task
    )
    once, thrice = doubly_robust(logged, q, u), doubly_robust(three, np.tile(q, 3), np.tile(u, 3))
    assert thrice.value.se == pytest.approx(once.value.se, rel=1e-6)
    assert thrice.value.se_classical == pytest.approx(once.value.se / math.sqrt(3), rel=0.01)


def test_a_small_effective_sample_is_refused_with_its_numbers() -> None:
    """The message says how many decisions match, and how many would do."""
    rng = np.random.default_rng(9)
    matched = rng.random(1000) < 0.02
    logged = Logged(np.ones(1000), np.where(matched, 0.02, 0.98), matched.astype(float), rng.integers(5, size=1000))
    count = int(matched.sum())
    needed = math.ceil(1000 * 200 / count)
    with pytest.raises(NotEnoughData, match=rf"size {count} of 1000 .* \({count} of them .* about {needed} decisions"):
        policy_value(logged, constant(0.5, 0.5, 1000))
    assert policy_value(logged, constant(0.5, 0.5, 1000), least_ess=10).matched == count


def test_a_policy_that_the_log_never_follows_has_no_value() -> None:
    """Without a match nothing corrects the model."""
    logged = Logged(np.ones(10), np.full(10, 0.5), np.zeros(10), np.arange(10) % 5)
    assert logged.ess == 0
    with pytest.raises(NotEnoughData, match="no logged decision is one that the policy makes"):
        policy_value(logged, constant(0.5, 0.5, 10))


@pytest.mark.parametrize("propensity", [0.0, 1.5, math.nan])
def test_a_propensity_must_be_a_probability(propensity: float) -> None:
    """What was decided without one cannot be weighted."""
    logged = Logged(np.ones(10), np.full(10, propensity), np.ones(10), np.arange(10) % 5)
    with pytest.raises(NotEnoughData, match="propensity"):
        policy_value(logged, constant(0.5, 0.5, 10))


def test_one_fold_cannot_be_crossed() -> None:
    """A model needs decisions that it does not judge."""
    logged = Logged(np.ones(300), np.ones(300), np.ones(300), np.zeros(300, np.int64))
    with pytest.raises(NotEnoughData, match="2 folds"):
        policy_value(logged, constant(0.5, 0.5, 300))
