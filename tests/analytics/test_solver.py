import itertools
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import gamma

from analytics.outlook import (
    MEAN,
    Attitude,
    LeastCost,
    LowerBound,
    MostNetValue,
    MostOutcome,
    Objective,
    Outlook,
    TailMean,
)
from analytics.portfolio import pareto, portfolio
from analytics.promise import promise
from analytics.setting_grid import Grid, Limits, Span
from analytics.setting_promise import promise_of, shrunk_promise
from analytics.solver import Choice, Exploration, choose, hysteresis
from models.allocations import NUMBERS, Setting
from models.errors import BudgetTooSmall, NotEnoughData, SettingsError, TargetOutOfReach

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

LIMITS = Limits(Span(1, 3), Span(1, 2), Span(10_000, 12_000, 1000), Span(1, 2), ("small", "large"))
ATTITUDES: tuple[Attitude, ...] = (MEAN, LowerBound(1.0), TailMean(0.3), TailMean(0.1), TailMean(1.0))


def random_outlook(seed: int, *, steps: int = 8, draws: int = 5) -> Outlook:
    """Predict anything at all, in eighths, so that ties are common and sums are exact."""
    rng = np.random.default_rng(seed)
    grid = Grid.of(LIMITS)
    size = len(grid)
    outcome: Floats = rng.integers(0, steps + 1, size) / 8
    shifts: Floats = rng.integers(-2, 3, (draws, size)) / 8
    cost: Floats = rng.integers(1, steps + 1, size) / 8
    cost_draws: Floats = rng.integers(1, steps + 1, (draws, size)) / 8
    time: Floats = rng.integers(0, 3, size) / 4
    return Outlook(
        grid, outcome, outcome + shifts, cost, 0.5, cost_draws if seed % 2 else None, time if seed % 3 else None
    )


def smooth_outlook(
    exponents: Sequence[float] = (0.3, 0.3, 0.2), *, cv: float = 0.0, limits: Limits | None = None, noise: float = 0.05
) -> Outlook:
    """Predict a Cobb-Douglas success at a price for every token that is read, and times that slots divide."""
    grid = Grid.of(limits or Limits())
    rng = np.random.default_rng(5)
    logs = np.log(np.stack((grid.agent_count / 8, grid.max_iterations / 10, grid.context_budget / 100_000)))
    slopes = np.array(exponents)
    draws = np.exp((slopes + rng.normal(0, noise, (16, 3))) @ logs)
    cost = grid.agent_count * (0.01 + grid.max_iterations * (0.005 + 0.0004 * grid.context_budget / 1000))
    time = grid.max_iterations * grid.agent_count / grid.parallelism
    return Outlook(grid, 0.9 * np.exp(slopes @ logs), 0.9 * draws, cost, cv, None, time)


def scored(outlook: Outlook, attitude: Attitude) -> list[float]:
    """Score each setting by its own draws, one by one."""
    scores = []
    for mean, column in zip(outlook.outcome.tolist(), outlook.draws.T.tolist(), strict=True):
        if isinstance(attitude, LowerBound):
            scores.append(mean - attitude.kappa * (statistics.stdev(column) if attitude.kappa else 0.0))
        else:
            # The integral of the quantile function up to alpha, over alpha; each draw has mass 1 / D.
            k = max(attitude.alpha * len(column), 1.0)
            shares = [min(max(k - place, 0.0), 1.0) for place in range(len(column))]
            scores.append(sum(share * draw for share, draw in zip(shares, sorted(column), strict=True)) / k)
    return scores


def utilities(outlook: Outlook, objective: Objective, attitude: Attitude) -> list[float]:
    """Compute the objective of each setting."""
    scores = scored(outlook, attitude)
    if isinstance(objective, MostOutcome):
        return scores
    if isinstance(objective, LeastCost):
        return [-cost for cost in outlook.cost.tolist()]
    times = [0.0] * len(scores) if outlook.time is None else outlook.time.tolist()
    rows = zip(scores, outlook.cost.tolist(), times, strict=True)
    return [objective.value * score - cost - objective.time_price * time for score, cost, time in rows]


def allowed_by_hand(outlook: Outlook, objective: Objective, attitude: Attitude, rules: dict[str, Flags]) -> list[int]:
    """List the rows that the rules, the budget and the target allow."""
    scores, rows = scored(outlook, attitude), []
    for row in range(len(outlook.grid)):
        fits = outlook.cost[row] <= objective.budget and all(mask[row] for mask in rules.values())
        reaches = not isinstance(objective, LeastCost) or scores[row] >= objective.target
        if fits and reaches:
            rows.append(row)
    return rows


def best_by_hand(outlook: Outlook, objective: Objective, rows: Sequence[int]) -> int:
    """Take the best of some rows; of equals the cheapest, then by outcome, by time, and the first."""
    utility = utilities(outlook, objective, MEAN)
    times = [0.0] * len(utility) if outlook.time is None else outlook.time.tolist()
    return min(rows, key=lambda row: (-utility[row], outlook.cost[row], -outlook.outcome[row], times[row], row))


