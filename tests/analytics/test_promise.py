import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import multivariate_normal

from analytics.promise import Promise, promise, shrink
from models.errors import NotEnoughData

Floats = npt.NDArray[np.float64]

X = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])


def promised(rates: Floats, runs: int = 30, reference: float = 1.0) -> Promise:
    """Promise from success rates."""
    return promise(X, np.full(6, float(runs)), rates, runs * rates * (1 - rates), reference)


def by_enumeration(mean: Floats, variance: Floats, law: Floats | None, covariance: Floats | None) -> Floats:
    """Average the conditional posterior means over 20,000 spreads, by matrices."""
    rows, noise = len(mean), float(np.mean(1 / variance)) ** -0.5
    scale = 2 * noise
    spreads = np.concatenate((np.linspace(0, 20 * scale, 10_000), np.geomspace(20 * scale, 1e5 * scale, 10_001)[1:]))
    step = np.diff(spreads)
    mass = (np.append(step, 0) + np.append(0, step)) / 2 * 2 / np.pi / scale / (1 + (spreads / scale) ** 2)
    mass = np.append(0.25, 0.75 * mass)
    means, logs = [], []
    for tau in np.append(0.0, spreads).tolist():
        inverse = np.diag(1 / (variance + tau**2))
        if law is None:
            # The likelihood of the contrasts, which the common mean does not touch.
            contrasts = np.eye(rows)[1:] - np.eye(rows)[0]
            within = contrasts @ np.linalg.inv(inverse) @ contrasts.T
            logs.append(multivariate_normal.logpdf(contrasts @ mean, np.zeros(rows - 1), within))
            target = np.full(rows, (inverse @ mean).sum() / inverse.sum())
        else:
            used = 0.0 if covariance is None else float(np.trace(np.diag(1 / variance) @ covariance))
            determinant = np.linalg.slogdet(inverse)[1]
            logs.append(((1 - used / rows) * determinant - (mean - law) @ inverse @ (mean - law)) / 2)
            target = law
        means.append(target + tau**2 * inverse @ (mean - target))
    weight = mass * np.exp(np.array(logs) - max(logs))
    return np.asarray(weight @ np.array(means) / weight.sum())


@pytest.mark.parametrize("kind", ["common", "fixed", "fitted"])
def test_shrunk_means_are_the_average_over_the_spread(kind: str) -> None:
    """They agree with enumerating 20,000 spreads, towards the common mean, a law, and a law with its own error."""
    rng = np.random.default_rng(6)
    variance = rng.uniform(0.05, 0.1, 6) ** 2
    mean = 0.3 + 0.1 * np.log(X) + rng.normal(0, np.sqrt(variance))
    design = np.column_stack((np.ones(6), np.log(X)))
    covariance = design @ np.linalg.inv(design.T @ np.diag(1 / variance) @ design) @ design.T
    law = covariance @ (mean / variance)
    targets = {"common": (None, None), "fixed": (law, None), "fitted": (law, covariance)}
    np.testing.assert_allclose(
        shrink(mean, variance, *targets[kind]).mean, by_enumeration(mean, variance, *targets[kind]), atol=2e-5
    )


def test_interval_of_a_gain_is_that_of_draws_from_the_posterior() -> None:
    """Drawing spreads, then targets, then means, gives the mean, deviation and ends of the gain."""
    rng = np.random.default_rng(7)
    variance = np.full(6, 0.08**2)
    mean = np.array([0.3, 0.35, 0.5, 0.48, 0.6, 0.55])
    values = shrink(mean, variance)
    which = rng.choice(len(values.weight), 200_000, p=values.weight)
    common = rng.normal(0, np.sqrt(values.target[which, 0, 0]))
    own = rng.normal(size=(2, 200_000)) * np.sqrt((1 - values.share[which][:, [4, 0]].T) * variance[0])
    draws = values.means[which][:, [4, 0]].T + own + values.share[which][:, [4, 0]].T * common
    gain, difference = draws[0] - draws[1], values.difference(4, 0)
    assert difference.estimate == pytest.approx(gain.mean(), abs=0.002)
    assert difference.se == pytest.approx(gain.std(), rel=0.01)
    assert [difference.lo, difference.hi] == pytest.approx(np.quantile(gain, [0.025, 0.975]).tolist(), abs=0.005)


def test_error_of_the_law_counts_in_the_gain() -> None:
    """With a law of wide error the gain is less certain than with an exact one; the best value is the law's."""
    rates = np.array([0.3, 0.36, 0.4, 0.45, 0.47, 0.5])
    law = 0.3 + 0.1 * np.log(X)
    slope_error = 0.05**2 * np.outer(np.log(X), np.log(X))
    n, m2 = np.full(6, 30.0), 30 * rates * (1 - rates)
    exact = promise(X, n, rates, m2, 1.0, law=law)
    wide = promise(X, n, rates, m2, 1.0, law=law, law_covariance=slope_error)
    assert exact.best == wide.best == 8.0
    assert exact.gain.estimate == pytest.approx(0.2, abs=0.03)
    assert wide.gain.se > 1.5 * exact.gain.se


def test_less_is_better_mirrors_more_is_better() -> None:
    """Costs promise the same saving as their negatives promise a gain."""
    rates = np.array([0.3, 0.36, 0.5, 0.45, 0.47, 0.5])
    n, m2 = np.full(6, 30.0), 30 * rates * (1 - rates)
    more = promise(X, n, rates, m2, 2.0, law=rates + 0.01)
    less = promise(X, n, -rates, m2, 2.0, law=-rates - 0.01, less_is_better=True)
    assert less == more
    assert less.gain.estimate > 0


def test_a_clear_difference_is_promised_almost_in_full() -> None:
    """With 3,000 runs a value the shrunk gain is the raw one but for two percent; nobody doubts a difference."""
    found = promised(np.array([0.2, 0.4, 0.5, 0.6, 0.65, 0.7]), 3000)
    assert found.best == 8.0
    assert found.raw == pytest.approx(0.5)
    assert found.gain.estimate == pytest.approx(0.5, rel=0.02)
    assert found.no_difference < 1e-6


def test_a_value_is_no_gain_over_itself() -> None:
    """Where the reference is the best value the promise is nothing."""
    found = promised(np.array([0.2, 0.4, 0.5, 0.6, 0.65, 0.9]), 300, reference=8.0)
    assert (found.best, found.gain.estimate, found.gain.se, found.raw) == (8.0, 0.0, 0.0, 0.0)


def test_a_value_whose_runs_all_succeed_has_an_error() -> None:
    """Thirty successes of thirty are not taken for certainty: their mean is shrunk too."""
    found = promised(np.array([0.8, 0.85, 0.9, 0.8, 0.85, 1.0]))
    assert found.gain.estimate < found.raw
    assert found.gain.se > 0.03


def test_too_little_is_said_so() -> None:
    """An unknown reference, a single value and runs without noise raise NotEnoughData."""
    ones = np.ones(6)
    with pytest.raises(NotEnoughData, match="the reference 5 among them"):
        promised(ones / 2, reference=5.0)
    with pytest.raises(NotEnoughData, match="at least 2 values"):
        promise(X[:1], ones[:1], ones[:1], ones[:1], 1.0)
    with pytest.raises(NotEnoughData, match="show no noise"):
        promised(ones)
    with pytest.raises(NotEnoughData, match="show no noise"):
        promise(X, ones, X, 0 * ones, 1.0)
