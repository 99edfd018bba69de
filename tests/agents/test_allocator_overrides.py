"""People decide instead of the laws: for one call, or by a standing order."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import (
    AllocateRequest,
    Allocation,
    Intervention,
    Method,
    Objective,
    Override,
    Parts,
    Pins,
    PortfolioRequest,
    Setting,
)
from models.dimensions import Dimension
from models.errors import InvalidEvent, NotEnoughData, SettingsError
from models.joint_laws import JointLaw
from models.laws import Law

AGENTS, CONTEXT = Dimension.AGENT_COUNT, Dimension.CONTEXT
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
TASK = {"project": "web", "task_complexity": 0.5}
BY: Mapping[str, Any] = {"by": "ada", "reason": "incident 42"}

Fit = Callable[..., tuple[JointLaw, ...]]


def order(name: str, pins: Pins | None = None, caps: Parts | None = None, **fields: object) -> Override:
    """Make a standing order of Grace."""
    known = {"given_at": "2026-03-01T08:00:00Z", "pins": pins or Pins(), "caps": caps or Parts()}
    return Override(name, "grace", f"because of {name}", **known | fields)  # type: ignore[arg-type]


def ask(allocator: Allocator, budget: float | None = 0.5, /, now: datetime = NOW, **fields: Any) -> Allocation:  # noqa: ANN401 - any field
    """Ask for a task of the project web."""
    known: dict[str, Any] = {"request_id": "run-1", "task": TASK, "budget": budget}
    return allocator.allocate(AllocateRequest(**known | fields), now)[0]


@pytest.fixture
def laws(joint_laws: Fit, make_world: Callable[..., AllocationWorld]) -> tuple[JointLaw, ...]:
    """Fit the laws of a world in which agents and iterations are worth about the same."""
    return joint_laws(make_world(contention=0.1))


@pytest.fixture
def allocator(laws: tuple[JointLaw, ...], make_allocator: Callable[..., Allocator]) -> Allocator:
    """Make an allocator that knows them."""
    return make_allocator(laws)


@pytest.mark.parametrize(
    "pins",
    [
        Pins(agent_count=4),
        Pins(max_iterations=2),
        Pins(context_budget=10_000),
        Pins(context_budget=10_500),
        Pins(context_budget=12_345, max_iterations=3),
        Pins(agent_count=3, parallelism=1),
        Pins(agent_count=2, max_iterations=3, context_budget=8000, parallelism=2),
    ],
    ids=str,
)
def test_a_pin_by_the_call_is_exact(allocator: Allocator, pins: Pins) -> None:
    """Also between two steps of context; the rest is the best that goes with it, within the budget."""
    got = ask(allocator, pins=pins, **BY)
    assert {name: getattr(got.setting, name) for name in pins.numbers()} == pins.numbers()
    assert got.expected["total_cost"].estimate <= 0.5
    assert got.overrides == [Intervention("call", "ada", "incident 42", pins)]
    assert "ada decided" in got.why
    assert "incident 42" in got.why


def test_what_an_override_costs_is_told(allocator: Allocator) -> None:
    """In success against the free choice; in dollars where dollars are what is asked about."""
    free, pinned = ask(allocator), ask(allocator, pins=Pins(max_iterations=10, agent_count=1), **BY)
    loss = free.expected["success"].estimate - pinned.expected["success"].estimate
    assert loss > 0
    assert pinned.override_cost == pytest.approx(loss, rel=1e-6)
    assert f"That costs {loss:.3g} success." in pinned.why
    target: dict[str, Any] = {"objective": Objective.LEAST_COST, "target": pinned.expected["success"].estimate * 0.9}
    cheap, dear = ask(allocator, None, **target), ask(allocator, None, **target, pins=Pins(agent_count=8), **BY)
    more = dear.expected["total_cost"].estimate - cheap.expected["total_cost"].estimate
    assert dear.override_cost == pytest.approx(more, rel=1e-6)
    assert f"That costs {more:.3g} dollars." in dear.why
    assert ask(allocator).override_cost == 0


def test_what_cannot_be_had_without_an_override_has_no_price(
    single_laws: Callable[..., tuple[Law, ...]],
    make_world: Callable[..., AllocationWorld],
    make_allocator: Callable[..., Allocator],
) -> None:
    """Where limits end below the range of a law only a pin has an answer, and it is not refused for that."""
    laws = single_laws(make_world(), ((CONTEXT, (16_000.0, 32_000.0)),))
    allocator = make_allocator(laws, most_context=4000)
    with pytest.raises(NotEnoughData, match="widen"):
        ask(allocator)
    got = ask(allocator, pins=Pins(context_budget=4000), **BY)
    assert (got.setting.context_budget, got.override_cost) == (4000, 0)


def test_a_cap_bounds_a_part(allocator: Allocator) -> None:
    """The rest is chosen; a cap above the choice changes nothing and costs nothing."""
    free = ask(allocator)
    assert free.setting.agent_count > 2
    capped = ask(allocator, caps=Parts(agent_count=2), **BY)
    assert capped.setting.agent_count <= 2
    assert "cap agent_count" in capped.binds
    loose = ask(allocator, caps=Parts(agent_count=8), **BY)
    assert (loose.setting, loose.override_cost) == (free.setting, 0)


def test_a_cap_of_parallelism_leaves_the_agents(allocator: Allocator) -> None:
    """It says how many work at a time, not how many there are."""
    free, capped = ask(allocator), ask(allocator, caps=Parts(parallelism=1), **BY)
    assert capped.setting.parallelism == 1 < free.setting.parallelism
    assert capped.setting.agent_count > 1


@pytest.mark.parametrize("missing", ["by", "reason"])
def test_a_call_says_by_whom_and_why(allocator: Allocator, missing: str) -> None:
    """An override without a name or a reason is refused."""
    parts: list[dict[str, Any]] = [{"pins": Pins(agent_count=2)}, {"caps": Parts(agent_count=2)}]
    for part in parts:
        with pytest.raises(InvalidEvent, match="say by whom and why"):
            ask(allocator, **part, **{**BY, missing: ""})


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"pins": Pins(agent_count=9)}, "agent_count pin = 9: must be from 1 to 8"),
        ({"pins": Pins(context_budget=200_000)}, "context_budget pin = 200000"),
        ({"caps": Parts(context_budget=500)}, "context_budget cap = 500: must be at least"),
        ({"pins": Pins(agent_count=2, parallelism=3)}, "parallelism cannot exceed agents"),
    ],
)
def test_what_is_outside_the_limits_is_refused(allocator: Allocator, part: dict[str, Any], message: str) -> None:
    """The message names part, value and rule."""
    with pytest.raises(SettingsError, match=message):
        ask(allocator, **part, **BY)


def test_beyond_the_range_of_a_law_pins_and_caps_are_kept(
    joint_laws: Fit, make_world: Callable[..., AllocationWorld], make_allocator: Callable[..., Allocator]
) -> None:
    """Below what runs had, and more than 1.5 times above it; a cap below gives what is nearest to the range."""
    tried = ((AGENTS, (2.0, 3.0, 4.0)), (CONTEXT, (16_000.0, 32_000.0, 48_000.0)))
    allocator = make_allocator(joint_laws(make_world(), tried))
    assert ask(allocator, pins=Pins(agent_count=1), **BY).setting.agent_count == 1
    assert ask(allocator, 2.0, pins=Pins(agent_count=8), **BY).setting.agent_count == 8
    assert ask(allocator, pins=Pins(context_budget=1000), **BY).setting.context_budget == 1000
    assert ask(allocator, 2.0, pins=Pins(context_budget=99_000), **BY).setting.context_budget == 99_000
    capped = ask(allocator, caps=Parts(context_budget=9500, agent_count=1), **BY)
    assert (capped.setting.context_budget, capped.setting.agent_count) == (9000, 1)
    assert capped.method is Method.JOINT
    assert capped.override_cost > 0


def test_a_cap_below_a_default_is_kept(make_allocator: Callable[..., Allocator]) -> None:
    """Also where no law speaks at all."""
    got = ask(make_allocator(), caps=Parts(context_budget=3000), **BY)
    assert got.setting == Setting(1, 1, 3000, 1)
    assert got.method is Method.DEFAULT


def test_a_standing_order_holds_for_its_context(allocator: Allocator) -> None:
    """A task of another project is free; who decided and why is in the answer."""
    allocator.overrides.put(order("freeze", Pins(agent_count=1), context="project=web"))
    got = ask(allocator)
    assert got.setting.agent_count == 1
    assert got.overrides == [Intervention("freeze", "grace", "because of freeze", Pins(agent_count=1))]
    assert ask(allocator, task={"project": "app"}).overrides == []
    allocator.overrides.delete("freeze")
    assert ask(allocator).overrides == []


def test_a_standing_order_holds_in_its_time(allocator: Allocator) -> None:
    """From its begin until before its end, and not once it is lifted."""
    window = order("window", Pins(agent_count=1), begins="2026-03-10T09:00:00-02:00", ends="2026-03-10T13:00:00Z")
    allocator.overrides.put(window)
    for hour, minute, held in ((10, 59, False), (11, 0, True), (12, 59, True), (13, 0, False)):
        got = ask(allocator, now=NOW.replace(hour=hour, minute=minute))
        assert bool(got.overrides) is held
    allocator.overrides.put(structs.replace(window, lifted_at="2026-03-10T11:30:00Z", lifted_by="ada"))
    assert ask(allocator).overrides == []


def test_the_call_is_stronger_than_an_order_and_a_cap_than_a_pin(allocator: Allocator) -> None:
    """Its pin stands, the order's is passed over; the cap of anyone lowers it, with a note."""
    allocator.overrides.put(order("wide", Pins(agent_count=6, max_iterations=1)))
    allocator.overrides.put(order("low", caps=Parts(agent_count=3), context="project=web"))
    got = ask(allocator, pins=Pins(agent_count=5), **BY)
    assert (got.setting.agent_count, got.setting.max_iterations) == (3, 1)
    assert "The pin agent_count = 5 is lowered to 3 by a cap." in got.notes
    assert [each.override_id for each in got.overrides] == ["call", "low", "wide"]


