"""Predictions for every setting of a grid, how cautiously outcomes are scored, and what may be asked."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.special import gammaincc, gammainccinv

from analytics.moments import Floats
from analytics.setting_grid import Flags, Grid
from models.allocations import Setting
from models.errors import BudgetTooSmall, NotEnoughData, SettingsError

TIE = 1e-12
"""Relative differences below this are rounding."""


NODES = 257
"""Exact quantiles of the Gamma distribution that a spline is laid through; its relative error is below 1e-9."""


@dataclass(frozen=True, slots=True)
class LowerBound:
    """Score a setting by f̂ - κ · sd(f); κ = 0 is the mean."""

    kappa: float = 0.0

    def score(self, outlook: "Outlook") -> Floats:
        """Compute the scores [G]."""
        return outlook.outcome - self.kappa * outlook.outcome_se if self.kappa else outlook.outcome


@dataclass(frozen=True, slots=True)
class TailMean:
    """Score a setting by CVaR: the mean of the worst share `alpha` of its draws, 0 < alpha <= 1.

    Equation: with k = alpha · D and f_(1) <= f_(2) <= ..., (f_(1) + ... + f_(⌊k⌋) + (k - ⌊k⌋) f_(⌊k⌋+1)) / k; the least
    draw where k <= 1.

    References:
        Rockafellar and Uryasev (2000), "Optimization of Conditional Value-at-Risk".
    """

    alpha: float

    def score(self, outlook: "Outlook") -> Floats:
        """Compute the scores [G].

        Raises:
            SettingsError: The share is out of range.
        """
        if not 0 < self.alpha <= 1:
            raise SettingsError(f"alpha = {self.alpha:g}: must be a share above 0, at most 1")
        k = max(self.alpha * len(outlook.draws), 1.0)
        whole = min(math.floor(k), len(outlook.draws) - 1)
        lowest = np.partition(outlook.draws.T.copy(), whole, axis=1)
        return np.asarray((lowest[:, :whole].sum(axis=1) + (k - whole) * lowest[:, whole]) / k)


Attitude = LowerBound | TailMean


MEAN = LowerBound()


@dataclass(frozen=True, slots=True)
class MostOutcome:
    """Ask for the best expected outcome within a budget.

    Args:
        budget: US dollars.
        overspend: The largest allowed P(realised cost > budget); absent: any.
    """

    budget: float
    overspend: float | None = None


@dataclass(frozen=True, slots=True)
class LeastCost:
    """Ask for the least expected cost at which the score reaches a target; the budget is as in `MostOutcome`."""

    target: float
    budget: float = math.inf
    overspend: float | None = None


@dataclass(frozen=True, slots=True)
class MostNetValue:
    """Ask for the most V · f - cost - τ · time.

    With V = 1 / λ this is a task's part of a portfolio at the shadow price λ.

    Args:
        value: V, dollars for one unit of outcome.
        time_price: τ, dollars for one unit of time.
        budget: As in `MostOutcome`; likewise `overspend`.
    """

    value: float
    time_price: float = 0.0
    budget: float = math.inf
    overspend: float | None = None


Objective = MostOutcome | LeastCost | MostNetValue


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """Predictions for every setting of a grid. What follows from them alone is computed once and kept.

    Args:
        grid: G settings.
        outcome: Mean outcome. [G]
        draws: Draws of it, D >= 2. [D, G]
        cost: Mean cost, US dollars, not negative. [G]
        cost_cv: Coefficient of variation of a single run's cost, given its mean.
        cost_draws: Draws of the mean cost; absent: the mean is known. [D, G]
        time: Mean time, in any unit; absent: nothing is known of it. [G]

    Raises:
        NotEnoughData: Fewer than two draws, or predictions that are not finite.
    """

    grid: Grid
    outcome: Floats
    draws: Floats
    cost: Floats
    cost_cv: float = 0.0
    cost_draws: Floats | None = None
    time: Floats | None = None
    known: dict[object, Floats] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.draws) < 2:  # noqa: PLR2004 - a deviation needs two
            message = f"an outlook needs at least 2 draws of the outcome, there are {len(self.draws)}: draw more"
            raise NotEnoughData(message)
        if self.cost_draws is not None and len(self.cost_draws) != len(self.draws):
            message = f"there are {len(self.cost_draws)} draws of the cost, and {len(self.draws)} of the outcome"
            raise ValueError(message)
        columns = {"outcome": self.outcome, "draws": self.draws, "cost": self.cost, "time": self.time}
        for name, column in {**columns, "cost_draws": self.cost_draws}.items():
            if column is None:
                continue
            if column.shape[-1] != len(self.grid):
                message = f"{name} predicts {column.shape[-1]} settings of {len(self.grid)}"
                raise ValueError(message)
            if not np.isfinite(column).all():
                raise NotEnoughData(f"{name} is not finite at some setting: leave out settings that no law speaks of")

    def where(self, mask: Flags) -> "Outlook":
        """Keep the settings that a mask [G] marks."""
        cost_draws = None if self.cost_draws is None else self.cost_draws[:, mask]
        time = None if self.time is None else self.time[mask]
        return Outlook(
            self.grid.where(mask),
            self.outcome[mask],
            self.draws[:, mask],
            self.cost[mask],
            self.cost_cv,
            cost_draws,
            time,
        )

    def score(self, attitude: Attitude) -> Floats:
        """Score each of the G settings by an attitude to risk."""
        return self._once(attitude, lambda: attitude.score(self))

    @property
    def outcome_se(self) -> Floats:
        """Give the standard deviation of the outcome's draws at each of the G settings."""
        return self._once("outcome_se", lambda: deviation(self.draws))

    @property
    def run_cv(self) -> Floats:
        """Give the coefficient of variation of a run's cost at each setting, its mean being uncertain.

        Equation: √(cv² (1 + v²) + v²), v that of the draws of the mean.
        """

        def predictive() -> Floats:
            if self.cost_draws is None:
                return np.full(1, self.cost_cv)
            v = deviation(self.cost_draws) / np.where(self.cost > 0, self.cost, 1.0)
            return np.asarray(np.sqrt(self.cost_cv**2 * (1 + v * v) + v * v))

        return np.broadcast_to(self._once("run_cv", predictive), len(self.grid))

    def need(self, overspend: float | None) -> Floats:
        """Give the least budget that allows each of the G settings.

        Equation: cost · max(1, q), q the quantile at 1 - overspend of a Gamma distribution with mean 1 and `run_cv`.
        """
        return self.cost if overspend is None else self._once(("need", overspend), lambda: self._need(overspend))

    def overspend(self, index: int, budget: float) -> float:
        """Compute P(realised cost > budget) at one setting, the realised cost being Gamma."""
        mean, cv = float(self.cost[index]), float(self.run_cv[index])
        if cv <= 0 or mean <= 0 or math.isinf(budget):
            return float(mean > budget)
        return float(gammaincc(cv**-2, budget / mean * cv**-2))

    def _need(self, overspend: float) -> Floats:
        if not 0 < overspend < 1:
            raise SettingsError(f"overspend = {overspend:g}: must be a probability above 0 and below 1")
        cv = np.maximum(self.run_cv, 1e-6)
        least, most = float(cv.min()), float(cv.max())
        if most > least:
            nodes = np.geomspace(least, most, NODES)
            quantile = CubicSpline(np.log(nodes), nodes**2 * gammainccinv(nodes**-2, overspend))(np.log(cv))
        else:
            quantile = np.full(1, least**2 * gammainccinv(least**-2, overspend))
        return np.asarray(self.cost * np.where(self.run_cv > 0, np.maximum(quantile, 1.0), 1.0))

    def _once(self, key: object, compute: Callable[[], Floats]) -> Floats:
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


