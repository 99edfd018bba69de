"""A simulated world: planted power laws, the settings that orchestrators draw from, and how hard its tasks are."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.dimensions import Dimension, Outcome
from models.errors import SettingsError

Floats = npt.NDArray[np.float64]

GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Planted:
    """A law put into the world: the mean of `outcome` is proportional to `dimension` ** `exponent`."""

    dimension: Dimension
    outcome: Outcome
    exponent: float


@dataclass(frozen=True, slots=True)
class Model:
    """A language model of the world: billions of parameters, and its price relative to the cheapest."""

    name: str
    category: str
    params_b: float
    price: float


LAWS = (
    Planted(Dimension.AGENT_COUNT, Outcome.SUCCESS, 0.22),
    Planted(Dimension.ITERATIONS, Outcome.QUALITY_SCORE, 0.25),
    Planted(Dimension.PARALLELISM_LEVEL, Outcome.TIME_TO_COMPLETE, -0.70),
    Planted(Dimension.CONTEXT, Outcome.QUALITY_SCORE, 0.12),
    Planted(Dimension.MODEL_SIZE, Outcome.QUALITY_SCORE, 0.11),
    Planted(Dimension.ATTEMPTS, Outcome.SUCCESS, 0.15),
)

MODELS = (
    Model("sim-3b", "small", 3.0, 1.0),
    Model("sim-8b", "small", 8.0, 1.3),
    Model("sim-27b", "medium", 27.0, 1.8),
    Model("sim-70b", "medium", 70.0, 2.4),
    Model("sim-180b", "large", 180.0, 3.2),
    Model("sim-405b", "large", 405.0, 4.0),
)


@dataclass(frozen=True, slots=True)
class World:
    """Where the truth is known: outcome means are products of a level, the task's ease and the planted laws.

        E[y | settings, task] = start · ease(task) · Π_d (x_d / min x_d) ** exponent_d

    A run's settings are drawn uniformly from the grids, independently of each other and of the task (a randomised
    design), so every other factor averages out and E[y | x_d] is exactly proportional to x_d ** exponent_d: over all
    runs, and within every project, task type, model and complexity band. Parallelism is therefore drawn without
    regard to the agent count: it is the number of slots a run is given, which may be more than its agents fill.
    The context budgets lie in quarter-octave bins of their own, so that binning moves none.

    The expected cost is a price, not a planted law:
    agents · iterations · (step_price + price_per_1k · context / 1000) · price(model).

    Args:
        laws: The planted laws, at most one for each dimension.
        success_start: Mean success at every dimension's smallest value, for a task of ease 1; likewise quality_start.
        time_start: Mean seconds, likewise.
        hardness: How much complexity matters: ease falls by this much from complexity 0 to complexity 1.
        tasks: Number of distinct tasks; projects, types and complexities are spread evenly over them.
        time_sigma: Standard deviation of ln time around its mean.
        cost_sigma: Standard deviation of ln cost around its mean.
        quality_concentration: Quality is Beta(m·c, (1-m)·c) around its mean m.
        quality_missing: Share of runs without a quality score, completely at random; likewise cost_missing.
        confounded: Harder tasks get more agents: then the marginal law of agents is biased, as in observed data.

    Raises:
        SettingsError: A mean of success or quality leaves (0, 1) at some grid point, or two context budgets share a
            bin.
    """

    laws: tuple[Planted, ...] = LAWS
    agents: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    iterations: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 10)
    parallelism: tuple[int, ...] = (1, 2, 4, 8)
    context_budgets: tuple[int, ...] = (3_000, 6_000, 12_000, 24_000, 48_000, 96_000)
    models: tuple[Model, ...] = MODELS
    attempts: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    projects: tuple[tuple[str, float], ...] = (("atlas", 1.09), ("borealis", 1.03), ("cinder", 0.97), ("delta", 0.91))
    task_types: tuple[tuple[str, float], ...] = (("bugfix", 1.06), ("feature", 1.0), ("refactor", 0.94))
    hardness: float = 0.3
    tasks: int = 480
    success_start: float = 0.34
    quality_start: float = 0.16
    time_start: float = 900.0
    time_sigma: float = 0.5
    step_price: float = 0.01
    price_per_1k: float = 0.0006
    cost_sigma: float = 0.25
    quality_concentration: float = 20.0
    quality_missing: float = 0.10
    cost_missing: float = 0.05
    confounded: bool = False

    def __post_init__(self) -> None:
        for outcome in (Outcome.SUCCESS, Outcome.QUALITY_SCORE):
            low, high = self.range(outcome)
            if not 0 < low <= high < 1:
                message = (
                    f"the mean of {outcome} runs from {low:.3g} to {high:.3g} over the grid and must stay inside "
                    f"(0, 1): lower its start or its exponents"
                )
                raise SettingsError(message)
        if len({math.floor(4 * math.log2(budget)) for budget in self.context_budgets}) < len(self.context_budgets):
            message = f"context_budgets = {self.context_budgets}: put each budget into a quarter octave of its own"
            raise SettingsError(message)

    def planted(self) -> list[Planted]:
        """List the planted laws: the exponents that a fit has to find."""
        return list(self.laws)

    def grid(self, dimension: Dimension) -> Floats:
        """List the values of a dimension as its laws see them (attempts are retries + 1, model size is billions)."""
        values: dict[Dimension, Sequence[float]] = {
            Dimension.AGENT_COUNT: self.agents,
            Dimension.ITERATIONS: self.iterations,
            Dimension.PARALLELISM_LEVEL: self.parallelism,
            Dimension.CONTEXT: self.context_budgets,
            Dimension.MODEL_SIZE: [model.params_b for model in self.models],
            Dimension.ATTEMPTS: self.attempts,
        }
        return np.asarray(values[dimension], dtype=np.float64)

    def factors(self, outcome: Outcome, dimension: Dimension) -> Floats:
        """Say what each value of the grid multiplies the outcome's mean by; 1 where no law is planted."""
        grid = self.grid(dimension)
        exponents = [law.exponent for law in self.laws if law.dimension == dimension and law.outcome == outcome]
        relative: Floats = (grid / grid.min()) ** sum(exponents)
        return relative

    def complexities(self) -> Floats:
        """Give each task a complexity in [0.05, 0.95], evenly spread and unrelated to its project and type."""
        spread: Floats = np.round(0.05 + 0.9 * ((np.arange(self.tasks) + 0.5) * GOLDEN % 1), 3)
        return spread

    def ease(self) -> Floats:
        """Give each task its ease, 1 for a middling one: success and quality are proportional to it."""
        task = np.arange(self.tasks)
        project = np.array([ease for _, ease in self.projects])[task % len(self.projects)]
        kind = np.array([ease for _, ease in self.task_types])[task // len(self.projects) % len(self.task_types)]
        total: Floats = project * kind * (1 + self.hardness * (0.5 - self.complexities()))
        return total

    def start(self, outcome: Outcome) -> float:
        """Say the mean outcome at the smallest settings for a task of ease 1."""
        starts = {
            Outcome.SUCCESS: self.success_start,
            Outcome.QUALITY_SCORE: self.quality_start,
            Outcome.TIME_TO_COMPLETE: self.time_start,
            Outcome.TOTAL_COST: self.step_price + self.price_per_1k * min(self.context_budgets) / 1000,
        }
        return starts[outcome]

    def range(self, outcome: Outcome) -> tuple[float, float]:
        """Bound the mean of success or quality over all tasks and grid points: (lowest, highest)."""
        low = self.start(outcome) * float(self.ease().min())
        high = self.start(outcome) * float(self.ease().max())
        for dimension in Dimension:
            factors = self.factors(outcome, dimension)
            low *= float(factors.min())
            high *= float(factors.max())
        return low, high


def confounded_world() -> World:
    """Make a world that deceives: hard tasks get many agents, and fail so often that agents seem to hurt.

    Difficulty outweighs the planted exponent of success on agents: over all runs success falls with the agents, at
    equal complexity it rises.
    """
    return World(confounded=True, hardness=1.2, success_start=0.24, quality_start=0.12)
