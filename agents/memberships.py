"""Find the distinct (context, slot) cells that a batch touches, without sorting."""

import numpy as np
from numpy.typing import NDArray

from analytics.fold import Membership

Ints = NDArray[np.int64]


def compress(codes: Ints) -> tuple[Ints, Ints]:
    """Renumber codes >= 0 densely: returns the distinct codes and, for each entry, its place among them (-1 stays)."""
    present = codes[codes >= 0]
    distinct = np.flatnonzero(np.bincount(present)) if len(present) else np.zeros(0, dtype=np.int64)
    if not len(distinct):
        return distinct, np.full(codes.shape, -1, dtype=np.int64)
    place = np.full(int(distinct[-1]) + 1, -1, dtype=np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, np.where(codes >= 0, place[np.maximum(codes, 0)], -1)


def memberships(contexts: Ints, slots: Ints, slot_count: int) -> tuple[Membership, Ints]:
    """Cross each row's contexts with its slots.

    Args:
        contexts: Context codes [N, K], -1 for none.
        slots: Slot ids [N, D], -1 for none.
        slot_count: Slot ids are below it.

    Returns:
        The membership over the distinct crossings, and those crossings as context * slot_count + slot.
    """
    known, local = compress(contexts)
    rows = len(contexts)
    crossed = local[:, :, None] * slot_count + slots[:, None, :]
    valid = (local >= 0)[:, :, None] & (slots >= 0)[:, None, :]
    if valid.all():
        entries = crossed.ravel()
        start = np.arange(rows + 1, dtype=np.int64) * (entries.size // max(rows, 1))
    else:
        entries = crossed[valid]
        start = np.concatenate(([0], np.cumsum(valid.sum(axis=(1, 2)))))
    counts = np.bincount(entries, minlength=len(known) * slot_count)
    used = np.flatnonzero(counts)
    place = np.empty(len(counts), dtype=np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    membership = Membership(start.astype(np.int32), place[entries], len(used))
    context, slot = np.divmod(used, slot_count)
    return membership, known[context] * slot_count + slot
