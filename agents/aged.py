"""A law as it looks when old runs weigh less: for display, by no means an answer to drift."""

import numpy as np

from agents.refits import RunColumns
from analytics.buckets import Buckets
from analytics.forgetting import Forgotten, forgotten
from models.dimensions import CLIP, LESS_IS_BETTER, Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law

SECONDS_AN_HOUR = 3600.0


def aged(runs: RunColumns, law: Law, half_life: float, bucket_seconds: int) -> Forgotten:
    """Fit the outcome (ln of time and cost) on ln x, runs of a bucket weighing half as much every `half_life` hours.

    Args:
        runs: The runs that the law has seen.
        law: The law.
        half_life: Hours after which a run counts half.
        bucket_seconds: Length of a bucket.

    Raises:
        NotEnoughData: A category, no run above zero, or too few runs left after forgetting.
    """
    dimension, basis, outcome = Dimension(law.dimension), Basis(str(law.basis)), Outcome(law.outcome)
    if basis is Basis.CATEGORY:
        raise NotEnoughData(f"law {law.law_id} is over categories: a slope needs numbers")
    x, y = runs.x[dimension, basis], runs.outcomes[outcome]
    kept = np.flatnonzero((x > 0) & ~np.isnan(y))
    if not len(kept):
        raise NotEnoughData(f"no run of law {law.law_id} has a value above zero: there is no slope to show")
    pair = np.stack(
        (np.log(x[kept]), np.log(np.maximum(y[kept], CLIP)) if outcome in LESS_IS_BETTER else y[kept]), axis=1
    )
    buckets, place = np.unique(runs.bucket[kept], return_inverse=True)
    n = np.bincount(place).astype(np.float64)
    mean = np.stack([np.bincount(place, column) / n for column in pair.T], axis=1)
    away = pair - mean[place]
    products = [[np.bincount(place, one * other) for other in away.T] for one in away.T]
    comoment = np.asarray(products, np.float64).transpose(2, 0, 1)
    age = np.asarray((runs.newest - buckets) * (bucket_seconds / SECONDS_AN_HOUR), np.float64)
    return forgotten(Buckets.from_moments(n, mean, comoment), age, half_life)
