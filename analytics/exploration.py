"""Exploratory analysis of runs: what was tried, what goes together, what is missing, and what would show.

Nothing here is a law: these are the figures that say which laws the runs can carry (`analytics.learnable` says it in
words).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analytics.association import correlation, correlation_ratio
from analytics.moments import Floats, Ints
from analytics.repeats import Repeats, Trials, repeated_trials, repeats
from analytics.sample import Flags, Sample, Slot, present
from analytics.sensitivity import Sensitivity, sensitivity
from analytics.sentences import slot_words, value_text
from models.contexts import BANDS, GLOBAL, HIGHEST_BAND
from models.dimensions import LIVE_OUTCOMES, SIZE_CATEGORIES, Basis, Dimension, Outcome
from models.errors import NotEnoughData

SUPPORT = 30
"""Runs that a value, or a pair of values, needs before it counts as tried."""

OWN_LEVELS = 12
"""Up to so many distinct values are levels of their own; more are put into octaves."""

LINKED = 0.3
"""Two variables whose association is above this confound each other."""

SURE = 3.0
"""Standard errors beyond which an association is more than chance."""

DEPENDS = 0.1
"""A correlation of missingness above this is worth telling."""

GROUPS = ("project", "task_type", "model")


@dataclass(frozen=True, slots=True)
class Spread:
    """One dimension in one context: `values` distinct ones, of which `supported` have 30 runs or more."""

    context: str
    dimension: Dimension
    basis: Basis
    n: int
    missing: float
    values: int
    supported: int
    lo: float
    median: float
    hi: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the cross of two variables' levels occurs at all, and with 30 runs or more.

    `empty_corners` names the extreme pairs that no run has tried.
    """

    first: str
    second: str
    pairs: int
    tried: float
    supported: float
    empty_corners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Confined:
    """Values of a variable that only one of several groups has tried: there it cannot be told from the group."""

    variable: str
    group: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Association:
    """How closely two variables go together: Spearman's rank correlation, or the correlation ratio of ranks.

    `linked` says that it is above 0.3 and more than chance.
    """

    first: str
    second: str
    measure: str
    value: float
    n: int
    linked: bool


@dataclass(frozen=True, slots=True)
class Dependence:
    """A field is missing more often at some values of another field: from `low_share` to `high_share`.

    For success these are the shares missing of failed and of successful runs; for others those of the lower and the
    upper half.
    """

    field: str
    correlation: float
    low_share: float
    high_share: float


@dataclass(frozen=True, slots=True)
class Missing:
    """How often a field is missing, and what that depends on."""

    field: str
    share: float
    depends_on: tuple[Dependence, ...] = ()


@dataclass(frozen=True, slots=True)
class Exploration:
    """All figures of an exploratory analysis."""

    runs: int
    groups: Mapping[str, int]
    spreads: tuple[Spread, ...]
    coverage: tuple[Coverage, ...]
    confined: tuple[Confined, ...]
    associations: tuple[Association, ...]
    missing: tuple[Missing, ...]
    repeats: Repeats | None
    trials: tuple[Trials, ...]
    sensitivity: tuple[Sensitivity, ...]


def explore(sample: Sample) -> Exploration:
    """Compute everything that is known about the runs before a law is fitted.

    Raises:
        NotEnoughData: There is no run.
    """
    if not len(sample):
        raise NotEnoughData("there are 0 runs to explore: give a file or a context that has some")
    return Exploration(
        runs=len(sample),
        groups={name: len(np.unique(codes[codes >= 0])) for name, codes in sample.groups.items()},
        spreads=tuple(spreads(sample)),
        coverage=tuple(coverage(sample)),
        confined=tuple(confined(sample)),
        associations=tuple(associations(sample)),
        missing=tuple(missing(sample)),
        repeats=repeats(sample),
        trials=tuple(repeated_trials(sample)),
        sensitivity=tuple(sensitivity(sample)),
    )


def spreads(sample: Sample) -> Iterator[Spread]:
    """Summarise each dimension and basis in each context that has it, the global context first."""
    for context, rows in sorted(sample.contexts.items(), key=lambda item: item[0] != GLOBAL):
        for (dimension, basis), column in sample.dimensions.items():
            x = present(column[rows])
            if not len(x):
                continue
            values, n = np.unique(x, return_counts=True)
            yield Spread(
                context=context,
                dimension=dimension,
                basis=basis,
                n=len(x),
                missing=1 - len(x) / len(rows),
                values=len(values),
                supported=int((n >= SUPPORT).sum()),
                lo=float(values[0]),
                median=float(np.median(x)),
                hi=float(values[-1]),
            )


def coverage(sample: Sample) -> Iterator[Coverage]:
    """Say, for every two variables that vary, how much of the cross of their levels was tried."""
    axes = [(name, *levels) for name, levels in _axes(sample)]
    for (first, one, names), (second, two, others) in combinations(axes, 2):
        both = (one >= 0) & (two >= 0)
        shape = (len(names), len(others))
        table = np.bincount(one[both] * shape[1] + two[both], minlength=shape[0] * shape[1]).reshape(shape)
        corners = tuple(
            f"{first} {names[i]} with {second} {others[j]}"
            for i in (0, shape[0] - 1)
            for j in (0, shape[1] - 1)
            if not table[i, j]
        )
        yield Coverage(first, second, table.size, float((table > 0).mean()), float((table >= SUPPORT).mean()), corners)


