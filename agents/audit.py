"""Fit the audited laws of one context from its joint cells."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from agents.examined import Examination, examined
from analytics.joint_cells import JointCells, Slot
from analytics.laws import Fitted, explained, fit_with_curve
from analytics.published import Fitting, by_hazards
from models.dimensions import BASES, Basis, Dimension, Outcome, Source
from models.laws import Law, Published, law_id

TIER = "audited"
NAMES = {"project": "projects", "task": "task groups"}
OUTCOMES = (Outcome.TOTAL_COST, *(outcome for outcome in Outcome if outcome is not Outcome.TOTAL_COST))
"""Costs come first: they price the steps of the other outcomes' knees."""


@dataclass(frozen=True, slots=True)
class AuditHeading:
    """What all laws of one audit of a context say alike.

    Attributes:
        context: The context's id.
        sources: Where the settings of its runs came from.
        lineage: Per source partition the first offset that is not in the cells.
        settings_hash: The hash of the settings that decide how events are read.
        fitted_at: The time of the fit (RFC 3339).
        epoch: Which epoch the runs are of; the next one begins when a law has drifted.
        since: When it began (RFC 3339); None for the first.
    """

    context: str
    sources: tuple[Source, ...]
    lineage: Mapping[int, int]
    settings_hash: str
    fitted_at: str
    epoch: int = 1
    since: str | None = None


def audit_context(joint: JointCells, heading: AuditHeading, fitting: Fitting, reliability: float = 1.0) -> list[Law]:
    """Fit the law of every dimension and outcome that some run of the context carries.

    Args:
        joint: The runs of the context.
        heading: What the records say besides.
        fitting: How to fit.
        reliability: Share of the complexity scores' variance that is real difficulty.
    """
    laws: list[Law] = []
    for dimension in Dimension:
        costs: dict[Basis, Published | None] = {}
        for outcome in OUTCOMES:
            basis = choose_basis(joint, dimension, outcome)
            if basis is None:
                continue
            slot, by = (dimension, basis), Examination(fitting, costs.get(basis), reliability)
            law = examined(audit_law(joint, slot, outcome, heading, fitting, by.cost), joint, slot, outcome, by)
            if outcome is Outcome.TOTAL_COST:
                costs[basis] = law.published
            laws.append(law)
    return laws


def audit_law(  # noqa: PLR0917 - what a law is made of
    joint: JointCells,
    slot: Slot,
    outcome: Outcome,
    heading: AuditHeading,
    fitting: Fitting,
    cost: Published | None = None,
) -> Fitted:
    """Fit one law as the runs stand; give its curve beside it.

    Args:
        joint: The runs of the context.
        slot: The dimension and the basis on which it is measured.
        outcome: What it buys.
        heading: What the record says besides.
        fitting: How to fit.
        cost: The cost law of the same slot, which prices the steps of a knee.

    Raises:
        NotEnoughData: No run carries both the dimension on this basis and the outcome.
    """
    dimension, basis = slot
    carried = joint.with_law(slot, outcome)
    clusters = carried.clusters()
    law, curve = fit_with_curve(
        joint.marginal(slot, outcome),
        fitting=fitting,
        cost=cost,
        clustered=None if clusters is None else carried.marginal(slot, outcome, clusters[1]),
        context=heading.context,
        dimension=dimension,
        outcome=outcome,
        basis=basis,
        sources=[str(source) for source in heading.sources],
        lineage=heading.lineage,
        settings_hash=heading.settings_hash,
        fitted_at=heading.fitted_at,
        tier=TIER,
        epoch=heading.epoch,
    )
    # Hazards are those of independent runs.
    told = None if by_hazards(dimension, outcome, basis) else clusters
    named = None if told is None else f"{len(np.unique(told[1]))} {NAMES[told[0]]}"
    return explained(msgspec.structs.replace(law, clusters=named, epoch_since=heading.since)), curve


def choose_basis(joint: JointCells, dimension: Dimension, outcome: Outcome) -> Basis | None:
    """Take the first basis with two distinct values among the runs with the outcome, else the first with any run."""
    distinct = {basis: _distinct(joint, (dimension, basis), outcome) for basis in BASES[dimension]}
    found = [basis for basis, values in distinct.items() if values]
    return next((basis for basis in found if distinct[basis] > 1), found[0] if found else None)


def expired(identifier: str, heading: AuditHeading, reason: str | None = None) -> Law:
    """Write the record that withdraws a law.

    Args:
        identifier: The law's id.
        heading: What the record says besides, of the law's own epoch.
        reason: Why; absent: no run of the epoch carries the dimension and the outcome.
    """
    context, dimension, outcome, tier = identifier.split("|")
    if reason is None and heading.since is None:
        reason = f"no run of the context carries {dimension} and {outcome} any more: they were corrected"
    elif reason is None:
        reason = (
            f"no run of the context completed since {heading.since}, when the law drifted, carries {dimension} and "
            f"{outcome}"
        )
    return Law(
        law_id=law_id(context, dimension, outcome, tier),
        tier=tier,
        context=context,
        dimension=dimension,
        outcome=outcome,
        version=1,
        epoch=heading.epoch,
        epoch_since=heading.since,
        fitted_at=heading.fitted_at,
        n=0,
        status="expired",
        evidence="associational",
        settings_hash=heading.settings_hash,
        missing={"values": reason},
        lineage={str(partition): offset for partition, offset in heading.lineage.items()},
    )


def _distinct(joint: JointCells, slot: Slot, outcome: Outcome) -> int:
    """Count the distinct settings, a bin as one; its nominal value is no whole number, so none is counted twice."""
    carried = joint.outcomes[outcome].n > 0
    if slot[1] is Basis.CATEGORY:
        rows = np.flatnonzero(carried).tolist()
        return len({joint.category[row] for row in rows} - {None})
    values = joint.design[slot][carried]
    return len(np.unique(values[~np.isnan(values)]))
