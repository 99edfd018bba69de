"""The run-completion event: what an orchestrator publishes when a run ends."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

Identifier = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
CountOrZero = Annotated[int, Meta(ge=0, le=1_000_000)]
Tokens = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Scalar = Annotated[str, Meta(max_length=4096)] | int | float | bool | None
Characteristics = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=256)], Scalar], Meta(max_length=64)]
ComplexityLabel = Literal["trivial", "low", "medium", "high"]


class RunEvent(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One completed run. Only `agent_run_id` is required; the run counts for what it has.

    Field by field: docs/wire.md. Limits that were set before the run (`max_iterations`, `retry_limit`,
    `context_budget`) are doses and preferred to the realised counts beside them.
    """

    agent_run_id: Identifier
    schema_version: Literal[1] = 1
    completed_at: Annotated[datetime, Meta(tz=True)] | None = None
    revision: Annotated[int, Meta(ge=0, le=65_535)] = 0
    project: Text | None = None
    task_type: Text | None = None
    task_id: Text | None = None
    model: Text | None = None
    task_complexity: Unit | ComplexityLabel | None = None
    project_characteristics: Characteristics | None = None
    agent_count: Count | None = None
    parallelism_level: Count | None = None
    total_iterations: CountOrZero | None = None
    max_iterations: CountOrZero | None = None
    retry_limit: CountOrZero | None = None
    context_budget: Tokens | None = None
    retry_count: CountOrZero | None = None
    context_tokens: Tokens | None = None
    model_size_category: Literal["small", "medium", "large"] | None = None
    model_params_b: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    success: bool | None = None
    quality_score: Unit | None = None
    time_to_complete: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    total_cost: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    cost_source: Literal["reported", "price_table"] | None = None
    decision_id: Text | None = None
    policy_version: Text | None = None
    propensity: Unit | None = None
    experiment_id: Text | None = None
    assigned_value: float | Annotated[str, Meta(max_length=64)] | None = None
    assignment_token: Text | None = None


CHARACTERISTIC_FALLBACKS: tuple[str, ...] = ("project", "task_type", "task_id", "model", "model_params_b")
"""Fields that are looked up in project_characteristics when absent at the top level."""
