"""Generalised linear models from rows of moments against statsmodels on the raw rows."""

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.generalised_linear import GeneralisedLinear, Link, Variance, fit_generalised
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData

LEVELS = np.array([1.0, 2, 3, 4, 6, 8])
FAMILIES = {
    "binomial": sm.families.Binomial,
    "mu": sm.families.Poisson,
    "mu2": sm.families.Gamma,
    "constant": sm.families.Gaussian,
}
LINKS = {
    "logit": sm.families.links.Logit,
    "cloglog": sm.families.links.CLogLog,
    "log": sm.families.links.Log,
    "identity": sm.families.links.Identity,
}
MODELS: list[tuple[Link, Variance]] = [
    ("logit", "binomial"),
    ("cloglog", "binomial"),
    ("log", "binomial"),
    ("identity", "binomial"),
    ("log", "mu"),
    ("identity", "mu"),
    ("log", "mu2"),
    ("log", "constant"),
    ("identity", "constant"),
]


def raw(variance: Variance, seed: int = 1, size: int = 600) -> tuple[Floats, Floats, Ints]:
    """Draw design rows (1, ln x, z) with ties, an outcome in the variance's domain, and clusters."""
    rng = np.random.default_rng(seed)
    x, z = rng.choice(LEVELS, size), rng.integers(0, 4, size) / 4
    mean = 0.25 + 0.12 * np.log(x) + 0.1 * z
    y = (rng.random(size) < mean).astype(float) if variance == "binomial" else rng.gamma(4, mean / 4)
    return np.stack((np.ones(size), np.log(x), z), axis=1), y, rng.integers(0, 15, size)


def grouped(X: Floats, y: Floats, cluster: Ints | None = None) -> tuple[Floats, Floats, Floats, Floats, Ints]:
    """Merge the raw rows that share a design row (and a cluster): X, n, mean, m2, cluster."""
    codes = np.zeros(len(y), np.int64) if cluster is None else cluster
    keys, place = np.unique(np.column_stack((X, codes)), axis=0, return_inverse=True)
    place = place.reshape(-1)
    n = np.bincount(place).astype(np.float64)
    mean = np.asarray(np.bincount(place, y) / n, np.float64)
    m2 = np.asarray(np.bincount(place, (y - mean[place]) ** 2), np.float64)
    return np.asarray(keys[:, :-1], np.float64), n, mean, m2, keys[:, -1].astype(np.int64)


def fit(X: Floats, y: Floats, link: Link, variance: Variance, cluster: Ints | None = None) -> GeneralisedLinear:
    """Fit from merged rows."""
    rows, n, mean, m2, codes = grouped(X, y, cluster)
    return fit_generalised(rows, n, mean, m2, link=link, variance=variance, cluster=None if cluster is None else codes)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.DomainWarning")
@pytest.mark.parametrize(("link", "variance"), MODELS)
@pytest.mark.parametrize("clustered", [False, True], ids=["HC1", "CR1"])
def test_a_fit_from_merged_rows_equals_statsmodels_on_the_raw_rows(
    link: Link, variance: Variance, *, clustered: bool
) -> None:
    """Coefficients, robust or clustered covariance, quasi-likelihood errors and means agree."""
    X, y, cluster = raw(variance)
    found = fit(X, y, link, variance, cluster if clustered else None)
    model = sm.GLM(y, X, family=FAMILIES[variance](LINKS[link]()))
    options = {"tol": 1e-14, "maxiter": 300, "start_params": found.beta}
    classical = model.fit(scale="X2", **options)
    # The packaged robust errors take the observed information; the sandwich of the expected one is taken by hand.
    bread = classical.normalized_cov_params
    score = X * ((y - classical.mu) / model.family.variance(classical.mu))[:, None]
    score = score * (1 / model.family.link.deriv(classical.mu))[:, None]
    if clustered:
        groups = len(np.unique(cluster))
        sums = np.stack([score[cluster == code].sum(axis=0) for code in np.unique(cluster)])
        meat = sums.T @ sums * groups / (groups - 1) * (len(y) - 1) / (len(y) - 3)
    else:
        meat = score.T @ score * len(y) / (len(y) - 3)
    np.testing.assert_allclose(found.beta, classical.params, atol=1e-9)
    np.testing.assert_allclose(found.covariance, bread @ meat @ bread, rtol=1e-7)
    np.testing.assert_allclose(found.covariance_classical, classical.cov_params(), rtol=1e-7)
    assert found.dof == (14 if clustered else 597)
    assert found.error == ("CR1" if clustered else "HC1")
    np.testing.assert_allclose(found.predict(X), classical.mu, rtol=1e-8)


@pytest.mark.parametrize(("link", "variance"), [("logit", "binomial"), ("log", "mu"), ("identity", "constant")])
def test_robust_errors_of_canonical_links_equal_those_of_statsmodels(link: Link, variance: Variance) -> None:
    """Where observed and expected information agree, so do the packaged HC1 and clustered errors."""
    X, y, cluster = raw(variance, seed=2)
    model = sm.GLM(y, X, family=FAMILIES[variance](LINKS[link]()))
    # Packaged, HC1 of a GLM lacks its factor n / (n - p), so HC0 is taken and the factor written out.
    white = model.fit(cov_type="HC0", tol=1e-14).cov_params() * len(y) / (len(y) - 3)
    np.testing.assert_allclose(fit(X, y, link, variance).covariance, white, rtol=1e-8)
    between = model.fit(cov_type="cluster", cov_kwds={"groups": cluster}, tol=1e-14)
    np.testing.assert_allclose(fit(X, y, link, variance, cluster).covariance, between.cov_params(), rtol=1e-8)


