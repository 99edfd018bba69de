"""The sample ratio: evidence at any look against scipy's distributions, and attrition against statsmodels."""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportions_chisquare

from analytics.moments import Floats
from analytics.sample_ratio import (
    attrition_e_value,
    attrition_e_values,
    attrition_test,
    sample_ratio_e_value,
    sample_ratio_e_values,
)
from models.errors import NotEnoughData

PLAN = np.array([0.2, 0.5, 0.3])


@pytest.mark.parametrize("counts", [[0, 0, 0], [3, 0, 1], [40, 90, 61], [900, 2400, 1700]])
@pytest.mark.parametrize("concentration", [1.0, 300.0])
def test_the_evidence_is_a_ratio_of_two_distributions(counts: list[int], concentration: float) -> None:
    """It is the Dirichlet-multinomial probability of the counts over the multinomial one, both from scipy."""
    n = np.array(counts)
    log = stats.dirichlet_multinomial.logpmf(n, concentration * PLAN, n.sum())
    expected = np.exp(log - stats.multinomial.logpmf(n, n.sum(), PLAN))
    assert sample_ratio_e_value(n, PLAN, concentration) == pytest.approx(expected, rel=1e-8)


def test_its_expectation_is_one() -> None:
    """Over all sequences of five runs that the plan can bring, evidence is 1 in the mean."""
    total = 0.0
    for sequence in product(range(3), repeat=5):
        counts = np.bincount(sequence, minlength=3)
        total += float(np.prod(PLAN[list(sequence)])) * sample_ratio_e_value(counts, PLAN, 2.0)
    assert total == pytest.approx(1, rel=1e-12)


def test_shares_are_equal_where_none_are_given_and_need_not_add_up_to_one() -> None:
    """Counts of assignments serve as shares."""
    counts = np.array([30, 41, 19])
    assert sample_ratio_e_value(counts) == pytest.approx(sample_ratio_e_value(counts, np.full(3, 1 / 3)), rel=1e-12)
    assert sample_ratio_e_value(counts, 70 * PLAN) == pytest.approx(sample_ratio_e_value(counts, PLAN), rel=1e-12)


def test_many_looks_are_each_look() -> None:
    """Counts and shares of many looks, or of many experiments, give what each gives alone."""
    rng = np.random.default_rng(3)
    counts = rng.multinomial(50, PLAN, (4, 6)).cumsum(axis=1)
    assigned = counts + rng.integers(0, 20, counts.shape)
    together = sample_ratio_e_values(counts, assigned)
    alone = [[sample_ratio_e_value(c, a) for c, a in zip(*rows, strict=True)] for rows in zip(counts, assigned)]  # noqa: B905
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_evidence_is_held_within_bounds() -> None:
    """Ten thousand runs of one value give exp(300); as many as planned give less than 1."""
    assert sample_ratio_e_value(np.array([10_000, 0, 0]), PLAN) == np.exp(300)
    assert 0 < sample_ratio_e_value(np.array([2000, 5000, 3000]), PLAN) < 1


def test_a_value_without_a_share_must_have_no_run() -> None:
    """It says nothing while it has none, and everything once it has one."""
    two = sample_ratio_e_value(np.array([30, 50]), np.array([0.4, 0.6]))
    assert sample_ratio_e_value(np.array([30, 0, 50]), np.array([0.4, 0, 0.6])) == pytest.approx(two, rel=1e-12)
    assert sample_ratio_e_value(np.array([30, 1, 50]), np.array([0.4, 0, 0.6])) == np.exp(300)


@pytest.mark.parametrize(
    ("counts", "shares"), [([3, -1], [0.5, 0.5]), ([3, 1], [0.0, 0.0]), ([3, 1], [1.5, -0.5]), ([3, 1], [np.nan, 1])]
)
def test_what_is_no_ratio_is_refused(counts: list[float], shares: list[float]) -> None:
    """A negative count or share, no share at all, or one that is no number has no evidence."""
    with pytest.raises(NotEnoughData, match="sample ratio"):
        sample_ratio_e_value(np.array(counts, np.float64), np.array(shares, np.float64))


def test_evidence_of_attrition_has_expectation_one() -> None:
    """Over all fates of four assignments that do not depend on the value, it is 1 in the mean, whatever the rate."""
    total = 0.0
    for values in product(range(3), repeat=4):
        for fates in product((False, True), repeat=4):
            counts = [
                np.bincount([v for v, f in zip(values, fates, strict=True) if f is way], minlength=3)
                for way in (False, True)
            ]
            e = [sample_ratio_e_value(part, PLAN, 2.0) for part in counts]
            total += float(np.prod(PLAN[list(values)])) * 0.8 ** sum(fates) * 0.2 ** (4 - sum(fates)) * e[0] * e[1]
    assert total == pytest.approx(1, rel=1e-12)


def test_evidence_of_attrition_is_that_of_both_fates() -> None:
    """It multiplies what the completed and what the lost say, at each look, within the same bounds."""
    assigned = np.array([[20, 20, 20], [40, 41, 40]])
    completed = np.array([[19, 20, 15], [38, 41, 26]])
    both = sample_ratio_e_values(completed, assigned) * sample_ratio_e_values(assigned - completed, assigned)
    np.testing.assert_allclose(attrition_e_values(completed, assigned), both, rtol=1e-12)
    assert attrition_e_value(completed[1], assigned[1]) == pytest.approx(both[1], rel=1e-12)
    assert attrition_e_value(np.array([5000, 0]), np.array([5000, 5000])) == np.exp(300)
    with pytest.raises(NotEnoughData, match="count each run once"):
        attrition_e_value(np.array([5, 3]), np.array([4, 4]))
    with pytest.raises(NotEnoughData, match="count assignments first"):
        attrition_e_value(np.zeros(2), np.zeros(2))


@pytest.mark.parametrize("completed", [[90, 80], [190, 180, 185, 140], [1, 0, 3]])
def test_attrition_equals_statsmodels(completed: list[int]) -> None:
    """The p is that of statsmodels' test of equal proportions; a value without assignments changes nothing."""
    assigned = np.array([100, 95, 200, 190][: len(completed)]) + 100 * (len(completed) == 4)
    done = np.array(completed, np.float64)
    expected = proportions_chisquare(done, assigned)[1]
    assert attrition_test(done, assigned) == pytest.approx(expected, rel=1e-9)
    with_unused = attrition_test(np.append(done, 0), np.append(assigned, 0))
    assert with_unused == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("completed", "assigned", "reason"),
    [
        ([5.0, 0.0], [9.0, 0.0], "there are 1"),
        ([9.0, 8.0], [9.0, 8.0], "all of 17"),
        ([0.0, 0.0], [9.0, 8.0], "none of 17"),
        ([9.0, 10.0], [9.0, 9.0], "count each run once"),
    ],
)
def test_attrition_that_cannot_be_compared_is_told(completed: Floats, assigned: Floats, reason: str) -> None:
    """One value, nothing lost, nothing completed, or a run too many has a reason instead of a p."""
    with pytest.raises(NotEnoughData, match=reason):
        attrition_test(np.array(completed), np.array(assigned))
