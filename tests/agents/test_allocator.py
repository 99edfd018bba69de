"""What a task is given, from laws fitted to simulated runs and from laws written down."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from msgspec import structs

from agents.allocator import Allocator
from agents.lawbook import LawBook
from agents.limits import Scope, limits_of
from agents.prices import prices_of
from agents.prospects import Prospects
from analytics.allocation_worlds import AllocationWorld, random_world
from analytics.joint_laws import Predictor, SettingGrid
from models.allocations import AllocateRequest, Allocation, Attitude, Method, Objective, Parts, Risk, Setting
from models.dimensions import LIVE_OUTCOMES, Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData, SettingsError, TargetOutOfReach
from models.joint_laws import JointLaw
from models.laws import Adjusted, Drift, Estimate, Law, Pooling
from models.settings import load_settings

AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL
SUCCESS, QUALITY, TIME, COST = LIVE_OUTCOMES
TASK = {"project": "web", "task_type": "bug", "task_complexity": 0.4}
GRIDS = {AGENTS: (1, 4), ITERATIONS: (2, 8), CONTEXT: (4000, 16_000), PARALLELISM: (1, 4)}

Fit = Callable[..., tuple[JointLaw, ...]]
MakeLaw = Callable[..., Law]
MakeWorld = Callable[..., AllocationWorld]
MakeAllocator = Callable[..., Allocator]


def ask(allocator: Allocator, budget: float | None = 1.0, /, **fields: object) -> Allocation:
    """Ask for a task of middling complexity, unless another one is given."""
    known: dict[str, object] = {"request_id": "run-1", "task": {"task_complexity": 0.5}, "budget": budget}
    return allocator.allocate(AllocateRequest(**known | fields))[0]  # type: ignore[arg-type]


@pytest.fixture
def law(make_law: MakeLaw) -> MakeLaw:
    """Make laws, version 7, with 100 runs at each of two usual values of the dimension."""

    def make(dimension: Dimension, outcome: Outcome, exponent: float, *, version: int = 7, **fields: object) -> Law:
        return make_law(dimension, outcome, exponent, x=GRIDS[dimension], version=version, **fields)

    return make


@pytest.fixture
def quality_laws(law: MakeLaw) -> list[Law]:
    """Make one law of quality for each dimension that shares the budget."""
    return [law(AGENTS, QUALITY, 0.3), law(ITERATIONS, QUALITY, 0.2), law(CONTEXT, QUALITY, 0.1)]


@pytest.fixture
def cost_laws(law: MakeLaw) -> list[Law]:
    """Make laws of cost with the unit costs 0.1, 0.05 and, for 1,000 tokens, 0.01."""
    slopes = {AGENTS: 0.1, ITERATIONS: 0.05, CONTEXT: 0.00001}
    return [law(dimension, COST, 1.0, slope=slope) for dimension, slope in slopes.items()]


def predicted(laws: tuple[JointLaw, ...], z: float) -> tuple[list[Setting], np.ndarray, np.ndarray, np.ndarray]:
    """Predict success, cost and time at every setting that joint laws of the usual runs speak of, one by one.

    Up to 8 agents, 10 iterations and 96,000 tokens (1.5 times what was tried); the widest near-linear parallelism.
    """
    success, _, time, cost = (Predictor.of(law) for law in laws)
    every = [*product(range(1, 9), range(1, 11), range(4000, 96_001, 1000), range(1, 9))]
    table = np.array([row for row in every if row[3] <= row[0]], np.float64)
    values = dict(zip((AGENTS, ITERATIONS, CONTEXT, PARALLELISM), table.T, strict=True))
    alone = SettingGrid({**values, PARALLELISM: np.ones(len(table))}, z)
    near = time.mean(alone) / time.mean(SettingGrid(values, z)) >= 0.7 * table[:, 3] * (1 - 1e-9)
    best: dict[tuple[float, ...], float] = {}
    for a, i, c, p in table[near].tolist():
        best[a, i, c] = max(best.get((a, i, c), 0), p)
    kept = np.array([(*key, p) for key, p in best.items()])
    grid = SettingGrid(dict(zip(values, kept.T, strict=True)), z)
    settings = [Setting(int(a), int(i), int(c), int(p)) for a, i, c, p in kept.tolist()]
    return settings, success.mean(grid), cost.mean(grid), time.mean(grid)


WORLDS = [pytest.param(number, id=random_world(number).shape) for number in range(6)]


@pytest.fixture
def world_laws(joint_laws: Fit) -> Callable[[int], tuple[JointLaw, ...]]:
    """Fit the laws of a random world."""
    return lambda number: joint_laws(random_world(number))


@pytest.mark.parametrize("number", WORLDS)
def test_no_setting_within_the_budget_is_better(
    world_laws: Callable[[int], tuple[JointLaw, ...]], make_allocator: MakeAllocator, number: int
) -> None:
    """The choice keeps its predicted mean cost within the budget, and brute force finds none that brings more."""
    laws = world_laws(number)
    settings, success, cost, _ = predicted(laws, 0.5)
    allocator = make_allocator(laws)
    for budget in (1.02 * cost.min(), *np.quantile(cost, (0.05, 0.3, 0.8)), 2 * cost.max()):
        got = ask(allocator, float(budget))
        row = settings.index(got.setting)
        assert got.method is Method.JOINT
        assert cost[row] <= budget
        assert success[row] == pytest.approx(success[cost <= budget].max(), rel=1e-9)
        assert got.expected["success"].estimate == pytest.approx(success[row], rel=1e-9)
        assert got.expected["total_cost"].estimate == pytest.approx(cost[row], rel=1e-9)


@pytest.mark.parametrize("number", WORLDS)
def test_the_least_cost_reaches_the_target(
    world_laws: Callable[[int], tuple[JointLaw, ...]], make_allocator: MakeAllocator, number: int
) -> None:
    """No cheaper setting does, by brute force; beyond what can be reached the best is named."""
    laws = world_laws(number)
    settings, success, cost, _ = predicted(laws, 0.5)
    target = float(np.quantile(success, 0.8))
    allocator = make_allocator(laws)
    got = ask(allocator, None, objective=Objective.LEAST_COST, target=target)
    row = settings.index(got.setting)
    assert success[row] >= target
    assert cost[row] == pytest.approx(cost[success >= target].min(), rel=1e-9)
    assert got.overspend is None
    assert got.reference is None
    with pytest.raises(TargetOutOfReach, match=f"{math.floor(success.max() * 1e4) / 1e4:.4f}"):
        ask(allocator, None, objective=Objective.LEAST_COST, target=min(1.0, float(success.max()) + 0.01))
    with pytest.raises(BudgetTooSmall):
        ask(allocator, float(cost[row]) * 0.9, objective=Objective.LEAST_COST, target=target)


@pytest.mark.parametrize("number", WORLDS)
def test_net_value_is_greatest(
    world_laws: Callable[[int], tuple[JointLaw, ...]], make_allocator: MakeAllocator, number: int
) -> None:
    """No setting brings more dollars than it costs, within a budget or without, by brute force."""
    laws = world_laws(number)
    settings, success, cost, _ = predicted(laws, 0.5)
    allocator, net = make_allocator(laws), 2.0 * success - cost
    got = ask(allocator, None, objective=Objective.MOST_NET_VALUE, value=2.0)
    assert net[settings.index(got.setting)] == pytest.approx(net.max(), rel=1e-9)
    budget = 0.5 * got.expected["total_cost"].estimate
    within = ask(allocator, budget, objective=Objective.MOST_NET_VALUE, value=2.0)
    assert net[settings.index(within.setting)] == pytest.approx(net[cost <= budget].max(), rel=1e-9)


def test_a_price_of_time_buys_slots(joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator) -> None:
    """Where seconds cost, more slots are given than near-linear speed-up would have, and less time is taken."""
    allocator = make_allocator(joint_laws(make_world(contention=0.3, agents=0.6)))
    free, dear = (
        ask(allocator, 1.0, objective=Objective.MOST_NET_VALUE, value=5.0, time_price=price) for price in (0.0, 0.02)
    )
    assert dear.setting.parallelism / dear.setting.agent_count > free.setting.parallelism / free.setting.agent_count
    assert dear.expected["time_to_complete"].estimate < free.expected["time_to_complete"].estimate


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": Objective.MOST_OUTCOME, "budget": None}, "budget = null"),
        ({"objective": Objective.LEAST_COST}, "target = null"),
        ({"objective": Objective.MOST_NET_VALUE}, "value = null"),
    ],
)
def test_an_objective_needs_what_it_is_about(
    make_allocator: MakeAllocator, fields: dict[str, object], message: str
) -> None:
    """The message names it."""
    with pytest.raises(InvalidEvent, match=message):
        ask(make_allocator(), 1.0, **fields)


def test_harder_tasks_get_more_for_the_same_target(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """Complexity moves the predictions; a task without any is one of typical complexity."""
    allocator = make_allocator(joint_laws(make_world(hardness=2.0, level=-0.5)))
    easy, usual, hard = (
        ask(allocator, None, task=task, objective=Objective.LEAST_COST, target=0.5)
        for task in ({"task_complexity": "low"}, {}, {"task_complexity": 0.75})
    )
    cheap, middle, dear = (each.expected["total_cost"].estimate for each in (easy, usual, hard))
    assert cheap < middle < dear


def test_a_bounded_chance_of_overspending_is_kept(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """With 10 % allowed it is said to be at most that, and 10,000 runs of the world confirm it."""
    world = make_world(cost_sigma=0.5)
    allocator = make_allocator(joint_laws(world))
    bold, careful = ask(allocator, 0.6), ask(allocator, 0.6, risk=Risk(overspend=0.1))
    assert bold.overspend is not None
    assert careful.overspend is not None
    assert careful.overspend <= 0.1 < bold.overspend
    assert "overspend" in careful.binds
    assert careful.expected["total_cost"].estimate < bold.expected["total_cost"].estimate
    at = {
        AGENTS: np.full(10_000, float(careful.setting.agent_count)),
        ITERATIONS: np.full(10_000, float(careful.setting.max_iterations)),
        CONTEXT: np.full(10_000, float(careful.setting.context_budget)),
    }
    spent = world.run(np.random.default_rng(4), SettingGrid(at, 0.5))[COST]
    assert float(np.mean(spent > 0.6)) < 0.13


def test_caution_prefers_what_is_known(joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator) -> None:
    """A lower bound and a tail mean choose settings whose outcome is less uncertain than that of the best mean."""
    allocator = make_allocator(joint_laws(make_world(), count=600))
    mean, lower, tail = (
        ask(allocator, 1.5, risk=risk)
        for risk in (Risk(), Risk(Attitude.LOWER_BOUND, kappa=3), Risk(Attitude.TAIL_MEAN, share=0.1))
    )
    assert lower.expected["success"].se < mean.expected["success"].se
    assert tail.expected["success"].se < mean.expected["success"].se
    assert lower.expected["success"].estimate <= mean.expected["success"].estimate
    none = ask(allocator, 1.5, risk=Risk(Attitude.LOWER_BOUND, kappa=0))
    assert none.setting == mean.setting


def test_parts_that_runs_do_not_vary_are_held(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """At what the runs had, and the answer says so."""
    fixed = ((CONTEXT, (16_000.0,)), (PARALLELISM, (3.0,)))
    got = ask(make_allocator(joint_laws(make_world(), fixed)), 1.0)
    assert got.setting.context_budget == 16_000
    assert got.setting.agent_count > 1
    assert got.setting.parallelism == min(3, got.setting.agent_count)
    assert "context_budget is held at 16000: the runs do not vary it." in got.why


def test_the_law_of_the_tasks_own_context_speaks(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """That of its project, before that of all runs; a task of another project has the latter."""
    own = joint_laws(make_world(agents=0.1, iterations=0.6), context="project=web")
    allocator = make_allocator([*joint_laws(make_world(agents=0.6, iterations=0.1)), *own])
    mine, other = (ask(allocator, 0.5, task={"project": project, "task_complexity": 0.5}) for project in ("web", "app"))
    assert mine.setting.max_iterations > mine.setting.agent_count
    assert other.setting.agent_count > other.setting.max_iterations
    assert set(mine.laws) == {law.law_id for law in own}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "expired", "missing": {"terms": "no runs for a month"}}, "it expired (no runs for a month)"),
        ({"status": "exploratory"}, "it is exploratory, with 6000 runs for 11 terms"),
    ],
)
def test_an_unsound_law_leaves_the_word_to_the_parent_context(
    joint_laws: Fit,
    make_world: MakeWorld,
    make_allocator: MakeAllocator,
    fields: dict[str, object],
    reason: str,
) -> None:
    """The answer is that of the parent, and says why the law of the task's own context does not speak."""
    parents = joint_laws(make_world())
    success, *others = joint_laws(make_world(agents=0.1), context="project=web")
    own = [structs.replace(success, **fields), *others]
    task = {"project": "web", "task_complexity": 0.5}
    got, alone = ask(make_allocator([*parents, *own]), 0.5, task=task), ask(make_allocator(parents), 0.5, task=task)
    assert "global|joint|success|audited" in got.laws
    assert f"project=web|joint|success|audited does not speak: {reason}." in got.why
    assert got.expected["success"] == ask(make_allocator([*parents, *others]), 0.5, task=task).expected["success"]
    assert alone.notes == []


