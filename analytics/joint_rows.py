"""The rows of a joint law: the runs that carry the outcome and the dimensions, merged by all that the law sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analytics.cells import Flags
from analytics.joint_cells import COMPLEXITY_BINS, JointCells
from analytics.moments import Floats, Ints
from models.dimensions import BASES, Basis, Dimension, Outcome
from models.errors import NotEnoughData

LEAST_RUNS = 30
"""A dimension varies if so many runs are off its commonest value."""

LEAST_SHARE = 0.5
"""Rather than half of the runs, a dimension that they do not carry is left out."""

NUMBERS = frozenset({Basis.DOSE, Basis.REALISED})

MOST_CODES = 2**40
"""Combined keys are renumbered before they grow out of 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class JointRows:
    """The runs of a joint law; R rows.

    Attributes:
        n: Runs. [R]
        mean: Their mean outcome. [R]
        m2: Squared deviations from it. [R]
        ln_x: The logarithm of each dimension with a number. [R]
        category: The place of the model size in `labels`; None where sizes have numbers or none. [R]
        labels: Model sizes without a number that have 30 runs, the commonest first.
        complexity: Middles of the bins, nan where missing; None where too few runs have one. [R]
        cluster: Codes of clusters; None where there are none. [R]
        clusters: What they are: project or task.
        bases: How each dimension was measured.
        curved: The dimensions with 30 runs off their two commonest values: enough for a curve.
        constant: ln x of the dimensions that most runs carry and that do not vary.
        missing: Why dimensions, or complexity, are not there.
    """

    n: Floats
    mean: Floats
    m2: Floats
    ln_x: Mapping[Dimension, Floats]
    category: Ints | None
    labels: tuple[str, ...]
    complexity: Floats | None
    cluster: Ints | None
    clusters: str | None
    bases: Mapping[Dimension, Basis]
    curved: frozenset[Dimension]
    constant: Mapping[Dimension, float]
    missing: Mapping[str, str]

    @property
    def size(self) -> float:
        """Count the runs."""
        return float(self.n.sum())

    def average(self, values: Floats) -> float:
        """Give the mean over the runs of values [R], nan left out."""
        known = ~np.isnan(values)
        return float(self.n[known] @ values[known] / self.n[known].sum())


def joint_rows(joint: JointCells, outcome: Outcome) -> JointRows:
    """Choose the dimensions and the basis of each, and merge the runs that carry them.

    A dimension is measured by the first of its bases that varies and that half of the runs carry; runs without it are
    left out, as long as half of all runs stay.

    Raises:
        NotEnoughData: Fewer than 30 runs, or no dimension that varies.
    """
    carried = joint.where(joint.outcomes[outcome].n > 0)
    n = carried.outcomes[outcome].n
    if float(n.sum()) < LEAST_RUNS:
        message = f"a joint law needs {LEAST_RUNS} runs with {outcome}, there are {n.sum():g}: collect more runs"
        raise NotEnoughData(message)
    chosen = {dimension: _choose(carried, n, dimension) for dimension in Dimension}
    missing = {each.value: choice.missing for each, choice in chosen.items() if choice.missing}
    constant = {each: choice.constant for each, choice in chosen.items() if choice.constant is not None}
    varying = {each: choice for each, choice in chosen.items() if not choice.missing}
    kept = np.ones(len(n), dtype=bool)
    for dimension in sorted(varying, key=lambda each: -float(n[chosen[each].given].sum())):
        together = kept & chosen[dimension].given
        if float(n[together].sum()) < LEAST_SHARE * float(n.sum()):
            missing[dimension.value] = "too few runs say it together with the other dimensions"
        else:
            kept = together
    rest, bases = carried.where(kept), dict[Dimension, Basis]()
    for dimension in (each for each in varying if each.value not in missing):
        if varies(n[kept], _codes(rest, dimension, chosen[dimension].basis)):
            bases[dimension] = chosen[dimension].basis
        else:
            missing[dimension.value] = "it does not vary among the runs that say the other dimensions"
    if not bases:
        message = f"no dimension varies among the runs with {outcome}: {'; '.join(sorted(set(missing.values())))}"
        raise NotEnoughData(message)
    return _merged(rest, outcome, bases, constant, missing)


def varies(n: Floats, codes: Floats | Ints, beyond: int = 1) -> bool:
    """Tell whether 30 runs are off the `beyond` commonest values."""
    _, place = np.unique(codes, return_inverse=True)
    runs = np.sort(np.bincount(place, n))[::-1]
    return float(runs[beyond:].sum()) >= LEAST_RUNS


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    """A basis of a dimension and the rows that carry it [R]; `missing` says why the dimension stays out."""

    basis: Basis
    given: Flags
    missing: str = ""
    constant: float | None = None


