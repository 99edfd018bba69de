"""Orchestrators of the closed loop: they try settings, then ask the allocator for each task, run it, and publish."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from analytics.moments import Floats
from cli.closed_loop_truth import LoopWorld, grid_of
from models.allocations import AllocateRequest, Allocation, Arm, Setting
from models.dimensions import Outcome
from models.settings import Settings
from streams.allocating import Allocating
from streams.publisher import Publisher, publishing

AGENTS, ITERATIONS, CONTEXTS = (1, 2, 4, 8), (1, 2, 5, 10), (4000, 16_000, 48_000, 100_000)
"""What is tried before there is a law: all combinations alike, at any parallelism."""

TRIAL_RATE, RATE = 1000.0, 40.0
"""Runs a second; at the second one the laws are fitted again every hundred runs or so."""

WAVE = 20
"""Tasks whose settings are asked for at once."""

TRIALS, TASKS = 0, 1
"""Streams of random numbers."""

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """A task that was allocated and ran."""

    at: datetime
    complexity: float
    allocation: Allocation
    success: bool
    cost: float

    @property
    def choice(self) -> Setting:
        """Give what the allocator chose before exploration and the A/B test."""
        return self.allocation.choice or self.allocation.setting


class Team:
    """Works through tasks whose complexity is drawn uniformly.

    Args:
        settings: Where Kafka is.
        loop_world: What decides the outcomes, and the budget of a task.
        seed: Another seed is another stream of tasks and outcomes. Each wave has a generator of its own, so that the
            same tasks come, and meet the same luck, whatever the laws had given before.
    """

    def __init__(self, settings: Settings, loop_world: LoopWorld, seed: int) -> None:
        self.published = 0
        self.ran: list[Ran] = []
        self._settings = settings
        self._world = loop_world
        self._seed = seed

    def of(self, arm: Arm) -> list[Ran]:
        """List the tasks of an arm of the A/B test, in their order."""
        return [each for each in self.ran if each.allocation.arm == arm]

    async def try_settings(self, runs: int) -> None:
        """Publish runs of settings that were varied at random."""
        rng = np.random.default_rng([self._seed, TRIALS])
        columns = [rng.choice(values, runs) for values in (AGENTS, ITERATIONS, CONTEXTS)]
        columns.append(rng.integers(1, columns[0] + 1))
        settings = [Setting(*row) for row in np.stack(columns, axis=1).tolist()]
        async with publishing(self._settings, "trials", TRIAL_RATE) as publisher:
            for first in range(0, runs, WAVE):
                tried = settings[first : first + WAVE]
                complexity = rng.random(len(tried))
                named = [{"task_id": f"trial-{first + place}"} for place in range(len(tried))]
                await self._run(publisher, rng, tried, complexity, named)
            await publisher.finish()

    async def work(self, tasks: int, over: asyncio.Event) -> None:
        """Ask for a setting for each task and run it, until `tasks` are done or `over` is set.

        Raises:
            NotReachable: No allocator answers.
            ScalingError: The allocator refuses a task.
        """
        async with (
            Allocating(self._settings) as allocator,
            publishing(self._settings, "tasks", RATE) as publisher,
        ):
            for first in range(0, tasks, WAVE):
                if over.is_set():
                    break
                rng = np.random.default_rng([self._seed, TASKS, first])
                complexity = rng.random(min(WAVE, tasks - first))
                requests = [self._request(first + place, each) for place, each in enumerate(complexity.tolist())]
                answers = await asyncio.gather(*map(allocator.allocate, requests))
                named = [_echo(request, answer) for request, answer in zip(requests, answers, strict=True)]
                brought = await self._run(publisher, rng, [each.setting for each in answers], complexity, named)
                success, cost = brought[Outcome.SUCCESS], brought[Outcome.TOTAL_COST]
                now = datetime.now(UTC)
                self.ran += [
                    Ran(now, z, answer, bool(y), c)
                    for z, answer, y, c in zip(
                        complexity.tolist(), answers, success.tolist(), cost.tolist(), strict=True
                    )
                ]
            await publisher.finish()

    def _request(self, number: int, complexity: float) -> AllocateRequest:
        name = f"task-{number}"
        return AllocateRequest(name, {"task_id": name, "task_complexity": complexity}, budget=self._world.budget)

    async def _run(
        self,
        publisher: Publisher,
        rng: np.random.Generator,
        settings: Sequence[Setting],
        complexity: Floats,
        named: Sequence[Event],
    ) -> Mapping[Outcome, Floats]:
        """Run tasks at their settings and publish what came of them."""
        brought = self._world.world.run(rng, grid_of(settings, complexity))
        events = [
            event_of(setting, z, {str(name): values[place] for name, values in brought.items()}) | named[place]
            for place, (setting, z) in enumerate(zip(settings, complexity.tolist(), strict=True))
        ]
        await publisher.publish([msgspec.json.encode(event) for event in events], [None] * len(events))
        self.published += len(events)
        return brought


def event_of(setting: Setting, complexity: float, brought: Mapping[str, float]) -> Event:
    """Write the event of a run that kept to its setting."""
    return {
        "agent_run_id": str(uuid.uuid4()),
        "completed_at": datetime.now(UTC).isoformat(),
        "task_complexity": complexity,
        "agent_count": setting.agent_count,
        "max_iterations": setting.max_iterations,
        "context_budget": setting.context_budget,
        "parallelism_level": setting.parallelism,
        **{name: float(value) for name, value in brought.items()},
        "success": bool(brought[Outcome.SUCCESS]),
    }


def _echo(request: AllocateRequest, answer: Allocation) -> Event:
    """Give what a run says of its allocation."""
    return {
        "task_id": request.task["task_id"],
        "decision_id": answer.decision_id,
        "policy_version": answer.policy_version,
        "propensity": answer.propensity,
    }
