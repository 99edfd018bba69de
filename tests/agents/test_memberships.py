"""Crossing contexts with slots, against a loop over every pair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.memberships import compress, memberships

CODES = st.integers(-1, 5)


@given(st.integers(0, 20), st.integers(1, 3), st.integers(1, 3), st.data())
def test_every_row_is_in_the_crossings_of_its_contexts_and_slots(
    rows: int, kinds: int, levels: int, data: st.DataObject
) -> None:
    """Each valid pair is one entry of its row, and only crossings that some row is in are numbered."""
    contexts = np.array(
        data.draw(st.lists(st.lists(CODES, min_size=kinds, max_size=kinds), min_size=rows, max_size=rows))
    )
    slots = np.array(
        data.draw(st.lists(st.lists(CODES, min_size=levels, max_size=levels), min_size=rows, max_size=rows))
    )
    contexts, slots = contexts.reshape(rows, kinds).astype(int), slots.reshape(rows, levels).astype(int)
    membership, crossings = memberships(contexts, slots, 6)
    expected = [
        [context * 6 + slot for context in own for slot in its if context >= 0 and slot >= 0]
        for own, its in zip(contexts.tolist(), slots.tolist(), strict=True)
    ]
    ends = zip(membership.start, membership.start[1:], strict=False)
    found = [[int(crossings[cell]) for cell in membership.cells[first:last]] for first, last in ends]
    assert found == expected
    assert sorted(crossings.tolist()) == sorted({crossing for row in expected for crossing in row})
    assert membership.count == len(crossings)


@given(st.lists(CODES))
def test_compressed_codes_read_back(codes: list[int]) -> None:
    """The distinct codes are those that occur, ascending; each entry points at its own, and none stays none."""
    distinct, local = compress(np.array(codes, dtype=np.int64))
    assert distinct.tolist() == sorted({code for code in codes if code >= 0})
    assert [int(distinct[place]) if place >= 0 else -1 for place in local.tolist()] == codes
