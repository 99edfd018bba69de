"""Take run events in without Kafka, by the rules of the stats worker: each run once, as its first event has it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import xxhash
from numpy.typing import NDArray

from agents.accept import accept
from agents.decode import EventDecoder, Rejection
from agents.dedupe import SeenRuns, Verdict
from models.batches import Batch
from models.events import RunEvent
from models.settings import Settings
from models.topics import RUNS


@dataclass(frozen=True, slots=True)
class Met:
    """What became of the records: as the stats worker would count them."""

    accepted: int = 0
    duplicate: int = 0
    corrected: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """New runs, when each was completed, and the records that are no run events, by their places."""

    events: list[RunEvent]
    completed: NDArray[np.float64]
    rejections: list[Rejection]


class Intake:
    """There is one partition, and every run id is remembered."""

    def __init__(self, settings: Settings) -> None:
        self.met = Met()
        self._settings = settings.model_copy(update={"partitions": 1})
        self._decoder = EventDecoder(settings)
        self._seen = SeenRuns(0, sys.maxsize)
        self._offset = 0

    def take(self, payloads: Sequence[bytes]) -> Taken:
        """Take the next records in."""
        now, count = int(datetime.now(UTC).timestamp() * 1000), len(payloads)
        offsets = range(self._offset, self._offset + count)
        self._offset += count
        batch = Batch(RUNS, 0, offsets, [now] * count, [None] * count, payloads, [()] * count)
        accepted = accept(batch, self._decoder, self._settings)
        verdicts = self._seen.judge(
            accepted.id_hashes,
            [xxhash.xxh64_intdigest(payloads[index]) for index in accepted.indices],
            [offsets[index] for index in accepted.indices],
            [event.revision for event in accepted.events],
        ).verdicts
        new = np.flatnonzero(verdicts == Verdict.NEW)
        corrected = int((verdicts == Verdict.CORRECTION).sum())
        self.met = replace(
            self.met,
            accepted=self.met.accepted + len(new),
            duplicate=self.met.duplicate + len(verdicts) - len(new) - corrected,
            corrected=self.met.corrected + corrected,
            rejected=self.met.rejected + len(accepted.rejections),
        )
        return Taken([accepted.events[at] for at in new.tolist()], accepted.completed[new], accepted.rejections)
