"""Random worlds in which allocation can be put to the test: smooth curves of success, and prices that multiply."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit, logit

from analytics.joint_cells import COMPLEXITY_BINS, FOLDS, MISSING, TASK_GROUPS, JointCells, Moments, Slot
from analytics.joint_laws import SettingGrid
from analytics.moments import Floats
from models.dimensions import BASES, Basis, Dimension, Outcome

Shape = Literal["logit", "textbook", "hump"]
SHAPES: tuple[Shape, ...] = ("logit", "textbook", "hump")

FIXED: Mapping[Dimension, float] = {
    Dimension.AGENT_COUNT: 3.0,
    Dimension.ITERATIONS: 5.0,
    Dimension.CONTEXT: 32_000.0,
    Dimension.PARALLELISM_LEVEL: 3.0,
}
"""The setting that an allocator is measured against."""

QUALITY_CONCENTRATION = 20.0


@dataclass(frozen=True, slots=True)
class AllocationWorld:
    """Where the mean outcome of every setting is known; a agents, i iterations, c thousand tokens, complexity z.

        logit:     logit p = level + A ln a + I ln i + C ln(c / 32) - hardness (z - ½) + lift (z - ½) ln a
        hump:      the same, less overhead (a - 1): more agents help until talking costs more than they bring
        textbook:  p = cap (1 - (1 - q)^(a^A)) (1 - exp(-I i)) c / (c + 32 C), logit q = level - hardness (z - ½)
        cost:      a (agent_price + i (step_price + token_price c)) (1 + dearer (z - ½))
        time:      first i (1 + contention (m - 1) + coherence m (m - 1)) a / m (1 + dearer (z - ½)), m = min(slots, a)

    Costs and times of single runs are lognormal about these means.

    Attributes:
        shape: Of success; quality follows the same curve.
        agents: A; `iterations` is I and `context` C.
    """

    shape: Shape
    level: float
    agents: float
    iterations: float
    context: float
    hardness: float
    lift: float = 0.0
    overhead: float = 0.0
    cap: float = 0.95
    agent_price: float = 0.02
    step_price: float = 0.005
    token_price: float = 0.0006
    dearer: float = 0.0
    cost_sigma: float = 0.4
    first: float = 60.0
    contention: float = 0.05
    coherence: float = 0.01
    time_sigma: float = 0.4

    def success(self, grid: SettingGrid) -> Floats:
        """Give the probability of success at each setting. [G]."""
        agents, iterations, context, _, harder = _read(grid)
        if self.shape == "textbook":
            chance = expit(self.level - self.hardness * harder)
            coverage = -np.expm1(np.log1p(-chance) * agents**self.agents)
            saturation = -np.expm1(-self.iterations * iterations)
            return np.asarray(self.cap * coverage * saturation * context / (context + 32 * self.context))
        climb = (
            self.agents * np.log(agents) + self.iterations * np.log(iterations) + self.context * np.log(context / 32)
        )
        eta = self.level + climb - self.hardness * harder + self.lift * harder * np.log(agents)
        return np.asarray(expit(eta - self.overhead * (agents - 1)))

    def quality(self, grid: SettingGrid) -> Floats:
        """Give the mean quality at each setting: its logit is 0.8 times that of success. [G]."""
        return np.asarray(expit(0.8 * logit(self.success(grid))))

    def cost(self, grid: SettingGrid) -> Floats:
        """Give the mean cost at each setting, in dollars. [G]."""
        agents, iterations, context, _, harder = _read(grid)
        each = self.agent_price + iterations * (self.step_price + self.token_price * context)
        return np.asarray(agents * each * (1 + self.dearer * harder))

    def time(self, grid: SettingGrid) -> Floats:
        """Give the mean time at each setting, in seconds. [G]."""
        agents, iterations, _, slots, harder = _read(grid)
        m = np.minimum(slots, agents)
        waiting = (1 + self.contention * (m - 1) + self.coherence * m * (m - 1)) * agents / m
        return np.asarray(self.first * iterations * waiting * (1 + self.dearer * harder))

    def run(self, rng: np.random.Generator, grid: SettingGrid) -> dict[Outcome, Floats]:
        """Run one task at each setting, of the complexity given there. [G each]."""
        size, quality = len(grid), np.broadcast_to(self.quality(grid), (len(grid),))
        return {
            Outcome.SUCCESS: np.asarray(rng.random(size) < self.success(grid), np.float64),
            Outcome.QUALITY_SCORE: rng.beta(quality * QUALITY_CONCENTRATION, (1 - quality) * QUALITY_CONCENTRATION),
            Outcome.TIME_TO_COMPLETE: self.time(grid) * _noise(rng, self.time_sigma, size),
            Outcome.TOTAL_COST: self.cost(grid) * _noise(rng, self.cost_sigma, size),
        }


def random_world(number: int, shape: Shape | None = None) -> AllocationWorld:
    """Draw a world; the same number gives the same one, and numbers go through the shapes in turn.

    The fixed setting succeeds in 30 % to 60 % of tasks of middling complexity, so that there is something to gain and
    something to lose. Slopes, hardness and noise are drawn uniformly, prices uniformly on a logarithm.
    """
    rng = np.random.default_rng([2501, number])
    chosen = shape or SHAPES[number % len(SHAPES)]
    target = rng.uniform(0.3, 0.6)
    drawn = {
        "hardness": rng.uniform(0.5, 3.0),
        "agent_price": np.exp(rng.uniform(np.log(0.005), np.log(0.05))),
        "step_price": np.exp(rng.uniform(np.log(0.002), np.log(0.02))),
        "token_price": np.exp(rng.uniform(np.log(0.0002), np.log(0.001))),
        "dearer": rng.uniform(0.0, 0.8),
        "cost_sigma": rng.uniform(0.3, 0.8),
        "contention": rng.uniform(0.0, 0.2),
        "coherence": np.exp(rng.uniform(np.log(0.002), np.log(0.05))),
        "time_sigma": rng.uniform(0.3, 0.8),
    }
    if chosen == "textbook":
        drawn |= {"agents": rng.uniform(0.3, 1.0), "iterations": 1 / rng.uniform(0.8, 4.0)}
        drawn |= {"context": rng.uniform(0.05, 0.8)}
        at = -np.expm1(-5 * drawn["iterations"]) / (1 + drawn["context"]) * 0.95
        chance = min(target / at, 0.9)
        drawn |= {"level": logit(-np.expm1(np.log1p(-chance) / 3 ** drawn["agents"]))}
    else:
        drawn |= {
            "agents": rng.uniform(0.1, 0.6),
            "iterations": rng.uniform(0.1, 0.6),
            "context": rng.uniform(0.05, 0.4),
        }
        drawn |= {"lift": rng.uniform(-0.3, 0.6)}
        drawn |= {"overhead": rng.uniform(0.02, 0.2) if chosen == "hump" else 0.0}
        climb = drawn["agents"] * np.log(3) + drawn["iterations"] * np.log(5) - 2 * drawn["overhead"]
        drawn |= {"level": logit(target) - climb}
    return AllocationWorld(shape=chosen, **{name: float(value) for name, value in drawn.items()})


def cells_of(
    settings: Mapping[Dimension, Floats], complexity: Floats, outcomes: Mapping[Outcome, Floats]
) -> JointCells:
    """Make joint cells of runs [N], a cell and a task each, as if they had been archived; values are not binned.

    Args:
        settings: By dimension, on the basis that laws prefer. [N]
        complexity: In [0, 1]. [N]
        outcomes: What the runs brought. [N]
    """
    runs = np.arange(len(complexity))
    slots: list[Slot] = [(each, basis) for each in Dimension for basis in BASES[each] if basis is not Basis.CATEGORY]
    design = {slot: np.full(len(runs), np.nan) for slot in slots}
    for dimension, values in settings.items():
        design[dimension, BASES[dimension][0]] = np.asarray(values, np.float64)
    ones, none = np.ones(len(runs)), np.zeros(len(runs))
    return JointCells(
        design=design,
        ln_x={slot: np.nan_to_num(np.log(values)) for slot, values in design.items()},
        binned={slot: np.zeros(len(runs), dtype=bool) for slot in slots},
        category=(None,) * len(runs),
        complexity=np.minimum(np.floor(complexity * COMPLEXITY_BINS), COMPLEXITY_BINS - 1).astype(np.int64),
        fold=runs % FOLDS,
        project=np.full(len(runs), MISSING),
        task_group=runs % TASK_GROUPS,
        outcomes={outcome: Moments(ones, values, none) for outcome, values in outcomes.items()},
    )


def _read(grid: SettingGrid) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Give agents, iterations, thousands of tokens, slots (as many as agents unless given) and complexity - ½."""
    agents, iterations, context = (
        np.asarray(grid.values[each], np.float64)
        for each in (Dimension.AGENT_COUNT, Dimension.ITERATIONS, Dimension.CONTEXT)
    )
    slots = np.asarray(grid.values.get(Dimension.PARALLELISM_LEVEL, agents), np.float64)
    complexity = np.asarray(0.5 if grid.complexity is None else grid.complexity, np.float64)
    return agents, iterations, context / 1000, slots, complexity - 0.5


def _noise(rng: np.random.Generator, sigma: float, size: int) -> Floats:
    """Draw lognormal factors of mean 1."""
    return np.asarray(rng.lognormal(-(sigma**2) / 2, sigma, size), np.float64)
