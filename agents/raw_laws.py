"""The laws straight from run events, without cells and without Kafka: what the live laws are checked against."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from agents.columns import to_columns
from agents.decode import Rejection
from agents.fitting import fitting_of
from agents.intake import Intake, Met
from analytics.rows import fit_rows
from models.cells import BINS_PER_OCTAVE, LARGEST_OWN_VALUE, bin_value
from models.contexts import GLOBAL, context_id
from models.dimensions import (
    BASES,
    LIVE_OUTCOMES,
    MASK_BITS,
    OUTCOME_VARIABLES,
    SIZE_CATEGORIES,
    Basis,
    Dimension,
    Outcome,
    Source,
    Variable,
)
from models.laws import Law, Published
from models.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Slot = tuple[Dimension, Basis]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which laws to fit; None: all."""

    context: str | None = None
    dimension: Dimension | None = None
    outcome: Outcome | None = None


ALL = Wanted()


@dataclass(frozen=True, slots=True)
class Axis:
    """The values of one dimension and basis for N runs: nan where a run has none.

    `nominal` is what a run is tabled under: x itself, or its bin's nominal x where `binned`.
    """

    x: Floats
    nominal: Floats
    binned: NDArray[np.bool_]

    def take(self, rows: Ints) -> "Axis":
        """Keep some of the runs."""
        return Axis(self.x[rows], self.nominal[rows], self.binned[rows])

    @property
    def distinct(self) -> int:
        """Count the distinct settings; a bin counts as one."""
        return len(np.unique(self.nominal[~self.binned])) + len(np.unique(self.nominal[self.binned]))


@dataclass(frozen=True, slots=True)
class Runs:
    """N runs as columns: outcomes [N, 8] in the order of OUTCOME_VARIABLES, and what they mean by mask and source."""

    outcomes: Floats
    mask: Ints
    policy: Ints
    axes: dict[Slot, Axis]

    def take(self, rows: Ints) -> "Runs":
        """Keep some of the runs."""
        axes = {slot: axis.take(rows) for slot, axis in self.axes.items()}
        return Runs(self.outcomes[rows], self.mask[rows], self.policy[rows], axes)

    def places(self, slot: Slot, outcome: Outcome) -> Ints:
        """Find the runs that have a value of the dimension and the outcome."""
        return np.flatnonzero(((self.mask & MASK_BITS[outcome]) > 0) & ~np.isnan(self.axes[slot].x))


