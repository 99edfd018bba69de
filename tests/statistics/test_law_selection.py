"""The averaged law is closer to the truth than the form that the document chooses by R², inside and beyond (T8)."""

from collections.abc import Callable

import numpy as np
import pytest

from analytics.averaging import average
from analytics.cells import Cells, law_cells
from analytics.families import CURVES
from analytics.moments import Floats
from analytics.points import independent
from analytics.reference import fit_linear, fit_logarithmic, fit_power_law
from models.dimensions import CLIP, Outcome

pytestmark = pytest.mark.statistics

X = np.array([1.0, 2, 3, 4, 6, 8])
BEYOND = np.array([12.0, 16.0])
SPREAD = 5.0
"""Quality is Beta(5 f, 5 (1 - f)): a standard deviation of 0.2 at one half."""

TRUTHS: dict[str, Callable[[Floats], Floats]] = {
    "constant": lambda x: np.full(len(x), 0.5),
    "linear": lambda x: 0.2 + 0.04 * x,
    "logarithmic": lambda x: 0.35 + 0.15 * np.log(x),
    "quadratic in the logarithm": lambda x: 0.45 + 0.30 * np.log(x) - 0.125 * np.log(x) ** 2,
    "power": lambda x: 0.3 * x**0.4,
    "saturating exponential": lambda x: 0.7 - 0.4 * np.exp(-(x - 1) / 1.5),
    "Michaelis-Menten": lambda x: 0.9 * x / (x + 1.5),
    "any of k": lambda x: 1 - 0.75**x,
    "plateau": lambda x: 0.35 + 0.1 * (np.minimum(x, 4) - 1),
}


def averaged(n: Floats, mean: Floats, m2: Floats) -> Floats:
    """Evaluate the averaged law at the values tried and beyond."""
    return average(independent(X, n, mean, m2, binary=False), CURVES, draws=2, also=BEYOND, bounds=(0.0, 1.0)).mean


def by_r_squared(cells: Cells) -> Floats:
    """Evaluate what the document chooses: the linear, logarithmic or log-log line of the greatest R²."""
    at = np.concatenate((X, BEYOND))
    outcome = Outcome.QUALITY_SCORE
    linear, log, power = fit_linear(cells, outcome), fit_logarithmic(cells, outcome), fit_power_law(cells, outcome)
    curves = (
        (linear.r_squared, linear.intercept.estimate + linear.coefficient.estimate * at),
        (log.r_squared, log.intercept.estimate + log.coefficient.estimate * np.log(at)),
        (power.r_squared, power.coefficient.estimate * at**power.exponent.estimate),
    )
    return np.asarray(max(curves, key=lambda curve: curve[0])[1])


def errors(truth: Callable[[Floats], Floats], runs: int, worlds: int) -> Floats:
    """Give mean squared errors [2, 2]: of the average and of the document's choice, at the values tried and beyond."""
    wanted = truth(np.concatenate((X, BEYOND)))
    mean = wanted[: len(X)]
    n, x = np.full(len(X), float(runs)), np.repeat(X, runs)
    squares = np.zeros((worlds, 2, len(wanted)))
    for place in range(worlds):
        y = np.random.default_rng((runs, place)).beta(SPREAD * mean, SPREAD * (1 - mean), (runs, len(X)))
        columns = {"x": x, "quality_score": y.T.ravel(), "clipped_ln_quality": np.log(np.maximum(y.T.ravel(), CLIP))}
        cells = law_cells(Cells.from_rows(columns), Outcome.QUALITY_SCORE)
        squares[place, 0] = (averaged(n, y.mean(axis=0), runs * y.var(axis=0)) - wanted) ** 2
        squares[place, 1] = (by_r_squared(cells) - wanted) ** 2
    inside, beyond = squares[:, :, : len(X)].mean(axis=(0, 2)), squares[:, :, len(X) :].mean(axis=(0, 2))
    return np.stack((inside, beyond), axis=1)


@pytest.mark.parametrize(
    ("runs", "ratio", "extrapolated"), [(30, 0.75, 0.10), (100, 0.55, 0.05), (300, 0.45, 0.04)], ids=str
)
def test_the_average_is_closer_than_the_best_r_squared(
    runs: int,
    ratio: float,
    extrapolated: float,
    simulations: Callable[[int, int], int],
    record: Callable[..., None],
) -> None:
    """T8: over nine truths the average's error is about half the document's, at the values tried and beyond them.

    Each truth's error is a root mean square over worlds and values; the figure is the mean over the truths.
    """
    worlds = simulations(60, 400)
    by_truth = np.array([errors(truth, runs, worlds) for truth in TRUTHS.values()])
    (inside, beyond), (chosen, chosen_beyond) = np.sqrt(by_truth).mean(axis=0).tolist()
    pooled = np.sqrt(by_truth.mean(axis=0))[0, 1]
    record("T8", f"RMSE of the mean, n={runs}", inside, threshold=f"<= {ratio:g} of the document's", runs=worlds,
           reference=f"best R² {chosen:.4f}")  # fmt: skip
    record("T8", f"RMSE at 12 and 16, n={runs}", beyond, threshold=f"<= {extrapolated:g}", runs=worlds,
           reference=f"best R² {chosen_beyond:.4f}; all truths' squares pooled {pooled:.4f}")  # fmt: skip
    assert inside <= ratio * chosen
    assert beyond <= extrapolated
    assert beyond < chosen_beyond