def same_by_hand(outlook: Outlook, objective: Objective, chosen: int, row: int) -> bool:
    """Tell whether two settings are the same to a reader."""
    one, other = outlook.grid.setting(chosen), outlook.grid.setting(row)
    if (one.agent_count, one.max_iterations, one.model_size) != (
        other.agent_count,
        other.max_iterations,
        other.model_size,
    ):
        return False
    if abs(other.context_budget - one.context_budget) > 0.1 * one.context_budget:
        return False
    utility = utilities(outlook, objective, MEAN)
    siblings = [
        (utility[place], outlook.cost[place])
        for place in range(len(outlook.grid))
        if outlook.grid.setting(place)
        in [Setting(one.agent_count, one.max_iterations, one.context_budget, slots, one.model_size) for slots in (1, 2)]
    ]
    return one.parallelism == other.parallelism or len(set(siblings)) == 1


seeds = st.integers(0, 10_000)
eighths = st.integers(1, 9).map(lambda count: count / 8)
objectives: st.SearchStrategy[Objective] = st.one_of(
    eighths.map(MostOutcome),
    st.builds(LeastCost, eighths, st.one_of(eighths, st.just(math.inf))),
    st.builds(MostNetValue, eighths, st.just(0.0), st.one_of(eighths, st.just(math.inf))),
)
masks = st.lists(st.integers(0, 2), min_size=0, max_size=2).map(
    lambda kept: {f"rule {place}": np.arange(len(Grid.of(LIMITS))) % 3 != value for place, value in enumerate(kept)}
)


@given(seeds, objectives, masks)
def test_the_choice_is_that_of_brute_force(seed: int, objective: Objective, rules: dict[str, Flags]) -> None:
    """For every objective, with rules and ties: the very setting that loops over all of them find."""
    outlook = random_outlook(seed)
    rows = allowed_by_hand(outlook, objective, MEAN, rules)
    if not rows:
        with pytest.raises((BudgetTooSmall, TargetOutOfReach)):
            choose(outlook, objective, rules=rules)
        return
    choice = choose(outlook, objective, rules=rules)
    assert choice.best.index == best_by_hand(outlook, objective, rows)
    assert np.flatnonzero(choice.allowed).tolist() == rows
    assert choice.best.cost <= objective.budget
    assert choice.best.utility == utilities(outlook, objective, MEAN)[choice.best.index]


@given(seeds, objectives, st.sampled_from(ATTITUDES))
def test_a_cautious_choice_is_that_of_brute_force(seed: int, objective: Objective, attitude: Attitude) -> None:
    """With a lower bound, or the mean of the worst draws, no allowed setting has a better objective."""
    outlook = random_outlook(seed)
    target = objective.target if isinstance(objective, LeastCost) else math.nan
    assume(not any(abs(score - target) < 1e-9 for score in scored(outlook, attitude)))
    rows = allowed_by_hand(outlook, objective, attitude, {})
    assume(rows)
    choice = choose(outlook, objective, attitude)
    utility = utilities(outlook, objective, attitude)
    assert choice.best.index in rows
    assert choice.best.utility == pytest.approx(utility[choice.best.index], abs=1e-12)
    assert utility[choice.best.index] == pytest.approx(max(utility[row] for row in rows), abs=1e-12)
    assert choice.best.score == pytest.approx(scored(outlook, attitude)[choice.best.index], abs=1e-12)


@given(seeds, eighths, eighths, st.sampled_from([0.0, 0.5]))
def test_time_has_its_price(seed: int, value: float, time_price: float, least: float) -> None:
    """The net value of a choice is that of brute force, time included; without predicted times it is refused."""
    outlook = random_outlook(seed)
    objective = MostNetValue(value + least, time_price)
    if outlook.time is None:
        with pytest.raises(NotEnoughData, match="nothing predicts the time"):
            choose(outlook, objective)
        return
    choice = choose(outlook, objective)
    assert choice.best.index == best_by_hand(outlook, objective, range(len(outlook.grid)))
    assert choice.best.utility == (value + least) * choice.best.outcome - choice.best.cost - time_price * (
        choice.best.time or 0.0
    )


