"""What laws tell together: strength borrowed between contexts, whether one foretells another, which trends stand."""

from collections import defaultdict
from collections.abc import Mapping

import msgspec
import numpy as np

from analytics.confidence_sequences import ALPHA
from analytics.laws import explained
from analytics.multiplicity import Scope, significance
from analytics.pooling import pool
from analytics.published import trend_p
from analytics.validation import leave_one_context_out
from models.contexts import GLOBAL, context_pairs
from models.dimensions import Basis
from models.errors import NotEnoughData
from models.laws import Law, Pooling, Transfer, Validation

EXPIRED = "expired"
POOLING, TRANSFER = "pooling", "validation.transfer"
MOVED = 0.02
"""A pooled slope is told anew once it has moved by this share of its standard error."""


def related(laws: Mapping[str, Law], before: Mapping[str, Law], scope: Scope = "all") -> dict[str, Law]:
    """Add to each law what its siblings and all other laws make of it.

    Siblings are the laws of one dimension, basis and outcome in contexts of the same keys. Their slopes on ln x (of
    ln y for time and cost) are pooled from three contexts on, and left out one by one from four on. A context with too
    few runs for a slope of its own starts from what its siblings foretell. e-BH goes over all laws given, by family.

    Args:
        laws: Laws by id, of one tier.
        before: What this gave the last time: pooled slopes that have hardly moved stay as they were.
        scope: The family of e-BH.
    """
    told = dict(laws)
    families: defaultdict[tuple[str, ...], list[Law]] = defaultdict(list)
    small: defaultdict[tuple[str, ...], list[Law]] = defaultdict(list)
    for law in laws.values():
        if law.context != GLOBAL and law.status != EXPIRED and law.basis != Basis.CATEGORY:
            keys = ",".join(key for key, _ in context_pairs(law.context))
            known = law.trend is not None and law.trend.se > 0
            (families if known else small)[keys, law.dimension, str(law.basis), law.outcome].append(law)
    for family, siblings in families.items():
        for law in [*_pooled(siblings, family[0], before), *_foretold(small[family], siblings, family[0], before)]:
            told[law.law_id] = law
    evident = {
        name: (trend_p(law.trend), law.e_value)
        for name, law in told.items()
        if law.trend is not None and law.e_value is not None
    }
    for name, judged in significance(evident, scope=scope).items():
        told[name] = msgspec.structs.replace(told[name], adjusted_significance=judged)
    return {name: explained(law) for name, law in told.items()}


def as_told(law: Law, before: Law | None) -> Law | None:
    """Give a law, fitted anew, what its siblings and all other laws made of it before; its own p-value is the new one.

    None where that is of another law: one of another epoch or basis, or with a slope where it had none. Such a law says
    what is right only once it has been related anew.
    """
    if before is None or _kind(law) != _kind(before):
        return None
    told = before.validation.transfer if before.validation else None
    validation = msgspec.structs.replace(law.validation or Validation(), transfer=told) if told else law.validation
    stands = before.adjusted_significance
    if stands is not None and law.trend is not None:
        p = trend_p(law.trend)
        stands = msgspec.structs.replace(stands, p=p, unadjusted=p <= ALPHA)
    reasons = {part: before.missing[part] for part in (POOLING, TRANSFER) if part in before.missing}
    return explained(
        msgspec.structs.replace(
            law,
            pooling=before.pooling,
            validation=validation,
            adjusted_significance=stands,
            missing=law.missing | reasons,
        )
    )


def _kind(law: Law) -> tuple[object, ...]:
    known = law.trend is not None and law.trend.se > 0
    return law.status == EXPIRED, law.epoch, law.epoch_since, law.basis, known, law.e_value is None


def _pooled(siblings: list[Law], keys: str, before: Mapping[str, Law]) -> list[Law]:
    slopes = np.array([law.trend.estimate for law in siblings if law.trend is not None])
    variances = np.array([law.trend.se**2 for law in siblings if law.trend is not None])
    told = siblings
    try:
        pooled = pool(slopes, variances)
        told = [
            msgspec.structs.replace(law, pooling=_settled(pooled.record(place, keys), before.get(law.law_id)))
            for place, law in enumerate(told)
        ]
        transfers = [_known(before.get(law.law_id), law) for law in told]
        if None in transfers:
            # Each context is foretold by a pooling of all others, which costs K times as much as the pooling itself.
            new = leave_one_context_out(slopes, variances)
            transfers = [known or each for known, each in zip(transfers, new, strict=True)]
    except NotEnoughData as reason:
        part = TRANSFER if told is not siblings else POOLING
        return [msgspec.structs.replace(law, missing=law.missing | {part: str(reason)}) for law in told]
    return [
        msgspec.structs.replace(
            law,
            validation=msgspec.structs.replace(law.validation or Validation(), transfer=transfer),
        )
        for law, transfer in zip(told, transfers, strict=True)
    ]


def _foretold(laws: list[Law], siblings: list[Law], keys: str, before: Mapping[str, Law]) -> list[Law]:
    """Give contexts without a slope of their own the one that their siblings foretell for a context not yet seen."""
    if not laws:
        return []
    slopes = [law.trend for law in siblings if law.trend is not None]
    try:
        pooled = pool(np.array([slope.estimate for slope in slopes]), np.array([slope.se**2 for slope in slopes]))
    except NotEnoughData as reason:
        return [msgspec.structs.replace(law, missing=law.missing | {POOLING: str(reason)}) for law in laws]
    start = Pooling(
        slope=pooled.new_context(),
        between_sd=pooled.between_sd,
        prior_weight=1.0,
        prior_dominated=True,
        contexts=len(slopes),
        family=keys,
    )
    return [msgspec.structs.replace(law, pooling=_settled(start, before.get(law.law_id))) for law in laws]


def _settled(pooling: Pooling, before: Law | None) -> Pooling:
    """Keep the pooling told before where the new one says the same to a reader."""
    known = before.pooling if before is not None else None
    if known is None or (known.contexts, known.prior_dominated) != (pooling.contexts, pooling.prior_dominated):
        return pooling
    moved = abs(known.slope.estimate - pooling.slope.estimate) + abs(known.slope.se - pooling.slope.se)
    return known if moved <= MOVED * pooling.slope.se else pooling


def _known(before: Law | None, law: Law) -> Transfer | None:
    """Give the transfer told before where the pooling, of the same contexts, has not moved either."""
    if before is None or before.validation is None or law.pooling is None or before.pooling != law.pooling:
        return None
    return before.validation.transfer
