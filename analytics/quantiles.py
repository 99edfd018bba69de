"""Quantiles of time and cost from a log-histogram, with intervals that hold once or at every look.

The histogram adds and takes out exactly, in any order, so that a replay gives the same one; every quantile is within
2 % of the exact one, whatever the distribution.

References:
    Masson, Rim and Lee (2019), "DDSketch"; Robbins (1970), "Statistical Methods Related to the Law of the Iterated
    Logarithm" (the mixture behind the confidence sequence).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.special import betaincinv, betaln

from analytics.cells import Flags
from analytics.intervals import LEVEL
from analytics.moments import Floats
from models.errors import NotEnoughData

ACCURACY = 0.02
"""The relative error of a quantile, at most."""

GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
LN_GAMMA = math.log(GAMMA)


@dataclass(frozen=True, slots=True)
class Range:
    """A quantile with the interval [lo, hi] of its exact value; hi is infinite where too few runs lie above."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class LogHistogram:
    """Counts by bin: bin k holds gamma**(k - 1) < x <= gamma**k with gamma = 1.02 / 0.98.

    Attributes:
        counts: Runs by bin, none of them zero.
        zeros: Runs at exactly 0, which has no logarithm.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    zeros: int = 0

    @classmethod
    def of(cls, values: Floats) -> Self:
        """Count values.

        Raises:
            NotEnoughData: A value below 0 or not finite.
        """
        if not bool(np.all(np.isfinite(values) & (values >= 0))):
            message = f"a log-histogram holds finite values from 0 on, there is {values.min():g}: leave it out"
            raise NotEnoughData(message)
        positive = values[values > 0]
        keys, counts = np.unique(np.ceil(np.log(positive) / LN_GAMMA).astype(np.int64), return_counts=True)
        return cls(dict(zip(keys.tolist(), counts.tolist(), strict=True)), len(values) - len(positive))

    def __add__(self, other: Self) -> Self:
        counts = dict(self.counts)
        for key, count in other.counts.items():
            counts[key] = counts.get(key, 0) + count
        return type(self)(counts, self.zeros + other.zeros)

    def __sub__(self, other: Self) -> Self:
        """Take out runs that are in.

        Raises:
            NotEnoughData: A bin of `other` holds more runs than there are.
        """
        counts = dict(self.counts)
        for key, count in other.counts.items():
            counts[key] = counts.get(key, 0) - count
        zeros = self.zeros - other.zeros
        if zeros < 0 or min(counts.values(), default=0) < 0:
            raise NotEnoughData("cannot take out more runs than a bin holds: take out only what is in")
        return type(self)({key: count for key, count in counts.items() if count}, zeros)

    @property
    def n(self) -> int:
        """Count the runs."""
        return self.zeros + sum(self.counts.values())

    def quantile(self, p: float) -> float:
        """Give the quantile, the smallest value that a share p of the runs does not exceed, within 2 %.

        Raises:
            NotEnoughData: No runs, or p not inside (0, 1).
        """
        _, middle, _, below = self._bins(p)
        return float(middle[np.searchsorted(below, math.ceil(round(p * self.n, 9)))])

    def interval(self, p: float, level: float = LEVEL) -> Range:
        """Give the quantile with its interval for one look, planned beforehand.

        A value q is in if the Beta(k + 1/2, n - k + 1/2) interval of its count k of runs <= q holds p; the ends are
        the outer edges of their bins.

        Raises:
            NotEnoughData: As `quantile`.
        """
        low, _, high, below = self._bins(p)
        tail = (1 - level) / 2
        n = float(self.n)
        upper = np.where(below < n, betaincinv(below + 0.5, n - below + 0.5, 1 - tail), 1.0)
        nothing_below = float(betaincinv(0.5, n + 0.5, 1 - tail))
        lower = betaincinv(below + 0.5, n - below + 0.5, tail)
        return self._range(p, low, high, too_few=upper < p, too_many=lower > p, bounded=nothing_below < p)

    def sequence(self, p: float, level: float = LEVEL) -> Range:
        """Give the quantile with an interval that holds at every look at once, however often one looks.

        A value q is out once the evidence of its count against a share of p reaches 1 / (1 - level).

        Raises:
            NotEnoughData: As `quantile`.
        """
        low, _, high, below = self._bins(p)
        n, limit = float(self.n), -math.log(1 - level)
        out = log_evidence(below, n, p) >= limit
        nothing_below = bool(log_evidence(0.0, n, p) >= limit)
        return self._range(
            p, low, high, too_few=out & (below < p * n), too_many=out & (below > p * n), bounded=nothing_below
        )

    def _range(
        self,
        p: float,
        low: Floats,
        high: Floats,
        *,
        too_few: Flags,
        too_many: Flags,
        bounded: bool,
    ) -> Range:
        """Read an interval off the bins, by whether too few or too many runs lie up to each bin's upper edge."""
        lo = float(low[np.argmin(too_few)]) if bounded else 0.0
        hi = float(high[np.argmax(too_many)]) if too_many.any() else math.inf
        return Range(self.quantile(p), lo, hi)

    def _bins(self, p: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Give each bin's lower edge, value and upper edge, ascending, and the runs up to it."""
        if not self.n or not 0 < p < 1:
            message = f"a quantile needs runs and 0 < p < 1, there are {self.n} runs and p = {p:g}: publish runs"
            raise NotEnoughData(message)
        keys = sorted(self.counts)
        upper = np.exp(np.array(keys, np.float64) * LN_GAMMA)
        lower, middle = upper / GAMMA, 2 * upper / (1 + GAMMA)
        below = self.zeros + np.cumsum([self.counts[key] for key in keys]).astype(np.float64)
        if not self.zeros:
            return lower, middle, upper, below
        lower, middle, upper = (np.concatenate(((0.0,), edge)) for edge in (lower, middle, upper))
        return lower, middle, upper, np.concatenate(((float(self.zeros),), below))


def log_evidence(k: Floats | float, n: Floats | float, p: float) -> Floats:
    """Give the log of the evidence that k successes of n bring against a chance of p.

    Equation: ln B(1 + k, 1 + n - k) - k ln p - (n - k) ln(1 - p): the likelihood ratio of a uniform mixture. If p is
    right, it ever reaches ln(1 / a) with probability a at most.

    Args:
        k: Successes; broadcasts.
        n: Runs; broadcasts.
        p: The chance, inside (0, 1).
    """
    count, size = np.asarray(k, np.float64), np.asarray(n, np.float64)
    return np.asarray(betaln(1 + count, 1 + size - count) - count * math.log(p) - (size - count) * math.log1p(-p))
