"""The independent check of a live adjusted law: the same regression from raw rows, without any Gram."""

from collections.abc import Mapping

import numpy as np

from analytics.adjustment import differ_in_sign
from analytics.intervals import LEVEL, t_quantile
from analytics.joint_cells import MIN_CLUSTERS
from analytics.least_squares import VARIES
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Adjusted, Estimate

LEFT = 1e-8
"""A regressor of which less than this share of the variation is left, the others held fixed, is determined by them."""


def adjust_rows(ln_x: Floats, y: Floats, held: Mapping[str, Floats], bucket: Ints, level: float = LEVEL) -> Adjusted:
    """Regress y on ln x with other columns held fixed, row by row.

    Equation: (1, ln x, held)'(y - fitted) = 0 by QR; classical errors, or from six time buckets on CR1 by bucket.
    Columns that do not vary or that those before them determine are left out.

    Args:
        ln_x: ln of the dimension. [N]
        y: The outcome, of time and cost its logarithm. [N]
        held: Columns to hold fixed, in order. [N] each
        bucket: The time bucket of each run. [N]
        level: The coverage of the intervals.

    Raises:
        NotEnoughData: ln x or y does not vary, ln x is determined by what is held, or there are too few rows.
    """
    for what, column in (("the dimension", ln_x), ("the outcome", y)):
        if not len(column) or not _varies(column):
            raise NotEnoughData(f"{what} has one value in all {len(column)} rows: there is nothing to explain")
    names: list[str] = []
    for name, column in held.items():
        if _varies(column) and _left(column, [held[kept] for kept in names]):
            names.append(name)
    covariates = [held[name] for name in names]
    if not _left(ln_x, covariates):
        raise NotEnoughData(f"the dimension does not vary at equal {', '.join(names)}: vary it on its own")
    slope = _slope([ln_x, *covariates], y, bucket, level)
    naive = _slope([ln_x], y, bucket, level)
    return Adjusted(
        method="least squares from rows",
        slope=slope,
        naive=naive,
        gap=naive.estimate - slope.estimate,
        n=len(y),
        strata=0,
        covariates=names,
        sign_differs=differ_in_sign(slope, naive),
    )


def _slope(columns: list[Floats], y: Floats, bucket: Ints, level: float) -> Estimate:
    """Give the coefficient of the first column."""
    size, p = len(y), len(columns) + 1
    if size <= p:
        raise NotEnoughData(f"a fit of {p} parameters needs more than {p} runs, there are {size}: collect more runs")
    design = np.column_stack([np.ones(size), *(column - column.mean() for column in columns)])
    q, r = np.linalg.qr(design)
    beta = np.linalg.solve(r, q.T @ y)
    residual = y - design @ beta
    bread = np.linalg.inv(r)
    bread = bread @ bread.T
    classical = float(bread[1, 1] * (residual @ residual) / (size - p))
    groups, group = np.unique(bucket, return_inverse=True)
    variance, dof = classical, size - p
    if len(groups) >= MIN_CLUSTERS:
        scores = np.zeros((len(groups), p))
        np.add.at(scores, group, design * residual[:, None])
        factor = len(groups) / (len(groups) - 1) * (size - 1) / (size - p)
        variance, dof = factor * float(((scores @ bread[1]) ** 2).sum()), len(groups) - 1
    estimate, se = float(beta[1]), variance**0.5
    half = t_quantile(dof, level) * se
    return Estimate(estimate, se, estimate - half, estimate + half, classical**0.5)


def _varies(column: Floats) -> bool:
    return bool(column.std() > VARIES * max(abs(float(column.mean())), 1e-3))


def _left(column: Floats, others: list[Floats]) -> bool:
    """Tell whether a column varies once others are held fixed."""
    away = column - column.mean()
    if not others:
        return True
    design = np.column_stack([other - other.mean() for other in others])
    design /= np.linalg.norm(design, axis=0)
    residual = away - design @ np.linalg.lstsq(design, away)[0]
    return float(residual @ residual) > LEFT * float(away @ away)
