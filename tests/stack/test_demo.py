import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack.interrupting import interrupt

pytestmark = [pytest.mark.stack, pytest.mark.demo]

DATA = Path(__file__).parents[3] / "shared" / "data" / "dylan_mmlu_team_size" / "events.jsonl.gz"
COMMAND = (sys.executable, "-P", "-m", "cli.main", "demo")


def environment(folder: Path) -> dict[str, str]:
    """Let the demo make its temporary folder in a folder of the test."""
    return {**os.environ, "TMPDIR": str(folder)}


def demo(folder: Path, *options: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    return subprocess.run(
        [*before, *COMMAND, *options],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_it_finds_the_planted_laws(tmp_path: Path) -> None:
    """All six intervals have the truth in them, allocations and queries follow, and nothing is left behind."""
    done = demo(tmp_path, "--runs", "6000", "--rate", "3000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("│ yes ") == 6
    assert "6,000 accepted, 0 duplicates, 0 rejected" in done.stdout
    assert "All 6 planted laws lie in their simultaneous 95 % intervals." in done.stdout
    assert "within 1 dollars" in done.stdout
    assert "within 5 dollars" in done.stdout
    for title in ("What more agents buy", "What a success costs", "How the laws settled"):
        assert title in done.stdout
    assert "scaling up" in done.stdout
    assert "\x1b" not in done.stdout
    assert list(tmp_path.glob("scaling-demo-*")) == []


def test_it_sees_through_confounding(tmp_path: Path) -> None:
    """Where hard tasks get more agents the naive law is wrong and the adjusted ones right; five are covered."""
    done = demo(tmp_path, "--confounded", "--runs", "6000", "--rate", "3000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("│ yes ") == 5
    assert "All 5 planted laws lie in their simultaneous 95 % intervals." in done.stdout
    rows = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines() if line.startswith("│")]
    table = {row[1]: row for row in rows if len(row) == 8}
    signs = {name: row[5] for name, row in table.items()}
    assert (signs["naive power law"], signs["naive"], signs["planted"]) == ("falls", "falls", "rises")
    live, audited, planted = table["adjusted, live"], table["adjusted, audited"], table["planted"]
    assert (live[5], audited[5]) == ("rises", "rises")
    assert "AIPW" in audited[6]
    assert "least squares" in live[6]
    assert planted[4] == "+0.220"
    for row in (live, audited):
        assert 0.12 < float(row[4]) < 0.32
    assert "Evidence: adjusted. Planted exponent: +0.22." in done.stdout
    assert "The naive law has the WRONG sign" in done.stdout
    assert "The adjusted law has the RIGHT sign" in done.stdout
    assert list(tmp_path.glob("scaling-demo-*")) == []


def test_a_file_has_no_known_confounding(tmp_path: Path) -> None:
    """--confounded is about simulated runs."""
    done = demo(tmp_path, "--confounded", "--file", "runs.jsonl")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_it_shows_the_laws_of_a_file(tmp_path: Path) -> None:
    """Runs of a file take the place of simulated ones; what was found is shown, and there is no truth to cover."""
    if not DATA.exists():
        pytest.skip(f"the runs {DATA.name} are not on this machine")
    done = demo(tmp_path, "--file", str(DATA), "--rate", "5000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11,236 accepted" in done.stdout
    assert "agent_count" in done.stdout
    assert "covered" not in done.stdout


@pytest.mark.parametrize("moment", ["Starting Kafka", "publishing", "catching up"])
def test_ctrl_c_stops_everything(tmp_path: Path, moment: str) -> None:
    """At any moment it ends within ten seconds, with no process and no folder left."""
    interrupt([*COMMAND, "--runs", "6000", "--rate", "3000"], tmp_path, moment)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_it_needs_no_network(tmp_path: Path) -> None:
    """Once the jars are there, loopback is enough."""
    cut = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-rn")
    up = ("sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    if subprocess.run([*cut, *up, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("this machine does not allow unshare -n with ip link set lo up")
    done = demo(tmp_path, "--runs", "2000", "--rate", "2000", before=(*cut, *up))
    assert done.returncode in {0, 4}, done.stdout + done.stderr
    assert "2,000 accepted" in done.stdout
