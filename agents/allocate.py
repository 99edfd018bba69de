"""Allocate: what to give a task within a budget, from the laws of its contexts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from agents.lawbook import LawBook, elasticity, has_line, ranked
from analytics.allocation import (
    MAX_AGENTS,
    MAX_CONTEXT,
    MAX_ITERATIONS,
    NEAR_LINEAR,
    TOKENS,
    Allocation,
    Lever,
    Point,
    allocate_by_closed_form,
    allocate_exactly,
    near_linear_slots,
)
from models.contexts import complexity_band, contexts_of
from models.dimensions import Dimension, Outcome
from models.errors import BudgetTooSmall, InvalidEvent, NotEnoughData, ScalingError
from models.events import Identifier
from models.laws import Law
from models.settings import Settings

Method = Literal["exact", "reference"]
Task = Mapping[str, Any]

PRICE_TABLE = "price_table"


@dataclass(frozen=True, slots=True)
class Part:
    """A dimension that an allocation sets: its unit, its largest value, and its default where no law speaks."""

    dimension: Dimension
    unit: int
    most: int
    default: int


AGENTS = Part(Dimension.AGENT_COUNT, 1, MAX_AGENTS, 1)
ITERATIONS = Part(Dimension.ITERATIONS, 1, MAX_ITERATIONS, 1)
CONTEXT = Part(Dimension.CONTEXT, TOKENS, MAX_CONTEXT, 8)
PARTS = (AGENTS, ITERATIONS, CONTEXT)
"""The safe default is one agent, one iteration and 8,000 tokens of context."""


def allocate(task: Task, budget: float, book: LawBook, settings: Settings, method: Method = "exact") -> Allocation:
    """Choose agents, iterations, context and parallelism for a task.

    Each dimension's law comes from the task's most specific context that has enough runs. Quality laws decide; where
    no dimension has one, success laws do; where there is neither, the answer is the safe default (method "default").
    A dimension without a law keeps its default value, or less where the budget does not reach that far. The mean
    quality is that of the most specific law used. Unit costs are the slopes of the linear cost laws; the price table
    of the settings stands in where there is none, or where it is not positive.

    Args:
        task: project, task_type, model, model_size_category and task_complexity (a number in [0, 1] or a label), or
            whatever else the configured context keys name; all optional.
        budget: US dollars.
        book: The laws known now.
        settings: Context keys, complexity labels and the price table.
        method: "exact", or "reference" for the design document's closed form, which may overspend.

    Raises:
        BudgetTooSmall: Not even the smallest setting fits; the message names the least budget.
        InvalidEvent: A field of the task has a wrong value.
    """
    contexts = contexts_of_task(task, settings)
    outcome, laws = _quality_laws(contexts, book)
    prices = {part.dimension: _price(part, contexts, book, settings) for part in PARTS}
    mean, mean_law = _mean_quality(contexts, laws)

    point, method_used, note = _solve(laws, prices, mean, budget, method)
    agents, iterations, context = point.setting
    slots, time_law, parallel_reason = _parallelism(agents, contexts, book)

    used = [*laws.values(), *([time_law] if time_law else []), *(price.law for price in prices.values() if price.law)]
    sentences = [
        _quality_reason(outcome, laws, mean_law),
        _share_reason(laws),
        note,
        parallel_reason,
        _cost_reason(prices, point, budget),
    ]
    return Allocation(
        agent_count=agents,
        max_iterations=iterations,
        context_budget=context * TOKENS,
        parallelism=slots,
        expected_quality=point.quality if laws else None,
        expected_cost=point.cost,
        method=method_used,
        overspend=point.overspend,
        laws={law.law_id: law.version for law in used},
        quality_outcome=outcome.value,
        unit_costs={dimension.value: price.dollars for dimension, price in prices.items()},
        cost_source={
            dimension.value: price.law.law_id if price.law else PRICE_TABLE for dimension, price in prices.items()
        },
        reasons=" ".join(sentence for sentence in sentences if sentence),
    )


def contexts_of_task(task: Task, settings: Settings) -> list[str]:
    """List the contexts a task belongs to, the global one first, then in the order of the configured keys.

    A key that the task lacks is looked up in its project_characteristics.

    Raises:
        InvalidEvent: A key's value is an object or a list, or task_complexity is neither in [0, 1] nor a known label.
    """
    characteristics = task.get("project_characteristics") or {}
    if not isinstance(characteristics, Mapping):
        raise InvalidEvent(f"task field project_characteristics = {characteristics!r}: give an object")
    values: dict[str, str] = {}
    for key in dict.fromkeys(key for keys in settings.context_keys for key in keys):
        value = _band(task, settings) if key == "complexity_band" else task.get(key) or characteristics.get(key)
        if isinstance(value, Mapping | list):
            raise InvalidEvent(f"task field {key} = {value!r}: give a text or a number")
        if value not in (None, ""):
            values[key] = str(value)[:256]
    return contexts_of(values, settings.context_keys)


def _band(task: Task, settings: Settings) -> str | None:
    value = task.get("task_complexity")
    if value is None:
        return None
    scale = settings.complexity_scale.model_dump()
    number = scale.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise InvalidEvent(
            f"task field task_complexity = {value!r}: give a number in [0, 1] or one of {', '.join(scale)}"
        )
    return complexity_band(number)


def _quality_laws(contexts: Sequence[str], book: LawBook) -> tuple[Outcome, dict[Dimension, Law]]:
    """Choose the law of each dimension; success stands in where no dimension has a law of quality."""
    laws: dict[Dimension, Law] = {}
    for outcome in (Outcome.QUALITY_SCORE, Outcome.SUCCESS):
        for part in PARTS:
            try:
                laws[part.dimension] = book.choose(contexts, part.dimension, outcome)
            except NotEnoughData:
                continue
        if laws:
            return outcome, laws
    return Outcome.QUALITY_SCORE, {}


def _mean_quality(contexts: Sequence[str], laws: Mapping[Dimension, Law]) -> tuple[float, Law | None]:
    """Take the mean outcome from the most specific law used."""
    if not laws:
        return 0.0, None
    order = ranked(contexts)
    law = min(laws.values(), key=lambda law: order.index(law.context))
    return _mean_outcome(law), law


def _mean_outcome(law: Law) -> float:
    return sum(row.n * row.mean for row in law.values) / sum(row.n for row in law.values)


def _anchor(law: Law, unit: int) -> float:
    """Compute the geometric mean setting of the law's runs, in units; a value of zero has no logarithm."""
    rows = [(row.n, row.x / unit) for row in law.values if row.x is not None and row.x > 0]
    return math.exp(sum(n * math.log(x) for n, x in rows) / sum(n for n, _ in rows))


