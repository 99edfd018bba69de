"""The allocator: what to give a task, from the laws, the overrides and the A/B tests that are known now.

    contexts, complexity ─▶ overrides ─▶ prospect ─▶ choice ─▶ hysteresis ─▶ exploration ─▶ A/B arm ─▶ answer, decision

It does no I/O: a process that follows the topics keeps `book`, `overrides` and `tests` up to date, and sends what
comes out. The same request with the same laws gives the same answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import xxhash
from msgspec import structs

from agents.ab import arm_of, covering, probability, unit_of
from agents.advice import advise
from agents.lawbook import LawBook
from agents.limits import Scope, limits_of, ruled
from agents.marginal_prospect import closed_form
from agents.native_settings import native_settings
from agents.overrides import CALL, Overrides, merged
from agents.prospect import Prospect
from agents.prospects import Prospects
from agents.recent import Recent
from agents.solving import Solved, attitude_of, objective_of, ruled_by, solve
from agents.tasks import complexity_of_task, contexts_of_task, stepped
from agents.wording import why
from analytics.outlook import MEAN, Option, Outlook
from analytics.portfolio import pareto, portfolio
from analytics.randomisation import uniform
from analytics.setting_grid import Limits
from analytics.solver import Exploration
from models.allocations import (
    ABTest,
    Advice,
    AdviseRequest,
    AllocateRequest,
    Allocation,
    Alternative,
    Arm,
    Decision,
    Intervention,
    Method,
    Parts,
    Pins,
    PortfolioAllocation,
    PortfolioRequest,
    Setting,
    Task,
    scalars,
)
from models.dimensions import Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData, ScalingError
from models.settings import Settings

KEPT = 10_000
"""Kinds of tasks whose last setting is remembered, so that answers do not flap."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known of a task before the laws are asked.

    Attributes:
        complexity: As it was given; laws are asked in steps of it.
        orders: The overrides in force, the strongest first.
        pins: All of them together; likewise `caps`.
        notes: What became of pins above a cap.
    """

    task: Task
    contexts: list[str]
    complexity: float | None
    orders: list[Intervention]
    pins: Pins
    caps: Parts
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Given:
    """What a task is given after exploration and the A/B test, and with which probability.

    `choice` is set where the laws would have it otherwise, `policy` where it does not follow from them.
    """

    setting: Setting
    propensity: float
    method: Method
    choice: Setting | None = None
    explored: bool = False
    test: str = ""
    arm: str = ""
    policy: str = ""


class Allocator:
    """Answers allocation requests."""

    def __init__(self, settings: Settings) -> None:
        self.book = LawBook()
        self.overrides = Overrides()
        self.tests: dict[str, ABTest] = {}
        self._settings = settings
        self._prospects = Prospects(self.book, settings)
        self._last: Recent[object, Setting] = Recent(KEPT)
        self._limits: Recent[object, Limits] = Recent(KEPT)

    def allocate(self, request: AllocateRequest, now: datetime | None = None) -> tuple[Allocation, Decision]:
        """Choose a setting for a task.

        Raises:
            BudgetTooSmall: Not even the smallest setting fits; the message names the least budget.
            TargetOutOfReach: No setting is expected to reach the target.
            NotEnoughData: A target or a value is asked for where no law speaks, or time has a price and no law.
            InvalidEvent: A field of the task has a wrong value, or parts of the request contradict each other.
            SettingsError: A pin or a cap is outside the limits.
        """
        moment = now or datetime.now(UTC)
        where = self._situation(request.task, moment, _of_call(request))
        solved = self._solve(request, where)
        dice = solved.exploration(self._settings.exploration_rate if request.explore else 0.0, where.pins)
        if request.method == "reference":
            given = Given(self._closed_form(request, where, solved), 1.0, Method.REFERENCE)
        else:
            test = None if where.orders else covering(self.tests.values(), where.contexts)
            given = _given(request, solved, dice, test)
        best = solved.choice.best.setting
        given = replace(given, choice=best if best != given.setting else None)
        allocation = self._describe(request, where, solved, given)
        return allocation, _decision(allocation, where, request.budget, moment)

    def share(
        self, request: PortfolioRequest, now: datetime | None = None
    ) -> tuple[PortfolioAllocation, list[Decision]]:
        """Share a budget among tasks, so that a dollar is worth the same in all of them.

        Each allocation is described as the best within the task's share: what its setting is expected to cost.

        Raises:
            BudgetTooSmall: The cheapest settings of all tasks cost more.
            NotEnoughData: No law speaks for one of the tasks.
            InvalidEvent: A field of a task has a wrong value, tasks would be bought different outcomes, or an overspend
                is bounded.
            SettingsError: A pin or a cap is outside the limits.
        """
        moment, attitude = now or datetime.now(UTC), attitude_of(request.risk)
        if request.risk.overspend is not None:
            raise InvalidEvent(
                "risk.overspend bounds what a task costs, and a portfolio has one budget for all: drop it"
            )
        wheres = [self._situation(task, moment) for task in request.tasks]
        asked = [
            AllocateRequest(f"{request.request_id}.{place}", task, outcome=request.outcome, risk=request.risk)
            for place, task in enumerate(request.tasks, 1)
        ]
        prospects = [self._prospect(one, where) for one, where in zip(asked, wheres, strict=True)]
        _check_portfolio(prospects)
        limits = [
            ruled(prospect.outlook.grid.limits, where.pins, where.caps)
            for prospect, where in zip(prospects, wheres, strict=True)
        ]
        try:
            shared = portfolio(_outlooks(prospects, limits), request.budget, attitude)
        except BudgetTooSmall:
            shared = portfolio(_outlooks(prospects, limits, freed=True), request.budget, attitude)
        note = (
            f"Its budget is its share of {request.budget:g} dollars for {len(asked)} tasks, in all of which one dollar "
            f"more would add {shared.shadow_price:.3g}."
        )
        answers: list[Allocation] = []
        decisions: list[Decision] = []
        for one, where, prospect, option in zip(asked, wheres, prospects, shared.options, strict=True):
            share, told = structs.replace(one, budget=option.cost), replace(where, notes=[note, *where.notes])
            solved = self._solve(share, told, prospect)
            answers.append(self._describe(share, told, solved, Given(option.setting, 1.0, prospect.method)))
            decisions.append(_decision(answers[-1], where, option.cost, moment))
        return PortfolioAllocation(answers, shared.shadow_price, shared.score, shared.cost), decisions

    def advise(self, request: AdviseRequest) -> Advice:
        """Say whether another iteration of a run that has not succeeded yet is worth it.

        Raises:
            NotEnoughData: No joint law of success over iterations speaks for the task.
            InvalidEvent: A field of the task has a wrong value.
        """
        return advise(request, self.book, self._settings)

    def _situation(self, task: Task, now: datetime, call: Intervention | None = None) -> Situation:
        contexts = contexts_of_task(task, self._settings)
        standing = self.overrides.in_force(contexts, now)
        orders = [
            *([call] if call else []),
            *(Intervention(each.override_id, each.by, each.reason, each.pins, each.caps) for each in standing),
        ]
        pins, caps, notes = merged(orders)
        return Situation(task, contexts, complexity_of_task(task, self._settings), orders, pins, caps, notes)

    def _prospect(self, request: AllocateRequest, where: Situation) -> Prospect:
        """Ask the laws; where a cap leaves nothing of what they would choose from, the grid itself ends at it."""
        pins, pinned = where.pins.numbers(), frozenset(where.pins.numbers())
        sizes = (where.pins.model_size,) if where.pins.model_size else tuple(request.model_sizes)
        key = sizes, tuple(pins.items())
        limits = self._limits.once(key, lambda: limits_of(self._settings, *key))
        outcome = None if request.outcome is None else Outcome(request.outcome)

        def within(limits: Limits) -> Prospect:
            scope = Scope(limits, pinned, time_priced=request.time_price > 0)
            return self._prospects.of(where.task, where.contexts, stepped(where.complexity), outcome, scope)

        prospect = within(limits)
        low = {name: cap for name, cap in where.caps.numbers().items() if prospect.barred(name, cap)}
        return within(limits.capped(**low)) if low else prospect

    def _solve(self, request: AllocateRequest, where: Situation, known: Prospect | None = None) -> Solved:
        prospect = known or self._prospect(request, where)
        objective = objective_of(request, prospect)
        limits = ruled(prospect.outlook.grid.limits, where.pins, where.caps)
        key = objective, request.risk, limits
        kind = tuple(where.contexts), stepped(where.complexity), prospect.outcome, key
        solved: Solved | None = prospect.choices.get(key)
        if solved is None:
            previous, margin = self._last.get(kind), self._settings.keep_within
            solved = solve(prospect, objective, request.risk, limits, previous, margin)
            prospect.choices.put(key, solved)
        self._last.put(kind, solved.choice.best.setting)
        return solved

    def _closed_form(self, request: AllocateRequest, where: Situation, solved: Solved) -> Setting:
        """Give the document's setting.

        Raises:
            InvalidEvent: There is no budget, or people decide parts.
            NotEnoughData: There is no law.
        """
        if request.budget is None or where.orders:
            raise InvalidEvent("method = reference: the closed form needs a budget, and knows neither pins nor caps")
        point = self._beside(request, where, solved)
        if point is None:
            raise NotEnoughData("the closed form needs a law of quality or success, and none has enough runs yet")
        return point.setting

    def _beside(self, request: AllocateRequest, where: Situation, solved: Solved) -> Alternative | None:
        """Apply the document's closed form, for comparison."""
        if request.budget is None:
            return None
        prospect = solved.prospect
        budget, revision = request.budget, self.book.revision
        # Tasks of other contexts may share the prospect, but not the laws of single dimensions.
        key = "closed form", budget, *where.contexts
        known: tuple[int, Alternative | None] | None = prospect.choices.get(key)
        if known is None or known[0] != revision:
            laws, prices = self._prospects.marginals(where.contexts, where.task, prospect.outcome)
            known = revision, closed_form(laws, prices, budget, limits_of(self._settings))
            prospect.choices.put(key, known)
        return known[1]

    def _describe(self, request: AllocateRequest, where: Situation, solved: Solved, given: Given) -> Allocation:
        prospect, choice, outlook = solved.prospect, solved.choice, solved.outlook
        index = outlook.grid.find(given.setting)
        allocation = Allocation(
            decision_id=request.request_id,
            policy_version=given.policy or policy_version(prospect, given.method),
            propensity=given.propensity,
            setting=given.setting,
            expected=solved.told(given.setting).expected,
            objective=str(request.objective),
            outcome=str(prospect.outcome),
            method=given.method,
            laws=prospect.versions,
            evidence=prospect.evidence,
            cost_source=prospect.cost_source,
            binds=list(choice.binds),
            next_dollar=choice.next_dollar,
            per_dollar=choice.per_dollar,
            overspend=None if request.budget is None or index is None else outlook.overspend(index, request.budget),
            best_probability=choice.best_probability if prospect.method is not Method.DEFAULT else None,
            prior_dominated=solved.prior_dominated,
            promised=solved.promised,
            runner_up=_alternative(choice.runner_up) if choice.runner_up else None,
            reference=self._beside(request, where, solved),
            front=_front(solved) if request.front else [],
            overrides=where.orders,
            override_cost=self._override_cost(request, where, solved) if where.orders else 0.0,
            explored=given.explored,
            choice=given.choice,
            test=given.test,
            arm=given.arm,
            notes=[*where.notes, *prospect.notes],
            native={name: native_settings(given.setting, name) for name in request.native},
        )
        return structs.replace(allocation, why=why(request, allocation, solved))

    def _override_cost(self, request: AllocateRequest, where: Situation, solved: Solved) -> float:
        """Compute by how much the objective would be better without what people decided."""
        free = replace(where, orders=[], pins=Pins(), caps=Parts(), notes=[])
        try:
            return self._solve(request, free).choice.best.utility - solved.choice.best.utility
        except ScalingError:
            # What cannot be had without the override has no price.
            return 0.0


