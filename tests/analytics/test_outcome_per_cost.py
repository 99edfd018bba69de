"""Outcome per cost against the delta method written out on raw runs, the jackknife, and the formulas of plans."""

import math

import numpy as np
import pytest
from scipy import stats

from analytics.confidence_sequences import confidence_sequence, e_value
from analytics.moments import Floats, Ints
from analytics.one_sided import lower_sequence, one_sided_e_value
from analytics.outcome_per_cost import Arm, Plan, ln_gain, ln_ratio, look, outcome_difference, planned
from models.errors import NotEnoughData

STRATA = 4


def runs(seed: int, size: int = 900, rate: float = 0.5, dearer: float = 1.0) -> tuple[Floats, Floats, Ints]:
    """Draw success, cost and stratum, harder strata failing more and costing more."""
    rng = np.random.default_rng(seed)
    stratum = rng.integers(STRATA, size=size)
    y = (rng.random(size) < rate - 0.1 * stratum).astype(np.float64)
    return y, dearer * (1 + 0.4 * stratum - 0.2 * y) * rng.lognormal(0, 0.5, size), stratum


def test_moments_are_those_of_the_runs() -> None:
    """Means and sums of products by stratum agree with numpy on the raw runs; an empty stratum has none."""
    y, c, stratum = runs(1)
    arm = Arm.of(y, c, stratum, STRATA + 1)
    for place in range(STRATA):
        here = stratum == place
        covariance = np.cov(y[here], c[here], ddof=0) * here.sum()
        np.testing.assert_allclose(arm.mean[place], [y[here].mean(), c[here].mean()])
        np.testing.assert_allclose(arm.comoment[place], [covariance[0, 0], covariance[0, 1], covariance[1, 1]])
    assert (arm.n[STRATA], arm.runs) == (0, 900)
    np.testing.assert_array_equal(arm.comoment[STRATA], 0)


def test_arms_add_up_and_strata_join_as_if_reduced_at_once() -> None:
    """Halves that are added, and strata that are joined, have the moments of all their runs."""
    y, c, stratum = runs(2)
    whole = Arm.of(y, c, stratum, STRATA)
    added = Arm.of(y[:300], c[:300], stratum[:300], STRATA) + Arm.of(y[300:], c[300:], stratum[300:], STRATA)
    groups = np.array([0, 0, 1, 1])
    for found, expected in (
        (added, whole),
        (whole.joined(groups), Arm.of(y, c, groups[stratum], 2)),
        (whole.pooled, Arm.of(y, c)),
    ):
        np.testing.assert_allclose(found.n, expected.n)
        np.testing.assert_allclose(found.mean, expected.mean)
        np.testing.assert_allclose(found.comoment, expected.comoment)


def test_the_error_of_a_ratio_is_that_of_the_delta_method_and_of_the_jackknife() -> None:
    """The logarithm and its standard error agree with the linearised runs, and with leaving each run out."""
    y, c, _ = runs(3)
    found = ln_ratio(Arm.of(y, c))
    linear = y / y.mean() - c / c.mean()
    assert found.estimate == pytest.approx(math.log(y.sum() / c.sum()))
    assert found.se == pytest.approx(math.sqrt(linear.var(ddof=1) / len(y)))
    left_out = np.log((y.sum() - y) / (c.sum() - c))
    jackknife = math.sqrt((len(y) - 1) / len(y) * ((left_out - left_out.mean()) ** 2).sum())
    assert found.se == pytest.approx(jackknife, rel=0.01)
    assert (found.lo, found.hi) == pytest.approx(stats.norm.interval(0.95, found.estimate, found.se))


def test_without_strata_a_gain_is_the_difference_of_two_ratios() -> None:
    """Errors of independent arms add in squares."""
    one, over = Arm.of(*runs(4)[:2]), Arm.of(*runs(5, rate=0.4)[:2])
    found, left, right = ln_gain(one, over), ln_ratio(one), ln_ratio(over)
    assert found.estimate == pytest.approx(left.estimate - right.estimate)
    assert found.se == pytest.approx(math.hypot(left.se, right.se))


