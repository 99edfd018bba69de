"""Turn decoded events into columns: what the folds, the contexts and the archive's checks work on."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from agents.decode import complexity, params_field, text_field
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
    count = len(events)
    numbers = {name: _floats(column) for name, column in _transposed(events, NUMBERS)}
    difficulty = _difficulty(events, settings)
    categories = [event.model_size_category for event in events]
    mask, outcomes, centre = _outcomes(numbers, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        iterations = numbers["total_iterations"] / numbers["agent_count"]
    dimensions = {
        (Dimension.AGENT_COUNT, Basis.REALISED): numbers["agent_count"],
        (Dimension.ITERATIONS, Basis.DOSE): numbers["max_iterations"],
        (Dimension.ITERATIONS, Basis.REALISED): iterations,
        (Dimension.PARALLELISM_LEVEL, Basis.REALISED): numbers["parallelism_level"],
        (Dimension.CONTEXT, Basis.DOSE): numbers["context_budget"],
        (Dimension.CONTEXT, Basis.REALISED): numbers["context_tokens"],
        (Dimension.MODEL_SIZE, Basis.REALISED): _params(events),
        (Dimension.MODEL_SIZE, Basis.CATEGORY): _floats(list(map(SIZE_CODES.get, categories))),
        (Dimension.ATTEMPTS, Basis.DOSE): numbers["retry_limit"] + 1,
        (Dimension.ATTEMPTS, Basis.REALISED): numbers["retry_count"] + 1,
    }
    policy = [event.decision_id is not None or event.policy_version is not None for event in events]
    return Columns(
        completed=completed,
        outcomes=outcomes,
        centre=centre,
        mask=mask,
        policy=np.asarray(policy, dtype=np.int64),
        complexity=difficulty,
        dimensions=dimensions,
        keys=_keys(events, settings, difficulty, categories),
    )


def _transposed(events: Sequence[RunEvent], names: Sequence[str]) -> list[tuple[str, Sequence[float | None]]]:
    if not events:
        return [(name, ()) for name in names]
    return list(zip(names, zip(*map(attrgetter(*names), events), strict=True), strict=True))


def _floats(column: Sequence[float | None]) -> Floats:
    missing = column.count(None)
    if missing == len(column):
        return np.full(len(column), np.nan)
    if missing:
        return np.array(column, dtype=np.float64)
    # Complete columns go through the array module, which reads Python numbers three times as fast.
    return np.frombuffer(array("d", column))  # type: ignore[type-var]


def _params(events: Sequence[RunEvent]) -> Floats:
    plain = [event.model_params_b for event in events]
    if None not in plain:
        return _floats(plain)
    return _floats(
        [params_field(event) if value is None else value for value, event in zip(plain, events, strict=True)]
    )


def _difficulty(events: Sequence[RunEvent], settings: Settings) -> Floats:
    plain = [event.task_complexity for event in events]
    try:
        return np.frombuffer(array("d", plain))  # type: ignore[type-var]
    except TypeError:
        scale = settings.complexity_scale.model_dump()
        return _floats([complexity(event, scale) for event in events])


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


def _keys(
    events: Sequence[RunEvent], settings: Settings, difficulty: Floats, categories: Sequence[str | None]
) -> dict[str, Sequence[str | None]]:
    return {
        key: _key_column(key, events, difficulty, categories)
        for key in dict.fromkeys(key for keys in settings.context_keys for key in keys)
    }


def _key_column(
    key: str, events: Sequence[RunEvent], difficulty: Floats, categories: Sequence[str | None]
) -> Sequence[str | None]:
    if key == "complexity_band":
        bands = np.searchsorted(BAND_BOUNDS, difficulty, side="right")
        return list(map(BAND_NAMES.__getitem__, np.where(np.isnan(difficulty), len(BAND_NAMES) - 1, bands).tolist()))
    if key == "model_size_category":
        return categories
    if key not in CHARACTERISTIC_FALLBACKS:
        return [_characteristic(event, key) for event in events]
    plain = list(map(attrgetter(key), events))
    if key == "model_params_b" or None in plain:
        return [text_field(event, key) for event in events]
    return plain


def _characteristic(event: RunEvent, key: str) -> str | None:
    value = (event.project_characteristics or {}).get(key)
    return None if value is None or value == "" else str(value)[:256]
