"""Drift: whether a law still holds, judged bucket by bucket against all buckets before.

A law is the line y = level + slope * g, g = ln x. Each bucket is predicted from the runs before it; what its runs bring
beyond that, at the settings they had, is one standardised score for the level and one for the slope, N(0, 1) while the
law holds whatever the mix of settings. A mixture Shiryaev-Roberts e-detector adds them up. With g = 0 throughout
(`Buckets.of_means`) the same detector watches a plain mean: of ln x or of complexity, whose change is a change of mix.
Outcomes may be taken net of complexity (`Buckets.net`): then more difficult tasks are no change of the law.

The bound on false alarms needs scores that are nearly normal. Times and costs are skewed: watch their logarithms. Rates
near 0 or 1 make small buckets wait for each other (`pseudo`).

References:
    Shin, Ramdas and Rinaldo (2022), "E-detectors: a nonparametric framework for sequential change detection".
    Brown, Durbin and Evans (1975), "Techniques for Testing the Constancy of Regression Relationships over Time".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np
from scipy.special import ndtri, stdtr

from analytics.buckets import SAME, Buckets
from analytics.cells import Flags
from analytics.intervals import z_quantile
from analytics.moments import Floats
from models.dimensions import Outcome
from models.errors import NotEnoughData
from models.laws import Drift, ForwardChaining

EFFECTS = np.array([-1.0, -0.5, -0.25, -0.125, 0.125, 0.25, 0.5, 1.0])
"""The shifts of a score, in standard deviations, that the detector mixes over."""

HALF_SQUARES = EFFECTS * EFFECTS / 2

LIMIT = 1e4
CAP = 1e100
SCORE_CAP = 37.0
"""Beyond it the normal distribution has no double left."""

REFERENCE_RUNS = 30
"""Runs that must have been seen before a bucket is judged."""

PRIOR_SCORES = 2.0
"""Scores of size 1 that count as seen before the first."""

LEAST_DISPERSION = 0.5
"""Scores that happened to be small must not make the next one large."""

ENOUGH = 5.0
"""0/1 outcomes are judged when so many runs that differ are expected, or have come: then scores are normal enough."""

OUTLYING = 9.0
"""A squared score counts as dispersion up to this multiple of those before."""

ROUNDING = 1e-24
"""Outcomes whose variance is a smaller share of their squared mean differ by rounding only."""

PERFECT = 1e-12
"""A line that leaves a smaller share of the outcomes' variance leaves rounding only."""


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """The state of L laws' e-detectors: the runs of the epoch so far, and the evidence against it.

    Attributes:
        reference: All runs of the epoch so far, [L].
        pending: Runs that wait for more before they are judged, [L].
        evidence: M for the level and the slope, and for each effect. [L, 2, 8]
        scored: Scores so far of the level and of the slope in the epoch. [L, 2]
        dispersion: Their summed squares, outlying ones held down. [L, 2]
        judged: Buckets judged, over all epochs. [L]
        sounded: The evidence at which it last sounded, 0 if it never has. [L]
        since: Start of the bucket at which it last sounded, seconds since 1970; 0 if it never has. [L]
        scores: Scores judged, their summed squares, and how many were within ±1.96, over all epochs. [L, 3]
        pseudo: Squared deviation of one run that differs, 1 for 0/1 outcomes; 0 for others. [L]
    """

    reference: Buckets
    pending: Buckets
    evidence: Floats
    scored: Floats
    dispersion: Floats
    judged: Floats
    sounded: Floats
    since: Floats
    scores: Floats
    pseudo: Floats

    @classmethod
    def start(cls, laws: int, pseudo: Floats | float = 0.0) -> Self:
        """Make the state of laws of which nothing has been seen.

        Args:
            laws: L.
            pseudo: 1 for 0/1 outcomes, 0 for others. [L], or one for all. It is the squared deviation of one run that
                differs: so much is added to the reference's, so that what never failed has an error, and small buckets
                wait until five such runs are expected or have come.
        """
        return replace(cls.unpack(np.zeros((laws, STATE))), pseudo=np.broadcast_to(np.float64(pseudo), (laws,)))

    @classmethod
    def unpack(cls, rows: Floats) -> Self:
        """Restore the state from its rows."""
        (
            n,
            mean,
            comoment,
            n_pending,
            mean_pending,
            comoment_pending,
            evidence,
            scored,
            dispersion,
            judged,
            sounded,
            since,
            scores,
            pseudo,
        ) = np.split(rows, EDGES, axis=1)
        return cls(
            Buckets(n[:, 0], mean, comoment),
            Buckets(n_pending[:, 0], mean_pending, comoment_pending),
            evidence.reshape(-1, 2, len(EFFECTS)),
            scored,
            dispersion,
            judged[:, 0],
            sounded[:, 0],
            since[:, 0],
            scores,
            pseudo[:, 0],
        )

    def pack(self) -> Floats:
        """Lay the state out as one row of floats a law [L, 39], for a table."""
        past, pending = self.reference, self.pending
        moving = (self.evidence.reshape(-1, 2 * len(EFFECTS)), self.scored, self.dispersion)
        alarms = (self.judged, self.sounded, self.since)
        return np.column_stack(
            (
                past.n,
                past.mean,
                past.comoment,
                pending.n,
                pending.mean,
                pending.comoment,
                *moving,
                *alarms,
                self.scores,
                self.pseudo,
            )
        )

    @property
    def value(self) -> Floats:
        """Give the detector's value R, the mean of the evidence [L]; while the law holds E[R] <= buckets."""
        return np.asarray(self.evidence.mean(axis=(1, 2)))

    def push(self, bucket: Buckets, start: float, limit: float = LIMIT) -> tuple[Self, Floats]:
        """Judge one complete bucket, then count its runs among the reference.

        Equation: with z the bucket's scores, M <- (M + 1) exp(δ z - δ² / 2) and R = mean M; it sounds where R >= limit,
        and there M returns to 0 and a new epoch starts with this bucket. A bucket without runs of a law leaves the
        state of that law as it was; one with too few waits for the next.

        Args:
            bucket: Moments [L]; each bucket once, oldest first, none that is still open.
            start: Its start, seconds since 1970.
            limit: P(false alarm within T buckets) <= T / limit, law by law.

        Returns:
            The state after it, and the scores z [L, 2], nan where there is no prediction yet.
        """
        group = self.pending + bucket
        y, waits = _standardised(self.reference, self.pseudo, group)
        z, squares = _studentised(y, self.scored, self.dispersion)
        scored = ~np.isnan(z)
        judged = scored.any(axis=1)
        known = np.where(scored, z, 0.0)
        growth = np.exp(EFFECTS * known[..., None] - HALF_SQUARES)
        evidence = np.where(scored[..., None], np.minimum((self.evidence + 1) * growth, CAP), self.evidence)
        value = evidence.mean(axis=(1, 2))
        alarm = judged & (value >= limit)
        kept = np.where(alarm, 0.0, 1.0)
        past, taken = self.reference, np.where(waits, 0.0, 1.0)
        figures = np.stack((scored, known * known, scored & (np.abs(known) <= z_quantile())), axis=-1).sum(axis=1)
        after = replace(
            self,
            reference=past.weighed(kept) + group.weighed(taken),
            pending=group.weighed(1 - taken),
            evidence=evidence * kept[:, None, None],
            scored=(self.scored + scored) * kept[:, None],
            dispersion=(self.dispersion + squares) * kept[:, None],
            judged=self.judged + judged,
            sounded=np.where(alarm, value, self.sounded),
            since=np.where(alarm, start, self.since),
            scores=self.scores + figures,
        )
        return after, z

    def drift(self, law: int, *, cause: str = "none", limit: float = LIMIT) -> Drift:
        """Report on one law.

        Raises:
            NotEnoughData: No bucket has been judged yet.
        """
        buckets = self._expect_judged(law)
        alarm = bool(self.sounded[law] > 0)
        return Drift(
            alarm=alarm,
            evidence=float(self.sounded[law] if alarm else self.value[law]),
            limit=limit,
            buckets=buckets,
            since=datetime.fromtimestamp(float(self.since[law]), UTC).isoformat().replace("+00:00", "Z")
            if alarm
            else None,
            cause=cause,
        )

    def forward_chaining(self, law: int) -> ForwardChaining:
        """Report how one law's forecasts of each bucket from those before came true.

        Raises:
            NotEnoughData: No bucket has been judged yet.
        """
        buckets = self._expect_judged(law)
        count, squares, inside = self.scores[law].tolist()
        return ForwardChaining(buckets, squares / count, inside / count)

    def _expect_judged(self, law: int) -> int:
        buckets = int(self.judged[law])
        if not buckets:
            message = (
                f"drift needs complete buckets after the first {REFERENCE_RUNS} runs, "
                f"there are {self.reference.n[law]:g} runs and none was judged: wait for more buckets"
            )
            raise NotEnoughData(message)
        return buckets


