"""Adaptive assignment: shares against optimisers and integrals, means against their definition run by run."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from analytics.adaptive import AdaptiveMeans, adaptive_means, neyman_shares, thompson_shares
from analytics.moments import Floats, Ints
from models.errors import NotEnoughData

LN_X = np.log([1.0, 2, 3, 4, 6, 8])
KEY = b"key"


def slope_variance(share: Floats, sd: Floats) -> float:
    """Give N times the variance of the slope of the means on ln x."""
    pull = (LN_X - LN_X.mean()) / ((LN_X - LN_X.mean()) @ (LN_X - LN_X.mean()))
    return float((pull**2 * sd**2 / share).sum())


def test_neyman_shares_are_where_the_slope_is_known_best() -> None:
    """No optimiser finds shares with a smaller variance of the slope, for equal and for unequal deviations."""
    for sd in (np.ones(6), np.array([0.5, 0.4, 0.3, 0.5, 0.2, 0.6])):
        own = neyman_shares(LN_X, sd, balanced=0.0)

        def objective(log: Floats, sd: Floats = sd) -> float:
            return slope_variance(np.exp(log) / np.exp(log).sum(), sd)

        best = optimize.minimize(objective, np.zeros(6), method="BFGS")
        assert slope_variance(own, sd) == pytest.approx(best.fun, rel=1e-6)
        assert own.sum() == pytest.approx(1)


def test_the_variance_of_the_slope_is_the_designs() -> None:
    """At six values the shares bring it to .70 of that of equal shares; the mixture lies half way in shares."""
    own, equal = neyman_shares(LN_X, np.ones(6), balanced=0.0), np.full(6, 1 / 6)
    assert slope_variance(own, np.ones(6)) / slope_variance(equal, np.ones(6)) == pytest.approx(0.70, abs=0.005)
    np.testing.assert_allclose(neyman_shares(LN_X, np.ones(6)), (own + equal) / 2)
    np.testing.assert_allclose(neyman_shares(LN_X, np.ones(6), balanced=1.0), equal)


def test_shares_need_values_and_outcomes_that_vary() -> None:
    """Without a deviation anywhere, or without its estimate, there is nothing to go by."""
    for sd in (np.zeros(6), np.full(6, np.nan)):
        with pytest.raises(NotEnoughData, match="assign equally"):
            neyman_shares(LN_X, sd)


def chance_of_best(mean: Floats, se: Floats, v: int) -> float:
    """Integrate P(v has the largest of independent normal means) over its own."""

    def density(x: float) -> float:
        below = np.delete(stats.norm.cdf(x, mean, se), v)
        return float(stats.norm.pdf(x, mean[v], se[v]) * below.prod())

    return float(integrate.quad(density, -3, 4, limit=200)[0])


def test_thompson_shares_are_the_chances_of_being_best_above_a_floor() -> None:
    """They agree with the integral within the error of 4,000 draws, for the largest mean and for the smallest."""
    mean, se = np.array([0.5, 0.62, 0.58, 0.4]), np.array([0.05, 0.03, 0.08, 0.1])
    for sign in (1, -1):
        found = thompson_shares(mean, se, KEY, 3, more_is_better=sign > 0)
        expected = 0.05 + 0.8 * np.array([chance_of_best(sign * mean, se, v) for v in range(4)])
        np.testing.assert_allclose(found, expected, atol=0.8 * 4 * (0.25 / 4000) ** 0.5)
        assert found.min() >= 0.05
        assert found.sum() == pytest.approx(1)


def test_thompson_shares_can_be_had_again() -> None:
    """The same key and batch give the same shares; another batch or key gives others."""
    mean, se = np.array([0.5, 0.6]), np.array([0.1, 0.1])
    shares = thompson_shares(mean, se, KEY, 1)
    np.testing.assert_array_equal(shares, thompson_shares(mean, se, KEY, 1))
    assert (shares != thompson_shares(mean, se, KEY, 2)).all()
    assert (shares != thompson_shares(mean, se, b"other", 1)).all()


@pytest.mark.parametrize(
    ("se", "floor", "reason"),
    [(0.0, 0.05, "assign equally first"), (np.nan, 0.05, "assign equally first"), (np.inf, 0.05, "assign equally"),
     (0.1, 0.5, "lower the floor"), (0.1, -0.1, "lower the floor")],
)  # fmt: skip
def test_thompson_shares_without_a_posterior_are_refused(se: float, floor: float, reason: str) -> None:
    """A mean without an error, or a floor that leaves nothing to choose, is told."""
    with pytest.raises(NotEnoughData, match=reason):
        thompson_shares(np.array([0.5, 0.6]), np.array([0.1, se]), KEY, 1, floor=floor)


def run_by_run(y: Floats, arm: Ints, propensities: Floats, batch: Ints) -> AdaptiveMeans:
    """Estimate the means from their definition, one run after the other."""
    means, variances = [], []
    for v in range(propensities.shape[1]):
        scores, weights = [], []
        for t in range(len(y)):
            own, earlier = (batch < batch[t]) & (arm == v), batch < batch[t]
            others = (batch == batch[t]) & (np.arange(len(y)) != t)
            known = next((rows for rows in (own, earlier, others) if rows.any()), None)
            expected = 0.0 if known is None else y[known].mean()
            scores.append((arm[t] == v) / propensities[t, v] * (y[t] - expected) + expected)
            weights.append(0.0 if known is None else propensities[t, v] ** 0.5)
        mean = np.average(scores, weights=weights)
        means.append(mean)
        variances.append(sum((w * (s - mean)) ** 2 for w, s in zip(weights, scores, strict=True)) / sum(weights) ** 2)
    return AdaptiveMeans(np.array(means), np.array(variances))


def some_runs(seed: int, size: int = 60) -> tuple[Floats, Ints, Floats, Ints]:
    """Make runs of three values in five batches that do not come in order; the third value has none in the first."""
    rng = np.random.default_rng(seed)
    batch = rng.permutation(np.arange(size) % 5) + 3
    propensities = rng.dirichlet([4, 4, 4], 5)[batch - 3]
    arm = rng.integers(0, 3, size)
    arm[(batch == 3) & (arm == 2)] = 0
    return rng.normal(arm, 1.0), arm, propensities, batch


def test_adaptive_means_are_their_definition() -> None:
    """All at once gives what run by run gives, in whatever order the runs come."""
    for seed in range(5):
        rows = some_runs(seed)
        found, expected = adaptive_means(*rows), run_by_run(*rows)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-10)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-10)


def test_adaptive_means_move_with_the_origin_and_the_unit() -> None:
    """Seconds since another start, in another unit, are the same estimate: nothing is measured from zero."""
    y, arm, propensities, batch = some_runs(9)
    one, other = adaptive_means(y, arm, propensities, batch), adaptive_means(1e6 + 3 * y, arm, propensities, batch)
    np.testing.assert_allclose(other.mean - 1e6, 3 * one.mean, rtol=1e-7)
    np.testing.assert_allclose(other.variance, 9 * one.variance, rtol=1e-7)


def test_a_first_batch_of_one_run_counts_for_later_ones_only() -> None:
    """Nothing foretells it: it has no weight itself, and is an earlier run to all others."""
    y, arm, propensities, batch = some_runs(4)
    batch[0] = 0
    found, expected = adaptive_means(y, arm, propensities, batch), run_by_run(y, arm, propensities, batch)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-10)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-10)


def test_means_that_cannot_be_had_are_told() -> None:
    """A value with one run, a propensity of zero, and equal outcomes each have their reason."""
    y, arm, propensities, batch = some_runs(2)
    with pytest.raises(NotEnoughData, match="at least 2 runs"):
        adaptive_means(y, np.where(arm == 1, 0, arm), propensities, batch)
    with pytest.raises(NotEnoughData, match="brought the same"):
        adaptive_means(np.ones(len(y)), arm, propensities, batch)
    propensities[3] = [0, 0.5, 0.5]
    with pytest.raises(NotEnoughData, match="not above 0"):
        adaptive_means(y, arm, propensities, batch)
