"""T22, T23 and the figures of sections 2.7 and 5: pooling, bias-aware combination, comparison and transfer."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr
from scipy.stats import chi2

from analytics.comparison import ContextSlope, compare_scaling_by_context
from analytics.intervals import z_quantile
from analytics.pooling import combine_with_observation, pool, pool_vectors
from analytics.validation import leave_one_context_out
from models.laws import Estimate

pytestmark = pytest.mark.statistics

Floats = npt.NDArray[np.float64]

CENTRE = 0.3
VALUES = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


def lowest(bound: float, runs: int) -> float:
    """Give the bound on a coverage, or what chance leaves of .95 in so few runs."""
    return min(bound, 0.95 - 3 * math.sqrt(0.95 * 0.05 / runs))


def given(values: Floats, tau: float, se: float) -> tuple[Floats, float]:
    """Give mean and variance of the true parameters once the estimates are known: the planted truth's own posterior."""
    share = tau**2 / (tau**2 + se**2)
    return CENTRE + share * (values - CENTRE), share * se**2


def inside(lo: Floats | float, hi: Floats | float, mean: Floats | float, variance: float) -> float:
    """Give the probability that a normal falls into an interval, exactly rather than by drawing it."""
    deviation = max(variance, 1e-24) ** 0.5
    return float(np.mean(ndtr((hi - mean) / deviation) - ndtr((lo - mean) / deviation)))


def half_cauchy(values: Floats, se: float, scale: float = 0.1) -> Floats:
    """Pool with the design document's prior on a plain grid."""
    tau = np.linspace(0, 5, 4000)[:, None]
    density = 1 / (se**2 + tau**2)
    away = ((values - values.mean()) ** 2).sum()
    log = (len(values) - 1) / 2 * np.log(density) - away * density / 2 - np.log1p((tau / scale) ** 2)
    weight = np.exp(log - log.max())
    share = float((weight * se**2 * density).sum() / weight.sum())
    return np.asarray((1 - share) * values + share * values.mean())


