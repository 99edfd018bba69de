"""Any-of-k: unbiased estimates against all subsets, fits against independent likelihoods, and 200 real trials."""

import gzip
import json
import math
from collections import defaultdict
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize
from scipy.stats import betabinom, norm

from analytics.any_of_k import all_of_k, any_of_k, fit_any_of_k, fit_free_slope, fit_task_counts
from analytics.moments import Floats
from models.errors import NotEnoughData

TRIALS = Path(__file__).parents[3] / "shared" / "data" / "tau_bench_gpt4o_airline" / "events.jsonl.gz"
real = pytest.mark.skipif(not TRIALS.exists(), reason="the trials of ../shared/data/tau_bench_gpt4o_airline are absent")

K = np.array([1.0, 2, 3, 4, 6, 8])
N = np.array([100.0, 90, 80, 100, 100, 70])
S = np.array([30.0, 44, 45, 60, 70, 50])


def airline() -> Floats:
    """Read the outcomes [50, 4] of each task's trials."""
    trials: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    with gzip.open(TRIALS, "rt", encoding="utf-8") as lines:
        for line in lines:
            run = json.loads(line)
            row = run["project_characteristics"]
            trials[row["task_id"]].append((row["trial"], run["success"]))
    return np.array([[float(success) for _, success in sorted(task)] for task in trials.values()])


def miss(alpha: float, beta: float, k: int) -> float:
    """Multiply out 1 - P(k) = Π (beta + i) / (alpha + beta + i)."""
    return math.prod((beta + i) / (alpha + beta + i) for i in range(k))


def log_prior(theta: Floats) -> float:
    """Write the priors anew."""
    return float(norm.logpdf(theta[0], 0, 1.5) + norm.logpdf(theta[1], 0.5, 1.5))


def grouped_loss(theta: Floats, n: Floats = N, s: Floats = S) -> float:
    """Write the negative log posterior of grouped counts anew."""
    q = np.array([miss(math.exp(theta[0]), math.exp(theta[1]), int(k)) for k in K])
    return -float(s @ np.log(1 - q) + (n - s) @ np.log(q)) - log_prior(theta)


def test_unbiased_estimates_average_over_all_subsets_of_trials() -> None:
    """pass@k and pass^k are the shares of all k-subsets of a task's trials with any and with only successes."""
    outcomes = [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [0, 1, 0, 0]]
    c, t = np.array([float(sum(task)) for task in outcomes]), np.array([float(len(task)) for task in outcomes])
    for k in (1, 2, 3, 4):
        subsets = [list(combinations(task, k)) for task in outcomes]
        anyone = [np.mean([any(subset) for subset in task]) for task in subsets]
        everyone = [np.mean([all(subset) for subset in task]) for task in subsets]
        found, all_found = any_of_k(c, t, k), all_of_k(c, t, k)
        assert found.estimate == pytest.approx(np.mean(anyone), abs=1e-15)
        assert all_found.estimate == pytest.approx(np.mean(everyone), abs=1e-15)
        assert found.se == pytest.approx(np.std(anyone, ddof=1) / 2, abs=1e-15)
        assert 0 <= found.lo <= found.estimate <= found.hi <= 1


def test_unbiased_estimates_need_k_trials_of_each_task() -> None:
    """With a task that was tried less than k times they say so, and likewise with a single task."""
    with pytest.raises(NotEnoughData, match="3 attempts of each task need 3 trials"):
        any_of_k(np.array([1.0, 2.0]), np.array([4.0, 2.0]), 3)
    with pytest.raises(NotEnoughData, match="at least 2 tasks, there is 1"):
        all_of_k(np.array([1.0]), np.array([4.0]), 2)
    with pytest.raises(NotEnoughData, match="0 <= successes <= trials"):
        any_of_k(np.array([5.0, 1.0]), np.array([4.0, 4.0]), 2)


