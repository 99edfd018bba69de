"""The law over two resources: exact curves, outliers, and the published refit of 240 training runs."""

import csv
from pathlib import Path

import numpy as np
import pytest

from analytics.joint_scaling import JointScaling, fit_joint_scaling
from analytics.moments import Floats
from models.errors import NotEnoughData

POINTS = Path(__file__).parents[3] / "shared" / "data" / "chinchilla_epoch" / "svg_extracted_data.csv"
TRUTH = JointScaling(1.8, 480.0, 2100.0, 0.35, 0.37, 0.0, 48)


def design() -> tuple[Floats, Floats]:
    """Cross eight sizes with six amounts of data."""
    size, data = np.meshgrid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 3e11, 6))
    return size.ravel(), data.ravel()


def parameters(law: JointScaling) -> list[float]:
    """List E, A, B, alpha, beta."""
    return [law.floor, law.size_scale, law.data_scale, law.size_exponent, law.data_exponent]


def test_an_exact_curve_is_recovered() -> None:
    """Losses on the curve give back all five parameters, and the curve."""
    size, data = design()
    law = fit_joint_scaling(size, data, 1.8 + 480 / size**0.35 + 2100 / data**0.37)
    assert parameters(law) == pytest.approx(parameters(TRUTH), rel=2e-3)
    assert law.loss(size, data) == pytest.approx(TRUTH.loss(size, data), rel=1e-6)
    assert law.objective < 1e-10


def test_outliers_move_it_little() -> None:
    """Two losses of half as much again do not move the exponents, which a square loss would."""
    size, data = design()
    loss = TRUTH.loss(size, data) * np.exp(np.random.default_rng(0).normal(0, 1e-3, len(size)))
    spoilt = loss.copy()
    spoilt[[5, 40]] *= 1.5
    clean, law = fit_joint_scaling(size, data, loss), fit_joint_scaling(size, data, spoilt)
    assert law.size_exponent == pytest.approx(clean.size_exponent, abs=0.01)
    assert law.data_exponent == pytest.approx(clean.data_exponent, abs=0.01)


@pytest.mark.skipif(not POINTS.exists(), reason="the points of ../shared/data/chinchilla_epoch are not on this machine")
def test_published_refit_of_chinchilla() -> None:
    """Every parameter is within 0.1 % of the published best, the objective no higher; five outliers move it far."""
    with POINTS.open(encoding="utf-8", newline="") as file:
        rows = [[float(row[name]) for name in ("Model Size", "Training FLOP", "loss")] for row in csv.DictReader(file)]
    size, compute, loss = np.array(rows).T
    data = compute / (6 * size)
    kept = np.argsort(loss)[:-5]
    law = fit_joint_scaling(size[kept], data[kept], loss[kept])
    assert law.n == 240
    assert parameters(law) == pytest.approx([1.81724, 477.84, 2143.86, 0.34731, 0.36718], rel=1e-3)
    assert law.objective <= 0.00101827 + 5e-9
    everything = fit_joint_scaling(size, data, loss)
    assert parameters(everything) == pytest.approx([1.8913, 495.7, 12845.6, 0.3493, 0.4530], rel=1e-3)


def test_what_it_needs_is_told() -> None:
    """Five points, two sizes, or a loss of zero are refused."""
    size, data = design()
    with pytest.raises(NotEnoughData, match="needs 6 points"):
        fit_joint_scaling(size[:5], data[:5], np.ones(5))
    with pytest.raises(NotEnoughData, match="3 distinct values of each"):
        fit_joint_scaling(size, np.full(48, 1e9), np.ones(48))
    with pytest.raises(NotEnoughData, match="above 0"):
        fit_joint_scaling(size, data, np.zeros(48))
