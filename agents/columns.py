"""Turn decoded events into columns: what the folds, the contexts and the archive's checks work on."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.decode import params_field, text_field
from models.contexts import BANDS, HIGHEST_BAND
from models.dimensions import CLIP, MASK_BITS, SIZE_CATEGORIES, Basis, Dimension
from models.events import CHARACTERISTIC_FALLBACKS, RunEvent
from models.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DimensionBasis = tuple[Dimension, Basis]

BITS = (1, 2, 4, 8, 4, 16, 2, 8)
"""For each outcome variable the bit of the mask that says it is observed (models.dimensions.MASK_BITS)."""

SIZE_CODES: dict[str | None, int] = {name: code for code, name in enumerate(SIZE_CATEGORIES)}
BAND_BOUNDS = [upper for upper, _ in BANDS]
BAND_NAMES: list[str | None] = [*(name for _, name in BANDS), HIGHEST_BAND, None]

NUMBERS = (
    "agent_count",
    "parallelism_level",
    "total_iterations",
    "max_iterations",
    "retry_limit",
    "context_budget",
    "retry_count",
    "context_tokens",
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
)
FIELDS = (
    *NUMBERS,
    *CHARACTERISTIC_FALLBACKS,
    "task_complexity",
    "model_size_category",
    "decision_id",
    "policy_version",
)
Fields = Mapping[str, Sequence[Any]]
_read = attrgetter(*FIELDS)


@dataclass(frozen=True, slots=True)
class Columns:
    """Events as columns of N entries; NaN where an event says nothing.

    `outcomes` is [N, 8] in the order of OUTCOME_VARIABLES, and `mask` tells what is observed; where it is not, the
    entry is the column's `centre` [8], so that it adds nothing to any sum about it.
    `dimensions` holds every dimension and basis; `keys`, for each key of the configured contexts, the events' values
    or None.
    """

    completed: Floats
    outcomes: Floats
    centre: Floats
    mask: Ints
    policy: Ints
    complexity: Floats
    dimensions: dict[DimensionBasis, Floats]
    keys: dict[str, Sequence[str | None]]

    def __len__(self) -> int:
        return len(self.completed)

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Append columns; each part's unobserved outcomes are set to the centre of the first."""
        if len(parts) == 1:
            return parts[0]
        centre = parts[0].centre
        mask = np.concatenate([part.mask for part in parts])
        outcomes = np.concatenate([part.outcomes for part in parts])
        return cls(
            completed=np.concatenate([part.completed for part in parts]),
            outcomes=np.where(observed_outcomes(mask), outcomes, centre),
            centre=centre,
            mask=mask,
            policy=np.concatenate([part.policy for part in parts]),
            complexity=np.concatenate([part.complexity for part in parts]),
            dimensions={key: np.concatenate([part.dimensions[key] for part in parts]) for key in parts[0].dimensions},
            keys={key: [value for part in parts for value in part.keys[key]] for key in parts[0].keys},
        )


def observed_outcomes(mask: Ints) -> NDArray[np.bool_]:
    """Tell which outcome variables each mask says are observed: [masks, 8]."""
    observed: NDArray[np.bool_] = (mask[:, None] & np.array(BITS)) != 0
    return observed


def to_columns(events: Sequence[RunEvent], completed: Floats, settings: Settings) -> Columns:
    """Build the columns of a batch.

    Args:
        events: Decoded events.
        completed: When each run was completed, in seconds since the epoch.
        settings: Complexity scale and context keys.
    """
    fields: Fields = _transposed(events)
    numbers = {name: _floats(fields[name]) for name in NUMBERS}
    difficulty = _difficulty(fields, settings)
    mask, outcomes, centre = _outcomes(numbers, len(events))
    with np.errstate(invalid="ignore", divide="ignore"):
        iterations = numbers["total_iterations"] / numbers["agent_count"]
    dimensions = {
        (Dimension.AGENT_COUNT, Basis.REALISED): numbers["agent_count"],
        (Dimension.ITERATIONS, Basis.DOSE): numbers["max_iterations"],
        (Dimension.ITERATIONS, Basis.REALISED): iterations,
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): numbers["parallelism_level"],
        (Dimension.CONTEXT, Basis.DOSE): numbers["context_budget"],
        (Dimension.CONTEXT, Basis.REALISED): numbers["context_tokens"],
        (Dimension.MODEL_SIZE, Basis.REALISED): _params(fields, events),
        (Dimension.MODEL_SIZE, Basis.CATEGORY): _floats(list(map(SIZE_CODES.get, fields["model_size_category"]))),
        (Dimension.ATTEMPTS, Basis.DOSE): numbers["retry_limit"] + 1,
        (Dimension.ATTEMPTS, Basis.REALISED): numbers["retry_count"] + 1,
    }
    return Columns(
        completed=completed,
        outcomes=outcomes,
        centre=centre,
        mask=mask,
        policy=_given(fields["decision_id"]) | _given(fields["policy_version"]),
        complexity=difficulty,
        dimensions=dimensions,
        keys={
            key: _key_column(key, fields, events, difficulty)
            for key in dict.fromkeys(key for keys in settings.context_keys for key in keys)
        },
    )


