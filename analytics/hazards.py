"""Attempts that stop at the first success: the chance of success by the k-th, from hazards.

A run that succeeds early makes few attempts, so success falls with the attempts *made* however much attempts help. The
hazard, the share of attempts that succeed among the runs that got so far, has no such flaw: a run that gives up counts
as at risk up to its limit, and says nothing beyond.

References:
    Kaplan and Meier (1958), "Nonparametric Estimation from Incomplete Observations"; Greenwood (1926).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from analytics.intervals import LEVEL, z_quantile
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData


@dataclass(frozen=True, slots=True, eq=False)
class AttemptCounts:
    """Two counters for each stratum and attempt; they add.

    Attributes:
        at_risk: Runs that made the j-th attempt. [S, J]
        succeeded: Those of them that succeeded with it. [S, J]
    """

    at_risk: Floats
    succeeded: Floats

    @classmethod
    def from_runs(cls, attempts: Ints, n: Floats, successes: Floats, *, stratum: Ints | None = None) -> Self:
        """Count from cells of attempts made.

        Args:
            attempts: Attempts made, the last one included, at least one. [R]
            n: Runs that made so many. [R]
            successes: How many of them succeeded, at the last attempt that is; the others gave up after it. [R]
            stratum: 0, 1, ... for each row; one stratum where absent. [R]

        Raises:
            NotEnoughData: No runs, or counts that are none.
        """
        if not len(attempts) or np.any(attempts < 1) or np.any(successes < 0) or np.any(successes > n):
            raise NotEnoughData("attempts need runs with 1 attempt or more and 0 <= successes <= n: leave others out")
        place = np.zeros(len(attempts), np.int64) if stratum is None else stratum
        ended = np.zeros((int(place.max()) + 1, int(attempts.max())))
        succeeded = np.zeros_like(ended)
        np.add.at(ended, (place, attempts - 1), n)
        np.add.at(succeeded, (place, attempts - 1), successes)
        return cls(np.cumsum(ended[:, ::-1], axis=1)[:, ::-1], succeeded)

    def __add__(self, other: Self) -> Self:
        shape = tuple(np.maximum(self.at_risk.shape, other.at_risk.shape).tolist())
        return type(self)(
            _grown(self.at_risk, shape) + _grown(other.at_risk, shape),
            _grown(self.succeeded, shape) + _grown(other.succeeded, shape),
        )


@dataclass(frozen=True, slots=True, eq=False)
class HazardLaw:
    """The chance of success within k attempts, k = 1 ... J, as far as every stratum has runs at risk.

    Attributes:
        at_risk: Runs that made the k-th attempt. [J]
        hazard: Their share that succeeded with it, over all strata. [J]
        probability: P(success within k attempts). [J]
        se: Its standard error. [J]
        lo: Lower end of its interval, pointwise; `hi` is the upper one. [J]
        hi: Upper end. [J]
    """

    at_risk: Floats
    hazard: Floats
    probability: Floats
    se: Floats
    lo: Floats
    hi: Floats


def fit_hazards(counts: AttemptCounts, *, level: float = LEVEL) -> HazardLaw:
    """Estimate P(success within k attempts) from hazards, averaged over strata by their share of the runs.

    Equation: h_j = d_j / r_j; S_k = Π_{j<=k} (1 - h_j), P = 1 - Σ_z w_z S_zk; Greenwood's variance S² Σ h/(r (1 - h))
    and that of the strata's shares; interval on the scale of ln(-ln S). Where no run of a stratum or every one
    succeeded, its variance is that of h = (d + 1/2)/(r + 1).

    It is free of bias if how many attempts a run may make tells nothing of its chance, within each stratum.

    Raises:
        NotEnoughData: A stratum without runs.
    """
    risk, events = counts.at_risk, counts.succeeded
    if not (risk[:, 0] > 0).all():
        raise NotEnoughData("a stratum has no runs: number the strata from 0 without gaps")
    survival, variance = _greenwood(risk, events)
    smooth, smooth_variance = _greenwood(np.where(risk > 0, risk + 1, 0.0), np.where(risk > 0, events + 0.5, 0.0))
    # Where all of a stratum succeeded, later attempts change nothing; where some gave up, nothing more is known.
    known = ((risk > 0) | (survival == 0)).all(axis=0)
    reach = len(known) if known.all() else int(np.argmin(known))
    certain = (survival <= 0) | (survival >= 1)
    variance = np.where(certain, smooth_variance, variance)
    share = risk[:, :1] / risk[:, 0].sum()
    s, s_smooth = (share * survival).sum(axis=0), (share * smooth).sum(axis=0)
    between = (share * (survival - s) ** 2).sum(axis=0) / risk[:, 0].sum()
    se = np.sqrt((share**2 * variance).sum(axis=0) + between)
    inside = np.where((s > 0) & (s < 1), s, s_smooth)
    spread = np.exp(z_quantile(level) * se / (inside * -np.log(inside)))
    lo, hi = np.where(s < 1, 1 - inside ** (1 / spread), 0.0), np.where(s > 0, 1 - inside**spread, 1.0)
    return HazardLaw(
        at_risk=risk.sum(axis=0)[:reach],
        hazard=(events.sum(axis=0) / np.maximum(risk.sum(axis=0), 1.0))[:reach],
        probability=1 - s[:reach],
        se=se[:reach],
        lo=lo[:reach],
        hi=hi[:reach],
    )


def _greenwood(risk: Floats, events: Floats) -> tuple[Floats, Floats]:
    """Give the survival [S, J] in each stratum and its variance; where no run is at risk both stay as they are."""
    runs = np.where(risk > 0, risk, 1.0)
    left = runs - events
    survival = np.cumprod(left / runs, axis=1)
    spread = np.cumsum(events / (runs * np.where(left > 0, left, 1.0)), axis=1)
    return np.asarray(survival, np.float64), np.asarray(survival**2 * spread, np.float64)


def _grown(counts: Floats, shape: tuple[int, ...]) -> Floats:
    grown = np.zeros(shape)
    grown[: counts.shape[0], : counts.shape[1]] = counts
    return grown
