import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from deploy.kafka import prepare_broker
from deploy.machine import LOOPBACK, claim_port, require_disk
from deploy.stack import Stack, StackOptions, environment, running_stack
from models.errors import PortTaken, StackError
from models.settings import Settings, load_settings
from models.topics import RUNS

pytestmark = [pytest.mark.stack]

SCRIPT = Path(__file__).with_name("run_stack.py")


@dataclass(frozen=True, slots=True)
class Running:
    """A stack in a process of its own."""

    process: subprocess.Popen[str]
    settings: dict[str, Any]
    pids: list[int]


@contextlib.contextmanager
def running(state: Path, *options: str, before: tuple[str, ...] = ()) -> Iterator[Running]:
    """Start a stack in a process of its own and wait until it runs."""
    command = [*before, sys.executable, str(SCRIPT), str(state), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stderr
            line = process.stdout.readline()
            if not line:
                pytest.fail(f"the stack did not start: {process.stderr.read()}")
            said = json.loads(line)
            yield Running(process, said["settings"], list(said["pids"].values()))
        finally:
            process.kill()


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Wait until none of the processes is alive."""
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists() and _cmdline(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return not alive


def _cmdline(pid: int) -> bytes:
    # A process that has ended but is not yet waited for has an empty command line.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def java_of(state: Path) -> list[int]:
    """The Java processes whose command line names the state folder."""
    return [
        process.pid
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == "java" and any(str(state) in part for part in process.info["cmdline"] or [])
    ]


async def write(settings: dict[str, Any]) -> None:
    """Put a record and a row into the stack."""
    async with AIOKafkaProducer(bootstrap_servers=settings["kafka"]) as producer:
        await producer.send_and_wait(RUNS, b"kept", key=b"run", partition=0)
    client = _client(settings)
    client.command("CREATE TABLE default.kept (x UInt8) ENGINE = MergeTree ORDER BY x")
    client.insert("default.kept", [[7]], column_names=["x"])
    client.close()


async def read(settings: dict[str, Any]) -> tuple[bytes, object]:
    """Read them back."""
    async with AIOKafkaConsumer(RUNS, bootstrap_servers=settings["kafka"], auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), 20)
    client = _client(settings)
    value = client.command("SELECT x FROM default.kept")
    client.close()
    return record.value, value


def _client(settings: dict[str, Any]) -> Any:  # noqa: ANN401 - the client is untyped
    url = urlsplit(settings["clickhouse"])
    return clickhouse_connect.get_client(host=url.hostname or "", port=url.port or 0, database="default")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_no_end_of_the_stack_leaves_processes_or_loses_data(tmp_path: Path) -> None:
    """After SIGTERM, and after kill -9 of the parent, no child is left and the next start finds everything."""
    state = tmp_path / "state"
    with running(state) as first:
        await write(first.settings)
        assert running_stack(state) == first.settings
        assert len(java_of(state)) == 1
        with pytest.raises(StackError, match=rf"a stack runs on {state} already \(process {first.process.pid}\)"):
            await Stack(StackOptions(state=state), load_settings()).start(workers=False)
        asked = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        assert first.process.wait(15) == 0
        assert time.monotonic() - asked < 10
        assert gone(first.pids, 0)
        assert running_stack(state) is None
    with running(state) as second:
        assert await read(second.settings) == (b"kept", 7)
        second.process.kill()
        second.process.wait()
        assert gone(second.pids)
        assert java_of(state) == []
        assert running_stack(state) is None
    with running(state) as third:
        assert await read(third.settings) == (b"kept", 7)
        third.process.send_signal(signal.SIGINT)
        assert third.process.wait(15) == 0
        assert gone(third.pids, 0)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_it_starts_without_a_network(tmp_path: Path) -> None:
    """Once the jars are in the cache, nothing but loopback is needed."""
    cut = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    if subprocess.run([*cut, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow unshare -n")
    with running(tmp_path / "state", "--alone", before=cut) as stack:
        assert stack.settings["kafka"].startswith(LOOPBACK)


async def test_workers_get_the_settings_are_restarted_and_given_up(tmp_path: Path) -> None:
    """Workers start with the stack's addresses and an instance id of their own; a crash of one is repaired."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import json, os, sys, time\n"
        "print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('SCALING_')} | {'kind': sys.argv[1]}),"
        "flush=True)\ntime.sleep(600)\n"
    )
    options = StackOptions(
        state=tmp_path / "state", kafka_port=0, clickhouse_port=0, worker_command=(sys.executable, str(worker))
    )
    async with Stack(options, load_settings(refit_seconds=2.5, context_keys=[["project"]])) as stack:
        assert set(stack.names) == {
            *("kafka", "clickhouse", "stats-0", "stats-1", "archive", "allocator", "audit", "experiments")
        }
        log = options.state / "logs" / "stats-1.log"
        said = json.loads((await _lines(log, 1))[0])
        assert said["kind"] == "stats"
        assert said["SCALING_KAFKA"] == stack.settings.kafka
        assert said["SCALING_CLICKHOUSE"] == stack.settings.clickhouse
        assert said["SCALING_INSTANCE_ID"] == "stats-1"
        assert said["SCALING_REFIT_SECONDS"] == "2.5"
        assert json.loads(said["SCALING_CONTEXT_KEYS"]) == [["project"]]
        before = stack.pid("stats-1")
        await stack.kill("stats-1")
        await _lines(log, 2)
        assert stack.pid("stats-1") != before
        before = stack.pid("archive")
        await stack.restart("archive")
        assert stack.pid("archive") != before
        with pytest.raises(StackError, match="no process 'nobody'"):
            stack.pid("nobody")


