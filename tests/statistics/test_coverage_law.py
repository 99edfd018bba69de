"""T11: what a sixteenth attempt brings, from at most eight; and attempts that stop at the first success."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from analytics.any_of_k import AnyOfK, fit_any_of_k, fit_free_slope, fit_task_counts
from analytics.cells import Cells
from analytics.hazards import AttemptCounts, fit_hazards
from analytics.least_squares import line
from analytics.moments import Floats, Ints
from analytics.quasi_poisson import fit_power_mean
from analytics.reference import fit_logarithmic, fit_power_law
from models.dimensions import Outcome, Variable

pytestmark = pytest.mark.statistics

ALPHA, BETA = 0.8, 1.6
K = np.array([1.0, 2, 3, 4, 6, 8])
LIMIT = 6


def truth(k: int) -> float:
    """Multiply out 1 - Π (beta + i) / (alpha + beta + i): .333 at one attempt, .859 at sixteen."""
    return 1 - math.prod((BETA + i) / (ALPHA + BETA + i) for i in range(k))


def least(bound: float, runs: int) -> float:
    """Lower a bound of coverage to what so few simulations can tell."""
    return float(min(bound, 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)))


def rmse(values: Floats) -> float:
    """Give the root mean square."""
    return float(np.sqrt(np.mean(values * values)))


def drawn(n: int, runs: int) -> Floats:
    """Draw successes [runs, 6] of n runs at each k."""
    chance = np.array([truth(int(k)) for k in K])
    return np.random.default_rng(18).binomial(n, chance, (runs, len(K))).astype(np.float64)


def as_cells(n: int, s: Floats) -> Cells:
    """Write the counts as cells of success."""
    rate = s / n
    comoment = np.zeros((len(K), 3, 3))
    comoment[:, 2, 2] = n * rate * (1 - rate)
    return Cells(
        variables=(Variable.X, Variable.LN_X, Outcome.SUCCESS),
        value=K,
        label=(None,) * len(K),
        binned=np.zeros(len(K), np.bool_),
        n=np.full(len(K), float(n)),
        mean=np.stack((K, np.log(K), rate), axis=1),
        comoment=comoment,
    )


@pytest.mark.parametrize(("n", "most"), [(30, 0.06), (100, 0.045)])
def test_sixteen_attempts_are_forecast_from_eight(
    n: int, most: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """P(16) from n runs at each k <= 8: hardly any bias, small error, and the interval covers."""
    runs = simulations(400, 1000)
    points = [fit_any_of_k(K, np.full(len(K), float(n)), s).probability(16) for s in drawn(n, runs)]
    error = np.array([point.estimate for point in points]) - truth(16)
    coverage = float(np.mean([point.lo <= truth(16) <= point.hi for point in points]))
    record("T11", f"bias of P(16), n={n}", error.mean(), threshold="|bias| <= .01", runs=runs)
    record("T11", f"RMSE of P(16), n={n}", rmse(error), threshold=f"<= {most}", runs=runs)
    record("T11", f"coverage of P(16), n={n}", coverage, threshold=">= .92", runs=runs)
    assert abs(error.mean()) <= 0.01
    assert rmse(error) <= most
    assert coverage >= least(0.92, runs)


def test_other_laws_mislead_beyond_the_data(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Power laws, the logarithmic law and identical tasks promise too much; the document's clipped one too little."""
    runs = simulations(100, 1000)
    n = 100
    power, logs, document, logarithmic, slope, alike = [], [], [], [], [], []
    for s in drawn(n, runs):
        cells = as_cells(n, s)
        power.append(fit_power_mean(cells, Outcome.SUCCESS).curve(np.array([16.0]))[0].mean)
        logs.append(float(np.exp(np.polyval(np.polyfit(np.log(K), np.log(s / n), 1), math.log(16)))))
        clipped = fit_power_law(cells, Outcome.SUCCESS)
        document.append(clipped.coefficient.estimate * 16**clipped.exponent.estimate)
        law = fit_logarithmic(cells, Outcome.SUCCESS)
        logarithmic.append(law.intercept.estimate + law.coefficient.estimate * math.log(16))
        slope.append(fit_free_slope(K, cells.n, s).probability(16).estimate)
        alike.append(1 - (1 - one_chance(s, n)) ** 16)
    for name, values, low, high in (
        ("power law through the logs of means", logs, 0.20, 0.26),
        ("power law of the mean", power, 0.17, 0.22),
        ("document's clipped power law", document, -0.35, -0.15),
        ("logarithmic law", logarithmic, 0.05, 0.10),
        ("free slope", slope, 0.03, 0.06),
        ("identical tasks", alike, 0.10, 0.14),
    ):
        bias = float(np.mean(values)) - truth(16)
        record("T11", f"bias of P(16), {name}, n={n}", bias, threshold=f"shown in [{low}, {high}]", runs=runs)
        assert low <= bias <= high


