"""Arm means: what each value of an experiment brought, with the covariance of their errors, however values were drawn.

This is the seam of an experiment's analysis: plain means, means with complexity taken out, means by time block and
means of adaptive assignment all come as one vector with one covariance, and effects are linear in it.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from analytics.adaptive import adaptive_means
from analytics.confidence_sequences import confidence_sequence, e_value
from analytics.covariate import without_covariate
from analytics.intervals import t_quantile, z_quantile
from analytics.moments import Floats
from analytics.points import Points, independent
from analytics.simultaneous import dunnett_p, dunnett_quantile, max_z_quantile
from analytics.trial_rows import TrialRows
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.experiments import Contrast, Definition, Effect
from models.laws import Estimate

PLANNED_SD = {
    Outcome.SUCCESS: 0.5,
    Outcome.QUALITY_SCORE: 0.2,
    Outcome.TIME_TO_COMPLETE: 0.8,
    Outcome.TOTAL_COST: 0.8,
}
"""Standard deviation of a run about its value's mean that sequences are tuned for; fixed, so that no look moves it."""

LEAST_RUNS = 2
DRAWN_BY_OUTCOMES = frozenset({"neyman", "thompson"})
ADJUSTABLE = frozenset({"blocks", "least"})
"""Assignments that look neither at outcomes nor at the clock: their runs are independent."""


