"""Collect run events for an exploratory analysis, by the rules of the stats worker."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import numpy as np
import xxhash

from agents.accept import accept
from agents.columns import Columns, observed_outcomes, to_columns
from agents.decode import EventDecoder, Rejection
from agents.dedupe import SeenRuns, Verdict
from agents.raw_laws import Met
from analytics.moments import Ints
from analytics.sample import Sample
from models.batches import Batch
from models.contexts import GLOBAL, context_id
from models.dimensions import LIVE_OUTCOMES, OUTCOME_VARIABLES, Variable
from models.errors import NotEnoughData
from models.events import RunEvent
from models.settings import Settings
from models.topics import RUNS

IDENTITIES = ("project", "task_type", "model", "task_id")


class Explorer:
    """Collects events, each run once as the first of its events has it, and makes columns of them."""

    def __init__(self, settings: Settings) -> None:
        self.met = Met()
        self._contexts = settings.context_keys
        keys = [*settings.context_keys, *([name] for name in IDENTITIES)]
        self._settings = settings.model_copy(update={"partitions": 1, "context_keys": keys})
        self._decoder = EventDecoder(settings)
        self._seen = SeenRuns(0, sys.maxsize)
        self._offset = 0
        self._parts: list[Columns] = []

    def add(self, payloads: Sequence[bytes]) -> list[Rejection]:
        """Take the next records in; return those that are no run events, by their places."""
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
        )
        new = np.flatnonzero(verdicts == Verdict.NEW)
        corrected = int((verdicts == Verdict.CORRECTION).sum())
        self.add_events([accepted.events[at] for at in new.tolist()])
        self.met = Met(
            accepted=self.met.accepted,
            duplicate=self.met.duplicate + len(verdicts) - len(new) - corrected,
            corrected=self.met.corrected + corrected,
            rejected=self.met.rejected + len(accepted.rejections),
        )
        return accepted.rejections

    def add_events(self, events: Iterable[RunEvent]) -> None:
        """Take in events that are known to be valid and of a run each."""
        taken = list(events)
        if taken:
            self._parts.append(to_columns(taken, np.zeros(len(taken)), self._settings))
        self.met = Met(self.met.accepted + len(taken), self.met.duplicate, self.met.corrected, self.met.rejected)

    def sample(self, context: str | None = None) -> Sample:
        """Make columns of the runs.

        Args:
            context: Only the runs of this one; absent: all.

        Raises:
            NotEnoughData: No run belongs to it.
        """
        if not self._parts:
            raise NotEnoughData("there are 0 valid runs: give a file or a context that has some")
        columns = Columns.joined(self._parts)
        contexts = _contexts(columns, self._contexts)
        if context is not None and context not in contexts:
            known = ", ".join(list(contexts)[:10])
            message = f"no run belongs to the context {context}: choose one of {known}"
            raise NotEnoughData(message)
        rows = contexts[GLOBAL if context is None else context]
        observed = observed_outcomes(columns.mask)
        places = {outcome: OUTCOME_VARIABLES.index(Variable(outcome)) for outcome in LIVE_OUTCOMES}
        return Sample(
            dimensions={slot: x[rows] for slot, x in columns.dimensions.items()},
            outcomes={
                outcome: np.where(observed[rows, place], columns.outcomes[rows, place], np.nan)
                for outcome, place in places.items()
            },
            complexity=columns.complexity[rows],
            groups={name: _codes(columns.keys[name])[rows] for name in IDENTITIES},
            contexts=contexts if context in {None, GLOBAL} else {GLOBAL: np.arange(len(rows))},
            names={name: _names(columns.keys[name]) for name in IDENTITIES},
        )


def _contexts(columns: Columns, key_lists: Sequence[Sequence[str]]) -> dict[str, Ints]:
    """Find the rows of each context: the global one, then those of each key list in the order of their values."""
    found: dict[str, Ints] = {GLOBAL: np.arange(len(columns))}
    for keys in key_lists:
        codes = np.stack([_codes(columns.keys[key]) for key in keys])
        complete = np.flatnonzero((codes >= 0).all(axis=0))
        if not len(complete):
            continue
        place = np.unique(codes[:, complete], axis=1, return_inverse=True)[1]
        order = np.argsort(place.reshape(-1), kind="stable")
        for rows in np.split(complete[order], np.cumsum(np.bincount(place.reshape(-1)))[:-1]):
            pairs = [(key, str(columns.keys[key][rows[0]])) for key in keys]
            found[context_id(pairs)] = rows
    return found


def _codes(values: Sequence[str | None]) -> Ints:
    """Number texts in their order; None and the empty text are -1."""
    codes = {value: code for code, value in enumerate(_names(values))}
    return np.array([codes.get(value, -1) if value else -1 for value in values], dtype=np.int64)


def _names(values: Sequence[str | None]) -> list[str]:
    return sorted({value for value in values if value})
