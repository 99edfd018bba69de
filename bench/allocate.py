"""Milliseconds of one allocation in process: 36,000 settings, 32 draws of outcome and of cost.

- Each objective with each attitude to risk, on an outlook that was asked before: goal p99 5 ms.
- The same on a fresh outlook, where what depends on the draws alone is computed first.
- What else is asked: the front, a portfolio, the promise, exploration, and building the grid.

Times are of one thread, by the clock and in CPU time; on a busy machine the second tells more. A calibration loop of
fixed numpy work is timed beside them, so that figures from different machines, or from a busy one, can be compared.

Usage: python bench/allocate.py [--calls N]
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy loads, so it stands before the imports

import numpy as np
from scipy.special import expit

from analytics.moments import Floats
from analytics.outlook import (
    MEAN,
    Attitude,
    LeastCost,
    LowerBound,
    MostNetValue,
    MostOutcome,
    Objective,
    Outlook,
    TailMean,
)
from analytics.portfolio import pareto, portfolio
from analytics.setting_grid import Grid, Limits
from analytics.setting_promise import promise_of
from analytics.solver import Exploration, choose, hysteresis
from models.allocations import Setting

GOAL = 5.0
DRAWS = 32
TASKS = 100
KINDS = 10
OBJECTIVES: dict[str, Objective] = {
    "most outcome": MostOutcome(0.3),
    "most outcome, overspend <= 10 %": MostOutcome(0.3, 0.1),
    "least cost for a target": LeastCost(0.5),
    "most net value": MostNetValue(2.0, 1e-4),
    "most net value, overspend <= 10 %": MostNetValue(2.0, 1e-4, 0.3, 0.1),
}
ATTITUDES: dict[str, Attitude] = {"mean": MEAN, "lower bound": LowerBound(0.5), "tail mean": TailMean(0.25)}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of calls, by the clock and in CPU time."""

    wall: Floats
    cpu: Floats

    def __str__(self) -> str:
        (wall, slow), (cpu, busy) = (np.quantile(each, (0.5, 0.99)) for each in (self.wall, self.cpu))
        return f"p50 {wall:6.2f}  p99 {slow:6.2f}   CPU p50 {cpu:6.2f}  p99 {busy:6.2f}"


def timed(work: Callable[[], object], calls: int, before: Callable[[], object] = lambda: None) -> Times:
    """Time calls one by one; `before` is run before each, outside the time."""
    wall, cpu = [], []
    for _ in range(calls):
        before()
        start, used = time.perf_counter(), time.thread_time()
        work()
        cpu.append((time.thread_time() - used) * 1e3)
        wall.append((time.perf_counter() - start) * 1e3)
    return Times(np.array(wall), np.array(cpu))


def predicted(grid: Grid, seed: int) -> Outlook:
    """Predict success by a logistic law of the logarithms, cost by a product of prices, time by shared slots."""
    rng = np.random.default_rng(seed)
    logs = np.log(np.stack((grid.agent_count / 3, grid.max_iterations / 4, grid.context_budget / 20_000)))
    design = np.vstack((np.ones(len(grid)), logs))
    law = np.array([0.0, 0.5, 0.4, 0.3]) + rng.normal(0, 0.1, 4)
    draws = law + rng.normal(0, 0.08, (DRAWS, 4))
    cost = grid.agent_count * (0.01 + grid.max_iterations * (0.005 + 0.0004 * grid.context_budget / 1000))
    stretch = np.exp(rng.normal(0, 0.1, (DRAWS, 1)) + rng.normal(0, 0.05, (DRAWS, 1)) * logs[:1])
    seconds = 100 * grid.max_iterations * grid.agent_count / (1 + 0.8 * (grid.parallelism - 1))
    return Outlook(grid, expit(law @ design), expit(draws @ design), cost, 0.5, cost * stretch, seconds)


def calibration() -> Callable[[], object]:
    """Make a fixed amount of numpy work of the kind that a choice is made of: sums and maxima of rows."""
    rows, row, total = np.random.default_rng(0).random((DRAWS, 36_000)), np.zeros(36_000), np.empty(36_000)

    def work() -> None:
        for each in rows:
            np.add(each, row, out=total)
            total.max()

    return work


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=400)
    calls: int = parser.parse_args().calls
    grid = Grid.of(Limits())
    outlook = predicted(grid, 1)
    steps = timed(calibration(), calls)
    print(f"{len(grid):,} settings, {DRAWS} draws, {calls} calls each, milliseconds; calibration loop {steps}")

    print(f"a choice (goal p99 {GOAL:g}):")
    slowest = 0.0
    for what, objective in OBJECTIVES.items():
        for how, attitude in ATTITUDES.items():
            choose(outlook, objective, attitude)
            took = timed(lambda o=objective, a=attitude: choose(outlook, o, a), calls)  # type: ignore[misc]
            slowest = max(slowest, float(np.quantile(took.cpu, 0.99)))
            print(f"  {what + ', ' + how:46s} {took}")
    loop = float(np.median(steps.cpu))
    print(f"  slowest p99 in CPU time {slowest:.2f}, {slowest / loop:.1f} calibration loops")

    print("a choice on a fresh outlook, most outcome, overspend <= 10 %:")
    for how, attitude in ATTITUDES.items():
        took = timed(
            lambda a=attitude: choose(outlook, MostOutcome(0.3, 0.1), a),  # type: ignore[misc]
            calls // 4,
            outlook.known.clear,
        )
        print(f"  {how:46s} {took}")

    choice = choose(outlook, MostOutcome(0.3))
    names = count()
    queue = [predicted(grid, seed) for seed in range(KINDS)] * (TASKS // KINDS)
    works: dict[str, Callable[[], object]] = {
        "front": lambda: pareto(outlook),
        f"portfolio of {TASKS} tasks of {KINDS} kinds": lambda: portfolio(queue, 0.3 * TASKS),
        "promise": lambda: promise_of(outlook, choice.best.index, 0, choice.affordable),
        "hysteresis": lambda: hysteresis(Setting(3, 3, 32_000, 3), choice, outlook, 0.5),
        "exploration": lambda: Exploration.of(choice, 0.05, grid.design(choice.allowed)).draw(0.01),
        "building a grid that is not there yet": lambda: Grid.of(Limits(model_sizes=(f"size {next(names)}",))),
    }
    print("what else is asked:")
    for name, work in works.items():
        work()
        print(f"  {name:46s} {timed(work, calls // 10)}")


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    main()
