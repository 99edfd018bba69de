"""Multiplicity: each procedure against statsmodels, its definition by brute force, or a hand-computed ledger."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from analytics.multiplicity import (
    Ledger,
    Scope,
    benjamini_hochberg,
    bonferroni,
    e_bh,
    holm,
    significance,
)
from models.errors import NotEnoughData


def named(values: np.typing.NDArray[np.float64]) -> dict[str, float]:
    """Give each value a key."""
    return {f"h{index}": float(value) for index, value in enumerate(values)}


@pytest.mark.parametrize("seed", range(20))
def test_the_procedures_for_p_values_equal_statsmodels(seed: int) -> None:
    """Benjamini-Hochberg, Holm and Bonferroni reject what statsmodels rejects, from one to 60 hypotheses."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 60))
    p = np.where(rng.random(size) < 0.4, rng.random(size) * 0.02, rng.random(size))
    procedures = {"fdr_bh": benjamini_hochberg, "holm": holm, "bonferroni": bonferroni}
    for name, procedure in procedures.items():
        expected = multipletests(p, 0.05, method=name)[0]
        assert procedure(named(p)) == {f"h{index}" for index in np.flatnonzero(expected)}


@pytest.mark.parametrize("seed", range(20))
def test_e_bh_rejects_the_largest_self_consistent_set(seed: int) -> None:
    """Of all sizes k, the largest at which the k-th largest e-value is at least m / (alpha k)."""
    rng = np.random.default_rng(seed)
    e = np.exp(rng.normal(0, 4, int(rng.integers(1, 40))))
    expected: set[str] = set()
    for k in range(1, len(e) + 1):
        chosen = np.argsort(-e)[:k]
        if e[chosen].min() >= len(e) / (0.05 * k):
            expected = {f"h{index}" for index in chosen}
    assert e_bh(named(e)) == expected


def test_e_bh_and_benjamini_hochberg_are_the_same_rule() -> None:
    """On p = 1/e they agree; what differs is that e-values may be dependent and looked at again."""
    e = np.exp(np.random.default_rng(7).normal(1, 4, 200))
    assert e_bh(named(e)) == benjamini_hochberg(named(np.minimum(1, 1 / e)))


def test_an_empty_family_has_nothing_that_stands() -> None:
    """No hypothesis, no rejection."""
    assert e_bh({}) == holm({}) == frozenset()
    assert significance({}) == {}


def test_the_ledger_spends_as_lord_plus_plus_says() -> None:
    """Levels of ten tests with rejections at the 2nd, 3rd and 7th, computed term by term."""
    j = np.arange(1, 2000.0)
    spending = 0.0772 * np.log(np.maximum(j, 2)) / (j * np.exp(np.sqrt(np.log(j))))
    ledger, levels = Ledger(), []
    for index in range(1, 11):
        levels.append(ledger.level)
        ledger, rejected = ledger.test(0.0 if index in {2, 3, 7} else 1.0)
        assert rejected == (index in {2, 3, 7})
    for t, level in enumerate(levels, start=1):
        expected = 0.025 * spending[t - 1]
        expected += 0.025 * spending[t - 2 - 1] if t > 2 else 0
        expected += sum(0.05 * spending[t - past - 1] for past in (3, 7) if t > past)
        assert level == pytest.approx(expected, rel=1e-12)
    assert (ledger.tests, ledger.rejections) == (10, (2, 3, 7))


def test_the_ledger_carries_on_from_its_state() -> None:
    """The number of tests and the rejected indices are all that must be kept."""
    p = np.random.default_rng(3).random(60) ** 4
    whole, first = Ledger(), Ledger()
    for value in p:
        whole, _ = whole.test(value)
    for value in p[:25]:
        first, _ = first.test(value)
    second = Ledger(first.tests, first.rejections)
    for value in p[25:]:
        second, _ = second.test(value)
    assert whole == second
    assert len(whole.rejections) > 3


LAWS = {
    "a|agent_count|success|live": (0.001, 90.0),
    "a|iterations|success|live": (0.2, 1.0),
    "b|agent_count|success|live": (0.03, 1.5),
    "b|iterations|total_cost|live": (0.04, 30.0),
}


@pytest.mark.parametrize(
    ("scope", "sizes", "standing"),
    [
        # thresholds: 80 for the largest of four, 40 for the second, ...
        ("all", [4, 4, 4, 4], [True, False, False, False]),
        ("context", [2, 2, 2, 2], [True, False, False, False]),
        ("dimension", [2, 2, 2, 2], [True, False, False, False]),
        ("outcome", [3, 3, 3, 1], [True, False, False, True]),
    ],
)
def test_the_scope_selects_the_family(scope: Scope, sizes: list[int], standing: list[bool]) -> None:
    """A law that is judged alone needs less evidence than one among many; its own p is untouched."""
    judged = significance(LAWS, scope=scope)
    assert [judged[law].laws for law in LAWS] == sizes
    assert [judged[law].adjusted for law in LAWS] == standing
    assert [judged[law].unadjusted for law in LAWS] == [True, False, True, True]
    assert {judged[law].scope for law in LAWS} == {scope}
    assert [judged[law].p for law in LAWS] == [p for p, _ in LAWS.values()]


def test_a_missing_value_is_said_by_name() -> None:
    """A law without a p-value or an e-value must be left out, not counted as evidence of nothing."""
    with pytest.raises(NotEnoughData, match="h1 has no p-value within 0 and 1"):
        holm({"h0": 0.1, "h1": float("nan")})
    with pytest.raises(NotEnoughData, match="h0 has no e-value"):
        e_bh({"h0": -1.0})
    with pytest.raises(NotEnoughData, match=r"a\|b\|c\|d has no p-value"):
        significance({"a|b|c|d": (2.0, 1.0)})
    with pytest.raises(NotEnoughData, match="the next test has no p-value"):
        Ledger().test(float("nan"))
