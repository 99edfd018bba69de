"""Why a setting was chosen, in plain words."""

from collections.abc import Iterator

from agents.solving import Solved
from analytics.allocation import NEAR_LINEAR
from models.allocations import AllocateRequest, Allocation, Method, Objective
from models.dimensions import Outcome
from models.laws import Estimate

STRONG = 0.1
"""A context exponent from which context counts as worth buying."""


def why(request: AllocateRequest, allocation: Allocation, solved: Solved) -> str:
    """Say what was chosen, why, what binds, and what is not known."""
    sentences = (
        *_head(request, allocation),
        *_exponents(allocation, solved),
        *_parallelism(allocation, solved),
        *_limits(allocation, solved),
        *_people(allocation),
        *allocation.notes,
    )
    return " ".join(f"{sentence.removesuffix('.')}." for sentence in sentences)


def _head(request: AllocateRequest, allocation: Allocation) -> Iterator[str]:
    if allocation.method is Method.FIXED:
        yield f"The task is in the fixed arm of the A/B test {allocation.test}."
    if allocation.explored:
        yield "This setting was drawn, not chosen, so that policies can be valued."
    if allocation.method is Method.REFERENCE:
        yield "This is the setting of the design document's closed form."
    if allocation.method is Method.DEFAULT:
        yield "No law of quality or success has enough runs yet, so this is the safe default with unknown quality."
    setting = allocation.setting
    agents = f"{setting.agent_count} agent{'s' if setting.agent_count > 1 else ''}"
    size = f" of size {setting.model_size}" if setting.model_size else ""
    asked = _asked(request, allocation) if allocation.choice is None else "Given"
    yield (
        f"{asked}: {agents}{size} of {setting.max_iterations} iterations with {setting.context_budget:,} tokens, "
        f"{setting.parallelism} at a time."
    )
    yield f"{'; '.join(_expectations(allocation))}."


def _asked(request: AllocateRequest, allocation: Allocation) -> str:
    if request.objective is Objective.LEAST_COST:
        return f"The least cost at which {allocation.outcome} is expected to reach {request.target:g}"
    if request.objective is Objective.MOST_NET_VALUE:
        return f"The most net value, {allocation.outcome} being worth {request.value:g} dollars"
    return f"The most {allocation.outcome} within {request.budget:.4g} dollars"


def _expectations(allocation: Allocation) -> Iterator[str]:
    names = {Outcome.TOTAL_COST: "dollars", Outcome.TIME_TO_COMPLETE: "seconds"}
    for outcome, estimate in allocation.expected.items():
        yield f"expected {names.get(Outcome(outcome), outcome)} {_amount(estimate)}".replace("quality_score", "quality")


def _amount(estimate: Estimate) -> str:
    if estimate.se <= 0:
        return f"{estimate.estimate:.4g}"
    return f"{estimate.estimate:.3g} ({estimate.lo:.3g} to {estimate.hi:.3g})"


def _exponents(allocation: Allocation, solved: Solved) -> Iterator[str]:
    """Tell the document's logic: the larger exponent gets more, and strong context scaling buys context."""
    by_part = solved.told(allocation.setting).exponents
    agents, iterations, context = (by_part.get(part) for part in ("agent_count", "max_iterations", "context_budget"))
    if agents is not None and iterations is not None:
        more, less = ("agents", "iterations") if agents > iterations else ("iterations", "agents")
        yield (
            f"One per cent more {more} brings {max(agents, iterations):.2f} % of {allocation.outcome}, of {less} "
            f"{min(agents, iterations):.2f} %: {more} scale it more."
        )
    if context is not None:
        yield f"Context scaling is {'strong' if context >= STRONG else 'weak'} here ({context:.2f})."


def _parallelism(allocation: Allocation, solved: Solved) -> Iterator[str]:
    setting, slowed = allocation.setting, solved.prospect.slowed
    row = solved.outlook.grid.find(setting)
    if slowed is None or row is None or setting.agent_count == 1:
        return
    if slowed[row]:
        yield f"More slots would bring less than {NEAR_LINEAR:.0%} of a linear speed-up."
    elif setting.parallelism == setting.agent_count:
        yield f"All work at once: the speed-up stays at {NEAR_LINEAR:.0%} of linear or better."


def _limits(allocation: Allocation, solved: Solved) -> Iterator[str]:
    if allocation.binds:
        yield f"What binds: {', '.join(allocation.binds)}."
    if allocation.next_dollar > 0 and solved.prospect.method is not Method.DEFAULT:
        yield f"One dollar more would add {allocation.next_dollar:.3g}."
    if solved.freed:
        yield "The budget does not reach for the defaults of all parts without a law."
    if solved.choice.kept:
        yield "The setting given before is kept, as it is as good within the margin."
    if allocation.prior_dominated and allocation.method is not Method.DEFAULT:
        yield "The data do not say that settings differ: the answer rests on what was assumed."


def _people(allocation: Allocation) -> Iterator[str]:
    for order in allocation.overrides:
        parts = [f"{name} = {value}" for name, value in order.pins.numbers().items()]
        parts += [f"{name} <= {value}" for name, value in order.caps.numbers().items()]
        parts += [f"model_size = {order.pins.model_size}"] if order.pins.model_size else []
        yield f"{order.by} decided {', '.join(parts)} ({order.reason})."
    if allocation.overrides and allocation.method is not Method.DEFAULT:
        unit = allocation.outcome if allocation.objective == Objective.MOST_OUTCOME else "dollars"
        yield f"That costs {max(allocation.override_cost, 0.0):.3g} {unit}."
