"""Validation: a law is tried on runs that it has not seen, and the laws of other contexts on this one's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import fdtrc

from analytics.intervals import LEVEL, t_quantile
from analytics.joint_cells import FOLDS, JointCells, Slot
from analytics.least_squares import sandwich
from analytics.moments import Floats, Ints
from analytics.pooling import MIN_CONTEXTS, SCALE, expect_estimates, pool
from models.dimensions import Basis, Outcome, Variable
from models.errors import NotEnoughData
from models.laws import Estimate, Holdout, Transfer, Validation

Predict = Callable[[Floats], Floats]
Fit = Callable[[Floats, Floats, Floats, Floats], Predict]
"""Learns from x, n, mean and m2 [R], one row for each distinct x; gives a law that predicts the mean at any x."""

HELD_OUT = 0
"""The fold that the 80/20 holdout leaves out."""

ALPHA = 0.01
"""Level at which held-out values must differ from the baseline before a skill, a ratio of differences, is told."""

VARIES = 1e-9
"""Predictions that differ by less than this share of their size are one prediction."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldedRows:
    """Runs, mean and squared deviations of an outcome, one row for each x and fold, in their order; all [R]."""

    x: Floats
    n: Floats
    mean: Floats
    m2: Floats
    fold: Ints

    @classmethod
    def merge(cls, x: Floats, n: Floats, mean: Floats, m2: Floats, fold: Ints) -> Self:
        """Merge rows that share x and fold; rows without runs are left out."""
        kept = n > 0
        values, place = np.unique(x[kept], return_inverse=True)
        folds, which = np.unique(fold[kept], return_inverse=True)
        keys, group = np.unique(place * max(len(folds), 1) + which, return_inverse=True)
        merged = merge_groups(group, len(keys), n[kept], mean[kept], m2[kept])
        return cls(values[keys // max(len(folds), 1)], *merged, folds[keys % max(len(folds), 1)])


def holdout(rows: FoldedRows, fit: Fit, *, level: float = LEVEL) -> Holdout:
    """Learn on four folds and try the law on the fifth, fold 0; see `score`.

    Raises:
        NotEnoughData: No run is in fold 0 or none outside it, no held-out value has two runs, the law
            predicts no number at a held-out value, or the fit raises it.
    """
    return _validate(rows, fit, (HELD_OUT,), level)


def five_fold(rows: FoldedRows, fit: Fit, *, level: float = LEVEL) -> Holdout:
    """Leave out each fold in turn and score all held-out runs together.

    Raises:
        NotEnoughData: As `holdout`, for any fold.
    """
    return _validate(rows, fit, tuple(range(FOLDS)), level)


def validate(joint: JointCells, slot: Slot, outcome: Outcome, fit: Fit) -> Validation:
    """Validate one law of a context on the joint cells' folds: the holdout, and all five folds.

    Raises:
        NotEnoughData: As `folded_rows`, `holdout` and `five_fold`.
    """
    rows = folded_rows(joint, slot, outcome)
    return Validation(holdout=holdout(rows, fit), five_fold=five_fold(rows, fit))


def folded_rows(joint: JointCells, slot: Slot, outcome: Outcome | Variable) -> FoldedRows:
    """Merge joint cells into the rows of one law; a bin's x is the geometric mean of all its runs.

    Raises:
        NotEnoughData: No run carries both the dimension and the outcome, or the basis has no numbers.
    """
    if slot[1] is Basis.CATEGORY:
        raise NotEnoughData(f"{slot[0]} has categories, not numbers: a law of numbers cannot be tried on them")
    moments = joint.outcomes[outcome]
    kept = np.flatnonzero(~np.isnan(joint.design[slot]) & (moments.n > 0))
    if not len(kept):
        raise NotEnoughData(f"no run carries both {slot[0]} and {outcome}: publish runs that do")
    n, design, binned = moments.n[kept], joint.design[slot][kept], joint.binned[slot][kept]
    keys, group = np.unique(np.where(binned, -1 - design, design), return_inverse=True)
    size = _sums(group, len(keys), n)
    ln_x = _sums(group, len(keys), n * joint.ln_x[slot][kept]) / size
    x = np.where(keys < 0, np.exp(ln_x), keys)[group]
    return FoldedRows.merge(x, n, moments.mean[kept], moments.m2[kept], joint.fold[kept])


def score(rows: FoldedRows, predicted: Floats, baseline: Floats, *, level: float = LEVEL) -> Holdout:
    """Score predictions of held-out rows.

    Equation: loss = Σ (m2 + n (ȳ - f)²) / N, the mean squared error of single runs; baseline the same with the training
    mean for f. The ceiling is the loss of the true law, estimated without bias by the noise around the held-out value
    means: Σ_v n_v s_v² / N, s_v² = m2_v / (n_v - 1), and the pooled s² where n_v = 1. (Σ m2 / N is what a law reaches
    that has seen the held-out runs: at 6 runs a value the truth that explains 15 % would seem to have half its skill.)

    skill = (baseline - loss) / (baseline - ceiling) where the V held-out values differ from the baseline: an F test of
    Σ n_v (ȳ_v - baseline)² / V over the ceiling at .01; None otherwise. The calibration is the weighted regression of
    held-out means on their predictions, with HC3 errors; None where the predictions do not vary.

    Args:
        rows: Held-out rows.
        predicted: What the law says at each. [R]
        baseline: The mean of the runs that the law was learnt on. [R]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: No value has two held-out runs.
    """
    total = float(rows.n.sum())
    x, place = np.unique(rows.x, return_inverse=True)
    n, mean, m2 = merge_groups(place, len(x), rows.n, rows.mean, rows.m2)
    if total <= len(x):
        message = f"the {total:g} held-out runs are all at different values: noise needs two at one; collect more runs"
        raise NotEnoughData(message)
    pooled = float(m2.sum()) / (total - len(x))
    ceiling = float(n @ np.where(n > 1, m2 / np.maximum(n - 1, 1), pooled)) / total
    within = float(rows.m2.sum())
    loss = (within + float(rows.n @ (rows.mean - predicted) ** 2)) / total
    without = (within + float(rows.n @ (rows.mean - baseline) ** 2)) / total
    flat = _sums(place, len(x), rows.n * baseline) / n
    differ = float(n @ (mean - flat) ** 2)
    by_chance = float(fdtrc(len(x), total - len(x), differ / ceiling / len(x))) if ceiling > 0 else 0.0
    told = without > ceiling and by_chance < ALPHA
    return Holdout(
        loss=loss,
        ceiling=ceiling,
        baseline=without,
        skill=(without - loss) / (without - ceiling) if told else None,
        calibration=_calibration(rows, predicted, level),
        n=int(total),
    )


def leave_one_context_out(
    estimates: Floats, variances: Floats, *, scale: float = SCALE, level: float = LEVEL
) -> list[Transfer]:
    """Predict each context's slope from the others', by the interval for a context not seen yet.

    `predicted` is the distribution of the left-out estimate, its own error included; `covered` and `coverage` refer to
    it. skill = 1 - Σ (β̂ - predicted)² / Σ β̂²: 1 if the others foretell the slope, 0 if they do no better than the
    plain mean of the outcome, a law of slope zero; None where all slopes are zero.

    Args:
        estimates: Slopes on ln x, one for each context. [K]
        variances: Their error variances. [K]
        scale: As in `pooling.pool`.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than four contexts, or an estimate without a positive variance.
    """
    contexts = expect_estimates(estimates, variances)
    if contexts <= MIN_CONTEXTS:
        message = (
            f"transfer needs at least {MIN_CONTEXTS + 1} contexts, there are {contexts}: run in other contexts too"
        )
        raise NotEnoughData(message)
    predictions = [
        pool(np.delete(estimates, k), np.delete(variances, k), scale=scale, level=level).new_context(
            float(variances[k])
        )
        for k in range(contexts)
    ]
    covered = [each.lo <= value <= each.hi for each, value in zip(predictions, estimates.tolist(), strict=True)]
    miss = estimates - np.array([each.estimate for each in predictions])
    flat = float(estimates @ estimates)
    return [
        Transfer(
            contexts=contexts,
            coverage=sum(covered) / contexts,
            skill=1 - float(miss @ miss) / flat if flat > 0 else None,
            predicted=predicted,
            covered=inside,
        )
        for predicted, inside in zip(predictions, covered, strict=True)
    ]


def merge_groups(group: Ints, groups: int, n: Floats, mean: Floats, m2: Floats) -> tuple[Floats, Floats, Floats]:
    """Merge rows [R] into groups [G]: n, mean and squared deviations of each, in two passes."""
    size = _sums(group, groups, n)
    centre = _sums(group, groups, n * mean) / size
    away = mean - centre[group]
    shift = _sums(group, groups, n * away) / size
    away = away - shift[group]
    return size, centre + shift, _sums(group, groups, m2 + n * away * away)


def _sums(group: Ints, groups: int, values: Floats) -> Floats:
    return np.bincount(group, weights=values, minlength=groups).astype(np.float64)


def _validate(rows: FoldedRows, fit: Fit, folds: tuple[int, ...], level: float) -> Holdout:
    tested = np.isin(rows.fold, folds)
    predicted, baseline = np.zeros(len(rows.x)), np.zeros(len(rows.x))
    for fold in folds:
        held = rows.fold == fold
        if not held.any() or held.all():
            where = "in" if held.all() else "outside"
            message = f"all {rows.n.sum():g} runs are {where} fold {fold}: a holdout needs both; collect more runs"
            raise NotEnoughData(message)
        learnt = ~held
        x, place = np.unique(rows.x[learnt], return_inverse=True)
        n, mean, m2 = merge_groups(place, len(x), rows.n[learnt], rows.mean[learnt], rows.m2[learnt])
        predicted[held] = fit(x, n, mean, m2)(rows.x[held])
        baseline[held] = float(n @ mean) / float(n.sum())
    if not np.isfinite(predicted).all():
        message = f"the law predicts no number at x = {rows.x[~np.isfinite(predicted)][0]:g}: collect more runs there"
        raise NotEnoughData(message)
    out = FoldedRows(rows.x[tested], rows.n[tested], rows.mean[tested], rows.m2[tested], rows.fold[tested])
    return score(out, predicted[tested], baseline[tested], level=level)


def _calibration(rows: FoldedRows, predicted: Floats, level: float) -> Estimate | None:
    """Regress the held-out means on their predictions."""
    n, total = rows.n, float(rows.n.sum())
    centre = float(n @ predicted) / total
    away = predicted - centre
    spread = float(n @ (away * away))
    if spread <= total * (VARIES * max(abs(centre), 1e-3)) ** 2 or total <= 2:  # noqa: PLR2004 - a line
        return None
    level_out = float(n @ rows.mean) / total
    slope = float((n * away) @ (rows.mean - level_out)) / spread
    residual = rows.mean - level_out - slope * away
    covariance, _, dof = sandwich(
        (away / spread)[:, None], 1 / total + away * away / spread, residual, rows.m2, n, error="HC3"
    )
    se = float(covariance[0, 0]) ** 0.5
    half = t_quantile(dof - 1, level) * se
    return Estimate(slope, se, slope - half, slope + half)
