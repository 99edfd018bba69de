"""What joint laws, fitted to runs of planted worlds, say of settings."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product

import numpy as np
import pytest

from agents.joint_prospect import JointProspects, billions
from agents.lawbook import LawBook
from agents.limits import Scope, limits_of
from agents.prices import prices_of
from agents.prospect import Prospect
from analytics.allocation_worlds import AllocationWorld
from analytics.joint_laws import Predictor, SettingGrid
from models.allocations import Method, Setting
from models.dimensions import LIVE_OUTCOMES, Dimension, Outcome
from models.errors import NotEnoughData, SettingsError
from models.joint_laws import JointLaw
from models.settings import load_settings

SETTINGS = load_settings()
LIMITS = limits_of(SETTINGS)
PRICES = prices_of(["global"], "", LawBook(), SETTINGS)
AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL
SUCCESS, QUALITY, TIME, COST = LIVE_OUTCOMES

Fit = Callable[..., tuple[JointLaw, ...]]
Make = Callable[..., JointLaw]


@pytest.fixture
def laws(joint_laws: Fit, make_world: Callable[..., AllocationWorld]) -> Fit:
    """Fit laws of a world with some contention: up to four slots are near linear."""

    def fit(*tried: tuple[Dimension, tuple[float, ...]], **fields: object) -> tuple[JointLaw, ...]:
        return joint_laws(make_world(contention=0.1), tried, **fields)

    return fit


def prospect(
    laws: Sequence[JointLaw], scope: Scope | None = None, complexity: float | None = 0.5, category: str | None = None
) -> Prospect:
    """Make the prospect of success by these laws."""
    known = {Outcome(law.outcome): law for law in laws}
    return JointProspects(SUCCESS, known, PRICES, scope or Scope(LIMITS), category).at(complexity)


def predict(law: JointLaw, setting: Setting, complexity: float | None = 0.5) -> float:
    """Predict by a law alone."""
    values: Mapping[Dimension, np.ndarray] = {
        AGENTS: np.array([setting.agent_count], float),
        ITERATIONS: np.array([setting.max_iterations], float),
        CONTEXT: np.array([setting.context_budget], float),
        PARALLELISM: np.array([setting.parallelism], float),
    }
    return float(Predictor.of(law).mean(SettingGrid(values, complexity))[0])


def span(prospect: Prospect, part: str) -> tuple[int, int]:
    """Give the least and the greatest value of a part that is looked at."""
    column = getattr(prospect.outlook.grid, part)
    return int(column.min()), int(column.max())


@pytest.mark.parametrize("complexity", [None, 0.0, 0.85])
def test_each_setting_is_predicted_by_the_laws(laws: Fit, complexity: float | None) -> None:
    """Outcome, cost and time at settings picked at random are those of the laws at this complexity."""
    success, _, time, cost = found = laws()
    made = prospect(found, complexity=complexity)
    assert made.outlook.time is not None
    for row in np.random.default_rng(1).integers(len(made.outlook.grid), size=20).tolist():
        setting = made.outlook.grid.setting(row)
        assert made.outlook.outcome[row] == pytest.approx(predict(success, setting, complexity), rel=1e-9)
        assert made.outlook.cost[row] == pytest.approx(predict(cost, setting, complexity), rel=1e-9)
        assert made.outlook.time[row] == pytest.approx(predict(time, setting, complexity), rel=1e-9)
    assert (made.method, made.cost_source) == (Method.JOINT, cost.law_id)
    assert made.versions == {law.law_id: 1 for law in found}
    assert made.outlook.cost_cv == pytest.approx(cost.dispersion**0.5)


def test_all_outcomes_are_expected_with_intervals(laws: Fit) -> None:
    """Where a law speaks; without a law of cost the price table's dollars stand, without an error."""
    found = laws()
    setting = Setting(3, 4, 16_000, 2)
    expected = prospect(found).expect([setting])
    assert expected.keys() == {outcome.value for outcome in LIVE_OUTCOMES}
    assert all(each[0].lo < each[0].estimate < each[0].hi for each in expected.values())
    priced = prospect(found[:2]).expect([setting])
    assert priced.keys() == {"success", "quality_score", "total_cost"}
    assert priced["total_cost"][0].estimate == pytest.approx(3 * 0.05 + 4 * 0.02 + 16 * 0.003)
    assert priced["total_cost"][0].se == 0
    assert prospect(found[:2]).cost_source == "price_table"