def _transposed(events: Sequence[RunEvent]) -> Fields:
    """Read all fields of all events in one pass."""
    columns = zip(*map(_read, events), strict=True) if events else repeat(())
    return dict(zip(FIELDS, columns, strict=False))


def _floats(column: Sequence[float | None]) -> Floats:
    try:
        # Complete columns go through the array module, which reads Python numbers three times as fast.
        return np.frombuffer(array("d", column))  # type: ignore[type-var]
    except TypeError:
        return np.full(len(column), np.nan) if _absent(column) else np.array(column, dtype=np.float64)


def _absent(column: Sequence[object]) -> bool:
    return column.count(None) == len(column)


def _given(column: Sequence[object]) -> Ints:
    if _absent(column):
        return np.zeros(len(column), dtype=np.int64)
    return np.array([value is not None for value in column], dtype=np.int64)


def _params(fields: Fields, events: Sequence[RunEvent]) -> Floats:
    plain = fields["model_params_b"]
    try:
        return np.frombuffer(array("d", plain))
    except TypeError:
        pairs = zip(plain, events, strict=True)
        return _floats([params_field(event) if value is None else value for value, event in pairs])


def _difficulty(fields: Fields, settings: Settings) -> Floats:
    plain = fields["task_complexity"]
    try:
        return np.frombuffer(array("d", plain))
    except TypeError:
        scale = settings.complexity_scale.model_dump()
        return _floats([scale[value] if isinstance(value, str) else value for value in plain])


def _outcomes(numbers: Mapping[str, Floats], count: int) -> tuple[Ints, Floats, Floats]:
    success, quality = numbers["success"], numbers["quality_score"]
    time, cost = numbers["time_to_complete"], numbers["total_cost"]
    observed = [~np.isnan(success), ~np.isnan(quality), ~np.isnan(time), ~np.isnan(cost)]
    with np.errstate(invalid="ignore"):
        observed.append(cost > 0)
    mask = np.zeros(count, dtype=np.int64)
    for bit, present in zip(MASK_BITS.values(), observed, strict=True):
        mask |= bit * present.astype(np.int64)
    outcomes = np.empty((count, 8))
    # Success and quality are centred by a power of two: sums of values 0 and 1 about it are exact.
    centre = np.array((0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = (
            (0, success, observed[0]),
            (1, quality, observed[1]),
            (2, time, observed[2]),
            (3, cost, observed[3]),
            (4, np.log(np.maximum(time, CLIP)), observed[2]),
            (5, np.log(cost), observed[4]),
            (6, np.log(np.maximum(quality, CLIP)), observed[1]),
            (7, np.log(np.maximum(cost, CLIP)), observed[3]),
        )
    for position, column, present in columns:
        if position > 1 and present.any():
            centre[position] = column[present].mean()
        outcomes[:, position] = np.where(present, column, centre[position])
    return mask, outcomes, centre


def _key_column(key: str, fields: Fields, events: Sequence[RunEvent], difficulty: Floats) -> Sequence[str | None]:
    if key == "complexity_band":
        bands = np.searchsorted(BAND_BOUNDS, difficulty, side="right")
        return list(map(BAND_NAMES.__getitem__, np.where(np.isnan(difficulty), len(BAND_NAMES) - 1, bands).tolist()))
    if key == "model_size_category":
        return fields[key]
    if key not in CHARACTERISTIC_FALLBACKS:
        return [_characteristic(event, key) for event in events]
    if key == "model_params_b" or not all(fields[key]):
        return [text_field(event, key) for event in events]
    return fields[key]


def _characteristic(event: RunEvent, key: str) -> str | None:
    value = (event.project_characteristics or {}).get(key)
    return None if value is None or value == "" else str(value)[:256]
