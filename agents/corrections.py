"""Corrections: what the tables must lose for the runs that newer records replace.

A correction is folded in at once, in the order of offsets; what the run was before is taken out with the next flush.
It is read again from scaling.runs, at the offset that the run's entry among the seen runs names, so no state is kept
for runs that may be corrected one day, and the horizon of corrections is what the topic retains.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xxhash import xxh64_intdigest

from agents.accept import completed_seconds
from agents.decode import EventDecoder
from models.batches import Batch
from models.events import RunEvent


@dataclass(slots=True)
class Owed:
    """A run that was corrected since the last flush: the offset of what counted then, and what was folded since."""

    offset: int
    events: list[RunEvent] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Outgoing:
    """What must be taken out of the tables.

    `kept` maps the id hash of each run whose record is gone to that record's offset: it goes on counting as it was,
    and its correction is what is taken out.
    """

    events: list[RunEvent] = field(default_factory=list)
    completed: list[float] = field(default_factory=list)
    kept: dict[int, int] = field(default_factory=dict)


class Corrections:
    """The runs of a partition that were corrected since the last flush."""

    def __init__(self, decoder: EventDecoder) -> None:
        self._decoder = decoder
        self._owed: dict[int, Owed] = {}

    def __len__(self) -> int:
        return len(self._owed)

    @property
    def offsets(self) -> list[int]:
        """The offsets of the records that are needed, ascending."""
        return sorted(owed.offset for owed in self._owed.values())

    def add(self, run: int, replaced: int, event: RunEvent, completed: float) -> None:
        """Note that an event, which has been folded, replaces the record at an offset.

        Args:
            run: The hash of the run's id.
            replaced: The offset of the record that counted until now.
            event: What counts from now on.
            completed: When the run was completed by this event, in seconds since the epoch.
        """
        owed = self._owed.setdefault(run, Owed(replaced))
        owed.events.append(event)
        owed.completed.append(completed)

    def settle(self, offsets: Sequence[int], originals: Batch) -> Outgoing:
        """Give what must be taken out, now that the records at some offsets have been read; those missing are gone."""
        decoded = self._decoder.decode_batch(originals.values)
        stamps = [originals.timestamps[index] for index in decoded.indices]
        times = completed_seconds(decoded.events, stamps).tolist()
        found = {
            (originals.offsets[index], xxh64_intdigest(event.agent_run_id.encode())): (event, time)
            for index, event, time in zip(decoded.indices, decoded.events, times, strict=True)
        }
        outgoing = Outgoing()
        asked = set(offsets)
        settled = {run: owed for run, owed in self._owed.items() if owed.offset in asked}
        for run, owed in settled.items():
            original = found.get((owed.offset, run))
            # Without the original the newest is taken out, so that the run counts once, as it did.
            if original is None:
                outgoing.kept[run] = owed.offset
                original = owed.events[-1], owed.completed[-1]
            outgoing.events += [*owed.events[:-1], original[0]]
            outgoing.completed += [*owed.completed[:-1], original[1]]
            del self._owed[run]
        return outgoing
