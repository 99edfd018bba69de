"""The log-histogram against exact order statistics, and its intervals against counts by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from analytics.moments import Floats
from analytics.quantiles import ACCURACY, GAMMA, LogHistogram, Range, log_evidence
from models.errors import NotEnoughData

VALUES = st.lists(st.floats(1e-3, 1e6) | st.just(0.0), max_size=40).map(lambda values: np.array(values, np.float64))


@given(VALUES, VALUES, VALUES)
def test_histograms_are_a_group(a: Floats, b: Floats, c: Floats) -> None:
    """They add in any order to the histogram of all values, and what was added comes out without a trace."""
    x, y, z = (LogHistogram.of(values) for values in (a, b, c))
    assert x + y == y + x
    assert (x + y) + z == x + (y + z) == LogHistogram.of(np.concatenate((a, b, c)))
    assert x + LogHistogram() == x
    assert (x + y) - y == x
    assert x - x == LogHistogram()


@given(VALUES.filter(len), st.floats(0.01, 0.99))
def test_every_quantile_is_within_its_accuracy(values: Floats, p: float) -> None:
    """A quantile is within 2 % of the exact order statistic."""
    exact = float(np.sort(values)[math.ceil(round(p * len(values), 9)) - 1])
    found = LogHistogram.of(values).quantile(p)
    assert abs(found - exact) <= ACCURACY * exact * (1 + 1e-9)


def test_one_value_lies_in_its_bin() -> None:
    """Edges enclose the value; powers of gamma stay within the accuracy whatever their rounding."""
    for k in range(-200, 500):
        for x in (GAMMA**k, GAMMA ** (k - 0.5)):
            assert LogHistogram.of(np.array([x])).quantile(0.5) == pytest.approx(x, rel=ACCURACY * (1 + 1e-9))


def accepted(n: int, p: float) -> list[int]:
    """List the counts k whose Beta(k + 1/2, n - k + 1/2) interval holds p."""
    inside = []
    for k in range(n + 1):
        lo = beta.ppf(0.025, k + 0.5, n - k + 0.5) if k else 0.0
        hi = beta.ppf(0.975, k + 0.5, n - k + 0.5) if k < n else 1.0
        if lo <= p <= hi:
            inside.append(k)
    return inside


def sequence_accepted(n: int, p: float) -> list[int]:
    """List the counts k whose likelihood ratio against p, integrated numerically, is below 20."""
    inside = []
    for k in range(n + 1):
        mixture = quad(lambda q, k=k: binom.pmf(k, n, q), 0, 1)[0]
        if mixture / binom.pmf(k, n, p) < 20:
            inside.append(k)
    return inside


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [7, 60])
@pytest.mark.parametrize("anytime", [False, True])
def test_intervals_are_order_statistics(n: int, p: float, *, anytime: bool) -> None:
    """The ends are the order statistics whose counts are just accepted, moved out by one bin at most."""
    values = np.sort(np.exp(np.random.default_rng(n).normal(0, 1.2, n)))
    histogram = LogHistogram.of(values)
    found = histogram.sequence(p) if anytime else histogram.interval(p)
    counts = sequence_accepted(n, p) if anytime else accepted(n, p)
    lo = values[counts[0] - 1] if counts[0] else 0.0
    hi = values[counts[-1]] if counts[-1] < n else math.inf
    assert lo / GAMMA * (1 - 1e-9) <= found.lo <= lo
    assert hi <= found.hi <= hi * GAMMA * (1 + 1e-9)
    assert found.value == histogram.quantile(p)


def test_an_interval_for_every_look_is_wider() -> None:
    """The confidence sequence holds the interval of one look, and shrinks with more runs."""
    values = np.exp(np.random.default_rng(3).normal(0, 1.2, 20_000))
    some, many = LogHistogram.of(values[:400]), LogHistogram.of(values)
    for p in (0.5, 0.9):
        once, always = some.interval(p), some.sequence(p)
        assert always.lo <= once.lo < once.hi <= always.hi
        assert many.sequence(p).hi / many.sequence(p).lo < always.hi / always.lo


def test_evidence_is_the_integrated_likelihood_ratio() -> None:
    """The log of ∫ q^k (1-q)^(n-k) dq over p^k (1-p)^(n-k), by numerical integration."""
    for k, n, p in ((0, 5, 0.3), (4, 9, 0.5), (9, 9, 0.9)):
        mixture = quad(lambda q, k=k, n=n: q**k * (1 - q) ** (n - k), 0, 1)[0]
        expected = math.log(mixture / (p**k * (1 - p) ** (n - k)))
        assert float(log_evidence(k, n, p)) == pytest.approx(expected, abs=1e-10)


def test_zeros_count_as_zero() -> None:
    """Free runs have a quantile of exactly 0, and it bounds the interval from below."""
    histogram = LogHistogram.of(np.array([0.0] * 60 + [1.0] * 40))
    assert histogram.n == 100
    assert histogram.quantile(0.5) == 0
    assert histogram.quantile(0.9) == pytest.approx(1, rel=ACCURACY * (1 + 1e-9))
    assert LogHistogram.of(np.zeros(300)).interval(0.5) == Range(0.0, 0.0, 0.0)
    assert histogram.interval(0.5).lo == 0


def test_what_has_no_quantile_is_told() -> None:
    """No runs, a share outside (0, 1), a negative value, more taken out than is in."""
    with pytest.raises(NotEnoughData, match="there are 0 runs"):
        LogHistogram().quantile(0.5)
    with pytest.raises(NotEnoughData, match="0 < p < 1"):
        LogHistogram.of(np.ones(3)).interval(1.0)
    with pytest.raises(NotEnoughData, match="finite values from 0 on"):
        LogHistogram.of(np.array([1.0, -1.0]))
    with pytest.raises(NotEnoughData, match="finite values from 0 on"):
        LogHistogram.of(np.array([1.0, math.nan]))
    with pytest.raises(NotEnoughData, match="take out only what is in"):
        LogHistogram.of(np.ones(2)) - LogHistogram.of(np.ones(3))
