"""The turn limit that the allocator picks on real runs, valued on tasks that it has not seen.

MINT ran the same tasks at each turn limit k = 1..5, once for each model. A success is worth a dollar, a turn has a
price, and only turns that are used are paid for. In each of five folds the laws of success and of turns used are learnt
on the other four, the solver picks the limit of most net value, and what its tasks brought at that limit is counted.
The tables go into docs/allocation.md and are printed.

Usage: PYTHONPATH=. python bench/mint_allocation.py
"""

import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy loads, so it stands before the imports

import msgspec
import numpy as np
import xxhash
from msgspec import Struct

from analytics.allocation_worlds import cells_of
from analytics.cells import Flags
from analytics.intervals import t_quantile
from analytics.joint_cells import FOLDS, MISSING, TASK_GROUPS, JointCells
from analytics.joint_laws import Predictor, SettingGrid, fit_joint_law
from analytics.moments import Floats, Ints
from analytics.outlook import MostNetValue, Outlook
from analytics.published import Fitting, Means, publish
from analytics.setting_grid import Grid, Limits, Span
from analytics.solver import choose
from models.dimensions import Basis, Dimension, Outcome
from models.laws import Estimate

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "mint_bench" / "events.jsonl.gz"
PAGE = ROOT / "docs" / "allocation.md"
BEGIN, END = "<!-- mint: begin -->", "<!-- mint: end -->"

MOST = 5
TURNS = np.arange(1.0, MOST + 1)
AT = SettingGrid({Dimension.ITERATIONS: TURNS})
GRID = Grid.of(Limits(Span(1, 1), Span(1, MOST), Span(1000, 1000), Span(1, 1)))
"""One agent, 1 to 5 iterations, and nothing else to choose."""

PRICES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20)
SHOWN = 0.05
"""Dollars for a turn; the table by model is at this one."""

CENTS = 100
DRAWS = 32


class Source(Struct):
    """The columns of MINT that are read."""

    model: str
    task_name: str
    task_id: str
    steps_used: int
    feedback_provider: str | None = None


class Run(Struct):
    """A run; its total_iterations is the limit that the experimenters set."""

    project_characteristics: Source
    total_iterations: int
    success: bool


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """What T tasks brought each of M models at each of K limits; nan where a model was not given the task.

    Attributes:
        models: Their names. [M]
        fold: xxh64 of each task's id, mod 5: the same for all models and limits. [T]
        task_group: Likewise mod 64. [T]
        success: 1 where the task was solved. [M, T, K]
        turns: Turns used; 0 where the run broke off before its first. [M, T, K]
    """

    models: tuple[str, ...]
    fold: Ints
    task_group: Ints
    success: Floats
    turns: Floats

    def net(self, price: float) -> Floats:
        """Give success - price · turns, in dollars. [M, T, K]."""
        return np.asarray(self.success - price * self.turns)

    def cells(self, model: int, kept: Flags) -> JointCells:
        """Give a model's runs of some tasks [T] as joint cells; the turns stand for the cost, at a dollar each."""
        success, turns = (each[model, kept].ravel() for each in (self.success, self.turns))
        limits = np.tile(TURNS, int(kept.sum()))
        outcomes = {Outcome.SUCCESS: success, Outcome.TOTAL_COST: turns}
        cells = cells_of({Dimension.ITERATIONS: limits}, np.zeros(len(limits)), outcomes)
        return replace(
            cells,
            complexity=np.full(len(limits), MISSING),
            fold=np.repeat(self.fold[kept], MOST),
            task_group=np.repeat(self.task_group[kept], MOST),
        )


def read(path: Path) -> Runs:
    """Read the runs without feedback at limits of 1 to 5; models that were not run at all five are left out."""
    decoder = msgspec.json.Decoder(Run)
    found: dict[str, dict[tuple[str, int], tuple[bool, int]]] = {}
    with gzip.open(path) as lines:
        for line in lines:
            run = decoder.decode(line)
            source, limit = run.project_characteristics, run.total_iterations
            if source.feedback_provider is None and limit <= MOST:
                task = f"{source.task_name}/{source.task_id}"
                found.setdefault(source.model, {})[task, limit] = (run.success, source.steps_used)
    whole = {model: runs for model, runs in found.items() if {limit for _, limit in runs} == {*range(1, MOST + 1)}}
    models, tasks = sorted(whole, key=str.lower), sorted({task for runs in whole.values() for task, _ in runs})
    place = {task: row for row, task in enumerate(tasks)}
    success, turns = (np.full((len(models), len(tasks), MOST), np.nan) for _ in range(2))
    for row, model in enumerate(models):
        for (task, limit), brought in whole[model].items():
            success[row, place[task], limit - 1], turns[row, place[task], limit - 1] = brought
    hashes = [xxhash.xxh64_intdigest(task.encode()) for task in tasks]
    fold, task_group = (np.array([each % parts for each in hashes]) for parts in (FOLDS, TASK_GROUPS))
    return Runs(tuple(models), fold, task_group, success, turns)


