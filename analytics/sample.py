"""Runs as columns, as an exploratory analysis reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analytics.moments import Floats, Ints
from models.dimensions import BASES, Basis, Dimension, Outcome

Slot = tuple[Dimension, Basis]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """N runs as columns.

    Attributes:
        dimensions: x by dimension and basis, nan where a run says nothing; a category by its place in SIZE_CATEGORIES.
        outcomes: The four outcomes of a run, nan where missing.
        complexity: In [0, 1], nan where missing.
        groups: Codes of project, task_type, model and task_id, -1 where missing.
        contexts: The rows of each context, the global one among them.
        names: What the codes of project, task_type, model and task_id stand for, where it is known.
    """

    dimensions: Mapping[Slot, Floats]
    outcomes: Mapping[Outcome, Floats]
    complexity: Floats
    groups: Mapping[str, Ints]
    contexts: Mapping[str, Ints]
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.complexity)

    def basis(self, dimension: Dimension) -> Slot | None:
        """Choose the basis that a law would use: the first with two distinct values, else the first with any run."""
        given = [(dimension, basis) for basis in BASES[dimension]]
        given = [slot for slot in given if slot in self.dimensions and not np.isnan(self.dimensions[slot]).all()]
        several = (slot for slot in given if len(np.unique(present(self.dimensions[slot]))) > 1)
        return next(several, given[0] if given else None)

    def slots(self) -> list[Slot]:
        """List the dimensions that any run says something about, each on the basis that a law would use."""
        return [slot for slot in map(self.basis, Dimension) if slot is not None]


def present(x: Floats) -> Floats:
    """Leave out the runs that say nothing."""
    return x[~np.isnan(x)]
