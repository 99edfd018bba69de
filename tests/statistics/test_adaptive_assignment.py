"""Adaptive assignment (T19): what Thompson's rule does to means, and what shares for a slope save."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from analytics.adaptive import adaptive_means, neyman_shares, thompson_shares
from analytics.intervals import z_quantile
from analytics.moments import Floats, Ints
from analytics.randomisation import drawn, uniform

pytestmark = pytest.mark.statistics

Choose = Callable[[int, int], int]
Record = Callable[..., None]

BATCHES, SIZE, DRAWS = 20, 60, 500
TRUTHS = {
    "flat": np.full(6, 0.6),
    "rising": np.array([0.40, 0.46, 0.50, 0.53, 0.57, 0.60]),
    "one best": np.array([0.5, 0.5, 0.5, 0.5, 0.7, 0.5]),
    "hump": np.array([0.45, 0.55, 0.65, 0.60, 0.50, 0.40]),
}
LN_X = np.log([1.0, 2, 3, 4, 6, 8])


@dataclass(frozen=True, slots=True, eq=False)
class Worlds:
    """Of many experiments: naive and weighted means [experiments, values], and the variance of the latter."""

    naive: Floats
    mean: Floats
    variance: Floats


def run(rng: np.random.Generator, rates: Floats, key: bytes, floor: float) -> tuple[Floats, Ints, Floats, Ints]:
    """Assign 20 batches of 60 by Thompson's rule, the first one equally; give y, value, propensities and batch."""
    m = len(rates)
    k, n = np.zeros(m), np.zeros(m)
    rows = []
    for batch in range(BATCHES):
        share = np.full(m, 1 / m)
        if batch:
            rate = (k + 1) / (n + 2)
            share = thompson_shares(rate, np.sqrt(rate * (1 - rate) / (n + 3)), key, batch, floor=floor, draws=DRAWS)
        arm = rng.choice(m, SIZE, p=share / share.sum())
        y = (rng.random(SIZE) < rates[arm]).astype(np.float64)
        k += np.bincount(arm, y, m)
        n += np.bincount(arm, minlength=m)
        rows.append((y, arm, np.broadcast_to(share, (SIZE, m)), np.full(SIZE, batch)))
    y, arm, propensities, number = (np.concatenate(part) for part in zip(*rows, strict=True))
    return y, arm, propensities, number


def worlds(experiments: int, rates: Floats, floor: float) -> Worlds:
    """Run many experiments of one truth."""
    rng = np.random.default_rng(1901)
    naive, mean, variance = [], [], []
    for number in range(experiments):
        y, arm, propensities, batch = run(rng, rates, number.to_bytes(32), floor)
        found = adaptive_means(y, arm, propensities, batch)
        naive.append(np.bincount(arm, y, len(rates)) / np.bincount(arm, minlength=len(rates)))
        mean.append(found.mean)
        variance.append(found.variance)
    return Worlds(np.array(naive), np.array(mean), np.array(variance))


def coverage(found: Worlds, rates: Floats) -> Floats:
    """Give the coverage of 95 % intervals of each value's mean."""
    return np.asarray((np.abs(found.mean - rates) <= z_quantile() * np.sqrt(found.variance)).mean(axis=0))


@pytest.mark.parametrize("truth", TRUTHS)
def test_t19_weighted_means_cover_above_a_floor_of_five_percent(
    truth: str, simulations: Choose, record: Record
) -> None:
    """Each value's interval covers, and its mean is right to a point; the naive mean is further off."""
    experiments, rates = simulations(250, 2000), TRUTHS[truth]
    found = worlds(experiments, rates, 0.05)
    least = float(coverage(found, rates).min())
    away = np.abs(found.mean.mean(axis=0) - rates)
    naive = np.abs(found.naive.mean(axis=0) - rates)
    record("T19", f"least coverage of a value, {truth}", least, threshold=">= .92", runs=experiments)
    record(
        "T19",
        f"largest bias of a value, {truth}",
        float(away.max()),
        threshold="<= .01",
        runs=experiments,
        reference=f"naive mean {naive.max():.4f}",
    )
    full = experiments >= 2000
    noise = found.mean.std(axis=0) / experiments**0.5
    assert least >= 0.92 - (0.0 if full else 3 * (0.05 * 0.95 / experiments) ** 0.5)
    assert (away <= 0.01 + (0.0 if full else 3 * noise)).all()
    assert naive.mean() > 1.5 * away.mean()


def test_t19_without_a_floor_neither_mean_can_be_trusted(simulations: Choose, record: Record) -> None:
    """At a floor of .1 % naive means are off by three points and more, and weighted ones cover too seldom."""
    experiments, rates = simulations(250, 2000), TRUTHS["one best"]
    found = worlds(experiments, rates, 0.001)
    naive = float((rates - found.naive.mean(axis=0)).max())
    least = float(coverage(found, rates).min())
    record("T19", "largest bias of a naive mean, floor .001", naive, threshold=">= .02", runs=experiments)
    record("T19", "least coverage of a value, floor .001", least, threshold="< .92", runs=experiments)
    assert naive >= 0.02
    assert least < 0.92


def test_t19_shares_for_a_slope_save_runs(simulations: Choose, record: Record) -> None:
    """Half balanced, half Neyman: the slope of the means has .78 of the variance at equal shares; Neyman alone .70."""
    experiments = simulations(1500, 10_000)
    pull = (LN_X - LN_X.mean()) / ((LN_X - LN_X.mean()) @ (LN_X - LN_X.mean()))
    shares = {
        "balanced": np.full(6, 1 / 6),
        "half Neyman": neyman_shares(LN_X, np.ones(6)),
        "Neyman": neyman_shares(LN_X, np.ones(6), balanced=0.0),
    }
    closed = {name: float((pull**2 / share).sum()) for name, share in shares.items()}
    rng = np.random.default_rng(1902)
    noise = rng.normal(size=(experiments, 6))
    simulated = {}
    for name, share in shares.items():
        n = rng.multinomial(1200, share, experiments)
        simulated[name] = float(((0.1 * LN_X + noise / np.sqrt(n)) @ pull).var())
    for name, expected in (("half Neyman", 0.785), ("Neyman", 0.70)):
        ratio = simulated[name] / simulated["balanced"]
        threshold = f"closed form {closed[name] / closed['balanced']:.3f}"
        record("T19", f"variance of the slope, {name} over balanced", ratio, threshold=threshold, runs=experiments)
        assert closed[name] / closed["balanced"] == pytest.approx(expected, abs=0.005)
        assert ratio == pytest.approx(expected, abs=0.03)


def test_t19_assignments_have_the_shares_that_were_logged() -> None:
    """Drawn by the key, task by task, each value comes as often as its propensity says."""
    share = thompson_shares(np.array([0.5, 0.6, 0.55]), np.full(3, 0.05), b"key", 4)
    counts = np.bincount([drawn(share.tolist(), uniform(b"key", "task", task)) for task in range(3000)], minlength=3)
    np.testing.assert_allclose(counts / 3000, share, atol=3 * (0.25 / 3000) ** 0.5)
