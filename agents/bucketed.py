"""What the Grams' time buckets tell of a context's live laws: the adjusted slope, and whether the law still holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.live_grams import OUTCOMES, REGRESSORS
from agents.moment_table import decode_rows
from analytics.adjustment import evidence
from analytics.buckets import Buckets
from analytics.drift import Detector, drift_cause, judge
from analytics.gram_laws import ON_LOG_SCALE, adjust_gram
from analytics.laws import explained
from analytics.moments import unpack
from models.cells import GramKey
from models.dimensions import MASK_BITS, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Adjusted, Drift, Law, Validation
from models.settings import Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STATES = {Basis.DOSE: "d", Basis.REALISED: "r"}
HELD_SHARE = 0.8
"""A regressor that so many of the runs carry is held fixed; the runs without it are then left out."""

HISTORY = -(2**62)
ALL = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class ContextGrams:
    """The Grams of one context, merged over source partitions or not: one row each.

    Attributes:
        bucket: completed_at // bucket_seconds, or HISTORY. [R]
        presence: What each run carries, a character a regressor.
        mask: Which outcomes. [R]
        n: Runs. [R]
        mean: Of the regressors, then the outcomes. [R, 13]
        comoment: Likewise. [R, 13, 13]
    """

    bucket: Ints
    presence: tuple[str, ...]
    mask: Ints
    n: Floats
    mean: Floats
    comoment: Floats

    @classmethod
    def read(cls, stored: Mapping[GramKey, bytes]) -> "ContextGrams":
        """Read stored Grams, oldest bucket first."""
        keys = sorted(stored, key=lambda key: HISTORY if key.bucket is None else key.bucket)
        _, _, (n, mean, comoment) = decode_rows([stored[key] for key in keys], len(REGRESSORS) + len(OUTCOMES))
        return cls(
            bucket=np.array([HISTORY if key.bucket is None else key.bucket for key in keys], dtype=np.int64),
            presence=tuple(key.presence for key in keys),
            mask=np.array([key.mask for key in keys], dtype=np.int64),
            n=n,
            mean=mean,
            comoment=unpack(comoment),
        )

    def by_bucket(self, rows: Ints, axes: Sequence[int] | slice = ALL) -> tuple[Ints, Floats, Floats, Floats]:
        """Merge some rows by bucket: the buckets ascending [B], n [B], mean [B, v], co-moments [B, v, v]."""
        buckets, start, place = np.unique(self.bucket[rows], return_index=True, return_inverse=True)
        count, means, products = self.n[rows], self.mean[rows][:, axes], self.comoment[rows][:, axes][:, :, axes]
        n = np.add.reduceat(count, start)
        mean = np.add.reduceat(count[:, None] * means, start) / n[:, None]
        away = means - mean[place]
        spread = (count[:, None] * away)[:, :, None] * away[:, None, :]
        comoment = np.asarray(np.add.reduceat(products + spread, start), np.float64)
        return buckets, n, np.asarray(mean, np.float64), comoment

    def carrying(self, dimension: Dimension, basis: Basis, outcome: Outcome) -> Ints:
        """Find the rows whose runs carry a dimension on a basis, and an outcome (with a logarithm, where needed)."""
        place, state = list(Dimension).index(dimension), STATES.get(basis)
        bits = MASK_BITS[outcome] | (MASK_BITS["positive_cost"] if outcome is Outcome.TOTAL_COST else 0)
        carried = np.array([presence[place] == state for presence in self.presence], dtype=bool)
        return np.flatnonzero(carried & ((self.mask & bits) == bits))


def with_buckets(
    laws: Sequence[Law], grams: ContextGrams, settings: Settings, newest: int, known: Mapping[str, Drift]
) -> list[Law]:
    """Add to a context's laws what its buckets tell.

    Args:
        laws: Laws of one context.
        grams: The context's Grams.
        settings: Length of a bucket, limit of the detector, reliability of complexity.
        newest: The newest bucket of all; it still takes runs and is not judged.
        known: Alarms that have sounded before: a bucket that has gone to history is not judged again.
    """
    found = [grams.carrying(Dimension(law.dimension), Basis(str(law.basis)), Outcome(law.outcome)) for law in laws]
    told = [(law, rows) for law, rows in zip(laws, found, strict=True) if len(rows)]
    judged = _judge([law for law, _ in told], [rows for _, rows in told], grams, settings, newest)
    return [_told(law, judged.get(law.law_id), grams, settings, known.get(law.law_id)) for law in laws]


def _judge(
    laws: Sequence[Law], found: Sequence[Ints], grams: ContextGrams, settings: Settings, newest: int
) -> dict[str, Law]:
    """Judge the complete buckets of all laws at once; give each law with its drift and forecasts."""
    buckets = np.unique(grams.bucket)
    n = np.zeros((len(laws), len(buckets)))
    mean, comoment = np.zeros((*n.shape, 2)), np.zeros((*n.shape, 2, 2))
    for number, (law, rows) in enumerate(zip(laws, found, strict=True)):
        outcome = Outcome(law.outcome)
        g = list(Dimension).index(Dimension(law.dimension))
        y = len(REGRESSORS) + OUTCOMES.index(str(ON_LOG_SCALE.get(outcome, outcome)))
        at, runs, means, products = grams.by_bucket(rows, [g, y])
        places = np.searchsorted(buckets, at)
        n[number, places], mean[number, places], comoment[number, places] = runs, means, products
    starts = [max(int(bucket), 0) * settings.bucket_seconds for bucket in buckets]
    complete = int((buckets < newest).sum())
    pseudo = np.array([1.0 if law.outcome == Outcome.SUCCESS else 0.0 for law in laws])
    limit = settings.drift_limit
    pairs, alone = Buckets.from_moments(n, mean, comoment), Buckets.of_means(n, mean[..., 0], comoment[..., 0, 0])
    detector, _ = judge(pairs, starts, complete, detector=Detector.start(len(laws), pseudo), limit=limit)
    mix, _ = judge(alone, starts, complete, limit=limit)
    told: dict[str, Law] = {}
    for number, law in enumerate(laws):
        try:
            drift, forward = detector.drift(number, limit=limit), detector.forward_chaining(number)
        except NotEnoughData as reason:
            told[law.law_id] = msgspec.structs.replace(law, missing=law.missing | {"drift": str(reason)})
            continue
        siblings = {
            Outcome(other.outcome): bool(detector.sounded[place] > 0)
            for place, other in enumerate(laws)
            if other.dimension == law.dimension
        }
        cause = drift_cause(Outcome(law.outcome), siblings, mix_moved=bool(mix.sounded[number] > 0))
        told[law.law_id] = msgspec.structs.replace(
            law, drift=msgspec.structs.replace(drift, cause=cause), validation=Validation(forward=forward)
        )
    return told


def _told(law: Law, judged: Law | None, grams: ContextGrams, settings: Settings, known: Drift | None) -> Law:
    """Add the adjusted slope, and mark a law that has drifted."""
    if judged is None:
        reason = "no run of a time bucket carries the dimension on this basis: drift is not watched"
        judged = msgspec.structs.replace(law, missing=law.missing | {"drift": reason})
    drift = judged.drift
    if known is not None and known.alarm and not (drift and drift.alarm):
        drift = known
    status = "drifted" if drift is not None and drift.alarm else law.status
    judged = msgspec.structs.replace(judged, drift=drift, status=status)
    try:
        adjusted = adjusted_by_grams(law, grams)
    except NotEnoughData as reason:
        return explained(msgspec.structs.replace(judged, missing=judged.missing | {"adjusted": str(reason)}))
    grade = evidence(adjusted, settings.complexity_reliability)
    return explained(msgspec.structs.replace(judged, adjusted=adjusted, confounding_gap=adjusted.gap, evidence=grade))


def adjusted_by_grams(law: Law, grams: ContextGrams) -> Adjusted:
    """Fit the law's slope with the other dimensions and complexity held fixed, where enough runs carry them.

    Raises:
        NotEnoughData: As `analytics.gram_laws.adjust_gram`.
    """
    dimension, outcome = Dimension(law.dimension), Outcome(law.outcome)
    rows = grams.carrying(dimension, Basis(str(law.basis)), outcome)
    if not len(rows):
        raise NotEnoughData("no run of a time bucket carries the dimension on this basis")
    total = float(grams.n[rows].sum())
    held = []
    for place, name in enumerate(REGRESSORS):
        if place == list(Dimension).index(dimension):
            continue
        carried = rows[[grams.presence[row][place] != "-" for row in rows.tolist()]]
        if float(grams.n[carried].sum()) >= HELD_SHARE * total:
            held.append((place, name))
    for place, _ in held:
        rows = rows[[grams.presence[row][place] != "-" for row in rows.tolist()]]
    if not len(rows):
        raise NotEnoughData("no run carries all that has to be held fixed: publish complexity and settings with each")
    _, n, mean, comoment = grams.by_bucket(rows)
    return adjust_gram((n, mean, comoment), dimension, outcome, [name.removeprefix("ln_") for _, name in held])
