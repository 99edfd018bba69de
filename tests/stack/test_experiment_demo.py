"""The agent count experiment as a user runs it: from plan to report, on orchestrators that crash, stray and repeat."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.stack, pytest.mark.demo]

COMMAND = (sys.executable, "-P", "-m", "cli.main", "experiment", "demo")
BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)


def test_from_plan_to_report(tmp_path: Path) -> None:
    """The interval covers the planted effect, the log is as it was sealed, and the report opens in a browser."""
    report = tmp_path / "agent_count.html"
    done = subprocess.run(
        [*COMMAND, "--planned", "60", "--seed", "2", "-o", str(report)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 runs at each of 1, 2, 3, 4, 6 and 8, assigned by blocks" in done.stdout
    assert "the interval covers it" in done.stdout
    assert "1 sealed version" in done.stdout
    assert "0 problems" in done.stdout
    assert list(tmp_path.glob("scaling-experiment-*")) == []
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the report was written, but not opened")
    page = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=8000",
            "--dump-dom",
            str(report),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert page.count('class="main-svg"') >= 3
    assert "Agent Count Scaling" in page