async def _lines(log: Path, count: int) -> list[str]:
    """Wait until a child has written so many lines."""
    async with asyncio.timeout(10):
        while len(lines := _complete_lines(log)) < count:  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.02)
    return lines


def _complete_lines(log: Path) -> list[str]:
    return log.read_text().split("\n")[:-1] if log.exists() else []


def test_a_childs_environment_makes_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that were given as arguments reach a worker unchanged."""
    settings = load_settings(partitions=3, complexity_scale={"low": 0.25}, flush_seconds=0.5, instance_id="stats-0")
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings
    assert load_settings().validation_hash == settings.validation_hash


def test_a_taken_port_is_named(services: Settings) -> None:
    """The error says which port, for what, and how to go on."""
    port = int(services.kafka.rpartition(":")[2])
    with pytest.raises(PortTaken, match=rf"port {port} for Kafka cannot be used .*another kafka port"):
        claim_port("Kafka", port)
    assert claim_port("Kafka", 0) != port


async def test_a_stack_on_a_taken_port_leaves_nothing_running(services: Settings, tmp_path: Path) -> None:
    """A start that fails stops what it had started."""
    port = int(services.clickhouse.rpartition(":")[2])
    options = StackOptions(state=tmp_path, kafka_port=0, clickhouse_port=port)
    with pytest.raises(PortTaken, match="for ClickHouse"):
        await Stack(options, load_settings()).start(workers=False)
    assert java_of(tmp_path) == []
    assert running_stack(tmp_path) is None


async def test_the_lock_of_a_live_broker_is_respected_and_a_stale_one_is_not(tmp_path: Path) -> None:
    """Java's lock file is held by a record lock: with its holder alive it is an error, left behind it is not."""
    lock = tmp_path / "kafka" / "data" / ".lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    spec, _ = await prepare_broker(tmp_path, 0, lambda _: None)
    assert spec.name == "kafka"
    code = (
        f"import fcntl; f = open({str(lock)!r}, 'r+'); fcntl.lockf(f, fcntl.LOCK_EX);print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:  # noqa: ASYNC220
        assert holder.stdout
        assert holder.stdin
        holder.stdout.readline()
        with pytest.raises(StackError, match="another Kafka broker is using"):
            await prepare_broker(tmp_path, 0, lambda _: None)
        holder.stdin.close()
    with lock.open("r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_full_disk_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    """The error says how much is free and how much is needed."""
    with pytest.raises(StackError, match=r"MiB free and .* MiB are needed"):
        require_disk(tmp_path, least=2**60)


def test_addresses_of_a_dead_stack_are_not_believed(tmp_path: Path) -> None:
    """A file left behind, or one that is no JSON, is no running stack."""
    assert running_stack(tmp_path) is None
    (tmp_path / "stack.json").write_text("{")
    assert running_stack(tmp_path) is None
    content = {"pid": os.getpid(), "started": 0.0, "settings": {"kafka": "127.0.0.1:1"}}
    (tmp_path / "stack.json").write_text(json.dumps(content))
    assert running_stack(tmp_path) is None
