"""Randomisation that can be replayed: every draw is a function of a secret key and of what the draw is for.

Who has the key can draw everything again and see that nothing was chosen; who has not cannot foretell the next value.
Nothing is kept but places: a worker that starts again goes on where the last place says. The key is that of one version
of an experiment.

References:
    Matts and Lachin (1988), "Properties of Permuted-Block Randomization in Clinical Trials".
    Bojinov, Simchi-Levi and Zhao (2023), "Design and Analysis of Switchback Experiments".
"""

import hmac
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from struct import unpack

from models.errors import NotEnoughData

WORD = 1 << 64
"""Words of the generator are whole numbers below this."""


@dataclass(frozen=True, slots=True)
class Place:
    """A slot of a stratum: the number of its block, from 0, and the position within, from 0."""

    block: int
    position: int


def seed(key: bytes, *parts: str | int) -> int:
    """Give the seed of a generator: a whole number below 2^256, HMAC-SHA256 of the parts under the key."""
    return int.from_bytes(_digest(key, "seed", *parts))


def uniform(key: bytes, *parts: str | int) -> float:
    """Draw a number in [0, 1): the top 53 bits of HMAC-SHA256 of the parts under the key.

    Other parts give an independent number: ("ab", "c") and ("a", "bc") differ, and so do 1 and "1".
    """
    return (int.from_bytes(_digest(key, "uniform", *parts)[:8]) >> 11) * 2.0**-53


def permutation(key: bytes, *parts: str | int, size: int) -> tuple[int, ...]:
    """Draw an order of 0 to size - 1, each with the same probability.

    References:
        Durstenfeld (1964), "Algorithm 235: Random Permutation" (Fisher and Yates' shuffle).
    """
    words = _words(key, "permutation", *parts)
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        other = _below(words, last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)


def block(key: bytes, stratum: str, number: int, values: int) -> tuple[int, ...]:
    """Draw the order of values, 0 to values - 1, in one permuted block of a stratum.

    Each value stands there once or, as often, twice: were all blocks of one size, who counts would know the last.
    """
    slots = _slots(key, stratum, number, values)
    return tuple(slot % values for slot in permutation(key, "order", stratum, number, size=slots))


def following(key: bytes, stratum: str, values: int, last: Place | None) -> Place:
    """Give the slot after the last one that was used; the first one of block 0 where none was.

    Args:
        key: The key.
        stratum: The group of tasks within which values are balanced.
        values: How many values are compared.
        last: The last slot of the stratum that was used.
    """
    if last is None:
        return Place(0, 0)
    if last.position + 1 < _slots(key, stratum, last.block, values):
        return Place(last.block, last.position + 1)
    return Place(last.block + 1, 0)


def value_at(key: bytes, stratum: str, values: int, place: Place) -> int:
    """Give the value, 0 to values - 1, that stands in a slot."""
    return block(key, stratum, place.block, values)[place.position]


def switchback(key: bytes, time_block: int, values: int) -> int:
    """Give the value of a time block, 0 to values - 1: `values` of them hold every value once, in random order.

    Args:
        key: The key.
        time_block: Its number, such as seconds since the epoch by the length of a time block.
        values: How many values are compared.
    """
    group, within = divmod(time_block, values)
    return permutation(key, "switchback", group, size=values)[within]


def drawn(shares: Sequence[float], u: float) -> int:
    """Turn a uniform number into a place that has probability share / sum of shares: the inverse of their cdf.

    Args:
        shares: Of each place, zero or more; a place with none is never drawn.
        u: In [0, 1).

    Raises:
        NotEnoughData: No share is above zero, or one is below it.
    """
    if not sum(shares) > 0 or min(shares) < 0:
        message = f"a draw needs shares of 0 or more that are not all 0, there are {list(shares)}: correct the shares"
        raise NotEnoughData(message)
    ends = list(accumulate(shares))
    return bisect_right(ends, u * ends[-1])


def fewest(counts: Sequence[int], u: float) -> tuple[int, int]:
    """Choose the value with the fewest runs; among several, each with the same probability.

    Args:
        counts: Of each value. Count assignments: by completed runs, all that comes meanwhile goes to one value.
        u: In [0, 1).

    Returns:
        The value's place, and how many values had as few: its propensity is one over that.
    """
    least = min(counts)
    tied = [place for place, runs in enumerate(counts) if runs == least]
    return tied[int(u * len(tied))], len(tied)


def _slots(key: bytes, stratum: str, number: int, values: int) -> int:
    return values * (1 if uniform(key, "size", stratum, number) < 0.5 else 2)  # noqa: PLR2004 - a fair coin


def _below(words: Iterator[int], bound: int) -> int:
    """Draw a whole number below `bound` without favour: words of the incomplete last round are drawn again."""
    limit = WORD - WORD % bound
    return next(word for word in words if word < limit) % bound


def _words(key: bytes, *parts: str | int) -> Iterator[int]:
    for number in count():
        yield from unpack(">4Q", _digest(key, *parts, number))


def _digest(key: bytes, *parts: str | int) -> bytes:
    """Authenticate the parts, each with its type and its length before it, so that no two lists read the same."""
    message = bytearray()
    for part in parts:
        text = (part if isinstance(part, str) else f"{part:d}").encode()
        message += (b"s" if isinstance(part, str) else b"i") + len(text).to_bytes(8) + text
    return hmac.digest(key, message, "sha256")
