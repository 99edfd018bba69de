"""Refit laws from the snapshots of cells on one partition of scaling.stats."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np

from agents.bucketed import ContextGrams, with_buckets
from agents.fitting import fitting_of
from agents.moment_table import decode_rows, is_empty
from agents.observer import BARRIER, Cut, read_cut
from analytics.cells import Cells, law_cells, law_variables
from analytics.laws import fit_law
from analytics.moments import unpack
from models.cells import BIN_MARK, CellKey, GramKey, bin_value
from models.dimensions import (
    BASES,
    LIVE_OUTCOMES,
    MASK_BITS,
    OUTCOME_VARIABLES,
    VARIABLES,
    Basis,
    Dimension,
    Outcome,
    Variable,
)
from models.laws import Drift, Law, Published, context_of, law_id
from models.settings import Settings

Slot = tuple[Dimension, Basis]
Snapshot = list["Shot"]
TIER = "live"
CELL_PREFIX = b"cell|"
GRAM_PREFIX = b"gram|"
BARRIER_PREFIX = f"{BARRIER}|".encode()


@dataclass(frozen=True, slots=True)
class Shot:
    """What the laws of one context are refitted from: the cells of the dimensions that changed, and the Grams."""

    context: str
    cells: dict[Dimension, dict[Slot, dict[CellKey, bytes]]]
    grams: dict[GramKey, bytes]


class Standing(msgspec.Struct, frozen=True):
    """What the refitter needs of a law that was published: to number the next one, and to know what it was made of."""

    law_id: str
    version: int
    drift: Drift | None = None
    lineage: dict[int, int] = msgspec.field(default_factory=dict)
    withdrawn: bool = False


class Refitter:
    """The cells and Grams of the contexts of one stats partition, from all source partitions.

    Snapshots are staged until the barrier of their source partition: what laws are fitted from is a whole number of
    flushes of every source partition, and `lineage` says which.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fitting = fitting_of(settings)
        self._versions: dict[str, int] = {}
        self._staged: defaultdict[int, dict[bytes, bytes | None]] = defaultdict(dict)
        self._cells: dict[str, dict[Slot, dict[CellKey, bytes]]] = {}
        self._grams: dict[str, dict[GramKey, bytes]] = {}
        self._names: dict[bytes, CellKey] = {}
        self._drifts: dict[str, Drift] = {}
        self._newest = 0
        self._cuts: dict[int, int] = {}
        self._dirty: set[tuple[str, Dimension]] = set()
        self._withdrawn: set[str] = set()
        self._unseen: set[str] = set()
        self._reached: dict[int, int] = {}

    @property
    def lineage(self) -> dict[int, int]:
        """For each source partition the first offset that is not in the cells."""
        return dict(sorted(self._cuts.items()))

    @property
    def dirty(self) -> set[tuple[str, Dimension]]:
        """The (context, dimension) pairs whose cells changed since they were last fitted."""
        return self._dirty

    def number_from(self, published: Sequence[Standing]) -> None:
        """Number each law on from its last published version, and remember the alarms that have sounded.

        Once the cells have come as far as what these laws were made of, their contexts are looked at, cells or not:
        those may have gone while nobody refitted.
        """
        self._versions = {law.law_id: law.version for law in published}
        self._drifts = {law.law_id: law.drift for law in published if law.drift is not None and law.drift.alarm}
        self._withdrawn = {law.law_id for law in published if law.withdrawn}
        self._unseen = {context_of(law.law_id) for law in published if not law.withdrawn}
        for law in published:
            for source, offset in law.lineage.items():
                self._reached[source] = max(offset, self._reached.get(source, 0))

    def stage(self, key: bytes, value: bytes | None) -> None:
        """Take one record of the topic; a barrier makes its source partition's staged records visible."""
        if key.startswith((CELL_PREFIX, GRAM_PREFIX)):
            self._staged[int(key.split(b"|", 2)[1])][key] = value
        elif key.startswith(BARRIER_PREFIX) and value is not None:
            self._apply(int(key[len(BARRIER_PREFIX) :]), read_cut(value))

    def snapshot(self) -> Snapshot:
        """Take what must be refitted; it does not change while a fit runs beside the event loop."""
        changed: defaultdict[str, list[Dimension]] = defaultdict(list)
        for context, dimension in sorted(self._dirty):
            changed[context].append(dimension)
        self._dirty.clear()
        return [
            Shot(
                context,
                {
                    dimension: {
                        slot: dict(cells)
                        for slot, cells in self._cells.get(context, {}).items()
                        if slot[0] is dimension
                    }
                    for dimension in dimensions
                },
                dict(self._grams.get(context, {})),
            )
            for context, dimensions in changed.items()
        ]

    def fit(self, snapshot: Snapshot) -> list[Law]:
        """Fit the laws of a snapshot, each one version above the last."""
        fitted_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        lineage, laws = self.lineage, list[Law]()
        for shot in snapshot:
            fitted = [
                law
                for dimension, slots in shot.cells.items()
                for law in self._fit(shot.context, dimension, slots, lineage, fitted_at)
            ]
            if shot.grams:
                grams = ContextGrams.read(shot.grams)
                fitted = with_buckets(fitted, grams, self._settings, self._newest, self._drifts)
            laws += fitted
        self._withdrawn.difference_update(law.law_id for law in laws)
        return [self._numbered(law) for law in laws]

    def withdrawn(self, snapshot: Snapshot, laws: Sequence[Law]) -> list[str]:
        """Name the published laws that a snapshot has no runs for any more, once: corrections or a rebuild took them.

        Args:
            snapshot: What has just been fitted.
            laws: What came of it.
        """
        if self._unseen:
            return []
        there = {law.law_id for law in laws} | self._withdrawn
        gone = [
            name
            for shot in snapshot
            for dimension in shot.cells
            for outcome in LIVE_OUTCOMES
            if (name := law_id(shot.context, dimension, outcome, TIER)) not in there and name in self._versions
        ]
        self._withdrawn.update(gone)
        return gone

    def _fit(
        self,
        context: str,
        dimension: Dimension,
        slots: Mapping[Slot, Mapping[CellKey, bytes]],
        lineage: Mapping[int, int],
        fitted_at: str,
    ) -> Iterator[Law]:
        costs: dict[Basis, Published | None] = {}
        # Costs come first: they price the steps of the other outcomes' knees.
        for outcome in (Outcome.TOTAL_COST, *LIVE_OUTCOMES[:-1]):
            chosen = choose_basis(dimension, slots, outcome)
            if chosen is None:
                continue
            basis, cells, sources = chosen
            law = fit_law(
                law_cells(cells, outcome),
                fitting=self._fitting,
                cost=costs.get(basis),
                context=context,
                dimension=dimension,
                outcome=outcome,
                basis=basis,
                sources=sources,
                lineage=lineage,
                settings_hash=self._settings.validation_hash,
                fitted_at=fitted_at,
            )
            if outcome is Outcome.TOTAL_COST:
                costs[basis] = law.published
            yield law

    def _numbered(self, law: Law) -> Law:
        if law.drift is not None and law.drift.alarm:
            self._drifts[law.law_id] = law.drift
        version = self._versions[law.law_id] = self._versions.get(law.law_id, 0) + 1
        return msgspec.structs.replace(law, version=version)

    def _apply(self, source: int, cut: Cut) -> None:
        staged = self._staged.pop(source, {})
        if cut.offset < self._cuts.get(source, 0):
            return
        for name, value in staged.items():
            if name.startswith(GRAM_PREFIX):
                self._apply_gram(GramKey.decode(name[len(GRAM_PREFIX) :]), value)
            else:
                self._apply_cell(name[len(CELL_PREFIX) :], value)
        self._cuts[source] = cut.offset
        # Short of what the published laws were made of, tables are being built anew: what is missing may yet come.
        if self._unseen and all(self._cuts.get(each, 0) >= offset for each, offset in self._reached.items()):
            self._dirty |= {(context, dimension) for context in self._unseen for dimension in Dimension}
            self._unseen.clear()

    def _apply_cell(self, name: bytes, value: bytes | None) -> None:
        key = self._names.get(name) or self._names.setdefault(name, CellKey.decode(name))
        slots = self._cells.setdefault(key.context, {})
        cells = slots.setdefault((key.dimension, key.basis), {})
        if cells.get(key) == value:
            return
        if value is None or is_empty(value):
            cells.pop(key, None)
        else:
            cells[key] = value
        self._dirty.add((key.context, key.dimension))

    def _apply_gram(self, key: GramKey, value: bytes | None) -> None:
        """Take a Gram; the cells that change with it say which laws to refit."""
        grams = self._grams.setdefault(key.context, {})
        self._newest = max(self._newest, 0 if value is None else key.bucket or 0)
        if value is None or is_empty(value):
            grams.pop(key, None)
        else:
            grams[key] = value


