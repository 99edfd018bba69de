"""Cells: the one value that all maths reads, a row for each distinct setting with moments of what its runs brought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NewType, Self

import numpy as np
import numpy.typing as npt

from analytics import moments
from analytics.moments import Floats, Ints
from models.dimensions import Outcome, Variable
from models.errors import NotEnoughData

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Moments of `variables`, all observed in every run, one row for each (value, label, binned, cluster).

    R rows, V variables. Rows are kept merged, without empty ones, in the order of value, label, binned, cluster. In a
    row that is not binned x is constant, so its co-moments with everything are exactly zero; in a binned row (the value
    is the bin's nominal x) they are not. Where x = 0 the variable ln_x is 0 by convention: fits on ln x leave such rows
    out by their value.

    Attributes:
        variables: The names of the moments' axes.
        value: The x of the row, or its bin's nominal x; nan for a category. [R]
        label: The name of the category; None for a number.
        binned: Whether the row holds a range of x. [R]
        n: Runs. [R]
        mean: Means. [R, V]
        comoment: Sums of products of deviations from the mean. [R, V, V]
        cluster: The cluster (project, task group) of the row's runs, or None where they are not told apart. [R]
    """

    variables: tuple[str, ...]
    value: Floats
    label: tuple[str | None, ...]
    binned: Flags
    n: Floats
    mean: Floats
    comoment: Floats
    cluster: Ints | None = None

    @classmethod
    def empty(cls, variables: Sequence[str], *, clustered: bool = False) -> Self:
        """Make the identity of `+`."""
        v = len(variables)
        return cls(
            variables=tuple(variables),
            value=np.zeros(0),
            label=(),
            binned=np.zeros(0, np.bool_),
            n=np.zeros(0),
            mean=np.zeros((0, v)),
            comoment=np.zeros((0, v, v)),
            cluster=np.zeros(0, np.int64) if clustered else None,
        )

    @classmethod
    def from_rows(
        cls,
        columns: Mapping[str, Floats],
        *,
        value: Floats | None = None,
        label: Sequence[str | None] | None = None,
        binned: Flags | None = None,
        cluster: Ints | None = None,
    ) -> Self:
        """Reduce raw rows.

        Args:
            columns: One array [N] a variable. ln_x is added where x is there without it.
            value: The x or the bin's nominal x of each row; x itself where absent.
            label: The category of each row; None: numbers.
            binned: Whether `value` is a bin; False where absent.
            cluster: The cluster of each row.
        """
        columns = {name: np.asarray(column, np.float64) for name, column in columns.items()}
        x = columns.get(Variable.X)
        if x is not None and Variable.LN_X not in columns:
            columns[Variable.LN_X] = np.log(np.where(x > 0, x, 1.0))
        mean = np.stack(list(columns.values()), axis=1)
        size, v = mean.shape
        if value is None:
            value = np.full(size, np.nan) if x is None or label is not None else x
        return cls(
            variables=tuple(str(name) for name in columns),
            value=np.asarray(value, np.float64),
            label=(None,) * size if label is None else tuple(label),
            binned=np.zeros(size, np.bool_) if binned is None else binned,
            n=np.ones(size),
            mean=mean,
            comoment=np.zeros((size, v, v)),
            cluster=cluster,
        ).merged()

    def merged(self) -> Self:
        """Merge the rows that share value, label, binned and cluster; drop empty ones; sort."""
        if not self.n.all():
            return self.where(self.n > 0).merged()
        if not len(self.n):
            return self
        keys = self._keys()
        order = np.lexsort(keys[::-1])
        fresh = np.zeros(len(order), np.bool_)
        fresh[0] = True
        for key in keys:
            ordered = key[order]
            fresh[1:] |= ordered[1:] != ordered[:-1]
        if fresh.all():
            return self if bool((np.diff(order) > 0).all()) else self._rows(order)
        starts = np.flatnonzero(fresh)
        n, mean, comoment = _reduce(self.n[order], self.mean[order], self.comoment[order], starts)
        return replace(self._rows(order[starts]), n=n, mean=mean, comoment=comoment)

    def __add__(self, other: Self) -> Self:
        self._expect_alike(other)
        return replace(
            self,
            value=np.concatenate((self.value, other.value)),
            label=self.label + other.label,
            binned=np.concatenate((self.binned, other.binned)),
            n=np.concatenate((self.n, other.n)),
            mean=np.concatenate((self.mean, other.mean)),
            comoment=np.concatenate((self.comoment, other.comoment)),
            cluster=None
            if self.cluster is None or other.cluster is None
            else np.concatenate((self.cluster, other.cluster)),
        ).merged()

    def __sub__(self, other: Self) -> Self:
        """Take out runs that are in.

        Raises:
            NotEnoughData: A row of `other` is not there, or holds more runs than there are.
        """
        self._expect_alike(other)
        whole, part = self.merged(), other.merged()
        places = {key: place for place, key in enumerate(whole._identities())}
        try:
            rows = np.array([places[key] for key in part._identities()], np.int64)
        except KeyError as missing:
            message = f"cannot take out the runs at {missing.args[0]!r}: there are none; take out only what is in"
            raise NotEnoughData(message) from None
        n, mean, packed = moments.unmerge(
            whole.n[rows],
            whole.mean[rows],
            moments.pack(whole.comoment[rows]),
            part.n,
            part.mean,
            moments.pack(part.comoment),
        )
        left = replace(whole, n=whole.n.copy(), mean=whole.mean.copy(), comoment=whole.comoment.copy())
        left.n[rows], left.mean[rows], left.comoment[rows] = n, mean, moments.unpack(packed)
        return left.where(left.n > 0)

    def select(self, variables: Sequence[str]) -> Self:
        """Keep some variables, in the given order."""
        axes = [self.axis(name) for name in variables]
        return replace(
            self,
            variables=tuple(str(name) for name in variables),
            mean=self.mean[:, axes],
            comoment=self.comoment[:, axes][:, :, axes],
        )

    def where(self, mask: Flags) -> Self:
        """Keep the rows where `mask` [R] is true."""
        return self._rows(np.flatnonzero(mask))

    def total(self) -> tuple[float, Floats, Floats]:
        """Merge all rows into one: n, mean[V], comoment[V, V].

        Raises:
            NotEnoughData: There are no runs.
        """
        if not len(self.n):
            raise NotEnoughData("there are no runs: publish run-completion events that carry this value and outcome")
        n, mean, comoment = _reduce(self.n, self.mean, self.comoment, np.zeros(1, np.int64))
        return float(n[0]), mean[0], comoment[0]

    def axis(self, variable: str) -> int:
        """Find the place of a variable among the axes.

        Raises:
            NotEnoughData: The cells do not keep it.
        """
        try:
            return self.variables.index(variable)
        except ValueError:
            known = ", ".join(self.variables) or "none"
            message = f"the cells keep no variable {variable!r} (they keep {known}): select it when they are made"
            raise NotEnoughData(message) from None

    @property
    def x(self) -> Floats:
        """Give the mean of x in each row [R]."""
        return self.mean[:, self.axis(Variable.X)]

    @property
    def geometric_x(self) -> Floats:
        """Give the x that stands for each row [R]: its own, or the geometric mean of a bin's runs."""
        if not self.binned.any():
            return self.value
        return np.where(self.binned, np.exp(self.mean[:, self.axis(Variable.LN_X)]), self.value)

    @property
    def distinct(self) -> int:
        """Count the distinct settings that have runs; a bin counts as one."""
        rows = zip(self.value.tolist(), self.label, self.binned.tolist(), strict=True)
        return len({(value if label is None else label, binned) for value, label, binned in rows})

    def _rows(self, places: Ints) -> Self:
        return replace(
            self,
            value=self.value[places],
            label=tuple([self.label[place] for place in places.tolist()]),
            binned=self.binned[places],
            n=self.n[places],
            mean=self.mean[places],
            comoment=self.comoment[places],
            cluster=None if self.cluster is None else self.cluster[places],
        )

    def _keys(self) -> list[npt.NDArray[np.generic]]:
        keys: list[npt.NDArray[np.generic]] = [np.where(np.isnan(self.value), np.inf, self.value)]
        if any(label is not None for label in self.label):
            keys.append(np.array([label or "" for label in self.label]))
        if self.binned.any():
            keys.append(self.binned)
        if self.cluster is not None:
            keys.append(self.cluster)
        return keys

    def _identities(self) -> list[tuple[float | str, bool, int]]:
        clusters = [0] * len(self.n) if self.cluster is None else self.cluster.tolist()
        rows = zip(self.value.tolist(), self.label, self.binned.tolist(), clusters, strict=True)
        return [(value if label is None else label, binned, cluster) for value, label, binned, cluster in rows]

    def _expect_alike(self, other: "Cells") -> None:
        if self.variables != other.variables or (self.cluster is None) != (other.cluster is None):
            message = f"cells of {self.variables} and of {other.variables} do not add: select the same variables"
            raise NotEnoughData(message)


