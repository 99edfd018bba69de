"""The rows of a trial: one for each assignment whose run counts, as columns."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.moments import Floats, Ints
from models.dimensions import CLIP, LESS_IS_BETTER, Outcome
from models.experiments import Assignment, Definition, Value

Flags = npt.NDArray[np.bool_]

COMPLIANT = 1e-6
"""Relative difference up to which an actual value is the assigned one."""


@dataclass(frozen=True, slots=True, eq=False)
class TrialRows:
    """N counted runs in the order of their assignment.

    Attributes:
        arm: The place of the assigned value. [N]
        y: The outcome on its scale (ln for time and cost), nan where it was not measured. [N]
        complexity: Of the task, nan where it was not known. [N]
        complied: Whether the run says that it did what it was assigned. [N]
        cluster: The time block of a switchback; else each run is its own. [N]
        propensities: P(each value) when the run's value was drawn. [N, m]
        batch: The number of the draw's block. [N]
    """

    arm: Ints
    y: Floats
    complexity: Floats
    complied: Flags
    cluster: Ints
    propensities: Floats
    batch: Ints

    def where(self, kept: Flags) -> "TrialRows":
        """Keep some of the rows."""
        return TrialRows(
            self.arm[kept],
            self.y[kept],
            self.complexity[kept],
            self.complied[kept],
            self.cluster[kept],
            self.propensities[kept],
            self.batch[kept],
        )

    def by_cluster(self) -> "TrialRows":
        """Put the mean of each cluster's rows of a value in their place; a mean complies if all its rows do."""
        keys, first, place = np.unique(
            np.stack((self.arm, self.cluster)), axis=1, return_index=True, return_inverse=True
        )
        place = place.reshape(-1)
        count = np.bincount(place).astype(np.float64)
        return TrialRows(
            arm=keys[0],
            y=np.bincount(place, self.y) / count,
            complexity=np.bincount(place, self.complexity) / count,
            complied=np.bincount(place, ~self.complied) == 0,
            cluster=keys[1],
            propensities=self.propensities[first],
            batch=self.batch[first],
        )

    def seen(self) -> "TrialRows":
        """Keep the rows whose outcome was measured."""
        return self.where(~np.isnan(self.y))


def rows_of(assignments: Iterable[Assignment], definition: Definition, outcome: Outcome) -> TrialRows:
    """Read the rows of an outcome; runs that were excluded, or fell into a washout, are left out."""
    places = {value: place for place, value in enumerate(definition.values_tested)}
    kept = [
        each
        for each in sorted(assignments, key=lambda each: (each.assigned_at, each.assignment_id))
        if each.run is not None and not each.run.excluded and not washed_out(each, definition)
    ]
    timed = definition.assignment == "switchback"
    return TrialRows(
        arm=np.array([places[each.value] for each in kept], np.int64),
        y=np.array([measured(each, definition, outcome) for each in kept], np.float64),
        complexity=np.array([math.nan if each.complexity is None else each.complexity for each in kept], np.float64),
        complied=np.array([complied(each) for each in kept], np.bool_),
        cluster=np.array([each.block if timed else place for place, each in enumerate(kept)], np.int64),
        propensities=np.array([each.propensities for each in kept], np.float64).reshape(len(kept), len(places)),
        batch=np.array([each.block for each in kept], np.int64),
    )


def measured(assignment: Assignment, definition: Definition, outcome: Outcome) -> float:
    """Read the outcome of an assignment's run: ln max(y, 0.001) for time and cost; nan where it has none."""
    run = assignment.run
    if run is None or run.excluded or washed_out(assignment, definition):
        return math.nan
    y: float | None = getattr(run, outcome.value)
    if y is None:
        zero = outcome is Outcome.QUALITY_SCORE and definition.missing_quality == "zero"
        return 0.0 if zero else math.nan
    return math.log(max(y, CLIP)) if outcome in LESS_IS_BETTER else y


def washed_out(assignment: Assignment, definition: Definition) -> bool:
    """Tell whether a switchback's assignment lies in the first seconds of its time block."""
    if definition.assignment != "switchback":
        return False
    return assignment.assigned_at % definition.switchback_seconds < definition.washout_seconds


def complied(assignment: Assignment) -> bool:
    """Tell whether the run says that it did what it was assigned."""
    return assignment.run is not None and same_value(assignment.value, assignment.run.actual_value)


def same_value(assigned: Value, actual: Value | None) -> bool:
    """Tell whether two values are the same but for rounding; what is not known is not the same."""
    if isinstance(assigned, str) or isinstance(actual, str) or actual is None:
        return assigned == actual
    return abs(assigned - actual) <= COMPLIANT * abs(assigned)
