"""Confidence sequences and e-values, against the equations' published figures, brute force and each other."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from analytics.confidence_sequences import (
    anytime_p,
    confidence_sequence,
    e_value,
    geometric_mean_sequence,
    proportion_e_value,
    proportion_sequence,
    tuned_information,
    tuning,
)
from models.errors import NotEnoughData


def test_the_width_is_the_published_multiple_of_the_standard_error() -> None:
    """At shares of the tuned information from .05 to 10 the half-width is 4.72 to 3.24 standard errors."""
    shares = np.array([0.05, 0.1, 0.25, 0.5, 1, 2, 4, 10])
    lo, hi = confidence_sequence(5.0, 1.0, 1 / shares)
    np.testing.assert_allclose((hi - lo) / 2, [4.72, 3.86, 3.26, 3.08, 3.03, 3.06, 3.13, 3.24], atol=0.006)
    np.testing.assert_allclose((hi + lo) / 2, np.full(8, 5.0))
    assert tuning(0.05) == pytest.approx(7.937, abs=1e-3)


def test_the_sequence_is_tightest_near_its_tuned_information() -> None:
    """No other mixture ratio gives a multiple that is more than 0.1 % smaller than that at I = I*."""
    best = optimize.minimize_scalar(lambda log: float(confidence_sequence(0.0, 1.0, np.exp(log))[1]), bounds=(-3, 3))
    assert float(confidence_sequence(0.0, 1.0, 1.0)[1]) == pytest.approx(best.fun, rel=1e-3)


def test_the_e_value_is_a_likelihood_averaged_over_a_normal_prior() -> None:
    """Numerical integration of the likelihood ratio over effects of variance r SE² gives the same evidence."""
    se, tuned, z = 0.3, 4.0, 1.7
    r = tuning() / (se * se * tuned)

    def ratio(effect: float) -> float:
        return float(np.exp(z * effect - effect**2 / 2) * stats.norm.pdf(effect, 0, np.sqrt(r)))

    expected = integrate.quad(ratio, -60, 60, points=[0.0])[0]
    assert float(e_value(2 + z * se, se, tuned, null=2.0)) == pytest.approx(expected, rel=1e-8)


def test_the_e_value_reaches_its_limit_where_the_null_leaves_the_sequence() -> None:
    """At an end of the interval e is 1/alpha, for any error, information and level."""
    rng = np.random.default_rng(1)
    estimate, se, tuned = rng.normal(size=50), rng.uniform(0.01, 5, 50), rng.uniform(0.01, 100, 50)
    for alpha in (0.05, 0.01):
        _, hi = confidence_sequence(estimate, se, tuned, alpha)
        rows = zip(estimate.tolist(), se.tolist(), tuned.tolist(), hi.tolist(), strict=True)
        e = [float(e_value(m, s, i, null=h, alpha=alpha)) for m, s, i, h in rows]
        np.testing.assert_allclose(np.array(e), 1 / alpha, rtol=1e-9)


def test_evidence_stays_a_finite_number() -> None:
    """A hundred standard errors give exp(300), not infinity; none gives less than 1."""
    assert float(e_value(100.0, 1.0, 1.0)) == np.exp(300)
    assert 0 < float(e_value(0.0, 1.0, 1e-9)) < 1


def test_the_anytime_p_never_rises() -> None:
    """It is one over the largest evidence so far, and at most 1."""
    e = np.array([[0.5, 4.0, 2.0, 40.0, 1.0], [0.1, 0.2, 0.3, 0.2, 0.1]])
    np.testing.assert_allclose(anytime_p(e), np.array([[1, 0.25, 0.25, 0.025, 0.025], [1, 1, 1, 1, 1]]))


def test_the_information_at_another_size_is_in_proportion() -> None:
    """An error of 0.2 at 100 runs foretells 0.1 at 400."""
    assert float(tuned_information(100, 0.2, 400)) == pytest.approx(1 / 0.1**2)


def test_the_ends_of_a_proportions_sequence_are_where_its_e_value_is_at_the_limit() -> None:
    """Brute force over a grid of rates, from one run to 100,000, with none, some and all successes."""
    k = np.array([0.0, 1, 0, 7, 30, 190, 99_990])
    n = np.array([1.0, 1, 20, 20, 30, 200, 100_000])
    lo, hi = proportion_sequence(k, n)
    assert (lo <= k / n).all()
    assert (hi >= k / n).all()
    for successes, runs, low, high in zip(k.tolist(), n.tolist(), lo.tolist(), hi.tolist(), strict=True):
        rates = np.linspace(max(0.0, 2 * low - high), min(1.0, 2 * high - low), 20_001)[1:-1]
        kept = rates[proportion_e_value(successes, runs, rates) < 20]
        step = rates[1] - rates[0]
        assert low == pytest.approx(kept[0], abs=1.01 * step)
        assert high == pytest.approx(kept[-1], abs=1.01 * step)
    inner = (lo > 0) & (hi < 1)
    assert inner.sum() == 3
    np.testing.assert_allclose(proportion_e_value(k, n, lo)[inner], 20.0, rtol=1e-6)
    np.testing.assert_allclose(proportion_e_value(k, n, hi)[inner], 20.0, rtol=1e-6)


def test_the_evidence_against_a_rate_is_exactly_one_on_average() -> None:
    """Summed over all outcomes of n runs: the sequence needs no large numbers."""
    for n, p in ((1, 0.3), (17, 0.95), (60, 0.02)):
        k = np.arange(n + 1.0)
        assert float(stats.binom.pmf(k, n, p) @ proportion_e_value(k, n, p)) == pytest.approx(1, rel=1e-9)


def test_no_runs_leave_every_rate_possible() -> None:
    """The sequence starts as (0, 1), and at 190 of 200 it is .11 wide, Wilson's interval .06."""
    lo, hi = proportion_sequence(0, 0)
    assert (float(lo), float(hi)) == (0.0, 1.0)
    lo, hi = proportion_sequence(190, 200)
    assert float(hi - lo) == pytest.approx(0.110, abs=0.003)


def test_the_sequence_of_a_geometric_mean_is_that_of_the_logarithms() -> None:
    """Moments of ln t of raw times give exp of the sequence of their mean, tightest at the wanted size."""
    t = np.random.default_rng(4).lognormal(3, 1, 400)
    logs = np.log(t)
    lo, hi = geometric_mean_sequence(400, logs.mean(), ((logs - logs.mean()) ** 2).sum(), 400)
    multiple = (np.log(float(hi)) - np.log(float(lo))) / 2 / stats.sem(logs)
    assert np.sqrt(float(lo) * float(hi)) == pytest.approx(stats.gmean(t))
    assert multiple == pytest.approx(3.035, abs=0.001)


def test_what_cannot_be_judged_is_said() -> None:
    """No error, no tuned information, too few times, or more successes than runs are NotEnoughData."""
    with pytest.raises(NotEnoughData, match="standard error above 0"):
        confidence_sequence(1.0, np.array([1.0, 0.0]), 1.0)
    with pytest.raises(NotEnoughData, match="standard error above 0"):
        e_value(1.0, np.nan, 1.0)
    with pytest.raises(NotEnoughData, match="tuned information"):
        e_value(1.0, 1.0, 0.0)
    with pytest.raises(NotEnoughData, match="at least 10 runs, there are 9"):
        geometric_mean_sequence(9, 1.0, 1.0, 100)
    with pytest.raises(NotEnoughData, match="successes <= runs"):
        proportion_sequence(3, 2)
