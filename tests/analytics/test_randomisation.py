"""Randomisation: draws that can be replayed, that favour nobody, and that nobody without the key foretells."""

import hashlib
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from analytics.randomisation import (
    WORD,
    Place,
    _below,
    block,
    drawn,
    fewest,
    following,
    permutation,
    seed,
    switchback,
    uniform,
    value_at,
)
from models.errors import NotEnoughData

KEY = b"a key of thirty-two bytes, or so"
PARTS = st.lists(st.one_of(st.text(max_size=4), st.integers(-9, 9)), max_size=4)


def rfc_2104(key: bytes, message: bytes) -> bytes:
    """Compute HMAC-SHA256 from SHA-256 as RFC 2104 defines it."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


def test_a_draw_is_the_top_of_an_hmac() -> None:
    """The message is each part with its type and its length before it; a sealed experiment relies on it for ever."""
    message = b"s" + (7).to_bytes(8) + b"uniform" + b"s" + (3).to_bytes(8) + "aé".encode() + b"i" + (2).to_bytes(8)
    expected = int.from_bytes(rfc_2104(KEY, message + b"-7")[:8]) // 2**11 / 2**53
    assert uniform(KEY, "aé", -7) == expected
    assert seed(KEY) == int.from_bytes(rfc_2104(KEY, b"s" + (4).to_bytes(8) + b"seed"))


@given(PARTS, PARTS)
def test_different_parts_are_different_draws(one: list[str | int], other: list[str | int]) -> None:
    """No two lists of parts read the same, however they are cut, nor does a number read as its text."""
    assume([(type(part), part) for part in one] != [(type(part), part) for part in other])
    assert uniform(KEY, *one) != uniform(KEY, *other)


def test_draws_are_uniform() -> None:
    """Two thousand draws from 0 to 1 pass Kolmogorov and Smirnov's test, and neighbours are uncorrelated."""
    u = np.array([uniform(KEY, "stratum", number) for number in range(2000)])
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.06


@given(st.integers(0, 40), st.integers())
def test_a_permutation_holds_everything_once(size: int, number: int) -> None:
    """Whatever the size, nothing is lost and nothing occurs twice."""
    assert sorted(permutation(KEY, "x", number, size=size)) == list(range(size))


def test_every_order_has_the_same_probability() -> None:
    """Over 6,000 draws the 24 orders of four occur equally often by Pearson's test."""
    found = Counter(permutation(KEY, "orders", number, size=4) for number in range(6000))
    assert stats.chisquare([found[order] for order in permutations(range(4))]).pvalue > 0.01


def test_a_word_of_the_incomplete_round_is_drawn_again() -> None:
    """2^64 is no multiple of six: its last four words would favour 0 to 3."""
    assert [_below(iter([WORD - 1 - back, 5]), 6) for back in range(5)] == [5, 5, 5, 5, (WORD - 5) % 6]


@given(st.text(max_size=8), st.integers(0, 10**6), st.integers(1, 16))
def test_a_block_holds_each_value_once_or_each_twice(stratum: str, number: int, values: int) -> None:
    """Within a block the values are balanced exactly."""
    counts = Counter(block(KEY, stratum, number, values))
    assert set(counts) == set(range(values))
    assert set(counts.values()) in ({1}, {2})


def test_half_of_the_blocks_are_double() -> None:
    """Of 2,000 blocks as many hold each value twice as a fair coin says, and neither size follows from the last."""
    double = np.array([len(block(KEY, "s", number, 3)) == 6 for number in range(2000)])
    assert stats.binomtest(int(double.sum()), 2000).pvalue > 0.01
    assert abs(np.corrcoef(double[1:], double[:-1])[0, 1]) < 0.06


def test_slots_follow_each_other_through_all_blocks() -> None:
    """From the first on, the values are those of block 0, block 1 and so on, one after the other."""
    expected = [(number, at) for number in range(20) for at in range(len(block(KEY, "s", number, 4)))]
    place, seen = None, []
    for _ in expected:
        place = following(KEY, "s", 4, place)
        seen.append(place)
    assert seen == [Place(*at) for at in expected]
    values = [value_at(KEY, "s", 4, place) for place in seen]
    assert values == [value for number in range(20) for value in block(KEY, "s", number, 4)]


def test_strata_and_keys_have_orders_of_their_own() -> None:
    """Neither another stratum nor another key has the same blocks."""
    blocks = {tuple(block(key, s, n, 6) for n in range(5)) for key in (KEY, b"other") for s in ("a", "b", "")}
    assert len(blocks) == 6


def test_a_switchback_gives_every_value_once_in_each_group_of_time_blocks() -> None:
    """Any time block can be asked alone, and in each place of a group all values occur equally often."""
    groups = np.array([[switchback(KEY, 3 * group + at, 3) for at in range(3)] for group in range(-300, 300)])
    assert (np.sort(groups, axis=1) == [0, 1, 2]).all()
    for column in groups.T:
        assert stats.chisquare(np.bincount(column)).pvalue > 0.01


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_a_place_is_drawn_with_its_share(shares: list[int], u: float) -> None:
    """The draw is the first place whose cumulative share exceeds u, for whole shares computed without rounding."""
    ends = np.cumsum(shares)
    numerator, denominator = u.as_integer_ratio()
    inside = [numerator * int(ends[-1]) < int(end) * denominator for end in ends]
    assume(min(abs(u * ends[-1] - ends)) > 1e-9)
    assert drawn([float(share) for share in shares], u) == inside.index(True)


def test_a_place_without_a_share_is_never_drawn() -> None:
    """Neither the least nor the largest u falls on it, though the shares add up to a little less than 1."""
    shares = [0.0, 0.1, 0.0, *[0.1] * 8, 0.0]
    assert sum(shares) < 1
    found = [drawn(shares, u) for u in (0.0, *np.linspace(0, 1, 999, endpoint=False), 1 - 2**-53)]
    assert set(found) == {1, *range(3, 11)}


@pytest.mark.parametrize("shares", [[0.0, 0.0], [0.5, -0.1, 0.6], [float("nan"), 0.5]])
def test_a_draw_without_shares_is_refused(shares: list[float]) -> None:
    """Nothing, a negative share or one that is no number is told."""
    with pytest.raises(NotEnoughData, match="shares of 0 or more"):
        drawn(shares, 0.5)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True))
def test_the_value_with_the_fewest_runs_is_next(counts: list[int], u: float) -> None:
    """It has the least count, and the number of those that have it is told."""
    place, tied = fewest(counts, u)
    assert counts[place] == min(counts)
    assert tied == counts.count(min(counts))


def test_ties_go_to_each_with_the_same_probability() -> None:
    """Of three values with as few runs each is chosen for a third of all u."""
    chosen = Counter(fewest([2, 5, 2, 2], u)[0] for u in np.linspace(0, 1, 900, endpoint=False))
    assert chosen == {0: 300, 2: 300, 3: 300}