@dataclass(frozen=True, slots=True)
class _Price:
    """A unit cost and the law whose slope it is; without a law it comes from the price table."""

    dollars: float
    law: Law | None
    unit: int


def _price(part: Part, contexts: Sequence[str], book: LawBook, settings: Settings) -> _Price:
    try:
        law = book.choose(contexts, part.dimension, Outcome.TOTAL_COST, has_line)
    except NotEnoughData:
        law = None
    if law is not None and law.reference.linear is not None:
        slope = law.reference.linear.coefficient.estimate * part.unit
        if slope > 0:
            return _Price(slope, law, part.unit)
    table = {
        Dimension.AGENT_COUNT: settings.agent_cost,
        Dimension.ITERATIONS: settings.iteration_cost,
        Dimension.CONTEXT: settings.context_cost_per_1k,
    }
    return _Price(table[part.dimension], None, part.unit)


def _lever(part: Part, law: Law | None, price: _Price, values: Sequence[int]) -> Lever:
    if law is None:
        return Lever(part.dimension, 0.0, price.dollars, 1.0, values)
    return Lever(part.dimension, elasticity(law), price.dollars, _anchor(law, part.unit), values)


def _solve(
    laws: Mapping[Dimension, Law], prices: Mapping[Dimension, _Price], mean: float, budget: float, method: Method
) -> tuple[Point, str, str]:
    """Solve by the method asked for; say the method used, and what became of dimensions without a law."""

    def levers(unknown: Mapping[Dimension, Sequence[int]]) -> list[Lever]:
        values = {part.dimension: unknown.get(part.dimension, range(1, part.most + 1)) for part in PARTS}
        return [
            _lever(part, laws.get(part.dimension), prices[part.dimension], values[part.dimension]) for part in PARTS
        ]

    if method == "reference" and laws:
        return allocate_by_closed_form(levers({}), mean, budget), method, ""
    unknown = [part for part in PARTS if part.dimension not in laws]
    names = " and ".join(part.dimension for part in unknown)
    used = "exact" if laws else "default"
    note = f"Without a law, {names} keeps the default." if unknown else ""
    try:
        return allocate_exactly(levers({part.dimension: [part.default] for part in unknown}), mean, budget), used, note
    except BudgetTooSmall:
        # Only defaults can be given up; without them the error stands.
        below = {part.dimension: range(1, part.default + 1) for part in unknown}
        point = allocate_exactly(levers(below), mean, budget)
        return point, used, f"The budget does not reach for the default of {names}, which has no law."