def test_a_law_from_before_a_drift_does_not_speak(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator, law: MakeLaw
) -> None:
    """Not until it begins where the drift did; then the single laws, or the parent's, stand in."""
    laws = joint_laws(make_world())
    drift = Drift(evidence=1e6, limit=1e4, buckets=9, alarm=True, since="2026-03-05T00:00:00Z")
    allocator = make_allocator([*laws, law(AGENTS, SUCCESS, 0.3, drift=drift)])
    got = ask(allocator, outcome="success")
    assert got.method is Method.MARGINAL
    assert "success over agent_count has drifted since 2026-03-05T00:00:00Z." in got.why
    allocator.book.put(structs.replace(laws[0], version=2, epoch=2, epoch_since="2026-03-05T00:00:00Z"))
    assert ask(allocator, outcome="success").method is Method.JOINT


def test_a_tombstone_takes_a_law_back(joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator) -> None:
    """What was answered by it before does not count any more."""
    laws = joint_laws(make_world())
    allocator = make_allocator(laws)
    assert ask(allocator).method is Method.JOINT
    allocator.book.delete(laws[0].law_id)
    got = ask(allocator)
    assert (got.method, got.outcome) == (Method.JOINT, "quality_score")
    assert ask(allocator, outcome="success").method is Method.DEFAULT
    allocator.book.delete(laws[1].law_id)
    assert ask(allocator).method is Method.DEFAULT


