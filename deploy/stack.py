"""The embedded stack: Kafka, ClickHouse and the workers as child processes of one state folder."""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

import psutil
import structlog

from deploy.kafka import prepare_broker, wait_for_broker
from deploy.machine import LOOPBACK, claim_port, quiet_ports
from deploy.processes import RESTARTS, ProcessSpec, Supervised, log_tail
from models.errors import StackError
from models.settings import Settings
from streams.clickhouse import apply_schema
from streams.topics import create_topics

KAFKA = "kafka"
EXPERIMENTS = "experiments"
CLICKHOUSE = "clickhouse"
ADDRESSES = "stack.json"
SECRET_FILE = "experiment.secret"  # noqa: S105 - where it is kept
SECRET_VARIABLE = "SCALING_EXPERIMENT_SECRET"  # noqa: S105 - what it is called
START_SECONDS = 60.0
WORKER_STOP_SECONDS = 6.0
# What a client must know to meet the running stack's data.
SHARED_SETTINGS = {"kafka", "clickhouse", "clickhouse_database", "partitions"}

Part = TypeVar("Part")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Where the stack keeps its state and how large it is. Port 0 picks a free one.

    `worker_command` starts a worker when its kind (stats, archive, allocator, audit, experiments) is appended.
    `restarts` says how many deaths of a process within two minutes are forgiven.
    """

    state: Path = Path(".scaling")
    workers: int = 2
    kafka_port: int = 9092
    clickhouse_port: int = 8123
    # -P: a folder of the user's that is called models or agents must not shadow ours.
    worker_command: tuple[str, ...] = (sys.executable, "-P", "-m", "cli.main", "worker")
    restarts: int = RESTARTS


class Stack:
    """Kafka, ClickHouse and workers as one unit: started together, watched, and stopped in order.

    Use it as an async context manager, or call `start` and `stop`. No child outlives this process, even if it is
    killed. Start it from a thread that lives as long as the stack.

    Args:
        options: State folder, ports, number of stats workers.
        settings: The settings of all workers; the addresses in them are replaced by the stack's own.
        on_progress: Told in a few words what is being done.
    """

    def __init__(
        self, options: StackOptions, settings: Settings, on_progress: Callable[[str], None] | None = None
    ) -> None:
        self.options = options
        self.settings = settings
        self._tell = on_progress or (lambda _: None)
        self._state = options.state.absolute()
        self._lock: TextIO | None = None
        self._processes: dict[str, Supervised] = {}
        self._failure: asyncio.Future[None] | None = None
        self._endpoints: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, *, workers: bool = True) -> Settings:
        """Start everything and wait until Kafka and ClickHouse answer, topics and schema stand and workers run.

        Args:
            workers: Whether to start the workers as well.

        Returns:
            The settings with the stack's addresses.

        Raises:
            StackError: Another stack runs on the state folder, or a part does not start; nothing is left running.
        """
        self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(self._state)
        self._failure = asyncio.get_running_loop().create_future()
        try:
            kafka, clickhouse = await _all(self._start_kafka(), self._start_clickhouse())
            self.settings = self.settings.model_copy(update={"kafka": kafka, "clickhouse": clickhouse})
            self._tell("Creating topics and tables")
            await _all(create_topics(self.settings), apply_schema(self.settings))
            if workers:
                specs = self._worker_specs()
                self._tell(f"Starting {len(specs)} workers")
                await _all(*(self._launch(spec) for spec in specs))
            self._publish_addresses()
        except BaseException:
            await self.stop()
            raise
        self._tell("The stack runs")
        return self.settings

    async def stop(self) -> None:
        """Stop the workers, then ClickHouse and Kafka; a process that takes too long is killed. Within 10 s in all."""
        with contextlib.suppress(FileNotFoundError):
            if self._lock is not None:
                (self._state / ADDRESSES).unlink()
        services = [self._processes.pop(name) for name in (CLICKHOUSE, KAFKA) if name in self._processes]
        workers, self._processes = list(self._processes.values()), {}
        for group in (workers, services):
            await asyncio.gather(*(process.stop() for process in group))
        if self._failure is not None and not self._failure.done():
            self._failure.cancel()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def run_until_signal(self) -> None:
        """Wait for SIGINT, SIGTERM or SIGHUP.

        Raises:
            StackError: A process died too often; the message names its log.
        """
        assert self._failure is not None, "start the stack first"
        async with _signals() as asked:
            await asyncio.wait([asked, self._failure], return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            self._failure.result()

    @property
    def endpoints(self) -> dict[str, str]:
        """The address of each worker's /healthz, /readyz and /metrics, by the worker's name."""
        return dict(self._endpoints)

    @property
    def names(self) -> list[str]:
        """The names of the processes: kafka, clickhouse, stats-0 …, archive, allocator, audit, experiments."""
        return list(self._processes)

    def pid(self, name: str) -> int:
        """Say the id of a process.

        Raises:
            StackError: There is no such process, or it does not run at this moment.
        """
        return self.supervised(name).pid

    async def restart(self, name: str) -> None:
        """Stop one process and start it again, on the same port."""
        await self.supervised(name).restart()

    async def kill(self, name: str) -> None:
        """Kill one process with SIGKILL, as a crash would; like after a crash it is started again."""
        self.supervised(name).kill()

    def supervised(self, name: str) -> Supervised:
        """Give a process of the stack.

        Raises:
            StackError: There is no such process.
        """
        if name not in self._processes:
            raise StackError(f"the stack has no process {name!r}: choose one of {', '.join(self._processes)}")
        return self._processes[name]

    async def _launch(self, spec: ProcessSpec) -> Supervised:
        process = self._processes[spec.name] = Supervised(spec, self._fail, self.options.restarts)
        await process.start()
        return process

    def _fail(self, error: StackError) -> None:
        log.error("gave up", reason=str(error))
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _start_kafka(self) -> str:
        self._tell("Starting Kafka")
        spec, address = await prepare_broker(self._state, self.options.kafka_port, self._tell)
        process = await self._launch(spec)
        await wait_for_broker(address, lambda: process.running, spec.log, START_SECONDS)
        self._tell(f"Kafka answers at {address}")
        return address

    async def _start_clickhouse(self) -> str:
        self._tell("Starting ClickHouse")
        port = claim_port("ClickHouse", self.options.clickhouse_port)
        command = ("-P", "-m", "deploy.clickhouse", "--state", str(self._state / CLICKHOUSE), "--port", str(port))
        log_file = self._state / "logs" / "clickhouse.log"
        spec = ProcessSpec(CLICKHOUSE, (sys.executable, *command), log_file, {"TZ": "UTC"}, stop_seconds=3.5)
        process = await self._launch(spec)
        url = f"http://{LOOPBACK}:{port}"
        await _wait_for_clickhouse(port, process)
        self._tell(f"ClickHouse answers at {url}")
        return url

    def _worker_specs(self) -> list[ProcessSpec]:
        kinds = {f"stats-{number}": "stats" for number in range(self.options.workers)}
        kinds |= {kind: kind for kind in ("archive", "allocator", "audit", EXPERIMENTS)}
        secret = self.settings.experiment_secret or _own_secret(self._state)
        ports = dict(zip(kinds, quiet_ports(len(kinds)), strict=True))
        self._endpoints = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
        return [
            ProcessSpec(
                name,
                (*self.options.worker_command, kind),
                self._state / "logs" / f"{name}.log",
                # Who holds the secret can forge assignments: only their owner gets it.
                ONE_THREAD | self._environment(name, secret if kind == EXPERIMENTS else "", ports[name]),
                stop_seconds=WORKER_STOP_SECONDS,
            )
            for name, kind in kinds.items()
        ]

    def _environment(self, name: str, secret: str, port: int) -> dict[str, str]:
        own_settings = {"metrics_host": LOOPBACK, "metrics_port": port}
        own = environment(
            self.settings.model_copy(update={"instance_id": name, "experiment_secret": secret} | own_settings)
        )
        # A secret of this process's own environment is not handed down to the others.
        return {SECRET_VARIABLE: "", "SCALING_METRICS_HOST": LOOPBACK} | own

    def _publish_addresses(self) -> None:
        content = {
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "settings": self.settings.model_dump(mode="json", include=SHARED_SETTINGS),
            "endpoints": self._endpoints,
        }
        new = self._state / f"{ADDRESSES}.new"
        new.write_text(json.dumps(content))
        new.replace(self._state / ADDRESSES)


def running_endpoints(state: Path) -> dict[str, str]:
    """Read where the workers of the stack that runs on a state folder tell of their health; empty where none runs."""
    content = _published(state)
    return {} if content is None else dict(content.get("endpoints", {}))


def running_stack(state: Path) -> dict[str, Any] | None:
    """Read the settings of the stack that runs on a state folder, or None where none runs.

    Returns:
        Overrides for `load_settings`: kafka, clickhouse, clickhouse_database, partitions, experiment_secret.
    """
    content = _published(state)
    if content is None:
        return None
    try:
        settings: dict[str, Any] = content["settings"]
        if (state / SECRET_FILE).exists() and not os.environ.get(SECRET_VARIABLE):
            settings["experiment_secret"] = (state / SECRET_FILE).read_text().strip()
    except (FileNotFoundError, KeyError):
        return None
    return settings


def _published(state: Path) -> dict[str, Any] | None:
    """Read what a stack has published, as long as it runs."""
    try:
        content: dict[str, Any] = json.loads((state / ADDRESSES).read_text())
        # A process of the same number may have nothing to do with the stack that wrote the file.
        alive = psutil.Process(content["pid"]).create_time() == content["started"]
    except (FileNotFoundError, psutil.NoSuchProcess, ValueError, KeyError):
        return None
    return content if alive else None


ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""Small matrices lose more by threads than they gain."""


