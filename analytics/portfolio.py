"""Pareto fronts, and portfolios: a budget shared among tasks at one shadow price."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analytics.moments import Floats, Ints
from analytics.outlook import MEAN, TIE, Attitude, Option, Outlook, option_at, refuse_budget
from analytics.setting_grid import Flags


def pareto(outlook: Outlook, attitude: Attitude = MEAN, allowed: Flags | None = None) -> Ints:
    """List the settings that no other one beats in score without costing more.

    Returns:
        Rows of the grid, strictly ascending in cost and in score. Of equals the first one is listed.
    """
    rows = np.arange(len(outlook.grid)) if allowed is None else np.flatnonzero(allowed)
    cost, score = outlook.cost[rows], outlook.score(attitude)[rows]
    order = np.argsort(cost, kind="stable")
    reached = np.maximum.accumulate(score[order])
    rises = np.flatnonzero(np.diff(reached, prepend=-math.inf) > 0)
    front: list[int] = []
    for place in order[rises].tolist():
        if front and score[place] - score[front[-1]] <= TIE * abs(score[place]):
            continue
        while front and cost[place] <= cost[front[-1]] * (1 + TIE):
            front.pop()
        front.append(place)
    return np.asarray(rows[front], np.int64)


@dataclass(frozen=True, slots=True)
class Portfolio:
    """What T tasks are given together.

    Attributes:
        options: Each task's setting, in the order of the tasks.
        shadow_price: λ, the outcome that the next dollar buys, in any task; zero where money is left over.
        score: The sum of their scores.
        cost: The sum of their mean costs.
    """

    options: list[Option]
    shadow_price: float
    score: float
    cost: float


def portfolio(outlooks: Sequence[Outlook], budget: float, attitude: Attitude = MEAN) -> Portfolio:
    """Share a budget among tasks so that a dollar is worth the same in all of them.

    Each task takes max score - λ cost, with the least λ at which the sum of the mean costs keeps the budget. As λ falls
    a task climbs the concave hull of its front, so λ is the slope of the first step, of all hulls' steps in descending
    order, that the budget does not reach. What is left then lifts tasks along their fronts. The sum of scores misses
    the optimum by at most λ times what was left: by less than one step of one task.

    Args:
        outlooks: One for each task; tasks of one kind may share one. Rules restrict them by `Outlook.where`, and then
            the rows of the options are those of the restricted grids.
        budget: US dollars for all tasks together.
        attitude: How outcomes are scored.

    Raises:
        BudgetTooSmall: The cheapest settings of all tasks cost more; the message names what they cost.

    References:
        Everett (1963), "Generalized Lagrange Multiplier Method for Solving Problems of Optimum Allocation of
        Resources".
    """
    if not outlooks:
        return Portfolio([], 0.0, 0.0, 0.0)
    distinct = {id(each): each for each in outlooks}
    ladders = {key: _Ladder.of(each, attitude) for key, each in distinct.items()}
    tasks = [ladders[id(each)] for each in outlooks]
    least = math.fsum(float(task.cost[0]) for task in tasks)
    if not least <= budget:
        refuse_budget(budget, least, f"the cheapest settings of {len(tasks)} tasks need")
    slopes = np.concatenate([task.slopes for task in tasks])
    owner = np.repeat(np.arange(len(tasks)), [len(task.slopes) for task in tasks])
    steps = np.argsort(-slopes, kind="stable")
    prices = np.concatenate([np.diff(task.cost[task.hull]) for task in tasks])[steps]
    # One step less where sums in another order, rounded otherwise, exceed the budget.
    for taken in range(int(np.searchsorted(least + np.cumsum(prices), budget, side="right")), -1, -1):
        climbed = np.bincount(owner[steps[:taken]], minlength=len(tasks))
        places = [int(task.hull[count]) for task, count in zip(tasks, climbed, strict=True)]
        spent = [float(task.cost[place]) for task, place in zip(tasks, places, strict=True)]
        if math.fsum(spent) <= budget:
            break

    def lift(task: int) -> int:
        """Give the place that a task reaches with all that is left."""
        left = budget - math.fsum(spent)
        return max(int(np.searchsorted(tasks[task].cost, spent[task] + left, side="right")) - 1, places[task])

    rises = [float(task.score[lift(i)] - task.score[places[i]]) for i, task in enumerate(tasks)]
    for i in sorted(range(len(tasks)), key=lambda i: -rises[i]):
        kept, place = spent[i], lift(i)
        spent[i] = float(tasks[i].cost[place])
        if math.fsum(spent) <= budget:
            places[i] = place
        else:
            spent[i] = kept
    options = [
        option_at(each, each.score(attitude), each.score(attitude), int(task.rows[place]))
        for each, task, place in zip(outlooks, tasks, places, strict=True)
    ]
    return Portfolio(
        options=options,
        shadow_price=float(slopes[steps[taken]]) if taken < len(steps) else 0.0,
        score=math.fsum(option.score for option in options),
        cost=math.fsum(spent),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ladder:
    """A task's front, ascending, the places of its concave hull, and the slopes of the hull's steps, descending."""

    rows: Ints
    cost: Floats
    score: Floats
    hull: Ints
    slopes: Floats

    @classmethod
    def of(cls, outlook: Outlook, attitude: Attitude) -> "_Ladder":
        rows = pareto(outlook, attitude)
        cost, score = outlook.cost[rows], outlook.score(attitude)[rows]
        hull: list[int] = []
        for place in range(len(rows)):
            while len(hull) > 1 and _slope(cost, score, hull[-1], place) >= _slope(cost, score, hull[-2], hull[-1]):
                hull.pop()
            hull.append(place)
        corners = np.asarray(hull, np.int64)
        return cls(rows, cost, score, corners, np.diff(score[corners]) / np.diff(cost[corners]))


def _slope(cost: Floats, score: Floats, low: int, high: int) -> float:
    return float((score[high] - score[low]) / (cost[high] - cost[low]))