Predicted = tuple[Floats, Floats]
"""The mean at each limit [K], and draws of it [D, K]."""


def joint(cells: JointCells, outcome: Outcome = Outcome.SUCCESS) -> Predicted:
    """Predict by the joint law, which allocations are made by."""
    law = Predictor.of(fit_joint_law(cells, outcome, context="global", fitted_at="2024-06-04T00:00:00Z"))
    return law.mean(AT), law.draws(DRAWS, AT)


def averaged(cells: JointCells) -> Predicted:
    """Predict success by the law of turns alone: the average of families that is published."""
    n, mean = means_of(cells)
    means = Means(TURNS, n, mean, n * mean * (1 - mean), mean)
    law = publish(means, Dimension.ITERATIONS, Outcome.SUCCESS, Basis.DOSE, Fitting(draws=DRAWS)).average
    return law.curve, law.draws


def raw(cells: JointCells) -> Predicted:
    """Predict success by the mean at each limit, without a law and as if it were certain."""
    _, mean = means_of(cells)
    return mean, np.tile(mean, (DRAWS, 1))


def means_of(cells: JointCells) -> tuple[Floats, Floats]:
    """Count the runs at each limit, and give their mean success. [K] each."""
    place = np.searchsorted(TURNS, cells.design[Dimension.ITERATIONS, Basis.DOSE])
    n = np.bincount(place).astype(np.float64)
    return n, np.bincount(place, cells.outcomes[Outcome.SUCCESS].mean) / n


LAWS: dict[str, Callable[[JointCells], Predicted]] = {"joint law": joint, "averaged law": averaged, "raw means": raw}


def picks(runs: Runs) -> dict[str, Ints]:
    """Pick a limit by each law for each price, model and fold, from the tasks of the other folds.

    Returns:
        By law the place of the limit in `TURNS`. [P, M, F]
    """
    found = {name: np.zeros((len(PRICES), len(runs.models), FOLDS), np.int64) for name in LAWS}
    for model, fold in np.ndindex(len(runs.models), FOLDS):
        cells = runs.cells(model, (runs.fold != fold) & ~np.isnan(runs.turns[model, :, 0]))
        turns, turns_draws = joint(cells, Outcome.TOTAL_COST)
        for name, law in LAWS.items():
            success, draws = law(cells)
            for row, price in enumerate(PRICES):
                outlook = Outlook(GRID, success, draws, price * turns, cost_draws=price * turns_draws)
                found[name][row, model, fold] = choose(outlook, MostNetValue(value=1.0)).best.index
    return found


def held_out(values: Floats, picked: Ints, fold: Ints) -> Floats:
    """Give each task's value at the limit picked without its fold. [M, T].

    Args:
        values: At each limit. [M, T, K]
        picked: The place of the limit. [M, F]
        fold: Of each task. [T]
    """
    return np.take_along_axis(values, picked[:, fold][..., None], axis=2)[..., 0]


def fixed(values: Floats) -> Floats:
    """Give the mean over each model's tasks at every limit, without rounding errors, so that ties are ties. [M, K]."""
    return np.asarray(np.nanmean(values, axis=1).round(9))


def best(values: Floats) -> Floats:
    """Give each task's value at the limit that is best in hindsight for its model, over all of its tasks. [M, T]."""
    return np.take_along_axis(values, fixed(values).argmax(axis=1)[:, None, None], axis=2)[..., 0]


def mean_of(values: Floats) -> Estimate:
    """Average over each model's tasks, then over models; the models are given, the tasks are drawn.

    Equation: u_t = Σ_m (v_mt - v_m) / (n_m M), se² = T / (T - 1) Σ u_t²; t with T - 1 degrees of freedom. A task that
    is hard for all models counts once.

    Args:
        values: Of each task; nan where the model was not given it. [M, T]
    """
    known = values[:, ~np.isnan(values).all(axis=0)]
    models, tasks = known.shape
    means, n = np.nanmean(known, axis=1, keepdims=True), (~np.isnan(known)).sum(axis=1, keepdims=True)
    shares = np.nansum((known - means) / n, axis=0) / models
    se = float(np.sqrt(tasks / (tasks - 1) * shares @ shares))
    mean, half = float(means.mean()), t_quantile(tasks - 1) * se
    return Estimate(mean, se, mean - half, mean + half)


