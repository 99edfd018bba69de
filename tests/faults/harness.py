"""A stack under faults: processes that are killed, frozen, stopped and cut off by name, and that come back."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from clickhouse_connect.driver.exceptions import Error
from psutil import RLIM_INFINITY, RLIMIT_FSIZE, Process

from deploy.processes import ProcessSpec, Supervised
from deploy.stack import CLICKHOUSE, KAFKA, Stack, StackOptions, environment
from models.errors import QueryError, ScalingError
from models.settings import Settings, load_settings
from streams.clickhouse import query

RESTARTS = 100_000
POLL_SECONDS = 0.1
STOP_SECONDS = 15.0
ADMIN_SECONDS = 60
STATS = ("stats-0", "stats-1")
WORKERS = (*STATS, "archive", "audit", "allocator", "experiments")
ARCHIVED = ("scaling_observations", "scaling_records", "scaling_rejected", "scaling_laws")
"""Tables that faults make refuse inserts."""


def settings_under_faults() -> Settings:
    """Give settings of a stack whose sessions, audits and largest events are small, so that faults come thick."""
    return load_settings(
        session_seconds=6,
        audit_seconds=2,
        bootstrap_draws=100,
        context_keys=[["project"]],
        max_event_bytes=64 * 1024,
    )


class UnderFaults:
    """An embedded stack with all its workers, and the means to hurt it.

    Args:
        state: A folder of its own.
        settings: Of the workers.
    """

    def __init__(self, state: Path, settings: Settings | None = None) -> None:
        self.state = state
        self._stack = Stack(
            StackOptions(state=state, workers=len(STATS), kafka_port=0, clickhouse_port=0, restarts=RESTARTS),
            settings or settings_under_faults(),
        )
        self._joined: dict[str, Supervised] = {}

    @property
    def settings(self) -> Settings:
        """The settings with the stack's addresses."""
        return self._stack.settings

    async def start(self) -> None:
        """Start everything."""
        await self._stack.start()

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(worker.stop() for worker in self._joined.values()))
        self._joined.clear()
        await self._stack.stop()

    async def stop_workers(self) -> None:
        """Stop every worker; the broker and ClickHouse go on."""
        await asyncio.gather(*(self.process(name).stop() for name in (*WORKERS, *self._joined)))

    def process(self, name: str) -> Supervised:
        """Give a process of the stack, or a worker that joined it."""
        return self._joined.get(name) or self._stack.supervised(name)

    async def pid(self, name: str) -> int:
        """Wait until a process runs; say its id."""
        process = self.process(name)
        while not process.running:  # noqa: ASYNC110 - the watch of a process has no event to wait for
            await asyncio.sleep(POLL_SECONDS)
        return process.pid

    async def kill(self, *names: str) -> None:
        """End processes with SIGKILL at once; their supervisor starts them again."""
        for name in names:
            await self.pid(name)
            with contextlib.suppress(ScalingError, ProcessLookupError):
                self.process(name).kill()

    async def terminate(self, name: str) -> None:
        """Ask a process to end in the middle of its work; its supervisor starts it again."""
        os.kill(await self.pid(name), signal.SIGTERM)

    @contextlib.asynccontextmanager
    async def frozen(self, *names: str) -> AsyncIterator[None]:
        """Freeze processes (SIGSTOP), and let them go on (SIGCONT): their connections stay open and nothing answers."""
        groups = [await self.pid(name) for name in names]
        try:
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGSTOP)
            yield
        finally:
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGCONT)

    @contextlib.asynccontextmanager
    async def slow(self, name: str) -> AsyncIterator[None]:
        """Let a process run a fifth of the time: everything it is asked takes long, and gets its answer."""

        async def stutter() -> None:
            while True:
                async with self.frozen(name):
                    await asyncio.sleep(0.2)
                await asyncio.sleep(0.05)

        stuttering = asyncio.create_task(stutter())
        try:
            yield
        finally:
            stuttering.cancel()
            await asyncio.gather(stuttering, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def down(self, *names: str) -> AsyncIterator[None]:
        """Stop processes in order (SIGTERM, later SIGKILL), and start them again."""
        await asyncio.gather(*(self.process(name).stop() for name in names))
        try:
            yield
        finally:
            await asyncio.gather(*(self.process(name).start() for name in names))

    @contextlib.asynccontextmanager
    async def another_stats_worker(self) -> AsyncIterator[str]:
        """Let a third stats worker join, and leave: its partitions move twice."""
        name = f"stats-{len(STATS) + len(self._joined)}"
        spec = ProcessSpec(
            name,
            (*self._stack.options.worker_command, "stats"),
            self.state / "logs" / f"{name}.log",
            environment(self.settings.model_copy(update={"instance_id": name})),
            stop_seconds=STOP_SECONDS,
        )
        worker = self._joined[name] = Supervised(spec, on_failure=_raise, restarts=RESTARTS)
        await worker.start()
        try:
            yield name
        finally:
            del self._joined[name]
            await worker.stop()

    @contextlib.asynccontextmanager
    async def refusing_inserts(self) -> AsyncIterator[None]:
        """Make ClickHouse refuse every row of the archive's main tables, by a constraint that none can meet."""
        await self._admin([f"ALTER TABLE {table} ADD CONSTRAINT refused CHECK 0" for table in ARCHIVED])
        try:
            yield
        finally:
            await self._admin([f"ALTER TABLE {table} DROP CONSTRAINT refused" for table in ARCHIVED])

    @contextlib.asynccontextmanager
    async def table_away(self, table: str) -> AsyncIterator[None]:
        """Rename a table away, and back."""
        await self._admin([f"RENAME TABLE {table} TO {table}_away"])
        try:
            yield
        finally:
            await self._admin([f"RENAME TABLE {table}_away TO {table}"])

    @contextlib.asynccontextmanager
    async def disk_full(self, room: int = 512) -> AsyncIterator[None]:
        """Let ClickHouse write no file beyond `room` bytes, as on a full disk: a write then fails in its middle.

        The limit is one of the process (RLIMIT_FSIZE), so it ends with the process if that is killed meanwhile. On a
        full disk ClickHouse begins no merge; this limit it does not see, so merges are stopped.
        """
        await self._admin(["SYSTEM STOP MERGES"])
        process = Process(await self.pid(CLICKHOUSE))
        process.rlimit(RLIMIT_FSIZE, (room, RLIM_INFINITY))
        try:
            yield
        finally:
            with contextlib.suppress(Exception):
                process.rlimit(RLIMIT_FSIZE, (RLIM_INFINITY, RLIM_INFINITY))
            await self._admin(["SYSTEM START MERGES"])

    async def _admin(self, statements: list[str]) -> None:
        """Run statements that change the schema, however long ClickHouse is away.

        Raises:
            QueryError: ClickHouse refuses one.
        """
        for statement in statements:
            for attempt in range(ADMIN_SECONDS):
                try:
                    await asyncio.to_thread(query, self.settings, statement, readonly=False)
                except QueryError:
                    # A statement that was carried out, and whose answer was lost, may be refused when it is repeated.
                    if attempt == 0:
                        raise
                    break
                except (ScalingError, Error):
                    await asyncio.sleep(1)
                else:
                    break


def _raise(error: Exception) -> None:
    raise error


Progress = Callable[[str], None]
__all__ = ["ARCHIVED", "CLICKHOUSE", "KAFKA", "STATS", "WORKERS", "Progress", "UnderFaults", "settings_under_faults"]