class RawRuns:
    """Collects run events by the rules of the stats worker, and fits their laws from the rows themselves.

    There is one partition, and every run id is remembered. A run counts as the first of its events has it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._intake = Intake(settings)
        self._outcomes: list[Floats] = []
        self._masks: list[Ints] = []
        self._policy: list[Ints] = []
        self._dimensions: defaultdict[Slot, list[Floats]] = defaultdict(list)
        self._keys: defaultdict[str, list[Sequence[str | None]]] = defaultdict(list)

    @property
    def met(self) -> Met:
        """What became of the records so far."""
        return self._intake.met

    def add(self, payloads: Sequence[bytes]) -> list[Rejection]:
        """Take the next records in; return those that are no run events, by their places."""
        taken = self._intake.take(payloads)
        count = len(taken.events)
        if count:
            columns = to_columns(taken.events, taken.completed, self._settings)
            self._outcomes.append(columns.outcomes)
            self._masks.append(columns.mask)
            self._policy.append(columns.policy)
            for slot in ((dimension, basis) for dimension in Dimension for basis in BASES[dimension]):
                x = columns.dimensions.get(slot)
                self._dimensions[slot].append(np.full(count, np.nan) if x is None else x)
            for key, values in columns.keys.items():
                self._keys[key].append(values)
        return taken.rejections

    def laws(self, wanted: Wanted = ALL) -> Iterator[Law]:
        """Fit the laws, context by context; their ids and fields are those of the live tier, without a lineage."""
        if not self._masks:
            return
        runs = Runs(
            np.concatenate(self._outcomes),
            np.concatenate(self._masks),
            np.concatenate(self._policy),
            {slot: axis_of(slot[0], np.concatenate(parts)) for slot, parts in self._dimensions.items()},
        )
        for context, rows in self._contexts(len(runs.mask)):
            if wanted.context not in {None, context}:
                continue
            inside = runs.take(rows)
            for dimension in [wanted.dimension] if wanted.dimension else Dimension:
                costs: dict[Basis, Published | None] = {}
                # Costs come first, wanted or not: they price the steps of the other outcomes' knees.
                for outcome in (Outcome.TOTAL_COST, *LIVE_OUTCOMES[:-1]):
                    basis = choose_basis(inside, dimension, outcome)
                    if basis is None or (outcome is not Outcome.TOTAL_COST and wanted.outcome not in {None, outcome}):
                        continue
                    law = self._fit(inside, context, (dimension, basis), outcome, costs.get(basis))
                    if outcome is Outcome.TOTAL_COST:
                        costs[basis] = law.published
                    if wanted.outcome in {None, outcome}:
                        yield law

    def _fit(self, runs: Runs, context: str, slot: Slot, outcome: Outcome, cost: Published | None) -> Law:
        dimension, basis = slot
        runs = runs.take(runs.places((dimension, basis), outcome))
        axis = runs.axes[dimension, basis]
        sources = {Source.POLICY if policy else Source.OBSERVATIONAL for policy in set(runs.policy.tolist())}
        return fit_rows(
            axis.x,
            runs.outcomes[:, OUTCOME_VARIABLES.index(Variable(outcome))],
            axis.binned,
            axis.nominal,
            labels=[SIZE_CATEGORIES[int(code)] for code in axis.x.tolist()] if basis is Basis.CATEGORY else None,
            fitting=fitting_of(self._settings),
            cost=cost,
            context=context,
            dimension=dimension,
            outcome=outcome,
            basis=basis,
            sources=sorted(map(str, sources)),
            lineage={},
            settings_hash=self._settings.validation_hash,
            fitted_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )

    def _contexts(self, count: int) -> Iterator[tuple[str, Ints]]:
        """Yield each context with its rows: the global one, then those of each key list by their first run."""
        yield GLOBAL, np.arange(count)
        columns = {key: list(chain.from_iterable(parts)) for key, parts in self._keys.items()}
        for keys in self._settings.context_keys:
            places: dict[tuple[str | None, ...], list[int]] = {}
            for row, values in enumerate(zip(*(columns[key] for key in keys), strict=True)):
                places.setdefault(values, []).append(row)
            for values, rows in places.items():
                pairs = [(key, value) for key, value in zip(keys, values, strict=True) if value]
                if len(pairs) == len(keys):
                    yield context_id(pairs), np.array(rows)


def axis_of(dimension: Dimension, x: Floats) -> Axis:
    """Put values into quarter octaves, except whole numbers up to 64, model sizes and labels: they stay themselves."""
    if dimension is Dimension.MODEL_SIZE:
        return Axis(x, x, np.zeros(len(x), dtype=bool))
    present = ~np.isnan(x)
    filled = np.where(present, x, 1.0)
    binned = present & ((filled > LARGEST_OWN_VALUE) | (filled != np.floor(filled)))
    index = np.floor(BINS_PER_OCTAVE * np.log2(np.where(binned, filled, 1.0))).astype(np.int64)
    middles = {number: bin_value(number) for number in set(index[binned].tolist())}
    nominal = x.copy()
    nominal[binned] = [middles[number] for number in index[binned].tolist()]
    return Axis(x, nominal, binned)


def choose_basis(runs: Runs, dimension: Dimension, outcome: Outcome) -> Basis | None:
    """Take the first basis with two distinct values among the runs with the outcome, else the first with any run."""
    places = {basis: runs.places((dimension, basis), outcome) for basis in BASES[dimension]}
    found = [basis for basis, rows in places.items() if len(rows)]
    several = (basis for basis in found if runs.axes[dimension, basis].take(places[basis]).distinct > 1)
    return next(several, found[0] if found else None)
