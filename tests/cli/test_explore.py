"""`scaling explore`: files and stored runs give the same figures, in tables, sentences and JSON."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner, Result

from cli.explore import COLUMNS
from cli.main import app
from deploy.machine import claim_port
from models.contexts import complexity_band
from models.errors import NotEnoughData
from models.settings import Settings, load_settings
from streams.clickhouse import ClickHouseSink, apply_schema


def run(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["explore", *map(str, arguments)], env={"COLUMNS": "200"})


def events() -> list[dict[str, Any]]:
    """Write 480 runs: agents and the limit move together; quality is missing on failure; no cost, time or model."""
    return [
        {
            "agent_run_id": f"run-{number}",
            "project": f"p{number % 7}",
            "task_id": f"t{number % 60}",
            "task_complexity": number % 60 / 60,
            "agent_count": 2 ** (number // 60 % 4),
            "max_iterations": 2 ** (number // 60 % 4) + number % 2,
            "context_tokens": 1000 + number,
            "success": number * 7 % 10 < 6,
            **({"quality_score": number % 10 / 10} if number * 7 % 10 < 6 else {}),
        }
        for number in range(480)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The runs in a file, with the limit under another name."""
    path = tmp_path / "runs.jsonl"
    renamed = [{("turns" if name == "max_iterations" else name): x for name, x in event.items()} for event in events()]
    path.write_text("\n".join(map(json.dumps, renamed)))
    return path


def test_tables_and_sentences_are_printed(file: Path) -> None:
    """Coverage, confounding, gaps and power, then what can and cannot be learnt."""
    result = run(file, "--map", "max_iterations=turns")
    assert result.exit_code == 0
    assert "480 runs, 7 projects, 0 task types, 0 models and 60 tasks" in result.stdout
    for title in ("Dimensions", "Coverage of pairs", "Confounding", "Missing fields", "What would show"):
        assert title in result.stdout
    agents, limit = ([event[name] for event in events()] for name in ("agent_count", "max_iterations"))
    rho = spearmanr(agents, limit).statistic
    for told in (
        f"Agents and the iteration limit move together (rho {rho:.2f}): their effects cannot be told apart.",
        "No run carries time to complete or cost: there is no law of them.",
        "Quality is missing in 100% of failed and 0% of successful runs",
        "Most tasks were run at several values of agents (100%) and the iteration limit (100%): difficulty can be held",
        "Used context tokens are outcomes of difficulty, not limits",
    ):
        assert told in result.stdout


def test_one_document_holds_everything(file: Path) -> None:
    """JSON has the counts, all figures and all sentences."""
    found = json.loads(run(file, "--map", "max_iterations=turns", "--json").stdout)
    assert found["runs"] == {"accepted": 480, "duplicate": 0, "corrected": 0, "rejected": 0}
    assert found["exploration"]["runs"] == 480
    assert {one["dimension"] for one in found["exploration"]["spreads"]} == {"agent_count", "iterations", "context"}
    assert set(found["learnable"]) == {"can", "cannot", "mind"}
    agents = next(one for one in found["exploration"]["spreads"] if one["dimension"] == "agent_count")
    assert (agents["values"], agents["supported"], agents["hi"]) == (4, 4, 8)


def test_a_context_is_explored_alone(file: Path) -> None:
    """Only its runs count, and one without runs is an error."""
    found = json.loads(run(file, "--context", "project=p3", "--json").stdout)
    assert found["exploration"]["runs"] == sum(event["project"] == "p3" for event in events())
    assert isinstance(run(file, "--context", "project=p9").exception, NotEnoughData)


