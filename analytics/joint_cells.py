"""Joint cells: one context's runs by full setting, difficulty, fold and cluster, as the audited tier reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from analytics.cells import Cells, Flags, LawCells, law_variables
from analytics.moments import Floats, Ints
from models.dimensions import Basis, Dimension, Outcome, Variable
from models.errors import NotEnoughData

Slot = tuple[Dimension, Basis]

FOLDS = 5
TASK_GROUPS = 64
COMPLEXITY_BINS = 10
MISSING = -1
MIN_CLUSTERS = 6
"""Fewer clusters say too little about the variance between them; then errors are those of independent runs."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Runs, mean and squared deviations of one outcome in each cell [R]; n is 0 where no run carries it."""

    n: Floats
    mean: Floats
    m2: Floats

    def take(self, places: Ints) -> "Moments":
        """Keep some rows."""
        return Moments(self.n[places], self.mean[places], self.m2[places])


@dataclass(frozen=True, slots=True, eq=False)
class JointCells:
    """One row for each setting, complexity bin, fold, project and task group that occurs.

    Attributes:
        design: For each dimension and basis the value, or its bin's nominal one; nan where a run says nothing. [R]
        ln_x: Likewise the mean of ln x (0 where x is 0 or absent). [R]
        binned: Likewise whether the value is a bin. [R]
        category: The model size's label, or None.
        complexity: The complexity bin, 0 to 9, or -1. [R]
        fold: xxh64 of the task's (else the run's) id, mod 5: a task never sits on both sides of a split. [R]
        project: A code for each project, or -1. [R]
        task_group: xxh64 of the task's (else the run's) id, mod 64. [R]
        outcomes: Moments by variable: the outcomes, ln_time, clipped_ln_cost, clipped_ln_quality.
    """

    design: Mapping[Slot, Floats]
    ln_x: Mapping[Slot, Floats]
    binned: Mapping[Slot, Flags]
    category: tuple[str | None, ...]
    complexity: Ints
    fold: Ints
    project: Ints
    task_group: Ints
    outcomes: Mapping[str, Moments]

    def __len__(self) -> int:
        return len(self.fold)

    def where(self, mask: Flags) -> Self:
        """Keep the rows where `mask` [R] is true."""
        places = np.flatnonzero(mask)
        return replace(
            self,
            design={slot: value[places] for slot, value in self.design.items()},
            ln_x={slot: value[places] for slot, value in self.ln_x.items()},
            binned={slot: value[places] for slot, value in self.binned.items()},
            category=tuple([self.category[place] for place in places.tolist()]),
            complexity=self.complexity[places],
            fold=self.fold[places],
            project=self.project[places],
            task_group=self.task_group[places],
            outcomes={name: moments.take(places) for name, moments in self.outcomes.items()},
        )

    def with_law(self, slot: Slot, outcome: Outcome) -> Self:
        """Keep the rows that carry both the dimension on this basis and the outcome."""
        if slot[1] is Basis.CATEGORY:
            present = np.array([label is not None for label in self.category], dtype=bool)
        else:
            present = ~np.isnan(self.design[slot])
        return self.where(present & (self.outcomes[outcome].n > 0))

    def clusters(self) -> tuple[str, Ints] | None:
        """Give the name and codes [R] of the clusters: projects where there are six, else task groups, else None."""
        for name, codes in (("project", self.project), ("task", self.task_group)):
            if (codes >= 0).all() and len(np.unique(codes)) >= MIN_CLUSTERS:
                return name, codes
        return None

    def marginal(self, slot: Slot, outcome: Outcome, cluster: Ints | None = None) -> LawCells:
        """Merge into the cells of one law, by value, and by cluster where codes [R] are given.

        A bin's x is the geometric mean of its runs, in each cluster its own. Co-moments are those of each variable
        with itself; a law reads no others.

        Raises:
            NotEnoughData: No run carries both the dimension and the outcome.
        """
        carried = (
            np.array([label is not None for label in self.category], dtype=bool)
            if slot[1] is Basis.CATEGORY
            else ~np.isnan(self.design[slot])
        )
        kept = np.flatnonzero(carried & (self.outcomes[outcome].n > 0))
        if not len(kept):
            raise NotEnoughData(f"no run carries both {slot[0]} and {outcome}: publish runs that do")
        variables = law_variables(outcome)
        rows, v = len(kept), len(variables)
        labelled = slot[1] is Basis.CATEGORY
        value = np.full(rows, np.nan) if labelled else self.design[slot][kept]
        binned = np.zeros(rows, dtype=bool) if labelled else self.binned[slot][kept]
        ln_x = np.zeros(rows) if labelled else self.ln_x[slot][kept]
        mean, comoment = np.zeros((rows, v)), np.zeros((rows, v, v))
        for place, name in enumerate(variables):
            if name == Variable.X:
                mean[:, place] = np.where(binned, np.exp(ln_x), np.where(np.isnan(value), 0.0, value))
            elif name == Variable.LN_X:
                mean[:, place] = ln_x
            else:
                moments = self.outcomes[name]
                mean[:, place], comoment[:, place, place] = moments.mean[kept], moments.m2[kept]
        return LawCells(
            Cells(
                variables=variables,
                value=value,
                label=tuple(self.category[place] if labelled else None for place in kept.tolist()),
                binned=binned,
                n=self.outcomes[outcome].n[kept],
                mean=mean,
                comoment=comoment,
                cluster=None if cluster is None else cluster[kept],
            ).merged()
        )
