"""`scaling import`, `simulate` and `rejected`, as far as they go without a running stack."""

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from models.errors import NotReachable, ScalingError, SettingsError

NOWHERE = {"SCALING_KAFKA": "127.0.0.1:1", "SCALING_CLICKHOUSE": "http://127.0.0.1:1", "COLUMNS": "200"}


def run(*arguments: str | Path) -> Result:
    """Run the command where neither Kafka nor ClickHouse answers."""
    return CliRunner().invoke(app, list(map(str, arguments)), env=NOWHERE)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A file with one run."""
    path = tmp_path / "runs.jsonl"
    path.write_text('{"agent_run_id": "a"}\n')
    return path


@pytest.mark.parametrize(
    "command", [["import"], ["fit"], ["simulate"], ["rejected", "list"], ["rejected", "replay"]], ids=" ".join
)
def test_help_has_an_example_and_the_exit_status(command: list[str]) -> None:
    """Whoever asks for help sees how it is used and what the exit status means."""
    text = run(*command, "--help").stdout

    assert f"Example: scaling {' '.join(command)}" in text
    assert "Exit status: 0" in text
    assert "--json" in text


def test_a_missing_file_is_told_before_anything_is_published(runs: Path) -> None:
    """The error names the file."""
    assert "is not a file" in str(run("import", runs, runs.parent / "absent.jsonl").exception)


def test_a_wrong_mapping_is_told_before_anything_is_published(runs: Path) -> None:
    """The error names the option."""
    result = run("import", runs, "--map", "agents=n")

    assert isinstance(result.exception, SettingsError)
    assert "--map agents=n" in str(result.exception)


@pytest.mark.parametrize("name", ["", "a|b", "x" * 65])
def test_an_import_id_that_headers_cannot_carry_is_refused(runs: Path, name: str) -> None:
    """The workers would count such an import under another name."""
    assert isinstance(run("import", runs, "--id", name).exception, SettingsError)


def test_without_kafka_an_import_says_what_to_start(runs: Path) -> None:
    """One sentence with the address."""
    result = run("import", runs)

    assert isinstance(result.exception, NotReachable)
    assert "127.0.0.1:1" in str(result.exception)


def test_without_clickhouse_rejects_cannot_be_listed() -> None:
    """One sentence with the address."""
    assert isinstance(run("rejected", "list").exception, NotReachable)


@pytest.mark.parametrize("options", [[], ["--all", "--import-id", "x"], ["--offset", "scaling.runs:0:1", "--all"]])
def test_a_replay_wants_one_selection(options: list[str]) -> None:
    """Neither nothing nor two kinds at once: that is wrong usage."""
    result = run("rejected", "replay", *options)

    assert result.exit_code == 2
    assert "--import-id" in result.output


def test_simulated_runs_are_json_lines() -> None:
    """As many as asked for, and the same again for the same seed."""
    first, second = (run("simulate", "--runs", "12", "--seed", "5").stdout.splitlines() for _ in range(2))
    ids = [json.loads(line)["agent_run_id"] for line in first]

    assert ids == [json.loads(line)["agent_run_id"] for line in second]
    assert ids == [f"sim-5-{number:07d}" for number in range(12)]


def test_simulated_runs_go_to_a_file_with_what_was_planted(tmp_path: Path) -> None:
    """--json says the exponents that a fit has to find; the file is compressed by its name."""
    path = tmp_path / "runs.jsonl.gz"
    document = json.loads(run("simulate", "--runs", "10", "--confounded", "-o", path, "--json").stdout)

    assert len(gzip.decompress(path.read_bytes()).splitlines()) == document["runs"] == 10
    assert {"dimension": "agent_count", "outcome": "success", "exponent": 0.22} in document["planted"]
    assert document["confounded"]


def test_json_on_standard_output_would_mix_with_the_runs() -> None:
    """--json without -o is wrong usage."""
    assert run("simulate", "--json").exit_code == 2


def test_an_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The error names the file."""
    result = run("simulate", "-o", tmp_path / "absent" / "runs.jsonl")

    assert isinstance(result.exception, ScalingError)
    assert "cannot be written" in str(result.exception)
