"""Outcome per dollar of two arms, and whether a gain in it was bought with success.

R = Σ y / Σ c, successes per dollar, is what the spender sees; the mean of y / c over runs is another quantity, which
cheap runs dominate. The ratio alone can be driven up by spending little and failing often. So it is watched together
with non-inferior success: an arm is better if it gains in R and loses less success than a margin.

References:
    Deng, Knoblich and Lu (2018), "Applying the Delta Method in Metric Analytics".
    Miratrix, Sekhon and Yu (2013), "Adjusting Treatment Effect Estimates by Post-Stratification".
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import ndtri

from analytics.confidence_sequences import ALPHA, confidence_sequence, e_value
from analytics.intervals import LEVEL, z_quantile
from analytics.moments import Floats, Ints
from analytics.one_sided import lower_sequence, one_sided_e_value
from analytics.points import variance_of_means
from models.errors import NotEnoughData
from models.laws import Estimate

STRATUM_RUNS = 10
"""Strata with fewer runs in an arm are joined with the next one."""

MARGIN = 0.01
"""A point of success: what may be lost and still counts as non-inferior."""


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """Moments of outcome y and cost c in each of S strata, such as complexity bins in their order.

    Attributes:
        n: Runs with both. [S]
        mean: Of y and c. [S, 2]
        comoment: Sums of products of the deviations from the means: yy, yc, cc. [S, 3]
    """

    n: Floats
    mean: Floats
    comoment: Floats

    @classmethod
    def of(cls, outcome: Floats, cost: Floats, stratum: Ints | None = None, strata: int = 1) -> Self:
        """Reduce runs [N], in strata 0 to `strata` - 1."""
        place = np.zeros(len(outcome), np.int64) if stratum is None else stratum
        n = np.bincount(place, minlength=strata).astype(np.float64)
        both = np.stack((outcome, cost), axis=1).astype(np.float64)
        mean = _sums(both, place, strata) / np.maximum(n, 1.0)[:, None]
        return cls(n, mean, _sums(_products(both - mean[place]), place, strata))

    def __add__(self, other: Self) -> Self:
        """Join the moments of further runs, stratum by stratum."""
        n = self.n + other.n
        share = (other.n / np.maximum(n, 1.0))[:, None]
        away = other.mean - self.mean
        between = _products(away) * self.n[:, None] * share
        return type(self)(n, self.mean + away * share, self.comoment + other.comoment + between)

    def joined(self, groups: Ints) -> Self:
        """Join the strata of each group, 0 to the number of groups - 1. [S]."""
        count, runs = int(groups.max()) + 1, self.n[:, None]
        n = _sums(runs, groups, count)
        mean = _sums(runs * self.mean, groups, count) / np.maximum(n, 1.0)
        parts = self.comoment + runs * _products(self.mean - mean[groups])
        return type(self)(n[:, 0], mean, _sums(parts, groups, count))

    @property
    def pooled(self) -> Self:
        """Give the moments without strata."""
        return self.joined(np.zeros(len(self.n), np.int64))

    @property
    def runs(self) -> int:
        """Count the runs."""
        return int(self.n.sum())


def ln_ratio(arm: Arm, level: float = LEVEL) -> Estimate:
    """Estimate ln R, R = Σ y / Σ c.

    Equation: Var(ln R) = (s_yy / ȳ² + s_cc / c̄² - 2 s_yc / (ȳ c̄)) / n.

    Raises:
        NotEnoughData: Fewer than two runs, or a mean outcome or cost that is not above zero.
    """
    moments = _Moments.of(arm.pooled, np.ones(1))
    return _estimate(math.log(moments.outcome / moments.cost), moments.ln_variance, level)


def ln_gain(arm: Arm, over: Arm, level: float = LEVEL) -> Estimate:
    """Estimate ln(R of one arm / R of another), post-stratified where the arms have strata.

    Equation: with W_k the share of stratum k among the N runs of both arms, ȳ = Σ W ȳ_k and c̄ likewise in each arm,
    gain = ln(ȳ c̄' / (c̄ ȳ')); its variance is Σ W_k² (s_yy / ȳ² + s_cc / c̄² - 2 s_yc / (ȳ c̄))_k / n_k of both arms and,
    as the W are estimated, Σ W_k (h_k - h)² / N, h_k = ȳ_k / ȳ - c̄_k / c̄ less the same of the other arm. Strata with
    fewer than ten runs in an arm are joined with the next.

    Args:
        arm: The one.
        over: The other, with the same strata.
        level: The coverage of the interval.

    Raises:
        NotEnoughData: Fewer than two runs in an arm, or a mean outcome or cost that is not above zero.
    """
    one, other, share = _matched(arm, over)
    left, right = _Moments.of(one, share), _Moments.of(other, share)
    h = left.contribution - right.contribution
    variance = left.ln_variance + right.ln_variance + float(share @ h**2) / (arm.runs + over.runs)
    return _estimate(math.log(left.outcome * right.cost / (left.cost * right.outcome)), variance, level)


def outcome_difference(arm: Arm, over: Arm, *, binary: bool = True, level: float = LEVEL) -> Estimate:
    """Estimate the difference of mean outcomes, in points, post-stratified where the arms have strata.

    Equation: Σ W_k (ȳ_k - ȳ'_k), its variance Σ W_k² V_k of both arms and Σ W_k (d_k - d)² / N, d_k = ȳ_k - ȳ'_k; a
    stratum's V_k is never zero by luck: (k + ½)(n - k + ½) / (n + 1)² / n for success.

    Args:
        arm: The one.
        over: The other, with the same strata.
        binary: Whether the outcome is 0 or 1.
        level: The coverage of the interval.

    Raises:
        NotEnoughData: Fewer than two runs in an arm.
    """
    one, other, share = _matched(arm, over)
    each = one.mean[:, 0] - other.mean[:, 0]
    difference = float(share @ each)
    variance = float(share @ (each - difference) ** 2) / (arm.runs + over.runs)
    for moments in (one, other):
        variance += float(
            share**2 @ variance_of_means(moments.n, moments.mean[:, 0], moments.comoment[:, 0], binary=binary)
        )
    return _estimate(difference, variance, level)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a comparison of two arms is planned for, fixed before its first look.

    Attributes:
        runs_per_arm: The planned size.
        gain_information: I* of ln gain: 1 / SE² at the planned size.
        difference_information: I* of the difference of success.
        margin: The loss of success that still counts as non-inferior.
        alpha: P(a wrong claim at any look), of each of the two claims; better needs both.
        least_runs: In each arm, before the first look.
    """

    runs_per_arm: int
    gain_information: float
    difference_information: float
    margin: float
    alpha: float = ALPHA
    least_runs: int = 100


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at both arms says: all of it holds at any look, but for the intervals in `gain` and `difference`.

    Attributes:
        gain: ln of the ratio of outcome per cost.
        difference: Of success.
        gain_lo: The confidence sequence of ln gain, to `gain_hi`; intersected over looks.
        gain_e: The most evidence at any look that the gain is not zero.
        difference_lo: The lower confidence sequence of the difference.
        non_inferior_e: The most evidence so far that the loss is less than the margin.
        inferior_e: The most evidence so far that the loss is more than the margin.
        runs: In each arm.
        better: A gain is shown, and non-inferior success.
        worse: A loss of outcome per cost is shown, or one of success beyond the margin.
    """

    gain: Estimate
    difference: Estimate
    gain_lo: float
    gain_hi: float
    gain_e: float
    difference_lo: float
    non_inferior_e: float
    inferior_e: float
    runs: tuple[int, int]
    better: bool
    worse: bool


def look(arm: Arm, over: Arm, plan: Plan, before: Look | None = None) -> Look:
    """Look at a comparison; as often as one likes.

    Args:
        arm: The one that is to be better.
        over: The other.
        plan: Made before the first look.
        before: The look before.

    Raises:
        NotEnoughData: Fewer runs in an arm than the plan asks for before the first look.
    """
    fewest = min(arm.runs, over.runs)
    if fewest < plan.least_runs:
        message = f"a look needs {plan.least_runs} runs in each arm, one has {fewest}: wait for outcomes"
        raise NotEnoughData(message)
    gain, difference = ln_gain(arm, over), outcome_difference(arm, over)
    lo, hi = (float(end) for end in confidence_sequence(gain.estimate, gain.se, plan.gain_information, plan.alpha))
    low = float(lower_sequence(difference.estimate, difference.se, plan.difference_information, plan.alpha))
    evidence = float(e_value(gain.estimate, gain.se, plan.gain_information, alpha=plan.alpha))
    above, below = (
        float(
            one_sided_e_value(
                sign * difference.estimate,
                difference.se,
                plan.difference_information,
                null=-sign * plan.margin,
                alpha=plan.alpha,
            )
        )
        for sign in (1, -1)
    )
    if before is not None:
        if max(before.gain_lo, lo) <= min(before.gain_hi, hi):
            lo, hi = max(before.gain_lo, lo), min(before.gain_hi, hi)
        low, evidence = max(low, before.difference_lo), max(evidence, before.gain_e)
        above, below = max(above, before.non_inferior_e), max(below, before.inferior_e)
    limit = 1 / plan.alpha
    return Look(
        gain=gain,
        difference=difference,
        gain_lo=lo,
        gain_hi=hi,
        gain_e=evidence,
        difference_lo=low,
        non_inferior_e=above,
        inferior_e=below,
        runs=(arm.runs, over.runs),
        better=lo > 0 and above >= limit,
        worse=hi < 0 or below >= limit,
    )


def planned(
    rate: float,
    cost_cv: float,
    *,
    gain: float = 0.10,
    difference: float = 0.0,
    margin: float = MARGIN,
    correlation: float = 0.0,
    explained: float = 0.0,
    power: float = 0.8,
    alpha: float = ALPHA,
    sequential: bool = True,
) -> Plan:
    """Plan two arms of equal size that show a gain in outcome per cost, and non-inferior success.

    Equation: the greater of 2 v ((q + z_power) / ln(1 + gain))² and 2 p (1 - p) ((u + z_power) / (margin +
    difference))², times 1 - explained; v = s² + cv² - 2 correlation s cv with s² = (1 - p) / p. For one look q =
    z_(1 - alpha/2) and u = z_(1 - alpha); sequentially what the two sequences take at the planned size: 3.04 and 2.77
    standard errors at alpha = .05.

    Args:
        rate: p, the expected success rate.
        cost_cv: Standard deviation of a run's cost over its mean.
        gain: The relative gain in outcome per cost worth finding.
        difference: The difference of success that is expected, in points.
        margin: The loss of success, in points, that still counts as non-inferior.
        correlation: Between success and cost of a run.
        explained: Share of the variance that post-stratification takes out.
        power: P(each of the two is shown).
        alpha: P(a wrong claim), of each of the two.
        sequential: Whether one looks as often as one likes, or once.

    Raises:
        NotEnoughData: A rate that is not within (0, 1), or a gain, or margin + difference, that is not above zero.
    """
    if not 0 < rate < 1 or min(gain, margin, margin + difference) <= 0:
        message = (
            f"a plan needs a rate in (0, 1), and gain, margin and margin + difference above 0; they are {rate:g}, "
            f"{gain:g}, {margin:g} and {margin + difference:g}"
        )
        raise NotEnoughData(message)
    s = math.sqrt((1 - rate) / rate)
    of_gain = 2 * (1 - explained) * (s * s + cost_cv * cost_cv - 2 * correlation * s * cost_cv)
    of_difference = 2 * (1 - explained) * rate * (1 - rate)
    both, one = z_quantile(1 - alpha), z_quantile(1 - 2 * alpha)
    if sequential:
        both, one = float(confidence_sequence(0.0, 1.0, 1.0, alpha)[1]), -float(lower_sequence(0.0, 1.0, 1.0, alpha))
    found = float(ndtri(power))
    runs = max(
        of_gain * ((both + found) / math.log1p(gain)) ** 2,
        of_difference * ((one + found) / (margin + difference)) ** 2,
    )
    return Plan(math.ceil(runs), runs / of_gain, runs / of_difference, margin, alpha)


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """Post-stratified means of an arm, the variance of ln(outcome / cost), and each stratum's part in it. [S]."""

    outcome: float
    cost: float
    ln_variance: float
    contribution: Floats

    @classmethod
    def of(cls, arm: Arm, share: Floats) -> Self:
        if arm.n.min() < 2:  # noqa: PLR2004 - a variance
            raise NotEnoughData(
                f"outcome per cost needs 2 runs in each arm, one has {arm.n.min():g}: wait for outcomes"
            )
        outcome, cost = (float(mean) for mean in share @ arm.mean)
        if not (outcome > 0 and cost > 0):
            message = f"outcome per cost needs means above 0, they are {outcome:g} and {cost:g}: collect more runs"
            raise NotEnoughData(message)
        each = (arm.comoment / (arm.n - 1)[:, None]) @ (1 / outcome**2, -2 / (outcome * cost), 1 / cost**2)
        return cls(
            outcome=outcome,
            cost=cost,
            ln_variance=float(share**2 @ (each / arm.n)),
            contribution=arm.mean[:, 0] / outcome - arm.mean[:, 1] / cost,
        )


def _sums(columns: Floats, place: Ints, count: int) -> Floats:
    """Add up rows [R, k] by their place. [count, k]."""
    return np.stack([np.bincount(place, column, count) for column in columns.T], axis=1).astype(np.float64)


def _products(away: Floats) -> Floats:
    """Multiply deviations of y and c [R, 2] to yy, yc, cc. [R, 3]."""
    y, c = away.T
    return np.stack((y * y, y * c, c * c), axis=1)


def _matched(arm: Arm, over: Arm) -> tuple[Arm, Arm, Floats]:
    """Join strata until each has ten runs in both arms (or is the only one), and give their shares. [S]."""
    groups, group, runs = np.zeros(len(arm.n), np.int64), 0, np.zeros(2)
    for place, both in enumerate(np.stack((arm.n, over.n), axis=1)):
        groups[place] = group
        runs = runs + both
        if runs.min() >= STRATUM_RUNS:
            group, runs = group + 1, np.zeros(2)
    # What is left at the end goes to the last full group.
    groups = np.minimum(groups, max(group - 1, 0))
    one, other = arm.joined(groups), over.joined(groups)
    share = (one.n + other.n) / (one.n + other.n).sum()
    return one, other, np.asarray(share)


def _estimate(value: float, variance: float, level: float) -> Estimate:
    se = math.sqrt(max(variance, 0.0))
    half = z_quantile(level) * se
    return Estimate(value, se, value - half, value + half)