def test_a_fixed_policy_for_a_context_needs_no_law(make_allocator: Callable[..., Allocator]) -> None:
    """All parts pinned are what is given."""
    allocator = make_allocator()
    allocator.overrides.put(order("all", Pins(agent_count=4, max_iterations=7, context_budget=33_333, parallelism=2)))
    got = ask(allocator, 5.0)
    assert got.setting == Setting(4, 7, 33_333, 2)
    assert got.propensity == 1.0


@pytest.mark.parametrize("sizes", [[], ["large", "small"], ["large"]])
def test_a_size_that_is_pinned_is_given(allocator: Allocator, sizes: list[str]) -> None:
    """Whether or not the request chooses a size, or knows this one."""
    allocator.overrides.put(order("small", Pins(model_size="small")))
    assert ask(allocator, model_sizes=sizes).setting.model_size == "small"


def test_overrides_bound_a_portfolio_too(allocator: Allocator) -> None:
    """Standing orders hold for its tasks."""
    allocator.overrides.put(order("freeze", Pins(agent_count=2), context="project=web"))
    shared, decisions = allocator.share(PortfolioRequest("p", [TASK, {"project": "app"}], 1.5), NOW)
    web, app = shared.allocations
    assert web.setting.agent_count == 2
    assert app.overrides == []
    assert decisions[0].overrides == web.overrides != []


def test_an_answer_follows_its_overrides_at_once(allocator: Allocator) -> None:
    """What was answered before is not given again."""
    before = ask(allocator)
    allocator.overrides.put(order("freeze", Pins(agent_count=1)))
    assert ask(allocator).setting.agent_count == 1
    allocator.overrides.put(order("freeze", Pins(agent_count=2), given_at="2026-03-02T08:00:00Z"))
    assert ask(allocator).setting.agent_count == 2
    allocator.overrides.delete("freeze")
    assert ask(allocator) == before