EDGES = np.cumsum((1, 2, 3, 1, 2, 3, 2 * len(EFFECTS), 2, 2, 1, 1, 1, 3))
STATE = int(EDGES[-1]) + 1
"""Floats a law, and where the parts of its state begin."""


def judge(
    buckets: Buckets,
    starts: Sequence[float],
    complete: int,
    *,
    detector: Detector | None = None,
    limit: float = LIMIT,
) -> tuple[Detector, Floats]:
    """Push the complete buckets, oldest first.

    Args:
        buckets: Moments [L, T]; history, where there is some, is the first one.
        starts: The start of each bucket, seconds since 1970. [T]
        complete: How many of them, from the oldest on, take no more runs; later ones are not looked at.
        detector: The state to carry on from; that of laws of which nothing has been seen where absent.
        limit: As in `Detector.push`.

    Raises:
        NotEnoughData: More buckets are said to be complete than there are.

    Returns:
        The state after them, and their scores [L, complete, 2].
    """
    if not 0 <= complete <= len(starts):
        message = (
            f"complete must lie between 0 and the {len(starts)} buckets that there are, it is {complete}: count them"
        )
        raise NotEnoughData(message)
    state = detector or Detector.start(len(buckets.n))
    z = np.full((len(buckets.n), complete, 2), np.nan)
    for bucket in range(complete):
        state, z[:, bucket] = state.push(buckets.at(bucket), starts[bucket], limit)
    return state, z


