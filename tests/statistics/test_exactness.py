"""Everything that cells suffice for equals the same fit on the raw rows (T1), and merging costs nothing (T2)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from analytics import moments
from analytics.cells import Cells
from analytics.generalised_linear import Link, Variance, fit_generalised
from analytics.least_squares import ErrorKind, weighted_least_squares
from analytics.moments import Floats, Ints

pytestmark = pytest.mark.statistics

LEVELS = np.array([1.0, 2, 3, 4, 6, 8])
EXACT = 1e-9
Record = Callable[..., None]


def rows(seed: int) -> tuple[dict[str, Floats], Ints]:
    """Draw raw runs at unbalanced values, with success, quality with zeros, skewed time and its cost; and clusters."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(150, 900))
    x = rng.choice(LEVELS, size, p=rng.dirichlet(np.full(6, 5.0)))
    time = rng.lognormal(3 - 0.4 * np.log(x), 0.3 + 0.05 * x)
    quality = np.where(rng.random(size) < 0.1, 0.0, rng.beta(2 + x / 4, 3))
    columns = {
        "x": x,
        "success": (rng.random(size) < 0.3 + 0.2 * np.log(x)).astype(float),
        "quality": quality,
        "time": time,
        "ln_time": np.log(time),
        "cost": 0.1 + 0.02 * time * rng.lognormal(0, 0.3, size),
    }
    return columns, rng.integers(0, 11, size)


def design(x: Floats) -> Floats:
    """Give the design rows of a line on ln x."""
    return np.stack((np.ones(len(x)), np.log(x)), axis=1)


def worst(pairs: list[tuple[Any, Any]]) -> float:
    """Give the largest absolute difference."""
    return max(float(np.max(np.abs(np.asarray(one) - np.asarray(other)))) for one, other in pairs)


