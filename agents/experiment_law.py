"""The scaling law of an experiment: fitted to its runs alone, by assigned value, and so a randomised one."""

from dataclasses import replace
from typing import TypedDict

import msgspec
import numpy as np

from agents.definitions import numeric
from agents.experiment_records import Snapshot, moment
from agents.fitting import fitting_of
from analytics.laws import explained
from analytics.published import Fitting
from analytics.rows import fit_rows
from analytics.trial_rows import TrialRows, rows_of
from models.dimensions import BASES, LESS_IS_BETTER, Basis, Outcome
from models.errors import NotEnoughData
from models.experiments import TIER, Definition
from models.laws import Law, Published
from models.settings import Settings


def experiment_law(snapshot: Snapshot, rows: TrialRows, settings: Settings, now: float) -> Law:
    """Fit the document's output and the averaged law to the experiment's runs alone, by assigned value.

    Args:
        snapshot: The experiment.
        rows: The rows of its outcome.
        settings: The price table and the bootstrap draws.
        now: The time, seconds since the epoch.

    Raises:
        NotEnoughData: No run has been measured yet.
    """
    definition, rows = snapshot.sealed.definition, rows.seen()
    heading = _heading(snapshot, settings, now)
    cost_rows = rows_of(snapshot.assignments, definition, Outcome.TOTAL_COST).seen()
    cost = None
    if definition.outcome is not Outcome.TOTAL_COST and len(cost_rows.y):
        cost = _fitted(cost_rows, definition, Outcome.TOTAL_COST, fitting_of(settings), None, heading).published
    if not len(rows.y):
        raise NotEnoughData("there is no measured run yet: wait for outcomes")
    fitting = replace(fitting_of(settings), families=tuple(definition.families))
    law = _fitted(rows, definition, definition.outcome, fitting, cost, heading)
    return explained(msgspec.structs.replace(law, evidence="randomised"))


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


def _heading(snapshot: Snapshot, settings: Settings, now: float) -> SnapshotHeading:
    return SnapshotHeading(
        context=f"experiment={snapshot.sealed.definition.experiment_id}",
        sources=["experiment"],
        lineage={},
        settings_hash=settings.validation_hash,
        fitted_at=moment(now),
        tier=TIER,
        version=1 if snapshot.previous is None else snapshot.previous.look + 1,
        epoch=snapshot.sealed.version,
    )
