"""Observe run events: the state of one source partition, and what must be written for it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from agents.accept import accept, import_id_of
from agents.caps import Caps
from agents.columns import Columns, to_columns
from agents.context_index import ContextIndex
from agents.corrections import Corrections
from agents.decode import EventDecoder, Rejection
from agents.dedupe import SeenRuns, Verdict
from agents.flush import Flush, Record
from agents.live_cells import LiveCells
from agents.live_grams import LiveGrams
from agents.outcome_events import source_header
from agents.reject_limit import RejectLimit, Spans
from agents.rejects import reject_record
from agents.tallies import Tallies, Tally
from analytics.partitions import partition_of
from models.batches import Batch
from models.cells import GramKey
from models.errors import StackError
from models.events import RunEvent
from models.settings import Settings
from models.topics import (
    CELLS_TABLE,
    DEDUPE_TABLE,
    GRAMS_TABLE,
    IMPORTS_TABLE,
    OUTCOMES,
    REJECTED,
    RUNS,
    STATS,
    STATS_CHANGELOGS,
    TABLES,
)
from models.versions import Versioned

CUT = "cut"
BARRIER = "barrier"
CELL = b"cell|"
GRAM = b"gram|"
TALLY = "tally"
CHUNK = 1000
GATHERED = 20_000
"""Runs that wait as columns for one fold, so that its cost by cell is paid for many at once."""

hash64 = xxhash.xxh64_intdigest
_REVISION = attrgetter("revision")
_EXPERIMENT = attrgetter("experiment_id")

EXPERIMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
COUNTED = frozenset({Verdict.NEW, Verdict.CORRECTION})


class Cut(Versioned, frozen=True):
    """How far a source partition has been folded: every event below `offset` is in, none at or above.

    `recent` is what the limit on dead letters knows of the last records.
    """

    offset: int
    settings_hash: str
    recent: Spans = ()


def read_cut(value: bytes) -> Cut:
    """Read a cut.

    Raises:
        StackError: It is none, or one of a newer version.
    """
    try:
        return msgspec.json.decode(value, type=Cut)
    except msgspec.MsgspecError as error:
        raise StackError(f"a cut of the tables cannot be read: {error}") from None


@dataclass(slots=True)
class Counts:
    """What an observer has met since it was created."""

    accepted: int = 0
    duplicate: int = 0
    corrected: int = 0
    out_of_reach: int = 0
    """Corrected runs that count as they were, because the topic no longer has what was to be taken out."""
    rejected: int = 0
    replayed: int = 0
    misplaced: int = 0


class Observer:
    """The running statistics of one source partition.

    `observe` folds a batch in memory; `drain` hands over what changed as one flush, which the caller writes as one
    transaction. Events below the stored cut are skipped, so a replay changes nothing. Between the two the records at
    the offsets in `replaced` are given to `take_out`: what the corrected runs were before.
    """

    def __init__(self, partition: int, settings: Settings, decoder: EventDecoder) -> None:
        self.counts = Counts()
        self.pending_bytes = 0
        self._partition = partition
        self._settings = settings
        self._decoder = decoder
        self._next_offset = 0
        self._contexts = ContextIndex(settings.context_keys, settings.context_values)
        self._cells = LiveCells(partition, self._contexts)
        self._grams = LiveGrams(partition, self._contexts, settings.bucket_seconds, settings.buckets_kept)
        self._seen = SeenRuns(partition, settings.dedupe_runs)
        self._tallies = Tallies(partition)
        self._corrections = Corrections(decoder)
        self._caps = Caps(partition)
        self._limit = RejectLimit(partition, settings.reject_share, settings.reject_window)
        self._waiting: list[tuple[Columns, NDArray[np.int64]]] = []
        self._runs_waiting = 0
        self._records: list[Record] = []
        self._stats_partition_of_context: dict[bytes, int] = {}

    @property
    def next_offset(self) -> int:
        """The first offset that has not been folded."""
        return self._next_offset

    @property
    def contexts(self) -> int:
        """How many contexts the partition has met."""
        return len(self._contexts.ids)

    @property
    def runs_remembered(self) -> int:
        """How many runs a repeat would be recognised of."""
        return len(self._seen)

    @property
    def replaced(self) -> list[int]:
        """The offsets of the records that must be taken out before the next drain, ascending."""
        return self._corrections.offsets

    def load(self, tables: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Take up stored state.

        Raises:
            StackError: The state was written under settings that read events differently.
        """
        cells = dict(tables[CELLS_TABLE])
        stored = cells.pop(self._cut_key, None)
        if stored is None:
            return
        cut = read_cut(stored)
        if cut.settings_hash != self._settings.validation_hash:
            raise StackError(
                f"the tables were built under other settings (hash {cut.settings_hash}, now "
                f"{self._settings.validation_hash}): start with the settings that built them"
            )
        self._next_offset = cut.offset
        self._limit.restore(cut.recent)
        # A run without any dimension has no cell, but every run has a Gram: so the cap counts the same contexts again.
        self._contexts.restore(dict.fromkeys(GramKey.decode(key).context for key in tables[GRAMS_TABLE]))
        self._cells.load(list(cells.items()))
        self._grams.load(list(tables[GRAMS_TABLE].items()))
        self._seen.load(list(tables[DEDUPE_TABLE].items()))
        self._tallies.load(list(tables[IMPORTS_TABLE].items()))

    def observe(self, batch: Batch) -> None:
        """Fold a batch; records that are not valid events are queued for the dead-letter topic.

        Raises:
            StackError: Events before the batch were never seen: going on would lose them in silence.
        """
        if batch.start > self._next_offset:
            raise StackError(
                f"partition {self._partition} of scaling.runs goes on at offset {batch.start}, but events from "
                f"{self._next_offset} on were not seen yet: this worker stops so that a fresh one reads "
                "them; if that repeats, reset the group's offsets"
            )
        fresh = self._skip_replayed(batch)
        if not len(fresh):
            return
        # Small chunks keep decoded events in the processor's cache until they are columns.
        for at in range(0, len(fresh), CHUNK):
            self._admit(fresh.slice(at, at + CHUNK))
        self._next_offset = fresh.offsets[-1] + 1
        if self._runs_waiting >= GATHERED:
            self._fold()

    def take_out(self, offsets: Sequence[int], originals: Batch) -> None:
        """Take out what corrected runs were before.

        Args:
            offsets: What `replaced` gave.
            originals: The records there, as far as the topic has them. A run whose record is missing goes on counting
                as it was.
        """
        self._fold()
        outgoing = self._corrections.settle(offsets, originals)
        for run, offset in outgoing.kept.items():
            self._seen.keep(run, offset)
        self.counts.out_of_reach += len(outgoing.kept)
        if outgoing.events:
            columns = to_columns(outgoing.events, np.array(outgoing.completed), self._settings)
            contexts = self._contexts.codes(columns.keys, len(columns))
            self._cells.fold(columns, contexts, out=True)
            self._grams.unfold(columns, contexts)

    def restate(
        self,
        events: Sequence[RunEvent],
        completed: NDArray[np.float64],
        contents: Sequence[int],
        offsets: Sequence[int],
    ) -> None:
        """Count runs as the archive has them, each once, in an observer without stored state.

        Args:
            events: The newest revision of each run.
            completed: When each was completed, in seconds since the epoch.
            contents: xxh64 of each run's record.
            offsets: Its offset; ascending.
        """
        if not events:
            return
        ids = [hash64(event.agent_run_id.encode()) for event in events]
        self._seen.judge(ids, contents, offsets, [event.revision for event in events])
        self._gather(events, completed)
        self._fold()

    def go_on_at(self, offset: int) -> None:
        """Say that every event below an offset has been restated."""
        self._next_offset = offset

    def _fold(self) -> None:
        """Fold the runs that wait."""
        if not self._waiting:
            return
        columns = Columns.joined([columns for columns, _ in self._waiting])
        contexts = np.concatenate([contexts for _, contexts in self._waiting])
        self._waiting, self._runs_waiting = [], 0
        self._cells.fold(columns, contexts)
        self._grams.fold(columns, contexts)

    def _admit(self, batch: Batch) -> None:
        """Reject, set apart and count the records of a chunk; the columns of new runs wait for the next fold."""
        accepted = accept(batch, self._decoder, self._settings)
        for rejection in accepted.rejections:
            self._reject(batch, rejection.index, rejection.reason)
        for index, partition in accepted.misplaced.items():
            self._republish(batch, index, partition)
        events, indices, completed = accepted.events, accepted.indices, accepted.completed
        runs = batch if len(indices) == len(batch) else batch.take(indices)
        judged = self._seen.judge(
            accepted.id_hashes,
            list(map(hash64, runs.values)),  # type: ignore[arg-type]  # a record without a value is rejected
            runs.offsets,
            list(map(_REVISION, events)),
        )
        verdicts = judged.verdicts
        for place, offset in judged.replaced.items():
            self._corrections.add(accepted.id_hashes[place], offset, events[place], float(completed[place]))
        self._tally(batch, indices, verdicts.tolist(), accepted.rejections)
        if any(map(_EXPERIMENT, events)):
            self._pass_on_outcomes(runs, events, verdicts.tolist())
        if verdicts.any():
            counted = np.flatnonzero((verdicts == Verdict.NEW) | (verdicts == Verdict.CORRECTION)).tolist()
            events, completed = [events[index] for index in counted], completed[counted]
        if events:
            self._gather(events, completed)

    def _gather(self, events: Sequence[RunEvent], completed: NDArray[np.float64]) -> None:
        """Keep the columns of runs that count for the next fold."""
        columns = to_columns(events, completed, self._settings)
        contexts = self._contexts.codes(columns.keys, len(columns))
        self._waiting.append((replace(columns, keys={}), contexts))
        self._runs_waiting += len(columns)

    def drain(self, *, whole: bool = False) -> Flush:
        """Take everything that changed since the last drain, once nothing is left to be taken out.

        Args:
            whole: Take everything there is instead, so that nothing before it need be read again.

        Raises:
            StackError: Too many records are rejected (setting reject_share): nothing further may be written.
        """
        self._limit.check()
        self._caps.tell([*self._contexts.full, *self._cells.full, *self._tallies.full])
        assert not self._corrections
        self._fold()
        cells = self._cells.drain(self._next_offset, whole=whole)
        grams = self._grams.table.drain(self._next_offset, whole=whole)
        cut = msgspec.json.encode(Cut(self._next_offset, self._settings.validation_hash, recent=self._limit.spans))
        tallies = self._tallies.drain(whole=whole)
        records = self._records
        self._records, self.pending_bytes = [], 0
        records.extend(self._snapshots(CELL, cells))
        records.extend(self._snapshots(GRAM, grams))
        records.extend(self._tally_records(tallies))
        # Barriers come last: they make what was published before them visible to the refitter.
        barrier = f"{BARRIER}|{self._partition}".encode()
        records.extend(Record(STATS, partition, barrier, cut) for partition in range(self._settings.partitions))
        tables = {
            CELLS_TABLE: cells | {self._cut_key: cut},
            GRAMS_TABLE: grams,
            DEDUPE_TABLE: self._seen.drain(whole=whole),
            IMPORTS_TABLE: tallies,
        }
        assert tables.keys() == set(TABLES)
        return Flush(tables, records, self._next_offset, (STATS, *STATS_CHANGELOGS.values()) if whole else ())

    @property
    def _cut_key(self) -> bytes:
        return f"{self._partition}|{CUT}".encode()

    def _skip_replayed(self, batch: Batch) -> Batch:
        if batch.offsets[0] >= self._next_offset:
            return batch
        keep = [index for index, offset in enumerate(batch.offsets) if offset >= self._next_offset]
        self.counts.replayed += len(batch) - len(keep)
        return batch.take(keep)

    def _reject(self, batch: Batch, index: int, reason: str) -> None:
        key, value = reject_record(batch, index, reason, import_id_of(batch.headers[index]))
        self._records.append(Record(REJECTED, 0, key, value))
        self.pending_bytes += len(value)

    def _republish(self, batch: Batch, index: int, partition: int) -> None:
        """Send a record that its publisher put in another partition than its id's hash to its own partition."""
        self.counts.misplaced += 1
        value = batch.values[index]
        self._records.append(Record(RUNS, partition, batch.keys[index], value, batch.headers[index]))
        self.pending_bytes += len(value or b"")

    def _pass_on_outcomes(self, runs: Batch, events: Sequence[RunEvent], verdicts: Sequence[int]) -> None:
        """Send runs that name an experiment, first events and corrections alike, to the experiment's partition."""
        for place, (event, verdict) in enumerate(zip(events, verdicts, strict=True)):
            experiment = event.experiment_id
            if verdict not in COUNTED or experiment is None or not EXPERIMENT_ID.fullmatch(experiment):
                continue
            key = f"{experiment}|{event.agent_run_id}".encode()
            partition = partition_of(experiment.encode(), self._settings.partitions)
            headers = [source_header(runs.offsets[place], runs.timestamps[place])]
            self._records.append(Record(OUTCOMES, partition, key, runs.values[place], headers))
            self.pending_bytes += len(runs.values[place] or b"")

    def _tally(
        self, batch: Batch, indices: Sequence[int], verdicts: Sequence[int], rejections: Sequence[Rejection]
    ) -> None:
        counted = Counter(verdicts)
        self.counts.accepted += counted[Verdict.NEW]
        self.counts.duplicate += counted[Verdict.DUPLICATE] + counted[Verdict.SUPERSEDED]
        self.counts.corrected += counted[Verdict.CORRECTION]
        self.counts.rejected += len(rejections)
        self._limit.count(len(batch), rejections)
        if not any(batch.headers):
            return
        ids = [import_id_of(headers) for headers in batch.headers]
        by_import = Counter((ids[index], verdict) for index, verdict in zip(indices, verdicts, strict=True))
        for (import_id, verdict), count in by_import.items():
            if import_id is not None:
                self._tallies.add(import_id, _tally_of(Verdict(verdict), count))
        for rejection in rejections:
            import_id = ids[rejection.index]
            if import_id is not None:
                self._tallies.add(import_id, Tally(rejected=1, reasons=(rejection.reason,)))

    def _snapshots(self, prefix: bytes, changes: Mapping[bytes, bytes | None]) -> Iterator[Record]:
        """Publish changed entries of a table to the stats partition of their context; None says it is removed."""
        place = self._stats_partition
        return (Record(STATS, place(key.split(b"|", 2)[1]), prefix + key, value) for key, value in changes.items())

    def _tally_records(self, tallies: Mapping[bytes, bytes | None]) -> Iterator[Record]:
        for key, value in tallies.items():
            import_id = key.partition(b"|")[2]
            partition = partition_of(import_id, self._settings.partitions)
            yield Record(STATS, partition, TALLY.encode() + b"|" + key, value)

    def _stats_partition(self, context: bytes) -> int:
        found = self._stats_partition_of_context.get(context)
        if found is None:
            found = partition_of(context, self._settings.partitions)
            self._stats_partition_of_context[context] = found
        return found


def _tally_of(verdict: Verdict, count: int) -> Tally:
    if verdict is Verdict.NEW:
        return Tally(accepted=count)
    if verdict is Verdict.CORRECTION:
        return Tally(corrected=count)
    return Tally(duplicate=count)
