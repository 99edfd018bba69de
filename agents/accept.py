"""Decide which records of a batch are runs to count: one rule for every worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter

import numpy as np
import xxhash
from numpy.typing import NDArray

from agents.decode import EventDecoder, Rejection
from analytics.partitions import partitions_of
from models.batches import Batch, Headers
from models.events import RunEvent
from models.settings import Settings
from models.topics import IMPORT_HEADER

FUTURE_SECONDS = 86_400.0
_RUN_ID, _COMPLETED_AT = attrgetter("agent_run_id"), attrgetter("completed_at")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The runs of a batch.

    `events`, `indices` (places in the batch), `id_hashes` (xxh64 of the run id) and `completed` (seconds since the
    epoch) have one entry a run. `misplaced` maps the place of a record found in the wrong partition to its own.
    """

    events: list[RunEvent]
    indices: list[int]
    id_hashes: list[int]
    completed: NDArray[np.float64]
    rejections: list[Rejection]
    misplaced: dict[int, int]


def accept(batch: Batch, decoder: EventDecoder, settings: Settings) -> Accepted:
    """Decode a batch and set apart what is invalid and what lies in the wrong partition."""
    decoded = decoder.decode_batch(batch.values)
    events, indices, rejections = decoded.events, decoded.indices, list(decoded.rejections)
    ids = list(map(str.encode, map(_RUN_ID, events)))
    misplaced: dict[int, int] = {}
    timestamps = [batch.timestamps[index] for index in indices] if rejections else batch.timestamps
    completed = completed_seconds(events, timestamps)
    stamps = np.array(timestamps, dtype=np.float64) / 1000
    own = partitions_of(ids, settings.partitions)
    elsewhere = own != batch.partition
    early = completed > stamps + FUTURE_SECONDS
    if (elsewhere | early).any():
        misplaced = {indices[at]: int(own[at]) for at in np.flatnonzero(elsewhere & ~early).tolist()}
        rejections += [
            Rejection(
                indices[at],
                f"completed_at lies {(completed[at] - stamps[at]) / 3600:.0f} h after the record's Kafka timestamp; "
                "at most 24 h is accepted",
            )
            for at in np.flatnonzero(early).tolist()
        ]
        kept = np.flatnonzero(~(elsewhere | early)).tolist()
        events, indices, ids = [events[at] for at in kept], [indices[at] for at in kept], [ids[at] for at in kept]
        completed = completed[kept]
    return Accepted(events, indices, list(map(xxhash.xxh64_intdigest, ids)), completed, rejections, misplaced)


def completed_seconds(events: Sequence[RunEvent], timestamps: Sequence[int]) -> NDArray[np.float64]:
    """Read completed_at in seconds since the epoch; the Kafka timestamp (ms) stands in where it is absent."""
    moments = list(map(_COMPLETED_AT, events))
    try:
        return np.array(list(map(datetime.timestamp, moments)), dtype=np.float64)
    except TypeError:
        pairs = zip(moments, timestamps, strict=True)
        return np.array([stamp / 1000 if moment is None else moment.timestamp() for moment, stamp in pairs])


def import_id_of(headers: Headers) -> str | None:
    """Read the import id that a publisher put in a record's headers."""
    for name, value in headers:
        if name == IMPORT_HEADER and value:
            return value.decode("utf-8", "replace")[:64].replace("|", "_")
    return None
