"""The exact solver of allocation: the best setting of a grid by predictions, by looking at every one.

    most outcome      max score               s.t. need <= budget
    least cost        min cost                s.t. score >= target, need <= budget
    most net value    max V · score - cost - τ · time   s.t. need <= budget

`score` is the expected outcome, or less where the attitude is cautious. `need` is the least budget that allows a
setting: its mean cost, or more where the chance of a realised overspend is bounded. A setting whose mean cost exceeds
the budget is never chosen, and no setting within it is better than the chosen one. Ties go to the cheaper, then to the
greater expected outcome, then to the faster where time is predicted, then to the first of the grid, which has the
smaller values.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np

from analytics.moments import Floats, Ints
from analytics.outlook import (
    MEAN,
    TIE,
    Attitude,
    LeastCost,
    MostNetValue,
    MostOutcome,
    Objective,
    Option,
    Outlook,
    option_at,
    predicted_time,
    refuse_budget,
    utility_of,
)
from analytics.setting_grid import Flags, Grid
from models.allocations import NUMBERS, Setting
from models.errors import SettingsError, TargetOutOfReach

NEAR = 0.1
"""Two settings that differ in nothing but at most this share of the context are the same to a reader."""


NOT_AT_ALL = -1e300
"""The utility of missing a target: finite, because it is multiplied by zero where the target is reached."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The answer, and how it stands.

    Attributes:
        best: What is chosen.
        objective: What was asked; likewise `attitude`.
        binds: What stands in the way of more: budget, overspend, target, names of rules, "limit agent_count", ...
            A rule binds where it bars the setting that would be chosen without any rules; a limit, or a cap that the
            grid was built with, where one more step, worth what the last one was on ln, beats its dollars elsewhere.
            Of a pin that the grid was built with nothing is known: give it as a rule.
        next_dollar: What one dollar more than the budget adds: outcome, or net dollars; for `LeastCost` the outcome
            that one dollar more than the choice needs adds.
        per_dollar: The same at the margin: the steepest rise from the choice to a better setting beyond the budget.
        runner_up: The best allowed setting that is not the same to a reader: it differs in agents, iterations or size,
            or by more than 10 % in context, or in parallelism where that changes utility or cost. For a choice kept by
            `hysteresis`, what was not chosen.
        unruled: What would be chosen without rules; its difference to `best` is the cost of an override.
        best_probability: Share of the draws in which no setting that the budget and the rules allow is better, by more
            than `near`, than the choice, or than one that is the same to a reader.
        overspend: P(realised cost > budget).
        affordable: The settings within the rules and the budget. [G]
        allowed: Those among which the choice was made: for `LeastCost` the affordable ones that reach the target. [G]
        kept: Whether `hysteresis` kept an earlier setting.
    """

    best: Option
    objective: Objective
    attitude: Attitude
    binds: tuple[str, ...]
    next_dollar: float
    per_dollar: float
    runner_up: Option | None
    unruled: Option
    best_probability: float
    overspend: float
    affordable: Flags
    allowed: Flags
    kept: bool = False
    near: float = 0.0


def choose(
    outlook: Outlook,
    objective: Objective,
    attitude: Attitude = MEAN,
    rules: Mapping[str, Flags] | None = None,
    near: float = 0.0,
) -> Choice:
    """Choose the best setting.

    Args:
        outlook: Predictions.
        objective: What is best.
        attitude: How outcomes are scored.
        rules: Masks [G] of what pins, caps and support allow, by name; see `Grid.rules` and `Grid.supported`.
        near: What is this close to the best, in units of the utility, counts as best in `Choice.best_probability`.

    Raises:
        BudgetTooSmall: No allowed setting fits the budget; the message names the least that would do.
        TargetOutOfReach: No allowed setting reaches the target; the message names the best reachable.
        NotEnoughData: Time has a price, but is not predicted.
        SettingsError: The rules leave no setting.
    """
    rules = rules or {}
    ruled = np.ones(len(outlook.grid), np.bool_)
    for mask in rules.values():
        ruled &= mask
    if not ruled.any():
        raise SettingsError(f"{' and '.join(rules)} together leave no setting: lift one of them")
    score, need = outlook.score(attitude), outlook.need(objective.overspend)
    utility = utility_of(outlook, objective, attitude)
    least_cost = isinstance(objective, LeastCost)
    within = need <= objective.budget
    possible = within & (score >= objective.target) if isinstance(objective, LeastCost) else within
    affordable, allowed = ruled & within, ruled & possible
    if not allowed.any():
        _refuse(objective, score, need, ruled)
    chosen, free = _first(outlook, utility, allowed), _first(outlook, utility, possible)

    worth, limit = (score, float(need[chosen])) if least_cost else (utility, objective.budget)
    gain = worth - worth[chosen]
    beyond = np.flatnonzero(ruled & (need > limit) & (gain > TIE * abs(float(worth[chosen]))))
    rise, extra = gain[beyond], need[beyond]
    per_dollar = float((rise / (extra - need[chosen])).max(initial=0.0))

    binds = []
    if least_cost and bool((utility[affordable] > utility[chosen]).any()):
        binds.append("target")
    elif len(beyond) and not least_cost:
        binds.append("overspend" if bool((outlook.cost[beyond] <= limit).any()) else "budget")
    if _beats(utility, free, chosen) or outlook.cost[free] < outlook.cost[chosen] * (1 - TIE):
        binds += [name for name, mask in rules.items() if not mask[free]]
    value = objective.value if isinstance(objective, MostNetValue) else 1.0
    binds += _edges(outlook.grid, value * score, per_dollar * need + value * score - worth, chosen)

    same = _same(outlook, utility, chosen)
    others = allowed & ~same
    return Choice(
        best=option_at(outlook, score, utility, chosen),
        objective=objective,
        attitude=attitude,
        binds=tuple(binds),
        next_dollar=float(rise[extra <= limit + 1].max(initial=0.0)),
        per_dollar=per_dollar,
        runner_up=option_at(outlook, score, utility, _first(outlook, utility, others)) if others.any() else None,
        unruled=option_at(outlook, score, utility, free),
        best_probability=_best_probability(outlook, objective, affordable, same, near),
        near=near,
        overspend=outlook.overspend(chosen, objective.budget),
        affordable=affordable,
        allowed=allowed,
    )


def hysteresis(previous: Setting, choice: Choice, outlook: Outlook, margin: float) -> Choice:
    """Keep the previous setting while it is allowed and its utility is within `margin` of the choice's.

    What binds, and what a dollar more adds, stay those of the choice.

    Args:
        previous: What was chosen before.
        choice: What would be chosen now.
        outlook: What the choice was made from.
        margin: In units of the utility: outcome for `MostOutcome`, dollars otherwise.
    """
    index = outlook.grid.find(previous)
    if index is None or index == choice.best.index or not choice.allowed[index]:
        return choice
    utility = utility_of(outlook, choice.objective, choice.attitude)
    if utility[index] < choice.best.utility - margin:
        return choice
    same = _same(outlook, utility, index)
    return replace(
        choice,
        best=option_at(outlook, outlook.score(choice.attitude), utility, index),
        runner_up=choice.best,
        best_probability=_best_probability(outlook, choice.objective, choice.affordable, same, choice.near),
        overspend=outlook.overspend(index, choice.objective.budget),
        kept=True,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Exploration:
    """The dice: the choice, or with probability `rate` one of some settings, each equally likely.

    Equation: P(setting) = (1 - rate) [setting is the choice] + rate [setting is among them] / their number.

    Attributes:
        chosen: The row chosen.
        rate: Zero where there is nothing to explore.
        rows: The settings that exploration goes to, ascending.
    """

    chosen: int
    rate: float
    rows: Ints

    @classmethod
    def of(cls, choice: Choice, rate: float, among: Flags | None = None) -> "Exploration":
        """Explore the allowed settings of a choice.

        Args:
            choice: The choice.
            rate: In [0, 1].
            among: Where exploration goes, such as a coarse design; a policy is valued only by what was tried often. [G]

        Raises:
            SettingsError: The rate is out of range.
        """
        if not 0 <= rate <= 1:
            raise SettingsError(f"rate = {rate:g}: must be in [0, 1]")
        rows = np.flatnonzero(choice.allowed if among is None else choice.allowed & among)
        return cls(choice.best.index, rate if len(rows) else 0.0, rows)

    def draw(self, u: float) -> tuple[int, bool]:
        """Give the row that a uniform number in [0, 1) decides for, and whether that is the dice's."""
        if u >= self.rate:
            return self.chosen, False
        return int(self.rows[min(int(u / self.rate * len(self.rows)), len(self.rows) - 1)]), True

    def propensity(self, index: int | None) -> float:
        """Give the probability of a row; zero for a setting that the grid does not have."""
        if index is None:
            return 0.0
        place = int(np.searchsorted(self.rows, index))
        listed = place < len(self.rows) and int(self.rows[place]) == index
        return (1 - self.rate) * (index == self.chosen) + (self.rate / len(self.rows) if listed else 0.0)


