"""Buckets: moments of an outcome and of its setting in each stretch of time, for drift and for forgetting."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from analytics import moments
from analytics.moments import Floats

SAME = 1e-10
"""Settings whose ln x has a smaller variance differ by rounding only."""

ROUNDING_OF_SUMS = 1e-14
"""Outcomes whose variance, from raw sums, is a smaller share of their squared mean differ by rounding only."""

DETERMINED = 1e-8
"""Where less than this share of z's variation is left at equal g, g determines z."""

PERFECT = 1e-12
"""A z that leaves a smaller share of the outcomes' variation leaves rounding only."""


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """Moments of (g, y), y the outcome, of one or more laws in one or more buckets; `+` joins disjoint runs.

    Attributes:
        n: Runs; where a law has none its co-moments are 0. [...]
        mean: Of g and y. [..., 2]
        comoment: Squared deviations of g, products with y, squared deviations of y. [..., 3]
    """

    n: Floats
    mean: Floats
    comoment: Floats

    @classmethod
    def from_sums(cls, n: Floats, A: Floats, C: Floats, yy: Floats) -> Self:
        """Take raw sums: n [...], A = Σ (1, g)(1, g)' [..., 2, 2], C = Σ y (1, g) [..., 2], yy = Σ y² [...].

        Raw sums lose digits where the mean is far from 0: keep moments where there is a choice.
        """
        runs = np.where(n > 0, n, 1.0)
        mean = np.stack((A[..., 0, 1], C[..., 0]), axis=-1) / runs[..., None]
        g, y = mean[..., 0], mean[..., 1]
        gg, yy = A[..., 1, 1] - n * g * g, yy - n * y * y
        comoment = np.stack(
            (
                gg * (gg > n * SAME),
                C[..., 1] - n * g * y,
                yy * (yy > n * y * y * ROUNDING_OF_SUMS),
            ),
            axis=-1,
        )
        return cls(np.asarray(n, np.float64), mean, comoment)

    @classmethod
    def from_moments(cls, n: Floats, mean: Floats, comoment: Floats) -> Self:
        """Take moments of (g, y) as cells and Grams keep them: n [...], mean [..., 2], comoment [..., 2, 2]."""
        return cls(*_none_where_empty(n, mean, moments.pack(comoment)))

    @classmethod
    def of_means(cls, n: Floats, mean: Floats, m2: Floats) -> Self:
        """Take a variable without a setting: runs, mean and squared deviations, each [...]."""
        none = np.zeros(np.shape(mean))
        return cls(*_none_where_empty(n, np.stack((none, mean), axis=-1), np.stack((none, none, m2), axis=-1)))

    @classmethod
    def net(cls, n: Floats, mean: Floats, comoment: Floats) -> Self:
        """Take moments of (g, y, z) of L laws and give those of (g, y - c z): the outcome at equal z.

        Equation: c = (S_gg S_yz - S_gz S_gy) / (S_gg S_zz - S_gz²), S = Σ_t C_t: the coefficient of z where y is
        regressed on g and z within buckets. Without the g in it, a z that g goes along with would take a part of the
        law away, and a shift of both would pass for a change. c is 0 where z does not vary at equal g.

        Args:
            n: Runs. [L, T]
            mean: Of g, y and z; a law without z has 0 there. [L, T, 3]
            comoment: Likewise. [L, T, 3, 3]
        """
        within = comoment.sum(axis=1)
        gg, gz, zz = within[:, 0, 0], within[:, 0, 2], within[:, 2, 2]
        varies = gg > n.sum(axis=1) * SAME
        with np.errstate(divide="ignore", invalid="ignore"):
            on_g = np.where(varies, gz / gg, 0.0)
            left = zz - on_g * gz
            identified = (left > zz * DETERMINED) & (left > n.sum(axis=1) * SAME)
            coefficient = np.where(identified, (within[:, 1, 2] - on_g * within[:, 0, 1]) / left, 0.0)[:, None]
        yy = comoment[..., 1, 1]
        rest = yy - 2 * coefficient * comoment[..., 1, 2] + coefficient * coefficient * comoment[..., 2, 2]
        net = (
            comoment[..., 0, 0],
            comoment[..., 0, 1] - coefficient * comoment[..., 0, 2],
            rest * (rest > yy * PERFECT),
        )
        means = (mean[..., 0], mean[..., 1] - coefficient * mean[..., 2])
        return cls(*_none_where_empty(n, np.stack(means, axis=-1), np.stack(net, axis=-1)))

    def at(self, bucket: int) -> Self:
        """Give one bucket [L] of several [L, T]."""
        return replace(self, n=self.n[:, bucket], mean=self.mean[:, bucket], comoment=self.comoment[:, bucket])

    def weighed(self, weight: Floats) -> Self:
        """Count each run of a law `weight` times [...]; 0 takes its runs out."""
        return replace(self, n=self.n * weight, comoment=self.comoment * weight[..., None])

    def __add__(self, other: Self) -> Self:
        n, mean, comoment = moments.merge(self.n, self.mean, self.comoment, other.n, other.mean, other.comoment)
        return replace(self, n=n, mean=mean, comoment=comoment)


def _none_where_empty(n: Floats, mean: Floats, comoment: Floats) -> tuple[Floats, Floats, Floats]:
    some = np.asarray(n) > 0
    return np.asarray(n, np.float64), np.where(some[..., None], mean, 0.0), np.where(some[..., None], comoment, 0.0)