def test_grouped_fit_is_the_maximum_of_the_posterior() -> None:
    """No other optimiser, on a posterior written anew, finds a higher point or another one."""
    fit = fit_any_of_k(K, N, S)
    other = minimize(grouped_loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13})
    assert grouped_loss(fit.theta) <= float(other.fun) + 1e-10
    assert np.exp(other.x) == pytest.approx([fit.alpha.estimate, fit.beta.estimate], rel=1e-5)
    assert fit.probability(5).estimate == pytest.approx(1 - miss(fit.alpha.estimate, fit.beta.estimate, 5), abs=1e-13)


def test_covariance_is_the_inverse_curvature_of_the_posterior() -> None:
    """Where the counts are what the law expects, the expected information is the observed one."""
    n = np.full(6, 1e5)
    s = n * np.array([1 - miss(0.8, 1.6, int(k)) for k in K])
    fit = fit_any_of_k(K, n, s)
    step = 1e-3 * np.eye(2)
    hessian = [
        [
            sum(a * b * grouped_loss(fit.theta + a * step[i] + b * step[j], n, s) for a in (-1, 1) for b in (-1, 1))
            / 4e-6
            for j in range(2)
        ]
        for i in range(2)
    ]
    assert np.linalg.inv(fit.covariance) == pytest.approx(np.array(hessian), rel=2e-3)


def test_task_counts_fit_is_the_maximum_of_the_beta_binomial_posterior() -> None:
    """It agrees with scipy's beta-binomial distribution, with unequal numbers of trials."""
    t = np.array([2.0, 2, 2, 3, 3, 5, 5, 5, 8, 8])
    c = np.array([0.0, 1, 2, 0, 3, 1, 2, 5, 0, 4])

    def loss(theta: Floats) -> float:
        return -float(np.sum(betabinom.logpmf(c, t, math.exp(theta[0]), math.exp(theta[1])))) - log_prior(theta)

    fit = fit_task_counts(c, t)
    other = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13})
    assert loss(fit.theta) <= float(other.fun) + 1e-10
    assert fit.theta == pytest.approx(other.x, abs=1e-5)


def test_free_slope_agrees_with_statsmodels() -> None:
    """Coefficients, classical errors and HC1 errors are those of a GLM with complementary log-log link on raw rows."""
    y = np.concatenate([np.repeat([1.0, 0.0], [int(s), int(n - s)]) for s, n in zip(S, N, strict=True)])
    x = np.repeat(np.stack((np.ones(6), np.log(K)), axis=1), N.astype(int), axis=0)
    model = sm.GLM(y, x, family=sm.families.Binomial(sm.families.links.CLogLog()))
    glm = model.fit(tol=1e-14)
    score = model.score_obs(glm.params)
    bread = glm.normalized_cov_params
    hc1 = bread @ score.T @ score @ bread * len(y) / (len(y) - 2)
    fit = fit_free_slope(K, N, S)
    assert fit.theta == pytest.approx(glm.params, abs=1e-9)
    assert fit.exponent.se_classical == pytest.approx(glm.bse[1], rel=1e-8)
    assert fit.covariance == pytest.approx(hc1, rel=1e-7)
    assert fit.rate.estimate == pytest.approx(math.exp(glm.params[0]), rel=1e-9)
    assert fit.probability(16).estimate == pytest.approx(
        1 - math.exp(-math.exp(glm.params[0] + glm.params[1] * math.log(16))), abs=1e-9
    )


def test_tasks_that_are_all_alike_have_a_free_slope_of_one() -> None:
    """Counts of exactly 1 - (1 - p)^k give the exponent 1 and the rate -ln(1 - p)."""
    n = np.full(6, 1000.0)
    fit = fit_free_slope(K, n, n * (1 - 0.7**K))
    assert fit.exponent.estimate == pytest.approx(1, abs=1e-9)
    assert fit.rate.estimate == pytest.approx(-math.log(0.7), rel=1e-9)


def test_free_slope_refuses_separated_outcomes() -> None:
    """Where all runs fail up to some k and succeed beyond, the exponent is infinite, and the fit says so."""
    with pytest.raises(NotEnoughData, match="exponent is infinite"):
        fit_free_slope(np.array([1.0, 2, 3]), np.array([5.0, 5, 5]), np.array([0.0, 2, 5]))
    with pytest.raises(NotEnoughData, match="exponent is infinite"):
        fit_free_slope(np.array([1.0, 2]), np.array([5.0, 5]), np.zeros(2))