def _given(request: AllocateRequest, solved: Solved, dice: Exploration, test: ABTest | None) -> Given:
    """Throw the dice, and look up the arm of the task where an A/B test is on.

    Equation: P(setting) = share · P(setting | dynamic) + (1 - share) [setting is the fixed one].
    """
    grid, method = solved.outlook.grid, solved.prospect.method
    index, explored = dice.draw(uniform(b"explore", request.request_id))
    setting = grid.setting(index)
    if test is None:
        return Given(setting, dice.propensity(index), method, explored=explored)
    arm = arm_of(test, unit_of(request.task, request.request_id))
    policy = ""
    if arm is Arm.FIXED:
        setting, method, explored, policy = test.fixed, Method.FIXED, False, f"fixed:{test.test_id}"
    propensity = probability(test, Arm.DYNAMIC) * dice.propensity(grid.find(setting))
    propensity += probability(test, Arm.FIXED) * (setting == test.fixed)
    return Given(setting, propensity, method, None, explored, test.test_id, str(arm), policy)


def _check_portfolio(prospects: Sequence[Prospect]) -> None:
    """See that a dollar can be worth the same everywhere.

    Raises:
        NotEnoughData: No law speaks for one of the tasks.
        InvalidEvent: Tasks would be bought different outcomes.
    """
    if any(each.method is Method.DEFAULT for each in prospects):
        raise NotEnoughData("a portfolio needs a law for each task, and one has none: allocate it by itself")
    outcomes = sorted({str(each.outcome) for each in prospects})
    if len(outcomes) > 1:
        raise InvalidEvent(f"outcome = null: laws of {' and '.join(outcomes)} speak for the tasks, so name one of them")


