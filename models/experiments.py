"""Experiments: definitions, their seals, assignments, results and findings, as their topics carry them.

    definition ── sealed at the start ──▶ assignments ──▶ outcomes ──▶ results ──▶ finding

Effects are on the scale of the outcome: points for success and quality, ln for time and cost. The effect of a slope is
the change along the line on ln x from the smallest to the largest value, that of a contrast the one from the control.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from models.dimensions import Dimension, Outcome
from models.events import Identifier, Text
from models.laws import Estimate, Law
from models.versions import Versioned

ANALYSIS_VERSION = 1
"""Which analysis a definition was sealed for; another one is a deviation."""

TIER = "experiment"
"""The tier of laws that experiments publish."""

ExperimentId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Value = float | Annotated[str, Meta(min_length=1, max_length=64)]
Condition = dict[str, Any]
Positive = Annotated[float, Meta(gt=0)]


class Status(StrEnum):
    """Where an experiment stands; `stopped` was ended by hand or by an alarm, `completed` waits for outcomes."""

    DRAFT = "draft"
    RUNNING = "running"
    COMPLETED = "completed"
    ANALYZED = "analyzed"
    STOPPED = "stopped"


class Verdict(StrEnum):
    """What an experiment says of its hypothesis."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDETERMINED = "undetermined"


class Label(StrEnum):
    """Confirmatory: everything went as it was sealed. Exploratory: something differs; the deviations say what."""

    CONFIRMATORY = "confirmatory"
    EXPLORATORY = "exploratory"


class Definition(Struct, frozen=True, forbid_unknown_fields=True):
    """What an experiment asks, how it is run, and how it will be judged. `agents.definitions` checks it as a whole.

    Attributes:
        context_filter: Which tasks take part; see `analytics.task_filter`.
        outcome: The one outcome that the hypothesis is about.
        estimand: slope (of the outcome on ln x), contrast (of one value with the control), or knee.
        contrast_value: For a contrast; absent: the last value.
        knee_at_most: For a knee: the hypothesis says that it lies here or earlier.
        direction: Where the hypothesis expects the effect: increase, decrease, or either.
        families: Which families the averaged law is made of; empty: all that the outcome may follow.
        minimum_effect: The least effect worth knowing; a smaller one counts as none.
        min_samples_per_value: Below this no value is reported and nothing stops for effect or futility.
        planned_per_value: Assignments that each value gets; the confidence sequence is tightest there.
        stopping: fixed (one look, at the planned size) or sequential (any look, valid at each).
        assignment: blocks (permuted, stratified), least (the value with the fewest assignments), switchback (one
            value for all tasks of a time block), neyman (half balanced, half where the slope learns most), thompson
            (by the probability of being best, never below 5 %).
        stratify_by: Fields of the task that blocks are kept apart by.
        switchback_seconds: Length of a time block; runs of its first `washout_seconds` are left out.
        exclusions: Runs that match this filter are left out, and counted by value.
        missing_quality: What a run without a quality score counts as: excluded, or zero.
        adjust_for_complexity: Whether the headline takes out what complexity explains (CUPED).
        secondary_outcomes: Watched beside the outcome, without a verdict.
        budget_dollars: Assignments end when runs have cost this much, those under way and unpriced ones included at the
            greater of `run_dollars` and the mean price so far; `budget_runs` when so many have been given out.
        run_dollars: What a run is expected to cost, before any has told.
        expire_seconds: An assignment without an outcome after this long has none.
    """

    experiment_id: ExperimentId
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    hypothesis: Annotated[str, Meta(min_length=1, max_length=2000)]
    dimension_tested: Dimension
    values_tested: Annotated[list[Value], Meta(min_length=2, max_length=16)]
    control_value: Value
    context_filter: Condition = field(default_factory=dict)
    outcome: Outcome = Outcome.SUCCESS
    estimand: Literal["slope", "contrast", "knee"] = "slope"
    contrast_value: Value | None = None
    knee_at_most: Positive | None = None
    direction: Literal["increase", "decrease", "either"] = "increase"
    families: Annotated[list[str], Meta(max_length=16)] = field(default_factory=list)
    minimum_effect: Annotated[float, Meta(gt=0, le=10)] = 0.1
    min_samples_per_value: Annotated[int, Meta(ge=2, le=100_000)] = 30
    planned_per_value: Annotated[int, Meta(ge=2, le=100_000)] = 200
    alpha: Annotated[float, Meta(gt=0, le=0.2)] = 0.05
    stopping: Literal["fixed", "sequential"] = "sequential"
    assignment: Literal["blocks", "least", "switchback", "neyman", "thompson"] = "blocks"
    stratify_by: Annotated[list[Text], Meta(max_length=4)] = field(
        default_factory=lambda: ["project", "complexity_band"]
    )
    switchback_seconds: Annotated[int, Meta(ge=1, le=604_800)] = 1800
    washout_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 0
    exclusions: Condition = field(default_factory=dict)
    missing_quality: Literal["exclude", "zero"] = "exclude"
    adjust_for_complexity: bool = True
    secondary_outcomes: Annotated[list[Outcome], Meta(max_length=4)] = field(default_factory=list)
    budget_dollars: Positive | None = None
    budget_runs: Annotated[int, Meta(ge=1)] | None = None
    run_dollars: Positive | None = None
    expire_seconds: Annotated[int, Meta(ge=1, le=2_592_000)] = 21_600
    analysis_version: int = ANALYSIS_VERSION


