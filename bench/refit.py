"""CPU seconds of a refit from cells, beside the same fits row by row with statsmodels and lmfit.

- The laws of 50 contexts, six dimensions and four outcomes, each with 300 bootstrap draws, from the cells that the
  events of bench/events.py leave; the goal is 5 s for 1,200 laws on one core.
- Their parts, each timed by itself.
- A few laws over 10,000 rows: the same point fits from the rows, and the CPU time they take of that from cells.
- 10,000, 100,000 and 1,000,000 runs: from cells the time of a law does not depend on how many runs they hold.

Times are CPU time of one thread. A calibration loop of fixed numpy work is timed beside them, so that figures from
different machines, or from a busy one, can be compared.

Usage: python bench/refit.py [--events N] [--laws N]
"""

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read when numpy loads, so it stands before the imports

import lmfit  # type: ignore[import-untyped]
import numpy as np
import statsmodels.api as sm

from agents.decode import EventDecoder
from agents.observer import Observer
from agents.refit import Refitter, choose_basis
from analytics.averaging import average
from analytics.cells import Cells, LawCells, law_cells
from analytics.families import CURVES, families
from analytics.knees import find_knee
from analytics.laws import CellFits, Heading, explained, fit_law
from analytics.moments import Floats
from analytics.points import independent
from analytics.published import Curve, Fitting, price_of, publish
from analytics.reference import above_zero
from analytics.refinement import refine
from bench.events import CONTEXT_KEYS, events
from models.batches import Batch
from models.dimensions import LIVE_OUTCOMES, Basis, Dimension, Outcome
from models.laws import Published
from models.settings import load_settings
from models.topics import RUNS, STATS

