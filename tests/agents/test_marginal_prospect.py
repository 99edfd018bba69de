"""What laws of single dimensions say of settings, and the closed form over them."""

from collections.abc import Callable

import numpy as np
import pytest

from agents.lawbook import LawBook
from agents.limits import Scope, limits_of
from agents.marginal_prospect import closed_form, marginal_prospect, marginals_of
from agents.prices import prices_of
from agents.prospect import Prospect
from models.allocations import Method, Setting
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law
from models.settings import load_settings

SETTINGS = load_settings()
LIMITS = limits_of(SETTINGS)
AGENTS, ITERATIONS, CONTEXT = Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT
PARALLELISM = Dimension.PARALLELISM_LEVEL
SUCCESS, QUALITY = Outcome.SUCCESS, Outcome.QUALITY_SCORE
TIME, COST = Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST
GRIDS = {AGENTS: (1, 4), ITERATIONS: (2, 8), CONTEXT: (4000, 16_000), PARALLELISM: (1, 4)}
PARTS = ("agent_count", "max_iterations", "context_budget")

Make = Callable[..., Law]


@pytest.fixture
def law(make_law: Make) -> Make:
    """Make laws with 100 runs at each of two usual values of the dimension."""

    def make(dimension: Dimension, outcome: Outcome, exponent: float, **fields: object) -> Law:
        return make_law(dimension, outcome, exponent, **({"x": GRIDS[dimension]} | fields))

    return make


@pytest.fixture
def laws(law: Make) -> list[Law]:
    """Make laws of quality, and of cost with the unit costs 0.1, 0.05 and, for 1,000 tokens, 0.01."""
    bring = [law(AGENTS, QUALITY, 0.3), law(ITERATIONS, QUALITY, 0.2), law(CONTEXT, QUALITY, 0.1)]
    slopes = {AGENTS: 0.1, ITERATIONS: 0.05, CONTEXT: 0.00001}
    return [*bring, *(law(dimension, COST, 1.0, slope=slope) for dimension, slope in slopes.items())]


def book(*laws: Law) -> LawBook:
    """Make a book of these laws."""
    made = LawBook()
    for one in laws:
        made.put(one)
    return made


def prospect(*laws: Law, scope: Scope | None = None, contexts: tuple[str, ...] = ("global",)) -> Prospect:
    """Make the prospect of quality by these laws."""
    known = book(*laws)
    prices = prices_of(contexts, "", known, SETTINGS)
    return marginal_prospect(marginals_of(contexts, known, [QUALITY]), prices, scope or Scope(LIMITS))


def span(prospect: Prospect, part: str) -> tuple[int, int]:
    """Give the least and the greatest value of a part that is looked at."""
    column = getattr(prospect.outlook.grid, part)
    return int(column.min()), int(column.max())


def test_quality_is_a_product_of_powers_around_the_mean_and_cost_a_sum(laws: list[Law]) -> None:
    """The prediction is 0.5 (a / 2)^0.3 (i / 4)^0.2 (c / 8)^0.1, and the cost 0.1 a + 0.05 i + 0.01 c."""
    made = prospect(*laws)
    grid = made.outlook.grid
    a, i, c = grid.agent_count, grid.max_iterations, grid.context_budget / 1000
    np.testing.assert_allclose(made.outlook.outcome, 0.5 * (a / 2) ** 0.3 * (i / 4) ** 0.2 * (c / 8) ** 0.1)
    np.testing.assert_allclose(made.outlook.cost, 0.1 * a + 0.05 * i + 0.01 * c)
    assert made.method is Method.MARGINAL
    assert made.cost_source == ", ".join(f"global|{each}|total_cost|live" for each in (AGENTS, ITERATIONS, CONTEXT))
    assert len(made.versions) == 6


def test_draws_differ_by_the_errors_of_the_exponents(law: Make) -> None:
    """Opposite pairs lie around the mean, and their spread at twice the anchor is that of the exponent, times ln 2."""
    made = prospect(law(AGENTS, QUALITY, 0.2, se=0.05, mean=0.3))
    row = made.outlook.grid.find(Setting(4, 1, 8000, 1))
    assert row is not None
    logs = np.log(made.outlook.draws[:, row] / made.outlook.outcome[row])
    assert logs.sum() == pytest.approx(0, abs=1e-9)
    assert logs.std(ddof=1) / np.log(2) == pytest.approx(0.05, rel=0.5)