class Sealed(Versioned, frozen=True):
    """A sealed version of a definition: `<id>|<version>|definition` on scaling.experiments.

    `sha256` is that of the definition's canonical JSON, `previous_sha256` chains a later version to the one before,
    and `seal` is an HMAC of both, which nobody can make without the deployment's secret.
    """

    definition: Definition
    version: int
    sha256: str
    previous_sha256: str | None
    sealed_at: str
    seal: str
    code_version: str
    reason: str = ""
    by: str = ""


class Draft(Versioned, frozen=True):
    """A definition that has not started: `<id>|0|draft`."""

    definition: Definition
    created_at: str
    by: str = ""


class StatusRecord(Versioned, frozen=True):
    """Where a version stands, why, and what to do next: `<id>|<version>|status`."""

    experiment_id: str
    version: int
    status: Status
    since: str
    reason: str
    next_step: str
    by: str = ""
    mac: str = ""


class Joined(Struct, frozen=True, omit_defaults=True):
    """The run that an assignment led to, as the analysis reads it.

    Attributes:
        completed_at: In seconds since the epoch.
        order: revision and offset of the event; a later one replaces an earlier one of the same run.
        actual_value: What the run says it did; None where it says nothing.
        excluded: The run matches the definition's exclusions.
    """

    agent_run_id: str
    completed_at: float
    order: tuple[int, int]
    actual_value: Value | None = None
    success: float | None = None
    quality_score: float | None = None
    time_to_complete: float | None = None
    total_cost: float | None = None
    excluded: bool = False


class Assignment(Versioned, frozen=True, omit_defaults=True):
    """One task's value: `<id>|<assignment id>` on scaling.assignments, written again when its run has come.

    Attributes:
        unit: The task (or run) that was assigned: the same one always gets the same answer.
        stratum: The group within which blocks are balanced; for a switchback the time block.
        block: Which block of the stratum, or batch of adaptive draws, or time block; and `place` in it.
        propensity: P(this value) as it was when it was drawn; `propensities` those of all values, in their order.
        assigned_at: In seconds since the epoch.
        mac: Binds all of this to the deployment's secret; the last part of the token.
        run: The run that counts, once it is there; `repeats` are further runs of the same unit, left out.
        outcome_mac: Binds `run`, `expired` and `repeats` to the secret.
    """

    experiment_id: str
    version: int
    assignment_id: str
    definition_sha256: str
    unit: str
    value: Value
    stratum: str
    block: int
    place: int
    propensity: float
    propensities: list[float]
    assigned_at: float
    mac: str
    complexity: float | None = None
    contexts: list[str] = field(default_factory=list)
    expired: bool = False
    run: Joined | None = None
    repeats: list[str] = field(default_factory=list)
    outcome_mac: str = ""


