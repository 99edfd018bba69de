"""Laws fitted to runs of planted worlds: joint ones, and those of single dimensions."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from agents.allocator import Allocator
from analytics.allocation_worlds import AllocationWorld, cells_of
from analytics.cells import Cells, law_cells
from analytics.joint_laws import SettingGrid, fit_joint_law
from analytics.laws import fit_law
from analytics.moments import Floats
from models.dimensions import BASES, LIVE_OUTCOMES, Dimension, Outcome
from models.joint_laws import JointLaw, LawRecord
from models.laws import Law
from models.settings import load_settings

WHEN = "2026-03-01T00:00:00Z"
VALUES: Mapping[Dimension, tuple[float, ...]] = {
    Dimension.AGENT_COUNT: (1, 2, 3, 4, 6, 8),
    Dimension.ITERATIONS: (1, 2, 3, 4, 6, 8),
    Dimension.CONTEXT: (4000, 8000, 16_000, 32_000, 64_000),
}
Tried = tuple[tuple[Dimension, tuple[float, ...]], ...]


def world_of(**changes: Any) -> AllocationWorld:  # noqa: ANN401 - any field
    """Make a world of smooth logits; where nothing is said agents and iterations cost and bring alike."""
    known: dict[str, Any] = {
        "shape": "logit",
        "level": -1.5,
        "agents": 0.3,
        "iterations": 0.3,
        "context": 0.2,
        "hardness": 1.0,
        "agent_price": 1e-6,
    }
    return AllocationWorld(**known | changes)


def runs_of(
    world: AllocationWorld, count: int, seed: int, tried: Tried
) -> tuple[dict[Dimension, Floats], Floats, dict[Outcome, Floats]]:
    """Run tasks of any complexity at settings drawn from what is tried; slots are anything up to the agents."""
    rng, values = np.random.default_rng(seed), dict(VALUES) | dict(tried)
    settings = {each: rng.choice(np.asarray(values[each], np.float64), count) for each in VALUES}
    agents = settings[Dimension.AGENT_COUNT]
    slots = values.get(Dimension.PARALLELISM_LEVEL)
    settings[Dimension.PARALLELISM_LEVEL] = (
        np.floor(rng.random(count) * agents) + 1 if slots is None else rng.choice(np.asarray(slots, np.float64), count)
    )
    complexity = rng.random(count)
    return settings, complexity, world.run(rng, SettingGrid(settings, complexity))


@lru_cache
def joint_laws_of(
    world: AllocationWorld,
    tried: Tried = (),
    *,
    context: str = "global",
    outcomes: tuple[Outcome, ...] = LIVE_OUTCOMES,
    count: int = 6000,
    seed: int = 1,
) -> tuple[JointLaw, ...]:
    """Fit joint laws of some outcomes; `tried` says which values of a dimension were tried instead of the usual."""
    cells = cells_of(*runs_of(world, count, seed, tried))
    return tuple(fit_joint_law(cells, outcome, context=context, fitted_at=WHEN) for outcome in outcomes)


@lru_cache
def single_laws_of(world: AllocationWorld, tried: Tried = (), count: int = 6000, seed: int = 1) -> tuple[Law, ...]:
    """Fit the laws of success and cost over each part that shares the budget, and of time over parallelism."""
    settings, _, brought = runs_of(world, count, seed, tried)
    wanted = [(each, outcome) for each in VALUES for outcome in (Outcome.SUCCESS, Outcome.TOTAL_COST)]
    wanted.append((Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE))
    success, quality, seconds, dollars = (brought[outcome] for outcome in LIVE_OUTCOMES)
    columns = {
        **{outcome.value: brought[outcome] for outcome in LIVE_OUTCOMES},
        "ln_time": np.log(seconds),
        "ln_cost": np.log(dollars),
        "clipped_ln_quality": np.log(np.maximum(quality, 0.001)),
        "clipped_ln_cost": np.log(np.maximum(dollars, 0.001)),
    }
    del success
    return tuple(
        fit_law(
            law_cells(Cells.from_rows({"x": settings[dimension], **columns}), outcome),
            context="global",
            dimension=dimension,
            outcome=outcome,
            basis=BASES[dimension][0],
            sources=["observational"],
            lineage={0: count},
            settings_hash="",
            fitted_at=WHEN,
        )
        for dimension, outcome in wanted
    )


@pytest.fixture(scope="session")
def make_world() -> Callable[..., AllocationWorld]:
    """Give the maker of worlds."""
    return world_of


@pytest.fixture(scope="session")
def joint_laws() -> Callable[..., tuple[JointLaw, ...]]:
    """Give the fitter of joint laws."""
    return joint_laws_of


@pytest.fixture(scope="session")
def single_laws() -> Callable[..., tuple[Law, ...]]:
    """Give the fitter of laws of single dimensions."""
    return single_laws_of


def allocator_of(laws: Iterable[LawRecord] = (), **settings: object) -> Allocator:
    """Make an allocator that knows these laws; it explores only where a rate is given."""
    made = Allocator(load_settings(**{"exploration_rate": 0} | settings))
    for law in laws:
        made.book.put(law)
    return made


@pytest.fixture(scope="session")
def make_allocator() -> Callable[..., Allocator]:
    """Give the maker of allocators."""
    return allocator_of
