"""A publisher with a ledger: it knows every record it has published, and which of them are valid runs."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import cycle
from typing import Any

import orjson
import xxhash
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from analytics.partitions import partition_of
from analytics.simulation import simulate
from analytics.world import World
from models.settings import Settings
from models.topics import RUNS
from tests.faults.poison import poison

POOL = 20_000
"""Simulated runs that are published again and again under new ids."""
TICK_SECONDS = 0.02
PAUSE_SECONDS = 0.2
YEAR = timedelta(days=365)
LATEST = timedelta(hours=23)

Content = tuple[bytes, int]
"""The key of a record, and a fingerprint of its value."""


def content_of(key: bytes | None, value: bytes | None) -> Content:
    """Tell a record from every other one, in few bytes."""
    return key or b"", -1 if value is None else xxhash.xxh3_128_intdigest(value)


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of all records; the rest are new runs.

    Attributes:
        duplicates: Repeats of a run, byte by byte.
        corrections: New content under a known id.
        poison: No valid runs.
        misplaced: Runs in another partition than their own.
        jumped: Runs that completed up to a year ago, or nearly a day ahead.
    """

    duplicates: float = 0.02
    corrections: float = 0.01
    poison: float = 0.005
    misplaced: float = 0.002
    jumped: float = 0.01


@dataclass(frozen=True, slots=True)
class Entry:
    """A record to publish. `partition` None: that of its key."""

    key: bytes
    value: bytes | None
    valid: bool = True
    partition: int | None = None


@dataclass(slots=True)
class Ledger:
    """What was published and acknowledged by the broker.

    Attributes:
        records: How many records, repeats included.
        valid: Key and fingerprint of every valid run record.
        invalid: Key and fingerprint of every record that is no valid run.
        unsure: Records sent again because the broker's answer did not come: they may be in the log twice.
    """

    records: int = 0
    valid: set[Content] = field(default_factory=set)
    invalid: set[Content] = field(default_factory=set)
    unsure: int = 0

    @property
    def runs(self) -> set[str]:
        """The ids of all runs."""
        return {key.decode() for key, _ in self.valid}


class Records:
    """Makes the records of a publisher.

    Args:
        settings: How many partitions there are, and how large an event may be.
        seed: Decides every record.
        mix: What they are.
        remembered: Of how many of the last runs repeats and corrections are made; absent: of all.
    """

    def __init__(self, settings: Settings, seed: int, mix: Mix, remembered: int | None = None) -> None:
        self._remembered = remembered
        self._settings = settings
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - a seed to rerun
        self._mix = mix
        self._pool: Iterator[dict[str, Any]] = cycle(list(simulate(World(), POOL, seed)))
        self._values: list[bytes] = []
        self._revisions: dict[str, int] = {}
        self._number = 0

    def draw(self) -> Entry:
        """Make the next record of the mix."""
        mix, drawn = self._mix, self._random.random()
        for share, make in (
            (mix.duplicates, self.duplicate),
            (mix.corrections, self.correction),
            (mix.poison, self.poison),
            (mix.misplaced, self.misplaced),
            (mix.jumped, self.jumped),
        ):
            if drawn < share:
                return make()
            drawn -= share
        return self.run()

    def run(self, **fields: object) -> Entry:
        """Make a new run."""
        self._number += 1
        key = f"run-{self._seed}-{self._number}"
        value = orjson.dumps(next(self._pool) | fields | {"agent_run_id": key})
        if self._remembered is None or len(self._values) < self._remembered:
            self._values.append(value)
        else:
            self._values[self._number % self._remembered] = value
        return Entry(key.encode(), value)

    def duplicate(self) -> Entry:
        """Make a run that was published before, byte by byte."""
        if not self._values:
            return self.run()
        value = self._random.choice(self._values)
        return Entry(orjson.loads(value)["agent_run_id"].encode(), value)

    def correction(self) -> Entry:
        """Make other content for a known run: two of three times with a higher revision."""
        if not self._values:
            return self.run()
        known = orjson.loads(self._random.choice(self._values))
        run = known["agent_run_id"]
        if self._random.random() < 2 / 3:
            self._revisions[run] = self._revisions.get(run, 0) + 1
        changed = next(self._pool) | {"agent_run_id": run, "revision": self._revisions.get(run, 0)}
        return Entry(run.encode(), orjson.dumps(changed))

    def poison(self) -> Entry:
        """Make a record that is not a valid run, one kind after another."""
        self._number += 1
        key = f"poison-{self._seed}-{self._number}"
        return Entry(key.encode(), poison(self._number, key, self._settings.max_event_bytes), valid=False)

    def misplaced(self) -> Entry:
        """Make a new run that its publisher puts into another partition than its own."""
        entry, partitions = self.run(), self._settings.partitions
        own = partition_of(entry.key, partitions)
        wrong = (own + self._random.randrange(1, partitions)) % partitions if partitions > 1 else own
        return Entry(entry.key, entry.value, partition=wrong)

    def jumped(self) -> Entry:
        """Make a new run whose clock is wrong: up to a year late, up to nearly a day early."""
        moment = datetime.now(UTC) - YEAR + self._random.random() * (YEAR + LATEST)
        return self.run(completed_at=moment.isoformat(timespec="milliseconds"))


