"""T28: quantiles of log-normal times: accuracy, exact merging, and intervals that hold at every look."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import betaincinv, ndtri

from analytics.moments import Floats
from analytics.quantiles import ACCURACY, LogHistogram, log_evidence

pytestmark = pytest.mark.statistics

SD = 1.2
SHARES = (0.5, 0.9)
BURN_IN = 30
LENGTH = 2000


def test_quantiles_are_accurate(record: Callable[..., None]) -> None:
    """Every percentile of 100,000 values in 500 buckets is within 2 % of the exact one."""
    values = np.exp(np.random.default_rng(17).normal(0, SD, (500, 200)))
    merged = LogHistogram()
    for bucket in values:
        merged += LogHistogram.of(bucket)
    shares = np.arange(1, 1000) / 1000
    exact = np.quantile(values, shares, method="inverted_cdf")
    error = float(np.abs([merged.quantile(p) for p in shares.tolist()] / exact - 1).max())
    record("T28", "largest relative error of a quantile", error, threshold="<= .02", runs=len(shares))
    assert error <= ACCURACY * (1 + 1e-9)


def test_merging_is_undone_exactly(record: Callable[..., None]) -> None:
    """Buckets merged in any order are the same histogram; taken out in another, nothing is left."""
    rng = np.random.default_rng(18)
    buckets = [LogHistogram.of(np.exp(rng.normal(0, SD, 200))) for _ in range(300)]
    merged = [LogHistogram(), LogHistogram()]
    for place in range(2):
        for bucket in rng.permutation(len(buckets)):
            merged[place] += buckets[bucket]
    assert merged[0] == merged[1]
    left = merged[0]
    for bucket in rng.permutation(len(buckets)):
        left -= buckets[bucket]
    record("T28", "runs left after all are taken out", left.n, threshold="0", runs=len(buckets))
    assert left == LogHistogram()


def counts(runs: int, p: float, seed: int) -> Floats:
    """Count the values up to the true quantile after each run. Shape [runs, LENGTH]."""
    values = np.random.default_rng(seed).normal(0, SD, (runs, LENGTH))
    return np.cumsum(values <= SD * ndtri(p), axis=1).astype(np.float64)


@pytest.mark.parametrize("p", SHARES)
def test_sequence_holds_at_every_look(
    p: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Looking after every run, the true quantile is ever excluded in at most 5.5 % of sequences.

    The interval made for one look excludes it in most.
    """
    runs = simulations(400, 2000)
    below, n = counts(runs, p, 28), np.arange(1.0, LENGTH + 1)
    missed = float((log_evidence(below, n, p) >= np.log(20)).any(axis=1).mean())
    looks = slice(BURN_IN - 1, None, 10)
    k, size = below[:, looks], n[looks]
    # Distinct (k, n) only: the incomplete beta function is slow.
    pairs, place = np.unique(np.stack((k.ravel(), np.tile(size, runs))), axis=1, return_inverse=True)
    lower = betaincinv(pairs[0] + 0.5, pairs[1] - pairs[0] + 0.5, 0.025)
    upper = betaincinv(pairs[0] + 0.5, pairs[1] - pairs[0] + 0.5, 0.975)
    naive = float(((lower > p) | (upper < p))[place].reshape(k.shape).any(axis=1).mean())
    record(
        "T28",
        f"confidence sequence ever misses the quantile {p}",
        missed,
        threshold="<= .055",
        runs=runs,
        reference=f"one-look interval {naive:.2f}",
    )
    assert missed <= 0.055 + (0 if runs >= 2000 else 3 * (0.05 * 0.95 / runs) ** 0.5)
    assert naive > 0.25


@pytest.mark.parametrize("p", SHARES)
def test_histogram_intervals_hold_the_quantile(
    p: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """From the histogram itself: the interval for one look covers; the sequence misses at hardly any of 20 looks."""
    runs = simulations(100, 1000)
    rng = np.random.default_rng(29)
    truth = float(np.exp(SD * ndtri(p)))
    once, ever = 0, 0
    for _ in range(runs):
        histogram, missed = LogHistogram(), False
        for _ in range(20):
            histogram += LogHistogram.of(np.exp(rng.normal(0, SD, 40)))
            sequence = histogram.sequence(p)
            missed |= not sequence.lo <= truth <= sequence.hi
        interval = histogram.interval(p)
        once += interval.lo <= truth <= interval.hi
        ever += missed
    record("T28", f"one-look coverage of the quantile {p}, n=800", once / runs, threshold=">= .93", runs=runs)
    assert once / runs >= min(0.93, 0.95 - 3 * (0.95 * 0.05 / runs) ** 0.5)
    assert ever / runs <= 0.055