def test_repeated_trials_are_shown(tmp_path: Path) -> None:
    """Thirty tasks of which ten never, ten in one of two trials and ten always succeed."""
    path = tmp_path / "trials.jsonl"
    trials = [(task, trial) for task in range(30) for trial in range(2)]
    path.write_text(
        "\n".join(
            json.dumps({"agent_run_id": f"{task}-{trial}", "task_id": f"t{task}", "success": task // 10 > trial})
            for task, trial in trials
        )
    )
    found = json.loads(run(path, "--json").stdout)
    (one,) = found["exploration"]["trials"]
    rates = [(rate["k"], rate["any_of"]["estimate"], rate["all_of"]["estimate"]) for rate in one["rates"]]
    assert rates == [(1, pytest.approx(1 / 2), pytest.approx(1 / 2)), (2, pytest.approx(2 / 3), pytest.approx(1 / 3))]
    ahead = one["forecast"]
    assert (one["forecast_trials"], one["tasks"]) == (4, 30)
    told = run(path).stdout
    assert "Repeated trials of the same tasks at the same settings" in told
    assert f"30 new │ 4 (forecast) │    {ahead['estimate']:.3f} │ [{ahead['lo']:.3f}, {ahead['hi']:.3f}]" in told
    assert "30 tasks with at least 2 trials each: one trial solves 50 %, at least one of 2 solves 66.7 %, and" in told


def test_rejected_lines_are_named(file: Path) -> None:
    """A broken line is told by file and line, and the exit status says so."""
    file.write_text("{broken\n" + file.read_text())
    result = run(file)
    assert result.exit_code == 3
    assert f"{file}:1: the record is not JSON" in result.stderr


def test_mapping_needs_files() -> None:
    """What is stored is read as it is."""
    assert run("--map", "max_iterations=turns").exit_code == 2


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The runs in an embedded ClickHouse."""
    port = claim_port("ClickHouse", 0)
    state = tmp_path_factory.mktemp("clickhouse")
    server = subprocess.Popen([sys.executable, "-m", "deploy.clickhouse", "--state", str(state), "--port", str(port)])
    settings = load_settings(clickhouse=f"http://127.0.0.1:{port}")
    try:
        asyncio.run(fill(settings))
        yield settings
    finally:
        server.terminate()
        server.wait(30)


async def fill(settings: Settings) -> None:
    """Create the schema and insert the runs."""
    await apply_schema(settings)
    sink = ClickHouseSink(settings)
    rows = events()
    now = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    columns: dict[str, Any] = {name: [row.get(name) for row in rows] for name in COLUMNS}
    columns["project_characteristics"] = [json.dumps({"team": "red" if n % 3 else "blue"}) for n in range(len(rows))]
    columns |= {"completed_at": [now] * len(rows), "version": [1] * len(rows)}
    columns["complexity_band"] = [complexity_band(row["task_complexity"]) for row in rows]
    await sink.insert("scaling_observations", columns)
    await sink.close()


@pytest.mark.stack
def test_stored_runs_give_the_figures_of_their_file(
    stored: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same runs from ClickHouse, all of them and by context, also by keys that only characteristics have."""
    monkeypatch.setenv("SCALING_CLICKHOUSE", stored.clickhouse)
    # Rows come back in another order, which moves sums by their rounding.
    answers = [json.loads(run(*more, "--json").stdout) for more in ((file, "--map", "max_iterations=turns"), ())]
    for answer in answers:
        assert answer["runs"]["accepted"] == 480
    assert answers[0]["learnable"] == answers[1]["learnable"]
    assert answers[0]["exploration"]["spreads"] == answers[1]["exploration"]["spreads"]
    one = json.loads(run("--context", "project=p3", "--json").stdout)
    assert one["exploration"]["runs"] == sum(event["project"] == "p3" for event in events())
    high = json.loads(run("--context", "complexity_band=high", "--json").stdout)
    assert high["exploration"]["runs"] == sum(event["task_complexity"] >= 0.8 for event in events())
    team = json.loads(run("--context", "team=blue&project=p3", "--json").stdout)
    assert team["exploration"]["runs"] == sum(n % 3 == 0 and n % 7 == 3 for n in range(480))
    assert isinstance(run("--context", "team=green").exception, NotEnoughData)
