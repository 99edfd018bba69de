"""What `scaling rebuild` shows, and what it refuses."""

import pytest
from typer.testing import CliRunner

from agents.restated import Difference
from cli.main import app
from cli.rebuild import show
from streams.rebuild import Rebuilt


def test_differences_are_shown_by_partition_and_context(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs before and after, and how many cells differ; the last line says what was done."""
    moved = Difference("project=atlas", 1200, 1199, 7)
    show([Rebuilt(0, 2000, 9, [], written=True), Rebuilt(1, 1200, 7, [moved], written=True)], dry_run=False)
    output = capsys.readouterr().out
    assert "What was changed" in output
    assert [
        cell.strip() for cell in next(line for line in output.splitlines() if "atlas" in line).split("│")[1:-1]
    ] == [
        "1",
        "project=atlas",
        "1,200",
        "1,199",
        "7",
    ]
    assert output.endswith("rebuilt: 3,200 runs in 2 partitions\n")


def test_equal_tables_are_said_to_be_equal(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run without differences says so."""
    show([Rebuilt(0, 5, 5, [], written=False)], dry_run=True)
    assert capsys.readouterr().out == (
        "The tables are what the archive gives: nothing differs.\ncompared: 5 runs in 1 partitions\n"
    )


def test_a_partition_that_is_not_there_is_wrong_usage() -> None:
    """The message names it, and how many there are."""
    result = CliRunner().invoke(app, ["rebuild", "--partition", "99"])
    assert result.exit_code == 2
    assert "there is no partition 99" in result.output
