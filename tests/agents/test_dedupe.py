"""Which events are new, duplicates, corrections or superseded, against a plain dictionary."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dedupe import BLOCK, SeenRuns, Verdict
from models.errors import StackError

Event = tuple[int, int, int]
"""Run id, content, revision."""


def judged(seen: SeenRuns, events: Sequence[Event], first_offset: int = 0) -> list[Verdict]:
    """Judge events as one batch."""
    ids, contents, revisions = ([event[place] for event in events] for place in range(3))
    offsets = list(range(first_offset, first_offset + len(events)))
    return [Verdict(verdict) for verdict in seen.judge(ids, contents, offsets, revisions).verdicts.tolist()]


def expected(events: Sequence[Event]) -> list[Verdict]:
    """Judge events with a dictionary, one by one."""
    known: dict[int, tuple[int, int]] = {}
    verdicts = []
    for run, content, revision in events:
        if run not in known:
            verdicts.append(Verdict.NEW)
        elif known[run] == (revision, content):
            verdicts.append(Verdict.DUPLICATE)
            continue
        elif revision < known[run][0]:
            verdicts.append(Verdict.SUPERSEDED)
            continue
        else:
            verdicts.append(Verdict.CORRECTION)
        known[run] = (revision, content)
    return verdicts


def stored(seen: SeenRuns, blocks: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Apply a drain to stored blocks."""
    for key, value in seen.drain().items():
        if value is None:
            blocks.pop(key, None)
        else:
            blocks[key] = value
    return blocks


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2), st.integers(0, 2)), max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_verdicts_are_those_of_a_dictionary_through_batches_and_restarts(events: list[Event], cuts: list[int]) -> None:
    """Within one batch, over batches, and after reloading the drained blocks, verdicts are the same."""
    seen, blocks, found = SeenRuns(3, 1000), dict[bytes, bytes](), list[Verdict]()
    places = sorted({0, *(min(cut, len(events)) for cut in cuts), len(events)})
    for first, last in pairwise(places):
        found += judged(seen, events[first:last], first)
        blocks = stored(seen, blocks)
        seen = SeenRuns(3, 1000)
        seen.load(list(blocks.items()))
    assert found == expected(events)


def test_a_run_is_known_across_blocks_and_in_the_batch_that_fills_one() -> None:
    """More runs than a block holds, each repeated at the end of the same batch, and again in the next."""
    events = [(run, 0, 0) for run in range(BLOCK + 100)]
    seen = SeenRuns(0, 3 * BLOCK)
    verdicts = judged(seen, events + events)
    assert verdicts == [Verdict.NEW] * len(events) + [Verdict.DUPLICATE] * len(events)
    assert set(judged(seen, events)) == {Verdict.DUPLICATE}
    assert list(seen.drain()) == [b"0|000000000000", b"0|000000000001"]


def test_a_correction_is_remembered_in_the_block_of_its_run() -> None:
    """Only that block is written again, and after a reload the correction itself is the duplicate."""
    seen = SeenRuns(0, 3 * BLOCK)
    judged(seen, [(run, 0, 0) for run in range(2 * BLOCK)])
    blocks = stored(seen, {})
    assert judged(seen, [(5, 9, 1)]) == [Verdict.CORRECTION]
    changes = seen.drain()
    assert list(changes) == [b"0|000000000000"]
    again = SeenRuns(0, 3 * BLOCK)
    again.load([(key, value) for key, value in (blocks | changes).items() if value is not None])
    assert judged(again, [(5, 9, 1), (5, 0, 0), (5, 8, 1)]) == [
        Verdict.DUPLICATE,
        Verdict.SUPERSEDED,
        Verdict.CORRECTION,
    ]


def test_a_correction_names_the_record_that_counted_until_then() -> None:
    """In a batch, over batches and after a reload; and the record before it where that had to stay."""
    seen = SeenRuns(0, 3 * BLOCK)
    judged_now = seen.judge([5, 6, 5, 5], [0, 0, 1, 0], [10, 11, 12, 13], [0, 0, 1, 0])
    assert (judged_now.verdicts.tolist(), judged_now.replaced) == ([0, 0, 2, 3], {2: 10})
    again = SeenRuns(0, 3 * BLOCK)
    again.load(list(stored(seen, {}).items()))
    assert again.judge([6, 5], [0, 2], [20, 21], [1, 1]).replaced == {0: 11, 1: 12}
    again.keep(5, 12)
    again.keep(7, 1)
    assert list(again.drain()) == [b"0|000000000000"]
    assert again.judge([5], [3], [30], [1]).replaced == {0: 12}


def test_at_least_the_last_runs_are_remembered_and_the_oldest_are_evicted_in_whole_blocks() -> None:
    """After a capacity of runs and more the newest `capacity` are known, the oldest block is a tombstone."""
    capacity = 2 * BLOCK
    seen = SeenRuns(0, capacity)
    blocks: dict[bytes, bytes] = {}
    for first in range(0, 5 * BLOCK, 1000):
        judged(seen, [(run, 0, 0) for run in range(first, first + 1000)])
        blocks = stored(seen, blocks)
    total = range(0, 5 * BLOCK, 1000)[-1] + 1000
    assert capacity <= len(seen) <= capacity + 2 * BLOCK
    assert b"0|000000000000" not in blocks
    again = SeenRuns(0, capacity)
    again.load(list(blocks.items()))
    newest = [(run, 0, 0) for run in range(total - capacity, total)]
    assert set(judged(again, newest)) == {Verdict.DUPLICATE}
    assert judged(again, [(0, 0, 0)]) == [Verdict.NEW]


def test_a_run_that_was_evicted_and_came_back_survives_the_eviction_of_its_new_neighbours() -> None:
    """Its entry is the newer one: dropping the old block must not forget it."""
    seen = SeenRuns(0, BLOCK)
    judged(seen, [(run, 0, 0) for run in range(2 * BLOCK)])
    judged(seen, [(run, 0, 0) for run in range(2 * BLOCK, 3 * BLOCK)])
    assert judged(seen, [(0, 0, 0)]) == [Verdict.NEW]
    judged(seen, [(run, 0, 0) for run in range(3 * BLOCK, 3 * BLOCK + 10)])
    assert judged(seen, [(0, 0, 0)]) == [Verdict.DUPLICATE]


def test_a_block_of_another_version_is_refused() -> None:
    """Entries are never read from bytes of another layout."""
    with pytest.raises(StackError, match="schema_version 2 and this program reads 1 to 1"):
        SeenRuns(0, 10).load([(b"0|000000000000", b"\x02" + bytes(32))])


def test_ids_use_all_64_bits() -> None:
    """Hashes above 2^63 are kept as they are."""
    seen = SeenRuns(0, 10)
    top = 2**64 - 1
    judged(seen, [(top, top, 0)])
    again = SeenRuns(0, 10)
    again.load(list(stored(seen, {}).items()))
    assert judged(again, [(top, top, 0)]) == [Verdict.DUPLICATE]
    assert again.judge([], [], [], []).verdicts.dtype == np.int8
