"""Why a setting was chosen, in words. The document's logic has its words tested in test_document_logic."""

from collections.abc import Callable

import pytest

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import AllocateRequest, Objective, Override, Parts, Pins
from models.joint_laws import JointLaw


@pytest.fixture
def allocator(
    joint_laws: Callable[..., tuple[JointLaw, ...]],
    make_world: Callable[..., AllocationWorld],
    make_allocator: Callable[..., Allocator],
) -> Allocator:
    """Make an allocator that knows the laws of a world."""
    return make_allocator(joint_laws(make_world()))


def why(allocator: Allocator, **fields: object) -> str:
    """Ask why."""
    return allocator.allocate(AllocateRequest("r", {"task_complexity": 0.5}, **fields))[0].why  # type: ignore[arg-type]


def test_the_question_comes_first(allocator: Allocator) -> None:
    """With what was asked for in numbers a person reads."""
    assert why(allocator, budget=1 / 3).startswith("The most success within 0.3333 dollars: ")
    least = why(allocator, objective=Objective.LEAST_COST, target=0.25)
    assert least.startswith("The least cost at which success is expected to reach 0.25: ")
    net = why(allocator, objective=Objective.MOST_NET_VALUE, value=3.0)
    assert net.startswith("The most net value, success being worth 3 dollars: ")


def test_the_setting_and_what_to_expect_follow(allocator: Allocator) -> None:
    """Outcomes with their intervals, in their units."""
    pins = Pins(agent_count=1, max_iterations=3, context_budget=16_000)
    told = why(allocator, budget=1.0, pins=pins, by="ada", reason="incident 42")
    assert "1 agent of 3 iterations with 16,000 tokens, 1 at a time." in told
    for part in ("expected success 0.", "expected quality 0.", "expected dollars 0.", "expected seconds "):
        assert part in told
    assert "ada decided agent_count = 1, max_iterations = 3, context_budget = 16000 (incident 42)." in told


def test_what_binds_and_what_a_dollar_adds(allocator: Allocator) -> None:
    """A budget that binds is named with its worth."""
    told = why(allocator, budget=0.3)
    assert "What binds: budget" in told
    assert "One dollar more would add 0." in told


def test_every_decision_of_a_person_is_told(allocator: Allocator) -> None:
    """Pins, caps and sizes, each with its author and reason, then what they cost together."""
    order = Override(
        "o", "grace", "quota", "2026-03-01T08:00:00Z", pins=Pins(model_size="small"), caps=Parts(parallelism=2)
    )
    allocator.overrides.put(order)
    told = why(allocator, budget=0.5, caps=Parts(agent_count=2), by="ada", reason="incident")
    assert "ada decided agent_count <= 2 (incident)." in told
    assert "grace decided parallelism <= 2, model_size = small (quota)." in told
    assert told.index("ada decided") < told.index("grace decided") < told.index("That costs")


def test_each_sentence_ends_once(allocator: Allocator, make_joint_law: Callable[..., JointLaw]) -> None:
    """Also a note that came without a full stop."""
    allocator.book.put(make_joint_law(context="project=web", status="exploratory"))
    told = allocator.allocate(AllocateRequest("r", {"project": "web"}, 0.5))[0].why
    assert told.endswith("does not speak: it is exploratory, with 200 runs for 3 terms.")
    assert ".." not in told