def test_post_stratified_estimates_weigh_both_arms_alike() -> None:
    """Gain and difference agree with the formulas written out stratum by stratum on the raw runs."""
    raw = runs(6), runs(7, size=700, rate=0.45, dearer=1.2)
    arms = [Arm.of(*each, STRATA) for each in raw]
    stratum = np.concatenate([each[2] for each in raw])
    share = np.bincount(stratum) / len(stratum)
    means: list[tuple[float, float]] = []
    parts: list[list[tuple[float, float]]] = []
    of_gain, of_difference = 0.0, 0.0
    for y, c, place in raw:
        by = [(y[place == k], c[place == k]) for k in range(STRATA)]
        y_bar, c_bar = (float(share @ [part[axis].mean() for part in by]) for axis in (0, 1))
        means.append((y_bar, c_bar))
        parts.append([(float(part[0].mean()), float(part[1].mean())) for part in by])
        of_gain += sum(
            w**2 * (part[0] / y_bar - part[1] / c_bar).var(ddof=1) / len(part[0])
            for w, part in zip(share, by, strict=True)
        )
        for w, (part, _) in zip(share, by, strict=True):
            n, k = len(part), part.sum()
            of_difference += w**2 * (k + 0.5) * (n - k + 0.5) / (n + 1) ** 2 / n
    h = [
        (a[0] / means[0][0] - a[1] / means[0][1]) - (b[0] / means[1][0] - b[1] / means[1][1])
        for a, b in zip(*parts, strict=True)
    ]
    d = [a[0] - b[0] for a, b in zip(*parts, strict=True)]
    gain, difference = ln_gain(arms[0], arms[1]), outcome_difference(arms[0], arms[1])
    of_gain += float(share @ np.square(h)) / len(stratum)
    of_difference += float(share @ np.square(d - share @ d)) / len(stratum)
    assert gain.estimate == pytest.approx(math.log(means[0][0] * means[1][1] / (means[0][1] * means[1][0])))
    assert gain.se == pytest.approx(math.sqrt(of_gain))
    assert difference.estimate == pytest.approx(means[0][0] - means[1][0])
    assert difference.se == pytest.approx(math.sqrt(of_difference))


def test_strata_with_few_runs_are_joined_with_the_next() -> None:
    """An estimate with a nearly empty stratum is that with the stratum joined to its neighbour."""
    y, c, stratum = runs(8)
    thin = np.flatnonzero(stratum == 1)[3:]
    kept = np.setdiff1d(np.arange(len(y)), thin)
    over = Arm.of(*runs(9), STRATA)
    sparse = Arm.of(y[kept], c[kept], stratum[kept], STRATA)
    groups = np.array([0, 1, 1, 2])
    assert ln_gain(sparse, over) == ln_gain(sparse.joined(groups), over.joined(groups))
    last = Arm.of(y[stratum < 3], c[stratum < 3], stratum[stratum < 3], STRATA)
    assert ln_gain(last, over) == ln_gain(last.joined(np.array([0, 1, 2, 2])), over.joined(np.array([0, 1, 2, 2])))


@pytest.mark.parametrize(
    ("y", "reason"), [(np.zeros(20), "means above 0"), (np.ones(1), "2 runs in each arm")], ids=["failures", "one run"]
)
def test_a_ratio_needs_outcomes_and_runs(y: Floats, reason: str) -> None:
    """Where all fail, or one run is there, ln R is not known."""
    with pytest.raises(NotEnoughData, match=reason):
        ln_ratio(Arm.of(y, np.linspace(1, 2, len(y))))


PLAN = Plan(
    runs_per_arm=1000, gain_information=300.0, difference_information=2000.0, margin=0.02, alpha=0.05, least_runs=100
)


def test_a_look_gives_the_sequences_of_both_estimates() -> None:
    """Ends and evidence are those of the two sequences, tuned to the plan."""
    one, over = Arm.of(*runs(10, 2000, 0.55), STRATA), Arm.of(*runs(11, 2000, 0.45), STRATA)
    found, gain, difference = look(one, over, PLAN), ln_gain(one, over), outcome_difference(one, over)
    lo, hi = confidence_sequence(gain.estimate, gain.se, 300.0)
    assert (found.gain_lo, found.gain_hi) == (float(lo), float(hi))
    assert found.gain_e == float(e_value(gain.estimate, gain.se, 300.0))
    assert found.difference_lo == float(lower_sequence(difference.estimate, difference.se, 2000.0))
    assert found.non_inferior_e == float(one_sided_e_value(difference.estimate, difference.se, 2000.0, null=-0.02))
    assert found.inferior_e == float(one_sided_e_value(-difference.estimate, difference.se, 2000.0, null=0.02))
    assert (found.better, found.worse, found.runs) == (True, False, (2000, 2000))