@given(seeds, eighths, st.sampled_from([0.01, 0.1, 0.3, 0.7]))
def test_the_chance_of_an_overspend_is_bounded(seed: int, budget: float, chance: float) -> None:
    """By scipy's Gamma distribution no chosen setting overspends more often, and every better one would."""
    outlook = random_outlook(seed)
    # The variance of a run is the mean of the conditional variances and the variance of the conditional means.
    variance = np.zeros(len(outlook.grid)) if outlook.cost_draws is None else outlook.cost_draws.var(axis=0, ddof=1)
    cv = np.sqrt(0.25 * (outlook.cost**2 + variance) + variance) / outlook.cost
    over: Floats = np.asarray(gamma.sf(budget, cv**-2, scale=outlook.cost * cv**2))
    assume(not np.any(np.abs(over - chance) < 1e-6))
    rows = np.flatnonzero((over <= chance) & (outlook.cost <= budget)).tolist()
    objective = MostOutcome(budget, chance)
    if not rows:
        with pytest.raises(BudgetTooSmall):
            choose(outlook, objective)
        return
    choice = choose(outlook, objective)
    assert choice.best.index == best_by_hand(outlook, objective, rows)
    assert choice.overspend == pytest.approx(over[choice.best.index], abs=1e-9)
    assert choice.overspend <= chance
    better = [row for row in range(len(over)) if outlook.outcome[row] > choice.best.outcome]
    assert all(over[row] > chance or outlook.cost[row] > budget for row in better)
    expected = "overspend" if any(outlook.cost[row] <= budget for row in better) else "budget"
    assert choice.binds[:1] == ((expected,) if better else ()) or choice.binds[0].startswith("limit")


def test_a_cost_that_does_not_vary_never_overspends() -> None:
    """Without spread the whole budget may be used, whatever the chance of an overspend may be."""
    outlook = smooth_outlook()
    loose = choose(outlook, MostOutcome(0.4)).best
    assert choose(outlook, MostOutcome(loose.cost, 0.01)).best == loose
    assert choose(outlook, MostOutcome(loose.cost, 0.01)).overspend == 0


@given(seeds, st.lists(eighths, min_size=2, max_size=6), st.sampled_from(ATTITUDES))
def test_more_money_never_brings_less(seed: int, budgets: list[float], attitude: Attitude) -> None:
    """The objective rises with the budget and never lies above it; what one dollar more adds is what it then adds."""
    outlook = random_outlook(seed)
    previous = -math.inf
    for budget in sorted(budgets):
        try:
            choice = choose(outlook, MostOutcome(budget), attitude)
        except BudgetTooSmall:
            continue
        assert choice.best.cost <= budget
        assert choice.best.score >= previous - 1e-12
        previous = choice.best.score
        richer = choose(outlook, MostOutcome(budget + 1), attitude)
        assert choice.next_dollar == pytest.approx(richer.best.score - choice.best.score, abs=1e-12)
        scores = scored(outlook, attitude)
        slopes = [
            (score - choice.best.score) / (cost - choice.best.cost)
            for score, cost in zip(scores, outlook.cost.tolist(), strict=True)
            if score > choice.best.score + 1e-9
        ]
        assert choice.per_dollar == pytest.approx(max(slopes, default=0.0), abs=1e-9)
        assert ("budget" in choice.binds) == bool(slopes)


@given(seeds, objectives)
def test_the_runner_up_is_another_setting_to_a_reader(seed: int, objective: Objective) -> None:
    """It is the best of those that differ in agents, iterations or size, by over 10 % of context, or in what slots do.

    Contexts are 10,000, 11,000 and 12,000 tokens, so that neighbours are the same and the ends are not.
    """
    outlook = random_outlook(seed)
    rows = allowed_by_hand(outlook, objective, MEAN, {})
    assume(rows)
    choice = choose(outlook, objective)
    others = [row for row in rows if not same_by_hand(outlook, objective, choice.best.index, row)]
    if not others:
        assert choice.runner_up is None
        return
    assert choice.runner_up is not None
    assert choice.runner_up.index == best_by_hand(outlook, objective, others)


@given(seeds, objectives)
def test_the_probability_of_being_best_counts_draws(seed: int, objective: Objective) -> None:
    """In each draw the objective is computed anew, and the choice, or one the same to a reader, is best or not."""
    outlook = random_outlook(seed)
    rows = allowed_by_hand(outlook, objective, MEAN, {})
    assume(rows)
    choice = choose(outlook, objective)
    rivals = [row for row in range(len(outlook.grid)) if outlook.cost[row] <= objective.budget]
    hits = 0
    for place, outcome in enumerate(outlook.draws.tolist()):
        cost = (outlook.cost if outlook.cost_draws is None else outlook.cost_draws[place]).tolist()

        def drawn(row: int, outcome: list[float] = outcome, cost: list[float] = cost) -> float:
            if isinstance(objective, MostOutcome):
                return outcome[row]
            if isinstance(objective, LeastCost):
                return -cost[row] if outcome[row] >= objective.target else -math.inf
            return objective.value * outcome[row] - cost[row]

        top = max(drawn(row) for row in rivals)
        ours = [row for row in rivals if same_by_hand(outlook, objective, choice.best.index, row)]
        hits += math.isfinite(top) and any(drawn(row) == top for row in ours)
    assert choice.best_probability == hits / len(outlook.draws)


