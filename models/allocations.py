"""Allocation as it travels: requests, answers, decisions, human overrides and A/B tests.

    request ──▶ allocator (laws, overrides, A/B tests) ──▶ answer
                                 └──▶ decision ── echoed by the run as decision_id ──▶ its outcome

Parts of a setting have the names of the event's fields: agent_count, max_iterations, context_budget (tokens),
parallelism and model_size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from models.contexts import GLOBAL
from models.events import Count, Identifier, Scalar, Text
from models.laws import Estimate
from models.versions import Versioned

Task = dict[str, Any]
Positive = Annotated[float, Meta(gt=0, le=1e12)]
NotNegative = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Author = Annotated[str, Meta(min_length=1, max_length=256)]
Reason = Annotated[str, Meta(min_length=1, max_length=2000)]
Moment = Annotated[datetime, Meta(tz=True)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]

NUMBERS = ("agent_count", "max_iterations", "context_budget", "parallelism")
"""The parts that are numbers; the size of the model is a name."""

MOST_TASKS = 1000
"""Tasks in one portfolio."""


class Objective(StrEnum):
    """What is best: the outcome within a budget, the least cost that reaches a target, or the net value."""

    MOST_OUTCOME = "most_outcome"
    LEAST_COST = "least_cost"
    MOST_NET_VALUE = "most_net_value"


class Method(StrEnum):
    """Where an answer comes from, the best first.

    `joint` laws of all dimensions together; the laws of single dimensions (`marginal`); the safe `default` where no law
    speaks; the design document's closed form, the `reference`; a `fixed` setting that a person gave.
    """

    JOINT = "joint"
    MARGINAL = "marginal"
    DEFAULT = "default"
    REFERENCE = "reference"
    FIXED = "fixed"


class Attitude(StrEnum):
    """How outcomes are scored: by their mean, a lower bound (mean - kappa · sd), or the mean of their worst share."""

    MEAN = "mean"
    LOWER_BOUND = "lower_bound"
    TAIL_MEAN = "tail_mean"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a task is given. `model_size` is empty where the size is not chosen."""

    agent_count: int
    max_iterations: int
    context_budget: int
    parallelism: int
    model_size: str = ""


