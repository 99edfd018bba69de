"""The working copy of a table of moments: what it writes, reads back, and keeps exact."""

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.moment_table import HEADER, NO_BUCKET, MomentTable, decode_rows, encode_rows, is_empty
from analytics.fold import Folded, Membership, fold
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
    with pytest.raises(StackError, match=r"schema_version 2 and this program reads 1 to 1.*docs/upgrade.md"):
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


def folded_of(y: Floats) -> Folded:
    """Fold rows into one cell."""
    members = Membership(np.arange(len(y) + 1, dtype=np.int32), np.zeros(len(y), dtype=np.int32), 1)
    return fold(members, y, y.mean(axis=0))


def test_thousands_of_corrections_cost_few_digits() -> None:
    """Rows that come and go five thousand times leave the moments of those that stay, to 1e-11 of their spread."""
    rng = np.random.default_rng(11)
    seen = np.ones((1, 3), dtype=bool)

    def draw(rows: int) -> Floats:
        return np.column_stack((rng.random(rows) < 0.4, rng.lognormal(6, 1, rows), rng.normal(1e4, 3, rows)))

    table, rows = MomentTable(3), draw(200)
    table.fold([b"k"], folded_of(rows), seen)
    for _ in range(5000):
        at = rng.choice(200, rng.integers(1, 5), replace=False)
        newer = draw(len(at))
        table.fold([b"k"], folded_of(newer), seen)
        table.unfold([b"k"], folded_of(rows[at]), seen)
        rows[at] = newer
    n, mean, comoment = table.moments([b"k"])
    expected = from_rows(rows.astype(np.longdouble))
    first, second = triangle(3)
    spread = np.sqrt(np.asarray(expected[2], np.float64)[first == second])
    assert n[0] == 200
    np.testing.assert_allclose(mean[0], np.asarray(expected[1], np.float64), rtol=1e-12)
    assert (np.abs(comoment[0] - expected[2]) <= 1e-11 * spread[first] * spread[second]).all()


def test_a_far_outlier_takes_digits_with_it_and_no_more_than_its_size_says() -> None:
    """Milliseconds for seconds cost nothing that counts; a value ten million deviations away leaves three digits."""
    rng = np.random.default_rng(12)
    rows = rng.normal(400, 100, (300, 1))
    expected = np.asarray(from_rows(rows)[2], np.float64)
    for wrong, allowed in ((400_000.0, 1e-9), (1e9, 1e-3)):
        table, seen = MomentTable(1), np.ones((1, 1), dtype=bool)
        outlier = np.array([[wrong]])
        for part in (rows[:100], outlier, rows[100:]):
            table.fold([b"k"], folded_of(part), seen)
        table.unfold([b"k"], folded_of(outlier), seen)
        _, _, comoment = table.moments([b"k"])
        assert abs(comoment[0, 0] / expected[0] - 1) <= allowed


def test_a_cell_that_lost_all_its_runs_is_empty_and_stays() -> None:
    """It is written with n = 0, reads back, takes runs again, and gives no more than it has."""
    table, seen = MomentTable(2), np.ones((1, 2), dtype=bool)
    rows = np.array([[1.0, 5.0], [0.0, 7.0]])
    table.fold([b"k"], folded_of(rows), seen)
    table.unfold([b"k"], folded_of(rows), seen)
    (value,) = table.drain(4).values()
    assert value is not None
    assert is_empty(value)
    assert np.frombuffer(value[24:], "<f8").any() == np.False_
    table.fold([b"k"], folded_of(rows[:1]), seen)
    (value,) = table.drain(5).values()
    assert not is_empty(value or b"")
    with pytest.raises(StackError, match="scaling rebuild"):
        table.unfold([b"k"], folded_of(rows), seen)


def test_shares_stay_shares() -> None:
    """A cell of failures, or successes, that loses its one other run has a mean of exactly 0, or 1, and no spread."""
    seen = np.ones((1, 1), dtype=bool)
    for share in (0.0, 1.0):
        for count in range(1, 60):
            table = MomentTable(1)
            same, other = np.full((count, 1), share), np.array([[1 - share]])
            table.fold([b"k"], folded_of(np.concatenate((same, other))), seen)
            table.unfold([b"k"], folded_of(other), seen)
            n, mean, comoment = table.moments([b"k"])
            assert (n[0], mean[0, 0], comoment[0, 0]) == (count, share, 0.0)
