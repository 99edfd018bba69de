"""Peeking: a hundred looks at experiments without an effect, and the price of looking where there is one."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analytics.confidence_sequences import (
    anytime_p,
    confidence_sequence,
    e_value,
    geometric_mean_sequence,
    proportion_e_value,
    proportion_sequence,
    tuned_information,
)
from analytics.moments import Floats
from analytics.power_analysis import rate_sd, runs_per_value

pytestmark = pytest.mark.statistics

LN_X = np.log([1.0, 2, 3, 4, 6, 8])
AWAY = LN_X - LN_X.mean()
LOOKS = 100
STEP = 10
"""Runs at each of the six values between two looks: 60 in all."""

PLANNED = 600.0
"""Runs at which the sequence is to be tightest."""


def slopes(rng: np.random.Generator, experiments: int, slope: float) -> tuple[Floats, Floats]:
    """Give the slope of success on ln x and its robust error, at each look of each experiment [experiments, looks]."""
    rates = 0.6 + slope * AWAY
    k = rng.binomial(STEP, rates, (experiments, LOOKS, 6)).cumsum(axis=1).astype(np.float64)
    n = STEP * np.arange(1.0, LOOKS + 1)[:, None]
    mean = k / n
    estimate = mean @ AWAY / (AWAY @ AWAY)
    fitted = mean.mean(axis=2, keepdims=True) + estimate[..., None] * AWAY
    squares = n * mean * (1 - mean) + n * (mean - fitted) ** 2
    total = 6 * n[:, 0]
    variance = (squares @ AWAY**2) / (n[:, 0] * (AWAY @ AWAY)) ** 2 * total / (total - 2)
    return estimate, np.sqrt(variance)


TUNED = PLANNED / 6 * float(AWAY @ AWAY) / rate_sd(0.6) ** 2
"""I*: what that many runs are expected to tell about the slope."""


def test_t14_a_hundred_looks_at_a_flat_law(simulations: Callable[[int, int], int], record: Callable[..., None]) -> None:
    """An interval for one look finds an effect in over 30 % of experiments without one; the sequence in under 5 %."""
    experiments = simulations(1000, 2000)
    estimate, se = slopes(np.random.default_rng(1401), experiments, 0.0)
    naive = float((np.abs(estimate / se) > 1.959964).any(axis=1).mean())
    lo, hi = confidence_sequence(estimate, se, TUNED)
    sequence = float(((lo > 0) | (hi < 0)).any(axis=1).mean())
    p = anytime_p(e_value(estimate, se, TUNED))
    record("T14", "false alarms of one-look intervals, 100 looks", naive, threshold=">= .30", runs=experiments)
    record(
        "T14",
        "false alarms of the confidence sequence, 100 looks",
        sequence,
        threshold="<= .05",
        runs=experiments,
        reference=f"one-look interval {naive:.3f}",
    )
    assert naive >= 0.30
    assert sequence <= 0.05
    np.testing.assert_array_equal(p[:, -1] <= 0.05, ((lo > 0) | (hi < 0)).any(axis=1))


@pytest.mark.parametrize("p", [0.6, 0.95])
def test_t14_the_exact_sequence_of_a_rate(
    p: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Looked at after every one of 3,000 runs it misses the truth in under 5 %; the asymptotic one fails at .95."""
    experiments = simulations(1000, 2000)
    rng = np.random.default_rng(1402)
    n = np.arange(1.0, 3001)
    k = (rng.random((experiments, 3000)) < p).cumsum(axis=1).astype(np.float64)
    missed = float((proportion_e_value(k, n, p) >= 20).any(axis=1).mean())
    late = slice(29, None)
    spread = k[:, late] * (n[late] - k[:, late]) / n[late] ** 3
    varies = spread > 0
    se = np.sqrt(np.where(varies, spread, 1.0))
    lo, hi = confidence_sequence(k[:, late] / n[late], se, tuned_information(n[late], se, 600))
    asymptotic = float((~varies | (lo > p) | (hi < p)).any(axis=1).mean())
    record(
        "T14",
        f"miscoverage of the exact sequence, p={p:g}",
        missed,
        threshold="<= .05",
        runs=experiments,
        reference=f"asymptotic {asymptotic:.3f}",
    )
    assert missed <= 0.05
    assert (asymptotic > 0.15) == (p == 0.95)
    some = rng.integers(0, 3000, 40)
    lo, hi = proportion_sequence(k[:40, some], n[some])
    np.testing.assert_array_equal((lo < p) & (p < hi), proportion_e_value(k[:40, some], n[some], p) < 20)


@pytest.mark.parametrize("sd", [1.0, 1.5])
def test_t14_times_are_watched_on_the_logarithm(
    sd: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """From ten runs on the sequence of a geometric mean holds; that of the raw mean misses more than twice as often."""
    experiments = simulations(1000, 2000)
    ln_t = np.random.default_rng(1403).normal(0, sd, (experiments, 2000))
    n = np.arange(1.0, 2001)
    mean, m2 = (part[:, 9:] for part in _running(ln_t))
    lo, hi = geometric_mean_sequence(n[9:], mean, m2, 500)
    missed = float(((lo > 1) | (hi < 1)).any(axis=1).mean())
    mean, m2 = (part[:, 29:] for part in _running(np.exp(ln_t)))
    se = np.sqrt(m2 / (n[29:] - 1) / n[29:])
    lo, hi = confidence_sequence(mean, se, tuned_information(n[29:], se, 500))
    truth = np.exp(sd**2 / 2)
    raw = float(((lo > truth) | (hi < truth)).any(axis=1).mean())
    slack = 3 * (0.05 * 0.95 / experiments) ** 0.5
    record(
        "T14",
        f"miscoverage of the sequence of a geometric mean, sd {sd:g}",
        missed,
        threshold="<= .055",
        runs=experiments,
        reference=f"raw mean {raw:.3f}",
    )
    assert missed <= (0.055 if experiments >= 2000 else 0.05 + slack)
    assert raw > 0.1


def test_t15_an_effect_is_found_though_one_may_look_at_any_time(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """A slope of .08 is found by 6,000 runs in 99 %, in the median by 750; one look at a fixed size needs 618."""
    experiments = simulations(1000, 2000)
    estimate, se = slopes(np.random.default_rng(1501), experiments, 0.08)
    rejected = e_value(estimate, se, TUNED) >= 20
    stop = 6.0 * STEP * (1 + rejected.argmax(axis=1)[rejected.any(axis=1)])
    found, median = float(rejected.any(axis=1).mean()), float(np.median(stop))
    record("T15", "slope .08 found within 6,000 runs", found, threshold=">= .99", runs=experiments)
    record(
        "T15",
        "median runs until it is found",
        median,
        threshold="<= 750",
        runs=experiments,
        reference="fixed size, 80 % power: 618",
    )
    assert found >= 0.99
    assert median <= 750
    fixed = 6 * runs_per_value(np.exp(LN_X).tolist(), 0.08, rate_sd(0.6))
    assert 600 <= fixed <= 630
    one_look = float((np.abs(estimate / se)[:, round(fixed / 60) - 1] > stats.norm.ppf(0.975)).mean())
    assert one_look == pytest.approx(0.8, abs=0.05)


def _running(y: Floats) -> tuple[Floats, Floats]:
    """Give the mean and the squared deviations of the first 1, 2, ... runs [experiments, runs]."""
    n = np.arange(1.0, y.shape[1] + 1)
    mean = y.cumsum(axis=1) / n
    return mean, np.maximum((y * y).cumsum(axis=1) - n * mean * mean, 0.0)