@dataclass(frozen=True, slots=True)
class Option:
    """A setting and what is predicted of it.

    Attributes:
        index: Its row of the grid.
        setting: Its values.
        utility: The objective, more being better: the score, minus the cost (for `LeastCost`), or the net value.
        score: The outcome as the attitude to risk has it.
        outcome: The mean outcome; `outcome_se` is the standard deviation of its draws.
        cost: The mean cost; `cost_se` likewise, zero where it has no draws.
        time: The mean time, where it is predicted.
    """

    index: int
    setting: Setting
    utility: float
    score: float
    outcome: float
    outcome_se: float
    cost: float
    cost_se: float
    time: float | None


def utility_of(outlook: Outlook, objective: Objective, attitude: Attitude) -> Floats:
    """Compute the objective at each of the G settings; more is better."""
    if isinstance(objective, LeastCost):
        return -outlook.cost
    score = outlook.score(attitude)
    return score if isinstance(objective, MostOutcome) else _net_value(outlook, objective, score)


def _net_value(outlook: Outlook, objective: MostNetValue, score: Floats) -> Floats:
    net = objective.value * score
    net -= outlook.cost
    if objective.time_price:
        net -= objective.time_price * predicted_time(outlook)
    return net


def predicted_time(outlook: Outlook) -> Floats:
    """Give the mean times [G], which must be known.

    Raises:
        NotEnoughData: They are not.
    """
    if outlook.time is None:
        raise NotEnoughData("nothing predicts the time, so it can have no price: set time_price to 0 until a law does")
    return outlook.time


def option_at(outlook: Outlook, score: Floats, utility: Floats, index: int) -> Option:
    """Gather what is predicted of a row, given the scores and utilities of all [G]."""
    cost_draws = outlook.cost_draws
    return Option(
        index=index,
        setting=outlook.grid.setting(index),
        utility=float(utility[index]),
        score=float(score[index]),
        outcome=float(outlook.outcome[index]),
        outcome_se=float(outlook.draws[:, index].std(ddof=1)),
        cost=float(outlook.cost[index]),
        cost_se=0.0 if cost_draws is None else float(cost_draws[:, index].std(ddof=1)),
        time=None if outlook.time is None else float(outlook.time[index]),
    )


def refuse_budget(budget: float, least: float, what: str) -> NoReturn:
    """Refuse a budget, and name the least that would do, rounded up.

    Raises:
        BudgetTooSmall: Always.
    """
    digits = 4 if least <= 0 else max(4, 2 - math.floor(math.log10(least)))
    steps = math.ceil(least * 10**digits)
    # 2400.0000000000002 steps are 2400.0 of them in floating point, and too few.
    enough = (steps + (steps / 10**digits < least)) / 10**digits
    raise BudgetTooSmall(f"budget = {budget:g} dollars: {what} {enough:.{digits}f}; allow that")


def deviation(draws: Floats) -> Floats:
    """Compute the standard deviation of each column; row by row, as whole copies of the draws take longer."""
    mean, total = draws.mean(axis=0), np.zeros(draws.shape[1])
    for row in draws:
        away = row - mean
        away *= away
        total += away
    return np.asarray(np.sqrt(total / (len(draws) - 1)))
