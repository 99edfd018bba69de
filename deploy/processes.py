"""Child processes of the stack: started with a log of their own, stopped by deadline, restarted when they die."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from models.errors import StackError

LAUNCHER = Path(__file__).with_name("child.py")
LARGEST_LOG = 50 * 1024**2
RESTARTS = 5
RESTART_WINDOW_SECONDS = 120.0
FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A child process: its name, command line, log file and how long it may take to stop.

    `env` is added to this process's environment.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 5.0


def log_tail(path: Path, lines: int = 12) -> str:
    """Read the last lines of a log, for the error that names it."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


async def spawn(spec: ProcessSpec) -> asyncio.subprocess.Process:
    """Start a process that dies with this one.

    It gets a session of its own, so that Ctrl-C in the terminal reaches the stack alone, which stops all in order.
    On Linux it ends when the thread that spawned it ends: call this from a thread that lives as long as the stack.
    """
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    if spec.log.exists() and spec.log.stat().st_size > LARGEST_LOG:
        os.truncate(spec.log, 0)
    with spec.log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-ISB",
            str(LAUNCHER),
            str(os.getpid()),
            *spec.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **spec.env},
        )


class Supervised:
    """One child process that is restarted, with growing pauses, when it dies unexpectedly.

    Args:
        spec: What to run.
        on_failure: Called with the error once it has died more than `restarts` times within RESTART_WINDOW_SECONDS.
        restarts: How many deaths are forgiven.
    """

    def __init__(self, spec: ProcessSpec, on_failure: Callable[[StackError], None], restarts: int = RESTARTS) -> None:
        self.spec = spec
        self._restarts = restarts
        self._on_failure = on_failure
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._deaths: list[float] = []

    @property
    def running(self) -> bool:
        """Whether the process is alive at this moment."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The id of the running process.

        Raises:
            StackError: It does not run at this moment.
        """
        if self._process is None or self._process.returncode is not None:
            raise StackError(f"{self.spec.name} does not run at this moment: see its log {self.spec.log}")
        return self._process.pid

    async def start(self) -> None:
        """Start the process and watch over it."""
        self._process = await spawn(self.spec)
        self._watch = asyncio.create_task(self._restart_when_dead(), name=f"watch {self.spec.name}")

    async def stop(self, seconds: float | None = None) -> None:
        """Ask the process to end, and end it by force after its time (or `seconds`) is up."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.spec.stop_seconds if seconds is None else seconds)
        except TimeoutError:
            log.warning("killed: did not stop in time", process=self.spec.name, log=str(self.spec.log))
        _end_group(process)
        await process.wait()

    async def restart(self) -> None:
        """Stop the process and start it again."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """End the process and its own children with SIGKILL, as a crash would; the watch starts it again."""
        os.killpg(self.pid, signal.SIGKILL)

    async def _restart_when_dead(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            _end_group(self._process)
            now = time.monotonic()
            self._deaths = [*(death for death in self._deaths if now - death < RESTART_WINDOW_SECONDS), now]
            if len(self._deaths) > self._restarts:
                message = (
                    f"{self.spec.name} died {len(self._deaths)} times within {RESTART_WINDOW_SECONDS:.0f} s "
                    f"(last exit code {code}): read its log {self.spec.log}, which ends with:\n"
                    f"{log_tail(self.spec.log)}"
                )
                self._on_failure(StackError(message))
                return
            pause = min(FIRST_BACKOFF_SECONDS * 2 ** (len(self._deaths) - 1), LONGEST_BACKOFF_SECONDS)
            log.warning("died: restarting", process=self.spec.name, exit_code=code, pause=pause, log=str(self.spec.log))
            await asyncio.sleep(pause)
            self._process = await spawn(self.spec)


def _end_group(process: asyncio.subprocess.Process) -> None:
    """End what the process itself has started, which would otherwise outlive it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