def test_an_estimate_carries_its_t_interval() -> None:
    """The interval is estimate ± t se with the fit's degrees of freedom; the classical error stands beside it."""
    X, y, cluster = raw("mu", seed=3)
    found = fit(X, y, "log", "mu", cluster)
    expected = sm.GLM(y, X, family=sm.families.Poisson()).fit(
        cov_type="cluster", cov_kwds={"groups": cluster}, use_t=True, tol=1e-14
    )
    slope = found.estimate(1)
    assert (slope.lo, slope.hi) == pytest.approx(tuple(expected.conf_int()[1]), rel=1e-7)
    assert slope.se_classical == pytest.approx(float(np.sqrt(found.covariance_classical[1, 1])))


@pytest.mark.parametrize(("link", "variance"), [("logit", "binomial"), ("log", "mu")])
def test_a_ridge_solves_the_penalised_score_and_shrinks_its_own_columns_only(link: Link, variance: Variance) -> None:
    """At the solution the score on the raw rows equals ridge times beta, column by column."""
    X, y, _ = raw(variance, seed=4)
    rows, n, mean, m2, _ = grouped(X, y)
    ridge = np.array([0.0, 0.0, 25.0])
    found = fit_generalised(rows, n, mean, m2, link=link, variance=variance, ridge=ridge)
    np.testing.assert_allclose(X.T @ (y - found.predict(X)), ridge * found.beta, atol=1e-8)
    assert abs(found.beta[2]) < abs(fit(X, y, link, variance).beta[2])


def test_a_ridge_admits_a_dummy_for_every_stratum_and_a_stratum_without_failures() -> None:
    """Dummies that add up to the intercept, and a stratum that always succeeds: with a ridge the law is finite."""
    rng = np.random.default_rng(5)
    stratum, x = rng.integers(0, 4, 300), rng.choice(LEVELS, 300)
    y = np.where(stratum == 3, 1.0, (rng.random(300) < 0.3 + 0.1 * np.log(x)).astype(float))
    X = np.column_stack((np.ones(300), np.eye(4)[stratum], np.log(x)))
    rows, n, mean, m2, _ = grouped(X, y)
    ridge = np.array([0.0, 0.1, 0.1, 0.1, 0.1, 0.0])
    found = fit_generalised(rows, n, mean, m2, link="logit", variance="binomial", ridge=ridge)
    np.testing.assert_allclose(X.T @ (y - found.predict(X)), ridge * found.beta, atol=1e-8)
    assert found.beta[1:5].sum() == pytest.approx(0, abs=1e-8)
    assert found.predict(X)[stratum == 3].min() > 0.95
    with pytest.raises(NotEnoughData, match="not independent"):
        fit_generalised(rows, n, mean, m2, link="logit", variance="binomial")
    with pytest.raises(NotEnoughData, match="separation"):
        fit_generalised(rows[:, 1:], n, mean, m2, link="logit", variance="binomial")


@pytest.mark.parametrize(
    ("link", "variance", "mean", "reason"),
    [
        ("logit", "binomial", [0.0, 0.0, 1.0, 1.0], "separation"),
        ("cloglog", "binomial", [0.0, 0.0, 1.0, 1.0], "separation"),
        ("logit", "binomial", [0.0, 0.5, 1.0, 1.0], "separation"),
        ("log", "mu", [0.0, 0.0, 0.0, 3.0], "separation"),
        ("identity", "constant", [2.0, 2.0, 2.0, 2.0], "same outcome"),
        ("logit", "binomial", [0.0, 0.0, 0.0, 0.0], "same outcome"),
    ],
)
def test_where_no_fit_exists_the_reason_is_given(
    link: Link, variance: Variance, mean: list[float], reason: str
) -> None:
    """Separated and constant outcomes raise and say what to do."""
    X = np.stack((np.ones(4), np.arange(4.0)), axis=1)
    with pytest.raises(NotEnoughData, match=reason):
        fit_generalised(X, np.full(4, 10.0), np.array(mean), np.zeros(4), link=link, variance=variance)


def test_too_few_runs_and_dependent_columns_say_so() -> None:
    """As many parameters as runs, or a column that repeats another, leave nothing to estimate."""
    X = np.stack((np.ones(3), np.arange(3.0), np.arange(3.0) ** 2), axis=1)
    one, mean, m2 = np.ones(3), np.array([0.1, 0.5, 0.3]), np.zeros(3)
    with pytest.raises(NotEnoughData, match="more than 3 runs"):
        fit_generalised(X, one, mean, m2, link="identity", variance="constant")
    with pytest.raises(NotEnoughData, match="not independent"):
        fit_generalised(X[:, [0, 1, 1]], 4 * one, mean, m2, link="logit", variance="binomial")
    with pytest.raises(NotEnoughData, match="at least 2 clusters"):
        fit_generalised(
            X[:, :2], 4 * one, mean, m2, link="logit", variance="binomial", cluster=np.zeros(3, dtype=np.int64)
        )


def test_a_steep_law_that_saturates_is_not_taken_for_separation() -> None:
    """Means at 0 and 1 far from the threshold are fine while the middle is mixed; scales of columns do not matter."""
    x = np.array([0.0, 1, 2, 3, 100])
    mean, n = np.array([0.0, 0.1, 0.55, 0.9, 1.0]), np.full(5, 20.0)
    X = np.stack((np.ones(5), x), axis=1)
    found = fit_generalised(X, n, mean, n * mean * (1 - mean), link="logit", variance="binomial")
    far = fit_generalised(X * [1, 1e9], n, mean, n * mean * (1 - mean), link="logit", variance="binomial")
    assert found.estimate(1).lo > 0
    assert far.beta[1] * 1e9 == pytest.approx(found.beta[1], rel=1e-9)
    np.testing.assert_allclose(X.T @ (n * (mean - found.mu)), 0, atol=1e-8)