@dataclass(frozen=True, slots=True, eq=False)
class ArmMeans:
    """The mean outcome at each of m values.

    Attributes:
        n: Runs. [m]
        mean: On the scale of the outcome. [m]
        covariance: Of the means. [m, m]
        stretch: What intervals are stretched by for few time blocks, at least 1.
        saved: The share of variance that complexity explained; None where it was not taken out.
    """

    n: Floats
    mean: Floats
    covariance: Floats
    stretch: float = 1.0
    saved: float | None = None

    @property
    def variance(self) -> Floats:
        """Give the variance of each mean. [m]."""
        return np.diag(self.covariance)

    def estimates(self, level: float) -> list[Estimate]:
        """Give each mean with its interval for one look."""
        se = np.sqrt(self.variance) * self.stretch
        half = z_quantile(level) * se
        columns = (self.mean, se, self.mean - half, self.mean + half)
        return [Estimate(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def arm_means(rows: TrialRows, definition: Definition, outcome: Outcome, *, adjusted: bool = False) -> ArmMeans:
    """Estimate the mean outcome at each value, as the assignment demands.

    Args:
        rows: The counted runs.
        definition: Says how values were drawn.
        outcome: Whose mean.
        adjusted: Take out what complexity explains, where values were drawn without regard to outcomes and time.

    Raises:
        NotEnoughData: A value has fewer than two measured runs (or time blocks), or outcomes do not vary.
    """
    seen, values = rows.seen(), len(definition.values_tested)
    n = np.bincount(seen.arm, minlength=values).astype(np.float64)
    if n.min() < LEAST_RUNS:
        short = text(definition.values_tested[int(n.argmin())])
        raise NotEnoughData(f"value {short} has {n.min():g} measured runs and needs {LEAST_RUNS}: wait for outcomes")
    if definition.assignment in DRAWN_BY_OUTCOMES:
        found = adaptive_means(seen.y, seen.arm, seen.propensities, seen.batch)
        return ArmMeans(n, found.mean, np.diag(found.variance))
    mean = np.bincount(seen.arm, seen.y, values) / n
    m2 = np.bincount(seen.arm, (seen.y - mean[seen.arm]) ** 2, values)
    places = np.arange(1, values + 1).astype(np.float64)
    points = independent(places, n, mean, m2.astype(np.float64), binary=outcome is Outcome.SUCCESS)
    if definition.assignment == "switchback":
        return _by_time(seen, points)
    if not adjusted:
        return ArmMeans(n, mean, points.covariance)
    without = without_covariate(seen.y, seen.arm, seen.complexity, values)
    # A value whose runs are all alike has no residual variance of its own; that of its mean is never below the pooled.
    floor = np.where(m2 > 0, 0.0, points.variance)
    covariance = without.covariance + np.diag(np.maximum(floor - np.diag(without.covariance), 0.0))
    return ArmMeans(n, without.mean, covariance, saved=without.saved)


def effect_weights(definition: Definition) -> tuple[Floats, str]:
    """Give the weights w [m] whose sum w' mean is the effect, and what it is in words.

    Equation: slope: w = (ln x - mean) / Σ (ln x - mean)² · ln(max / min), the change along the line that least squares
    puts through the values' means; contrast: 1 at the contrasted value, -1 at the control.
    """
    values = definition.values_tested
    if definition.estimand == "contrast":
        last = values[-1] if values[-1] != definition.control_value else values[-2]
        other = last if definition.contrast_value is None else definition.contrast_value
        weights = np.zeros(len(values))
        weights[values.index(other)], weights[values.index(definition.control_value)] = 1.0, -1.0
        return weights, f"from {text(definition.control_value)} to {text(other)}"
    ln_x = np.log(np.array(values, np.float64))
    away = ln_x - ln_x.mean()
    return away / float(away @ away) * float(
        np.ptp(ln_x)
    ), f"along the line from {text(values[0])} to {text(values[-1])}"


def planned_information(definition: Definition, outcome: Outcome, weights: Floats) -> float:
    """Give I*, the information 1/SE² of the effect at the planned size: n / (sd² Σ w²), sd as in PLANNED_SD."""
    return definition.planned_per_value / (PLANNED_SD[outcome] ** 2 * float(weights @ weights))


def effect_of(means: ArmMeans, definition: Definition, outcome: Outcome, before: Effect | None = None) -> Effect:
    """Estimate the effect with its intervals for one look and for any look.

    Args:
        means: The values' means.
        definition: Estimand, alpha and planned size.
        outcome: Whose effect.
        before: The effect at the look before. What was ruled out then stays ruled out: intervals that hold at all looks
            together hold together with their intersection, so late outcomes do not take a verdict back.

    Raises:
        NotEnoughData: The effect has no error.
    """
    weights, what = effect_weights(definition)
    alpha, estimate = definition.alpha, float(weights @ means.mean)
    se = math.sqrt(max(float(weights @ means.covariance @ weights), 0.0)) * means.stretch
    tuned = planned_information(definition, outcome, weights)
    lo, hi = confidence_sequence(estimate, se, tuned, alpha)
    evidence = float(e_value(estimate, se, tuned, alpha=alpha))
    best = evidence if before is None else max(before.best_e_value, evidence)
    low, high = float(lo), float(hi)
    if before is not None and max(before.anytime_lo, low) <= min(before.anytime_hi, high):
        low, high = max(before.anytime_lo, low), min(before.anytime_hi, high)
    half, equivalence = z_quantile(1 - alpha) * se, z_quantile(1 - 2 * alpha) * se
    return Effect(
        outcome=outcome.value,
        what=what,
        estimate=Estimate(estimate, se, estimate - half, estimate + half),
        anytime_lo=low,
        anytime_hi=high,
        e_value=evidence,
        best_e_value=best,
        anytime_p=min(1.0, 1.0 / best),
        p=float(2 * ndtr(-abs(estimate) / se)),
        equivalence_lo=estimate - equivalence,
        equivalence_hi=estimate + equivalence,
        n=int(means.n.sum()),
    )


def contrasts_of(means: ArmMeans, definition: Definition, outcome: Outcome) -> list[Contrast]:
    """Compare every value with the control: intervals that hold together, for one look (Dunnett) and for any look.

    Raises:
        NotEnoughData: A contrast has no error.
    """
    values, alpha = definition.values_tested, definition.alpha
    control = values.index(definition.control_value)
    others = [place for place in range(len(values)) if place != control]
    pick = np.zeros((len(others), len(values)))
    pick[np.arange(len(others)), others], pick[:, control] = 1.0, -1.0
    difference = pick @ means.mean
    covariance = pick @ means.covariance @ pick.T
    se = np.sqrt(np.diag(covariance)) * means.stretch
    if np.count_nonzero(means.covariance) == len(values):
        quantile = dunnett_quantile(means.variance, control, 1 - alpha)
        p = dunnett_p(difference / se, means.variance, control)
    else:
        correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
        quantile = max_z_quantile(correlation, 1 - alpha)
        p = np.minimum(1.0, 2 * len(others) * ndtr(-np.abs(difference) / se))
    # Each at alpha over their number, so that all hold together whenever one looks.
    each = alpha / len(others)
    tuned = definition.planned_per_value / (2 * PLANNED_SD[outcome] ** 2)
    lo, hi = confidence_sequence(difference, se, tuned, each)
    evidence = e_value(difference, se, tuned, alpha=each)
    return [
        Contrast(
            value=values[other],
            over=definition.control_value,
            difference=Estimate(
                float(difference[at]),
                float(se[at]),
                float(difference[at] - quantile * se[at]),
                float(difference[at] + quantile * se[at]),
            ),
            anytime_lo=float(lo[at]),
            anytime_hi=float(hi[at]),
            e_value=float(evidence[at]),
            p=float(p[at]),
        )
        for at, other in enumerate(others)
    ]


def text(value: float | str) -> str:
    """Write a value for people."""
    return value if isinstance(value, str) else f"{value:g}"


def _by_time(seen: TrialRows, points: Points) -> ArmMeans:
    """Let time blocks, not runs, be what was randomised.

    Equation: V_v = max(B_v / (B_v - 1) Σ_b (Σ_run (y - ȳ_v) / n_v)², that of independent runs), B_v its blocks;
    stretch = t / z, t with Σ B_v - m degrees of freedom. Every block has one value, so that errors are independent.

    Raises:
        NotEnoughData: A value has fewer than two time blocks.
    """
    values = len(points.x)
    (arm, _), row = np.unique(np.stack((seen.arm, seen.cluster)), axis=1, return_inverse=True)
    blocks = np.bincount(arm, minlength=values)
    if blocks.min() < LEAST_RUNS:
        raise NotEnoughData(
            f"every value needs {LEAST_RUNS} time blocks, one has {blocks.min()}: wait for the next ones"
        )
    n = np.bincount(seen.arm, minlength=values).astype(np.float64)
    away = np.bincount(row.reshape(-1), seen.y - points.mean[seen.arm]) / n[arm]
    variance = blocks / (blocks - 1) * np.bincount(arm, away * away, values)
    stretch = t_quantile(float(blocks.sum()) - values) / z_quantile()
    return ArmMeans(n, points.mean, np.diag(np.maximum(variance, points.variance)), stretch)