def one_chance(s: Floats, n: int) -> float:
    """Find the chance p of identical tasks, 1 - (1 - p)^k, of greatest likelihood on a fine grid."""
    p = np.arange(0.001, 1, 0.001)[:, None]
    log_miss = K * np.log1p(-p)
    return float(p[np.argmax((s * np.log(-np.expm1(log_miss)) + (n - s) * log_miss).sum(axis=1)), 0])


def test_trials_of_tasks_forecast_new_tasks(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """From 4 trials of 60 tasks, the share of 60 new tasks solved in 16 lies in the prediction interval."""
    runs = simulations(400, 1000)
    rng = np.random.default_rng(21)
    errors, held = [], []
    for _ in range(runs):
        fit: AnyOfK = fit_task_counts(rng.binomial(4, rng.beta(ALPHA, BETA, 60)).astype(np.float64), np.full(60, 4.0))
        forecast = fit.forecast(16, 60)
        share = float(np.mean(rng.random(60) < 1 - (1 - rng.beta(ALPHA, BETA, 60)) ** 16))
        errors.append(forecast.estimate - truth(16))
        held.append(forecast.lo <= share <= forecast.hi)
    coverage = float(np.mean(held))
    record("T11", "prediction interval of 60 new tasks at k=16", coverage, threshold=">= .93", runs=runs)
    record("T11", "bias of P(16) from 4 trials of 60 tasks", np.mean(errors), threshold="|bias| <= .02", runs=runs)
    assert coverage >= least(0.93, runs)
    assert abs(np.mean(errors)) <= 0.02


def attempted(rng: np.random.Generator, chance: Floats, limit: Ints | int) -> tuple[Ints, Floats]:
    """Try each task until it succeeds or its limit is reached: attempts made, and success."""
    first = rng.geometric(np.maximum(chance, 1e-9))
    return np.minimum(first, limit).astype(np.int64), (first <= limit).astype(np.float64)


def test_hazards_are_free_of_bias(simulations: Callable[[int, int], int], record: Callable[..., None]) -> None:
    """P(k) for every k up to the limit is unbiased and covered; success by attempts made has the wrong sign."""
    runs = simulations(400, 1000)
    rng = np.random.default_rng(11)
    expected = np.array([truth(k) for k in range(1, LIMIT + 1)])
    error, held, falling = [], [], []
    for _ in range(runs):
        attempts, success = attempted(rng, rng.beta(ALPHA, BETA, 600), LIMIT)
        law = fit_hazards(AttemptCounts.from_runs(attempts, np.ones(600), success))
        error.append(law.probability - expected)
        held.append((law.lo <= expected) & (expected <= law.hi))
        cells = Cells.from_rows({Variable.X: attempts.astype(np.float64), Outcome.SUCCESS: success})
        falling.append(line(cells, Outcome.SUCCESS, Variable.LN_X).coefficient.hi < 0)
    bias, coverage = float(np.abs(np.mean(error, axis=0)).max()), float(np.mean(held, axis=0).min())
    record(
        "T11",
        "largest bias of P(k) from hazards, k <= 6",
        bias,
        threshold="|bias| <= .005",
        runs=runs,
        reference="slope on attempts made is significantly negative in all runs",
    )
    record("T11", "least coverage of P(k) from hazards, k <= 6", coverage, threshold=">= .92", runs=runs)
    assert bias <= 0.005
    assert coverage >= least(0.92, runs)
    assert all(falling)


def test_limits_that_follow_difficulty_need_strata(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Where hard tasks get smaller limits, hazards of all runs together are too high; within strata they are not."""
    runs = simulations(60, 300)
    rng = np.random.default_rng(12)
    pooled, stratified = [], []
    chance = np.array([0.1, 0.5])
    expected = float(np.mean(1 - (1 - chance) ** 4))
    for _ in range(runs):
        easy = rng.integers(0, 2, 800)
        limit = np.where(easy == 1, 6, rng.choice([1, 2, 4], 800, p=[0.5, 0.3, 0.2])).astype(np.int64)
        attempts, success = attempted(rng, chance[easy], limit)
        pooled.append(fit_hazards(AttemptCounts.from_runs(attempts, np.ones(800), success)).probability[3])
        counts = AttemptCounts.from_runs(attempts, np.ones(800), success, stratum=easy)
        stratified.append(fit_hazards(counts).probability[3])
    bias, unadjusted = float(np.mean(stratified)) - expected, float(np.mean(pooled)) - expected
    record(
        "T11",
        "bias of P(4) where limits follow difficulty, by strata",
        bias,
        threshold="|bias| <= .01",
        runs=runs,
        reference=f"without strata {unadjusted:+.3f}",
    )
    assert abs(bias) <= 0.01
    assert abs(unadjusted) > 0.03
