"""T29: what the best of six values is said to gain, on a truth where it gains nothing and where it gains something."""

from collections.abc import Callable

import numpy as np
import pytest

from analytics.promise import Promise, promise

pytestmark = pytest.mark.statistics

VALUES = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


def draw(truth: np.ndarray, each: int, runs: int) -> list[Promise]:
    """Promise from success counts at six values."""
    rng = np.random.default_rng([29, each])
    counts = np.full(6, float(each))
    rates = rng.binomial(each, truth, (runs, 6)) / each
    return [promise(VALUES, counts, rate, each * rate * (1 - rate), 1.0) for rate in rates]


@pytest.mark.parametrize(("each", "bound", "raw"), [(30, 0.03, 0.08), (100, 0.015, 0.045)])
def test_nothing_is_promised_where_nothing_is_gained(
    each: int, bound: float, raw: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T29: on a flat truth the published gain is a fifth of the raw one."""
    runs = simulations(600, 2000)
    found = draw(np.full(6, 0.4), each, runs)
    shrunk, unshrunk = np.mean([one.gain.estimate for one in found]), np.mean([one.raw for one in found])
    record(
        "T29",
        f"promised gain on a flat truth, n={each}",
        shrunk,
        threshold=f"<= {bound}",
        runs=runs,
        reference=f"best of six raw means {unshrunk:.3f}",
    )
    assert shrunk <= bound
    assert unshrunk > raw


def test_a_real_gain_is_promised_without_exaggeration(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """On a saturating truth the raw promise exceeds what the choice brings, the shrunk one does not, but is near."""
    runs = simulations(400, 2000)
    truth = 0.25 + 0.45 * (1 - np.exp(-VALUES / 2.5))
    found = draw(truth, 100, runs)
    brought = np.array([truth[one.best == VALUES][0] - truth[0] for one in found])
    over, raw_over = (
        np.mean(np.array(said) - brought) for said in ([one.gain.estimate for one in found], [one.raw for one in found])
    )
    record(
        "T29",
        "promised less realised gain, saturating truth, n=100",
        over,
        threshold="[-.04, 0]",
        runs=runs,
        reference=f"best of six raw means {raw_over:+.3f}",
    )
    assert -0.04 <= over <= 0
    assert raw_over > 0.02
    assert np.mean([one.no_difference for one in found]) < 0.05


def test_a_law_as_target_keeps_its_own_optimism(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """On a flat truth a fitted line on ln x promises more than twice what the common mean does: it is no default."""
    runs, each = simulations(300, 2000), 30
    rng = np.random.default_rng(291)
    design, counts = np.column_stack((np.ones(6), np.log(VALUES))), np.full(6, float(each))
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    towards_line, towards_mean = [], []
    for rate in rng.binomial(each, 0.4, (runs, 6)) / each:
        m2 = each * rate * (1 - rate)
        line = promise(VALUES, counts, rate, m2, 1.0, law=hat @ rate, law_covariance=hat * float(m2.mean()) / each**2)
        towards_line.append(line.gain.estimate)
        towards_mean.append(promise(VALUES, counts, rate, m2, 1.0).gain.estimate)
    record(
        "T29",
        "promised gain on a flat truth, n=30, towards the common mean",
        np.mean(towards_mean),
        threshold="<= .03",
        runs=runs,
        reference=f"towards a line on ln x {np.mean(towards_line):.3f}",
    )
    assert np.mean(towards_mean) <= 0.03
    assert np.mean(towards_line) > 2 * np.mean(towards_mean)