def _parallelism(agents: int, contexts: Sequence[str], book: LawBook) -> tuple[int, Law | None, str]:
    """Use full parallelism up to the threshold where the speed-up stays near linear."""
    try:
        law = book.choose(contexts, Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE)
    except NotEnoughData:
        return 1, None, "Parallelism is 1, because no law of time says that more slots save time."
    exponent = elasticity(law)
    slots = near_linear_slots(exponent, agents)
    reason = (
        f"Parallelism is {slots} for {agents} agents: time goes with slots by exponent {exponent:.2f} "
        f"({law.context}), and the speed-up is to stay at {NEAR_LINEAR:.0%} of linear or better."
    )
    return slots, law, reason


def _quality_reason(outcome: Outcome, laws: Mapping[Dimension, Law], mean_law: Law | None) -> str:
    if mean_law is None:
        return "No law of quality or success has enough runs yet, so this is the safe default with unknown quality."
    exponents = ", ".join(f"{dimension} {elasticity(law):.2f} ({law.context})" for dimension, law in laws.items())
    return f"Exponents of {outcome}: {exponents}; its mean {_mean_outcome(mean_law):.3f} is that of {mean_law.context}."


def _share_reason(laws: Mapping[Dimension, Law]) -> str:
    """Say which of agents and iterations the laws favour."""
    agents, iterations = laws.get(Dimension.AGENT_COUNT), laws.get(Dimension.ITERATIONS)
    if not (agents and iterations):
        return ""
    if elasticity(agents) > elasticity(iterations):
        return "Agents scale it more than iterations, so the budget favours agents."
    return "Iterations scale it at least as much as agents, so the budget favours iterations."


def _cost_reason(prices: Mapping[Dimension, _Price], point: Point, budget: float) -> str:
    sentence = f"It costs an expected {point.cost:.4f} of {budget:.4f} dollars."
    if point.overspend > 0:
        sentence += f" That is {point.overspend:.4f} over the budget, as the closed form rounds."
    table = [dimension for dimension, price in prices.items() if price.law is None]
    if table:
        return sentence + f" The price table stands in for the unit cost of {', '.join(table)}."
    laws = [(price, price.law) for price in prices.values() if price.law]
    at_mean = sum(price.dollars * _anchor(law, price.unit) for price, law in laws)
    ratio = at_mean / _mean_outcome(laws[0][1])
    return sentence + f" At the typical setting these unit costs add up to {ratio:.1f} times the mean cost of the runs."


class AllocateRequest(Struct, frozen=True):
    """A request on scaling.allocate.requests; its record key is the request_id."""

    request_id: Identifier
    task: dict[str, Any]
    budget: Annotated[float, Meta(gt=0)]
    method: Method = "exact"


class Refusal(Struct, frozen=True):
    """Why there is no allocation: the name of the error and its message."""

    kind: str
    message: str


class AllocateReply(Struct, frozen=True, omit_defaults=True):
    """A reply on scaling.allocate.replies: an allocation or an error."""

    request_id: str
    allocation: Allocation | None = None
    error: Refusal | None = None


ERRORS: dict[str, type[ScalingError]] = {error.__name__: error for error in (BudgetTooSmall, InvalidEvent)}


def encode_request(request_id: str, task: Task, budget: float, method: Method = "exact") -> bytes:
    """Encode a request as JSON."""
    return msgspec.json.encode(AllocateRequest(request_id, dict(task), budget, method))


def decode_request(payload: bytes) -> AllocateRequest:
    """Decode a request.

    Raises:
        InvalidEvent: It breaks a rule; the message names the field and the rule.
    """
    try:
        return msgspec.json.decode(payload, type=AllocateRequest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"the allocation request is not valid: {error}") from None


def answer(payload: bytes, request_id: str, book: LawBook, settings: Settings) -> bytes:
    """Answer one request; what is wrong with it becomes the reply's error.

    Args:
        payload: The request.
        request_id: The key of its record, for a reply to a request that cannot be read.
        book: The laws known now.
        settings: As for `allocate`.
    """
    try:
        request = decode_request(payload)
        allocation = allocate(request.task, request.budget, book, settings, request.method)
        return msgspec.json.encode(AllocateReply(request.request_id, allocation))
    except ScalingError as error:
        return encode_refusal(request_id, error)


def encode_refusal(request_id: str, error: Exception) -> bytes:
    """Encode a reply that says why there is no allocation."""
    return msgspec.json.encode(AllocateReply(request_id, error=Refusal(type(error).__name__, str(error))))


def decode_reply(payload: bytes) -> Allocation:
    """Decode a reply.

    Raises:
        ScalingError: The reply carries an error: it is raised as what it was, BudgetTooSmall for instance.
        InvalidEvent: The reply is not valid.
    """
    try:
        reply = msgspec.json.decode(payload, type=AllocateReply)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"the allocation reply is not valid: {error}") from None
    if reply.allocation is not None:
        return reply.allocation
    if reply.error is None:
        raise InvalidEvent("the allocation reply has neither an allocation nor an error: ask again")
    raise ERRORS.get(reply.error.kind, ScalingError)(reply.error.message)