def test_the_grid_is_what_the_laws_speak_of(laws: Fit) -> None:
    """From the least value that runs had to 1.5 times the greatest, within the limits."""
    made = prospect(laws((CONTEXT, (8000.0, 16_000.0, 32_000.0)), (AGENTS, (2.0, 3.0, 4.0))))
    assert span(made, "agent_count") == (2, 6)
    assert span(made, "max_iterations") == (1, 10)
    assert span(made, "context_budget") == (8000, 48_000)


def test_a_pin_frees_a_part_from_the_range(laws: Fit) -> None:
    """A part that a person decides is looked at within the limits, and predicted as at the end of the range."""
    found = laws((AGENTS, (2.0, 3.0, 4.0)))
    made = prospect(found, Scope(LIMITS, frozenset({"agent_count"})))
    assert span(made, "agent_count") == (1, 8)
    one, six, eight = (each.estimate for each in made.expect([Setting(a, 3, 8000, 1) for a in (2, 6, 8)])["success"])
    assert one < six == eight


def test_a_cap_below_the_range_leaves_the_nearest_value(laws: Fit) -> None:
    """What is nearest to what the laws know is given."""
    found = laws((CONTEXT, (8000.0, 16_000.0, 32_000.0)))
    assert prospect(found).barred("context_budget", 4500)
    assert not prospect(found).barred("context_budget", 8000)
    assert span(prospect(found, Scope(LIMITS.capped(context_budget=4500))), "context_budget") == (4000, 4000)


def test_limits_outside_the_range_leave_nothing(laws: Fit) -> None:
    """A deployment whose limits end below what its runs had is told."""
    with pytest.raises(NotEnoughData, match="widen most_agents"):
        prospect(laws((CONTEXT, (8000.0, 16_000.0))), Scope(limits_of(load_settings(most_context=4000))))


def test_a_part_that_runs_do_not_vary_is_held(laws: Fit) -> None:
    """At what the runs had; nothing else is known."""
    made = prospect(laws((CONTEXT, (16_000.0,)), (ITERATIONS, (4.0,))))
    assert span(made, "context_budget") == (16_000, 16_000)
    assert span(made, "max_iterations") == (4, 4)
    assert span(made, "agent_count") == (1, 8)
    assert "context_budget is held at 16000: the runs do not vary it." in made.notes
    assert made.barred("context_budget", 15_000)


def test_a_part_that_no_run_tells_is_held_at_its_default(make_joint_law: Make) -> None:
    """A law of agents alone says nothing of iterations, context and slots."""
    made = prospect([make_joint_law()])
    assert span(made, "agent_count") == (1, 8)
    assert [span(made, part) for part in ("max_iterations", "context_budget", "parallelism")] == [
        (1, 1),
        (8000,) * 2,
        (1, 1),
    ]
    assert "max_iterations is held at 1: no run tells it." in made.notes


def test_the_law_of_cost_must_speak_of_a_part_too(make_joint_law: Make) -> None:
    """What it would cost is not known, so it stays at what the runs had."""
    both = {"agent_count": [1.0, 8.0], "context": [4000.0, 64_000.0]}
    typical = {"agent_count": 3.0, "context": 16_100.0}
    bring = make_joint_law(support=both, typical=typical)
    made = prospect([bring, make_joint_law(COST)])
    assert span(made, "context_budget") == (16_000, 16_000)
    assert "context_budget is held at 16000: no joint law of total_cost speaks of it." in made.notes


def test_slots_that_runs_do_not_vary_bind_no_agents(laws: Fit) -> None:
    """Three slots at all times say nothing against four agents: three of them work at a time."""
    made = prospect(laws((PARALLELISM, (3.0,))))
    grid = made.outlook.grid
    assert set(grid.agent_count.tolist()) == set(range(1, 9))
    np.testing.assert_array_equal(grid.parallelism, np.minimum(3, grid.agent_count))
    assert made.slowed is None


def test_without_a_law_of_time_slots_are_held(laws: Fit) -> None:
    """Success says nothing of speed."""
    success, _, _, cost = laws()
    made = prospect([success, cost])
    assert len({*zip(made.outlook.grid.agent_count.tolist(), made.outlook.grid.parallelism.tolist(), strict=True)}) == 8
    assert "parallelism is held at 2: no joint law of time_to_complete speaks of it." in made.notes


def widest(time: JointLaw, agents: int, iterations: int, context: int, least: int = 1) -> int:
    """Find the widest near-linear parallelism by looking at every one."""
    few = min(least, agents)
    alone = predict(time, Setting(agents, iterations, context, few))
    slots = range(few, agents + 1)
    near = [p for p in slots if alone / predict(time, Setting(agents, iterations, context, p)) >= 0.7 * p / few - 1e-9]
    return max(near)


