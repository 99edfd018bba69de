"""Collect run events for an exploratory analysis, by the rules of the stats worker."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from agents.columns import Columns, observed_outcomes, to_columns
from agents.decode import Rejection
from agents.intake import Intake, Met
from analytics.moments import Ints
from analytics.sample import Sample
from models.contexts import GLOBAL, context_id
from models.dimensions import LIVE_OUTCOMES, OUTCOME_VARIABLES, Variable
from models.errors import NotEnoughData
from models.events import RunEvent
from models.settings import Settings

IDENTITIES = ("project", "task_type", "model", "task_id")


class Explorer:
    """Collects events, each run once as the first of its events has it, and makes columns of them."""

    def __init__(self, settings: Settings) -> None:
        self._contexts = settings.context_keys
        keys = [*settings.context_keys, *([name] for name in IDENTITIES)]
        self._settings = settings.model_copy(update={"context_keys": keys})
        self._intake = Intake(settings)
        self._known = 0
        self._parts: list[Columns] = []

    @property
    def met(self) -> Met:
        """What became of the records so far."""
        met = self._intake.met
        return replace(met, accepted=met.accepted + self._known)

    def add(self, payloads: Sequence[bytes]) -> list[Rejection]:
        """Take the next records in; return those that are no run events, by their places."""
        taken = self._intake.take(payloads)
        self._keep(taken.events)
        return taken.rejections

    def add_events(self, events: Iterable[RunEvent]) -> None:
        """Take in events that are known to be valid and of a run each."""
        known = list(events)
        self._keep(known)
        self._known += len(known)

    def _keep(self, events: Sequence[RunEvent]) -> None:
        if events:
            self._parts.append(to_columns(events, np.zeros(len(events)), self._settings))

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