def choose_basis(
    dimension: Dimension, slots: Mapping[Slot, Mapping[CellKey, bytes]], outcome: Outcome
) -> tuple[Basis, Cells, list[str]] | None:
    """Take the first basis of the dimension with two distinct values, else the first with any run."""
    found: list[tuple[Basis, Cells, list[str]]] = []
    for basis in BASES[dimension]:
        stored = {
            key: value for key, value in slots.get((dimension, basis), {}).items() if key.mask & MASK_BITS[outcome]
        }
        if stored:
            found.append((basis, to_cells(stored, outcome), sorted({str(key.source) for key in stored})))
    for candidate in found:
        if candidate[1].distinct > 1:
            return candidate
    return found[0] if found else None


def to_cells(stored: Mapping[CellKey, bytes], outcome: Outcome) -> Cells:
    """Read stored cells of one dimension and basis as the `Cells` of one outcome, merged over everything but value."""
    variables = law_variables(outcome)
    total = Cells.empty(variables)
    own = {key: value for key, value in stored.items() if not key.binned}
    binned = {key: value for key, value in stored.items() if key.binned}
    if own:
        total = total + _own_cells(list(own), list(own.values()), variables)
    if binned:
        total = total + _binned_cells(list(binned), list(binned.values()), variables)
    return total


