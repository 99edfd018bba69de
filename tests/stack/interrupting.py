"""Ctrl-C for a demo at a chosen moment."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil


def interrupt(command: Sequence[str], folder: Path, moment: str) -> None:
    """Press Ctrl-C once a demo has said a word: it ends in time, with its exit code and nothing left behind.

    Args:
        command: Runs the demo.
        folder: An empty one; the demo makes its temporary folder in it.
        moment: What a line of its output has when the signal is sent.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        try:
            assert any(moment in line for line in process.stdout), f"it never said {moment!r}"
            children = psutil.Process(process.pid).children(recursive=True)
            asked = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
            assert process.wait(20) == 130
            assert time.monotonic() - asked < 30
        finally:
            process.kill()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list(folder.glob("scaling-demo-*")) == []
