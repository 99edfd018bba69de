"""The scaling law of an experiment: fitted to its runs alone, by assigned value, and so a randomised one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import msgspec
import numpy as np

from agents.definitions import numeric
from agents.experiment_records import Snapshot, moment
from agents.fitting import fitting_of
from analytics.arm_means import ADJUSTABLE
from analytics.laws import EXPLORATORY_RUNS, explained
from analytics.published import Fitting
from analytics.rows import fit_rows
from analytics.task_filter import decided
from analytics.trial_rows import TrialRows, rows_of
from models.contexts import context_pairs
from models.dimensions import BASES, LESS_IS_BETTER, Basis, Outcome
from models.errors import NotEnoughData
from models.experiments import TIER, Assignment, Definition
from models.laws import Law, Published
from models.settings import Settings


def experiment_law(snapshot: Snapshot, settings: Settings, now: float) -> Law:
    """Fit the document's output and the averaged law to all runs of an experiment, by assigned value.

    Args:
        snapshot: The experiment.
        settings: The price table and the bootstrap draws.
        now: The time, seconds since the epoch.

    Raises:
        NotEnoughData: No run has been measured yet, or runs are not independent.
    """
    context = f"experiment={snapshot.sealed.definition.experiment_id}"
    return _law(snapshot, snapshot.assignments, settings, _heading(snapshot, settings, now, context, TIER))


def context_laws(snapshot: Snapshot, settings: Settings, now: float) -> list[Law]:
    """Fit the laws of the contexts that an experiment speaks for: all of whose tasks take part in it.

    An experiment on tasks of medium complexity and above speaks for the contexts of those bands, not for a project with
    easy tasks too. A context needs 30 runs at each of two values, drawn without regard to outcomes and to the time:
    others are not independent, and a law takes them as if they were.

    Args:
        snapshot: The experiment.
        settings: As for `experiment_law`.
        now: As there.
    """
    tier = law_tier(snapshot.sealed.definition)
    laws: list[Law] = []
    if snapshot.sealed.definition.assignment not in ADJUSTABLE:
        return laws
    for context in contexts_spoken_for(snapshot):
        inside = [each for each in snapshot.assignments if context in each.contexts]
        try:
            law = _law(snapshot, inside, settings, _heading(snapshot, settings, now, context, tier))
        except NotEnoughData:
            continue  # the context has no law, as one without runs has none
        if sum(row.n >= EXPLORATORY_RUNS for row in law.values) >= 2:  # noqa: PLR2004 - two values
            laws.append(law)
    return laws


def contexts_spoken_for(snapshot: Snapshot) -> list[str]:
    """List the contexts of assigned tasks whose every task takes part."""
    conditions = snapshot.sealed.definition.context_filter
    contexts = {context for each in snapshot.assignments for context in each.contexts}
    return sorted(context for context in contexts if decided(conditions, dict(context_pairs(context))))


def law_tier(definition: Definition) -> str:
    """Name the tier of an experiment's context laws: several experiments may speak for one context."""
    return f"{TIER}:{definition.experiment_id}"


def _law(snapshot: Snapshot, assignments: Sequence[Assignment], settings: Settings, heading: "SnapshotHeading") -> Law:
    definition, fitting = snapshot.sealed.definition, fitting_of(settings)
    rows = _independent(rows_of(assignments, definition, definition.outcome).seen(), definition)
    cost_rows = _independent(rows_of(assignments, definition, Outcome.TOTAL_COST).seen(), definition)
    cost = None
    if definition.outcome is not Outcome.TOTAL_COST and len(cost_rows.y):
        cost = _fitted(cost_rows, definition, Outcome.TOTAL_COST, fitting, None, heading).published
    if not len(rows.y):
        raise NotEnoughData("there is no measured run yet: wait for outcomes")
    own = replace(fitting, families=tuple(definition.families))
    law = _fitted(rows, definition, definition.outcome, own, cost, heading)
    return explained(msgspec.structs.replace(law, evidence="randomised"))


def _independent(rows: TrialRows, definition: Definition) -> TrialRows:
    """Give rows that are independent, as a law takes them: runs, or the means of a switchback's time blocks.

    Raises:
        NotEnoughData: There are none: adaptive draws look at outcomes, and shares of success are no successes.
    """
    if definition.assignment in ADJUSTABLE:
        return rows
    if definition.assignment == "switchback" and definition.outcome is not Outcome.SUCCESS:
        return rows.by_cluster()
    raise NotEnoughData(
        f"a law takes runs as independent, which those of assignment = {definition.assignment} are not: effect and "
        "contrasts are what holds"
    )


def _fitted(  # noqa: PLR0917 - what a law is fitted from
    rows: TrialRows,
    definition: Definition,
    outcome: Outcome,
    fitting: Fitting,
    cost: Published | None,
    heading: "SnapshotHeading",
) -> Law:
    y = np.exp(rows.y) if outcome in LESS_IS_BETTER else rows.y
    numbers = numeric(definition.values_tested)
    x = np.array(definition.values_tested, np.float64)[rows.arm] if numbers else np.full(len(y), np.nan)
    return fit_rows(
        x,
        y,
        np.zeros(len(y), np.bool_),
        x,
        labels=None if numbers else [str(definition.values_tested[arm]) for arm in rows.arm.tolist()],
        fitting=fitting,
        cost=cost,
        dimension=definition.dimension_tested,
        outcome=outcome,
        basis=BASES[definition.dimension_tested][0] if numbers else Basis.CATEGORY,
        **heading,
    )


class SnapshotHeading(TypedDict):
    """What the laws of an experiment say besides what is fitted."""

    context: str
    sources: list[str]
    lineage: dict[str, int]
    settings_hash: str
    fitted_at: str
    tier: str
    version: int
    epoch: int


def _heading(snapshot: Snapshot, settings: Settings, now: float, context: str, tier: str) -> SnapshotHeading:
    return SnapshotHeading(
        context=context,
        sources=[
            f"experiment {snapshot.sealed.definition.experiment_id}",
            *(["means of time blocks"] if snapshot.sealed.definition.assignment == "switchback" else []),
        ],
        lineage={},
        settings_hash=settings.validation_hash,
        fitted_at=moment(now),
        tier=tier,
        version=snapshot.look,
        epoch=snapshot.sealed.version,
    )
