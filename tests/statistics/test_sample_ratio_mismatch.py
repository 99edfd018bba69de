"""Sample ratio mismatch (T17): two hundred looks at a sound assignment, and at one that loses runs of one value."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from analytics.confidence_sequences import anytime_p
from analytics.moments import Floats, Ints
from analytics.sample_ratio import attrition_e_values, attrition_test, sample_ratio_e_values
from models.errors import NotEnoughData

pytestmark = pytest.mark.statistics

Choose = Callable[[int, int], int]
Record = Callable[..., None]

VALUES = 6
LOOKS = 200
STEP = 60
"""Runs between two looks; 12,000 in all."""

LIMITS = {0.05: 20.0, 0.001: 1000.0}


def chi_squared_p(counts: Ints) -> Floats:
    """Give Pearson's p of equal shares at each look [experiments, looks]."""
    expected = counts.sum(axis=-1, keepdims=True) / VALUES
    return np.asarray(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(axis=-1), VALUES - 1))


def completed(rng: np.random.Generator, experiments: int, rates: Floats) -> tuple[Ints, Ints]:
    """Complete assignments, as many of each value between two looks; give both [experiments, looks, values]."""
    assigned = np.broadcast_to(STEP // VALUES * np.arange(1, LOOKS + 1)[:, None], (experiments, LOOKS, VALUES))
    done = rng.binomial(STEP // VALUES, rates, (experiments, LOOKS, VALUES)).cumsum(axis=1)
    return done, assigned


def detection(alarm: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Give the share of experiments with an alarm, and the median runs until the first one."""
    found = alarm.any(axis=1)
    return float(found.mean()), float(np.median(STEP * (1.0 + alarm.argmax(axis=1)[found])))


def test_t17_two_hundred_looks_at_a_sound_assignment(simulations: Choose, record: Record) -> None:
    """A χ² test at each look raises an alarm in over 30 % of sound experiments; the e-value in under 5 %, or .1 %."""
    experiments = simulations(2000, 10_000)
    counts = np.random.default_rng(1701).multinomial(STEP, [1 / VALUES] * VALUES, (experiments, LOOKS)).cumsum(axis=1)
    naive = float((chi_squared_p(counts) < 0.05).any(axis=1).mean())
    e = sample_ratio_e_values(counts)
    for alpha, limit in LIMITS.items():
        alarms = float((e >= limit).any(axis=1).mean())
        record(
            "T17",
            f"false alarms of the sample ratio, 200 looks, alpha {alpha:g}",
            alarms,
            threshold=f"<= {alpha:g}",
            runs=experiments,
            reference=f"χ² at each look, .05: {naive:.3f}" if alpha == 0.05 else "",
        )
        assert alarms <= alpha
    assert naive >= 0.30
    np.testing.assert_array_equal(anytime_p(e)[:, -1] <= 0.05, (e >= 20).any(axis=1))


@pytest.mark.parametrize("rate", [0.99, 0.8, 0.5])
def test_t17_equal_completion_raises_no_alarm(rate: float, simulations: Choose, record: Record) -> None:
    """Where all values lose runs at the same rate, the evidence of attrition alarms in under 5 %, or .1 %."""
    experiments = simulations(1000, 5000)
    done, assigned = completed(np.random.default_rng(1702), experiments, np.full(VALUES, rate))
    e = attrition_e_values(done, assigned)
    for alpha, limit in LIMITS.items():
        alarms = float((e >= limit).any(axis=1).mean())
        figure = f"false alarms of attrition, {rate:.0%} complete, alpha {alpha:g}"
        record("T17", figure, alarms, threshold=f"<= {alpha:g}", runs=experiments)
        assert alarms <= alpha


def test_t17_a_value_that_loses_runs_is_found(simulations: Choose, record: Record) -> None:
    """If 30 % of one value of six never come, 99 % of experiments tell that shares are off, in the median by 1,000."""
    experiments = simulations(1000, 5000)
    shares = np.array([1, 1, 1, 1, 1, 0.7])
    counts = np.random.default_rng(1703).multinomial(STEP, shares / shares.sum(), (experiments, LOOKS)).cumsum(axis=1)
    found, median = detection(sample_ratio_e_values(counts) >= LIMITS[0.05])
    late, late_median = detection(sample_ratio_e_values(counts) >= LIMITS[0.001])
    record("T17", "30 % dropout of one value found, alpha .05", found, threshold=">= .99", runs=experiments)
    record(
        "T17",
        "median runs until then",
        median,
        threshold="<= 1000",
        runs=experiments,
        reference=f"alpha .001: {late_median:g}",
    )
    assert min(found, late) >= 0.99
    assert median <= 1000
    assert late_median <= 1800


@pytest.mark.parametrize(
    ("name", "rates", "most"),
    [
        ("30 % of one value", [1.0, 1, 1, 1, 1, 0.7], 600),
        ("more, the larger", [0.99, 0.98, 0.96, 0.93, 0.88, 0.8], 1000),
    ],
)
def test_t17_the_fate_of_assignments_tells_sooner(
    name: str, rates: list[float], most: float, simulations: Choose, record: Record
) -> None:
    """In blocks the completed alone tell late; together with the lost they do in less than half the time."""
    experiments = simulations(500, 5000)
    done, assigned = completed(np.random.default_rng(1705), experiments, np.array(rates))
    found, median = detection(attrition_e_values(done, assigned) >= LIMITS[0.05])
    _, alone = detection(sample_ratio_e_values(done, assigned) >= LIMITS[0.05])
    record("T17", f"attrition found, {name}, alpha .05", found, threshold=">= .99", runs=experiments)
    record(
        "T17",
        "median assignments until then",
        median,
        threshold=f"<= {most:g}",
        runs=experiments,
        reference=f"completed against assigned alone {alone:g}",
    )
    assert found >= 0.99
    assert median <= most
    assert alone > 2 * median


def test_t17_attrition_at_one_look(simulations: Choose, record: Record) -> None:
    """At one look Pearson's test of equal completion is wrong in 5 %, with as few as one lost run a value too."""
    experiments = simulations(2000, 10_000)
    for n, rate in ((200, 0.9), (50, 0.98)):
        done = np.random.default_rng(1704).binomial(n, rate, (experiments, VALUES))
        found = 0
        for row in done:
            try:
                found += attrition_test(row, np.full(VALUES, n)) < 0.05
            except NotEnoughData:
                continue
        alarms = found / experiments
        slack = 3 * (0.05 * 0.95 / experiments) ** 0.5
        record("T17", f"false alarms of attrition at one look, n={n}", alarms, threshold=".05", runs=experiments)
        assert alarms <= 0.05 + slack
