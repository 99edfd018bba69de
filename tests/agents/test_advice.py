"""Advice to a run that is under way, checked against the planted world's own curve and against the equation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from analytics.joint_laws import Predictor, SettingGrid
from models.allocations import Advice, AdviseRequest
from models.dimensions import Dimension
from models.errors import NotEnoughData, SettingsError
from models.joint_laws import JointLaw

AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL

Fit = Callable[..., tuple[JointLaw, ...]]


@pytest.fixture
def laws(joint_laws: Fit, make_world: Callable[..., AllocationWorld]) -> tuple[JointLaw, ...]:
    """Fit the laws of a world in which iterations help."""
    return joint_laws(make_world(iterations=0.6))


@pytest.fixture
def allocator(laws: tuple[JointLaw, ...], make_allocator: Callable[..., Allocator]) -> Allocator:
    """Make an allocator that knows them."""
    return make_allocator(laws)


def ask(allocator: Allocator, used: int = 2, **fields: Any) -> Advice:  # noqa: ANN401 - any field
    """Ask for a run of two agents."""
    known: dict[str, Any] = {"agent_count": 2, "context_budget": 16_000, "parallelism": 2, "cost_so_far": 0.1}
    known["task"] = {"task_complexity": 0.5}
    return allocator.advise(AdviseRequest("run-1", iterations_used=used, **known | fields))


def curve(law: JointLaw, used: int) -> np.ndarray:
    """Predict from the iterations used up to ten."""
    steps = np.arange(used, 11, dtype=float)
    values = {AGENTS: 2.0, ITERATIONS: steps, CONTEXT: 16_000.0, PARALLELISM: 2.0}
    return Predictor.of(law).mean(
        SettingGrid({each: np.broadcast_to(np.asarray(x, float), steps.shape) for each, x in values.items()}, 0.5)
    )


@pytest.mark.parametrize("used", [1, 3, 6, 9])
@pytest.mark.parametrize("value", [0.05, 0.5, 5.0])
def test_it_goes_on_while_some_number_of_iterations_is_worth_it(
    laws: tuple[JointLaw, ...], allocator: Allocator, used: int, value: float
) -> None:
    """By h(k) = (S(i + k) - S(i)) / (1 - S(i)) against what k more cost."""
    success, cost = curve(laws[0], used), curve(laws[3], used)
    worth = value * (success[1:] - success[0]) / (1 - success[0]) - (cost[1:] - cost[0])
    got = ask(allocator, used, value=value)
    assert got.go_on == (worth.max() > 0)
    assert got.chance == pytest.approx((success[1] - success[0]) / (1 - success[0]), rel=1e-9)
    assert got.cost == pytest.approx(cost[1] - cost[0], rel=1e-9)
    if got.go_on:
        assert got.worth == pytest.approx(worth.max(), rel=1e-9)
        assert got.further == int(worth.argmax()) + 1
        assert "worth it" in got.why
    else:
        assert got.further == 0
        assert got.worth == pytest.approx(worth[0], rel=1e-9)
        assert "One more would succeed" in got.why
    assert got.laws == {laws[0].law_id: 1, laws[3].law_id: 1}


def test_advice_is_monotone_in_the_value(allocator: Allocator) -> None:
    """What is worth it for a cheap success is worth it for a dear one, and never for fewer iterations."""
    asked = [ask(allocator, value=value) for value in np.geomspace(0.001, 100, 30)]
    assert [each.go_on for each in asked] == sorted(each.go_on for each in asked)
    assert [each.further for each in asked] == sorted(each.further for each in asked)
    assert {each.go_on for each in asked} == {False, True}


def test_the_chance_is_what_the_world_has(allocator: Allocator, make_world: Callable[..., AllocationWorld]) -> None:
    """Within a few points of the planted curve."""
    world = make_world(iterations=0.6)
    grid = SettingGrid({AGENTS: np.array([2.0]), ITERATIONS: np.array([2.0, 3.0]), CONTEXT: np.array([16_000.0])}, 0.5)
    before, after = world.success(grid)
    assert ask(allocator).chance == pytest.approx((after - before) / (1 - before), abs=0.03)


def test_it_stops_when_the_budget_is_gone(allocator: Allocator) -> None:
    """Whatever a success is worth; and it goes no further than the budget reaches."""
    free = ask(allocator, value=100.0)
    assert free.further > 3
    gone = ask(allocator, value=100.0, budget=0.1)
    assert not gone.go_on
    assert "and 0 are left" in gone.why
    tight = ask(allocator, value=100.0, budget=0.1 + free.cost * 1.5)
    assert (tight.go_on, tight.further) == (True, 1)


def test_it_stops_where_the_law_ends(allocator: Allocator) -> None:
    """At the limit of the deployment, or 1.5 times the range."""
    got = ask(allocator, 10, value=100.0)
    assert (got.go_on, got.further) == (False, 0)
    assert "speaks of 10 iterations at most, and 10 are used" in got.why
    assert not ask(allocator, 50, value=100.0).go_on


def test_without_a_value_that_of_the_settings_counts(
    laws: tuple[JointLaw, ...], make_allocator: Callable[..., Allocator]
) -> None:
    """It is the setting value_of_success."""
    poor, rich = (make_allocator(laws, value_of_success=value) for value in (0.001, 100.0))
    assert not ask(poor).go_on
    assert ask(rich).go_on


def test_without_a_law_of_cost_the_price_table_counts(
    laws: tuple[JointLaw, ...], make_allocator: Callable[..., Allocator]
) -> None:
    """Dollars for one iteration, by the task's model, which may stand among its characteristics."""
    entry = {"agent": 0.5, "iteration": 0.2, "context_per_1k": 0.01}
    allocator = make_allocator(laws[:1], model_prices={"big": entry})
    assert ask(allocator).cost == pytest.approx(0.02)
    assert ask(allocator, task={"project_characteristics": {"model": "big"}}).cost == pytest.approx(0.2)
    assert ask(allocator).laws == {laws[0].law_id: 1}


