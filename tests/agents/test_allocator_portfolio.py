"""A budget shared among tasks."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import AllocateRequest, PortfolioAllocation, PortfolioRequest, Risk
from models.dimensions import Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData
from models.joint_laws import JointLaw
from models.laws import Law

TASKS = [{"task_complexity": z} for z in (0.1, 0.3, 0.5, 0.7, 0.9)]
Fit = Callable[..., tuple[JointLaw, ...]]
Make = Callable[..., Allocator]
MakeWorld = Callable[..., AllocationWorld]


@pytest.fixture
def allocator(joint_laws: Fit, make_world: MakeWorld, make_allocator: Make) -> Allocator:
    """Make an allocator that knows laws of a world in which hard tasks differ from easy ones."""
    return make_allocator(joint_laws(make_world(hardness=2.5, lift=0.3)))


def share(allocator: Allocator, budget: float, **fields: object) -> PortfolioAllocation:
    """Share a budget among the tasks."""
    request = PortfolioRequest("queue", TASKS, budget, **fields)  # type: ignore[arg-type]
    return allocator.share(request)[0]


def spent(shared: PortfolioAllocation) -> float:
    """Add up what the tasks are expected to cost."""
    return sum(each.expected["total_cost"].estimate for each in shared.allocations)


@pytest.mark.parametrize("budget", [0.15, 0.5, 1.5, 3.0])
def test_the_budget_is_kept_and_no_equal_split_is_better(allocator: Allocator, budget: float) -> None:
    """Nor is anything else that costs as much: at the shadow price no task has a better setting."""
    shared = share(allocator, budget)
    assert spent(shared) == pytest.approx(shared.expected_cost, rel=1e-9)
    assert shared.expected_cost <= budget
    brought = sum(each.expected["success"].estimate for each in shared.allocations)
    assert brought == pytest.approx(shared.expected_outcome, rel=1e-9)
    equal = [
        allocator.allocate(AllocateRequest(f"t-{place}", task, budget / len(TASKS)))[0].expected["success"].estimate
        for place, task in enumerate(TASKS)
    ]
    assert brought >= sum(equal) - 1e-9


def test_a_dollar_is_worth_the_same_everywhere(allocator: Allocator) -> None:
    """A little more budget brings the shadow price for each dollar, and the price falls as the budget rises."""
    prices = [share(allocator, budget).shadow_price for budget in (0.3, 0.6, 1.2, 2.4)]
    assert prices == sorted(prices, reverse=True)
    less, more = share(allocator, 1.2), share(allocator, 1.3)
    assert more.expected_outcome - less.expected_outcome == pytest.approx(0.1 * less.shadow_price, rel=0.15)
    assert share(allocator, 1000.0).shadow_price == 0


def test_brute_force_finds_nothing_better(allocator: Allocator) -> None:
    """Of two tasks, all pairs of settings on their fronts: what is missed is less than what was left is worth."""
    tasks, budget = TASKS[1:4:2], 0.4
    shared, _ = allocator.share(PortfolioRequest("pair", tasks, budget))
    fronts = [
        allocator.allocate(AllocateRequest(f"t-{place}", task, budget, front=True))[0].front
        for place, task in enumerate(tasks)
    ]
    pairs = np.array([(a.outcome + b.outcome, a.cost + b.cost) for a, b in product(*fronts)])
    best = float(pairs[pairs[:, 1] <= budget, 0].max())
    missed = shared.shadow_price * (budget - shared.expected_cost)
    assert best - missed - 1e-9 <= shared.expected_outcome <= best + 1e-9


def test_each_task_has_its_share(allocator: Allocator) -> None:
    """Its answer is the best within what it costs, says so, and is logged as a certain decision with that budget."""
    shared, decisions = allocator.share(PortfolioRequest("queue", TASKS, 1.2))
    assert [each.decision_id for each in decisions] == [f"queue.{place}" for place in range(1, 6)]
    for each, decision, task in zip(shared.allocations, decisions, TASKS, strict=True):
        cost = each.expected["total_cost"].estimate
        assert (each.decision_id, each.setting, each.propensity) == (decision.decision_id, decision.setting, 1.0)
        assert decision.budget == pytest.approx(cost, rel=1e-9)
        assert decision.choice == decision.setting
        assert each.choice is None
        assert "share of 1.2 dollars for 5 tasks" in each.why
        assert f"would add {shared.shadow_price:.3g}" in each.why
        alone = allocator.allocate(AllocateRequest("alone", task, budget=decision.budget))[0]
        assert alone.setting == each.setting
        assert alone.binds == each.binds


def test_a_budget_too_small_for_all_names_the_least(allocator: Allocator) -> None:
    """The cheapest settings of all tasks together."""
    with pytest.raises(BudgetTooSmall, match="the cheapest settings of 5 tasks need"):
        share(allocator, 0.001)


def test_a_task_without_a_law_is_refused(make_allocator: Make) -> None:
    """Nobody knows what a dollar is worth to it."""
    with pytest.raises(NotEnoughData, match="a portfolio needs a law for each task"):
        share(make_allocator(), 1.0)


def test_one_outcome_is_bought(make_law: Callable[..., Law], make_allocator: Make) -> None:
    """Success and quality do not add up, so a queue that would be bought both must say which."""
    laws = [
        make_law(Dimension.AGENT_COUNT, outcome, context=f"project={name}")
        for name, outcome in (("a", Outcome.SUCCESS), ("b", Outcome.QUALITY_SCORE))
    ]
    tasks = [{"project": "a"}, {"project": "b"}]
    with pytest.raises(InvalidEvent, match="quality_score and success speak for the tasks, so name one"):
        make_allocator(laws).share(PortfolioRequest("mixed", tasks, 1.0))


def test_a_bound_on_overspending_is_refused(allocator: Allocator) -> None:
    """Tasks of a portfolio have no budgets of their own to exceed."""
    with pytest.raises(InvalidEvent, match=r"risk\.overspend"):
        share(allocator, 1.0, risk=Risk(overspend=0.1))


def test_defaults_hold_while_the_budget_lasts(make_law: Callable[..., Law], make_allocator: Make) -> None:
    """A part without a law has its default in every task, or less where the budget does not reach for all of them."""
    allocator = make_allocator([make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, 0.4)])
    rich, poor = share(allocator, 2.0), share(allocator, 0.42)
    assert {each.setting.context_budget for each in rich.allocations} == {8000}
    assert {each.setting.max_iterations for each in rich.allocations} == {1}
    assert min(each.setting.context_budget for each in poor.allocations) < 8000
    assert poor.expected_cost <= 0.42


def test_a_long_queue_is_shared(allocator: Allocator) -> None:
    """A thousand tasks of all complexities, each with an answer of its own."""
    tasks = [{"task_complexity": place / 999, "task_id": f"t-{place}"} for place in range(1000)]
    shared, decisions = allocator.share(PortfolioRequest("long", tasks, 200.0))
    assert len(shared.allocations) == len({each.decision_id for each in decisions}) == 1000
    assert spent(shared) <= 200.0
