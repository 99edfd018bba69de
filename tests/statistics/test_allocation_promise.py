"""T29 on the grid: what the allocator says of its choice, where no setting is better and where some are."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from analytics.outlook import MostOutcome, Outlook
from analytics.setting_grid import Grid, Limits, Span
from analytics.setting_promise import Promised, promise_of, shrunk_promise
from analytics.solver import choose
from models.allocations import Setting

pytestmark = pytest.mark.statistics

Floats = npt.NDArray[np.float64]

SIX = Limits(Span(1, 6), Span(1, 1), Span(1000, 1000), Span(1, 1))
DRAWS = 32
USED = Setting(3, 5, 32_000, 1)
"""The fixed setting that a choice is compared with."""


@pytest.mark.parametrize(("each", "bound", "raw"), [(30, 0.03, 0.09), (100, 0.015, 0.05)])
def test_nothing_is_promised_where_no_setting_is_better(
    each: int, bound: float, raw: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T29: six settings that all succeed in 40 % of runs; the best of them looks far better than the first, and is not.

    The promise holds with the errors of the means, and with errors that 32 draws of them show.
    """
    runs = simulations(600, 2000)
    rng = np.random.default_rng([2910, each])
    grid, found, drawn = Grid.of(SIX), [], []
    for rate in rng.binomial(each, 0.4, (runs, 6)) / each:
        variance = np.full(6, float((rate * (1 - rate)).sum()) / 6 / (each - 1))
        draws = rate + rng.normal(0, np.sqrt(variance), (DRAWS, 6))
        outlook = Outlook(grid, rate, draws, np.ones(6))
        chosen = choose(outlook, MostOutcome(2.0)).best.index
        found.append(shrunk_promise(rate, np.sqrt(variance), chosen, 0))
        drawn.append(promise_of(outlook, chosen, 0))
    gain, by_draws, unshrunk = (
        float(np.mean(values))
        for values in ([p.gain for p in found], [p.gain for p in drawn], [p.raw_gain for p in found])
    )
    for name, value in (("", gain), (", errors from 32 draws", by_draws)):
        record(
            "T29",
            f"allocator: promised gain of six equal settings, n={each}{name}",
            value,
            threshold=f"<= {bound}",
            runs=runs,
            reference=f"best of six raw means {unshrunk:.3f}",
        )
        assert value <= bound
    assert unshrunk > raw


def surface(rng: np.random.Generator, runs: int, slopes: Floats, design: Floats) -> tuple[Floats, Floats]:
    """Fit a line on the logarithms to successes of runs at random settings; give its curve and draws on the grid."""
    tried = np.stack((np.ones(runs), *(np.log(rng.choice(values, runs) / centre) for values, centre in TRIED)), axis=1)
    success = rng.random(runs) < 0.4 + tried[:, 1:] @ slopes
    covariance = np.linalg.inv(tried.T @ tried)
    fit = covariance @ (tried.T @ success)
    noise = float(((success - tried @ fit) ** 2).sum()) / (runs - len(fit))
    return design @ fit, rng.multivariate_normal(fit, covariance * noise, DRAWS) @ design.T


TRIED = (([1, 2, 3, 4, 6, 8], 3.0), ([1, 2, 3, 5, 8], 4.0), ([4, 8, 16, 32, 64], 20.0))
"""Agents, iterations and thousands of tokens that were tried, and a typical value of each."""


def promises(runs: int, slopes: Floats, times: int, seed: int) -> tuple[list[Promised], Floats]:
    """Fit, choose within a budget, and promise; give also what the choices truly gain."""
    rng = np.random.default_rng([seed, runs])
    grid = Grid.of(Limits(context_budget=Span(4000, 64_000, 4000)))
    columns = (grid.agent_count, grid.max_iterations, grid.context_budget / 1000)
    logs = [np.log(column / centre) for column, (_, centre) in zip(columns, TRIED, strict=True)]
    design = np.stack((np.ones(len(grid)), *logs), axis=1)
    cost = grid.agent_count * (0.05 + grid.max_iterations * (0.02 + 0.0004 * columns[2]))
    used = grid.find(USED)
    assert used is not None
    found, gained = [], []
    for _ in range(times):
        curve, draws = surface(rng, runs, slopes, design)
        outlook = Outlook(grid, curve, draws, cost)
        choice = choose(outlook, MostOutcome(float(cost[used]) * 1.5))
        found.append(promise_of(outlook, choice.best.index, used, choice.affordable))
        gained.append((design[choice.best.index, 1:] - design[used, 1:]) @ slopes)
    return found, np.array(gained)


@pytest.mark.parametrize(("runs", "bound"), [(180, 0.03), (600, 0.015)])
def test_a_law_over_the_grid_promises_little_where_nothing_matters(
    runs: int, bound: float, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """T29 for predictions of a law: 8,640 settings are not 8,640 estimates, and their errors go together.

    As many runs as in six values of 30 and of 100: the promise over the fixed setting keeps the same bounds.
    """
    times = simulations(150, 1000)
    found, _ = promises(runs, np.zeros(3), times, 2911)
    gain, raw = np.mean([p.gain for p in found]), np.mean([p.raw_gain for p in found])
    record(
        "T29",
        f"allocator: promised gain of a law of three dimensions, no effect, {runs} runs",
        gain,
        threshold=f"<= {bound}",
        runs=times,
        reference=f"as predicted {raw:.3f}",
    )
    assert gain <= bound
    assert raw > 2 * gain


@pytest.mark.parametrize("runs", [600, 3000])
def test_a_real_gain_is_promised_nearly_as_it_comes(
    runs: int, simulations: Callable[[int, int], int], record: Callable[..., None]
) -> None:
    """Where more of everything helps, the promise strays at most half as far as the law alone."""
    times = simulations(200, 1000)
    found, gained = promises(runs, np.array([0.08, 0.05, 0.03]), times, 2912)
    over = float(np.mean([p.gain for p in found] - gained))
    raw = float(np.mean([p.raw_gain for p in found] - gained))
    record(
        "T29",
        f"allocator: promised less realised gain, real effects, {runs} runs",
        over,
        threshold="[-.01, .01]",
        runs=times,
        reference=f"as predicted {raw:+.3f}, realised {gained.mean():.3f}",
    )
    assert abs(over) <= 0.01
    assert raw > 2 * abs(over)