def test_ties_go_to_the_cheaper_then_the_faster_then_the_smaller() -> None:
    """Where nothing matters, the cheapest is taken; at equal cost the fastest; then the smallest values."""
    grid = Grid.of(Limits(Span(1, 4), Span(1, 3), Span(1000, 3000, 1000), Span(1, 4)))
    flat, ones = np.full(len(grid), 0.5), np.ones(len(grid))
    draws = np.stack((flat, flat))
    assert choose(Outlook(grid, flat, draws, ones), MostOutcome(2.0)).best.setting == Setting(1, 1, 1000, 1)
    priced = Outlook(grid, flat, draws, (5 - grid.agent_count).astype(np.float64))
    assert choose(priced, MostOutcome(9.0)).best.setting == Setting(4, 1, 1000, 1)
    timed = Outlook(grid, flat, draws, ones, time=grid.agent_count / grid.parallelism**2)
    assert choose(timed, MostOutcome(2.0)).best.setting == Setting(4, 1, 1000, 4)
    # What differs by rounding only is equal.
    jitter = flat * (1 + 1e-15 * np.random.default_rng(0).normal(size=len(grid)))
    assert choose(Outlook(grid, jitter, draws, ones), MostOutcome(2.0)).best.setting == Setting(1, 1, 1000, 1)


def test_a_dollar_more_is_a_dollar_more_within_the_rules() -> None:
    """What it adds is what the choice with a dollar more has, where several dollars would buy more still."""
    outlook = smooth_outlook()
    for rules in ({}, {"support": outlook.grid.supported({"agent_count": (1, 4)})}):
        choice, richer = (choose(outlook, MostOutcome(budget), rules=rules) for budget in (0.4, 1.4))
        assert choice.next_dollar == pytest.approx(richer.best.outcome - choice.best.outcome, abs=1e-12)
        assert richer.next_dollar > 0
        mask = rules.get("support", outlook.cost > 0) & (outlook.cost > 0.4)
        slopes = (outlook.outcome - choice.best.outcome)[mask] / (outlook.cost - choice.best.cost)[mask]
        assert choice.per_dollar == pytest.approx(slopes.max(), rel=1e-12)


def test_the_larger_exponent_gets_more_and_strong_context_scaling_buys_context() -> None:
    """The logic of the design document holds of the exact choice."""

    def chosen(*exponents: float) -> Setting:
        return choose(smooth_outlook(exponents), MostOutcome(0.4)).best.setting

    agents, iterations = chosen(0.5, 0.2, 0.1), chosen(0.2, 0.5, 0.1)
    assert agents.agent_count > agents.max_iterations
    assert iterations.max_iterations > iterations.agent_count
    assert chosen(0.2, 0.2, 0.6).context_budget > 2 * chosen(0.2, 0.2, 0.1).context_budget
    # Slots that cost nothing and save time are used: all of them, or as many as shared work lets be of use.
    assert agents.parallelism == agents.agent_count > 5
    outlook, slots = smooth_outlook((0.5, 0.2, 0.1)), np.arange(1, 9)
    shared = (1 + 0.05 * (slots - 1) + 0.03 * slots * (slots - 1)) / slots
    timed = Outlook(
        outlook.grid, outlook.outcome, outlook.draws, outlook.cost, time=shared[outlook.grid.parallelism - 1]
    )
    fastest = choose(timed, MostOutcome(0.4)).best.setting
    assert (fastest.agent_count, fastest.parallelism) == (agents.agent_count, 1 + int(shared.argmin()))


def test_limits_bind_where_money_does_not() -> None:
    """With money for everything the limits bind; slots as many as agents are at no limit of their own."""
    choice = choose(smooth_outlook(), MostOutcome(100.0))
    assert choice.best.setting == Setting(8, 10, 100_000, 8)
    assert choice.binds == ("limit agent_count", "limit max_iterations", "limit context_budget")
    assert (choice.next_dollar, choice.per_dollar) == (0.0, 0.0)
    capped = choose(smooth_outlook(limits=Limits().capped(agent_count=2)), MostOutcome(100.0))
    assert capped.binds == ("cap agent_count", "limit max_iterations", "limit context_budget")


def test_a_limit_binds_under_a_budget_where_its_next_step_would_pay() -> None:
    """Widened limits change the choice where the limit is said to bind, and not where it is not."""
    fewer = Limits(agent_count=Span(1, 4))
    for exponents in ((0.6, 0.1, 0.1), (0.3, 0.3, 0.2)):
        pair = smooth_outlook(exponents, limits=fewer), smooth_outlook(exponents)
        for budget in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6):
            narrow, wide = (choose(outlook, MostOutcome(budget)) for outlook in pair)
            assert ("limit agent_count" in narrow.binds) == (wide.best.setting.agent_count > 4)
            assert "budget" in narrow.binds
    for time_price in (0.0, 0.01):
        wrong = 0
        for value in np.geomspace(0.3, 3.0, 25).tolist():
            narrow, wide = (choose(outlook, MostNetValue(value, time_price)) for outlook in pair)
            wrong += ("limit agent_count" in narrow.binds) != (wide.best.setting.agent_count > 4)
        assert wrong <= 1


