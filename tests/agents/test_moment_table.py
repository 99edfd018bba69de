"""The working copy of a table of moments: what it writes, reads back, and keeps exact."""

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.moment_table import HEADER, NO_BUCKET, MomentTable, decode_rows, encode_rows
from analytics.fold import Membership, fold
from analytics.moments import Moments, from_rows, triangle
from models.errors import StackError

Floats = NDArray[np.float64]


def moments_of(y: Floats) -> Moments:
    """Make one row of moments."""
    n, mean, comoment = from_rows(y)
    return n[None], mean[None], comoment[None]


def test_a_value_is_little_endian_words_in_a_fixed_order() -> None:
    """Schema, offset, bucket and n; then means, then the upper triangle of co-moments, 64 bits each."""
    y = np.array([[1.0, 10.0], [2.0, 14.0], [6.0, 12.0]])
    (value,) = encode_rows(77, np.array([5]), moments_of(y))
    assert np.frombuffer(value[:24], "<i8").tolist() == [1, 77, 5]
    assert np.frombuffer(value[24:], "<f8").tolist() == [3.0, 3.0, 12.0, 14.0, 2.0, 8.0]
    assert len(value) == 8 * (HEADER + 2 + 3)
    offsets, buckets, (n, mean, comoment) = decode_rows([value], 2)
    assert (offsets[0], buckets[0], n[0]) == (77, 5, 3)
    assert (mean.tolist(), comoment.tolist()) == ([[3.0, 12.0]], [[14.0, 2.0, 8.0]])


def test_a_value_of_another_version_is_refused() -> None:
    """A wrong length or schema number is an error that says so, never numbers read from the wrong place."""
    (value,) = encode_rows(0, np.array([0]), moments_of(np.ones((1, 2))))
    with pytest.raises(StackError, match="another version"):
        decode_rows([value + b"x"], 2)
    with pytest.raises(StackError, match="another schema version"):
        decode_rows([b"\x02" + value[1:]], 2)


def test_loading_what_was_drained_gives_the_same_table() -> None:
    """Values and buckets come back bit for bit; what was loaded is not dirty."""
    rng = np.random.default_rng(2)
    table = MomentTable(3)
    for number in range(300):
        key = b"%d" % (number % 270)
        table.merge([key], moments_of(rng.normal(size=(4, 3))))
        table.set_bucket(key, number)
    drained = table.drain(9)
    again = MomentTable(3)
    again.load([(key, value) for key, value in drained.items() if value is not None])
    assert len(again) == 270
    assert again.drain(9) == {}
    for one, other in zip(table.moments(list(table)), again.moments(list(table)), strict=True):
        assert np.array_equal(one, other)
    assert again.bucket(b"0") == 270
    assert table.drain(10) == {}


def test_a_removed_key_leaves_a_tombstone_and_its_row_starts_empty_again() -> None:
    """The freed row holds nothing of the old key; a key that comes back before the drain is written, not removed."""
    table = MomentTable(1)
    table.merge([b"a", b"b"], (np.ones(2), np.array([[5.0], [6.0]]), np.zeros((2, 1))))
    table.set_bucket(b"a", 3)
    table.drain(1)
    table.remove(b"a")
    assert table.drain(2) == {b"a": None}
    table.merge([b"c"], moments_of(np.array([[8.0]])))
    assert table.moments([b"c"])[1].tolist() == [[8.0]]
    assert table.bucket(b"c") == NO_BUCKET
    table.remove(b"b")
    table.merge([b"b"], moments_of(np.array([[1.0]])))
    changes = table.drain(3)
    assert changes.keys() == {b"b", b"c"}
    assert None not in changes.values()
    assert b"a" not in table


def test_batches_merged_one_by_one_keep_the_variance_at_a_large_offset() -> None:
    """Folding batch after batch at an offset of 1e9 gives the variance that two passes over all rows give."""
    rng = np.random.default_rng(7)
    y: Floats = np.empty((5000, 2))
    y[:, 0], y[:, 1] = rng.random(5000) < 0.3, 1e9 + rng.normal(0, 1, 5000)
    table = MomentTable(2)
    for at in range(0, 5000, 100):
        rows = y[at : at + 100]
        members = Membership(np.arange(101, dtype=np.int32), np.zeros(100, dtype=np.int32), 1)
        # The centre is that of another, faraway column mean: the batch alone would lose every digit.
        table.fold([b"k"], fold(members, rows, np.array([0.5, 0.0])), np.ones((1, 2), dtype=bool))
    n, _, comoment = table.moments([b"k"])
    assert n[0] == 5000
    first, second = triangle(2)
    expected = np.cov(y.T.astype(np.longdouble) - np.array([[0], [10**9]])) * 4999
    np.testing.assert_allclose(comoment[0], np.asarray(expected, np.float64)[first, second], rtol=1e-6, atol=1e-3)


def test_means_of_what_is_not_observed_are_zero() -> None:
    """A variable that a cell's runs do not carry has mean 0 and no co-moments, whatever stood in for it."""
    members = Membership(np.arange(3, dtype=np.int32), np.zeros(2, dtype=np.int32), 1)
    table = MomentTable(2)
    y, centre = np.array([[1.0, 40.0], [3.0, 40.0]]), np.array([2.0, 40.0])
    table.fold([b"k"], fold(members, y, centre), np.array([[True, False]]))
    _, mean, comoment = table.moments([b"k"])
    assert mean.tolist() == [[2.0, 0.0]]
    assert comoment.tolist() == [[2.0, 0.0, 0.0]]
