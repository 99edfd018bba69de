"""The closed loop as a user runs it: event, law, allocation, outcome, law, until the A/B test has its verdict."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.interrupting import interrupt

pytestmark = [pytest.mark.stack, pytest.mark.demo]

COMMAND = (sys.executable, "-P", "-m", "cli.main", "demo", "--closed-loop")
BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
PICTURES = ("successes-per-dollar", "law-sharpening", "settings-by-complexity", "regret")


def test_the_loop_pays_and_says_so(tmp_path: Path) -> None:
    """Dynamic allocation is found better by what it truly gains, most of what can be had, and four pictures open."""
    pictures = tmp_path / "loop.html"
    done = subprocess.run(
        [*COMMAND, "--seed", "1", "--tasks", "4000", "-o", str(pictures)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BETTER: Dynamic allocation brings" in done.stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if line.startswith("│")]
    gain = next(row for row in rows if row[1] == "successes per dollar")
    assert gain[5] == "yes"
    assert float(gain[4].split()[0]) > 10
    assert "scaling evaluate greedy, from the log alone: success" in done.stdout
    assert list(tmp_path.glob("scaling-demo-*")) == []
    if BROWSER is None:
        pytest.skip("no chromium on this machine: the page was written, but not opened")
    page = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=8000",
            "--dump-dom",
            str(pictures),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert page.count('class="main-svg"') == 3 * len(PICTURES)
    assert all(f'id="{name}"' in page for name in PICTURES)


@pytest.mark.parametrize("moment", ["waiting for laws", "allocating"])
def test_ctrl_c_stops_it(tmp_path: Path, moment: str) -> None:
    """At any moment it ends within ten seconds, with no process and no folder left."""
    interrupt(COMMAND, tmp_path, moment)


@pytest.mark.parametrize("options", [("--file", "runs.jsonl"), ("--confounded",)])
def test_it_goes_with_no_other_demo(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Its world is one of its own."""
    done = subprocess.run([*COMMAND, *options], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "exclude each other" in done.stderr