def test_slots_are_limited_by_agents_or_by_a_limit_of_their_own() -> None:
    """Where time has a price, only a limit below the agents is named."""
    objective = MostNetValue(100.0, 0.1)
    choice = choose(smooth_outlook(), objective)
    assert choice.best.setting.parallelism == choice.best.setting.agent_count == 8
    assert "limit parallelism" not in choice.binds
    limited = choose(smooth_outlook(limits=Limits(parallelism=Span(1, 4))), objective)
    assert (limited.best.setting.parallelism, limited.best.setting.agent_count) == (4, 8)
    assert "limit parallelism" in limited.binds


def test_a_rule_binds_where_it_bars_what_would_be_chosen_without_it() -> None:
    """A pin that costs something is named, and what it costs can be read; one that agrees with the choice is not."""
    outlook = smooth_outlook((0.6, 0.1, 0.1))
    free = choose(outlook, MostOutcome(0.4))
    pinned = choose(
        outlook,
        MostOutcome(0.4),
        rules=outlook.grid.rules(Limits().pinned(agent_count=free.best.setting.agent_count - 2)),
    )
    assert "pin agent_count" in pinned.binds
    assert pinned.best.setting.agent_count == free.best.setting.agent_count - 2
    assert pinned.unruled == free.best
    assert pinned.unruled.outcome > pinned.best.outcome
    # Where nothing matters no rule costs anything.
    flat = np.full(len(outlook.grid), 0.5)
    rules = outlook.grid.rules(Limits().pinned(agent_count=3))
    assert choose(Outlook(outlook.grid, flat, np.stack((flat, flat)), flat), MostOutcome(1.0), rules=rules).binds == ()
    agreed = choose(
        outlook, MostOutcome(0.4), rules=outlook.grid.rules(Limits().pinned(agent_count=free.best.setting.agent_count))
    )
    assert agreed.binds == free.binds
    assert agreed.best == free.best == agreed.unruled


def test_two_rules_that_bar_the_same_are_both_named() -> None:
    """Lifting one of them alone would change nothing: neither is left out."""
    outlook = smooth_outlook((0.6, 0.1, 0.1))
    rules = outlook.grid.rules(Limits().capped(agent_count=2)) | {
        "support": outlook.grid.supported({"agent_count": (1, 1)})
    }
    assert {"cap agent_count", "support"} <= set(choose(outlook, MostOutcome(0.4), rules=rules).binds)
    rules["support"] = outlook.grid.agent_count > 4
    with pytest.raises(SettingsError, match="cap agent_count and support together leave no setting"):
        choose(outlook, MostOutcome(0.4), rules=rules)


def test_the_least_budget_is_named_and_suffices() -> None:
    """Also where the chance of an overspend asks for more than the mean cost, and where a target does."""
    outlook = smooth_outlook(cv=0.8)
    asked: list[Callable[[float], Objective]] = [
        MostOutcome,
        lambda budget: MostOutcome(budget, 0.05),
        lambda budget: LeastCost(0.5, budget, 0.05),
        lambda budget: MostNetValue(1.0, 0.0, budget),
    ]
    for make in asked:
        with pytest.raises(BudgetTooSmall, match=r"budget = 0\.001 dollars: .* needs") as error:
            choose(outlook, make(0.001))
        least = float(str(error.value).rsplit("needs ", 1)[1].split(";")[0])
        assert choose(outlook, make(least)).best.cost <= least
        with pytest.raises(BudgetTooSmall):
            choose(outlook, make(least * 0.995))
    with pytest.raises(BudgetTooSmall):
        choose(outlook, MostOutcome(math.nan))


def test_an_unreachable_target_names_the_best_reachable() -> None:
    """And that can be reached; least cost then takes the cheapest that does, and says that the target binds."""
    outlook = smooth_outlook()
    with pytest.raises(TargetOutOfReach, match=r"target = 0\.95: the best reachable is 0\.9000"):
        choose(outlook, LeastCost(0.95))
    assert choose(outlook, LeastCost(0.9)).best.setting == Setting(8, 10, 100_000, 8)
    easy = choose(outlook, LeastCost(0.5))
    assert easy.best.outcome >= 0.5
    assert easy.binds == ("target",)
    assert easy.next_dollar > 0
    assert choose(outlook, LeastCost(0.0)).binds == ()


def test_a_setting_is_kept_while_it_is_nearly_as_good_and_affordable() -> None:
    """Within the margin the previous setting stays; beyond it, over the budget or off the grid it does not."""
    outlook = smooth_outlook()
    choice = choose(outlook, MostOutcome(0.4))
    assert choice.runner_up is not None
    near = choice.runner_up
    gap = choice.best.outcome - near.outcome
    kept = hysteresis(near.setting, choice, outlook, gap * 1.01)
    assert (kept.best, kept.runner_up, kept.kept) == (near, choice.best, True)
    assert hysteresis(near.setting, choice, outlook, gap * 0.99) is choice
    poorer = choose(outlook, MostOutcome(near.cost * 0.99))
    assert hysteresis(near.setting, poorer, outlook, 1.0) is poorer
    assert hysteresis(Setting(9, 1, 1000, 1), choice, outlook, 1.0) is choice
    assert hysteresis(choice.best.setting, choice, outlook, 0.0) is choice


