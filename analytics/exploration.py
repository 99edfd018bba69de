"""Exploratory analysis of runs: what was tried, what goes together, what is missing, and what would show.

Nothing here is a law: these are the figures that say which laws the runs can carry (`analytics.learnable` says it in
words).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from analytics.association import correlation, correlation_ratio, likeness
from analytics.moments import Floats, Ints
from analytics.power_analysis import detectable_effect, power_of
from analytics.sentences import slot_words, value_text
from models.contexts import BANDS, GLOBAL, HIGHEST_BAND
from models.dimensions import BASES, LESS_IS_BETTER, LIVE_OUTCOMES, SIZE_CATEGORIES, Basis, Dimension, Outcome
from models.errors import NotEnoughData

Slot = tuple[Dimension, Basis]
Flags = npt.NDArray[np.bool_]

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

MIN_CLUSTERS = 6
CHANGE = 0.1
"""The change of a rate or a quality from the smallest to the largest value that runs should be able to show."""

RATIO = 1.2
"""Likewise for time and cost, as a factor."""

GROUPS = ("project", "task_type", "model")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N runs as columns.

    Attributes:
        dimensions: x by dimension and basis, nan where a run says nothing; a category by its place in SIZE_CATEGORIES.
        outcomes: The four outcomes of a run, nan where missing.
        complexity: In [0, 1], nan where missing.
        groups: Codes of project, task_type, model and task_id, -1 where missing.
        contexts: The rows of each context, the global one among them.
    """

    dimensions: Mapping[Slot, Floats]
    outcomes: Mapping[Outcome, Floats]
    complexity: Floats
    groups: Mapping[str, Ints]
    contexts: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.complexity)

    def basis(self, dimension: Dimension) -> Slot | None:
        """Choose the basis that a law would use: the first with two distinct values, else the first with any run."""
        given = [(dimension, basis) for basis in BASES[dimension]]
        given = [slot for slot in given if slot in self.dimensions and not np.isnan(self.dimensions[slot]).all()]
        several = (slot for slot in given if len(np.unique(_present(self.dimensions[slot]))) > 1)
        return next(several, given[0] if given else None)

    def slots(self) -> list[Slot]:
        """List the dimensions that any run says something about, each on the basis that a law would use."""
        return [slot for slot in map(self.basis, Dimension) if slot is not None]


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
class Repeats:
    """How runs repeat tasks.

    Attributes:
        tasks: Distinct task ids.
        runs_per_task: Their median number of runs.
        likeness: Intraclass correlation of success within tasks; 0 where it cannot be estimated.
        ambiguous: Task ids that occur with more than one project or task type.
        across: For each dimension the share of tasks that were run at two of its values or more.
    """

    tasks: int
    runs_per_task: float
    likeness: float
    ambiguous: int
    across: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What the runs would show of one outcome over one dimension now.

    Attributes:
        dimension: What is scaled.
        basis: On which basis.
        outcome: What it buys.
        n: Runs with both, above zero.
        lo: The smallest value of the dimension.
        hi: The largest.
        sd: Of single runs around a line in ln x; of the logarithm of time and cost.
        inflation: How many times clusters multiply the variance of the slope.
        least_slope: The least change per unit of ln x that shows in four of five cases, at a level of 5 %.
        least_total: Likewise from lo to hi; the logarithm of a factor for time and cost.
        power: P(a change by 0.1, or by a factor of 1.2 of time and cost, from lo to hi shows).
    """

    dimension: Dimension
    basis: Basis
    outcome: Outcome
    n: int
    lo: float
    hi: float
    sd: float
    inflation: float
    least_slope: float
    least_total: float
    power: float


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
        sensitivity=tuple(sensitivity(sample)),
    )


def spreads(sample: Sample) -> Iterator[Spread]:
    """Summarise each dimension and basis in each context that has it, the global context first."""
    for context, rows in sorted(sample.contexts.items(), key=lambda item: item[0] != GLOBAL):
        for (dimension, basis), column in sample.dimensions.items():
            x = _present(column[rows])
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
        if len(np.unique(_present(x))) > 1
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


def repeats(sample: Sample) -> Repeats | None:
    """Say how runs repeat tasks; None where no run names its task."""
    task = sample.groups["task_id"]
    named = task >= 0
    if not named.any():
        return None
    ids, n = np.unique(task[named], return_counts=True)
    across = {}
    for slot in sample.slots():
        x = sample.dimensions[slot]
        both = named & ~np.isnan(x)
        if both.any():
            pairs = np.unique(np.stack((task[both], np.unique(x[both], return_inverse=True)[1])), axis=1)
            across[slot_words(*slot)] = float((np.unique(pairs[0], return_counts=True)[1] > 1).mean())
    kinds = np.stack((task[named], sample.groups["project"][named], sample.groups["task_type"][named]))
    _, distinct = np.unique(np.unique(kinds, axis=1)[0], return_counts=True)
    success = sample.outcomes[Outcome.SUCCESS]
    seen = named & ~np.isnan(success)
    return Repeats(
        tasks=len(ids),
        runs_per_task=float(np.median(n)),
        likeness=likeness(success[seen], task[seen]),
        ambiguous=int((distinct > 1).sum()),
        across=across,
    )


def sensitivity(sample: Sample) -> Iterator[Sensitivity]:
    """Say, for each dimension and outcome, the least effect that these runs would show.

    Errors are those of clusters (six projects or more, else six tasks or more), else of independent runs.
    """
    for slot in sample.slots():
        if slot[1] is Basis.CATEGORY:
            continue
        for outcome in LIVE_OUTCOMES:
            x, y = sample.dimensions[slot], sample.outcomes[outcome]
            log_scale = outcome in LESS_IS_BETTER
            rows = np.flatnonzero(~np.isnan(x) & ~np.isnan(y) & (x > 0) & ((y > 0) | (not log_scale)))
            x, y = x[rows], np.log(y[rows]) if log_scale else y[rows]
            values, n = np.unique(x, return_counts=True)
            if len(values) < 2 or len(x) <= 2 or np.ptp(y) == 0:  # noqa: PLR2004 - a slope with an error
                continue
            sd, inflation = _noise(np.log(x), y, _clusters(sample, rows))
            if sd <= 0:
                continue
            spread = values.tolist(), n.astype(np.float64), sd * math.sqrt(inflation)
            least = detectable_effect(*spread)
            aim = math.log(RATIO) if log_scale else CHANGE
            yield Sensitivity(
                dimension=slot[0],
                basis=slot[1],
                outcome=outcome,
                n=len(x),
                lo=float(values[0]),
                hi=float(values[-1]),
                sd=sd,
                inflation=inflation,
                least_slope=least.slope,
                least_total=least.total,
                power=power_of(spread[0], spread[1], aim / math.log(values[-1] / values[0]), spread[2]),
            )


def _noise(ln_x: Floats, y: Floats, clusters: Ints | None) -> tuple[float, float]:
    """Give the residual sd of a line in ln x, and how many times clusters multiply its slope's variance."""
    away = ln_x - ln_x.mean()
    square = float(away @ away)
    residual = y - y.mean() - float(away @ y) / square * away
    variance = float(residual @ residual) / (len(y) - 2)
    if clusters is None or variance <= 0:
        return math.sqrt(variance), 1.0
    score = np.bincount(clusters, away * residual)
    g = len(score)
    return math.sqrt(variance), float(score @ score) * g / (g - 1) / (square * variance)


def _clusters(sample: Sample, rows: Ints) -> Ints | None:
    """Give the clusters of some runs as codes 0 .. g - 1; None where there are fewer than six or some run has none."""
    for name in ("project", "task_id"):
        codes = sample.groups[name][rows]
        if len(codes) and codes.min() >= 0:
            groups, place = np.unique(codes, return_inverse=True)
            if len(groups) >= MIN_CLUSTERS:
                return np.asarray(place, np.int64)
    return None


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


def _present(x: Floats) -> Floats:
    return x[~np.isnan(x)]


def _linked(value: float, n: int) -> bool:
    return abs(value) > LINKED and abs(value) * math.sqrt(n - 1) > SURE
