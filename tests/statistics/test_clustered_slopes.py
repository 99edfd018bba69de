"""Slopes that differ by project: clustered errors cover, those of independent runs do not (T5)."""

from collections.abc import Callable

import numpy as np
import pytest

from analytics.cells import Cells
from analytics.generalised_linear import fit_generalised
from analytics.least_squares import line

pytestmark = pytest.mark.statistics

LEVELS = np.array([1.0, 2, 3, 4, 6, 8])
SLOPE = 0.1
ATTENUATED = 0.4 / np.sqrt(1 + 0.346 * 0.5**2)
"""The slope of the log odds averaged over projects: shifts of sd s flatten it by √(1 + 0.346 s²)."""


@pytest.mark.parametrize("projects", [20, 8])
def test_clustered_intervals_cover_where_those_of_independent_runs_do_not(
    projects: int, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T5: a hundred runs a value, each project with a slope of its own: CR1 covers the mean slope, HC3 does not."""
    worlds = simulations(300, 2000)
    held = np.zeros((worlds, 2))
    x = np.repeat(LEVELS, 100)
    for place in range(worlds):
        rng = np.random.default_rng(place)
        project = rng.integers(0, projects, len(x))
        level, slope = rng.normal(0.5, 0.05, projects), rng.normal(SLOPE, 0.08, projects)
        y = level[project] + slope[project] * np.log(x) + rng.normal(0, 0.3, len(x))
        cells = Cells.from_rows({"x": x, "y": y}, cluster=project)
        for column, error in enumerate(("CR1", "HC3")):
            fit = line(cells, "y", "ln_x", error="CR1" if error == "CR1" else "HC3").coefficient
            held[place, column] = fit.lo <= SLOPE <= fit.hi
    coverage = held.mean(axis=0).tolist()
    record("T5", f"coverage of the slope by CR1, {projects} projects", coverage[0], threshold="[.92, .97]", runs=worlds,
           reference=f"HC3 {coverage[1]:.3f}")  # fmt: skip
    slack = 3 * np.sqrt(0.95 * 0.05 / worlds)
    assert min(0.92, 0.95 - slack) <= coverage[0] <= max(0.97, 0.95 + slack)
    assert coverage[1] < 0.90


def test_clustered_errors_of_a_logit_cover_too(
    simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Success whose log odds shift by project, each project at few values: CR1 covers the slope, HC1 does not."""
    worlds = simulations(200, 1000)
    held = np.zeros((worlds, 2))
    for place in range(worlds):
        rng = np.random.default_rng(place)
        x = LEVELS[rng.integers(0, 6, 24)]
        shift = rng.normal(0, 0.5, 24)
        k = rng.binomial(40, 1 / (1 + np.exp(-(-0.3 + 0.4 * np.log(x) + shift))))
        mean, n = k / 40, np.full(24, 40.0)
        X = np.stack((np.ones(24), np.log(x)), axis=1)
        for column, cluster in enumerate((np.arange(24), None)):
            fit = fit_generalised(
                X, n, mean, n * mean * (1 - mean), link="logit", variance="binomial", cluster=cluster
            ).estimate(1)
            held[place, column] = fit.lo <= ATTENUATED <= fit.hi
    coverage = held.mean(axis=0).tolist()
    record("T5", "coverage of a logit's slope by CR1, 24 projects", coverage[0], threshold=">= .90", runs=worlds,
           reference=f"HC1 {coverage[1]:.3f}")  # fmt: skip
    assert coverage[0] >= 0.90 - 3 * np.sqrt(0.9 * 0.1 / worlds)
    assert coverage[1] < 0.80