def drift_cause(outcome: Outcome, alarms: Mapping[Outcome, bool], *, mix_moved: bool) -> str:
    """Name what an outcome's drift comes from, given what its siblings in the context and dimension did.

    Args:
        outcome: The outcome of the law.
        alarms: Whether each judged outcome of the same context and dimension has drifted at equal settings, and at
            equal complexity where it is known.
        mix_moved: Whether the mean of ln x, or of complexity, has drifted.

    Returns:
        law, price (cost moved and success, quality and time, as far as judged, did not), mix (the settings or the
        complexity of the tasks moved, the law did not), or none.
    """
    if alarms.get(outcome, False):
        others = [moved for sibling, moved in alarms.items() if sibling != Outcome.TOTAL_COST]
        return "price" if outcome == Outcome.TOTAL_COST and others and not any(others) else "law"
    return "mix" if mix_moved else "none"


def _standardised(past: Buckets, pseudo: Floats, bucket: Buckets) -> tuple[Floats, Flags]:
    """Give what a bucket brings beyond its prediction, divided by the prediction's error [L, 2]; nan without one.

    Equation: s = C_t - A_t β, β from the past, Ω = σ² (A_t + A_t A_past⁻¹ A_t), y = chol(Ω)⁻¹ s, here in coordinates
    around the bucket's mean of g, where A_t is diagonal; y does not depend on the coordinates. The second score is nan
    in a bucket of a single setting.

    Returns:
        The scores, and whether the bucket must wait for more runs. [L, 2], [L]
    """
    (g, y), (gg, gy, yy), n, q = past.mean.T, past.comoment.T, bucket.n, bucket.comoment[:, 0]
    d, e = bucket.mean[:, 0] - g, bucket.mean[:, 1] - y
    varies, spread = gg > past.n * SAME, q > n * SAME
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(varies, 1 / gg, 0.0)
        slope = gy * inverse
        squares = yy - slope * gy
        squares = squares * (squares > past.n * y * y * ROUNDING + yy * PERFECT) + pseudo
        variance = squares / (past.n - 1 - varies)
        level = n * (e - slope * d)
        own = bucket.comoment[:, 2] + slope * (slope * q - 2 * bucket.comoment[:, 1]) + level * level / n
        cross = q * d * inverse
        one = 1 + n * (1 / past.n + d * d * inverse)
        tilt = bucket.comoment[:, 1] - slope * q - cross / one * level
        two = q + q * q * inverse - n * cross * cross / one
        scores = np.stack((level / np.sqrt(variance * n * one), tilt / np.sqrt(variance * two)), axis=-1)
    ready = (n > 0) & (past.n >= REFERENCE_RUNS) & (squares > 0) & (varies | ~(spread | (d * d > SAME)))
    waits = ready & (np.fmax(n * variance, own) < ENOUGH * pseudo)
    ready &= ~waits
    return np.where(np.stack((ready, ready & spread), axis=-1), scores, np.nan), waits


def _studentised(y: Floats, scored: Floats, dispersion: Floats) -> tuple[Floats, Floats]:
    """Divide scores by the spread of those before (buckets differ by more than their runs) and make them normal.

    With k scores before and D the sum of their squares, t = y / √(D / k) has Student's distribution with k degrees of
    freedom and is independent of the earlier ratios, so that z = Φ⁻¹(T_k(t)) is N(0, 1). Two scores of size 1 (buckets
    that differ by no more than their runs) are taken to have come before. What a score adds to D is held at nine times
    D / k: a drift must not pass for dispersion.

    Returns:
        z, and what y adds to D. [L, 2]
    """
    k = scored + PRIOR_SCORES
    square = np.maximum((dispersion + PRIOR_SCORES) / k, LEAST_DISPERSION)
    t = y / np.sqrt(square)
    z = np.copysign(np.minimum(-ndtri(stdtr(k, -np.abs(t))), SCORE_CAP), t)
    return z, np.nan_to_num(np.minimum(y * y, OUTLYING * square))
