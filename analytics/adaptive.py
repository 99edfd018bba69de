"""Adaptive assignment: shares that follow what has been seen, and means that such an assignment does not bias.

An assignment that favours what did well stops early on whatever began badly, and its mean stays low: naive means are
biased by 3 to 5 points. With each propensity logged and none below 5 %, inverse propensity weighting undoes it.

References:
    Neyman (1934), "On the Two Different Aspects of the Representative Method".
    Thompson (1933), "On the Likelihood that One Unknown Probability Exceeds Another".
    Hadad et al. (2021), "Confidence intervals for policy evaluation in adaptive experiments".
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from analytics.moments import Floats, Ints
from analytics.randomisation import seed
from models.errors import NotEnoughData

FLOOR = 0.05
"""The least share of each value: without one the intervals of values seldom drawn cover as little as 61 %."""


@dataclass(frozen=True, slots=True, eq=False)
class AdaptiveMeans:
    """The mean of each value [m] and its variance [m]; the errors of different values are nearly uncorrelated."""

    mean: Floats
    variance: Floats


def neyman_shares(ln_x: Floats, sd: Floats, balanced: float = 0.5) -> Floats:
    """Give the shares at which the slope of the means on ln x is known best, mixed with equal ones.

    Equation: share_v = balanced / m + (1 - balanced) |ln x_v - mean| sd_v / Σ. Alone (balanced = 0), the second part is
    where Var = Σ (ln x_v - mean)² sd_v² / share_v is least: 0.70 of that of equal shares at 1, 2, 3, 4, 6, 8. Half
    of it leads to 0.78, with runs left in the middle to see whether the law is a line.

    Args:
        ln_x: Of each value. [m]
        sd: Of single runs at each. [m]
        balanced: The part that is shared out equally, in [0, 1].

    Raises:
        NotEnoughData: The values, or the runs at each of them, do not vary.
    """
    pull = np.abs(ln_x - ln_x.mean()) * sd
    total = float(pull.sum())
    if not total > 0:
        raise NotEnoughData("shares for a slope need values and outcomes that vary: assign equally until they do")
    return np.asarray(balanced / len(ln_x) + (1 - balanced) * pull / total)


def thompson_shares(
    mean: Floats,
    se: Floats,
    key: bytes,
    batch: int,
    *,
    floor: float = FLOOR,
    draws: int = 4000,
    more_is_better: bool = True,
) -> Floats:
    """Give each value its probability of being the best, and none less than a floor.

    Equation: share_v = floor + (1 - m floor) P(v is best), θ_v ~ N(mean_v, se_v²) independent. P is the frequency in
    draws that the key and the batch determine, so that the shares can be had again; they are the propensities.

    Args:
        mean: Of each value, from earlier batches. [m]
        se: Its standard error. [m]
        key: The key of the experiment's randomisation.
        batch: The number of the batch that is to be assigned.
        floor: The least share, below 1 / m.
        draws: How many.
        more_is_better: Whether the best has the largest mean.

    Raises:
        NotEnoughData: A standard error not above zero, or a floor too high for so many values.
    """
    m = len(mean)
    if not bool(((se > 0) & np.isfinite(se) & np.isfinite(mean)).all()):
        raise NotEnoughData("shares by the chance of being best need means with errors above 0: assign equally first")
    if not 0 <= floor * m < 1:
        message = f"{m} values cannot each have a share of {floor:g} and leave something: lower the floor"
        raise NotEnoughData(message)
    # The words of a bit generator stay the same in all versions of numpy, the draws of its distributions need not.
    words = np.asarray(np.random.PCG64(seed(key, "thompson", batch)).random_raw(draws * m), np.uint64)
    z = ndtri(((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53).reshape(draws, m)
    drawn = (mean if more_is_better else -mean) + se * z
    best = np.bincount(drawn.argmax(axis=1), minlength=m) / draws
    return np.asarray(floor + (1 - m * floor) * best)


def adaptive_means(y: Floats, arm: Ints, propensities: Floats, batch: Ints) -> AdaptiveMeans:
    """Estimate the mean of each value from runs whose assignment followed earlier outcomes.

    Equation: Γ_tv = 1{a_t = v} / π_tv (y_t - μ_tv) + μ_tv, mean_v = Σ h Γ / Σ h, variance_v = Σ h² (Γ - mean_v)² /
    (Σ h)², h = √π_tv. μ_tv is the mean of the value in earlier batches, or of all values where it had no run; in the
    first batch it is the mean of that batch's other runs. Thus μ never knows the run itself, and the estimates move
    with the origin of y.

    Args:
        y: Outcomes. [N]
        arm: The place of each run's value. [N]
        propensities: P(value v) as it was when run t was assigned, above zero. [N, m]
        batch: Propensities change between batches only; later ones have larger numbers. [N]

    Raises:
        NotEnoughData: A value with fewer than two runs, a propensity not above zero, or outcomes that do not vary.
    """
    m = propensities.shape[1]
    runs = np.bincount(arm, minlength=m)
    if int(runs.min()) < 2:  # noqa: PLR2004 - a variance
        message = f"a mean needs at least 2 runs at each value, there are {runs.tolist()}: assign more"
        raise NotEnoughData(message)
    if not bool((propensities > 0).all()):
        raise NotEnoughData("a propensity is not above 0: runs that had to be elsewhere say nothing of a value")
    origin = float(y[0])
    expected, known = _expected(y - origin, arm, batch, m)
    score = expected.copy()
    at = np.arange(len(y)), arm
    score[at] += (y - origin - expected[at]) / propensities[at]
    h = np.sqrt(propensities) * known[:, None]
    weight = h / h.sum(axis=0)
    mean = (weight * score).sum(axis=0)
    variance = (weight**2 * (score - mean) ** 2).sum(axis=0)
    if not bool((variance > 0).all()):
        raise NotEnoughData("the runs all brought the same: there is no error to estimate; collect more runs")
    return AdaptiveMeans(origin + mean, variance)


def _expected(y: Floats, arm: Ints, batch: Ints, m: int) -> tuple[Floats, Floats]:
    """Foretell each run at each value without it [N, m]; 0 where nothing else is known, 1 elsewhere [N]."""
    numbers, place = np.unique(batch, return_inverse=True)
    cells = place * m + arm
    shape = len(numbers), m
    n = np.bincount(cells, minlength=shape[0] * m).reshape(shape)
    total = np.bincount(cells, y, shape[0] * m).reshape(shape)
    n_before, before = n.cumsum(axis=0) - n, total.cumsum(axis=0) - total
    all_before = n_before.sum(axis=1, keepdims=True)
    overall = before.sum(axis=1, keepdims=True) / np.maximum(all_before, 1)
    expected = np.where(n_before > 0, before / np.maximum(n_before, 1), overall)[place]
    first = place == 0
    others = int(n[0].sum()) - 1
    expected[first] = ((total[0].sum() - y[first]) / max(others, 1))[:, None]
    return expected, np.where(first & (others == 0), 0.0, 1.0)