class Notes(Versioned, frozen=True, omit_defaults=True):
    """What is remembered beside a version: `<id>|<version>|notes`.

    `unproven` are runs that named the experiment without a valid token, with the reason; `tampering` says what was
    found changed on the topic; `corrections` counts joined runs that were replaced by another revision.
    """

    unproven: dict[str, str] = field(default_factory=dict)
    tampering: list[str] = field(default_factory=list)
    corrections: int = 0
    mac: str = ""


class ArmResult(Struct, frozen=True, omit_defaults=True):
    """What became of the assignments to one value, and what its runs brought.

    `mean` is by assigned value (intention to treat), with Student's or Wilson's interval for one look; `anytime_lo` and
    `anytime_hi` hold at any look. `adjusted` has complexity taken out. `per_protocol` is over the runs that did what
    they were assigned.
    """

    value: Value
    assigned: int
    pending: int
    expired: int
    completed: int
    excluded: int
    measured: int
    complied: int
    not_complied: int
    dollars: float
    mean: Estimate | None = None
    anytime_lo: float | None = None
    anytime_hi: float | None = None
    adjusted: float | None = None
    per_protocol: Estimate | None = None


class Contrast(Struct, frozen=True):
    """A value against the control: all intervals of an experiment hold together, for one look and at any look."""

    value: Value
    over: Value
    difference: Estimate
    anytime_lo: float
    anytime_hi: float
    e_value: float
    p: float


class OneLookTest(Struct, frozen=True):
    """A classical test at one look."""

    name: str
    statistic: float
    dof: float
    p: float


class SampleRatio(Struct, frozen=True):
    """Whether the values got the shares they were meant to get: valid at any look, alarm at e_value >= limit."""

    stage: str
    e_value: float
    limit: float
    alarm: bool
    counts: list[int]


class Effect(Struct, frozen=True, omit_defaults=True):
    """The effect of the estimand on one outcome.

    `estimate` has its interval for one look at 1 - alpha; `anytime_lo` to `anytime_hi` holds at all looks together;
    `e_value` is the evidence now, `best_e_value` the most at any look so far, `anytime_p` = 1 / best_e_value.
    `equivalence_lo` to `equivalence_hi` is the interval at 1 - 2 alpha of two one-sided tests, for one look.
    """

    outcome: str
    what: str
    estimate: Estimate
    anytime_lo: float
    anytime_hi: float
    e_value: float
    best_e_value: float
    anytime_p: float
    p: float
    equivalence_lo: float
    equivalence_hi: float
    n: int


class Secondary(Struct, frozen=True, omit_defaults=True):
    """What happened to an outcome beside the one that the hypothesis is about."""

    outcome: str
    effect: Effect | None = None
    missing: str = ""


class Result(Versioned, frozen=True, omit_defaults=True):
    """What an experiment says now: `<id>|<version>|result`, refreshed with every window, valid to look at always.

    Attributes:
        label: Whether the verdict may be called confirmatory; `deviations` say why not.
        look: How many results have been published.
        effect: The headline, by assigned value; None with the reason under `missing`.
        unadjusted: The same without complexity taken out; `variance_saved` is the share of variance that went with it.
        per_protocol: The same over the runs that did what they were assigned.
        power: P(an experiment of this size sees the minimum effect); `detectable_effect` is what it sees with 80 %.
        law: The document's output (reference: power, log and linear fits, knee, success rate by value, recommended
            value) and the averaged law, fitted to these runs alone.
        attrition_p: Of equal shares of outcomes among the values.
        dollars: What the experiment's runs have cost; `unpriced` runs said nothing of their cost.
        unproven: Runs that named the experiment without a valid token: they are no evidence.
        corrections: Joined runs that were replaced by another revision; the sequences began anew at each.
    """

    experiment_id: str
    version: int
    sha256: str
    analysed_at: str
    status: Status
    label: Label
    deviations: list[str]
    verdict: Verdict
    sentence: str
    next_step: str
    look: int
    runs: int
    arms: list[ArmResult]
    contrasts: list[Contrast] = field(default_factory=list)
    tests: list[OneLookTest] = field(default_factory=list)
    sample_ratio: list[SampleRatio] = field(default_factory=list)
    effect: Effect | None = None
    unadjusted: Effect | None = None
    per_protocol: Effect | None = None
    variance_saved: float | None = None
    attrition_p: float | None = None
    power: float | None = None
    detectable_effect: float | None = None
    law: Law | None = None
    secondary: list[Secondary] = field(default_factory=list)
    dollars: float = 0.0
    unpriced: int = 0
    repeats: int = 0
    unproven: int = 0
    corrections: int = 0
    code_version: str = ""
    data: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    mac: str = ""