def _drawn_utilities(outlook: Outlook, objective: Objective, rivals: Flags) -> Iterator[Floats]:
    """Compute the objective in each draw at each of the G settings; -inf at those that are no rivals.

    One buffer is yielded again and again: fresh arrays of this size cost more than the arithmetic.
    """
    utility, fixed = np.empty(len(rivals)), np.where(rivals, 0.0, -math.inf)
    if isinstance(objective, MostOutcome):
        for outcome in outlook.draws:
            yield np.add(outcome, fixed, out=utility)
        return
    if outlook.cost_draws is None:
        fixed -= outlook.cost
    if isinstance(objective, MostNetValue) and objective.time_price:
        fixed -= objective.time_price * predicted_time(outlook)
    for place, outcome in enumerate(outlook.draws):
        if isinstance(objective, LeastCost):
            np.multiply(outcome < objective.target, NOT_AT_ALL, out=utility)
        else:
            np.multiply(outcome, objective.value, out=utility)
        utility += fixed
        if outlook.cost_draws is not None:
            utility -= outlook.cost_draws[place]
        yield utility


def _best_probability(outlook: Outlook, objective: Objective, rivals: Flags, same: Flags, near: float) -> float:
    ours = np.flatnonzero(rivals & same)
    hits = 0
    for utility in _drawn_utilities(outlook, objective, rivals):
        top = float(utility.max())
        hits += top > NOT_AT_ALL / 2 and float(utility[ours].max()) >= top - max(TIE * abs(top), near)
    return hits / len(outlook.draws)