Sample = tuple[dict[str, Floats], Ints, Cells]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Give five sets of raw rows with their clusters, and the cells of the rows without clusters."""
    drawn = [rows(seed) for seed in range(5)]
    return [(columns, cluster, Cells.from_rows(columns)) for columns, cluster in drawn]


@pytest.mark.parametrize("error", ["HC0", "HC1", "HC2", "HC3", "CR1"])
def test_least_squares_and_its_errors(samples: list[Sample], error: ErrorKind, record: Record) -> None:
    """T1: coefficients, classical and robust covariances of time on ln x."""
    pairs: list[tuple[Any, Any]] = []
    for columns, cluster, merged in samples:
        cells = Cells.from_rows(columns, cluster=cluster) if error == "CR1" else merged
        found = weighted_least_squares(design(cells.value), cells, "time", error=error)
        expected = sm.OLS(columns["time"], design(columns["x"])).fit()
        robust = (
            expected.get_robustcov_results("cluster", groups=cluster)
            if error == "CR1"
            else expected.get_robustcov_results(error)
        )
        pairs.append((found.beta, expected.params))
        pairs.append((found.covariance, robust.cov_params()))
        pairs.append((found.covariance_classical, expected.cov_params()))
    away = worst(pairs)
    record("T1", f"least squares with {error} from cells against raw rows", away, threshold="<= 1e-9", runs=5)
    assert away <= EXACT


@pytest.mark.parametrize(
    ("name", "outcome", "link", "variance"),
    [
        ("logit", "success", "logit", "binomial"),
        ("fractional logit", "quality", "logit", "binomial"),
        ("quasi-Poisson", "quality", "log", "mu"),
        ("Gamma", "time", "log", "mu2"),
    ],
)
def test_generalised_linear_models(
    samples: list[Sample], record: Record, *, name: str, outcome: str, link: Link, variance: Variance
) -> None:
    """T1: coefficients, fitted means, and (canonical links) clustered covariance."""
    family = {
        "binomial": sm.families.Binomial(),
        "mu": sm.families.Poisson(),
        "mu2": sm.families.Gamma(sm.families.links.Log()),
    }[variance]
    pairs: list[tuple[Any, Any]] = []
    for columns, cluster, merged in samples:
        axis = merged.axis(outcome)
        model = sm.GLM(columns[outcome], design(columns["x"]), family=family)
        expected = model.fit(tol=1e-14, maxiter=200)
        robust = model.fit(tol=1e-14, maxiter=200, cov_type="cluster", cov_kwds={"groups": cluster})
        for cells in (merged, Cells.from_rows(columns, cluster=cluster)):
            found = fit_generalised(
                design(cells.value), cells.n, cells.mean[:, axis], cells.comoment[:, axis, axis],
                link=link, variance=variance, cluster=cells.cluster,
            )  # fmt: skip
            pairs.append((found.beta, expected.params))
            pairs.append((found.predict(design(columns["x"])), expected.mu))
            # Gamma's packaged error takes the observed information, another estimate of the same.
            if found.error == "CR1" and variance != "mu2":
                pairs.append((found.covariance, robust.cov_params()))
    away = worst(pairs)
    record("T1", f"{name} from cells against raw rows", away, threshold="<= 1e-9", runs=5)
    assert away <= EXACT


def test_smearing_and_ratios(samples: list[Sample], record: Record) -> None:
    """T1: Duan's smearing factor, and the delta-method variance of success per dollar, from means and co-moments."""
    pairs: list[tuple[Any, Any]] = []
    for columns, _, cells in samples:
        line = weighted_least_squares(design(cells.value), cells, "ln_time")
        fitted = np.exp(design(cells.value) @ line.beta)
        smearing = cells.n @ (cells.mean[:, cells.axis("time")] / fitted) / cells.n.sum()
        raw_line = sm.OLS(columns["ln_time"], design(columns["x"])).fit()
        pairs.append((smearing, np.exp(raw_line.resid).mean()))
        n, mean, comoment = cells.total()
        s, c = cells.axis("success"), cells.axis("cost")
        ratio = mean[s] / mean[c]
        spread = comoment[s, s] - 2 * ratio * comoment[s, c] + ratio**2 * comoment[c, c]
        success, cost = columns["success"], columns["cost"]
        away = success - success.mean() / cost.mean() * cost
        pairs.append((ratio, success.mean() / cost.mean()))
        pairs.append((spread / (n * (n - 1) * mean[c] ** 2), away.var(ddof=1) / len(away) / cost.mean() ** 2))
    off = worst(pairs)
    record("T1", "smearing factor and ratio variance from cells", off, threshold="<= 1e-9", runs=5)
    assert off <= EXACT


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_a_thousand_parts_merge_in_any_order_and_any_tree(offset: float, record: Record) -> None:
    """T2: orders and trees agree; half the parts taken out again leave the rest; replay is the same to the last bit.

    Raw sums of squares, tried beside them at a mean of 1e9, lose the variance altogether.
    """
    rng = np.random.default_rng(1)
    y = rng.normal(offset, 1, (5000, 3))
    parts = [moments.from_rows(part) for part in np.array_split(y, 1000)]

    def chain(order: Ints) -> moments.Moments:
        total = moments.from_rows(y[:0])
        for place in order:
            total = moments.merge(*total, *parts[int(place)])
        return total

    def tree(order: Ints) -> moments.Moments:
        level = [parts[int(place)] for place in order]
        while len(level) > 1:
            level = [
                moments.merge(*level[at], *level[at + 1]) if at + 1 < len(level) else level[at]
                for at in range(0, len(level), 2)
            ]
        return level[0]

    orders = [rng.permutation(1000) for _ in range(10)]
    totals = [*(chain(order) for order in orders), *(tree(order) for order in orders)]
    diagonal = [0, 3, 5]
    means = np.stack([total[1] for total in totals])
    squares = np.stack([total[2][diagonal] for total in totals])
    scale = np.abs(means).max() if offset else 1.0
    spread = max(float(np.ptp(means, axis=0).max() / scale), float((np.ptp(squares, axis=0) / squares[0]).max()))
    exact = ((y - offset) - (y - offset).mean(axis=0)).var(axis=0) * len(y)
    variance_error = float(np.abs(squares / exact - 1).max())
    if offset:
        record("T2", "relative error of a variance at a mean of 1e9", variance_error, threshold="<= 1e-6", runs=20,
               reference=f"raw sums of squares {abs(raw_variance(y) - 1):.3g}")  # fmt: skip
        assert variance_error <= 1e-6
        assert abs(raw_variance(y) - 1) > 0.5
    else:
        record("T2", "relative spread over orders and trees", spread, threshold="<= 1e-12", runs=20)
        assert spread <= 1e-12
        assert variance_error <= 1e-12
    replayed = chain(orders[0])
    assert all(np.array_equal(one, other) for one, other in zip(replayed, totals[0], strict=True))
    left = totals[0]
    for place in range(500):
        left = moments.unmerge(*left, *parts[place])
    rest = np.concatenate(np.array_split(y, 1000)[500:]) - offset
    assert float(left[0]) == len(rest)
    np.testing.assert_allclose(left[2][diagonal], rest.var(axis=0) * len(rest), rtol=1e-6 if offset else 1e-12)


def raw_variance(y: Floats) -> float:
    """Give the variance of the first column by running sums of y and y², as a naive stream would keep it."""
    column = y[:, 0]
    total, squares = np.add.accumulate(column)[-1], np.add.accumulate(column * column)[-1]
    return float(squares / len(column) - (total / len(column)) ** 2)