GOAL = 5.0
WANTED = 1200
CONTEXTS = 50
ROWS = 10_000
SIZES = (10_000, 100_000, 1_000_000)
REPEATS = 5
LEVELS = np.array([1.0, 2, 3, 4, 6, 8])


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What one law is fitted from."""

    cells: LawCells
    heading: Heading

    def fit(self, cost: Published | None = None) -> Published | None:
        """Fit the law as the refitter does."""
        return fit_law(self.cells, cost=cost, **self.heading).published


def heading(context: str, dimension: Dimension, outcome: Outcome, basis: Basis) -> Heading:
    """Say what a law is about."""
    return Heading(
        context=context,
        dimension=dimension,
        outcome=outcome,
        basis=basis,
        sources=["observational"],
        lineage={0: 1},
        settings_hash="",
        fitted_at="2026-01-01T00:00:00Z",
    )


def observed(count: int) -> Iterator[Job]:
    """Fold events into cells as the stats worker does, and yield the laws of the first contexts, costs first."""
    settings = load_settings(partitions=1, context_keys=CONTEXT_KEYS)
    payloads = list(events(count, seed=7))
    stamp = int(time.time() * 1000)
    observer, refitter = Observer(0, settings, EventDecoder(settings)), Refitter(settings)
    observer.observe(Batch(RUNS, 0, range(count), [stamp] * count, [None] * count, payloads, [()] * count))
    for record in observer.drain().records:
        if record.topic == STATS:
            refitter.stage(record.key or b"", record.value)
    for shot in refitter.snapshot()[:CONTEXTS]:
        for dimension, slots in shot.cells.items():
            for outcome in (Outcome.TOTAL_COST, *LIVE_OUTCOMES[:-1]):
                chosen = choose_basis(dimension, slots, outcome)
                if chosen is not None:
                    yield Job(law_cells(chosen[1], outcome), heading(shot.context, dimension, outcome, chosen[0]))


def cpu(work: Callable[[], object], repeats: int = 1) -> float:
    """Give the least CPU time of some repeats."""
    took = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        took.append(time.process_time() - start)
    return min(took)


def calibration() -> None:
    """Do a fixed amount of numpy work of the kind that fits are made of: small solves and mid-sized sums."""
    rng = np.random.default_rng(0)
    weights, curves, gram = rng.random((11, 301)), rng.random((11, 301, 8)), np.eye(3) + 0.1
    for _ in range(2000):
        np.einsum("fb,fbk->bk", weights, curves)
        np.exp(weights)
        for _ in range(5):
            np.linalg.solve(gram, gram[0])


def refit(jobs: list[Job]) -> None:
    """Fit all laws, each cost law pricing the knees of the outcomes after it."""
    cost: Published | None = None
    for job in jobs:
        law = job.fit(None if job.heading["outcome"] is Outcome.TOTAL_COST else cost)
        if job.heading["outcome"] is Outcome.TOTAL_COST:
            cost = law


def parts(jobs: list[Job]) -> dict[str, float]:
    """Time the parts of the laws one by one: milliseconds of a law."""
    laws = [fit_law(job.cells, **job.heading) for job in jobs]
    fits = [CellFits(job.cells, above_zero(job.cells), job.heading["outcome"]) for job in jobs]

    def published(draws: int) -> list[Curve]:
        return [
            publish(
                fit.means(),
                job.heading["dimension"],
                job.heading["outcome"],
                job.heading["basis"],
                Fitting(draws=draws),
            )
            for fit, job in zip(fits, jobs, strict=True)
        ]

    curves = published(300)

    def refined() -> None:
        for curve in curves:
            points = curve.average.points
            for name, fit in curve.average.fits.items():
                if len(fit.linear) or fit.inside:
                    grid = families((name,), points.x, points.x)[0].shapes
                    start = grid[np.abs(grid - fit.shape).sum(axis=1).argmin()]
                    refine(name, start, points.x, points.mean, points.root)

    def knees() -> None:
        for curve, job in zip(curves, jobs, strict=True):
            outcome = job.heading["outcome"]
            if outcome is not Outcome.TOTAL_COST:
                price = price_of(curve.average.points.x, job.heading["dimension"], outcome, None, Fitting())
                find_knee(curve.average, price, less_is_better=outcome is Outcome.TIME_TO_COMPLETE)

    works: dict[str, Callable[[], object]] = {
        "three reference lines": lambda: [(fit.power(), fit.log(), fit.linear()) for fit in fits],
        "power mean": lambda: [fit.power_mean() for fit in fits],
        "all of the published law, one draw": lambda: published(1),
        "  of which refinement of shapes": refined,
        "knee": knees,
        "sentence and lint": lambda: [explained(law) for law in laws],
    }
    took = {name: cpu(work, 3) / len(jobs) * 1e3 for name, work in works.items()}
    took["bootstrap of 300 draws"] = (
        cpu(lambda: published(300), 3) / len(jobs) * 1e3 - took["all of the published law, one draw"]
    )
    took["whole law"] = cpu(lambda: [fit_law(job.cells, **job.heading) for job in jobs], 3) / len(jobs) * 1e3
    return took


def fittable(job: Job) -> bool:
    """Tell whether every part of a law can be fitted, so that it can be timed."""
    return bool(fit_law(job.cells, **job.heading).published) and job.heading["dimension"] is not Dimension.ATTEMPTS


def rows(size: int, seed: int) -> tuple[Floats, Floats]:
    """Draw runs: quality that saturates with x."""
    rng = np.random.default_rng(seed)
    x = rng.choice(LEVELS, size)
    return x, np.clip(0.8 - 0.4 * np.exp(-(x - 1) / 2) + rng.normal(0, 0.1, size), 0.01, 1.0)


def cells_of(x: Floats, y: Floats) -> LawCells:
    """Reduce runs to cells."""
    columns = {"x": x, "quality_score": y, "clipped_ln_quality": np.log(y)}
    return law_cells(Cells.from_rows(columns), Outcome.QUALITY_SCORE)


def from_cells(cells: LawCells) -> Callable[[], object]:
    """Make the point fits from cells: three lines, the power mean, and all families."""
    fits = CellFits(cells, cells, Outcome.QUALITY_SCORE)

    def work() -> None:
        fits.power(), fits.log(), fits.linear(), fits.power_mean()
        means = fits.means()
        average(independent(means.x, means.n, means.mean, means.m2, binary=False), CURVES, draws=1, bounds=(0.0, 1.0))

    return work


def by_statsmodels(x: Floats, y: Floats) -> None:
    """Make the three lines with HC3 errors and the power mean by regressions on the rows."""
    ones = np.ones(len(x))
    on_log, on_x = np.column_stack((ones, np.log(x))), np.column_stack((ones, x))
    for design, target in ((on_log, np.log(y)), (on_log, y), (on_x, y)):
        sm.OLS(target, design).fit(cov_type="HC3").conf_int()
    sm.GLM(y, on_log, family=sm.families.Poisson()).fit(cov_type="HC1").conf_int()


def by_lmfit(x: Floats, y: Floats) -> None:
    """Fit two of the ten families, a saturating exponential and a power law, by non-linear least squares of rows."""

    def saturating(x: Floats, ceiling: float, deficit: float, scale: float) -> Floats:
        return np.asarray(ceiling - deficit * np.exp(-(x - 1) / scale))

    def power(x: Floats, coefficient: float, exponent: float) -> Floats:
        return np.asarray(coefficient * x**exponent)

    lmfit.Model(saturating).fit(y, x=x, ceiling=0.8, deficit=0.3, scale=1.5)
    lmfit.Model(power).fit(y, x=x, coefficient=0.4, exponent=0.2)


def against_rows() -> None:
    """Print the ratio of CPU time of the row-wise fits to that of the same fits from cells, law by law."""
    ratios = []
    for seed in range(REPEATS):
        x, y = rows(ROWS, seed)
        ours = cpu(from_cells(cells_of(x, y)), 20)
        lines, curves = cpu(partial(by_statsmodels, x, y), 3), cpu(partial(by_lmfit, x, y), 3)
        ratios.append((lines + curves) / ours)
        print(
            f"  law {seed + 1}: from cells {ours * 1e3:6.2f} ms (3 lines, power mean, 10 families)  statsmodels "
            f"{lines * 1e3:6.2f} (3 lines, power mean)  lmfit {curves * 1e3:6.2f} (2 families)  ratio {ratios[-1]:.1f}"
        )
    print(f"  median ratio of CPU time, rows to cells: {statistics.median(ratios):.1f}")


def by_size() -> None:
    """Print the time of a law by the number of its runs."""
    about = heading("global", Dimension.AGENT_COUNT, Outcome.QUALITY_SCORE, Basis.REALISED)
    for size in SIZES:
        x, y = rows(size, 1)
        cells = cells_of(x, y)
        ours = cpu(partial(fit_law, cells, **about), 20)
        theirs = cpu(partial(by_statsmodels, x, y))
        print(
            f"  {size:>9,} runs: whole law from cells {ours * 1e3:5.2f} ms   "
            f"three lines and power mean by statsmodels {theirs * 1e3:8.1f} ms"
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--laws", type=int, default=WANTED)
    chosen = parser.parse_args()
    jobs = list(islice(observed(chosen.events), chosen.laws))
    refit(jobs[:24])  # designs of the usual values are made once
    before = cpu(calibration)
    took = cpu(lambda: refit(jobs))
    steps = (before + cpu(calibration)) / 2
    print(
        f"{len(jobs)} laws, {chosen.events} events, 300 draws: {took:.2f} s of CPU, {took / len(jobs) * 1e3:.2f} ms a "
        f"law (goal {GOAL:g} s for {WANTED}); calibration loop {steps:.2f} s, ratio {took / steps:.2f}"
    )
    whole = [job for job in jobs[:: 2 * (len(jobs) // 300) + 1] if fittable(job)]
    print(f"parts, milliseconds a law, {len(whole)} laws:")
    for name, part in parts(whole).items():
        print(f"  {name:40s} {part:6.3f}")
    print(f"point fits over {ROWS:,} rows:")
    against_rows()
    print("by size:")
    by_size()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    warnings.simplefilter("ignore")
    main()
