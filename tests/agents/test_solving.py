"""Objectives, attitudes and what is told of a choice."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from agents.lawbook import LawBook
from agents.limits import Scope, limits_of
from agents.marginal_prospect import marginal_prospect, marginals_of
from agents.prices import prices_of
from agents.prospect import Prospect
from agents.solving import attitude_of, objective_of, ruled_by, solve
from analytics.outlook import LeastCost, LowerBound, MostNetValue, MostOutcome, TailMean
from models.allocations import AllocateRequest, Attitude, Method, Objective, Pins, Risk, Setting
from models.dimensions import Dimension, Outcome
from models.errors import InvalidEvent, NotEnoughData
from models.laws import Law
from models.settings import load_settings

SETTINGS = load_settings()
LIMITS = limits_of(SETTINGS)


def prospect(*laws: Law) -> Prospect:
    """Make the prospect of success by these laws."""
    book = LawBook()
    for law in laws:
        book.put(law)
    marginals = marginals_of(["global"], book, [Outcome.SUCCESS])
    return marginal_prospect(marginals, prices_of(["global"], "", book, SETTINGS), Scope(LIMITS))


@pytest.fixture
def known(make_law: Callable[..., Law]) -> Prospect:
    """Make a prospect by laws of agents and iterations; context has none."""
    return prospect(
        make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, 0.4), make_law(Dimension.ITERATIONS, Outcome.SUCCESS, 0.1)
    )


def test_requests_become_objectives(known: Prospect) -> None:
    """A budget that is not given bounds nothing."""
    assert objective_of(AllocateRequest("r", budget=2.0, risk=Risk(overspend=0.1)), known) == MostOutcome(2.0, 0.1)
    least = AllocateRequest("r", objective=Objective.LEAST_COST, target=0.5)
    assert objective_of(least, known) == LeastCost(0.5, math.inf)
    net = AllocateRequest("r", budget=1.0, objective=Objective.MOST_NET_VALUE, value=3.0, time_price=0.01)
    assert objective_of(net, known) == MostNetValue(3.0, 0.01, 1.0)


def test_without_a_law_only_a_budget_can_be_kept() -> None:
    """The message names the outcome that has no law."""
    for fields in (
        {"objective": Objective.LEAST_COST, "target": 0.5},
        {"objective": Objective.MOST_NET_VALUE, "value": 1.0},
    ):
        with pytest.raises(NotEnoughData, match="no law of success speaks for this task yet"):
            objective_of(AllocateRequest("r", budget=1.0, **fields), prospect())  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent, match="budget = null: the objective most_outcome needs one"):
        objective_of(AllocateRequest("r"), prospect())


def test_risks_become_attitudes() -> None:
    """The mean is a lower bound of no width."""
    assert attitude_of(Risk()) == LowerBound(0.0)
    assert attitude_of(Risk(Attitude.LOWER_BOUND, kappa=0.5)) == LowerBound(0.5)
    assert attitude_of(Risk(Attitude.TAIL_MEAN, share=0.3)) == TailMean(0.3)


def test_exponents_are_those_of_the_laws(known: Prospect) -> None:
    """Where the grid ends they are told of the step below; of a part that is not chosen there is none."""
    solved = solve(known, MostOutcome(1.0), Risk(), LIMITS, None, 0.0)
    for setting in (Setting(2, 4, 8000, 1), Setting(8, 10, 8000, 1), Setting(1, 1, 8000, 1)):
        told = solved.told(setting)
        assert told.exponents["agent_count"] == pytest.approx(0.4)
        assert told.exponents["max_iterations"] == pytest.approx(0.1)
        assert told.expected.keys() == {"success", "total_cost"}
    assert solved.told(Setting(2, 4, 8000, 1)) is solved.told(Setting(2, 4, 8000, 1))


def test_defaults_rule_until_the_budget_frees_them(known: Prospect) -> None:
    """What exploration and a portfolio may take is ruled alike."""
    held, freed = (solve(known, MostOutcome(budget), Risk(), LIMITS, None, 0.0) for budget in (1.0, 0.08))
    assert (held.freed, freed.freed) == (False, True)
    assert set(known.outlook.grid.context_budget[held.ruled].tolist()) == {8000}
    np.testing.assert_array_equal(held.ruled, ruled_by(known, LIMITS))
    np.testing.assert_array_equal(freed.ruled, ruled_by(known, LIMITS, freed=True))
    assert not (held.design & ~held.ruled).any()


def test_there_is_nothing_to_explore_without_a_law_or_a_free_part(known: Prospect) -> None:
    """Otherwise exploration goes to several settings within budget and rules."""
    solved = solve(known, MostOutcome(1.0), Risk(), LIMITS, None, 0.0)
    dice = solved.exploration(0.2, Pins(agent_count=2))
    assert (dice.rate, len(dice.rows) > 3) == (0.2, True)
    assert solved.exploration(0.2, Pins(1, 1, 8000, 1)).rate == 0
    none = solve(prospect(), MostOutcome(1.0), Risk(), LIMITS, None, 0.0)
    assert none.prospect.method is Method.DEFAULT
    assert none.exploration(0.2, Pins()).rate == 0


def test_the_previous_setting_is_kept_within_the_margin(known: Prospect) -> None:
    """In outcome, in the value of an outcome, or in dollars for the least cost."""
    best = solve(known, MostOutcome(1.0), Risk(), LIMITS, None, 0.0).choice.best
    near = Setting(best.setting.agent_count - 1, best.setting.max_iterations, 8000, 1)
    row = known.outlook.grid.find(near)
    assert row is not None
    gap = best.outcome - float(known.outlook.outcome[row])
    for margin, kept in ((gap * 1.01, True), (gap * 0.99, False)):
        choice = solve(known, MostOutcome(1.0), Risk(), LIMITS, near, margin).choice
        assert choice.kept is kept
        assert choice.best.setting == (near if kept else best.setting)
    dear = MostNetValue(100.0)
    top = solve(known, dear, Risk(), LIMITS, None, 0.0).choice.best
    fewer = Setting(top.setting.agent_count - 1, top.setting.max_iterations, 8000, 1)
    index = known.outlook.grid.find(fewer)
    assert index is not None
    loss = top.utility - (100 * float(known.outlook.outcome[index]) - float(known.outlook.cost[index]))
    assert solve(known, dear, Risk(), LIMITS, fewer, loss / 100 * 1.01).choice.kept
    assert not solve(known, dear, Risk(), LIMITS, fewer, loss / 100 * 0.99).choice.kept


def test_the_prior_dominates_where_the_data_do_not_tell_settings_apart(make_law: Callable[..., Law]) -> None:
    """No difference is the likelier, the smaller an exponent is beside its error; without a law it is all there is."""
    clear, faint = (
        solve(prospect(law), MostOutcome(1.0), Risk(), LIMITS, None, 0.0)
        for law in (make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, exponent, se=0.05) for exponent in (0.4, 0.02))
    )
    assert clear.promised is not None
    assert faint.promised is not None
    assert clear.promised.no_difference < 0.01 < faint.promised.no_difference
    assert not clear.prior_dominated
    assert solve(prospect(), MostOutcome(1.0), Risk(), LIMITS, None, 0.0).prior_dominated