def report(runs: Runs, picked: dict[str, Ints]) -> str:
    """Write the tables."""
    count = (
        f"{(~np.isnan(runs.success)).sum():,} runs: {len(runs.models)} models, {len(runs.fold)} tasks, {MOST} limits."
    )
    parts = [
        f"{count} Cents a task; a success is worth 100. In brackets: 95 %, over tasks.",
        table(("a turn costs", "picked", *(f"always {k:g}" for k in TURNS), "best", "worst"), values(runs, picked)),
        table(
            (
                *("a turn costs", "mean limit", "success", "turns used"),
                *("over always 1", "over always 5", "over the best single limit", "regret", "is the best"),
            ),
            gains(runs, picked),
        ),
        table(("a turn costs", *LAWS, "joint law - averaged law", "joint law - raw means"), by_law(runs, picked)),
        "Fitted success less the mean, all tasks, in points, averaged over models:",
        table(("law", *(f"limit {k:g}" for k in TURNS)), misfits(runs)),
        f"Each model, a turn at {CENTS * SHOWN:g} cents:",
        table(
            ("model", "limits picked", "picked", "always 1", "always 5", "best (limit)", "worst (limit)", "regret"),
            by_model(runs, picked["joint law"][PRICES.index(SHOWN)]),
        ),
    ]
    return "\n\n".join(parts)


def values(runs: Runs, picked: dict[str, Ints]) -> Iterator[tuple[str, ...]]:
    """Give, price by price, the net value of the joint law's limit and of every fixed one."""
    for price, limits in zip(PRICES, picked["joint law"], strict=True):
        net = runs.net(price)
        means = fixed(net)
        columns = [*means.mean(axis=0), means.max(axis=1).mean(), means.min(axis=1).mean()]
        yield f"{CENTS * price:g}", told(mean_of(held_out(net, limits, runs.fold))), *(cents(each) for each in columns)


def gains(runs: Runs, picked: dict[str, Ints]) -> Iterator[tuple[str, ...]]:
    """Give, price by price, what the joint law picks, what that brings, and how far it is from hindsight."""
    for price, limits in zip(PRICES, picked["joint law"], strict=True):
        net, fold = runs.net(price), runs.fold
        mine = held_out(net, limits, fold)
        means = fixed(net)
        single = int(means.mean(axis=0).argmax())
        agree = limits == means.argmax(axis=1)[:, None]
        yield (
            f"{CENTS * price:g}",
            f"{TURNS[limits].mean():.1f}",
            f"{mean_of(held_out(runs.success, limits, fold)).estimate:.1%}",
            f"{mean_of(held_out(runs.turns, limits, fold)).estimate:.2f}",
            *(told(mean_of(mine - net[..., at])) for at in (0, -1, single)),
            told(mean_of(best(net) - mine)),
            f"{agree.mean():.0%}",
        )


def by_law(runs: Runs, picked: dict[str, Ints]) -> Iterator[tuple[str, ...]]:
    """Give, price by price, the regret of each law's limit, and how much more the joint law's is than the others'."""
    for row, price in enumerate(PRICES):
        net = runs.net(price)
        mine = {name: held_out(net, limits[row], runs.fold) for name, limits in picked.items()}
        regret = [cents(mean_of(best(net) - value).estimate) for value in mine.values()]
        more = [told(mean_of(mine[other] - mine["joint law"])) for other in ("averaged law", "raw means")]
        yield f"{CENTS * price:g}", *regret, *more


def misfits(runs: Runs) -> Iterator[tuple[str, ...]]:
    """Give, law by law, by how much the success that it has learnt from all tasks differs from the means."""
    cells = [runs.cells(model, ~np.isnan(runs.turns[model, :, 0])) for model in range(len(runs.models))]
    for name, law in LAWS.items():
        if law is not raw:
            away = np.mean([law(each)[0] - raw(each)[0] for each in cells], axis=0)
            yield name, *(f"{CENTS * each:+.2f}" for each in away)


def by_model(runs: Runs, limits: Ints) -> Iterator[tuple[str, ...]]:
    """Give, model by model, the limits picked in the five folds [M, F] and their net value beside the fixed ones."""
    net = runs.net(SHOWN)
    mine, hindsight = held_out(net, limits, runs.fold), best(net)
    for row, (model, means) in enumerate(zip(runs.models, fixed(net), strict=True)):
        yield (
            model,
            " ".join(f"{k:g}" for k in TURNS[limits[row]]),
            cents(np.nanmean(mine[row])),
            cents(means[0]),
            cents(means[-1]),
            *(f"{cents(means[at])} ({TURNS[at]:g})" for at in (means.argmax(), means.argmin())),
            told(mean_of((hindsight - mine)[row : row + 1])),
        )


def cents(dollars: float) -> str:
    """Write dollars as cents."""
    return f"{round(CENTS * float(dollars), 2) + 0.0:.2f}"


def told(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return f"{cents(estimate.estimate)} [{cents(estimate.lo)}, {cents(estimate.hi)}]"


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Write a Markdown table whose columns but the first are numbers."""
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Replace what stands between the marks, and print it."""
    runs = read(DATA)
    text = report(runs, picks(runs))
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
