"""Solve a request on a prospect: objective, rules, hysteresis, and what the choice may be said to bring."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from agents.limits import SHARED
from agents.prospect import Prospect
from agents.recent import Recent
from analytics.moments import Ints
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
from analytics.setting_grid import Flags, Limits
from analytics.setting_promise import promise_of
from analytics.solver import Choice, Exploration, choose, hysteresis
from models import allocations
from models.allocations import AllocateRequest, Method, Pins, Promise, Risk, Setting
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData
from models.laws import Estimate

DEARER = 2.0
"""Without a budget exploration goes to settings that cost at most this multiple of the choice."""

FEW = 4
"""With fewer settings of the prospect's own design within budget and rules, exploration gets a design of its own."""

SPREAD = 27
"""Settings that exploration goes to where no design is wide enough: as many as a design has."""

UNDECIDED = 0.5
"""From this posterior probability that all settings do the same on, the prior decides and not the data."""


STEP = 1.25
"""Exponents are told between a value and this multiple of it."""

TOLD = 64
"""Settings whose predictions are kept with a choice."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is predicted of a setting, with 95 % intervals, and the exponents of the outcome there by part.

    Equation: e = ln(f(v') / f(v)) / ln(v' / v) with v' = 1.25 v or the next whole number; where the grid ends before
    that, v / 1.25 or the one before. Parts that are not chosen by law have none.
    """

    expected: dict[str, Estimate]
    exponents: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A choice and what goes with it; kept for all requests that ask the same.

    Attributes:
        prospect: What it was made from.
        choice: The choice.
        ruled: As `ruled_by`. [G]
        design: Where exploration goes. [G]
        promised: The shrunk promise; None where settings could not be compared.
        freed: The budget did not reach for the defaults of parts without a law.
        known: What was told of settings lately.
    """

    prospect: Prospect
    choice: Choice
    ruled: Flags
    design: Flags
    promised: Promise | None
    freed: bool
    known: Recent[Setting, Told] = field(default_factory=lambda: Recent(TOLD), repr=False)

    @property
    def outlook(self) -> Outlook:
        """The predictions."""
        return self.prospect.outlook

    @property
    def prior_dominated(self) -> bool:
        """Tell whether the data do not say that settings differ."""
        return self.promised is None or self.promised.no_difference > UNDECIDED

    def told(self, setting: Setting) -> Told:
        """Predict the outcomes of a setting, and what more of each part would change."""
        return self.known.once(setting, lambda: self._tell(setting))

    def _tell(self, setting: Setting) -> Told:
        grid, outcome = self.outlook.grid, str(self.prospect.outcome)
        chosen = [part.name for part in SHARED if np.ptp(getattr(grid, part.name)) > 0]
        more = {name: _beside(getattr(grid, name), getattr(setting, name)) for name in chosen}
        beside = [replace(setting, **{name: value}) for name, value in more.items()]  # type: ignore[arg-type]
        expected = self.prospect.expect([setting, *beside])
        if outcome not in expected:
            return Told({name: each[0] for name, each in expected.items()}, {})
        here, *there = (estimate.estimate for estimate in expected[outcome])
        exponents = {
            name: math.log(there[place] / here) / math.log(value / getattr(setting, name))
            for place, (name, value) in enumerate(more.items())
            if here > 0 and there[place] > 0
        }
        return Told({name: each[0] for name, each in expected.items()}, exponents)

    def exploration(self, rate: float, pins: Pins) -> Exploration:
        """Make the dice; there is nothing to explore where all is pinned, or where no law speaks."""
        fixed = len(pins.numbers()) == len(allocations.NUMBERS) or self.prospect.method is Method.DEFAULT
        return Exploration.of(self.choice, 0.0 if fixed else rate, self.design)


def _beside(column: Ints, value: int) -> int:
    """Give a value a step above, or below where the grid does not reach that far."""
    above, below = max(round(value * STEP), value + 1), min(round(value / STEP), value - 1)
    return above if above <= column.max() or below < column.min() else below


def objective_of(request: AllocateRequest, prospect: Prospect) -> Objective:
    """Read the objective of a request.

    Raises:
        InvalidEvent: What it needs is not given.
        NotEnoughData: No law speaks, so that only a budget can be kept.
    """
    budget, overspend = request.budget, request.risk.overspend
    given = {"most_outcome": budget, "least_cost": request.target, "most_net_value": request.value}[request.objective]
    if given is None:
        needed = {"most_outcome": "budget", "least_cost": "target", "most_net_value": "value"}[request.objective]
        raise InvalidEvent(f"{needed} = null: the objective {request.objective} needs one")
    if request.objective is allocations.Objective.MOST_OUTCOME:
        return MostOutcome(given, overspend)
    if prospect.method is Method.DEFAULT:
        message = f"no law of {prospect.outcome} speaks for this task yet, so {request.objective} cannot be solved"
        raise NotEnoughData(f"{message}: publish runs that vary settings, or give a budget only")
    limit = math.inf if budget is None else budget
    if request.objective is allocations.Objective.LEAST_COST:
        return LeastCost(given, limit, overspend)
    return MostNetValue(given, request.time_price, limit, overspend)


def attitude_of(risk: Risk) -> Attitude:
    """Read the attitude to risk."""
    if risk.attitude is allocations.Attitude.LOWER_BOUND:
        return LowerBound(risk.kappa)
    return TailMean(risk.share) if risk.attitude is allocations.Attitude.TAIL_MEAN else MEAN


def solve(  # noqa: PLR0917 - what a choice is made of
    prospect: Prospect, objective: Objective, risk: Risk, limits: Limits, previous: Setting | None, margin: float
) -> Solved:
    """Choose the best setting of a prospect.

    Args:
        prospect: The predictions.
        objective: What is best.
        risk: How cautious the choice is.
        limits: With what people pin and cap.
        previous: What was chosen before, when laws were others; it is kept while it is close to the best.
        margin: How close: in outcome, valued where it has a value; for the least cost as a share of it.

    Raises:
        BudgetTooSmall, TargetOutOfReach, NotEnoughData, SettingsError: As `analytics.solver.choose`.
    """
    outlook = prospect.outlook
    rules = outlook.grid.rules(limits)
    near = margin * objective.value if isinstance(objective, MostNetValue) else margin
    least_cost = isinstance(objective, LeastCost)
    choice, freed = _choose(prospect, objective, attitude_of(risk), rules, 0.0 if least_cost else near)
    if previous is not None:
        choice = hysteresis(previous, choice, outlook, margin * choice.best.cost if least_cost else near)
    ruled = ruled_by(prospect, limits, freed=freed)
    explorable = choice.allowed
    if math.isinf(objective.budget):
        explorable = explorable & (outlook.cost <= DEARER * choice.best.cost)
    return Solved(prospect, choice, ruled, _design(prospect, explorable), _promise(prospect, choice), freed)


def _design(prospect: Prospect, explorable: Flags) -> Flags:
    """Say where exploration goes: to a design, or evenly over the settings where they are too narrow for one."""
    grid, design = prospect.outlook.grid, explorable & prospect.design
    if np.count_nonzero(design) < FEW:
        design = grid.design(explorable)
    if np.count_nonzero(design) >= FEW:
        return design
    rows, spread = np.flatnonzero(explorable), np.zeros(len(grid), np.bool_)
    spread[rows[np.linspace(0, len(rows) - 1, min(len(rows), SPREAD)).round().astype(np.int64)]] = True
    return spread


def ruled_by(prospect: Prospect, limits: Limits, *, freed: bool = False) -> Flags:
    """Mark the settings that people, and defaults unless they are freed, allow, at any cost. [G]."""
    ruled = np.ones(len(prospect.outlook.grid), np.bool_)
    for mask in prospect.outlook.grid.rules(limits).values():
        ruled &= mask
    return ruled if prospect.held is None or freed else ruled & prospect.held


def _choose(
    prospect: Prospect, objective: Objective, attitude: Attitude, rules: Mapping[str, Flags], near: float
) -> tuple[Choice, bool]:
    """Choose with parts that have no law at their defaults, or below where the budget does not reach for them."""
    outlook, held = prospect.outlook, prospect.held
    if held is None or held.all():
        return choose(outlook, objective, attitude, rules, near), False
    try:
        return choose(outlook, objective, attitude, {**rules, "default": held}, near), False
    except BudgetTooSmall:
        return choose(outlook, objective, attitude, rules, near), True


def _promise(prospect: Prospect, choice: Choice) -> Promise | None:
    if prospect.method is Method.DEFAULT:
        return None
    usual = None if prospect.usual is None else prospect.outlook.grid.find(prospect.usual)
    try:
        told = promise_of(prospect.outlook, choice.best.index, usual, choice.affordable)
    except NotEnoughData:
        return None
    return Promise(told.outcome, told.gain, told.no_difference)
