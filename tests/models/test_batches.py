"""Micro-batches and parts of them."""

from dataclasses import replace

from models.batches import Batch

BATCH = Batch("t", 1, [5, 7, 8], [50, 70, 80], [b"a", None, b"c"], [b"x", b"y", None], [(), [("h", b"1")], ()])


def test_taking_records_keeps_what_belongs_together() -> None:
    """Every sequence is taken at the same places, in the order asked for."""
    assert BATCH.take([2, 1]) == Batch("t", 1, [8, 7], [80, 70], [b"c", None], [None, b"y"], [(), [("h", b"1")]])
    assert len(BATCH.take([])) == 0


def test_a_slice_is_what_taking_its_places_gives() -> None:
    """The whole batch is itself, not a copy; a later part begins where its first record stands."""
    assert BATCH.slice(1, 9) == replace(BATCH.take([1, 2]), start=7)
    assert BATCH.slice(0, 2).offsets == BATCH.take([0, 1]).offsets
    assert BATCH.slice(0, 3) is BATCH