def confined(sample: Sample) -> Iterator[Confined]:
    """Name the values that were tried in one project, task type or model only, where others were tried in several."""
    for slot in sample.slots():
        codes, labels = _levels(slot, sample.dimensions[slot])
        for group in GROUPS:
            if (group == "model" and slot[0] is Dimension.MODEL_SIZE) or len(labels) < 2:  # noqa: PLR2004
                continue
            members = sample.groups[group]
            both = (codes >= 0) & (members >= 0)
            pairs = np.unique(np.stack((codes[both], members[both])), axis=1)
            groups = np.bincount(pairs[0], minlength=len(labels))
            alone = np.flatnonzero(groups == 1)
            if len(alone) and groups.max() > 1:
                yield Confined(slot_words(*slot), group, tuple(labels[place] for place in alone.tolist()))


def associations(sample: Sample) -> Iterator[Association]:
    """Measure how closely every two dimensions, and complexity, go together, and each with project, type and model.

    Equation: Spearman's rho between numbers; between a number and a group the correlation ratio of its ranks,
    √(1 - (1 - η²)(n - 1) / (n - k)), which is near 0 by chance whatever the number of groups k.
    """
    columns = [(slot_words(*slot), slot[0], sample.dimensions[slot]) for slot in sample.slots()]
    varying = [
        (name, dimension, x)
        for name, dimension, x in [*columns, ("complexity", None, sample.complexity)]
        if len(np.unique(present(x))) > 1
    ]
    for (first, _, x), (second, _, y) in combinations(varying, 2):
        both = ~(np.isnan(x) | np.isnan(y))
        value = correlation(x[both], y[both])
        if value is not None:
            n = int(both.sum())
            yield Association(first, second, "Spearman", value, n, _linked(value, n))
    for (name, dimension, x), group in ((one, group) for one in varying for group in GROUPS):
        # A model has one size: that its name tells the size confounds nothing.
        if group == "model" and dimension is Dimension.MODEL_SIZE:
            continue
        codes = sample.groups[group]
        both = ~np.isnan(x) & (codes >= 0)
        value = correlation_ratio(x[both], codes[both])
        if value is not None:
            n = int(both.sum())
            yield Association(name, group, "correlation ratio", value, n, _linked(value, n))


def missing(sample: Sample) -> Iterator[Missing]:
    """Say how often each field is missing, and whether that depends on success, a dimension or complexity."""
    others: list[tuple[str, str, Floats]] = [
        (Outcome.SUCCESS, "success", sample.outcomes[Outcome.SUCCESS]),
        *((slot[0], slot_words(*slot), sample.dimensions[slot]) for slot in sample.slots()),
        ("task_complexity", "complexity", sample.complexity),
    ]
    absences: dict[str, Flags] = {outcome: np.isnan(sample.outcomes[outcome]) for outcome in LIVE_OUTCOMES}
    for dimension in Dimension:
        columns = [np.isnan(x) for slot, x in sample.dimensions.items() if slot[0] is dimension]
        absences[dimension] = np.all(columns, axis=0) if columns else np.ones(len(sample), dtype=bool)
    absences["task_complexity"] = np.isnan(sample.complexity)
    for field, absent in absences.items():
        found = (_dependence(name, absent, x) for other, name, x in others if other != field)
        yield Missing(str(field), float(absent.mean()), tuple(one for one in found if one is not None))
    for name, codes in sample.groups.items():
        yield Missing(name, float((codes < 0).mean()))


def _dependence(name: str, absent: Flags, x: Floats) -> Dependence | None:
    known = ~np.isnan(x)
    absent, x = absent[known], x[known]
    value = correlation(absent.astype(np.float64), x)
    if value is None or abs(value) < DEPENDS or abs(value) * math.sqrt(len(x) - 1) < SURE:
        return None
    high = x > np.median(x) if (x > np.median(x)).any() else x >= np.median(x)
    return Dependence(name, value, float(absent[~high].mean()), float(absent[high].mean()))


def _axes(sample: Sample) -> Iterator[tuple[str, tuple[Ints, list[str]]]]:
    """Give the levels of each variable that varies: its name, the codes of the runs (-1: missing), the labels."""
    for slot in sample.slots():
        codes, labels = _levels(slot, sample.dimensions[slot])
        if len(labels) > 1:
            yield slot_words(*slot), (codes, labels)
    known = ~np.isnan(sample.complexity)
    band = np.searchsorted([upper for upper, _ in BANDS], np.where(known, sample.complexity, 0.0), side="right")
    bands, place = np.unique(band[known], return_inverse=True)
    if len(bands) > 1:
        codes = np.full(len(sample), -1, dtype=np.int64)
        codes[known] = place
        yield "complexity", (codes, [[*(name for _, name in BANDS), HIGHEST_BAND][one] for one in bands.tolist()])


def _levels(slot: Slot, x: Floats) -> tuple[Ints, list[str]]:
    known = ~np.isnan(x)
    codes = np.full(len(x), -1, dtype=np.int64)
    values, codes[known] = np.unique(x[known], return_inverse=True)
    if slot[1] is Basis.CATEGORY:
        return codes, [SIZE_CATEGORIES[int(value)] for value in values.tolist()]
    if len(values) <= OWN_LEVELS:
        return codes, [value_text(slot[0], value) for value in values.tolist()]
    # Zero is a level of its own below all octaves.
    octave = np.where(x[known] > 0, np.floor(np.log2(np.maximum(x[known], 1e-300))), -np.inf)
    values, codes[known] = np.unique(octave, return_inverse=True)
    return codes, [
        "0" if value == -np.inf else f"{value_text(slot[0], 2**value)} to {value_text(slot[0], 2 ** (value + 1))}"
        for value in values.tolist()
    ]


def _linked(value: float, n: int) -> bool:
    return abs(value) > LINKED and abs(value) * math.sqrt(n - 1) > SURE
