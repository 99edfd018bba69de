"""Run-completion events drawn from a simulated world."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.world import Floats, World
from models.dimensions import Dimension, Outcome

Ints = npt.NDArray[np.int64]
Event = dict[str, Any]

BLOCK = 10_000
"""Events drawn at once; part of what a seed means."""

SPAN = timedelta(hours=24)
EARLIEST = timedelta(hours=24, minutes=1)


def simulate(world: World, runs: int, seed: int, start: datetime | None = None) -> Iterator[Event]:
    """Yield the completion events of `runs` runs in order of time, ready for JSON.

    Completion times fill the 24 hours from `start`. The same world, runs, seed and start give the same events,
    identifiers included; another seed gives other identifiers.

    Args:
        world: Where the runs take place.
        runs: How many.
        seed: Not negative.
        start: When the first may complete, with its time zone; absent: so that the last one has just completed.
    """
    rng = np.random.default_rng(seed)
    begin = (start or datetime.now(UTC) - EARLIEST).astimezone(UTC).replace(tzinfo=None)
    origin = np.datetime64(begin, "ms")
    for first in range(0, runs, BLOCK):
        index = np.arange(first, min(first + BLOCK, runs))
        share = (index + rng.random(len(index))) / runs
        completed = origin + (share * (SPAN / timedelta(milliseconds=1))).astype("timedelta64[ms]")
        columns = {
            "agent_run_id": [f"sim-{seed}-{number:07d}" for number in index.tolist()],
            "completed_at": np.datetime_as_string(completed, unit="ms", timezone="UTC").tolist(),
            **_columns(world, rng, len(index)),
        }
        yield from _events(columns, _missing(world, rng, len(index)))


def simulate_tasks(
    world: World, rng: np.random.Generator, tasks: Ints, chosen: Mapping[Dimension, Ints]
) -> list[Event]:
    """Run the given tasks [n] once each: events without identifier, time and gaps.

    Args:
        world: Where the runs take place.
        rng: What chance draws from.
        tasks: Numbers of tasks of the world. [n]
        chosen: Places in the dimensions' grids that are set on purpose [n each]; the others are drawn uniformly.
    """
    drawn = {each: rng.integers(len(world.grid(each)), size=len(tasks)) for each in Dimension}
    return _events(_outcomes(world, rng, tasks, drawn | dict(chosen)), [])


def _columns(world: World, rng: np.random.Generator, n: int) -> dict[str, list[Any]]:
    """Draw the task, settings, realised counts and outcomes of n runs."""
    task = rng.integers(world.tasks, size=n)
    chosen: dict[Dimension, Ints] = {d: rng.integers(len(world.grid(d)), size=n) for d in Dimension}
    if world.confounded:
        chosen[Dimension.AGENT_COUNT] = rng.binomial(len(world.agents) - 1, world.complexities()[task])
    return _outcomes(world, rng, task, chosen)


def _outcomes(
    world: World, rng: np.random.Generator, task: Ints, chosen: dict[Dimension, Ints]
) -> dict[str, list[Any]]:
    """Draw realised counts and outcomes of runs whose task and settings are given."""
    n = len(task)
    complexity = world.complexities()[task]
    ease = world.ease()[task]

    agents = np.array(world.agents)[chosen[Dimension.AGENT_COUNT]]
    iterations = np.array(world.iterations)[chosen[Dimension.ITERATIONS]]
    budget = np.array(world.context_budgets)[chosen[Dimension.CONTEXT]]
    retry_limit = np.array(world.attempts)[chosen[Dimension.ATTEMPTS]] - 1
    model = chosen[Dimension.MODEL_SIZE]

    success = rng.random(n) < _mean(world, Outcome.SUCCESS, chosen) * ease
    quality = _mean(world, Outcome.QUALITY_SCORE, chosen) * ease
    quality = rng.beta(quality * world.quality_concentration, (1 - quality) * world.quality_concentration)
    time = _mean(world, Outcome.TIME_TO_COMPLETE, chosen) / ease * _noise(rng, world.time_sigma, n)
    price = np.array([model.price for model in world.models])[model]
    cost = agents * iterations * (world.step_price + world.price_per_1k * budget / 1000) * price
    cost = cost * _noise(rng, world.cost_sigma, n)

    projects = [name for name, _ in world.projects]
    kinds = [name for name, _ in world.task_types]
    return {
        "project": np.array(projects)[task % len(projects)].tolist(),
        "task_type": np.array(kinds)[task // len(projects) % len(kinds)].tolist(),
        "task_id": [f"task-{number:04d}" for number in task.tolist()],
        "task_complexity": complexity.tolist(),
        "agent_count": agents.tolist(),
        "max_iterations": iterations.tolist(),
        "total_iterations": (agents + rng.binomial(agents * (iterations - 1), 0.8)).tolist(),
        "parallelism_level": np.array(world.parallelism)[chosen[Dimension.PARALLELISM_LEVEL]].tolist(),
        "context_budget": budget.tolist(),
        "context_tokens": (budget * rng.uniform(0.6, 1.0, n)).astype(np.int64).tolist(),
        "model": np.array([model.name for model in world.models])[model].tolist(),
        "model_size_category": np.array([model.category for model in world.models])[model].tolist(),
        "model_params_b": np.array([model.params_b for model in world.models])[model].tolist(),
        "retry_limit": retry_limit.tolist(),
        # A failed run has used all its retries; a successful one stopped at any of them.
        "retry_count": np.where(success, rng.integers(retry_limit + 1), retry_limit).tolist(),
        "success": success.tolist(),
        "time_to_complete": np.round(time, 3).tolist(),
        "quality_score": np.round(quality, 4).tolist(),
        "total_cost": np.round(cost, 6).tolist(),
        "cost_source": ["reported"] * n,
    }


def _mean(world: World, outcome: Outcome, chosen: dict[Dimension, Ints]) -> Floats:
    """Compute the mean outcome of each run for a task of ease 1."""
    mean = np.full(len(chosen[Dimension.AGENT_COUNT]), world.start(outcome))
    for dimension, index in chosen.items():
        mean *= world.factors(outcome, dimension)[index]
    return mean


def _noise(rng: np.random.Generator, sigma: float, n: int) -> Floats:
    """Draw lognormal factors whose mean is 1, so that they leave a law's mean where it is."""
    return rng.lognormal(-(sigma**2) / 2, sigma, n)


def _missing(world: World, rng: np.random.Generator, n: int) -> list[tuple[int, tuple[str, ...]]]:
    """Choose, completely at random, which runs lack which fields."""
    quality = np.flatnonzero(rng.random(n) < world.quality_missing).tolist()
    cost = np.flatnonzero(rng.random(n) < world.cost_missing).tolist()
    return [(i, ("quality_score",)) for i in quality] + [(i, ("total_cost", "cost_source")) for i in cost]


def _events(columns: dict[str, list[Any]], missing: list[tuple[int, tuple[str, ...]]]) -> list[Event]:
    events: list[Event] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for index, fields in missing:
        for field in fields:
            del events[index][field]
    return events
