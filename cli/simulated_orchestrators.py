"""Simulated orchestrators: they ask for assignments, run tasks of a simulated world and publish, with habits."""

import asyncio
import itertools
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from analytics.simulation import Event, simulate_tasks
from analytics.world import World
from models.dimensions import Dimension
from models.experiments import Reply
from models.settings import Settings
from models.topics import RUNS
from streams.assigning import Assigner
from streams.kafka_security import connection

OVER = "not_running"
"""The refusal after which an experiment needs no more tasks; before it, an assignment that expires frees a place."""

SUFFICIENT_SECONDS = 0.5
"""How long to do without the experiment while every place is taken."""

TASK_FIELDS = ("project", "task_type", "task_complexity")


@dataclass(frozen=True, slots=True)
class Habits:
    """How orchestrators misbehave: shares of the runs that crash without a word, do as always, and are published twice.

    `always` is the place in the grid of agents of what they do without, or against, an assignment.
    """

    crash: float = 0.03
    stray: float = 0.05
    twice: float = 0.02
    always: int = 2


@dataclass(slots=True)
class Work:
    """What the orchestrators have done: answers by kind, and how long each waited."""

    answers: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)
    assigned: dict[str, Reply] = field(default_factory=dict)
    crashed: int = 0
    strayed: int = 0
    repeated: int = 0
    published: int = 0


class Orchestrators:
    """A team that works through tasks of a world until an experiment needs no more of them.

    Args:
        settings: Where Kafka is.
        world: What decides the outcomes; its grid of agents must hold the experiment's values.
        experiment_id: The experiment they take part in.
        seed: Another seed is another stream.
        habits: How they misbehave.
        workers: How many tasks are in hand at once.
    """

    def __init__(
        self,
        settings: Settings,
        world: World,
        experiment_id: str,
        *,
        seed: int = 1,
        habits: Habits | None = None,
        workers: int = 50,
    ) -> None:
        self.work = Work()
        self._settings = settings
        self._world = world
        self._experiment = experiment_id
        self._rng = np.random.default_rng(seed)
        self._habits = habits or Habits()
        self._workers = workers
        self._over = asyncio.Event()

    async def run(self) -> Work:
        """Work through tasks until the experiment is over.

        How many that takes is not foreseen: while every place is taken, tasks go on to come until outcomes that never
        came have expired.
        """
        numbers = itertools.count()
        producer = AIOKafkaProducer(**connection(self._settings), linger_ms=20)
        async with Assigner(self._settings) as assigner, producer:
            await asyncio.gather(*(self._take(numbers, assigner, producer) for _ in range(self._workers)))
        return self.work

    async def _take(self, numbers: "itertools.count[int]", assigner: Assigner, producer: AIOKafkaProducer) -> None:
        for number in numbers:
            if self._over.is_set():
                return
            await self._one(number, assigner, producer)

    async def _one(self, number: int, assigner: Assigner, producer: AIOKafkaProducer) -> None:
        habits, world = self._habits, self._world
        task = np.array([self._rng.integers(world.tasks)])
        always = self._event(task, habits.always)
        name = f"{self._experiment}-task-{number}"
        began = asyncio.get_running_loop().time()
        fields: dict[str, Any] = {field: always[field] for field in TASK_FIELDS} | {"task_id": name}
        reply = await assigner.assign(self._experiment, fields)
        self.work.waited.append(asyncio.get_running_loop().time() - began)
        self.work.answers[reply.refusal or "assigned"] += 1
        if reply.refusal == OVER:
            self._over.set()
        elif reply.refusal == "sufficient":
            await asyncio.sleep(SUFFICIENT_SECONDS)
        event = always
        if reply.assigned_value is not None:
            self.work.assigned[name] = reply
            if self._chance(habits.crash):
                self.work.crashed += 1
                return
            if self._chance(habits.stray):
                self.work.strayed += 1
            else:
                event = self._event(task, world.agents.index(int(float(reply.assigned_value))))
            event = event | {
                "experiment_id": self._experiment,
                "assigned_value": reply.assigned_value,
                "assignment_token": reply.assignment_token,
            }
        await self._publish(event | {"task_id": name}, producer)

    async def _publish(self, event: Event, producer: AIOKafkaProducer) -> None:
        run = str(uuid.uuid4())
        payload = msgspec.json.encode(event | {"agent_run_id": run, "completed_at": datetime.now(UTC).isoformat()})
        times = 2 if self._chance(self._habits.twice) else 1
        self.work.repeated += times - 1
        for _ in range(times):
            self.work.published += 1
            await producer.send(RUNS, payload, run.encode())

    def _event(self, task: "np.ndarray[Any, np.dtype[np.int64]]", agents: int) -> Event:
        return simulate_tasks(self._world, self._rng, task, {Dimension.AGENT_COUNT: np.array([agents])})[0]

    def _chance(self, share: float) -> bool:
        return bool(self._rng.random() < share)