def test_a_kept_setting_has_its_own_probability_of_being_best() -> None:
    """It counts the draws for the setting that is used, not for the one that was not taken."""
    outlook = smooth_outlook(noise=0.2)
    objective = MostOutcome(0.4)
    choice = choose(outlook, objective)
    assert choice.runner_up is not None
    kept = hysteresis(choice.runner_up.setting, choice, outlook, 1.0)
    rivals = outlook.cost <= 0.4
    grid, at = outlook.grid, choice.runner_up.setting
    alike = (grid.agent_count == at.agent_count) & (grid.max_iterations == at.max_iterations)
    alike &= np.abs(grid.context_budget - at.context_budget) <= 0.1 * at.context_budget
    best = [draw[rivals & alike].max(initial=0) >= draw[rivals].max() * (1 - 1e-12) for draw in outlook.draws]
    assert kept.best_probability == np.mean(best)


def chosen_over_u(choice: Choice, outlook: Outlook, rate: float, among: Flags | None, count: int) -> dict[int, float]:
    """Count what is done over evenly spaced u."""
    exploration = Exploration.of(choice, rate, among)
    shares: dict[int, float] = {}
    for place in range(count):
        index, _ = exploration.draw((place + 0.5) / count)
        shares[index] = shares.get(index, 0.0) + 1 / count
        assert outlook.cost[index] <= choice.objective.budget
    for index, share in shares.items():
        # Each affordable setting's share of u is its propensity.
        assert exploration.propensity(index) == pytest.approx(share, abs=2 / count)
    return shares


@given(seeds, st.sampled_from([0.0, 0.05, 0.5, 1.0]), st.booleans())
@settings(max_examples=15)
def test_propensities_are_the_shares_in_which_settings_are_chosen(seed: int, rate: float, coarse: bool) -> None:  # noqa: FBT001 - drawn
    """Over all u every allowed setting is explored alike, and the logged propensity is the share."""
    outlook = random_outlook(seed)
    choice = choose(outlook, MostOutcome(1.0))
    among = outlook.grid.context_budget == 11_000 if coarse else None
    count = 2000
    shares = chosen_over_u(choice, outlook, rate, among, count)
    rows = np.flatnonzero(choice.allowed if among is None else choice.allowed & among).tolist()
    if not rows or rate == 0:
        assert shares == {choice.best.index: pytest.approx(1.0)}
        return
    assert set(shares) == set(rows) | ({choice.best.index} if rate < 1 else set())
    for row, share in shares.items():
        expected = rate / len(rows) * (row in rows) + (1 - rate) * (row == choice.best.index)
        assert share == pytest.approx(expected, abs=2 / count)
    assert Exploration.of(choice, rate, among).propensity(None) == 0


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_exploration_out_of_range_is_refused(rate: float) -> None:
    """The message names the rate."""
    outlook = random_outlook(1)
    with pytest.raises(SettingsError, match=r"rate = .*: must be in"):
        Exploration.of(choose(outlook, MostOutcome(2.0)), rate)


def test_a_design_goes_over_the_range_of_each_part() -> None:
    """The least, a middle one and the greatest of each part, at the widest parallelism that is allowed."""
    grid = Grid.of(Limits(context_budget=Span(1000, 16_000, 1000)))
    mask = grid.design(grid.parallelism <= 3)
    rows = {(a, i, c): p for a, i, c, p in zip(*(getattr(grid, name)[mask] for name in NUMBERS), strict=True)}
    assert {key[0] for key in rows} == {1, 3, 8}
    assert {key[1] for key in rows} == {1, 3, 10}
    assert {key[2] for key in rows} == {1000, 4000, 16_000}
    assert len(rows) == mask.sum() == 27
    assert all(slots == min(key[0], 3) for key, slots in rows.items())


@given(seeds, st.sampled_from(ATTITUDES), st.booleans())
def test_the_pareto_front_is_that_of_brute_force(seed: int, attitude: Attitude, restricted: bool) -> None:  # noqa: FBT001 - drawn
    """Exactly the pairs of cost and score that no other pair beats are on it, once each, ascending in both."""
    outlook = random_outlook(seed)
    allowed = outlook.grid.agent_count > 1 if restricted else None
    front = pareto(outlook, attitude, allowed)
    scores = [round(score, 9) for score in scored(outlook, attitude)]
    points = {
        (cost, score)
        for cost, score, keep in zip(outlook.cost.tolist(), scores, outlook.grid.agent_count > 1, strict=True)
        if keep or not restricted
    }
    undominated = {
        (cost, score)
        for cost, score in points
        if not any((c <= cost and s > score) or (c < cost and s >= score) for c, s in points)
    }
    assert [(outlook.cost[row], scores[row]) for row in front] == sorted(undominated)
    assert np.all(np.diff(outlook.cost[front]) > 0)
    assert np.all(np.diff(outlook.score(attitude)[front]) > 0)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=3), st.floats(0, 1.2))