class Publisher:
    """Publishes at a rate, and what a fault asks for; a record counts once the broker has acknowledged it.

    Args:
        settings: Where Kafka is.
        seed: Decides every record.
        rate: Records a second; 0 publishes only what is asked for.
        mix: What they are.
        remembered: Of how many of the last runs repeats and corrections are made; absent: of all.
    """

    def __init__(
        self, settings: Settings, seed: int, rate: float, mix: Mix | None = None, remembered: int | None = None
    ) -> None:
        self.ledger = Ledger()
        self._rate = rate
        self.records = Records(settings, seed, mix or Mix(), remembered)
        self._again: list[Entry] = []
        self._waiting: set[asyncio.Future[Any]] = set()
        self._producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, linger_ms=20)

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()

    async def publish_until(self, stop: asyncio.Event) -> None:
        """Publish at the rate until told to stop; what an outage held up is caught up with."""
        start, made = time.monotonic(), 0
        while not stop.is_set():
            due = int((time.monotonic() - start) * self._rate) - made
            made += due
            for _ in range(due):
                await self.send(self.records.draw())
            await self._send_again()
            await asyncio.sleep(TICK_SECONDS)

    async def finish(self) -> None:
        """Wait until every record is acknowledged, and close."""
        await self._producer.flush()
        while self._waiting or self._again:
            await asyncio.gather(*self._waiting, return_exceptions=True)
            await asyncio.sleep(0)
            await self._send_again()
        await self._producer.stop()

    async def send_all(self, make: Callable[[], Entry], count: int) -> None:
        """Publish records of a kind as fast as it goes."""
        for _ in range(count):
            await self.send(make())

    async def send(self, entry: Entry) -> None:
        """Publish one record, however long the broker is away."""
        while True:
            try:
                future = await self._producer.send(RUNS, entry.value, entry.key, partition=entry.partition)
            except KafkaError:
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                break
        self._waiting.add(future)
        future.add_done_callback(lambda done: self._settle(entry, done))

    async def _send_again(self) -> None:
        again, self._again = self._again, []
        for entry in again:
            await self.send(entry)

    def _settle(self, entry: Entry, done: asyncio.Future[Any]) -> None:
        self._waiting.discard(done)
        if done.cancelled() or done.exception() is not None:
            self.ledger.unsure += 1
            self._again.append(entry)
            return
        self.ledger.records += 1
        (self.ledger.valid if entry.valid else self.ledger.invalid).add(content_of(entry.key, entry.value))