def test_without_a_joint_law_over_iterations_there_is_no_advice(
    make_joint_law: Callable[..., JointLaw], make_allocator: Callable[..., Allocator]
) -> None:
    """The error says what is missing, or why a law does not speak."""
    for laws in ([], [make_joint_law()]):
        with pytest.raises(NotEnoughData, match="publish runs that vary max_iterations"):
            ask(make_allocator(laws))
    with pytest.raises(NotEnoughData, match="it is exploratory"):
        ask(make_allocator([make_joint_law(status="exploratory")]))


def test_the_size_of_the_model_counts(laws: tuple[JointLaw, ...], make_allocator: Callable[..., Allocator]) -> None:
    """By name as given, else as the task has it; in billions where the law counts those."""
    success = laws[0]
    wide = np.zeros((len(success.terms) + 1,) * 2)
    upper = [float(each) for each in wide[np.triu_indices(len(wide))]]
    named = structs.replace(
        success,
        terms=[*success.terms, "size=large"],
        coefficients=[*success.coefficients, 2.0],
        covariance=upper,
        bases=success.bases | {"model_size": "category"},
        categories=["small", "large"],
    )
    allocator = make_allocator([named])
    small, large = (ask(allocator, model_size=size).chance for size in ("small", "large"))
    assert large > small
    assert ask(allocator).chance == small
    task = {"task_complexity": 0.5, "model_size_category": "large"}
    request = AdviseRequest("r", 2, 2, 0.1, 16_000, 2, task=task)
    assert allocator.advise(request).chance == large
    counted = structs.replace(
        success,
        terms=[*success.terms, "ln_size"],
        coefficients=[*success.coefficients, 0.8],
        covariance=upper,
        bases=success.bases | {"model_size": "realised"},
        support=success.support | {"model_size": [8.0, 70.0]},
        typical=success.typical | {"model_size": 8.0},
        centres=success.centres | {"ln_size": 2.0},
    )
    allocator = make_allocator([counted])
    eight, seventy = (ask(allocator, model_size=size).chance for size in ("8b", "70b"))
    assert seventy > eight == ask(allocator).chance
    with pytest.raises(SettingsError, match="billions"):
        ask(allocator, model_size="large")