def test_a_portfolio_is_within_one_step_of_brute_force(seeds: list[int], share: float) -> None:
    """All combinations of all tasks' settings: none within the budget is better by more than one step of one task.

    The price is the same in all tasks: no task has a setting that is worth more at it, but for what money was left.
    """
    outlooks = [random_outlook(seed) for seed in seeds]
    fronts = [[(outlook.cost[row], outlook.outcome[row]) for row in pareto(outlook)] for outlook in outlooks]
    least, most = (sum(front[end][0] for front in fronts) for end in (0, -1))
    budget = least + share * (most - least)
    found = portfolio(outlooks, budget)
    assert found.cost == pytest.approx(sum(option.cost for option in found.options))
    assert found.score == pytest.approx(sum(option.outcome for option in found.options))
    assert found.cost <= budget
    best = max(
        sum(score for _, score in picks)
        for picks in itertools.product(*fronts)
        if sum(cost for cost, _ in picks) <= budget
    )
    step = max(max(np.diff([score for _, score in front]), default=0.0) for front in fronts)
    span = max(front[-1][1] - front[0][1] for front in fronts)
    assert best - span - 1e-12 <= found.score <= best + 1e-12
    # Weak duality: at the shadow price no way to spend the budget is worth more than this.
    bound = sum(max(score - found.shadow_price * cost for cost, score in front) for front in fronts)
    assert best <= bound + found.shadow_price * budget + 1e-9
    assert bound + found.shadow_price * budget - found.score <= max(step, span) + 1e-9
    if share >= 1:
        assert found.shadow_price == 0
        assert found.score == pytest.approx(best)


def test_a_portfolio_leaves_no_money_that_one_task_could_use() -> None:
    """No task alone has a better setting for what it was given and what is left, and the price is one for all."""
    kinds = [smooth_outlook(exponents) for exponents in ((0.3, 0.3, 0.2), (0.6, 0.1, 0.1), (0.1, 0.5, 0.4))]
    outlooks = kinds * 5
    budget = 0.3 * len(outlooks)
    found = portfolio(outlooks, budget)
    left = budget - found.cost
    assert 0 <= left < 0.01 * budget
    for outlook, option in zip(outlooks, found.options, strict=True):
        assert outlook.outcome[outlook.cost <= option.cost + left].max() <= option.outcome + 1e-12
        # The same task at the same price, asked alone, gets nearly the same.
        alone = choose(outlook, MostNetValue(1 / found.shadow_price)).best
        value, taken = ((each.outcome - found.shadow_price * each.cost) for each in (alone, option))
        assert value - taken == pytest.approx(0, abs=2e-3)
    each_alone = [choose(outlook, MostOutcome(0.3)).best.outcome for outlook in outlooks]
    assert found.score > sum(each_alone)


def test_a_portfolio_that_cannot_be_paid_is_refused() -> None:
    """The message names what the cheapest settings of all tasks cost, and that suffices; no tasks need nothing."""
    assert portfolio([], 0.0).options == []
    outlooks = [smooth_outlook()] * 3
    least = 3 * float(outlooks[0].cost.min())
    with pytest.raises(BudgetTooSmall, match=r"the cheapest settings of 3 tasks need 0\.0463; allow that"):
        portfolio(outlooks, least * 0.99)
    assert portfolio(outlooks, 0.0463).cost == pytest.approx(least)


@pytest.mark.parametrize("reference", [None, 2])
def test_a_promise_of_independent_settings_is_the_one_of_values(reference: int | None) -> None:
    """Where the settings are as many estimates, it is what `analytics.promise` says from the same runs."""
    rng = np.random.default_rng(4)
    for spread in (0.0, 0.1, 0.3):
        mean = np.clip(0.5 + spread * np.linspace(-1, 1, 6) + rng.normal(0, 0.05, 6), 0.1, 0.9)
        n, m2 = np.full(6, 40.0), 40 * mean * (1 - mean)
        se = np.sqrt((m2 + m2.sum() / (6 * 39)) / n**2)
        ours = shrunk_promise(mean, se, int(mean.argmax()), reference)
        theirs = promise(np.arange(6.0), n, mean, m2, float(reference or 0))
        assert ours.no_difference == pytest.approx(theirs.no_difference, abs=1e-9)
        if reference is not None:
            assert ours.gain == pytest.approx(theirs.gain.estimate, abs=1e-9)
            assert ours.raw_gain == pytest.approx(theirs.raw, abs=1e-12)
        assert ours.outcome <= mean.max() + 1e-12
        assert ours.gain <= ours.raw_gain