def _outlooks(prospects: Sequence[Prospect], limits: Sequence[Limits], *, freed: bool = False) -> list[Outlook]:
    """Restrict the outlook of each task to what people and defaults allow; tasks of one kind share one."""
    known: dict[object, Outlook] = {}
    for prospect, each in zip(prospects, limits, strict=True):
        if (id(prospect), each) not in known:
            mask = ruled_by(prospect, each, freed=freed)
            known[id(prospect), each] = prospect.outlook if mask.all() else prospect.outlook.where(mask)
    return [known[id(prospect), each] for prospect, each in zip(prospects, limits, strict=True)]


def policy_version(prospect: Prospect, method: Method) -> str:
    """Name the policy that a method and the versions of the laws make."""
    laws = sorted((law.law_id, law.epoch, law.version) for law in prospect.laws)
    return f"{method}:{xxhash.xxh64_hexdigest(repr(laws).encode())[:12]}"


def _of_call(request: AllocateRequest) -> Intervention | None:
    """Read what the caller decides itself.

    Raises:
        InvalidEvent: It does not say who decides and why.
    """
    if request.pins == Pins() and request.caps == Parts():
        return None
    if not (request.by and request.reason):
        raise InvalidEvent("pins and caps override the laws, so say by whom and why: give by and reason")
    return Intervention(CALL, request.by, request.reason, request.pins, request.caps)


def _alternative(option: Option) -> Alternative:
    return Alternative(option.setting, option.outcome, option.cost)


def _front(solved: Solved) -> list[Alternative]:
    outlook = solved.outlook
    return [
        Alternative(outlook.grid.setting(row), float(outlook.outcome[row]), float(outlook.cost[row]))
        for row in pareto(outlook, MEAN, solved.ruled).tolist()
    ]


def _decision(allocation: Allocation, where: Situation, budget: float | None, now: datetime) -> Decision:
    return Decision(
        decision_id=allocation.decision_id,
        decided_at=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        policy_version=allocation.policy_version,
        setting=allocation.setting,
        propensity=allocation.propensity,
        choice=allocation.choice or allocation.setting,
        objective=allocation.objective,
        outcome=allocation.outcome,
        method=str(allocation.method),
        contexts=where.contexts,
        task=dict(scalars(where.task)),
        complexity=where.complexity,
        budget=budget,
        explored=allocation.explored,
        test=allocation.test,
        arm=allocation.arm,
        expected={name: estimate.estimate for name, estimate in allocation.expected.items()},
        laws=allocation.laws,
        overrides=allocation.overrides,
        override_cost=allocation.override_cost,
    )