def test_parallelism_is_the_widest_that_is_near_linear(laws: Fit) -> None:
    """For each choice of the other parts one value is left: the widest p with T(1) / T(p) >= 0.7 p."""
    found = laws()
    grid = prospect(found).outlook.grid
    key = {*zip(grid.agent_count.tolist(), grid.max_iterations.tolist(), grid.context_budget.tolist(), strict=True)}
    assert len(key) == len(grid) == 8 * 10 * 93
    for row in np.random.default_rng(2).integers(len(grid), size=40).tolist():
        each = grid.setting(row)
        assert each.parallelism == widest(found[2], each.agent_count, each.max_iterations, each.context_budget)
    assert 3 <= span(prospect(found), "parallelism")[1] <= 5


def test_slots_begin_where_the_runs_began(laws: Fit) -> None:
    """Where no run had one slot alone, the speed-up counts from two."""
    found = laws((AGENTS, (2.0, 3.0, 4.0, 6.0, 8.0)), (PARALLELISM, (2.0, 3.0, 4.0, 6.0, 8.0)))
    grid = prospect(found).outlook.grid
    assert set(grid.agent_count.tolist()) == set(range(2, 9))
    assert grid.parallelism.min() == 2
    for row in np.random.default_rng(3).integers(len(grid), size=40).tolist():
        each = grid.setting(row)
        assert each.parallelism == widest(found[2], each.agent_count, each.max_iterations, each.context_budget, 2)


def test_it_is_known_where_more_slots_would_be_slow(
    laws: Fit, joint_laws: Fit, make_world: Callable[..., AllocationWorld]
) -> None:
    """Not where all agents work, nor where the range of the law ends."""
    made = prospect(laws())
    grid = made.outlook.grid
    assert made.slowed is not None
    np.testing.assert_array_equal(made.slowed, grid.parallelism < grid.agent_count)
    few = prospect(joint_laws(make_world(contention=0.0, coherence=1e-6), ((PARALLELISM, (1.0, 2.0)),)))
    assert few.slowed is not None
    assert span(few, "parallelism") == (1, 3)
    assert not few.slowed.any()


def test_every_slot_is_looked_at_where_time_has_a_price_or_a_person_decides(laws: Fit) -> None:
    """36 pairs of agents and slots; beyond the law's range only for a person."""
    found = laws((PARALLELISM, (1.0, 2.0)))
    priced = prospect(found, Scope(LIMITS, time_priced=True))
    assert span(priced, "parallelism") == (1, 3)
    assert len(priced.outlook.grid) == (1 + 2 + 6 * 3) * 10 * 93
    pinned = prospect(found, Scope(LIMITS, frozenset({"parallelism"})))
    assert len(pinned.outlook.grid) == 36 * 10 * 93


def test_a_cap_of_the_slots_is_no_cap_of_the_agents(laws: Fit) -> None:
    """All agents stay, with two slots at the most, whether or not a law of time speaks."""
    found = laws()
    for known in (found, [found[0], found[3]]):
        capped = prospect(known, Scope(LIMITS.capped(parallelism=1)))
        assert span(capped, "agent_count") == (1, 8)
        assert span(capped, "parallelism") == (1, 1)
        assert prospect(known).barred("parallelism", 1)


SIZED = {
    "terms": ["1", "ln_agents", "size=large"],
    "coefficients": [0.0, 0.5, 1.0],
    "covariance": [0.01, 0.0, 0.0, 0.04, 0.0, 0.01],
    "centres": {"ln_agents": 1.1},
    "bases": {"agent_count": "realised", "model_size": "category"},
    "categories": ["small", "large"],
}


def test_sizes_by_name_are_told_apart(make_joint_law: Make) -> None:
    """A large model succeeds by one logit more; a size that no run had is left out."""
    scope = Scope(limits_of(SETTINGS, ["small", "large", "huge"]))
    made = prospect([make_joint_law(**SIZED)], scope)
    small, large = (made.outlook.grid.find(Setting(3, 1, 8000, 1, size)) for size in ("small", "large"))
    assert made.outlook.grid.find(Setting(3, 1, 8000, 1, "huge")) is None
    logits = np.log(made.outlook.outcome / (1 - made.outlook.outcome))
    assert logits[large] - logits[small] == pytest.approx(1.0)
    assert "No run tells of the model sizes huge." in made.notes