def test_a_promise_from_draws_finds_the_number_of_independent_estimates() -> None:
    """Six settings drawn one by one give the promise of six estimates; each repeated 50 times they still do."""
    rng = np.random.default_rng(8)
    mean, se = np.array([0.4, 0.45, 0.5, 0.42, 0.38, 0.56]), np.full(6, 0.08)
    draws = mean + rng.normal(0, 0.08, (4000, 6))
    expected = shrunk_promise(mean, se, 5, 0)
    few = Outlook(Grid.of(Limits(Span(1, 6), Span(1, 1), Span(1000, 1000), Span(1, 1))), mean, draws, np.ones(6))
    assert promise_of(few, 5, 0).gain == pytest.approx(expected.gain, abs=0.0012)
    many = Grid.of(Limits(Span(1, 6), Span(1, 5), Span(1000, 10_000, 1000), Span(1, 1)))
    places = many.agent_count - 1
    repeated = Outlook(many, mean[places], draws[:, places], np.ones(len(many)))
    found = promise_of(repeated, int(np.flatnonzero(places == 5)[0]), 0)
    assert found.gain == pytest.approx(expected.gain, abs=0.0012)
    assert found.no_difference == pytest.approx(expected.no_difference, abs=0.03)
    # As 300 estimates they would claim to know what six cannot.
    assert shrunk_promise(mean[places], se[places], 299, 0).no_difference > expected.no_difference + 0.2


def test_a_level_that_all_settings_share_is_no_reason_to_shrink() -> None:
    """How high success is everywhere may be uncertain; what the settings differ by is not."""
    outlook = smooth_outlook(noise=0.01)
    level = np.random.default_rng(3).normal(0, 0.3, (16, 1))
    shifted = Outlook(outlook.grid, outlook.outcome, outlook.draws + level, outlook.cost)
    chosen = choose(outlook, MostOutcome(0.4)).best.index
    assert promise_of(shifted, chosen, 0).gain == pytest.approx(promise_of(outlook, chosen, 0).gain, abs=1e-9)


def test_what_is_not_enough_for_a_promise_is_said() -> None:
    """One setting, no errors, two draws."""
    with pytest.raises(NotEnoughData, match="at least 2 settings with errors, there are 1"):
        shrunk_promise(np.ones(1), np.ones(1), 0)
    with pytest.raises(NotEnoughData, match="with errors"):
        shrunk_promise(np.ones(3), np.zeros(3), 0)
    outlook = random_outlook(2, draws=2)
    with pytest.raises(NotEnoughData, match="at least 3 draws, there are 2"):
        promise_of(outlook, 0)
    flat = Outlook(outlook.grid, outlook.outcome, np.stack([outlook.outcome] * 3), outlook.cost)
    with pytest.raises(NotEnoughData, match="at least 2 settings with errors"):
        shrunk_promise(flat.outcome, flat.outcome_se, 0)


def test_predictions_that_cannot_be_used_are_refused() -> None:
    """One draw is no spread, and a setting without a prediction must be left out."""
    grid = Grid.of(LIMITS)
    flat = np.ones(len(grid))
    with pytest.raises(NotEnoughData, match="at least 2 draws of the outcome, there are 1"):
        Outlook(grid, flat, flat[None], flat)
    with pytest.raises(NotEnoughData, match="cost is not finite"):
        Outlook(grid, flat, np.stack((flat, flat)), np.where(grid.agent_count > 1, np.inf, 1.0))
    with pytest.raises(ValueError, match=f"outcome predicts 3 settings of {len(grid)}"):
        Outlook(grid, np.ones(3), np.stack((flat, flat)), flat)
    with pytest.raises(ValueError, match="there are 1 draws of the cost, and 2 of the outcome"):
        Outlook(grid, flat, np.stack((flat, flat)), flat, 0.1, flat[None])
    outlook = random_outlook(5)
    with pytest.raises(SettingsError, match="alpha = 0: must be a share"):
        choose(outlook, MostOutcome(2.0), TailMean(0.0))
    with pytest.raises(SettingsError, match="overspend = 1: must be a probability"):
        choose(outlook, MostOutcome(2.0, 1.0))


def test_a_part_of_an_outlook_chooses_as_rules_do() -> None:
    """Left out or ruled out: the choice and its predictions are the same."""
    outlook = smooth_outlook(cv=0.4)
    mask = outlook.grid.supported({"agent_count": (1, 3), "context_budget": (4000, 20_000)})
    ruled = choose(outlook, MostOutcome(0.4, 0.1), LowerBound(1.0), {"support": mask})
    part = choose(outlook.where(mask), MostOutcome(0.4, 0.1), LowerBound(1.0))
    assert part.best.setting == ruled.best.setting
    assert part.best.score == ruled.best.score
    assert part.best_probability == ruled.best_probability
    assert len(pareto(outlook.where(mask))) == len(pareto(outlook, allowed=mask))
