"""Raw runs of the log as columns, straight from the events: what laws are fitted from without cells, Grams or SQL."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xxhash

from agents.accept import accept
from agents.decode import EventDecoder, complexity, params_field, text_field
from agents.refits import RunColumns
from models.contexts import GLOBAL, context_pairs
from models.dimensions import SIZE_CATEGORIES, Basis, Dimension, Outcome
from models.events import RunEvent
from models.settings import Settings
from tests.faults.tables import Log

Which = Literal["first", "newest"]
"""Which of several events of a run counts."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An accepted record of the log; `completed` in seconds since the epoch."""

    partition: int
    offset: int
    event: RunEvent
    completed: float
    content: int


def accepted_of(settings: Settings, log: Log) -> list[Logged]:
    """List the accepted records of the log, partition by partition in the order of offsets."""
    decoder = EventDecoder(settings)
    found: list[Logged] = []
    for partition, batch in log.items():
        accepted = accept(batch, decoder, settings)
        found += (
            Logged(
                partition, batch.offsets[index], event, completed, xxhash.xxh64_intdigest(batch.values[index] or b"")
            )
            for event, index, completed in zip(
                accepted.events, accepted.indices, accepted.completed.tolist(), strict=True
            )
        )
    return found


def counting(records: Iterable[Logged], which: Which) -> dict[str, Logged]:
    """Choose the record of each run that counts: the first, or the one with the highest revision, then offset."""
    chosen: dict[str, Logged] = {}
    for each in records:
        known = chosen.get(each.event.agent_run_id)
        if known is None or (which == "newest" and _rank(each) > _rank(known)):
            chosen[each.event.agent_run_id] = each
    return chosen


def _rank(each: Logged) -> tuple[int, int]:
    return each.event.revision, each.offset


def columns_of(settings: Settings, records: Iterable[Logged], context: str, newest: float) -> RunColumns:
    """Make the columns of a context's runs.

    Args:
        settings: The complexity scale and the length of a bucket.
        records: The runs that count.
        context: global, or of a project.
        newest: When the last of all runs completed, in seconds since the epoch.
    """
    inside = list(_inside(records, context))
    scale = settings.complexity_scale.model_dump()
    rows = [_x(each.event) for each in inside]
    return RunColumns(
        x={slot: np.array([row[slot] for row in rows], dtype=np.float64) for slot in _x(RunEvent(agent_run_id="any"))},
        outcomes={
            outcome: np.array([getattr(each.event, outcome) for each in inside], dtype=np.float64)
            for outcome in (
                Outcome.SUCCESS,
                Outcome.QUALITY_SCORE,
                Outcome.TIME_TO_COMPLETE,
                Outcome.TOTAL_COST,
            )
        },
        policy=np.array(
            [each.event.decision_id is not None or each.event.policy_version is not None for each in inside], dtype=bool
        ),
        complexity=np.array([complexity(each.event, scale) for each in inside], dtype=np.float64),
        bucket=np.array([each.completed // settings.bucket_seconds for each in inside], dtype=np.int64),
        newest=int(newest // settings.bucket_seconds),
    )


def _inside(records: Iterable[Logged], context: str) -> Iterator[Logged]:
    wanted = {} if context == GLOBAL else dict(context_pairs(context))
    return (each for each in records if all(text_field(each.event, name) == value for name, value in wanted.items()))


def _x(event: RunEvent) -> dict[tuple[Dimension, Basis], float | None]:
    category = event.model_size_category
    iterations = None
    if event.total_iterations is not None and event.agent_count is not None:
        iterations = event.total_iterations / event.agent_count
    return {
        (Dimension.AGENT_COUNT, Basis.REALISED): event.agent_count,
        (Dimension.ITERATIONS, Basis.DOSE): event.max_iterations,
        (Dimension.ITERATIONS, Basis.REALISED): iterations,
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): event.parallelism_level,
        (Dimension.CONTEXT, Basis.DOSE): event.context_budget,
        (Dimension.CONTEXT, Basis.REALISED): event.context_tokens,
        (Dimension.MODEL_SIZE, Basis.REALISED): event.model_params_b or params_field(event),
        (Dimension.MODEL_SIZE, Basis.CATEGORY): None if category is None else SIZE_CATEGORIES.index(category),
        (Dimension.ATTEMPTS, Basis.DOSE): None if event.retry_limit is None else event.retry_limit + 1,
        (Dimension.ATTEMPTS, Basis.REALISED): None if event.retry_count is None else event.retry_count + 1,
    }
