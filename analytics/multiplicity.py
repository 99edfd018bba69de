"""Multiplicity: which of many laws stand, once it is accounted for that many were looked at.

Of 240 flat laws twelve are "significant" at .05. A standing scan that is looked at again and again is judged by e-BH on
e-values: the share of false ones among those that stand is at most alpha at any stopping time and under any dependence
between the laws. Pre-registered tests that arrive one by one are judged by LORD++, which spends its alpha as they come.
Benjamini-Hochberg, Holm and Bonferroni judge p-values of one look, for comparison.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from analytics.cells import Flags
from analytics.confidence_sequences import ALPHA
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData
from models.laws import Significance

Scope = Literal["all", "context", "dimension", "outcome"]

PLACES: dict[Scope, int | None] = {"all": None, "context": 0, "dimension": 1, "outcome": 2}
"""Which part of a law's id selects the family that it is judged in."""


def e_bh(e: Mapping[str, float], alpha: float = ALPHA) -> frozenset[str]:
    """Select the hypotheses that e-values reject at a false discovery rate of alpha, under any dependence.

    Equation: reject the k largest, k = max {k: e_(k) >= m / (alpha k)}, m hypotheses, e_(k) the k-th largest.

    Raises:
        NotEnoughData: An e-value is missing (nan) or negative.

    References:
        Wang and Ramdas (2022), "False discovery rate control with e-values".
    """
    keys, values = _sorted(e, "e-value", math.inf)
    return _first(keys[::-1], values[::-1] * np.arange(1, len(keys) + 1) * alpha >= len(keys))


def benjamini_hochberg(p: Mapping[str, float], alpha: float = ALPHA) -> frozenset[str]:
    """Select by p-values of one look: the k smallest, k = max {k: p_(k) <= alpha k / m}; for independent hypotheses.

    Raises:
        NotEnoughData: A p-value is missing (nan) or not within 0 and 1.

    References:
        Benjamini and Hochberg (1995), "Controlling the False Discovery Rate".
    """
    keys, values = _sorted(p, "p-value", 1.0)
    return _first(keys, values * len(keys) <= alpha * np.arange(1, len(keys) + 1))


def holm(p: Mapping[str, float], alpha: float = ALPHA) -> frozenset[str]:
    """Select so that P(any false one) <= alpha: the smallest ones up to the first p_(k) > alpha / (m + 1 - k).

    Raises:
        NotEnoughData: A p-value is missing (nan) or not within 0 and 1.

    References:
        Holm (1979), "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    keys, values = _sorted(p, "p-value", 1.0)
    return _first(keys, np.logical_and.accumulate(values * np.arange(len(keys), 0, -1) <= alpha))


def bonferroni(p: Mapping[str, float], alpha: float = ALPHA) -> frozenset[str]:
    """Select so that P(any false one) <= alpha: every p <= alpha / m.

    Raises:
        NotEnoughData: A p-value is missing (nan) or not within 0 and 1.
    """
    keys, values = _sorted(p, "p-value", 1.0)
    return _first(keys, values * len(keys) <= alpha)


@dataclass(frozen=True, slots=True)
class Ledger:
    """The LORD++ ledger of pre-registered tests that arrive one after another, at a false discovery rate of alpha.

    Equation: the t-th test's level is w g(t) + (alpha - w) g(t - t₁) + alpha Σ_(j>=2) g(t - tⱼ), w = alpha/2, tⱼ the
    index of the j-th rejection, g(j) = 0.0772 ln(max(j, 2)) / (j e^√(ln j)). A rejection earns back what later tests
    may spend.

    Attributes:
        tests: Tests judged so far.
        rejections: Which of them (1, 2, ...) were rejections; with `tests` the whole state.
        alpha: The false discovery rate.

    References:
        Ramdas, Yang, Wainwright and Jordan (2017), "Online control of the false discovery rate with decaying memory".
    """

    tests: int = 0
    rejections: tuple[int, ...] = ()
    alpha: float = ALPHA

    @property
    def level(self) -> float:
        """Give the level of the next test."""
        index = self.tests + 1
        first, share = self.alpha / 2, float(_spending(np.array([index]))[0])
        if not self.rejections:
            return first * share
        since = _spending(index - np.array(self.rejections))
        return first * share + (self.alpha - first) * float(since[0]) + self.alpha * float(since[1:].sum())

    def test(self, p: float) -> tuple[Self, bool]:
        """Judge the next test by its p-value; give the ledger after it and whether it was rejected.

        Raises:
            NotEnoughData: The p-value is missing (nan) or not within 0 and 1.
        """
        _expect_within("the next test", p, "p-value", 1.0)
        rejected = p <= self.level
        index = self.tests + 1
        return replace(
            self, tests=index, rejections=(*self.rejections, index) if rejected else self.rejections
        ), rejected


def significance(
    laws: Mapping[str, tuple[float, float]], alpha: float = ALPHA, scope: Scope = "all"
) -> dict[str, Significance]:
    """Say of each law whether its trend stands alone, and whether it stands in its family.

    Args:
        laws: By law id (context|dimension|outcome|tier) the p-value of its trend and its e-value.
        alpha: The level of p, and the false discovery rate of e-BH within each family.
        scope: The family: all laws, or those that share the context, the dimension or the outcome.

    Raises:
        NotEnoughData: A p-value or an e-value is missing (nan) or out of range.
    """
    place = PLACES[scope]
    families: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for law, (p, e) in laws.items():
        _expect_within(law, p, "p-value", 1.0)
        families["" if place is None else law.split("|")[place]][law] = e
    judged: dict[str, Significance] = {}
    for family in families.values():
        standing = e_bh(family, alpha)
        for law in family:
            p = laws[law][0]
            judged[law] = Significance(p, p <= alpha, law in standing, scope, len(family))
    return judged


def _sorted(values: Mapping[str, float], what: str, most: float) -> tuple[list[str], Floats]:
    """Sort by value, ascending."""
    for key, value in values.items():
        _expect_within(key, value, what, most)
    keys = sorted(values, key=values.__getitem__)
    return keys, np.array([values[key] for key in keys], np.float64)


def _first(keys: list[str], passes: Flags) -> frozenset[str]:
    """Keep all keys up to the last one that passes."""
    places = np.flatnonzero(passes)
    return frozenset(keys[: places[-1] + 1]) if len(places) else frozenset()


def _spending(j: Ints) -> Floats:
    """Give g(j), which sums to 1: how the error rate is spread over the tests to come."""
    at = j.astype(np.float64)
    return np.asarray(0.0772 * np.log(np.maximum(at, 2.0)) / (at * np.exp(np.sqrt(np.log(at)))))


def _expect_within(key: str, value: float, what: str, most: float) -> None:
    if not 0 <= value <= most:
        raise NotEnoughData(f"{key} has no {what} within 0 and {most:g} (it is {value:g}): leave it out of the family")
