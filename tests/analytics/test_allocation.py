"""The design document's closed form. The solver that is used has tests of its own, and of how the two compare."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.allocation import Lever, allocate_by_closed_form, near_linear_slots, quality_at


def problem(
    exponents: tuple[float, ...], costs: tuple[float, ...], most: tuple[int, ...] = (8, 10, 100)
) -> list[Lever]:
    """Make the levers of the design document with anchors in the middle."""
    names = ("agent_count", "iterations", "context")
    anchors = (2.8, 3.6, 17.0)
    return [
        Lever(name, exponent, cost, anchor, range(1, top + 1))
        for name, exponent, cost, anchor, top in zip(names, exponents, costs, anchors, most, strict=True)
    ]


exponent = st.one_of(st.just(0.0), st.floats(-0.5, 1.5))
unit_cost = st.one_of(st.just(0.0), st.floats(0.001, 2.0))


@given(
    exponents=st.tuples(exponent, exponent, exponent),
    costs=st.tuples(unit_cost, unit_cost, unit_cost),
    mean=st.floats(0, 1),
    budget=st.floats(0.001, 1000),
)
def test_what_a_point_says_of_itself_is_so(
    exponents: tuple[float, float, float], costs: tuple[float, float, float], mean: float, budget: float
) -> None:
    """Values are in range; the cost is their sum, the overspend what exceeds the budget, quality a probability."""
    levers = problem(exponents, costs)
    point = allocate_by_closed_form(levers, mean, budget)
    assert all(value in lever.values for value, lever in zip(point.setting, levers, strict=True))
    cost = sum(lever.unit_cost * value for lever, value in zip(levers, point.setting, strict=True))
    assert point.cost == pytest.approx(cost)
    assert point.overspend == pytest.approx(max(cost - budget, 0), abs=1e-12)
    worth = [(value / lever.anchor) ** lever.exponent for value, lever in zip(point.setting, levers, strict=True)]
    assert point.quality == pytest.approx(min(mean * math.prod(worth), 1.0))


@given(
    exponents=st.tuples(*[st.floats(0.05, 1.0)] * 3),
    costs=st.tuples(*[st.floats(0.001, 2.0)] * 3),
    budget=st.floats(0.01, 1000),
)
def test_unrounded_shares_are_the_continuous_optimum(
    exponents: tuple[float, float, float], costs: tuple[float, float, float], budget: float
) -> None:
    """Within the range a value is at most half a unit off e · budget / (u · Σ e): a dollar is worth the same."""
    levers = problem(exponents, costs)
    for lever, value in zip(levers, allocate_by_closed_form(levers, 0.5, budget).setting, strict=True):
        share = lever.exponent * budget / (lever.unit_cost * sum(exponents))
        assert value == pytest.approx(float(np.clip(share, 1, lever.values[-1])), abs=0.5 + 1e-6)


def test_the_closed_form_by_hand() -> None:
    """Shares 4:1:5 of 10 dollars at 1, 0.4 and 0.25 dollars a unit: 4 agents, 2.5 iterations up to 3, 20,000 tokens."""
    levers = problem((0.4, 0.1, 0.5), (1.0, 0.4, 0.25))
    point = allocate_by_closed_form(levers, 0.5, 10.0)
    assert point.setting == (4, 3, 20)
    assert point.cost == pytest.approx(10.2)
    assert point.overspend == pytest.approx(0.2)


def test_the_closed_form_clips_and_floors() -> None:
    """Values are clipped to their range, and a negative exponent counts as zero."""
    assert allocate_by_closed_form(problem((0.5, -0.3, 0.5), (0.1, 0.1, 0.01)), 0.5, 100.0).setting == (8, 1, 100)
    assert allocate_by_closed_form(problem((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), 0.5, 100.0).setting == (1, 1, 1)
    assert allocate_by_closed_form(problem((0.5, 0.5, 0.0), (0.0, 1.0, 1.0)), 0.5, 4.0).setting == (8, 2, 1)


def test_the_larger_exponent_gets_the_larger_share() -> None:
    """At equal unit costs, a larger agent exponent buys more agents than iterations, and the other way round."""
    agents, iterations, _ = allocate_by_closed_form(problem((0.4, 0.1, 0.0), (1.0, 1.0, 0.001)), 0.1, 9.0).setting
    assert agents > iterations
    agents, iterations, _ = allocate_by_closed_form(problem((0.1, 0.4, 0.0), (1.0, 1.0, 0.001)), 0.1, 9.0).setting
    assert iterations > agents


def test_expected_quality_is_the_mean_at_the_anchor() -> None:
    """At the mean setting the prediction is the mean; it never leaves [0, 1]; a mean of zero stays zero."""
    levers = problem((0.2, -0.1, 0.3), (1.0, 1.0, 1.0))
    assert quality_at(levers, [lever.anchor for lever in levers], 0.37) == pytest.approx(0.37)
    assert quality_at(problem((5.0, 5.0, 5.0), (1.0, 1.0, 1.0)), (8, 10, 100), 0.9) == 1.0
    assert quality_at(levers, (8, 10, 100), 0.0) == 0.0


@pytest.mark.parametrize(
    ("time_exponent", "most", "slots"),
    [(-1.0, 8, 8), (-1.2, 6, 6), (-0.9, 8, 8), (-0.7, 8, 3), (-0.7, 2, 2), (-0.5, 8, 2), (-0.3, 8, 1), (0.0, 8, 1)],
)
def test_parallelism_is_full_up_to_where_speed_up_stays_near_linear(
    time_exponent: float, most: int, slots: int
) -> None:
    """The speed-up at the answer is at least 70 % of linear, and one slot more would be too many or too few agents."""
    assert near_linear_slots(time_exponent, most) == slots
    assert slots**-time_exponent >= 0.7 * slots or slots == 1
    assert slots == most or time_exponent >= 0 or (slots + 1) ** -time_exponent < 0.7 * (slots + 1)
