import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.processes import LARGEST_LOG, ProcessSpec, Supervised
from models.errors import StackError


def spec(folder: Path, code: str) -> ProcessSpec:
    """A Python program as a child."""
    return ProcessSpec("child", (sys.executable, "-c", code), folder / "child.log", stop_seconds=1.0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process brings about."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.02)


def unexpected(error: StackError) -> None:
    """Fail the test: the process was given up."""
    raise error


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    """After a kill a new process runs under the same name."""
    child = Supervised(spec(tmp_path, "import time; time.sleep(60)"), unexpected)
    await child.start()
    first = child.pid
    child.kill()
    await until(lambda: child.running and child.pid != first)
    await child.stop()
    assert not child.running


async def test_a_process_that_keeps_dying_is_given_up_with_its_log(tmp_path: Path) -> None:
    """The error names the log and quotes its end."""
    failure: asyncio.Future[StackError] = asyncio.get_running_loop().create_future()
    child = Supervised(spec(tmp_path, "raise SystemExit('no such luck')"), failure.set_result, restarts=1)
    await child.start()
    error = await asyncio.wait_for(failure, 10)
    assert "child died 2 times" in str(error)
    assert str(tmp_path / "child.log") in str(error)
    assert "no such luck" in str(error)
    with pytest.raises(StackError, match="does not run"):
        _ = child.pid
    await child.stop()


async def test_stopping_takes_by_force_what_does_not_stop(tmp_path: Path) -> None:
    """A process that ignores SIGTERM is killed after its time, together with what it has started."""
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True); time.sleep(60)"
    )
    child = Supervised(spec(tmp_path, code), unexpected)
    await child.start()
    log = tmp_path / "child.log"
    await until(lambda: bool(log.read_text().strip()))
    grandchild = int(log.read_text())
    await child.stop()
    await until(
        lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    )


async def test_a_log_that_has_grown_too_large_is_begun_anew(tmp_path: Path) -> None:
    """Logs are kept between starts up to a size."""
    log = tmp_path / "child.log"
    with log.open("wb") as file:
        os.truncate(file.fileno(), LARGEST_LOG + 1)
    child = Supervised(spec(tmp_path, "import time; time.sleep(60)"), unexpected)
    await child.start()
    await child.stop()
    assert log.stat().st_size == 0
