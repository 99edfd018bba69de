"""What joint cells add to an audited law: adjustment, trials on unseen runs, the law of time against parallelism."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from analytics.adjustment import ON_LOG_SCALE, adjusted_means, evidence
from analytics.averaging import average
from analytics.cells import LawCells
from analytics.joint_cells import JointCells, Slot
from analytics.laws import MOST_REPEATED, Fitted, attempt, explained, knee_of, status_of, supporting_runs
from analytics.moments import Floats
from analytics.points import independent
from analytics.published import Curve, Fitting, by_hazards, curve_families, promise_of, publish_adjusted
from analytics.scalability import fit_time
from analytics.standardisation import StandardisedMeans
from analytics.validation import FoldedRows, Predict, five_fold, folded_rows, holdout
from models.dimensions import LESS_IS_BETTER, Basis, Dimension, Outcome
from models.laws import Adjusted, Holdout, Law, Published, Validation

ADJUSTED = "adjusted"


@dataclass(frozen=True, slots=True)
class Examination:
    """What an examination goes by.

    Attributes:
        fitting: How laws are fitted.
        cost: The cost law of the same slot, which prices the steps of a knee.
        reliability: Share of the complexity scores' variance that is real difficulty.
    """

    fitting: Fitting
    cost: Published | None
    reliability: float


def examined(found: Fitted, joint: JointCells, slot: Slot, outcome: Outcome, by: Examination) -> Law:
    """Add to an audited law what only joint cells can tell; what they cannot is named in `missing`.

    Where the law is adjusted, the published curve, its knee and its trend are those of the adjusted means.

    Args:
        found: The law, and its curve.
        joint: The runs of its context.
        slot: Its dimension and basis.
        outcome: Its outcome.
        by: What the examination goes by.
    """
    law, naive = found
    missing = dict(law.missing)
    reason = None
    if slot[1] is Basis.CATEGORY or naive is None:
        reason = missing.get("published", "there is no published law to examine")
    elif by_hazards(slot[0], outcome, slot[1]):
        reason = "the law is one of allowed attempts, from hazards: runs by attempts made are no test of it"
    if reason is not None or naive is None:
        missing |= {"adjusted": reason or "", "validation": reason or ""}
        return explained(structs.replace(law, missing=missing))
    validation = Validation(
        holdout=attempt("validation.holdout", missing, lambda: _tried(joint, slot, outcome, holdout)),
        five_fold=attempt("validation.five_fold", missing, lambda: _tried(joint, slot, outcome, five_fold)),
    )
    scalability = None
    if (slot[0], outcome) == (Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE):
        cells = joint.marginal(slot, outcome)
        above = LawCells(cells.where(cells.value > 0))
        scalability = attempt("scalability", missing, lambda: fit_time(above, outcome).law())
    law = structs.replace(law, validation=validation, scalability=scalability, missing=missing)
    compared = attempt("adjusted", missing, lambda: adjusted_means(joint, slot, outcome))
    return explained(law if compared is None else _adjusted(law, naive, compared, slot, by))


def _adjusted(law: Law, naive: Curve, compared: tuple[Adjusted, StandardisedMeans], slot: Slot, by: Examination) -> Law:
    """Let the adjusted means speak, where complexity is reliable enough for them."""
    adjusted, means = compared
    missing, outcome = dict(law.missing), Outcome(law.outcome)
    if len(adjusted.values) > MOST_REPEATED:
        missing["adjusted.values"] = f"{len(adjusted.values)} rows would outgrow the record: the curve is what they say"
        adjusted = structs.replace(adjusted, values=[])
    grade = evidence(adjusted, by.reliability)
    law = structs.replace(
        law,
        adjusted=adjusted,
        evidence=grade,
        confounding_gap=adjusted.gap,
        tipping_reliability=adjusted.tipping_reliability,
        missing=missing,
    )
    if grade != ADJUSTED:
        return law
    curve = attempt("published", missing, lambda: publish_adjusted(means, naive, slot[0], outcome, by.fitting))
    if curve is None:
        return structs.replace(law, published=None, knee=None, promise=None, trend=None, e_value=None)
    runs, basis = supporting_runs(means.weight), slot[1]
    missing.pop("knee", None)
    knee = attempt("knee", missing, lambda: knee_of(curve, slot[0], outcome, basis, by.fitting, by.cost, runs))
    return structs.replace(
        law,
        published=curve.published,
        knee=knee,
        promise=None
        if outcome is Outcome.TOTAL_COST
        else promise_of(curve.average.points, less_is_better=outcome in LESS_IS_BETTER),
        trend=curve.trend,
        e_value=curve.e_value,
        status=status_of(runs, curve, category=False),
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
