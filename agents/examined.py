"""What joint cells add to an audited law: adjustment, trials on unseen runs, the law of time against parallelism."""

from collections.abc import Callable

import msgspec

from analytics.adjustment import ON_LOG_SCALE, adjust, evidence
from analytics.averaging import average
from analytics.cells import LawCells
from analytics.joint_cells import JointCells, Slot
from analytics.laws import MOST_REPEATED, attempt, explained
from analytics.moments import Floats
from analytics.points import independent
from analytics.published import curve_families
from analytics.scalability import fit_time
from analytics.validation import FoldedRows, Predict, five_fold, folded_rows, holdout
from models.dimensions import Basis, Dimension, Outcome
from models.laws import Holdout, Law, Validation


def examined(law: Law, joint: JointCells, slot: Slot, outcome: Outcome, reliability: float) -> Law:
    """Add to an audited law what only joint cells can tell; what they cannot is named in `missing`.

    Args:
        law: The law.
        joint: The runs of its context.
        slot: Its dimension and basis.
        outcome: Its outcome.
        reliability: Share of the complexity scores' variance that is real difficulty.
    """
    missing = dict(law.missing)
    if slot[1] is Basis.CATEGORY or law.published is None:
        reason = missing.get("published", "there is no published law to examine")
        missing |= {"adjusted": reason, "validation": reason}
        return explained(msgspec.structs.replace(law, missing=missing))
    adjusted = attempt("adjusted", missing, lambda: adjust(joint, slot, outcome))
    validation = Validation(
        holdout=attempt("validation.holdout", missing, lambda: _tried(joint, slot, outcome, holdout)),
        five_fold=attempt("validation.five_fold", missing, lambda: _tried(joint, slot, outcome, five_fold)),
    )
    if adjusted is not None and len(adjusted.values) > MOST_REPEATED:
        missing["adjusted.values"] = f"{len(adjusted.values)} rows would outgrow the record: the slope is what they say"
        adjusted = msgspec.structs.replace(adjusted, values=[])
    scalability = None
    if (slot[0], outcome) == (Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE):
        cells = joint.marginal(slot, outcome)
        above = LawCells(cells.where(cells.value > 0))
        scalability = attempt("scalability", missing, lambda: fit_time(above, outcome).law())
    return explained(
        msgspec.structs.replace(
            law,
            adjusted=adjusted,
            evidence=law.evidence if adjusted is None else evidence(adjusted, reliability),
            confounding_gap=None if adjusted is None else adjusted.gap,
            tipping_reliability=None if adjusted is None else adjusted.tipping_reliability,
            validation=validation,
            scalability=scalability,
            missing=missing,
        )
    )


def _tried(
    joint: JointCells, slot: Slot, outcome: Outcome, trial: Callable[[FoldedRows, Callable[..., Predict]], Holdout]
) -> Holdout:
    """Try the averaged law on held-out folds, on the scale on which it is fitted."""
    rows = folded_rows(joint, slot, ON_LOG_SCALE.get(outcome, outcome))
    kept = rows.x > 0
    rows = FoldedRows(rows.x[kept], rows.n[kept], rows.mean[kept], rows.m2[kept], rows.fold[kept])
    names = curve_families(slot[0], outcome)

    def fit(x: Floats, n: Floats, mean: Floats, m2: Floats) -> Predict:
        points = independent(x, n, mean, m2, binary=outcome is Outcome.SUCCESS)

        def predict(at: Floats) -> Floats:
            return average(points, names, draws=1, also=at).mean[len(x) :]

        return predict

    return trial(rows, fit)