def test_a_gain_that_was_bought_with_success_is_not_better() -> None:
    """An arm that spends a fifth and loses two of five successes has three times the ratio, and is worse."""
    cheap, over = Arm.of(*runs(12, 4000, 0.40, 0.2), STRATA), Arm.of(*runs(13, 4000, 0.55), STRATA)
    found = look(cheap, over, PLAN)
    assert found.gain_lo > math.log(2.5)
    assert (found.better, found.worse) == (False, True)


def test_a_loss_of_outcome_per_cost_is_worse() -> None:
    """At equal success twice the price is a loss."""
    dear, over = Arm.of(*runs(14, 3000, 0.5, 2.0), STRATA), Arm.of(*runs(15, 3000, 0.5), STRATA)
    found = look(dear, over, PLAN)
    assert found.gain_hi < 0
    assert (found.better, found.worse) == (False, True)


def test_what_was_shown_at_a_look_stays_shown() -> None:
    """Sequences are intersected and evidence is the most so far, unless two looks exclude each other."""
    one, over = Arm.of(*runs(10, 2000, 0.55), STRATA), Arm.of(*runs(11, 2000, 0.45), STRATA)
    first = look(one, over, PLAN)
    second = look(one + Arm.of(*runs(16, 300, 0.1), STRATA), over, PLAN, first)
    assert second.gain_lo >= first.gain_lo
    assert second.gain_hi <= first.gain_hi
    assert second.better
    assert second.gain_e >= first.gain_e
    contrary = look(over, one, PLAN, first)
    assert contrary.gain_hi < 0


def test_a_look_waits_for_its_least_runs() -> None:
    """Before, ratios are not near enough to normal."""
    with pytest.raises(NotEnoughData, match="needs 100 runs in each arm, one has 99"):
        look(Arm.of(*runs(17, 99)[:2]), Arm.of(*runs(18)[:2]), PLAN)


@pytest.mark.parametrize(("cv", "expected"), [(0.5, 2161), (1.0, 3457), (2.0, 8641)])
def test_a_plan_for_one_look_has_the_size_of_a_z_test_on_ln_r(cv: float, expected: int) -> None:
    """2 (z + z)² ((1 - p) / p + cv²) / ln(1.1)² runs an arm, where the margin asks for fewer."""
    plan = planned(0.5, cv, margin=1.0, sequential=False)
    quantiles = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert plan.runs_per_arm == math.ceil(2 * (1 + cv**2) * (quantiles / math.log(1.1)) ** 2) == expected


def test_a_plan_has_the_information_of_its_size() -> None:
    """At the planned size 1 / SE² of gain and difference is what the sequences are tuned to."""
    plan = planned(0.5, 0.8, correlation=-0.3, explained=0.25, difference=0.03)
    v = 0.75 * (1 + 0.64 + 2 * 0.3 * 0.8)
    assert plan.gain_information == pytest.approx(plan.runs_per_arm / (2 * v), rel=1e-3)
    assert plan.difference_information == pytest.approx(plan.runs_per_arm / (2 * 0.75 * 0.25), rel=1e-3)


def test_a_tight_margin_decides_the_size() -> None:
    """A point of margin at no true difference takes 30 times the runs of the ratio; an expected gain of success few."""
    ratio = planned(0.5, 0.5, margin=1.0).runs_per_arm
    assert planned(0.5, 0.5, margin=0.01).runs_per_arm > 15 * ratio
    assert planned(0.5, 0.5, margin=0.01, difference=0.05).runs_per_arm == ratio
    quantiles = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    one_look = planned(0.5, 0.5, margin=0.01, sequential=False).runs_per_arm
    assert one_look == math.ceil(0.5 * (quantiles / 0.01) ** 2)


@pytest.mark.parametrize(
    "wrong", [{"rate": 1.0}, {"gain": 0.0}, {"margin": 0.0}, {"margin": 0.01, "difference": -0.02}]
)
def test_a_plan_needs_something_to_find(wrong: dict[str, float]) -> None:
    """A certain success, no gain, or an expected loss beyond the margin cannot be planned for."""
    with pytest.raises(NotEnoughData, match="a plan needs"):
        planned(**({"rate": 0.5, "cost_cv": 1.0} | wrong))  # type: ignore[arg-type]