def _reduce(n: Floats, mean: Floats, comoment: Floats, starts: Ints) -> tuple[Floats, Floats, Floats]:
    """Merge runs of neighbouring rows, each group beginning at a start; two passes around the group's first mean."""
    count = np.add.reduceat(n, starts)
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(n)))
    first = mean[starts]
    away = mean - first[group]
    shift = np.add.reduceat(n[:, None] * away, starts, axis=0) / count[:, None]
    away = away - shift[group]
    outer = (n[:, None] * away)[:, :, None] * away[:, None, :]
    return count, first + shift, np.add.reduceat(comoment + outer, starts, axis=0)


LawCells = NewType("LawCells", Cells)
"""The cells of one outcome, merged by value: the variables of `law_variables`, no clusters, no empty rows."""

LOG_VARIABLES: dict[Outcome, Variable] = {
    Outcome.QUALITY_SCORE: Variable.CLIPPED_LN_QUALITY,
    Outcome.TIME_TO_COMPLETE: Variable.LN_TIME,
    Outcome.TOTAL_COST: Variable.CLIPPED_LN_COST,
}
"""The variable that is ln max(y, 0.001) of an outcome y; success needs none, its clipped log is linear in it."""


def law_variables(outcome: Outcome) -> tuple[str, ...]:
    """Name the variables of an outcome's `LawCells`: x, ln_x, the outcome, and its clipped log if kept."""
    log = LOG_VARIABLES.get(outcome)
    return (str(Variable.X), str(Variable.LN_X), str(outcome), *([str(log)] if log else []))


def law_cells(cells: Cells, outcome: Outcome) -> LawCells:
    """Select an outcome's variables and merge by value, over clusters.

    Raises:
        NotEnoughData: The cells do not keep one of the variables.
    """
    variables = law_variables(outcome)
    chosen = cells if cells.variables == variables else cells.select(variables)
    return LawCells((chosen if chosen.cluster is None else replace(chosen, cluster=None)).merged())