class Parts(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Some parts of a setting: what is pinned, or where it is capped."""

    agent_count: Count | None = None
    max_iterations: Count | None = None
    context_budget: Annotated[int, Meta(ge=1, le=1_000_000_000)] | None = None
    parallelism: Count | None = None

    def numbers(self) -> dict[str, int]:
        """Give the parts that are set."""
        return {name: value for name in NUMBERS if (value := getattr(self, name)) is not None}


class Pins(Parts, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Parts that are pinned to one value."""

    model_size: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    @classmethod
    def of(cls, setting: Setting) -> "Pins":
        """Pin everything."""
        return cls(
            setting.agent_count,
            setting.max_iterations,
            setting.context_budget,
            setting.parallelism,
            setting.model_size or None,
        )


class Risk(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How cautious the choice is.

    Attributes:
        attitude: How outcomes are scored.
        kappa: Of the lower bound.
        share: Of the worst draws, for the tail mean.
        overspend: The largest allowed P(realised cost > budget); absent: any.
    """

    attitude: Attitude = Attitude.MEAN
    kappa: Annotated[float, Meta(ge=0, le=10)] = 1.0
    share: Annotated[float, Meta(gt=0, le=1)] = 0.2
    overspend: Share | None = None


class AllocateRequest(Struct, frozen=True, tag_field="kind", tag="allocate", forbid_unknown_fields=True):
    """A question for one task; the record's key is the request_id, which becomes the id of the decision.

    Attributes:
        task: What is known of it: project, task_type, model, model_size_category, task_complexity, ...
        budget: US dollars; may be absent where a target or a value bounds the cost.
        outcome: What is bought, success or quality_score; absent: success where a law of it speaks, else quality.
        target: Of `least_cost`.
        value: Of `most_net_value`: dollars for one unit of outcome, and `time_price` for a second.
        pins: A person's override for this call; likewise `caps`. They take `by` and `reason`.
        model_sizes: The sizes to choose from; none: the size is not chosen.
        method: joint, or reference for the closed form, which may overspend.
        front: Whether the Pareto front is wanted.
        native: Orchestrators whose own settings are wanted.
        explore: Whether this task may be used to explore.
    """

    request_id: Identifier
    task: Task = {}
    budget: Positive | None = None
    objective: Objective = Objective.MOST_OUTCOME
    outcome: Literal["success", "quality_score"] | None = None
    target: Annotated[float, Meta(gt=0, le=1)] | None = None
    value: Positive | None = None
    time_price: NotNegative = 0.0
    risk: Risk = Risk()
    pins: Pins = Pins()
    caps: Parts = Parts()
    by: Annotated[str, Meta(max_length=256)] = ""
    reason: Annotated[str, Meta(max_length=2000)] = ""
    model_sizes: Annotated[list[Annotated[str, Meta(min_length=1, max_length=64)]], Meta(max_length=8)] = []
    method: Literal["joint", "reference"] = "joint"
    front: bool = False
    native: Annotated[list[str], Meta(max_length=16)] = []
    explore: bool = True


class PortfolioRequest(Struct, frozen=True, tag_field="kind", tag="portfolio", forbid_unknown_fields=True):
    """A budget for a queue of tasks together; the decisions' ids are request_id.1, request_id.2, ..."""

    request_id: Identifier
    tasks: Annotated[list[Task], Meta(min_length=1, max_length=MOST_TASKS)]
    budget: Positive
    outcome: Literal["success", "quality_score"] | None = None
    risk: Risk = Risk()


class AdviseRequest(Struct, frozen=True, tag_field="kind", tag="advise", forbid_unknown_fields=True):
    """A run that has not succeeded yet: is another iteration worth it?

    Attributes:
        agent_count: Of the run; likewise `context_budget`, `parallelism` and `model_size`.
        iterations_used: So far, of each agent.
        cost_so_far: US dollars.
        budget: Of the whole run.
        value: What a success is worth, in dollars; absent: the setting value_of_success.
    """

    request_id: Identifier
    agent_count: Count
    iterations_used: Count
    cost_so_far: NotNegative
    context_budget: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    parallelism: Count = 1
    model_size: Annotated[str, Meta(max_length=64)] = ""
    task: Task = {}
    budget: Positive | None = None
    value: Positive | None = None


Request = AllocateRequest | PortfolioRequest | AdviseRequest


class Alternative(Struct, frozen=True, omit_defaults=True):
    """Another setting, its expected outcome and cost, and what the latter exceeds the budget by."""

    setting: Setting
    outcome: float
    cost: float
    overspend: float = 0.0


class Promise(Struct, frozen=True):
    """What the choice may be said to bring, shrunk as the best of many estimates must be.

    Attributes:
        outcome: Its expected outcome.
        gain: Over what tasks like this were given so far.
        no_difference: Posterior probability that all settings do the same.
    """

    outcome: float
    gain: float
    no_difference: float


class Intervention(Struct, frozen=True, omit_defaults=True):
    """An override in force for an answer: which (`call` for the caller's own), by whom, and why."""

    override_id: str
    by: str
    reason: str
    pins: Pins = Pins()
    caps: Parts = Parts()


class Native(Struct, frozen=True, omit_defaults=True):
    """An orchestrator's own settings, the parts that it has none for, and what one must know."""

    settings: dict[str, int | str]
    not_expressible: list[str] = []
    notes: list[str] = []


class Allocation(Struct, frozen=True, omit_defaults=True):
    """What to give a task, what to expect of it, and why.

    Attributes:
        decision_id: To be echoed by the run, with `policy_version` and `propensity`.
        propensity: The probability, at the time, of this very setting.
        setting: What to give.
        expected: Mean success, quality_score, time_to_complete (s) and total_cost (US dollars) with 95 % intervals,
            each where a law speaks.
        objective: What was asked.
        outcome: What was bought.
        method: Where the answer comes from.
        laws: Ids and versions of the laws used.
        evidence: The weakest label among them.
        cost_source: The law of cost, or price_table with the entry used.
        binds: What stands in the way of more.
        next_dollar: What one dollar more would add: outcome, or net dollars.
        per_dollar: The same at the margin.
        overspend: P(realised cost > budget); None without a budget.
        best_probability: That no other setting within budget and rules is better.
        prior_dominated: The data do not say that settings differ; the answer rests on priors, defaults or prices.
        promised: The shrunk promise; None where settings were not compared.
        runner_up: The best setting that differs to a reader.
        reference: The closed form's setting, for comparison.
        front: The Pareto front, cheapest first, where it was asked for.
        overrides: What people decided, and what it costs: `override_cost`, in the objective's unit.
        explored: The dice, not the choice, gave this setting; `choice` is what would have been given.
        test: The A/B test the task is in, and its `arm`.
        notes: Laws that do not speak, and why; dimensions without a law.
        native: Orchestrators' own settings.
        why: In plain words.
    """

    decision_id: str
    policy_version: str
    propensity: float
    setting: Setting
    expected: dict[str, Estimate]
    objective: str
    outcome: str
    method: Method
    laws: dict[str, int] = {}
    evidence: str = "none"
    cost_source: str = "price_table"
    binds: list[str] = []
    next_dollar: float = 0.0
    per_dollar: float = 0.0
    overspend: float | None = None
    best_probability: float | None = None
    prior_dominated: bool = False
    promised: Promise | None = None
    runner_up: Alternative | None = None
    reference: Alternative | None = None
    front: list[Alternative] = []
    overrides: list[Intervention] = []
    override_cost: float = 0.0
    explored: bool = False
    choice: Setting | None = None
    test: str = ""
    arm: str = ""
    notes: list[str] = []
    native: dict[str, Native] = {}
    why: str = ""


class PortfolioAllocation(Struct, frozen=True):
    """What a queue of tasks is given: each one's allocation, and the outcome that one dollar more would bring."""

    allocations: list[Allocation]
    shadow_price: float
    expected_outcome: float
    expected_cost: float


class Advice(Struct, frozen=True):
    """Whether another iteration is worth it.

    Attributes:
        go_on: Yes.
        chance: P(success with one more iteration | none so far).
        cost: Of one more, US dollars.
        worth: value · chance - cost, of the best number of further iterations, `further`.
        laws: Ids and versions.
        why: In plain words.
    """

    go_on: bool
    chance: float
    cost: float
    further: int
    worth: float
    laws: dict[str, int]
    why: str


class Refusal(Struct, frozen=True):
    """Why there is no answer: the name of the error and its message."""

    kind: str
    message: str


class Reply(Struct, frozen=True, omit_defaults=True):
    """A reply on scaling.allocate.replies: one of the answers, or an error."""

    request_id: str
    allocation: Allocation | None = None
    portfolio: PortfolioAllocation | None = None
    advice: Advice | None = None
    error: Refusal | None = None


class Decision(Versioned, frozen=True, omit_defaults=True):
    """One allocation as it is logged on scaling.decisions, so that any policy can be valued afterwards.

    Attributes:
        task: The scalars of the request's task.
        contexts: Which the task belongs to.
        complexity: As it was read; None where the task has none.
        choice: What the policy chose before exploration.
        propensity: Of `setting`, over exploration and the A/B test.
    """

    decision_id: str
    decided_at: str
    policy_version: str
    setting: Setting
    propensity: float
    choice: Setting
    objective: str
    outcome: str
    method: str
    contexts: list[str]
    task: dict[str, Scalar] = field(default_factory=dict)
    complexity: float | None = None
    budget: float | None = None
    explored: bool = False
    test: str = ""
    arm: str = ""
    expected: dict[str, float] = field(default_factory=dict)
    laws: dict[str, int] = field(default_factory=dict)
    overrides: list[Intervention] = field(default_factory=list)
    override_cost: float = 0.0


class Override(Versioned, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A standing order of a person on scaling.overrides: it holds for a context, from when it is given until it ends.

    Attributes:
        pins: What is pinned; all parts make a fixed policy.
        begins: Not before (RFC 3339); likewise `ends`.
        lifted_at: Who gave it up, when: `lifted_by`. A lifted override stays on the topic as history.
    """

    override_id: Name
    by: Author
    reason: Reason
    given_at: str
    context: str = GLOBAL
    pins: Pins = Pins()
    caps: Parts = Parts()
    begins: str | None = None
    ends: str | None = None
    lifted_at: str | None = None
    lifted_by: Text | None = None


class Arm(StrEnum):
    """The arms of an A/B test."""

    DYNAMIC = "dynamic"
    FIXED = "fixed"


class ABTest(Versioned, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An A/B test of the allocator against a fixed setting, on scaling.tests; sealed by its first record.

    Attributes:
        fixed: The setting of the fixed arm.
        share: Of tasks in the dynamic arm.
        context: Which tasks take part.
        gain: The relative gain in outcome per cost that it is planned to find.
        margin: The loss of success, in points, that still counts as non-inferior.
        rate: The expected success rate, and `cost_cv`, `difference`, `explained` as in `analytics.outcome_per_cost`.
        ended_at: When, by whom or by which rule it was ended: `ended_by`.
        verdict: better, worse or undetermined, once ended, with `sentence`.
    """

    test_id: Name
    fixed: Setting
    by: Author
    reason: Reason
    started_at: str
    share: Annotated[float, Meta(ge=0.05, le=0.95)] = 0.5
    context: str = GLOBAL
    gain: Annotated[float, Meta(gt=0, le=10)] = 0.10
    margin: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    rate: Share = 0.5
    cost_cv: NotNegative = 1.0
    difference: Annotated[float, Meta(gt=-1, lt=1)] = 0.0
    explained: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    ended_at: str | None = None
    ended_by: Text | None = None
    verdict: str = ""
    sentence: str = ""


def check_moments(*moments: str | None) -> None:
    """See that moments are RFC 3339 with a time zone: a record with another one would stop every answer.

    Raises:
        msgspec.ValidationError: One is not.
    """
    for moment in moments:
        if moment is not None:
            msgspec.convert(moment, Moment)


def scalars(task: Task) -> Iterator[tuple[str, Scalar]]:
    """Give the parts of a task that are worth logging: plain values, cut to a size."""
    for name, value in list(task.items())[:64]:
        if isinstance(value, str):
            yield name[:256], value[:256]
        elif value is None or isinstance(value, bool | int | float):
            yield name[:256], value