def _choose(joint: JointCells, n: Floats, dimension: Dimension) -> _Choice:
    """Choose the first basis that varies, else the first that half of the runs carry."""
    spare = _Choice(BASES[dimension][0], np.zeros(len(n), dtype=bool), "no run says it")
    for basis in BASES[dimension]:
        given = _given(joint, n, dimension, basis)
        share = float(n[given].sum() / n.sum())
        if share >= LEAST_SHARE and varies(n[given], _codes(joint.where(given), dimension, basis)):
            return _Choice(basis, given)
        if share >= LEAST_SHARE and spare.constant is None:
            reason = f"it does not vary: fewer than {LEAST_RUNS} runs are off its commonest value"
            mean = None
            if basis in NUMBERS:
                mean = float(n[given] @ joint.ln_x[dimension, basis][given] / n[given].sum())
            spare = _Choice(basis, given, reason, mean)
        elif share > 0 and spare.constant is None:
            spare = _Choice(basis, given, f"only {share:.0%} of the runs say it")
    return spare


def _given(joint: JointCells, n: Floats, dimension: Dimension, basis: Basis) -> Flags:
    """Find the rows that carry a dimension, above zero; a category that has 30 runs. [R]."""
    if basis is not Basis.CATEGORY:
        return np.asarray(joint.design[dimension, basis] > 0)
    names, place = np.unique(np.array([label or "" for label in joint.category]), return_inverse=True)
    return np.asarray((np.bincount(place, n) >= LEAST_RUNS)[place] & (names[place] != ""))


def _codes(joint: JointCells, dimension: Dimension, basis: Basis) -> Floats | Ints:
    if basis is Basis.CATEGORY:
        return np.unique(np.array([label or "" for label in joint.category]), return_inverse=True)[1]
    return joint.design[dimension, basis]


def _merged(
    joint: JointCells,
    outcome: Outcome,
    bases: Mapping[Dimension, Basis],
    constant: Mapping[Dimension, float],
    missing: dict[str, str],
) -> JointRows:
    """Merge runs by value or bin, category, complexity and cluster; ln x is the mean of the runs."""
    moments = joint.outcomes[outcome]
    complexity, why = _complexity(joint, moments.n)
    if complexity is None:
        missing = missing | {"complexity": why}
    clusters = joint.clusters()
    category: Ints | None = None
    labels: tuple[str, ...] = ()
    if bases.get(Dimension.MODEL_SIZE) is Basis.CATEGORY:
        category, labels = _categories(joint, moments.n)
    slots = [(each, bases[each]) for each in Dimension if bases.get(each) in NUMBERS]
    keys: list[Floats | Ints] = [joint.design[slot] for slot in slots]
    keys += [each for each in (complexity, category, None if clusters is None else clusters[1]) if each is not None]
    first, place = _distinct(keys)
    n = np.bincount(place, moments.n)
    mean = np.bincount(place, moments.n * moments.mean) / n
    away = moments.mean - mean[place]
    return JointRows(
        n=np.asarray(n, np.float64),
        mean=np.asarray(mean, np.float64),
        m2=np.asarray(np.bincount(place, moments.m2 + moments.n * away * away), np.float64),
        ln_x={slot[0]: np.bincount(place, moments.n * joint.ln_x[slot]) / n for slot in slots},
        category=None if category is None else category[first],
        labels=labels,
        complexity=None if complexity is None else complexity[first],
        cluster=None if clusters is None else clusters[1][first],
        clusters=None if clusters is None else clusters[0],
        bases=bases,
        curved=frozenset(slot[0] for slot in slots if varies(moments.n, joint.design[slot], beyond=2)),
        constant=constant,
        missing=missing,
    )


def _complexity(joint: JointCells, n: Floats) -> tuple[Floats | None, str]:
    """Give the middles of the runs' bins [R], or say why complexity stays out."""
    known = joint.complexity >= 0
    share = float(n[known].sum() / n.sum())
    if share < LEAST_SHARE:
        return None, f"only {share:.0%} of the runs say it"
    if not varies(n[known], joint.complexity[known]):
        return None, f"it does not vary: fewer than {LEAST_RUNS} runs are off its commonest bin"
    return np.where(known, (joint.complexity + 0.5) / COMPLEXITY_BINS, np.nan), ""


def _categories(joint: JointCells, n: Floats) -> tuple[Ints, tuple[str, ...]]:
    names, place = np.unique(np.array([label or "" for label in joint.category]), return_inverse=True)
    order = np.argsort(-np.bincount(place, n), kind="stable")
    return np.argsort(order)[place], tuple(names[order].tolist())


def _distinct(keys: Sequence[Floats | Ints]) -> tuple[Ints, Ints]:
    """Number the distinct combinations of keys: the first row of each, and the number of each row [R]."""
    code, codes = np.zeros(len(keys[0]), np.int64), 1
    for key in keys:
        distinct, place = np.unique(key, return_inverse=True)
        code, codes = code * len(distinct) + place, codes * len(distinct)
        if codes > MOST_CODES:
            distinct, code = np.unique(code, return_inverse=True)
            codes = len(distinct)
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return first, place
