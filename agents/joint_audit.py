"""Fit the joint laws of one context from its joint cells, and withdraw them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from agents.audit import TIER, AuditHeading
from analytics.adjustment import LEAST_RELIABILITY
from analytics.joint_cells import JointCells
from analytics.joint_laws import fit_joint_law
from models.dimensions import LESS_IS_BETTER, Outcome
from models.errors import NotEnoughData
from models.joint_laws import JOINT, JointLaw, LawRecord
from models.laws import law_id

OUTCOMES = (Outcome.SUCCESS, Outcome.QUALITY_SCORE, Outcome.TOTAL_COST, Outcome.TIME_TO_COMPLETE)


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audit of a context gives.

    Attributes:
        heading: The context, and what its laws say alike.
        laws: Its laws of one dimension, and its joint laws.
        missing: Why it has no joint law, by the id that this would have.
    """

    heading: AuditHeading
    laws: Sequence[LawRecord]
    missing: Mapping[str, str] = field(default_factory=dict)


def audit_jointly(
    joint: JointCells, heading: AuditHeading, reliability: float = 1.0
) -> tuple[list[JointLaw], dict[str, str]]:
    """Fit success, quality, cost and time over all dimensions together.

    Args:
        joint: The runs of the context.
        heading: What the records say besides.
        reliability: Share of the complexity scores' variance that is real difficulty; with less than 0.8 no law is
            called adjusted.

    Returns:
        The laws, and by id why there is no such law.
    """
    laws: list[JointLaw] = []
    missing: dict[str, str] = {}
    for outcome in OUTCOMES:
        try:
            law = fit_joint_law(
                joint,
                outcome,
                context=heading.context,
                fitted_at=heading.fitted_at,
                settings_hash=heading.settings_hash,
                lineage=heading.lineage,
                sources=[str(source) for source in heading.sources],
                tier=TIER,
                epoch=heading.epoch,
                evidence=None if reliability >= LEAST_RELIABILITY else "associational",
            )
        except NotEnoughData as reason:
            missing[law_id(heading.context, JOINT, outcome, TIER)] = str(reason)
        else:
            laws.append(msgspec.structs.replace(law, epoch_since=heading.since))
    return laws, missing


def expired_jointly(identifier: str, heading: AuditHeading, reason: str | None = None) -> JointLaw:
    """Write the record that withdraws a joint law.

    Args:
        identifier: The law's id.
        heading: What the record says besides, of the law's own epoch.
        reason: Why.
    """
    context, _, outcome, tier = identifier.split("|")
    return JointLaw(
        law_id=identifier,
        tier=tier,
        context=context,
        outcome=outcome,
        version=1,
        epoch=heading.epoch,
        epoch_since=heading.since,
        fitted_at=heading.fitted_at,
        n=0,
        status="expired",
        evidence="associational",
        settings_hash=heading.settings_hash,
        link="log" if outcome in LESS_IS_BETTER else "logit",
        terms=[],
        coefficients=[],
        covariance=[],
        dispersion=0.0,
        support={},
        typical={},
        missing={"terms": reason or "the context no longer gives this law"},
        lineage={str(partition): offset for partition, offset in heading.lineage.items()},
    )