@pytest.mark.parametrize("n", [5.0, 1e4, 1e6])
@pytest.mark.parametrize("share", [(0, 0), (1, 1), (0.3, 0.95), (0.7, 0.3), (0, 1)])
def test_any_counts_have_a_fit(n: float, share: tuple[float, float]) -> None:
    """Hopeless, certain, falling and impossibly steep counts end in a finite law that keeps inside 0 and 1."""
    size = np.full(2, n)
    fit = fit_any_of_k(np.array([1.0, 8]), size, size * np.array(share))
    points = fit.curve(np.array([1.0, 2, 8, 64]))
    assert all(0 <= point.lo <= point.mean <= point.hi <= 1 for point in points)
    assert all(a.mean <= b.mean for a, b in pairwise(points))
    assert 0 < fit.alpha.estimate < math.inf
    assert 0 < fit.beta.estimate < math.inf


def test_forecast_covers_a_new_share_of_tasks() -> None:
    """Shares drawn from the estimate's own uncertainty fall into the interval 95 times in 100, or a little more."""
    fit = fit_any_of_k(K, N, S)
    rng = np.random.default_rng(4)
    alpha, beta = np.exp(rng.multivariate_normal(fit.theta, fit.covariance, 20_000)).T
    p = 1 - np.prod([(beta + i) / (alpha + beta + i) for i in range(8)], axis=0)
    shares = rng.binomial(40, p) / 40
    forecast = fit.forecast(8, 40)
    inside = float(np.mean((forecast.lo <= shares) & (shares <= forecast.hi)))
    assert 0.945 <= inside <= 0.985
    assert forecast.se == pytest.approx(float(shares.std()), rel=0.05)
    point = fit.probability(8)
    assert forecast.hi - forecast.lo > point.hi - point.lo


def test_fits_refuse_what_they_cannot_tell() -> None:
    """One k, one trial a task, one task, no tasks to forecast: each is told."""
    with pytest.raises(NotEnoughData, match="at least 2 distinct k, there is 1"):
        fit_any_of_k(np.array([3.0, 3.0]), np.array([5.0, 5.0]), np.array([1.0, 2.0]))
    with pytest.raises(NotEnoughData, match="0 <= successes <= n"):
        fit_any_of_k(np.array([1.0, 3.0]), np.array([5.0, 5.0]), np.array([1.0, 6.0]))
    with pytest.raises(NotEnoughData, match="needs 2 trials of some task"):
        fit_task_counts(np.array([0.0, 1.0]), np.ones(2))
    with pytest.raises(NotEnoughData, match="at least 2 tasks"):
        fit_task_counts(np.array([1.0]), np.array([3.0]))
    with pytest.raises(NotEnoughData, match="at least 1 task, not 0"):
        fit_any_of_k(K, N, S).forecast(4, 0)


@real
def test_real_trials_give_the_published_all_of_k() -> None:
    """gpt-4o in the airline domain: pass^1..4 = .420 .273 .220 .200 as its authors published, and pass@4 = .72."""
    success = airline()
    c, t = success.sum(axis=1), np.full(50, 4.0)
    assert success.shape == (50, 4)
    assert [round(all_of_k(c, t, k).estimate, 3) for k in (1, 2, 3, 4)] == [0.42, 0.273, 0.22, 0.2]
    assert any_of_k(c, t, 4).estimate == pytest.approx(0.72, abs=1e-12)


@real
def test_two_real_trials_forecast_four() -> None:
    """From each task's first two trials, the share solved in four lies in the interval and within .10 of the point.

    Were tasks alike, 1 - (1 - .42)^4 = .89 would be expected, which is .17 off.
    """
    success = airline()
    forecast = fit_task_counts(success[:, :2].sum(axis=1), np.full(50, 2.0)).forecast(4, 50)
    observed = float(success.any(axis=1).mean())
    assert observed == pytest.approx(0.72)
    assert forecast.lo <= observed <= forecast.hi
    assert abs(forecast.estimate - observed) <= 0.10
    alike = 1 - (1 - success[:, :2].mean()) ** 4
    assert abs(alike - observed) > 0.10
