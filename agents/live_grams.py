"""Fold a batch into the Grams of one source partition: joint moments of all dimensions and outcomes by time bucket."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agents.columns import Columns, observed_outcomes
from agents.context_index import ContextIndex
from agents.live_cells import group_codes, split_group
from agents.memberships import compress, memberships
from agents.moment_table import MomentTable
from analytics.fold import Folded, fold
from models.cells import GramKey
from models.dimensions import BASES, Dimension

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REGRESSORS: tuple[str, ...] = (*(f"ln_{dimension}" for dimension in Dimension), "complexity")
"""The regressors of a Gram, in order; the constant 1 is the count."""
OUTCOMES: tuple[str, ...] = (
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
    "ln_time",
    "ln_cost",
)
"""The outcomes of a Gram, in order; they follow the regressors in its arrays."""

ABSENT, REALISED, DOSE = range(3)
PRESENCE = "-rd"
STATES = len(PRESENCE)
HISTORY = -1


class LiveGrams:
    """The Grams of one source partition: the last `kept` time buckets apart, everything older in history."""

    def __init__(self, partition: int, contexts: ContextIndex, bucket_seconds: int, kept: int) -> None:
        self.table = MomentTable(len(REGRESSORS) + len(OUTCOMES))
        self._partition = partition
        self._contexts = contexts
        self._bucket_seconds = bucket_seconds
        self._kept = kept
        self._newest = 0
        self._buckets: dict[int, set[bytes]] = {}

    def load(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Fill the empty Grams from stored values."""
        self.table.load(items)
        for encoded in self.table:
            bucket = GramKey.decode(encoded).bucket
            if bucket is None:
                self._newest = max(self._newest, self.table.bucket(encoded) + self._kept)
            else:
                self._newest = max(self._newest, bucket)
                self._buckets.setdefault(bucket, set()).add(encoded)

    @property
    def _last_in_history(self) -> int:
        return self._newest - self._kept

    def fold(self, columns: Columns, contexts: Ints) -> None:
        """Fold the events of a batch into the Grams of their contexts, given as codes [N, K]."""
        self._newest = max(self._newest, int(self._buckets_of(columns).max()))
        self._retire()
        keys, names, folded, observed = self._placed(columns, contexts)
        self.table.fold(names, folded, observed)
        for key, name in zip(keys, names, strict=True):
            if key.bucket is None:
                self.table.set_bucket(name, self._last_in_history)
            else:
                self._buckets.setdefault(key.bucket, set()).add(name)

    def unfold(self, columns: Columns, contexts: Ints) -> None:
        """Take events out again, from where their buckets are by now."""
        _, names, folded, observed = self._placed(columns, contexts)
        self.table.unfold(names, folded, observed)

    def _buckets_of(self, columns: Columns) -> Ints:
        buckets: Ints = np.floor(columns.completed / self._bucket_seconds).astype(np.int64)
        return buckets

    def _placed(self, columns: Columns, contexts: Ints) -> tuple[list[GramKey], list[bytes], Folded, NDArray[np.bool_]]:
        """Fold events by Gram: the keys, the same encoded, the moments, and what is observed."""
        buckets = self._buckets_of(columns)
        buckets = np.where(buckets <= self._last_in_history, HISTORY, buckets)
        phi, presence = _regressors(columns)
        distinct, slots = _distinct(buckets, group_codes(columns), presence)
        membership, crossings = memberships(contexts, slots[:, None], len(distinct))
        keys = [self._key(crossing, distinct) for crossing in crossings.tolist()]
        encoded = [key.encode() for key in keys]
        y = np.column_stack((phi, columns.outcomes[:, : len(OUTCOMES)]))
        of_key = crossings % len(distinct)
        observed = np.ones((len(keys), len(REGRESSORS) + len(OUTCOMES)), dtype=bool)
        observed[:, : len(REGRESSORS)] = [[state != PRESENCE[ABSENT] for state in key.presence] for key in keys]
        observed[:, len(REGRESSORS) :] = observed_outcomes(distinct[of_key, 1])[:, : len(OUTCOMES)]
        centre = np.concatenate((phi.mean(axis=0), columns.centre[: len(OUTCOMES)]))
        return keys, encoded, fold(membership, y, centre), observed

    def _key(self, crossing: int, distinct: Ints) -> GramKey:
        context, slot = divmod(crossing, len(distinct))
        bucket, group, presence = distinct[slot].tolist()
        source, mask = split_group(group)
        number = None if bucket == HISTORY else bucket
        return GramKey(self._partition, self._contexts.ids[context], number, source, _presence(presence), mask)

    def _retire(self) -> None:
        """Move buckets that are no longer kept apart into history."""
        for bucket in sorted(bucket for bucket in self._buckets if bucket <= self._last_in_history):
            for encoded in sorted(self._buckets.pop(bucket)):
                key = GramKey.decode(encoded)
                history = GramKey(key.partition, key.context, None, key.source, key.presence, key.mask).encode()
                self.table.merge([history], self.table.moments([encoded]))
                self.table.set_bucket(history, self._last_in_history)
                self.table.remove(encoded)


@cache
def _presence(code: int) -> str:
    """Write a presence code: one of at most 3^7."""
    digits = np.base_repr(code, STATES).rjust(len(REGRESSORS), "0")
    return "".join(PRESENCE[int(digit)] for digit in digits)


def _distinct(buckets: Ints, groups: Ints, presence: Ints) -> tuple[Ints, Ints]:
    """List the distinct (bucket, group, presence) [S, 3], and each event's place among them."""
    shapes, shape = compress(groups * STATES ** len(REGRESSORS) + presence)
    spans, span = np.unique(buckets, return_inverse=True)
    slots, slot = compress(span * len(shapes) + shape)
    bucket = spans[slots // len(shapes)]
    group, present = np.divmod(shapes[slots % len(shapes)], STATES ** len(REGRESSORS))
    return np.column_stack((bucket, group, present)), slot


def _regressors(columns: Columns) -> tuple[Floats, Ints]:
    """Build φ [N, 7], 0 where absent, and each event's presence code: one base-3 digit a regressor."""
    rows = len(columns)
    phi = np.zeros((rows, len(REGRESSORS)))
    presence = np.zeros(rows, dtype=np.int64)
    for position, dimension in enumerate(Dimension):
        state = np.zeros(rows, dtype=np.int64)
        for basis in reversed([basis for basis in BASES[dimension] if basis != "category"]):
            x = columns.dimensions[dimension, basis]
            present = x > 0
            if present.all():
                phi[:, position] = np.log(x)
                state[:] = DOSE if basis == "dose" else REALISED
            elif present.any():
                phi[present, position] = np.log(x[present])
                state[present] = DOSE if basis == "dose" else REALISED
        presence = presence * STATES + state
    known = ~np.isnan(columns.complexity)
    phi[:, -1] = np.where(known, columns.complexity, 0.0)
    return phi, presence * STATES + np.where(known, REALISED, ABSENT)