class Finding(Versioned, frozen=True, omit_defaults=True):
    """What an experiment found, once and for all: a record of scaling.findings, whose order is that of the tests.

    The topic has one partition; the level that LORD++ gives a finding follows from the findings before it.
    """

    experiment_id: str
    version: int
    name: str
    hypothesis: str
    dimension: str
    outcome: str
    context_filter: Condition
    values: list[Value]
    verdict: Verdict
    label: Label
    sentence: str
    concluded_at: str
    sha256: str
    runs: int
    dollars: float
    p: float
    alpha: float
    minimum_effect: float
    effect: Effect | None = None
    power: float | None = None
    knee: float | None = None
    recommended_value: float | None = None
    mac: str = ""


class RequestsCut(Versioned, frozen=True):
    """How far requests have been carried out: `cut|<partition>|requests`.

    A request below `offset` is in, unless it came after `timestamp` (the broker's, in milliseconds): then the topic was
    made anew.
    """

    offset: int = 0
    timestamp: int = 0
    mac: str = ""


class AssignRequest(Struct, frozen=True, tag_field="kind", tag="assign"):
    """Ask for a task's value: on scaling.assign.requests under the experiment's id.

    Attributes:
        task: What is known of the task before its run, by the fields of the run event; `task_id` names it.
        agent_run_id: Names the unit where the task has no id.
        patience: Seconds after which the caller no longer waits: a later answer must not be given.
    """

    request_id: Identifier
    experiment_id: ExperimentId
    task: dict[str, Any]
    agent_run_id: Identifier | None = None
    patience: Annotated[float, Meta(gt=0, le=60)] = 1.0


class CreateRequest(Struct, frozen=True, tag_field="kind", tag="create"):
    """Keep a draft; one that is there is replaced only where `replace` says so."""

    request_id: Identifier
    definition: Definition
    by: Text = ""
    replace: bool = False


class StartRequest(Struct, frozen=True, tag_field="kind", tag="start"):
    """Seal a draft and begin to assign."""

    request_id: Identifier
    experiment_id: ExperimentId
    by: Text = ""


class AmendRequest(Struct, frozen=True, tag_field="kind", tag="amend"):
    """Change a definition that was started: a new version, and a deviation for good."""

    request_id: Identifier
    definition: Definition
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    by: Text = ""


class StopRequest(Struct, frozen=True, tag_field="kind", tag="stop"):
    """End an experiment by hand."""

    request_id: Identifier
    experiment_id: ExperimentId
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    by: Text = ""


Request = AssignRequest | CreateRequest | StartRequest | AmendRequest | StopRequest


class Reply(Struct, frozen=True, omit_defaults=True):
    """The answer on scaling.assign.replies, under the request's id.

    An assignment has `assigned_value`, `propensity` and the `assignment_token` that the run must echo; a refusal has
    its kind (no_match, sufficient, budget, not_running, unknown, late, invalid) and a message; a command has `status`.
    """

    request_id: str
    experiment_id: str
    version: int | None = None
    assigned_value: Value | None = None
    assignment_token: str | None = None
    propensity: float | None = None
    status: Status | None = None
    refusal: str | None = None
    message: str = ""
    schema_version: int = 1