def _own_cells(keys: list[CellKey], values: list[bytes], variables: tuple[str, ...]) -> Cells:
    _, _, (n, mean, comoment) = decode_rows(values, len(OUTCOME_VARIABLES))
    labelled = keys[0].basis is Basis.CATEGORY
    x = np.full(len(keys), np.nan) if labelled else np.array([float(key.value) for key in keys])
    at = np.where(np.isnan(x), 0.0, x)
    outcomes = [OUTCOME_VARIABLES.index(Variable(name)) for name in variables[2:]]
    wide_mean = np.column_stack((at, np.log(np.where(at > 0, at, 1.0)), mean[:, outcomes]))
    wide = np.zeros((len(keys), len(variables), len(variables)))
    wide[:, 2:, 2:] = unpack(comoment)[:, outcomes][:, :, outcomes]
    label = tuple(key.value if labelled else None for key in keys)
    return Cells(variables, x, label, np.zeros(len(keys), dtype=bool), n, wide_mean, wide).where(n > 0).merged()


def _binned_cells(keys: list[CellKey], values: list[bytes], variables: tuple[str, ...]) -> Cells:
    _, _, (n, mean, comoment) = decode_rows(values, len(VARIABLES))
    chosen = [VARIABLES.index(Variable(name)) for name in variables]
    x = np.array([bin_value(int(key.value.removeprefix(BIN_MARK))) for key in keys])
    cells = Cells(
        variables,
        x,
        (None,) * len(keys),
        np.ones(len(keys), dtype=bool),
        n,
        mean[:, chosen],
        unpack(comoment)[:, chosen][:, :, chosen],
    )
    return cells.where(n > 0).merged()