def environment(settings: Settings) -> dict[str, str]:
    """Write settings that differ from the defaults as SCALING_ environment variables, for a child process."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    # The addresses are always said, so that a scaling.toml cannot lead a worker elsewhere.
    values |= {"kafka": settings.kafka, "clickhouse": settings.clickhouse}
    return {
        f"SCALING_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def _own_secret(state: Path) -> str:
    """Read the state folder's own secret, made at the first start; nobody else on the machine may read it."""
    file = state / SECRET_FILE
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(secrets.token_hex(32))
    return file.read_text().strip()


def _lock(state: Path) -> TextIO:
    """Take the state folder for this process. The lock ends with the process, however that ends."""
    file = (state / "stack.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        message = f"a stack runs on {state} already (process {holder}): stop that one, or choose another state folder"
        raise StackError(message) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


async def _wait_for_clickhouse(port: int, process: Supervised) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while not await _pings(port):
        tail = f"its log {process.spec.log} ends with:\n{log_tail(process.spec.log)}"
        if not process.running:
            raise StackError(f"ClickHouse died while starting; {tail}")
        if asyncio.get_running_loop().time() > deadline:
            raise StackError(f"ClickHouse does not answer after {START_SECONDS:.0f} s; {tail}")
        await asyncio.sleep(0.05)


async def _pings(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.readline()).split()[1:2] == [b"200"]
    except OSError:
        return False
    finally:
        writer.close()


async def _all(*parts: Coroutine[Any, Any, Part]) -> list[Part]:
    """Run the parts together; when one fails, end the others before its error goes on."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@contextlib.asynccontextmanager
async def _signals() -> AsyncIterator[asyncio.Future[None]]:
    """Turn the signals that ask for an end into a future."""
    loop = asyncio.get_running_loop()
    asked: asyncio.Future[None] = loop.create_future()

    def ask() -> None:
        if not asked.done():
            asked.set_result(None)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, ask)
    try:
        yield asked
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        asked.cancel()
