"""The design document's logic, from laws fitted to planted worlds in which only what is asked about differs.

More agents and fewer iterations where the agent exponent is the larger; full parallelism up to where the speed-up stays
near linear; more context where context scaling is strong. In these worlds an agent and an iteration cost alike.
"""

from collections.abc import Callable, Iterable

import pytest

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld
from models.allocations import AllocateRequest, Allocation, Method
from models.dimensions import Dimension
from models.joint_laws import LawRecord
from models.settings import load_settings

SETTINGS = load_settings(exploration_rate=0)
AGENTS, PARALLELISM = Dimension.AGENT_COUNT, Dimension.PARALLELISM_LEVEL
Laws = Callable[[AllocationWorld], Iterable[LawRecord]]
MakeWorld = Callable[..., AllocationWorld]


@pytest.fixture(params=[Method.JOINT, Method.MARGINAL])
def method(request: pytest.FixtureRequest) -> Method:
    """Each source of laws in turn."""
    given: Method = request.param
    return given


@pytest.fixture
def laws(
    method: Method, joint_laws: Callable[..., Iterable[LawRecord]], single_laws: Callable[..., Iterable[LawRecord]]
) -> Laws:
    """Fit the laws of a world.

    For laws of single dimensions, that of time comes from runs of eight agents: with any number of agents, those with
    more slots would be those with more work.
    """

    def fit(world: AllocationWorld) -> Iterable[LawRecord]:
        if method is Method.JOINT:
            return joint_laws(world)
        eight = single_laws(world, ((AGENTS, (8.0,)), (PARALLELISM, (1.0, 2.0, 3.0, 4.0, 6.0, 8.0))))
        time = [law for law in eight if law.dimension == PARALLELISM]
        return [*(law for law in single_laws(world) if law.dimension != PARALLELISM), *time]

    return fit


def asked(laws: Iterable[LawRecord], budget: float) -> Allocation:
    """Ask for the most success within a budget."""
    allocator = Allocator(SETTINGS)
    for law in laws:
        allocator.book.put(law)
    return allocator.allocate(AllocateRequest("run-1", {"task_complexity": 0.5}, budget=budget))[0]


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.8])
def test_the_larger_exponent_gets_more(laws: Laws, make_world: MakeWorld, method: Method, budget: float) -> None:
    """Where agents scale success more there are more agents than iterations, where iterations do there are fewer."""
    wide = asked(laws(make_world(agents=0.6, iterations=0.1)), budget)
    deep = asked(laws(make_world(agents=0.1, iterations=0.6)), budget)
    assert wide.method is deep.method is method
    assert wide.setting.agent_count > wide.setting.max_iterations
    assert deep.setting.max_iterations > deep.setting.agent_count
    assert wide.setting.agent_count > deep.setting.agent_count
    assert wide.setting.max_iterations < deep.setting.max_iterations
    assert "agents scale it more" in wide.why
    assert "iterations scale it more" in deep.why


def test_equal_exponents_get_about_the_same(laws: Laws, make_world: MakeWorld) -> None:
    """With equal exponents and prices neither gets more than twice the other."""
    got = asked(laws(make_world(agents=0.4, iterations=0.4, context=0.3)), 0.8).setting
    assert 0.5 <= got.agent_count / got.max_iterations <= 2


def test_parallelism_is_full_where_the_speed_up_is_linear(laws: Laws, make_world: MakeWorld) -> None:
    """Without contention all agents work at once, and the words say why."""
    got = asked(laws(make_world(agents=0.6, iterations=0.1, contention=0.0, coherence=1e-5)), 0.8)
    assert got.setting.parallelism == got.setting.agent_count >= 4
    assert "70% of linear or better" in got.why


def test_parallelism_ends_where_the_speed_up_leaves_the_linear(
    laws: Laws, make_world: MakeWorld, method: Method
) -> None:
    """With p slots 1 + 0.15 (p - 1) times as slow as linear, 0.7 of it is reached at p = 3.9."""
    got = asked(laws(make_world(agents=0.6, iterations=0.1, contention=0.15, coherence=1e-5)), 0.8)
    assert got.setting.agent_count >= 6
    if method is Method.JOINT:
        assert got.setting.parallelism in {3, 4}
        assert "More slots would bring less than 70% of a linear speed-up" in got.why
    else:
        # A power of the slots does not bend as the world does.
        assert 1 < got.setting.parallelism < got.setting.agent_count
        assert f"Parallelism is at most {got.setting.parallelism}" in got.why


def test_one_slot_where_agents_hinder_each_other(laws: Laws, make_world: MakeWorld) -> None:
    """With contention of a half two slots are already less than 70 % of linear."""
    got = asked(laws(make_world(agents=0.6, iterations=0.1, contention=0.5, coherence=0.1)), 0.8)
    assert got.setting.agent_count > 1
    assert got.setting.parallelism == 1


def test_strong_context_scaling_buys_context(laws: Laws, make_world: MakeWorld) -> None:
    """A larger exponent of context buys more of it, and none buys the least."""
    strong, weak = (asked(laws(make_world(context=exponent)), 0.5) for exponent in (0.6, 0.0))
    assert strong.setting.context_budget >= 4 * weak.setting.context_budget
    assert "Context scaling is strong" in strong.why
    assert "Context scaling is weak" in weak.why