def test_expectations_have_intervals_where_laws_have_errors(laws: list[Law]) -> None:
    """Quality has an interval within [0, 1]; a cost from slopes stands alone; a setting off the grid has them too."""
    made = prospect(*laws)
    expected = made.expect([Setting(2, 4, 8000, 1), Setting(7, 1, 99_500, 3)])
    assert expected["quality_score"][0].estimate == pytest.approx(0.5)
    assert (
        expected["quality_score"][1].lo < expected["quality_score"][1].estimate < expected["quality_score"][1].hi <= 1
    )
    assert [each.estimate for each in expected["total_cost"]] == pytest.approx([0.48, 1.745])
    assert expected["total_cost"][0].se == 0


def test_nothing_is_looked_at_beyond_the_range_of_a_law(laws: list[Law]) -> None:
    """Up to 1.5 times the greatest value of its runs, and not below the least."""
    made = prospect(*laws)
    assert span(made, "agent_count") == (1, 6)
    assert span(made, "max_iterations") == (2, 10)
    assert span(made, "context_budget") == (4000, 24_000)


def test_a_pin_frees_a_part_from_the_range(laws: list[Law]) -> None:
    """A part that a person decides is looked at within the limits."""
    made = prospect(*laws, scope=Scope(LIMITS, frozenset({"max_iterations", "context_budget"})))
    assert span(made, "agent_count") == (1, 6)
    assert span(made, "max_iterations") == (1, 10)
    assert span(made, "context_budget") == (1000, 100_000)


def test_a_cap_below_the_range_leaves_the_nearest_value(laws: list[Law]) -> None:
    """The law knows nothing there: what is nearest to what it knows is given."""
    capped = prospect(*laws, scope=Scope(LIMITS.capped(context_budget=2500)))
    assert span(capped, "context_budget") == (2000, 2000)
    assert prospect(*laws).barred("context_budget", 2500)
    assert not prospect(*laws).barred("context_budget", 4000)


def test_limits_outside_the_range_leave_nothing(laws: list[Law]) -> None:
    """A deployment whose limits end below what its runs had is told."""
    with pytest.raises(NotEnoughData, match="widen most_agents"):
        prospect(*laws, scope=Scope(limits_of(load_settings(most_context=3000))))


def test_a_part_without_a_law_keeps_its_default(law: Make) -> None:
    """Its default or less is looked at; the default is what is held, and a note says so."""
    made = prospect(law(AGENTS, QUALITY, 0.3), law(ITERATIONS, QUALITY, 0.2))
    assert span(made, "context_budget") == (1000, 8000)
    assert made.held is not None
    assert set(made.outlook.grid.context_budget[made.held].tolist()) == {8000}
    assert "No law of quality_score over context: it keeps the default." in made.notes
    assert made.barred("context_budget", 4000)


@pytest.mark.parametrize(("settings", "held"), [({"context_step": 3000}, 6000), ({"most_context": 5000}, 5000)])
def test_a_default_off_the_grid_is_the_greatest_value_below(settings: dict[str, int], held: int) -> None:
    """Steps and limits of a deployment may not meet the default."""
    made = prospect(scope=Scope(limits_of(load_settings(**settings))))
    assert made.held is not None
    assert set(made.outlook.grid.context_budget[made.held].tolist()) == {held}
    assert made.method is Method.DEFAULT


def test_without_a_law_nothing_is_predicted() -> None:
    """The outcome is unknown, the cost that of the price table."""
    made = prospect()
    assert made.outlook.outcome.max() == 0
    expected = made.expect([Setting(1, 1, 8000, 1)])
    assert expected.keys() == {"total_cost"}
    assert expected["total_cost"][0].estimate == pytest.approx(0.05 + 0.02 + 8 * 0.003)
    assert (made.method, made.evidence, made.cost_source, made.versions) == (Method.DEFAULT, "none", "price_table", {})


