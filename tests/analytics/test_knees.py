"""Knees: the rule by brute force on the averaged curve, its interval over the draws, its price."""

from dataclasses import replace

import numpy as np
import pytest

from analytics.averaging import Average, average
from analytics.families import CURVES
from analytics.knees import Price, diminishing_returns, economic_price, find_knee, first_below, fixed_price
from analytics.moments import Floats
from analytics.points import independent
from models.errors import NotEnoughData

X = np.array([1.0, 2, 3, 4, 6, 8])
SATURATING = 0.7 - 0.4 * np.exp(-(X - 1) / 1.8)
FLAT = np.full(6, 0.5)


def law_of(rate: Floats, runs: int, seed: int) -> Average:
    """Average the families over drawn success rates."""
    mean = np.random.default_rng(seed).binomial(runs, rate) / runs
    n = np.full(len(X), float(runs))
    return average(independent(X, n, mean, n * mean * (1 - mean), binary=True), CURVES, bounds=(0.0, 1.0))


def by_hand(curve: Floats, threshold: Floats) -> int:
    """Walk from value to value while the next step pays."""
    place = 0
    while place < len(X) - 1 and curve[place + 1] - curve[place] >= threshold[place] * (X[place + 1] - X[place]):
        place += 1
    return place


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("less_is_better", [False, True])
def test_the_knee_is_the_rule_on_the_averaged_curve(seed: int, *, less_is_better: bool) -> None:
    """Value, interval, regret and support are what a walk over the curve and over every draw gives."""
    rng = np.random.default_rng(seed)
    law = law_of(1 - SATURATING if less_is_better else SATURATING, 100, seed)
    threshold = rng.uniform(0.02, 0.1, 5)
    knee = find_knee(law, Price(threshold, "a rule"), less_is_better=less_is_better)
    sign = -1 if less_is_better else 1
    place = by_hand(sign * law.mean, threshold)
    places = sorted(by_hand(sign * draw, threshold) for draw in law.law_draws)
    assert knee.value == X[place]
    assert (knee.lo, knee.hi) == (X[places[int(0.025 * 300)]], X[places[int(0.975 * 300)]])
    assert knee.threshold == threshold[min(place, 4)]
    assert knee.rule == "a rule"
    spent = np.array([0.0, *np.cumsum(threshold * np.diff(X))])
    worth = sign * law.law_draws - spent
    assert knee.regret == pytest.approx(float(np.mean([row.max() - row[place] for row in worth])))
    assert knee.regret >= 0
    gain = sign * (law.draws[:, place] - law.draws[:, 0])
    assert knee.supported == (place > 0 and float(np.quantile(gain, 0.025)) > 0)


def test_the_interval_takes_observed_values() -> None:
    """Quantiles of the rule over the draws are values that were tried, with the knee's draws inside at 95 %."""
    law = law_of(SATURATING, 100, 20)
    price = fixed_price(X, 0.05, "a rule")
    knee = find_knee(law, price)
    places = first_below(law.law_draws, np.diff(X), price.threshold)
    at = X[places]
    assert {knee.lo, knee.hi, knee.value} <= {*X.tolist()}
    assert float(((at >= knee.lo) & (at <= knee.hi)).mean()) >= 0.95


def test_more_runs_leave_less_regret_and_a_shorter_interval() -> None:
    """What is lost by choosing the knee falls with what is known, and a rise becomes supported."""
    price = fixed_price(X, 0.05, "a rule")
    few = [find_knee(law_of(SATURATING, 30, seed), price) for seed in range(20)]
    many = [find_knee(law_of(SATURATING, 3000, seed), price) for seed in range(20)]
    assert np.mean([knee.regret for knee in many]) < 0.2 * np.mean([knee.regret for knee in few])
    assert np.mean([knee.hi - knee.lo for knee in many]) < np.mean([knee.hi - knee.lo for knee in few])
    assert all(knee.supported for knee in many)