def _beats(utility: Floats, one: int, other: int) -> bool:
    """Tell whether one setting is better by more than rounding."""
    return bool(utility[one] - utility[other] > TIE * abs(float(utility[other])))


def _first(outlook: Outlook, utility: Floats, mask: Flags) -> int:
    """Find the best setting of a mask that marks one; ties are settled as the module says."""
    rows = np.flatnonzero(mask)
    for key, sign in ((utility, -1), (outlook.cost, 1), (outlook.outcome, -1), (outlook.time, 1)):
        if len(rows) > 1 and key is not None:
            values = sign * key[rows]
            least = float(values.min())
            rows = rows[values <= least + TIE * abs(least)]
    return int(rows[0])


def _same(outlook: Outlook, utility: Floats, chosen: int) -> Flags:
    """Mark the settings that are the same to a reader; `Choice.runner_up` says when."""
    grid = outlook.grid
    context = grid.context_budget[chosen]
    alike = (grid.agent_count == grid.agent_count[chosen]) & (grid.max_iterations == grid.max_iterations[chosen])
    alike &= (grid.model_size == grid.model_size[chosen]) & (np.abs(grid.context_budget - context) <= NEAR * context)
    slots = alike & (grid.context_budget == context)
    if all(float(np.ptp(key[slots])) <= 2 * TIE * abs(float(key[chosen])) for key in (utility, outlook.cost)):
        return np.asarray(alike)
    return np.asarray(alike & (grid.parallelism == grid.parallelism[chosen]))


def _edges(grid: Grid, worth: Floats, price: Floats, chosen: int) -> list[str]:
    """Name the limits that bind; `Choice.binds` says when. Parallelism as wide as the agents is at no limit.

    Args:
        grid: The settings.
        worth: What the outcome at each is worth, which goes on as it does on ln. [G]
        price: What else it takes, in the same unit, which goes on as it does. [G]
        chosen: The row chosen.
    """
    setting, found = grid.setting(chosen), []
    for part in NUMBERS:
        column, value = getattr(grid, part), getattr(setting, part)
        below = column[column < value]
        if value < column.max() or not len(below) or (part == "parallelism" and value == setting.agent_count):
            continue
        before = int(below.max())
        back = replace(setting, model_size=setting.model_size, **{part: before})
        row = grid.find(replace(back, parallelism=min(back.parallelism, back.agent_count)))
        if row is None:
            continue
        stretch = math.log(2 - before / value) / math.log(value / before)
        rise, more = float(worth[chosen] - worth[row]) * stretch, float(price[chosen] - price[row])
        if rise - more > TIE * abs(float(worth[chosen])):
            found.append(f"{'limit' if grid.limits.span(part).cap is None else 'cap'} {part}")
    return found


def _refuse(objective: Objective, score: Floats, need: Floats, ruled: Flags) -> NoReturn:
    reaching = ruled
    if isinstance(objective, LeastCost):
        reaching = ruled & (score >= objective.target)
        if not reaching.any():
            reach = math.floor(float(score[ruled].max()) * 10_000) / 10_000
            message = f"target = {objective.target:g}: the best reachable is {reach:.4f}, so ask for that or less"
            raise TargetOutOfReach(message)
    refuse_budget(objective.budget, float(need[reaching].min()), "even the cheapest setting that will do needs")
