"""How closely two variables go together, whatever their kinds: by ranks, so that scales and outliers do not matter."""

import math

import numpy as np

from analytics.moments import Floats, Ints


def correlation(x: Floats, y: Floats) -> float | None:
    """Give Spearman's rank correlation, with average ranks for ties; None where one of the two does not vary."""
    if len(x) < 3:  # noqa: PLR2004 - two points always lie on a line
        return None
    p, q = _centred_ranks(x), _centred_ranks(y)
    size = math.sqrt(float(p @ p) * float(q @ q))
    return float(p @ q) / size if size > 0 else None


def correlation_ratio(x: Floats, codes: Ints) -> float | None:
    """Give the correlation ratio of the ranks of x over groups, less what chance gives; None without two groups."""
    groups, place = np.unique(codes, return_inverse=True)
    k, n = len(groups), len(x)
    ranks = _centred_ranks(x) if n else x
    total = float(ranks @ ranks)
    if k < 2 or n <= 2 * k or total <= 0:  # noqa: PLR2004 - a comparison of groups
        return None
    size = np.bincount(place, minlength=k)
    between = float((np.bincount(place, ranks, k) ** 2 / size).sum()) / total
    return math.sqrt(max(0.0, 1 - (1 - between) * (n - 1) / (n - k)))


def likeness(y: Floats, codes: Ints) -> float:
    """Estimate the intraclass correlation by analysis of variance, in [0, 1]; 0 where no group has two runs.

    Equation: (MSB - MSW) / (MSB + (m - 1) MSW), m = (N - Σ n² / N) / (k - 1).
    """
    groups, place = np.unique(codes, return_inverse=True)
    k, n = len(groups), len(y)
    if k < 2 or n <= k:  # noqa: PLR2004 - a comparison of groups
        return 0.0
    size = np.bincount(place)
    mean = np.bincount(place, y) / size
    within = float(((y - mean[place]) ** 2).sum()) / (n - k)
    between = float((size * (mean - y.mean()) ** 2).sum()) / (k - 1)
    m = (n - float((size**2).sum()) / n) / (k - 1)
    scale = between + (m - 1) * within
    return min(1.0, max(0.0, (between - within) / scale)) if scale > 0 else 0.0


def _centred_ranks(x: Floats) -> Floats:
    _, place, n = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(n) - (n - 1) / 2)[place]
    return np.asarray(ranks - ranks.mean())