def test_a_flat_law_has_its_knee_at_once_and_no_support() -> None:
    """Where nothing is gained the first value is enough, and no rise is claimed before it."""
    knees = [find_knee(law_of(FLAT, 1000, seed), fixed_price(X, 0.05, "a rule")) for seed in range(100)]
    assert sum(knee.value == 1.0 for knee in knees) >= 97
    assert sum(knee.supported for knee in knees) <= 3


def test_a_law_that_always_pays_has_its_knee_at_the_last_value() -> None:
    """Beyond what was tried nothing is claimed: the last value, under the price of the last step."""
    knee = find_knee(law_of(0.2 + 0.09 * X, 3000, 21), fixed_price(X, 0.05, "a rule"))
    assert (knee.value, knee.hi, knee.threshold) == (8.0, 8.0, 0.05)
    assert knee.supported


def test_the_first_step_that_does_not_pay_ends_the_walk() -> None:
    """A later rise beyond a step that does not pay is not waited for; a step of exactly the price pays."""
    curves = np.array([[0.1, 0.3, 0.31, 0.9], [0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.9, 1.0]])
    steps = np.ones(3)
    assert first_below(curves, steps, np.full(3, 0.1)).tolist() == [1, 3, 0]
    assert first_below(curves, steps, np.array([0.3, 0.1, 0.1])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("curve", "value"),
    [([0.2, 0.4, 0.52, 0.6], 3.0), ([0.2, 0.4, 0.6, 0.8], None), ([0.5, 0.4, 0.3, 0.2], None)],
    ids=["after three", "never", "no first gain"],
)
def test_returns_diminish_where_a_unit_brings_half_of_the_first(curve: list[float], value: float | None) -> None:
    """Gains of .2, .12, .08 fall below .1 after 3; without a fall by half, or a first gain, no point is made up."""
    assert diminishing_returns(np.array([1.0, 2, 3, 4]), np.array(curve)) == value


@pytest.mark.parametrize("off", [-1e-7, 0.0, 1e-7])
def test_rounding_decides_no_point(off: float) -> None:
    """Along ln x a unit brings exactly half after a doubling, and a quarter after two: only that is less than half."""
    x = np.array([3000.0, 6000, 12000, 24000])
    curve = 0.1 * np.log(x)
    curve[2] += off * (curve[1] - curve[0])
    assert diminishing_returns(x, curve) == 12000


def test_a_fixed_price_is_asked_of_a_unit_or_of_a_doubling() -> None:
    """From 2 to 8 are six units or two doublings: 0.3 or 0.1 at 0.05."""
    x = np.array([1.0, 2, 8])
    assert fixed_price(x, 0.05, "").threshold == pytest.approx([0.05, 0.05])
    doubling = fixed_price(x, 0.05, "", per_doubling=True).threshold * np.diff(x)
    assert doubling.tolist() == pytest.approx([0.05, 0.1])


def test_an_economic_price_is_the_cost_of_a_unit_over_its_worth() -> None:
    """Ten cents a unit at two dollars a success ask for 0.05; a step that saves money needs to bring nothing."""
    price = economic_price(np.array([1.0, 2, 4, 5]), np.array([0.1, 0.2, 0.4, 0.35]), 2.0, "a rule")
    assert price.threshold == pytest.approx([0.05, 0.05, 0.0])
    assert price.rule == "a rule"


def test_one_value_has_no_step() -> None:
    """A knee is between values."""
    law = law_of(SATURATING, 100, 22)
    points = independent(X[:1], np.array([9.0]), np.array([0.5]), np.array([2.0]), binary=True)
    lone = replace(
        law,
        at=X[:1],
        mean=law.mean[:1],
        curve=law.curve[:1],
        draws=law.draws[:, :1],
        law_draws=law.law_draws[:, :1],
        points=points,
    )
    with pytest.raises(NotEnoughData, match="at least 2 distinct values, there is 1"):
        find_knee(lone, fixed_price(X[:1], 0.05, ""))
