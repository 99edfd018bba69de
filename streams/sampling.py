"""What the vital signs of workers are read from: observers' counts, flushes, tables, the consumer, experiments."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from weakref import WeakKeyDictionary

import msgspec

from agents.flush import Flush
from agents.observer import Observer
from agents.trial import Trial
from models import metrics
from models.topics import REJECTED
from streams.ledger import Ledger
from streams.vitals import Vitals

REASONS = {
    "the record has no value": "no_value",
    "the record has ": "too_large",
    "the record is not UTF-8": "not_utf8",
    "the record is not JSON": "not_json",
    "completed_at lies": "too_new",
}
"""How the reasons of dead letters begin, and what they are counted as; every other one names a field."""

INVALID_FIELD = "invalid_field"


class Reason(msgspec.Struct):
    """What of a dead letter is counted."""

    reason: str


_read_reason = msgspec.json.Decoder(Reason).decode


def kind_of_reason(reason: str) -> str:
    """Say under which label a dead letter is counted.

    >>> kind_of_reason("the record is not JSON: it ends early")
    'not_json'
    """
    return next((kind for start, kind in REASONS.items() if reason.startswith(start)), INVALID_FIELD)


class EventCounts:
    """Adds up what the observers of all partitions count, also of those that are gone.

    Args:
        vitals: Where the counts go.
        observers: Gives the observers at work.
    """

    def __init__(self, vitals: Vitals, observers: Callable[[], Iterable[Observer]]) -> None:
        self._vitals = vitals
        self._observers = observers
        self._seen: WeakKeyDictionary[Observer, dict[str, int]] = WeakKeyDictionary()

    def look(self) -> None:
        """Add what has been counted since the last look."""
        contexts = runs = 0
        for observer in self._observers():
            last, now = self._seen.get(observer, {}), asdict(observer.counts)
            for verdict, count in now.items():
                self._vitals.count(metrics.EVENTS, count - last.get(verdict, 0), verdict=verdict)
            self._seen[observer] = now
            contexts, runs = contexts + observer.contexts, runs + observer.runs_remembered
        self._vitals.set(metrics.CONTEXTS, contexts)
        self._vitals.set(metrics.RUNS_REMEMBERED, runs)


def flush_counter(vitals: Vitals) -> Callable[[Flush, float], None]:
    """Make what counts flushes and the dead letters in them."""

    def written(flush: Flush, seconds: float) -> None:
        vitals.observe(metrics.FLUSH_SECONDS, seconds)
        for record in flush.records:
            if record.topic == REJECTED and record.value is not None:
                vitals.count(metrics.DEAD_LETTERS, reason=kind_of_reason(_read_reason(record.value).reason))

    return written


def table_sizes(vitals: Vitals, ledger: Ledger, tables: Iterable[str]) -> Callable[[], None]:
    """Make what reads how large the owned tables are."""

    def look() -> None:
        owned = list(ledger.owned.values())
        sizes: Mapping[tuple[str, ...], float] = {
            (name,): sum(len(partition.tables[name]) for partition in owned) for name in tables
        }
        vitals.replace(metrics.TABLE_ENTRIES, sizes)
        vitals.set(metrics.PARTITIONS_OWNED, len(owned))

    return look


def assignment_counts(vitals: Vitals, trials: Callable[[], Iterable[Trial]]) -> Callable[[], None]:
    """Make what reads how many assignments there are, and what has become of them."""

    def look() -> None:
        pending = completed = expired = 0
        for trial in trials():
            # `counts` holds those that have an outcome or may still get one.
            hoped = sum(trial.counts)
            pending, completed = pending + trial.pending, completed + hoped - trial.pending
            expired += len(trial.assignments) - hoped
        for state, count in (("pending", pending), ("completed", completed), ("expired", expired)):
            vitals.set(metrics.ASSIGNMENTS, count, state=state)

    return look
