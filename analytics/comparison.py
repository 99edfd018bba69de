"""Comparison: whether contexts scale alike, and which pairs of them do not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, fdtrc, stdtr, stdtrit

from analytics.intervals import LEVEL, t_quantile
from analytics.moments import Floats
from analytics.pooling import expect_estimates
from models.errors import NotEnoughData
from models.laws import Estimate

MANY_RUNS = 50
"""Runs at each value from which a context's own variance is exact enough for Cochran's Q."""


@dataclass(frozen=True, slots=True)
class ContextSlope:
    """A context's slope (or exponent), and what it was learnt from.

    Attributes:
        context: Its name.
        slope: The slope with its robust error.
        n: Runs.
        values: Distinct values of the dimension.
        spread: Σ n (g - ḡ)² of the regressor g, ln x for a slope on ln x; it tells contexts with wide designs.
        dof: Degrees of freedom of the slope's error: clusters less one where it is clustered; n - 2 where absent.
    """

    context: str
    slope: Estimate
    n: int
    values: int
    spread: float
    dof: int | None = None


@dataclass(frozen=True, slots=True)
class Heterogeneity:
    """Cochran's test that all contexts have one slope.

    Attributes:
        q: Σ (β̂ - β̄)² / V, β̄ the precision-weighted mean.
        dof: K - 1.
        p: Of q if the slopes are equal.
        i_squared: The share of the slopes' variation that error does not explain, 0 to 1.
        common: The precision-weighted mean slope.
        pooled_variance: Whether the contexts share one variance per run.
    """

    q: float
    dof: int
    p: float
    i_squared: float
    common: Estimate
    pooled_variance: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """The slope of `first` less that of `second`; p unadjusted, and adjusted by Holm for all pairs."""

    first: str
    second: str
    difference: Estimate
    p: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare_scaling_by_context` found: the joint test, and every pair."""

    heterogeneity: Heterogeneity
    pairs: tuple[Difference, ...]


def compare_scaling_by_context(contexts: Sequence[ContextSlope], *, level: float = LEVEL) -> Comparison:
    """Test whether the contexts' slopes are equal, and compare each pair.

    Equation: Q = Σ (β̂ - β̄)² / V against χ² with K - 1 degrees of freedom. Where a context has fewer than 50 runs at
    each value its own V is too noisy (size .095 at a nominal .05 with ten contexts of 10 runs a value); then all
    contexts share a variance per run: V = s² / spread, s² = Σ dof V_own spread / Σ dof, and Q / (K - 1) is held
    against F with K - 1 and Σ dof degrees of freedom. Pairs use the same variances, with Student's t: of the shared
    degrees of freedom, or of Welch's.

    Args:
        contexts: At least two, each with more than two runs.
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: Fewer than two contexts, or one without a positive standard error, a spread or three runs.

    References:
        Cochran (1954), "The Combination of Estimates from Different Experiments"; Holm (1979), "A Simple Sequentially
        Rejective Multiple Test Procedure"; Higgins and Thompson (2002) for I².
    """
    count = len(contexts)
    if count < 2:  # noqa: PLR2004 - a comparison
        message = f"a comparison needs at least 2 contexts, there are {count}: run in another context too"
        raise NotEnoughData(message)
    for each in contexts:
        if each.n <= 2 or not each.spread > 0 or each.dof == 0:  # noqa: PLR2004 - a line
            message = (
                f"context {each.context!r} has {each.n} runs and spread {each.spread:g}: a slope to compare needs "
                "two values, more than 2 runs and, if clustered, more than one cluster"
            )
            raise NotEnoughData(message)
    slopes = np.array([each.slope.estimate for each in contexts])
    variances = np.array([each.slope.se**2 for each in contexts])
    expect_estimates(slopes, variances)
    dof = np.array([float(each.n - 2 if each.dof is None else each.dof) for each in contexts])
    pooled = any(each.n < MANY_RUNS * each.values for each in contexts)
    if pooled:
        spread = np.array([each.spread for each in contexts])
        variances = float(dof @ (variances * spread)) / float(dof.sum()) / spread
    return Comparison(
        heterogeneity=_heterogeneity(slopes, variances, float(dof.sum()), pooled=pooled, level=level),
        pairs=_pairs([each.context for each in contexts], slopes, variances, dof, pooled=pooled, level=level),
    )


def holm(p: Floats) -> Floats:
    """Adjust p-values [M] by Holm's step-down rule: each adjusted one is compared with the level of the whole family.

    Equation: the j-th smallest becomes max over i <= j of min(1, (M - i + 1) p_(i)).
    """
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted


def _heterogeneity(slopes: Floats, variances: Floats, dof: float, *, pooled: bool, level: float) -> Heterogeneity:
    precision = 1 / variances
    common = float(precision @ slopes / precision.sum())
    q = float(precision @ (slopes - common) ** 2)
    free = len(slopes) - 1
    se = float(precision.sum()) ** -0.5
    half = t_quantile(dof, level) * se
    return Heterogeneity(
        q=q,
        dof=free,
        p=float(fdtrc(free, dof, q / free) if pooled else chdtrc(free, q)),
        i_squared=max(0.0, 1 - free / q) if q > 0 else 0.0,
        common=Estimate(common, se, common - half, common + half),
        pooled_variance=pooled,
    )


def _pairs(
    names: Sequence[str], slopes: Floats, variances: Floats, dof: Floats, *, pooled: bool, level: float
) -> tuple[Difference, ...]:
    first, second = np.triu_indices(len(slopes), 1)
    difference = slopes[first] - slopes[second]
    v_first, v_second = variances[first], variances[second]
    se = np.sqrt(v_first + v_second)
    welch = (v_first + v_second) ** 2 / (v_first**2 / dof[first] + v_second**2 / dof[second])
    free = np.full(len(se), dof.sum()) if pooled else welch
    p = 2 * stdtr(free, -np.abs(difference) / se)
    half = stdtrit(free, (1 + level) / 2) * se
    return tuple(
        Difference(names[i], names[j], Estimate(*estimate), *values)
        for i, j, estimate, values in zip(
            first.tolist(),
            second.tolist(),
            np.stack((difference, se, difference - half, difference + half), axis=1).tolist(),
            np.stack((p, holm(p)), axis=1).tolist(),
            strict=True,
        )
    )
