"""One-sided evidence against numerical integration, simulation, and its own inverse."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from analytics.confidence_sequences import confidence_sequence, tuning
from analytics.one_sided import lower_sequence, one_sided_e_value
from models.errors import NotEnoughData


@pytest.mark.parametrize("z", [-2.0, 0.0, 1.0, 3.5])
@pytest.mark.parametrize("information", [0.2, 1.0, 6.0])
def test_the_e_value_is_a_likelihood_ratio_averaged_over_a_half_normal(z: float, information: float) -> None:
    """Integrating the normal likelihood ratio over effects above the null gives the closed form."""
    se, tuned = 1 / math.sqrt(information), 1.0
    spread = math.sqrt(tuning(0.05) / tuned)

    def integrand(effect: float) -> float:
        return float(2 * stats.norm.pdf(effect, 0, spread) * math.exp(effect * z / se - effect**2 / (2 * se**2)))

    expected, _ = quad(integrand, 0, 30 * spread)
    found = float(one_sided_e_value(0.3 + z * se, se, tuned, null=0.3))
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_end_of_the_sequence_is_where_the_evidence_is_one_over_alpha() -> None:
    """Testing the lower end itself gives e = 20, at any information; arrays broadcast."""
    se = np.array([2.0, 1.0, 0.3])
    lower = lower_sequence(np.array([0.1, 0.5, -0.2]), se, 1.0)
    for end, estimate, error in zip(lower, (0.1, 0.5, -0.2), se, strict=True):
        assert float(one_sided_e_value(estimate, error, 1.0, null=float(end))) == pytest.approx(20, rel=1e-6)


def test_one_direction_takes_less_than_two() -> None:
    """At the planned size 2.77 standard errors instead of 3.04."""
    both = float(confidence_sequence(0.0, 1.0, 1.0)[1])
    assert -float(lower_sequence(0.0, 1.0, 1.0)) == pytest.approx(2.768, abs=0.001)
    assert both == pytest.approx(3.035, abs=0.001)


def test_evidence_is_rare_at_the_edge_of_the_hypothesis_and_below_it() -> None:
    """Over 200 looks at a mean that is exactly the null, or less, 1/alpha is passed in at most 5 %."""
    rng = np.random.default_rng(4)
    n = np.arange(1, 201) * 10
    for truth in (0.0, -0.05):
        sums = np.cumsum(rng.normal(truth * 10, math.sqrt(10), (2000, 200)), axis=1)
        evidence = one_sided_e_value(sums / n, 1 / np.sqrt(n), 1000.0)
        assert np.mean(evidence.max(axis=1) >= 20) <= 0.05


def test_evidence_stays_finite_and_is_small_on_the_wrong_side() -> None:
    """Far above the null it is held, far below it is nearly none."""
    assert np.isfinite(one_sided_e_value(1e3, 1.0, 1.0))
    assert float(one_sided_e_value(-1e3, 1.0, 1.0)) < 1e-2


@pytest.mark.parametrize(("se", "tuned"), [(0.0, 1.0), (1.0, 0.0)])
def test_without_an_error_there_is_no_evidence(se: float, tuned: float) -> None:
    """A standard error or information of zero is a sign of too few runs."""
    with pytest.raises(NotEnoughData, match="above 0"):
        one_sided_e_value(1.0, se, tuned)
