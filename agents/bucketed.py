"""What the Grams' time buckets tell of a context's live laws: the adjusted slope, and whether the law still holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.live_grams import OUTCOMES, REGRESSORS
from agents.moment_table import decode_rows
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
Flags = NDArray[np.bool_]

STATES = {Basis.DOSE: "d", Basis.REALISED: "r"}
HELD_SHARE = 0.8
"""A regressor that so many of the runs carry is held fixed; the runs without it are then left out."""

COMPLEXITY = REGRESSORS.index("complexity")
"""The axis of complexity in a Gram."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What is watched of L laws in T complete buckets.

    Attributes:
        bucket: The buckets, ascending; HISTORY is the first where there is one. [T]
        n: Runs; 0 where a law is not judged. [L, T]
        mean: Of ln x, the outcome and complexity, which is 0 where it is not known of enough runs. [L, T, 3]
        comoment: Likewise. [L, T, 3, 3]
        graded: Whether the complexity of enough of a law's runs is known; the others are then left out. [L]
    """

    bucket: Ints
    n: Floats
    mean: Floats
    comoment: Floats
    graded: Flags


def with_buckets(
    laws: Sequence[Law], grams: ContextGrams, settings: Settings, newest: int, known: Mapping[str, Drift]
) -> list[Law]:
    """Add to a context's laws what its buckets tell.

    Args:
        laws: Laws of one context.
        grams: The context's Grams.
        settings: Length of a bucket, limit of the detector.
        newest: The newest bucket of all; it still takes runs and is not judged.
        known: Alarms that have sounded before. With the bucket of its alarm a law began anew: older buckets, and
            history, which has both regimes, are not judged again, and only a later alarm takes the place of this one.
    """
    alarms = {law.law_id: drift for law in laws if (drift := known.get(law.law_id)) is not None and drift.alarm}
    found = [grams.carrying(Dimension(law.dimension), Basis(str(law.basis)), Outcome(law.outcome)) for law in laws]
    told = [(law, rows) for law, rows in zip(laws, found, strict=True) if len(rows)]
    series = _series(told, grams, newest, [_begin(alarms.get(law.law_id), settings.bucket_seconds) for law, _ in told])
    judged = _judge([law for law, _ in told], series, settings, alarms)
    return [_told(law, judged.get(law.law_id), grams, alarms.get(law.law_id)) for law in laws]


def _begin(known: Drift | None, bucket_seconds: int) -> int:
    """Give the first bucket by which a law is judged: the one that its known alarm is of, or all there is."""
    if known is None:
        return HISTORY
    if known.since is None:
        return HISTORY + 1
    return int(datetime.fromisoformat(known.since).timestamp() // bucket_seconds)


def _series(told: Sequence[tuple[Law, Ints]], grams: ContextGrams, newest: int, begins: Sequence[int]) -> Series:
    """Gather the complete buckets of all laws, each from the one on with which its epoch begins."""
    buckets = np.unique(grams.bucket[grams.bucket < newest])
    n, graded = np.zeros((len(told), len(buckets))), np.zeros(len(told), dtype=bool)
    mean, comoment = np.zeros((*n.shape, 3)), np.zeros((*n.shape, 3, 3))
    scored = np.array([presence[COMPLEXITY] != "-" for presence in grams.presence], dtype=bool)
    for number, ((law, rows), begin) in enumerate(zip(told, begins, strict=True)):
        judged = rows[(grams.bucket[rows] >= begin) & (grams.bucket[rows] < newest)]
        known = judged[scored[judged]]
        graded[number] = bool(grams.n[known].sum() >= HELD_SHARE * grams.n[judged].sum())
        judged = known if graded[number] else judged
        if not len(judged):
            continue
        outcome = Outcome(law.outcome)
        g = list(Dimension).index(Dimension(law.dimension))
        y = len(REGRESSORS) + OUTCOMES.index(str(ON_LOG_SCALE.get(outcome, outcome)))
        at, runs, means, products = grams.by_bucket(judged, [g, y, COMPLEXITY])
        places, axes = np.searchsorted(buckets, at), 3 if graded[number] else 2
        n[number, places] = runs
        mean[number, places, :axes] = means[:, :axes]
        comoment[number, places, :axes, :axes] = products[:, :axes, :axes]
    return Series(buckets, n, mean, comoment, graded)


def _judge(laws: Sequence[Law], series: Series, settings: Settings, known: Mapping[str, Drift]) -> dict[str, Law]:
    """Judge the buckets of all laws at once; give each law with its drift and forecasts."""
    starts = [max(int(bucket), 0) * settings.bucket_seconds for bucket in series.bucket]
    pseudo = np.array([1.0 if law.outcome == Outcome.SUCCESS else 0.0 for law in laws])
    limit = settings.drift_limit
    pairs = Buckets.net(series.n, series.mean, series.comoment)
    detector, _ = judge(pairs, starts, len(starts), detector=Detector.start(len(laws), pseudo), limit=limit)
    mix = _mix_moved(series, starts, limit)
    kept = min((start for bucket, start in zip(series.bucket, starts, strict=True) if bucket != HISTORY), default=0)
    recent = [_sounded_at(detector, place, known.get(law.law_id)) >= kept for place, law in enumerate(laws)]
    told: dict[str, Law] = {}
    for number, law in enumerate(laws):
        before = known.get(law.law_id)
        try:
            drift, forward = detector.drift(number, limit=limit), detector.forward_chaining(number)
        except NotEnoughData as reason:
            missing = law.missing if before else law.missing | {"drift": str(reason)}
            told[law.law_id] = msgspec.structs.replace(law, drift=before, missing=missing)
            continue
        moved = {
            Outcome(other.outcome): now
            for other, now in zip(laws, recent, strict=True)
            if other.dimension == law.dimension
        }
        cause = drift_cause(Outcome(law.outcome), moved, mix_moved=bool(mix[number]))
        if before is not None and not drift.alarm:
            # What made the costs move may show in the other outcomes later: then it was not the price.
            drift, cause = before, cause if cause == "law" else before.cause
        told[law.law_id] = msgspec.structs.replace(
            law, drift=msgspec.structs.replace(drift, cause=cause), validation=Validation(forward=forward)
        )
    return told


def _mix_moved(series: Series, starts: Sequence[float], limit: float) -> Flags:
    """Tell of which laws the mean of ln x, or of complexity, has drifted."""
    alone = Buckets.of_means(
        np.concatenate((series.n, series.n * series.graded[:, None])),
        np.concatenate((series.mean[..., 0], series.mean[..., 2])),
        np.concatenate((series.comoment[..., 0, 0], series.comoment[..., 2, 2])),
    )
    detector, _ = judge(alone, starts, len(starts), limit=limit)
    return np.asarray((detector.sounded > 0).reshape(2, -1).any(axis=0))


def _sounded_at(detector: Detector, law: int, known: Drift | None) -> float:
    """Give the start of the bucket of a law's newest alarm, -inf where it has none."""
    if detector.sounded[law] > 0:
        return float(detector.since[law])
    return datetime.fromisoformat(known.since).timestamp() if known and known.since else -math.inf


def _told(law: Law, judged: Law | None, grams: ContextGrams, known: Drift | None) -> Law:
    """Add the adjusted slope beside the published curve, and mark a law that has drifted."""
    if judged is None:
        reason = "no run of a time bucket carries the dimension on this basis: drift is not watched"
        judged = msgspec.structs.replace(law, drift=known, missing=law.missing | {"drift": reason})
    status = "drifted" if judged.drift is not None and judged.drift.alarm else law.status
    judged = msgspec.structs.replace(judged, status=status)
    try:
        adjusted = adjusted_by_grams(law, grams)
    except NotEnoughData as reason:
        return explained(msgspec.structs.replace(judged, missing=judged.missing | {"adjusted": str(reason)}))
    return explained(msgspec.structs.replace(judged, adjusted=adjusted, confounding_gap=adjusted.gap))


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