def test_without_any_law_the_safe_default_is_given(make_allocator: MakeAllocator) -> None:
    """One agent, one iteration and 8,000 tokens, with unknown outcome, and the answer says why."""
    got = ask(make_allocator(exploration_rate=1.0))
    assert got.setting == Setting(1, 1, 8000, 1)
    assert (got.method, got.propensity, got.evidence) == (Method.DEFAULT, 1.0, "none")
    assert got.expected.keys() == {"total_cost"}
    assert got.expected["total_cost"].estimate == pytest.approx(0.05 + 0.02 + 8 * 0.003)
    assert got.promised is None
    assert got.best_probability is None
    assert "safe default" in got.why
    with pytest.raises(NotEnoughData, match="least_cost cannot be solved"):
        ask(make_allocator(), None, objective=Objective.LEAST_COST, target=0.5)


def test_laws_of_single_dimensions_decide_within_the_budget(
    law: MakeLaw, quality_laws: list[Law], cost_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """The best setting by the laws' exponents and slopes, within 1.5 times their range, is found."""
    got = ask(make_allocator([*quality_laws, *cost_laws, law(PARALLELISM, TIME, -0.7)]), 1.2, task=TASK)
    best, setting = 0.0, (0, 0, 0)
    for agents, iterations, kilo in product(range(1, 7), range(2, 11), range(4, 25)):
        quality = 0.5 * (agents / 2) ** 0.3 * (iterations / 4) ** 0.2 * (kilo / 8) ** 0.1
        if 0.1 * agents + 0.05 * iterations + 0.01 * kilo <= 1.2 and quality > best:
            best, setting = quality, (agents, iterations, kilo * 1000)
    assert (got.setting.agent_count, got.setting.max_iterations, got.setting.context_budget) == setting
    assert got.expected["quality_score"].estimate == pytest.approx(best)
    assert got.expected["total_cost"].estimate <= 1.2
    assert (got.method, got.outcome) == (Method.MARGINAL, "quality_score")
    assert got.setting.parallelism == min(3, got.setting.agent_count)
    assert set(got.laws.values()) == {7}
    assert len(got.laws) == 7
    assert "agents scale it more" in got.why


def test_simulated_runs_lead_to_nearly_what_their_world_allows(
    single_laws: Callable[..., tuple[Law, ...]], make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """Laws of single dimensions buy 95 % of the success that the world has at that cost."""
    world = make_world(agents=0.5, iterations=0.3, context=0.3)
    got = ask(make_allocator(single_laws(world)), 1.0)
    a, i, c = (axis.ravel() for axis in np.meshgrid(range(1, 9), range(1, 11), range(4000, 96_001, 1000)))
    grid = SettingGrid({AGENTS: a.astype(float), ITERATIONS: i.astype(float), CONTEXT: c.astype(float)}, 0.5)
    given = (a == got.setting.agent_count) & (i == got.setting.max_iterations) & (c == got.setting.context_budget)
    success, cost = world.success(grid), world.cost(grid)
    assert success[given][0] >= 0.95 * success[cost <= cost[given][0]].max()


def test_a_law_of_few_runs_is_used_by_its_pooled_slope(
    law: MakeLaw, quality_laws: list[Law], cost_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """A context of 40 runs a value allocates by what its siblings share: 0.05 over a mean of 0.5 is 0.1, not 0.9."""
    shared = Pooling(Estimate(0.05, 0.01, 0.03, 0.07), 0.05, 0.6, prior_dominated=True, contexts=5, family="project")
    few = {"context": "project=web", "runs": (40, 40), "status": "exploratory"}
    own, pooled = law(AGENTS, QUALITY, 0.9, **few), law(AGENTS, QUALITY, 0.9, **few, pooling=shared)
    alone, together = (ask(make_allocator([*quality_laws, one, *cost_laws]), 0.6, task=TASK) for one in (own, pooled))
    assert together.setting.agent_count < alone.setting.agent_count


def test_the_adjusted_law_decides_where_there_is_one(
    law: MakeLaw, quality_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """Agents that look useful only because easy tasks got more of them are not bought."""
    naive, none = Estimate(0.15, 0.01, 0.13, 0.17), Estimate(0.0, 0.01, -0.02, 0.02)
    fair = Adjusted(method="", slope=none, naive=naive, gap=0.15, n=200, strata=4)
    bought = ask(make_allocator(quality_laws))
    got = ask(make_allocator([*quality_laws[1:], law(AGENTS, QUALITY, 0.3, adjusted=fair)]))
    assert bought.setting.agent_count > 1
    assert got.setting.agent_count == 1


def test_success_is_bought_first_and_quality_where_only_that_has_a_law(
    law: MakeLaw, quality_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """Unless the request names what is bought."""
    both = make_allocator([*quality_laws, law(AGENTS, SUCCESS, 0.3)])
    assert ask(both).outcome == "success"
    assert ask(both, outcome="quality_score").outcome == "quality_score"
    assert ask(make_allocator(quality_laws)).outcome == "quality_score"


def test_a_default_gives_way_where_the_budget_does_not_reach(
    quality_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """Context without a law stays at 8,000 tokens while the budget lasts; else it is less, and the answer says so."""
    allocator = make_allocator(quality_laws[:2])
    rich, poor = ask(allocator, 1.0), ask(allocator, 0.1)
    assert rich.setting.context_budget == 8000
    assert "context: it keeps the default" in rich.why
    assert poor.setting.context_budget < 8000
    assert poor.expected["total_cost"].estimate <= 0.1
    assert "does not reach for the defaults" in poor.why


def test_a_budget_too_small_names_the_least(
    quality_laws: list[Law], cost_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """Below the cheapest setting that the laws speak of the error names a budget, and that budget does."""
    allocator = make_allocator([*quality_laws, *cost_laws])
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.2401"):
        ask(allocator, 0.1)
    assert ask(allocator, 0.2401).setting == Setting(1, 2, 4000, 1)
    with pytest.raises(BudgetTooSmall, match=r"needs 0\.0731"):
        ask(make_allocator(), 0.01)


def test_the_reference_method_is_the_closed_form(
    quality_laws: list[Law], cost_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """Shares 3:2:1 of 0.93 dollars, rounded: 3 cents over the budget, as the answer beside any other says too."""
    allocator = make_allocator([*quality_laws, *cost_laws])
    got = ask(allocator, 0.93, method="reference")
    assert got.setting == Setting(5, 6, 16_000, 1)
    assert (got.method, got.propensity) == (Method.REFERENCE, 1.0)
    assert got.overspend == 1.0
    assert got.expected["total_cost"].estimate == pytest.approx(0.96)
    assert "closed form" in got.why
    beside = ask(allocator, 0.93).reference
    assert beside is not None
    assert beside.setting == got.setting
    assert beside.overspend == pytest.approx(0.03)


def test_the_reference_needs_a_budget_a_law_and_no_orders(
    quality_laws: list[Law], make_allocator: MakeAllocator
) -> None:
    """It knows nothing else."""
    allocator = make_allocator(quality_laws)
    with pytest.raises(InvalidEvent, match="needs a budget"):
        ask(allocator, None, method="reference", objective=Objective.LEAST_COST, target=0.1)
    with pytest.raises(InvalidEvent, match="neither pins nor caps"):
        ask(allocator, method="reference", caps=Parts(agent_count=2), by="ada", reason="incident")
    with pytest.raises(NotEnoughData, match="closed form needs a law"):
        ask(make_allocator(), method="reference")


def test_the_closed_form_beside_is_that_of_the_tasks_own_laws(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator, law: MakeLaw
) -> None:
    """Two projects that share joint laws, but not laws of single dimensions, have different ones."""
    single = [
        law(dimension, SUCCESS, exponent, context=f"project={name}")
        for name, exponents in (("a", (0.6, 0.1)), ("b", (0.1, 0.6)))
        for dimension, exponent in zip((AGENTS, ITERATIONS), exponents, strict=True)
    ]
    allocator = make_allocator([*joint_laws(make_world()), *single])
    one, other = (ask(allocator, 0.5, task={"project": name}).reference for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert one.setting.agent_count > other.setting.agent_count
    assert one.setting.max_iterations < other.setting.max_iterations


def test_the_front_is_told_where_it_is_asked_for(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """Cheapest first, each better than all before, and the choice among them."""
    allocator = make_allocator(joint_laws(make_world()))
    got = ask(allocator, 0.5, front=True)
    assert all(a.cost < b.cost and a.outcome < b.outcome for a, b in zip(got.front, got.front[1:], strict=False))
    assert got.setting in [each.setting for each in got.front]
    assert ask(allocator, 0.5).front == []


def test_native_settings_are_given_where_they_are_asked_for(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """In the orchestrator's own names; an unknown orchestrator is refused."""
    allocator = make_allocator(joint_laws(make_world()))
    got = ask(allocator, 0.5, native=["langgraph", "openai-agents"])
    turns = 2 * got.setting.max_iterations + 1
    assert got.native["langgraph"].settings["recursion_limit"] == turns
    assert got.native["openai-agents"].settings["max_turns"] == got.setting.max_iterations
    with pytest.raises(SettingsError, match="orchestrator = 'hal'"):
        ask(allocator, 0.5, native=["hal"])


def test_sizes_to_choose_from(make_joint_law: Callable[..., JointLaw], make_allocator: MakeAllocator) -> None:
    """The large model is worth its price or is not, and the answer names the size."""
    sized = {
        "terms": ["1", "ln_agents", "size=large"],
        "covariance": [0.01, 0.0, 0.0, 0.04, 0.0, 0.01],
        "centres": {"ln_agents": 1.1},
        "bases": {"agent_count": "realised", "model_size": "category"},
        "categories": ["small", "large"],
    }
    bring = make_joint_law(SUCCESS, **sized, coefficients=[0.0, 0.2, 1.0])
    dear = make_joint_law(COST, **sized, coefficients=[0.0, 0.0, 2.0])
    allocator = make_allocator([bring, dear])
    rich, poor = (ask(allocator, budget, model_sizes=["small", "large"]) for budget in (5.0, 0.2))
    assert rich.setting.model_size == "large"
    assert poor.setting.model_size == "small"
    assert "of size small" in poor.why
    assert ask(allocator, 5.0).setting.model_size == ""


def test_a_small_change_of_a_law_does_not_flap(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """A setting that is no longer quite the best is kept while it is within 0.005 of it; a large change moves it."""
    laws = joint_laws(make_world(agents=0.35, iterations=0.3))
    allocator = make_allocator(laws)
    before = ask(allocator, 0.5)
    success = laws[0]

    def moved(version: int, step: float) -> JointLaw:
        slopes = dict(zip(success.terms, success.coefficients, strict=True))
        slopes |= {"ln_agents": slopes["ln_agents"] - step, "ln_iterations": slopes["ln_iterations"] + step}
        return structs.replace(success, version=version, coefficients=list(slopes.values()))

    steps = [0.005 * k for k in range(1, 20)]
    fresh = [ask(make_allocator([moved(2, step), *laws[1:]]), 0.5) for step in steps]
    small = next(place for place, got in enumerate(fresh) if got.setting != before.setting)
    allocator.book.put(moved(2, steps[small]))
    kept = ask(allocator, 0.5)
    assert kept.setting == before.setting
    assert "is kept" in kept.why
    assert kept.runner_up is not None
    assert kept.runner_up.setting == fresh[small].setting
    assert kept.policy_version != before.policy_version
    allocator.book.put(moved(3, 1.0))
    after = ask(allocator, 0.5)
    assert after.setting.max_iterations > before.setting.max_iterations
    assert after.setting == ask(make_allocator([moved(3, 1.0), *laws[1:]]), 0.5).setting


def test_the_same_request_has_the_same_answer(
    joint_laws: Fit, make_world: MakeWorld, make_allocator: MakeAllocator
) -> None:
    """Asked again, and by another allocator that knows the same laws, in whichever order they came."""
    laws = joint_laws(make_world())
    one, other = make_allocator(laws, exploration_rate=0.3), make_allocator(laws[::-1], exploration_rate=0.3)
    for number in range(50):
        name = f"run-{number}"
        assert ask(one, 0.5, request_id=name) == ask(one, 0.5, request_id=name) == ask(other, 0.5, request_id=name)


def test_more_money_never_brings_less(joint_laws: Fit, make_allocator: MakeAllocator) -> None:
    """And what one dollar more is said to add, it adds."""
    allocator = make_allocator(joint_laws(random_world(3)))
    answers = [ask(allocator, budget) for budget in (0.1, 0.2, 0.4, 0.8, 1.8)]
    brought = [each.expected["success"].estimate for each in answers]
    assert brought == sorted(brought)
    assert brought[4] - brought[3] == pytest.approx(answers[3].next_dollar, abs=1e-9)


def test_what_is_said_of_a_law_is_the_weakest(
    make_joint_law: Callable[..., JointLaw], make_allocator: MakeAllocator
) -> None:
    """One associational law makes the answer associational."""
    cost = make_joint_law(COST)
    assert ask(make_allocator([make_joint_law(), cost])).evidence == "adjusted"
    weak = structs.replace(cost, evidence="associational")
    assert ask(make_allocator([make_joint_law(), weak])).evidence == "associational"


def test_notes_are_told_once(make_joint_law: Callable[..., JointLaw], make_allocator: MakeAllocator) -> None:
    """Also those on success where quality is bought instead."""
    old = make_joint_law(SUCCESS, status="expired", missing={"terms": "no runs"})
    got = ask(make_allocator([old, make_joint_law(QUALITY), make_joint_law(COST)]))
    assert got.outcome == "quality_score"
    assert got.notes.count("global|joint|success|audited does not speak: it expired (no runs)") == 1


def test_prospects_are_kept_while_their_laws_stand(joint_laws: Fit, make_world: MakeWorld) -> None:
    """A law that does not concern the task changes nothing, and a newer version of one that does makes a new one."""
    book, settings = LawBook(), load_settings()
    laws = joint_laws(make_world())
    for each in laws:
        book.put(each)
    prospects, scope = Prospects(book, settings), Scope(limits_of(settings))

    def of(complexity: float) -> object:
        return prospects.of({}, ["global"], complexity, None, scope)

    first = of(0.5)
    assert of(0.5) is first
    assert of(0.6) is not first
    book.put(structs.replace(laws[0], law_id="project=b|joint|success|audited", context="project=b"))
    assert of(0.5) is first
    book.put(structs.replace(laws[0], version=2))
    assert of(0.5) is not first
    assert prices_of(["global"], "", book, settings).laws == []
