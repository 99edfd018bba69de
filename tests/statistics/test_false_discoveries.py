"""False discoveries: streams of pre-registered tests, and a standing scan that is looked at thirty times."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from analytics.confidence_sequences import e_value
from analytics.moments import Floats
from analytics.multiplicity import Ledger, benjamini_hochberg, bonferroni, e_bh

pytestmark = pytest.mark.statistics

TESTS = 500
HYPOTHESES = 240
LOOKS = 30
SHARE = 0.2
"""Share of hypotheses with an effect."""


def false_share(chosen: set[int] | frozenset[str], real: set[int] | set[str]) -> float:
    """Give the share of the chosen that are not real; 0 of nothing."""
    return len(chosen - real) / max(1, len(chosen))


def test_t16_a_stream_of_registered_tests(simulations: Callable[[int, int], int], record: Callable[..., None]) -> None:
    """LORD++ keeps false discoveries under 5 % with more power than Bonferroni; uncorrected tests do not."""
    streams = simulations(100, 400)
    rng = np.random.default_rng(1601)
    fdr, power, naive, cautious = [], [], [], []
    for _ in range(streams):
        effect = rng.random(TESTS) < SHARE
        p = 2 * stats.norm.sf(np.abs(rng.normal(3.5 * effect, 1)))
        real = set(np.flatnonzero(effect).tolist())
        ledger = Ledger()
        for value in p.tolist():
            ledger, _ = ledger.test(value)
        found = {index - 1 for index in ledger.rejections}
        fdr.append(false_share(found, real))
        power.append(len(found & real) / len(real))
        naive.append(false_share(set(np.flatnonzero(p <= 0.05).tolist()), real))
        names = dict(zip(map(str, range(TESTS)), p.tolist(), strict=True))
        cautious.append(len(bonferroni(names) & {str(index) for index in real}) / len(real))
    record(
        "T16",
        "LORD++ false discovery rate",
        float(np.mean(fdr)),
        threshold="<= .05",
        runs=streams,
        reference=f"uncorrected {np.mean(naive):.3f}",
    )
    record(
        "T16",
        "LORD++ power",
        float(np.mean(power)),
        threshold=">= .5",
        runs=streams,
        reference=f"Bonferroni {np.mean(cautious):.2f}",
    )
    assert np.mean(fdr) <= 0.02
    assert np.mean(power) >= 0.5
    assert np.mean(power) > np.mean(cautious) + 0.1
    assert np.mean(naive) > 0.1


def looks(rng: np.random.Generator) -> tuple[Floats, Floats, set[str]]:
    """Draw 240 estimates at 30 looks of growing size; a fifth have an effect of five standard errors at the last."""
    effect = rng.random(HYPOTHESES) < SHARE
    steps = rng.normal(5 / LOOKS**0.5 * effect, 1, (LOOKS, HYPOTHESES))
    n = np.arange(1.0, LOOKS + 1)
    z = steps.cumsum(axis=0) / np.sqrt(n)[:, None]
    return z, 1 / np.sqrt(n), {str(index) for index in np.flatnonzero(effect)}


def test_t16_a_scan_that_is_looked_at_thirty_times(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """What e-BH ever rejects is false in under 2 %; of what Benjamini-Hochberg ever rejects over 10 % is."""
    scans = simulations(60, 300)
    rng = np.random.default_rng(1602)
    fdr, power, naive = [], [], []
    for _ in range(scans):
        z, se, real = looks(rng)
        e = e_value(z * se[:, None], np.broadcast_to(se[:, None], z.shape), LOOKS)
        p = 2 * stats.norm.sf(np.abs(z))
        ever_e: frozenset[str] = frozenset()
        ever_p: frozenset[str] = frozenset()
        for at in range(LOOKS):
            ever_e |= e_bh(dict(zip(map(str, range(HYPOTHESES)), e[at].tolist(), strict=True)))
            ever_p |= benjamini_hochberg(dict(zip(map(str, range(HYPOTHESES)), p[at].tolist(), strict=True)))
        fdr.append(false_share(ever_e, real))
        power.append(len(ever_e & real) / len(real))
        naive.append(false_share(ever_p, real))
    record(
        "T16",
        "e-BH, ever rejected in 30 looks, false discovery rate",
        float(np.mean(fdr)),
        threshold="<= .02",
        runs=scans,
        reference=f"Benjamini-Hochberg at each look {np.mean(naive):.3f}",
    )
    record("T16", "e-BH power", float(np.mean(power)), threshold=">= .85", runs=scans)
    assert np.mean(fdr) <= 0.02
    assert np.mean(power) >= 0.85
    assert np.mean(naive) > 0.1


def test_t16_dependence_does_not_break_the_scan(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """With no effect anywhere and all estimates moving together, e-BH still rejects something in under 5 %."""
    scans = simulations(200, 1000)
    rng = np.random.default_rng(1603)
    n = np.arange(1.0, LOOKS + 1)
    wrong = 0
    for _ in range(scans):
        common = rng.normal(size=(LOOKS, 1))
        z = (0.9**0.5 * common + 0.1**0.5 * rng.normal(size=(LOOKS, 40))).cumsum(axis=0) / np.sqrt(n)[:, None]
        se = np.broadcast_to(1 / np.sqrt(n)[:, None], z.shape)
        e = e_value(z * se, se, LOOKS)
        wrong += any(e_bh(dict(zip(map(str, range(40)), row.tolist(), strict=True))) for row in e)
    record("T16", "e-BH, dependent nulls, any rejection", wrong / scans, threshold="<= .05", runs=scans)
    assert wrong / scans <= 0.05
