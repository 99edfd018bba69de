"""`scaling fit`: laws of files without anything running."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from models.errors import NotEnoughData

RATES = {1: 0.25, 2: 0.5, 4: 0.75}
"""Success rate by agent count."""


def run(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["fit", *map(str, arguments)])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Forty runs at each of three agent counts."""
    path = tmp_path / "runs.jsonl"
    events = [
        {"agent_run_id": f"{agents}-{number}", "n": agents, "success": number < 40 * rate, "project": "p"}
        for agents, rate in RATES.items()
        for number in range(40)
    ]
    path.write_text("\n".join(map(json.dumps, events)))
    return path


def document(result: Result) -> dict[str, Any]:
    """Read the one JSON document that was printed."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_laws_of_a_file_are_printed(runs: Path) -> None:
    """Every context has its law, with the counts of the file in it."""
    result = run(runs, "--map", "agent_count=n", "--json")
    found = document(result)

    assert result.exit_code == 0
    assert found["runs"] == {"accepted": 120, "duplicate": 0, "corrected": 0, "rejected": 0, "reasons": []}
    assert [law["law_id"] for law in found["laws"]] == [
        "global|agent_count|success|live",
        "project=p|agent_count|success|live",
    ]
    assert {row["x"]: row["mean"] for row in found["laws"][0]["values"]} == RATES
    law = found["laws"][0]
    # Forty runs at a value are few, but a rise from a quarter to three quarters is evident all the same.
    assert law["status"] == "actionable"
    assert law["e_value"] > 20
    assert law["published"]["direction"] == "rises"
    assert "a knee needs 100 runs" in law["missing"]["knee"]


def test_laws_can_be_chosen(runs: Path) -> None:
    """A context, a dimension and an outcome choose one law; its values are shown with it."""
    options = ("--context", "project=p", "--dimension", "agent_count", "--outcome", "success")
    result = run(runs, "--map", "agent_count=n", *options)

    assert result.exit_code == 0
    assert "project=p" in result.stdout
    assert "global" not in result.stdout
    assert all(f"{rate:g}" in result.stdout for rate in RATES.values())


def test_rejected_lines_are_named(runs: Path) -> None:
    """A broken line is told by file and line, the others count, and the exit status says so."""
    runs.write_text("{broken\n" + runs.read_text())
    result = run(runs, "--map", "agent_count=n", "--json")

    assert result.exit_code == 3
    assert document(result)["runs"]["rejected"] == 1
    assert document(result)["runs"]["reasons"][0].startswith(f"{runs}:1: the record is not JSON")


def test_a_file_repeated_is_counted_once(runs: Path) -> None:
    """The same runs again are duplicates."""
    assert document(run(runs, runs, "--json"))["runs"]["duplicate"] == 120


def test_nothing_to_fit_is_an_error(runs: Path) -> None:
    """Runs without the wanted dimension give no law, and the message says what would."""
    result = run(runs, "--dimension", "attempts")

    assert isinstance(result.exception, NotEnoughData)
    assert "none of the 120 runs" in str(result.exception)
