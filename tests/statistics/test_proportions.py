"""T6: intervals of a proportion of 30 runs, their coverage computed over all outcomes."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from analytics.intervals import wilson, z_quantile
from analytics.moments import Floats

pytestmark = pytest.mark.statistics

N = 30
RATES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)


def coverage(lo: Floats, hi: Floats, p: float) -> float:
    """Add up the probabilities of the outcomes whose interval holds p; no simulation is needed."""
    k = np.arange(N + 1)
    return float(binom.pmf(k, N, p)[(lo <= p) & (p <= hi)].sum())


def wald() -> tuple[Floats, Floats]:
    """Write the textbook interval p ± z √(p (1 - p) / n)."""
    p = np.arange(N + 1) / N
    half = z_quantile() * np.sqrt(p * (1 - p) / N)
    return p - half, p + half


@pytest.mark.parametrize("p", RATES)
def test_wilson_covers_everywhere(p: float, record: Callable[..., None]) -> None:
    """At every rate the interval holds the truth in at least 92 of 100 samples."""
    lo, hi = wilson(np.arange(N + 1.0), float(N))
    value = coverage(lo, hi, p)
    record(
        "T6",
        f"Wilson coverage at p={p}, n=30",
        value,
        threshold=">= .92",
        runs=N + 1,
        reference=f"Wald {coverage(*wald(), p):.2f}",
    )
    assert value >= 0.92


def test_wald_does_not() -> None:
    """The textbook interval holds a rate of .98 in fewer than half of the samples, and one of .9 in about 81 %."""
    assert coverage(*wald(), 0.98) < 0.5
    assert coverage(*wald(), 0.9) == pytest.approx(0.81, abs=0.01)
