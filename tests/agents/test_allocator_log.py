"""The dice, the arms of A/B tests, and what is logged of a decision."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from agents.ab import arm_of, probability
from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import (
    ABTest,
    AllocateRequest,
    Allocation,
    Arm,
    Decision,
    Method,
    Objective,
    Override,
    Pins,
    Setting,
)
from models.joint_laws import JointLaw

NOW = datetime(2026, 3, 10, 12, 30, 15, 250_000, tzinfo=UTC)
TEST = ABTest("spring", Setting(3, 5, 32_000, 3), "ada", "worth it?", "2026-03-01T08:00:00Z", share=0.7)
BUDGET = 0.6


@pytest.fixture
def laws(
    joint_laws: Callable[..., tuple[JointLaw, ...]], make_world: Callable[..., AllocationWorld]
) -> tuple[JointLaw, ...]:
    """Fit the laws of a world."""
    return joint_laws(make_world(contention=0.1))


Make = Callable[..., Allocator]


def ask(allocator: Allocator, name: str = "run-1", **fields: object) -> tuple[Allocation, Decision]:
    """Ask for a task of middling complexity."""
    known: dict[str, Any] = {"task": {"task_complexity": 0.5}, "budget": BUDGET}
    return allocator.allocate(AllocateRequest(name, **known | fields), NOW)


def check_shares(answers: Iterable[Allocation]) -> None:
    """Compare how often each setting was given with the propensities in the log, which sum to one over all of them."""
    given, logged = Counter[Setting](), dict[Setting, float]()
    for each in answers:
        given[each.setting] += 1
        assert logged.setdefault(each.setting, each.propensity) == pytest.approx(each.propensity, rel=1e-12)
    assert sum(logged.values()) == pytest.approx(1, abs=1e-9)
    expected = np.array([logged[setting] for setting in given]) * given.total()
    assert expected.min() >= 5
    assert stats.chisquare(list(given.values()), expected * given.total() / expected.sum()).pvalue > 1e-4


def test_without_exploration_the_choice_is_certain(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """At a rate of zero, and where the request does not lend itself to it."""
    for allocator, explore in ((make_allocator(laws), True), (make_allocator(laws, exploration_rate=1.0), False)):
        answers = [ask(allocator, f"run-{number}", explore=explore)[0] for number in range(50)]
        assert {each.setting for each in answers} == {answers[0].setting}
        assert all(each.propensity == 1 and not each.explored and each.choice is None for each in answers)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_settings_are_given_as_often_as_is_logged(
    laws: tuple[JointLaw, ...], make_allocator: Make, rate: float
) -> None:
    """Over 6,000 requests; explored settings cost no more than the budget, and what was chosen is logged beside."""
    allocator = make_allocator(laws, exploration_rate=rate)
    best = ask(make_allocator(laws))[0].setting
    answers = [ask(allocator, f"run-{number}") for number in range(6000)]
    explored = [each for each, _ in answers if each.explored]
    assert stats.binomtest(len(explored), 6000, rate).pvalue > 1e-4
    assert all(each.expected["total_cost"].estimate <= BUDGET for each, _ in answers)
    assert all(decision.choice == best for _, decision in answers)
    assert all(each.choice == (best if each.setting != best else None) for each, _ in answers)
    assert all("was drawn, not chosen" in each.why for each in explored)
    check_shares(each for each, _ in answers)


def test_exploration_spreads_over_each_part(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """Least, middle and most of agents, iterations and context are among what is tried."""
    allocator = make_allocator(laws, exploration_rate=1.0)
    tried = {ask(allocator, f"run-{number}", budget=5.0)[0].setting for number in range(1000)}
    assert len(tried) == 27
    for part in ("agent_count", "max_iterations", "context_budget"):
        assert len({getattr(setting, part) for setting in tried}) == 3


def test_without_a_budget_exploration_costs_at_most_twice_the_choice(
    laws: tuple[JointLaw, ...], make_allocator: Make
) -> None:
    """And it reaches the target; so few settings do that they are tried evenly."""
    allocator = make_allocator(laws, exploration_rate=1.0)
    answers = [
        ask(allocator, f"run-{number}", budget=None, objective=Objective.LEAST_COST, target=0.3)[0]
        for number in range(300)
    ]
    least = ask(make_allocator(laws), budget=None, objective=Objective.LEAST_COST, target=0.3)[0]
    assert len({each.setting for each in answers}) > 2
    assert all(each.expected["success"].estimate >= 0.3 for each in answers)
    most = max(each.expected["total_cost"].estimate for each in answers)
    assert most <= 2 * least.expected["total_cost"].estimate


def test_pinned_parts_are_not_explored(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """The others are; with all parts pinned nothing is."""
    allocator = make_allocator(laws, exploration_rate=1.0)
    by = {"by": "ada", "reason": "incident"}
    some = [ask(allocator, f"run-{number}", pins=Pins(agent_count=2), **by)[0] for number in range(100)]
    assert {each.setting.agent_count for each in some} == {2}
    assert len({each.setting for each in some}) > 3
    every = ask(allocator, pins=Pins(2, 2, 8000, 1), **by)[0]
    assert (every.propensity, every.explored) == (1.0, False)


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_arms_are_given_as_often_as_is_logged(laws: tuple[JointLaw, ...], make_allocator: Make, rate: float) -> None:
    """P(setting) = share · P(setting | dynamic) + (1 - share) where it is the fixed one."""
    allocator = make_allocator(laws, exploration_rate=rate)
    allocator.tests["spring"] = TEST
    answers = [ask(allocator, f"run-{number}")[0] for number in range(6000)]
    check_shares(answers)
    fixed = [each for each in answers if each.arm == Arm.FIXED]
    assert stats.binomtest(len(fixed), 6000, 0.3).pvalue > 1e-4
    for each in fixed:
        assert (each.setting, each.method, each.policy_version) == (TEST.fixed, Method.FIXED, "fixed:spring")
        assert (each.test, each.explored) == ("spring", False)
        assert each.expected["success"].estimate > 0
        assert "fixed arm of the A/B test spring" in each.why


def test_the_dice_may_give_the_fixed_setting_too(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """Then its propensity is that of both arms together."""
    best = ask(make_allocator(laws))[0].setting
    allocator = make_allocator(laws)
    allocator.tests["spring"] = structs.replace(TEST, fixed=best)
    for number in range(20):
        got, decision = ask(allocator, f"run-{number}")
        assert (got.setting, got.propensity, decision.propensity) == (best, 1.0, 1.0)


def test_a_fixed_setting_of_another_size_is_not_the_dices(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """Where no size is chosen, a setting of the same numbers and a size is another one."""
    best = ask(make_allocator(laws))[0].setting
    allocator = make_allocator(laws)
    sized = Setting(best.agent_count, best.max_iterations, best.context_budget, best.parallelism, "large")
    allocator.tests["spring"] = structs.replace(TEST, fixed=sized)
    found = {got.arm: got.propensity for got, _ in (ask(allocator, f"run-{number}") for number in range(20))}
    assert found == pytest.approx({"dynamic": 0.7, "fixed": 0.3})


def test_all_runs_of_a_task_are_in_one_arm(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """As the test draws it from the task_id."""
    allocator = make_allocator(laws)
    allocator.tests["spring"] = TEST
    for number in range(20):
        task = {"task_id": f"task-{number}"}
        arms = {ask(allocator, f"run-{number}-{again}", task=task)[0].arm for again in range(3)}
        assert arms == {str(arm_of(TEST, f"task-{number}"))}


def test_only_free_tasks_of_its_context_take_part(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """Neither those of other contexts, nor where a person decides, nor once it has ended."""
    allocator = make_allocator(laws)
    allocator.tests["spring"] = structs.replace(TEST, context="project=web")
    web = {"project": "web"}
    assert ask(allocator, task=web)[0].test == "spring"
    assert ask(allocator)[0].test == ""
    assert ask(allocator, task=web, pins=Pins(agent_count=2), by="ada", reason="incident")[0].test == ""
    allocator.overrides.put(Override("freeze", "ada", "incident", "2026-03-01T08:00:00Z", pins=Pins(agent_count=1)))
    assert ask(allocator, task=web)[0].test == ""
    allocator.overrides.delete("freeze")
    allocator.tests["spring"] = structs.replace(TEST, ended_at="2026-03-09T08:00:00Z")
    assert ask(allocator, task=web)[0].test == ""
    assert probability(TEST, Arm.DYNAMIC) == 0.7


def test_a_decision_logs_all_that_values_a_policy(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """The request's plain fields, what was known of the task, what was given, and with which probability."""
    allocator = make_allocator(laws, exploration_rate=0.05)
    task = {
        "project": "web",
        "task_complexity": "high",
        "task_id": 7,
        "nested": {"left": "out"},
        "tags": ["left", "out"],
        "prompt": "x" * 1000,
        "urgent": True,
    }
    got, decision = ask(allocator, "run-9", task=task)
    assert decision == Decision(
        decision_id="run-9",
        decided_at="2026-03-10T12:30:15.250Z",
        policy_version=got.policy_version,
        setting=got.setting,
        propensity=got.propensity,
        choice=got.choice or got.setting,
        objective="most_outcome",
        outcome="success",
        method="joint",
        contexts=["global", "project=web", "complexity_band=high"],
        task={"project": "web", "task_complexity": "high", "task_id": 7, "prompt": "x" * 256, "urgent": True},
        complexity=0.9,
        budget=BUDGET,
        explored=got.explored,
        expected={name: each.estimate for name, each in got.expected.items()},
        laws={law.law_id: 1 for law in laws},
    )


def test_the_policy_is_named_by_its_method_and_laws(laws: tuple[JointLaw, ...], make_allocator: Make) -> None:
    """A newer version of a law makes another one, the order in which laws came does not."""
    one = ask(make_allocator(laws))[0].policy_version
    assert ask(make_allocator(laws[::-1]))[0].policy_version == one
    newer = [structs.replace(laws[0], version=2), *laws[1:]]
    assert ask(make_allocator(newer))[0].policy_version != one
    assert one.startswith("joint:")
    assert ask(make_allocator())[0].policy_version.startswith("default:")