def test_of_sizes_that_no_run_had_the_first_stays(make_joint_law: Make) -> None:
    """It is predicted as the commonest one."""
    made = prospect([make_joint_law(**SIZED)], Scope(limits_of(SETTINGS, ["huge", "tiny"])))
    assert {made.outlook.grid.setting(row).model_size for row in range(len(made.outlook.grid))} == {"huge"}


def test_without_a_law_of_sizes_the_first_stays(make_joint_law: Make) -> None:
    """And a note says that no law tells them apart."""
    made = prospect([make_joint_law()], Scope(limits_of(SETTINGS, ["large", "small"])))
    assert {made.outlook.grid.setting(row).model_size for row in range(len(made.outlook.grid))} == {"large"}
    assert "No law tells model sizes apart: large is kept." in made.notes


def test_the_size_of_the_task_counts_where_none_is_chosen(make_joint_law: Make) -> None:
    """Its category makes the predictions, of the cost as well where only its law knows sizes."""
    bring, spend = make_joint_law(**SIZED), make_joint_law(COST, **SIZED, base={"agents": 0.02})
    small, large = (prospect([bring], category=size).outlook.outcome for size in ("small", "large"))
    assert (large > small).all()
    cheap, dear = (prospect([make_joint_law(), spend], category=size).outlook.cost for size in ("small", "large"))
    np.testing.assert_allclose(dear / cheap, np.e)


def test_sizes_in_billions_are_numbers(make_joint_law: Make) -> None:
    """A law of parameters takes 8, 8b or 70B; a name is refused."""
    law = make_joint_law(
        terms=["1", "ln_agents", "ln_size"],
        coefficients=[0.0, 0.5, 0.3],
        covariance=[0.01, 0.0, 0.0, 0.04, 0.0, 0.01],
        support={"agent_count": [1.0, 8.0], "model_size": [8.0, 70.0]},
        typical={"agent_count": 3.0, "model_size": 20.0},
        bases={"agent_count": "realised", "model_size": "realised"},
        centres={"ln_agents": 1.1, "ln_size": 3.0},
    )
    made = prospect([law], Scope(limits_of(SETTINGS, ["8b", "70B"])))
    logits = np.log(made.outlook.outcome / (1 - made.outlook.outcome))
    eight, seventy = (made.outlook.grid.find(Setting(3, 1, 8000, 1, size)) for size in ("8b", "70B"))
    assert logits[seventy] - logits[eight] == pytest.approx(0.3 * np.log(70 / 8))
    with pytest.raises(SettingsError, match="give a number such as 8 or 70"):
        prospect([law], Scope(limits_of(SETTINGS, ["large"])))


@pytest.mark.parametrize("name", ["", "b", "-3", "0", "nan", "inf", "8bb", "large"])
def test_what_is_no_number_of_billions_is_refused(name: str) -> None:
    """The message says what a size is here."""
    with pytest.raises(SettingsError, match="billions"):
        billions(name)


def test_the_usual_setting_is_nearest_to_the_middle_of_the_runs(laws: Fit) -> None:
    """On a logarithm, of those that may be chosen."""
    found = laws()
    made, typical = prospect(found), found[0].typical
    assert made.usual is not None
    for part, dimension in (("agent_count", AGENTS), ("max_iterations", ITERATIONS), ("context_budget", CONTEXT)):
        assert abs(np.log(getattr(made.usual, part) / typical[dimension])) < 0.2


def test_the_same_laws_give_the_same_draws(laws: Fit) -> None:
    """Draws come from the laws' versions alone, so that answers can be had again."""
    one, other = prospect(laws()), prospect(laws())
    np.testing.assert_array_equal(one.outlook.draws, other.outlook.draws)
    assert one.outlook.cost_draws is not None
    assert other.outlook.cost_draws is not None
    np.testing.assert_array_equal(one.outlook.cost_draws, other.outlook.cost_draws)


@pytest.mark.parametrize("complexity", [0.1, 0.9])
def test_each_setting_is_looked_at_once(laws: Fit, complexity: float) -> None:
    """No setting stands twice in the grid, and none has more slots than agents."""
    grid = prospect(laws(), Scope(LIMITS, time_priced=True), complexity).outlook.grid
    rows = [
        *zip(
            *(
                getattr(grid, part).tolist()
                for part in ("agent_count", "max_iterations", "context_budget", "parallelism")
            ),
            strict=True,
        )
    ]
    assert len(set(rows)) == len(rows)
    assert all(slots <= agents for agents, _, _, slots in rows)
    assert len(rows) <= len([*product(range(36), range(10), range(93))])