def test_pooled_estimates_are_better_and_cover(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T22: never worse than separate ones, near half the error where contexts are alike, intervals that cover."""
    runs = simulations(60, 1000)
    coverages, ratios = [], {}
    for contexts in (5, 10, 30, 100):
        for tau in (0.0, 0.03, 0.08, 0.2):
            for se in (0.03, 0.08):
                rng = np.random.default_rng([22, contexts, int(100 * tau), int(100 * se)])
                errors, covered, new, fixed = [], [], [], []
                for _ in range(runs):
                    values = rng.normal(CENTRE, (tau**2 + se**2) ** 0.5, contexts)
                    pooled = pool(values, np.full(contexts, se**2))
                    unseen = pooled.new_context()
                    mean, variance = given(values, tau, se)
                    half = z_quantile() * pooled.se
                    errors.append(float(np.mean((pooled.mean - mean) ** 2)) + variance)
                    covered.append(inside(pooled.mean - half, pooled.mean + half, mean, variance))
                    new.append(inside(unseen.lo, unseen.hi, CENTRE, tau**2))
                    width = z_quantile() * se / contexts**0.5
                    fixed.append(inside(values.mean() - width, values.mean() + width, CENTRE, tau**2))
                ratio, setting = float(np.mean(errors)) ** 0.5 / se, f"K={contexts}, tau={tau}, se={se}"
                noise = float(np.std(errors)) / runs**0.5 / se**2 / 2
                ratios[contexts, tau, se] = ratio
                coverages.append(float(np.mean(covered)))
                alike = tau <= 0.5 * se and contexts >= 10
                record(
                    "T22", f"RMSE over separate, {setting}", ratio, threshold="<= .55" if alike else "<= 1", runs=runs
                )
                assert ratio <= (0.55 if alike else 1 + 3 * noise), setting
                assert coverages[-1] >= lowest(0.90, runs), setting
                assert np.mean(new) >= lowest(0.90, runs), setting
                if (contexts, tau, se) == (100, 0.03, 0.08):
                    record(
                        "T22",
                        f"new-context coverage, {setting}",
                        np.mean(new),
                        threshold=">= .90",
                        runs=runs,
                        reference=f"fixed-effect interval {np.mean(fixed):.2f}",
                    )
                    assert np.mean(fixed) < 0.5
    record("T22", "coverage, lowest of 32 settings", min(coverages), threshold=">= .90", runs=runs)
    record("T22", "coverage, median of 32 settings", np.median(coverages), threshold=">= .93", runs=runs)
    assert np.median(coverages) >= 0.93


def test_a_half_cauchy_prior_would_make_unlike_contexts_worse(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T22: where five contexts differ widely the document's prior loses to no pooling, the house's does not."""
    runs, tau, se = simulations(1500, 6000), 0.5, 0.05
    rng = np.random.default_rng(220)
    house, document = [], []
    for _ in range(runs):
        values = rng.normal(CENTRE, (tau**2 + se**2) ** 0.5, 5)
        mean, _ = given(values, tau, se)
        alone = float(np.mean((values - mean) ** 2))
        house.append(float(np.mean((pool(values, np.full(5, se**2)).mean - mean) ** 2)) - alone)
        document.append(float(np.mean((half_cauchy(values, se) - mean) ** 2)) - alone)
    noise = 3 / runs**0.5
    record(
        "T22",
        "RMSE over separate, K=5, tau=.5, se=.05",
        1 + np.mean(house) / se**2 / 2,
        threshold="<= 1",
        runs=runs,
        reference=f"half-Cauchy {1 + np.mean(document) / se**2 / 2:.4f}",
    )
    assert np.mean(house) <= noise * np.std(house)
    assert np.mean(document) > noise * np.std(document)


def test_vectors_gain_on_both_parameters(simulations: Callable[[int, int], int], record: Callable[..., None]) -> None:
    """Section 5: levels and slopes of ten alike contexts are better pooled than separate, and cover."""
    runs = simulations(100, 1000)
    rng = np.random.default_rng(23)
    x = np.column_stack((np.ones(6), np.log(VALUES)))
    information = np.linalg.inv(x.T @ x)
    errors, alone, covered = np.zeros(2), np.zeros(2), np.zeros(2)
    for _ in range(runs):
        covariances = 0.25 / rng.integers(20, 60, 10)[:, None, None] * information
        truth = rng.normal([0.3, 0.1], [0.1, 0.03], (10, 2))
        values = np.stack([rng.multivariate_normal(*each) for each in zip(truth, covariances, strict=True)])
        pooled = pool_vectors(values, covariances)
        deviation = np.sqrt(np.diagonal(pooled.covariance, axis1=1, axis2=2))
        errors += np.mean((pooled.mean - truth) ** 2, axis=0) / runs
        alone += np.mean((values - truth) ** 2, axis=0) / runs
        covered += np.mean(np.abs(pooled.mean - truth) < z_quantile() * deviation, axis=0) / runs
    for name, ratio, coverage in zip(("level", "slope"), np.sqrt(errors / alone), covered, strict=True):
        record("5", f"RMSE of the {name} over separate, pairs (a, b)", ratio, threshold="<= .8", runs=runs)
        record("5", f"coverage of the {name}, pairs (a, b)", coverage, threshold=">= .90", runs=runs)
        assert ratio <= 0.8
        assert coverage >= lowest(0.90, runs)


def test_observation_is_used_for_what_it_is_worth(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T23: bias-aware combination beats the experiment alone; averaging as if there were no bias loses to it."""
    runs, contexts = simulations(400, 2000), 10
    rng = np.random.default_rng(24)
    se_exp, se_obs, bias, bias_sd = 0.06, 0.03, 0.06, 0.05
    errors: dict[str, list[float]] = {"experiment": [], "observation": [], "naive": [], "bias-aware": []}
    covered = []
    for _ in range(runs):
        truth = rng.normal(0.2, 0.1, contexts)
        experiment = truth + rng.normal(0, se_exp, contexts)
        observation = truth + rng.normal(bias, bias_sd, contexts) + rng.normal(0, se_obs, contexts)
        v_exp, v_obs = np.full(contexts, se_exp**2), np.full(contexts, se_obs**2)
        combined = combine_with_observation(experiment, v_exp, observation, v_obs)
        weight = se_obs**2 / (se_exp**2 + se_obs**2)
        answers = {
            "experiment": experiment,
            "observation": observation,
            "naive": weight * experiment + (1 - weight) * observation,
            "bias-aware": np.array([each.estimate for each in combined]),
        }
        for name, answer in answers.items():
            errors[name].append(float(np.mean((answer - truth) ** 2)))
        covered.append(np.mean([each.lo < value < each.hi for each, value in zip(combined, truth, strict=True)]))
    rmse = {name: float(np.mean(each)) ** 0.5 for name, each in errors.items()}
    record(
        "T23",
        "RMSE of bias-aware over experiment",
        rmse["bias-aware"] / rmse["experiment"],
        threshold="<= .9",
        runs=runs,
        reference=f"naive inverse variance {rmse['naive'] / rmse['experiment']:.2f}",
    )
    record("T23", "coverage of bias-aware", np.mean(covered), threshold=">= .90 (goal .93)", runs=runs)
    assert rmse["bias-aware"] <= 0.9 * rmse["experiment"]
    assert rmse["naive"] > rmse["experiment"]
    assert np.mean(covered) >= lowest(0.93, runs)


def slopes(rng: np.random.Generator, contexts: int, runs: int, spread: float) -> list[ContextSlope]:
    """Fit slopes of success on ln x, with HC1 errors, in contexts whose true slopes differ by `spread`."""
    g = np.log(VALUES) - np.log(VALUES).mean()
    truth = 0.5 + rng.normal(0.08, spread, contexts)[:, None] * g
    mean = rng.binomial(runs, np.clip(truth, 0.02, 0.98)) / runs
    b = mean @ g / (g @ g)
    residual = mean - mean.mean(axis=1, keepdims=True) - b[:, None] * g
    size = 6 * runs
    meat = (runs * (mean * (1 - mean) + residual**2)) @ (g * g) * size / (size - 2)
    se = np.sqrt(meat) / (runs * (g @ g))
    return [
        ContextSlope(str(k), Estimate(float(b[k]), float(se[k]), 0.0, 0.0), size, 6, float(runs * (g @ g)))
        for k in range(contexts)
    ]


@pytest.mark.parametrize("each", [10, 30, 100])
def test_equal_contexts_are_seldom_told_apart(
    each: int, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Section 2.7: Cochran's Q of ten equal contexts keeps its size also at 10 runs a value, own variances do not."""
    runs = simulations(400, 4000)
    rng = np.random.default_rng([25, each])
    rejected, own, families = 0, 0, 0
    for _ in range(runs):
        contexts = slopes(rng, 10, each, 0.0)
        found = compare_scaling_by_context(contexts)
        rejected += found.heterogeneity.p < 0.05
        families += min(pair.p_adjusted for pair in found.pairs) < 0.05
        values = np.array([context.slope.estimate for context in contexts])
        precision = np.array([context.slope.se**-2 for context in contexts])
        own += chi2.sf(precision @ (values - precision @ values / precision.sum()) ** 2, 9) < 0.05
    size, chance = rejected / runs, 3 * (0.05 * 0.95 / runs) ** 0.5
    reference = f"own variances {own / runs:.3f}"
    record("2.7", f"size of Q, {each} runs a value", size, threshold="<= .065", runs=runs, reference=reference)
    record("2.7", f"any false pair, {each} runs a value", families / runs, threshold="<= .05", runs=runs)
    assert size <= max(0.065, 0.05 + chance)
    assert families / runs <= 0.05 + chance
    if each == 10:
        assert own / runs > size


def test_unlike_contexts_are_told_apart(simulations: Callable[[int, int], int], record: Callable[..., None]) -> None:
    """Section 2.7: slopes that differ by .06 are found in three of five sets at 30 runs a value, nearly all at 100."""
    runs = simulations(200, 2000)
    for each, least in ((30, 0.55), (100, 0.93)):
        rng = np.random.default_rng([26, each])
        found = [compare_scaling_by_context(slopes(rng, 10, each, 0.06)).heterogeneity.p < 0.05 for _ in range(runs)]
        record("2.7", f"power of Q at slope sd .06, {each} runs", np.mean(found), threshold=f">= {least}", runs=runs)
        assert np.mean(found) >= least - 3 * (least * (1 - least) / runs) ** 0.5


def test_left_out_contexts_fall_inside_their_intervals(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Section 5: the laws of other contexts cover the left-out one; skill is high for alike, low for unlike ones."""
    runs = simulations(60, 500)
    skills = {}
    for tau in (0.03, 0.3):
        rng = np.random.default_rng([27, int(100 * tau)])
        coverage, skill = [], []
        for _ in range(runs):
            found = leave_one_context_out(rng.normal(0.2, (tau**2 + 0.03**2) ** 0.5, 10), np.full(10, 0.03**2))
            coverage.append(found[0].coverage)
            skill.append(found[0].skill)
        skills[tau] = float(np.median(np.array(skill, dtype=np.float64)))
        record("5", f"left-out coverage, tau={tau}", np.mean(coverage), threshold=">= .90", runs=runs)
        assert np.mean(coverage) >= lowest(0.90, runs)
    assert skills[0.03] > 0.9
    assert skills[0.3] < 0.5