@pytest.mark.parametrize(
    ("exponent", "slots"), [(-1.0, [1, 2, 3, 4, 5, 6]), (-0.7, [1, 2, 3, 3, 3, 3]), (0.2, [1, 1, 1, 1, 1, 1])]
)
def test_slots_are_as_many_as_stay_near_linear(law: Make, laws: list[Law], exponent: float, slots: list[int]) -> None:
    """For one to six agents: all, up to where slots^-e falls below 0.7 slots, and one where time does not fall."""
    grid = prospect(*laws, law(PARALLELISM, TIME, exponent)).outlook.grid
    found = [sorted(set(grid.parallelism[grid.agent_count == agents].tolist())) for agents in range(1, 7)]
    assert found == [[each] for each in slots]


def test_slots_are_capped_and_pinned(law: Make, laws: list[Law]) -> None:
    """A cap is a cap of the slots alone, not of the agents; a person may give as many slots as agents."""
    linear = law(PARALLELISM, TIME, -1.0)
    capped = prospect(*laws, linear, scope=Scope(LIMITS.capped(parallelism=2)))
    assert span(capped, "agent_count") == (1, 6)
    assert span(capped, "parallelism") == (1, 2)
    assert prospect(*laws, linear).barred("parallelism", 2)
    free = prospect(*laws, scope=Scope(LIMITS, frozenset({"parallelism"})))
    assert span(free, "parallelism") == (1, 6)


def test_without_a_law_of_time_one_slot_is_given(laws: list[Law]) -> None:
    """And the note says why."""
    made = prospect(*laws)
    assert span(made, "parallelism") == (1, 1)
    assert "Parallelism is 1, because no law of time says that more slots save time." in made.notes


def test_model_sizes_are_not_told_apart(laws: list[Law]) -> None:
    """The first size stays, and a note says so."""
    made = prospect(*laws, scope=Scope(limits_of(SETTINGS, ["small", "large"])))
    assert {made.outlook.grid.setting(row).model_size for row in range(len(made.outlook.grid))} == {"small"}
    assert "No law tells model sizes apart: small is kept." in made.notes


def test_the_mean_is_that_of_the_most_specific_law(law: Make, laws: list[Law]) -> None:
    """Runs of the task's own project say how well it goes."""
    local = law(AGENTS, QUALITY, 0.01, context="project=web", mean=0.2)
    made = prospect(*laws, local, contexts=("global", "project=web"))
    assert made.expect([Setting(2, 4, 8000, 1)])["quality_score"][0].estimate == pytest.approx(0.2)


def test_the_first_outcome_with_any_law_is_what_is_bought(law: Make) -> None:
    """Laws of quality stand in where none of success is; a single one of success is enough."""
    quality = [law(AGENTS, QUALITY, 0.3), law(CONTEXT, QUALITY, 0.3)]
    assert marginals_of(["global"], book(*quality), [SUCCESS, QUALITY]).outcome == QUALITY
    both = marginals_of(["global"], book(*quality, law(ITERATIONS, SUCCESS, 0.1)), [SUCCESS, QUALITY])
    assert (both.outcome, list(both.laws)) == (SUCCESS, ["max_iterations"])
    none = marginals_of(["global"], book(), [SUCCESS, QUALITY])
    assert (none.outcome, none.used, none.mean_law) == (SUCCESS, [], None)


def test_the_closed_form_by_hand(law: Make, laws: list[Law]) -> None:
    """Shares 3:2:1 of 0.93 dollars are 4.65 agents, 6.2 iterations and 15,500 tokens, rounded: 3 cents too many."""
    known = book(*laws, law(PARALLELISM, TIME, -0.7))
    point = closed_form(
        marginals_of(["global"], known, [QUALITY]), prices_of(["global"], "", known, SETTINGS), 0.93, LIMITS
    )
    assert point is not None
    assert point.setting == Setting(5, 6, 16_000, 3)
    assert point.cost == pytest.approx(0.96)
    assert point.overspend == pytest.approx(0.03)
    assert point.outcome == pytest.approx(0.5 * 2.5**0.3 * 1.5**0.2 * 2**0.1)


def test_the_closed_form_needs_a_law() -> None:
    """Without one there is nothing to share by."""
    none = book()
    prices = prices_of(["global"], "", none, SETTINGS)
    assert closed_form(marginals_of(["global"], none, [QUALITY]), prices, 1.0, LIMITS) is None
    assert set(PARTS) == set(prices.by_part)
