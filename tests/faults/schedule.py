"""What can go wrong: every fault by name, and seeded schedules of them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.faults.harness import ARCHIVED, CLICKHOUSE, KAFKA, STATS, WORKERS, UnderFaults
from tests.faults.publisher import Entry, Publisher, Records

BURST = 20_000
STORM = 400
POISONED = 200
LONGEST_GAP = 2.0
SHORT = (1.0, 5.0)
"""Seconds of a short outage, at least and at most."""
BEYOND_SESSION = 4.0

Run = Callable[[UnderFaults, Publisher], Awaitable[None]]
Outage = Callable[[UnderFaults], AbstractAsyncContextManager[object]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, what it is in a word, and the seconds that pass before it."""

    kind: str
    told: str
    run: Run
    gap: float = 0.0


def outage(kind: str, of: Outage, seconds: float, gap: float = 0.0) -> Fault:
    """Make a fault that lasts, and ends."""

    async def run(stack: UnderFaults, _: Publisher) -> None:
        async with of(stack):
            await asyncio.sleep(seconds)

    return Fault(kind, f"{kind} for {seconds:.1f} s", run, gap)


def storm(kind: str, make: Callable[[Records], Callable[[], Entry]], count: int, gap: float = 0.0) -> Fault:
    """Make a fault of the publisher: many records of a kind at once."""

    async def run(_: UnderFaults, publisher: Publisher) -> None:
        await publisher.send_all(make(publisher.records), count)

    return Fault(kind, f"{kind}: {count} records", run, gap)


def killed(kind: str, *names: str, gap: float = 0.0) -> Fault:
    """Make a fault that kills processes at once."""

    async def run(stack: UnderFaults, _: Publisher) -> None:
        await stack.kill(*names)

    return Fault(kind, f"kill -9 {', '.join(names)}", run, gap)


def terminated(name: str, gap: float = 0.0) -> Fault:
    """Make a fault that asks a worker to end in the middle of a burst."""

    async def run(stack: UnderFaults, publisher: Publisher) -> None:
        burst = asyncio.create_task(publisher.send_all(publisher.records.run, BURST // 4))
        await asyncio.sleep(gap / 4)
        await stack.terminate(name)
        await burst

    return Fault("SIGTERM in a batch", f"SIGTERM to {name} in the middle of a burst", run, gap)


def one_of_each(chance: random.Random, session: float) -> list[Fault]:
    """Draw one fault of every kind: 25 of them, in random order, with random lengths and gaps."""

    def gap() -> float:
        return chance.uniform(0, LONGEST_GAP)

    def short() -> float:
        return chance.uniform(*SHORT)

    stats, other = chance.sample(STATS, 2)
    table = chance.choice(ARCHIVED)
    faults = [
        killed("kill of a stats worker", stats, gap=gap()),
        killed("kill of a stats worker", other, gap=gap()),
        killed("kill of the archive", "archive", gap=gap()),
        killed("kill of the audit", "audit", gap=gap()),
        killed("kill of allocator or experiments", chance.choice(["allocator", "experiments"]), gap=gap()),
        killed("kill of all workers", *WORKERS, gap=gap()),
        killed("kill of the broker", KAFKA, gap=gap()),
        killed("kill of ClickHouse", CLICKHOUSE, gap=gap()),
        outage("broker stopped", lambda stack: stack.down(KAFKA), short(), gap()),
        outage("broker frozen", lambda stack: stack.frozen(KAFKA), short(), gap()),
        outage("ClickHouse stopped", lambda stack: stack.down(CLICKHOUSE), short(), gap()),
        outage("ClickHouse frozen", lambda stack: stack.frozen(CLICKHOUSE), short(), gap()),
        outage("ClickHouse slow", lambda stack: stack.slow(CLICKHOUSE), short(), gap()),
        outage("ClickHouse refuses inserts", lambda stack: stack.refusing_inserts(), short(), gap()),
        outage("table renamed away", lambda stack: stack.table_away(table), short(), gap()),
        outage("ClickHouse's disk full", lambda stack: stack.disk_full(), short(), gap()),
        outage("stats worker joins and leaves", lambda stack: stack.another_stats_worker(), 4 + short(), gap()),
        outage(
            "stats worker frozen past its session", lambda stack: stack.frozen(stats), session + BEYOND_SESSION, gap()
        ),
        terminated(other, gap()),
        storm("burst", lambda records: records.run, BURST, gap()),
        storm("clock jumps", lambda records: records.jumped, STORM, gap()),
        storm("duplicates", lambda records: records.duplicate, STORM, gap()),
        storm("corrections", lambda records: records.correction, STORM, gap()),
        storm("poison of every kind", lambda records: records.poison, POISONED, gap()),
        storm("wrong partitions", lambda records: records.misplaced, STORM, gap()),
    ]
    chance.shuffle(faults)
    return faults


def random_faults(seed: int, count: int, session: float) -> list[Fault]:
    """Draw a schedule: each kind once before any comes again."""
    chance = random.Random(seed)  # noqa: S311 - a seed to rerun

    def endless() -> Iterator[Fault]:
        while True:
            yield from one_of_each(chance, session)

    faults = endless()
    return [next(faults) for _ in range(count)]


def long_outages() -> list[Fault]:
    """List ten outages of 30 s and more."""
    return [
        outage("broker stopped", lambda stack: stack.down(KAFKA), 30),
        outage("broker frozen", lambda stack: stack.frozen(KAFKA), 60),
        outage("ClickHouse stopped", lambda stack: stack.down(CLICKHOUSE), 45),
        outage("ClickHouse frozen", lambda stack: stack.frozen(CLICKHOUSE), 45),
        outage("ClickHouse refuses inserts", lambda stack: stack.refusing_inserts(), 30),
        outage("ClickHouse's disk full", lambda stack: stack.disk_full(), 30),
        outage("stats worker frozen past its session", lambda stack: stack.frozen(STATS[0]), 30),
        outage("both stats workers stopped", lambda stack: stack.down(*STATS), 30),
        outage("archive stopped", lambda stack: stack.down("archive"), 60),
        outage("broker and ClickHouse stopped", lambda stack: stack.down(KAFKA, CLICKHOUSE), 30),
    ]
