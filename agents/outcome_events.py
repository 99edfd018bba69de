"""The outcome of an experiment's run: what of its event an analysis needs, and which value it says it used."""

from typing import Any

from msgspec import structs

from agents.decode import complexity, field, params_field, text_field
from agents.definitions import assignment_named, same_mac
from analytics.task_filter import matches
from analytics.trial_rows import same_value
from models.batches import Headers
from models.dimensions import Dimension
from models.events import RunEvent
from models.experiments import Assignment, Definition, Joined, Value
from models.topics import SOURCE_HEADER


def joined_run(
    event: RunEvent, order: tuple[int, int], completed: float, definition: Definition, scale: dict[str, float]
) -> Joined:
    """Read a run's outcomes, the value that it used, and whether it matches the exclusions.

    Args:
        event: The run.
        order: Its revision and offset.
        completed: When it was completed, seconds since the epoch.
        definition: Says which dimension was tested, and what is excluded.
        scale: The numbers that stand for complexity labels.
    """
    return Joined(
        agent_run_id=event.agent_run_id,
        completed_at=completed,
        order=order,
        actual_value=actual_value(event, definition),
        success=None if event.success is None else float(event.success),
        quality_score=event.quality_score,
        time_to_complete=event.time_to_complete,
        total_cost=event.total_cost,
        excluded=bool(definition.exclusions) and matches(definition.exclusions, task_fields(event, scale), scale),
    )


def unproven(event: RunEvent, assignment: Assignment | None) -> str | None:
    """Say why a run is no evidence of the experiment that it names, or None where it is.

    Args:
        event: The run.
        assignment: The one that its token names, if there is one.
    """
    named = assignment_named(event.assignment_token)
    if named is None:
        return "no assignment token" if event.assignment_token is None else "the assignment token has another form"
    if assignment is None:
        return "the token names no assignment"
    value, (kind, _, unit) = event.assigned_value, assignment.unit.partition("=")
    wrong = {
        "the token was not made by this deployment": not same_mac(named[1], assignment.mac),
        f"assigned_value = {value} is not the {assignment.value} that was assigned": value is not None
        and not same_value(assignment.value, _number(value)),
        f"the token is that of task {unit}": kind == "task" and event.task_id not in {None, unit},
        f"the token is that of run {unit}": kind == "run" and event.agent_run_id != unit,
    }
    return next((reason for reason, holds in wrong.items() if holds), None)


def corrected(before: Joined | None, after: Joined | None) -> bool:
    """Tell whether a joined run was replaced by one that an analysis reads differently."""
    if before is None or after is None:
        return False
    return structs.replace(before, order=after.order, completed_at=after.completed_at) != after


def actual_value(event: RunEvent, definition: Definition) -> Value | None:
    """Read the value of the tested dimension that a run says it used; a limit is preferred to what was used of it."""
    dimension = definition.dimension_tested
    if dimension is Dimension.MODEL_SIZE and isinstance(definition.control_value, str):
        return event.model_size_category
    number = {
        Dimension.AGENT_COUNT: event.agent_count,
        Dimension.ITERATIONS: _iterations(event),
        Dimension.PARALLELISM_LEVEL: event.parallelism_level,
        Dimension.CONTEXT: event.context_tokens if event.context_budget is None else event.context_budget,
        Dimension.MODEL_SIZE: params_field(event),
        Dimension.ATTEMPTS: _attempts(event),
    }[dimension]
    return None if number is None else float(number)


def task_fields(event: RunEvent, scale: dict[str, float]) -> dict[str, Any]:
    """Give the fields of a run that a filter may name."""
    texts = {name: text_field(event, name) for name in ("project", "task_type", "task_id", "model")}
    return {
        **{name: value for name, value in texts.items() if value is not None},
        "model_size_category": event.model_size_category,
        "model_params_b": field(event, "model_params_b"),
        "task_complexity": complexity(event, scale),
        "project_characteristics": event.project_characteristics or {},
    }


def source_header(offset: int, timestamp: int) -> tuple[str, bytes]:
    """Write where in scaling.runs an outcome comes from: its offset, and its Kafka timestamp in milliseconds."""
    return SOURCE_HEADER, f"{offset}:{timestamp}".encode()


def source_of(headers: Headers) -> tuple[int, int]:
    """Read the offset and the timestamp of an outcome's source.

    Raises:
        ValueError: There is none, or it has another form.
    """
    for name, value in headers:
        if name == SOURCE_HEADER:
            offset, _, timestamp = value.decode("ascii", "replace").partition(":")
            return int(offset), int(timestamp)
    raise ValueError(f"the record has no header {SOURCE_HEADER}: only the stats worker publishes outcomes")


def _number(value: Value) -> Value:
    """Read a number that an orchestrator echoes as text."""
    try:
        return float(value)
    except ValueError:
        return value


def _iterations(event: RunEvent) -> float | None:
    if event.max_iterations is not None:
        return float(event.max_iterations)
    if event.total_iterations is None or event.agent_count is None:
        return None
    return event.total_iterations / event.agent_count


def _attempts(event: RunEvent) -> int | None:
    allowed = event.retry_count if event.retry_limit is None else event.retry_limit
    return None if allowed is None else allowed + 1
