"""The commands: their help, their exit codes, what they print."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import psutil
import pytest
from msgspec import structs
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from agents.lawbook import LawBook
from analytics.intervals import t_quantile
from analytics.world import LAWS, Planted
from cli.allocating import allocation_table
from cli.demo import NOT_COVERED, covers, sliced
from cli.laws import laws_table, values_table
from cli.main import app
from cli.settings_of import settings_of
from cli.settings_table import markdown, rows
from cli.starting import fetched
from cli.truth import compare
from models.allocations import Allocation, Alternative, Method, Setting
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData, SettingsError, StackError
from models.laws import Estimate, Law, ValueRow
from models.settings import Settings, load_settings
from streams.files import Chunk

ROOT = Path(__file__).parents[2]
run = CliRunner().invoke


Make = Callable[..., Law]


@pytest.fixture
def law(make_law: Make) -> Make:
    """Make the law of the global context that a planted one is compared with: 102 runs at two values."""

    def make(planted: Planted, exponent: float | None, se: float, **fields: object) -> Law:
        return make_law(planted.dimension, planted.outcome, exponent, se=se, runs=(51, 51), **fields)

    return make


def text(renderable: object) -> str:
    """Render as a wide file would get it."""
    file = StringIO()
    Console(width=200, file=file).print(renderable)
    return file.getvalue()


def commands() -> list[list[str]]:
    """List every command with its path."""
    found: list[list[str]] = []

    def walk(group: object, path: list[str]) -> None:
        for name, command in getattr(group, "commands", {}).items():
            if hasattr(command, "commands"):
                walk(command, [*path, name])
            else:
                found.append([*path, name])

    walk(get_command(app), [])
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(path: list[str]) -> None:
    """The help of each command shows how it is called."""
    result = run(app, [*path, "--help"])
    assert result.exit_code == 0
    assert re.search(r"Example:\s+\S", result.output)


def test_a_command_imports_no_other() -> None:
    """What a command does not need does not slow its start: workers are started again and again."""
    asked = "from cli.main import app; import sys; app(['worker', 'stats', '--help'], standalone_mode=False); "
    asked += "print(*(name for name in sys.modules if name.startswith('cli.')))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = set(done.stdout.splitlines()[-1].split())
    assert "cli.worker" in imported
    assert imported <= {"cli.main", "cli.lazy_commands", "cli.output", "cli.terminal", "cli.worker", "cli.settings_of"}


def test_a_mistyped_command_is_guessed() -> None:
    """Names are known without their modules."""
    assert "Did you mean 'fit'?" in run(app, ["fti"]).output


def test_the_exit_codes_are_documented() -> None:
    """`scaling --help` names every exit code."""
    said = " ".join(run(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    for code in ("0 it worked", "1 an error", "2 wrong usage", "3 an import", f"{NOT_COVERED} a demo", "130"):
        assert code in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["allocate", "--budget", "0"],
        ["allocate", "--budget", "inf"],
        ["allocate", "--budget", "1", "--task", "[]"],
        ["allocate", "--budget", "1", "--task", "{"],
        ["allocate"],
        ["allocate", "--budget", "-1"],
        ["allocate", "--budget", "1", "--target", "0.5", "--value", "2"],
        ["allocate", "--target", "2"],
        ["allocate", "--value", "0"],
        ["allocate", "--value", "2", "--time-price", "-1"],
        ["allocate", "--budget", "1", "--pin", "agent_count=3"],
        ["allocate", "--budget", "1", "--pin", "agents=3", "--reason", "x"],
        ["allocate", "--budget", "1", "--pin", "agent_count=0", "--reason", "x"],
        ["allocate", "--budget", "1", "--pin", "agent_count", "--reason", "x"],
        ["allocate", "--budget", "1", "--cap", "model_size=small", "--reason", "x"],
        ["allocate", "--budget", "1", "--overspend", "1"],
        ["allocate", "--budget", "1", "--worst", "0"],
        ["allocate", "--budget", "1", "--attitude", "bold"],
        ["allocate", "--budget", "1", "--method", "exact"],
        ["allocate", "--budget", "1", "--outcome", "cost"],
        ["allocate", "--budget", "1", "--native", "hal"],
        ["portfolio", "no-such-file.jsonl", "--budget", "1"],
        ["portfolio", "--budget", "1"],
        ["advise", "--agents", "0", "--iterations-used", "1", "--cost-so-far", "0", "--context-budget", "8000"],
        ["advise", "--agents", "1", "--iterations-used", "1", "--cost-so-far", "-1", "--context-budget", "8000"],
        ["advise", "--agents", "1", "--iterations-used", "1"],
        ["override", "set", "o", "--pin", "agent_count=3"],
        ["override", "set", "o", "--reason", "x"],
        ["override", "set", "o", "--reason", "x", "--pin", "agent_count=3", "--until", "soon"],
        ["override", "set", "o", "--reason", "x", "--pin", "agent_count=3", "--until", "2020-01-01T00:00:00Z"],
        ["override", "set", "o", "--reason", "x", "--pin", "agent_count=3", "--context", "planet=mars"],
        ["override", "set", "o", "--reason", "x", "--pin", "agent_count=3", "--context", "atlas"],
        ["query", "SELECT 1", "--param", "novalue"],
        ["query", "SELECT 1", "--json", "--format", "CSV"],
        ["laws", "--dimension", "length"],
        ["demo", "--rate", "0"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """What cannot be meant is refused before anything is asked."""
    assert run(app, arguments).exit_code == 2


def test_the_page_of_settings_is_the_output_of_the_command() -> None:
    """docs/settings.md is generated; write it again with `scaling settings > docs/settings.md`."""
    result = run(app, ["settings"])
    assert result.stdout == markdown()
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == result.stdout


def test_every_setting_is_described() -> None:
    """No setting is without a meaning, and the JSON document lists all of them in order."""
    assert [row.name for row in rows()] == list(Settings.model_fields)
    assert all(row.meaning for row in rows())
    listed = json.loads(run(app, ["settings", "--json"]).stdout)
    assert [row["variable"] for row in listed] == [f"SCALING_{name.upper()}" for name in Settings.model_fields]


def stack_file(state: Path) -> None:
    """Write what a stack of this very process would have written."""
    settings = {"kafka": "127.0.0.1:7001", "clickhouse": "http://127.0.0.1:7002", "partitions": 3}
    content = {"pid": os.getpid(), "started": psutil.Process().create_time(), "settings": settings}
    state.mkdir()
    (state / "stack.json").write_text(json.dumps(content))


def test_a_running_stack_is_found_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without addresses, the stack on .scaling is meant; with --state, the one that runs there or an error."""
    monkeypatch.chdir(tmp_path)
    assert settings_of().kafka == load_settings().kafka
    with pytest.raises(StackError, match="no stack runs on elsewhere: start one with scaling up --state elsewhere"):
        settings_of(Path("elsewhere"))
    stack_file(tmp_path / ".scaling")
    assert (settings_of().kafka, settings_of().partitions) == ("127.0.0.1:7001", 3)
    stack_file(tmp_path / "elsewhere")
    assert settings_of(Path("elsewhere")).clickhouse == "http://127.0.0.1:7002"


def test_an_address_that_is_given_is_never_mixed_with_a_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SCALING_KAFKA alone already says that another deployment is meant; --state says more than it."""
    monkeypatch.chdir(tmp_path)
    stack_file(tmp_path / ".scaling")
    monkeypatch.setenv("SCALING_KAFKA", "broker:9092")
    assert settings_of().kafka == "broker:9092"
    assert settings_of().clickhouse == load_settings().clickhouse
    assert settings_of(Path(".scaling")).kafka == "127.0.0.1:7001"


def test_an_interval_is_simultaneous_over_all_planted_laws(law: Make) -> None:
    """Six intervals share 5 %: each has 1 - 0.05 / 6, with n - 2 degrees of freedom."""
    book = LawBook()
    book.put(law(LAWS[0], 0.20, 0.01))
    found = compare(LAWS[0], book, 6)
    half = t_quantile(100, 1 - 0.05 / 6) * 0.01
    assert (found.lo, found.hi) == pytest.approx((0.20 - half, 0.20 + half), rel=1e-12)
    assert half > t_quantile(100) * 0.01
    assert found.covered
    book.put(law(LAWS[0], 0.20, 0.005, version=4))
    assert not compare(LAWS[0], book, 6).covered


def test_a_law_without_a_fit_is_not_compared(law: Make) -> None:
    """Neither a law that is not there nor one without an exponent counts as covered or not."""
    book = LawBook()
    with pytest.raises(NotEnoughData, match="there is no law"):
        compare(LAWS[0], book, 6)
    book.put(law(LAWS[0], None, 0.01))
    with pytest.raises(NotEnoughData, match="no power fit yet"):
        compare(LAWS[0], book, 6)


def test_a_lineage_covers_offsets_below_it(law: Make) -> None:
    """The next offset not seen must have reached the end of every partition."""
    seen = law(LAWS[0], 0.2, 0.01, lineage={"0": 10, "1": 5})
    assert covers(seen, {"0": 10, "1": 5})
    assert covers(seen, {"0": 9, "2": 0})
    assert not covers(seen, {"0": 10, "1": 6})
    assert not covers(seen, {"2": 1})


def test_chunks_are_cut_small_and_lose_nothing() -> None:
    """Every record stays in order with its line; the count goes on over files."""
    chunks = [Chunk(Path("a"), range(1, 251), [b"%d" % n for n in range(250)], 9), Chunk(Path("b"), [7], [b"x"], 9)]
    cut = list(sliced(chunks))
    assert [payload for chunk in cut for payload in chunk.payloads] == [*chunks[0].payloads, b"x"]
    assert [line for chunk in cut for line in chunk.lines] == [*range(1, 251), 7]
    assert [chunk.done for chunk in cut] == [100, 200, 250, 251]


def test_tables_say_what_is_known_and_dash_what_is_not(law: Make) -> None:
    """An exponent stands with its interval; a law without one has dashes, and brackets are not eaten as markup."""
    told = text(laws_table([law(LAWS[0], 0.2, 0.01), law(LAWS[1], None, 0.01)]))
    assert "0.200" in told
    assert "[0.180, 0.220]" in told
    assert told.count("–") >= 4  # noqa: RUF001 - the dash of the tables
    rows_of_values = [ValueRow(n=51, mean=0.5, lo=0.4, hi=0.6, x=8.0)]
    values = text(values_table(law(LAWS[0], 0.2, 0.01, values=rows_of_values)))
    assert "[0.4, 0.6]" in values


ANSWER = Allocation(
    decision_id="run-1",
    policy_version="reference:0",
    propensity=1.0,
    setting=Setting(2, 3, 8000, 1),
    expected={"total_cost": Estimate(0.5, 0.0, 0.5, 0.5), "time_to_complete": Estimate(90.0, 5.0, 80.0, 100.0)},
    objective="most_outcome",
    outcome="success",
    method=Method.REFERENCE,
    laws={"global|x|y|live": 7},
    binds=["budget", "limit agent_count"],
    overspend=0.25,
    runner_up=Alternative(Setting(1, 4, 8000, 1, "small"), 0.4, 0.3),
    reference=Alternative(Setting(3, 3, 9000, 2), 0.5, 0.6, 0.1),
)


def test_an_allocation_is_shown_with_its_laws() -> None:
    """What is not known is said, an overspend is said, and each law stands with its version."""
    told = text(allocation_table({"within 1 dollars": ANSWER}))
    for part in (
        "8,000 tokens",
        "success                  not known",
        "90 (80 to 100) seconds",
        "0.5 dollars",
        "25%",
        "budget, limit agent_count",
        "1 small x 4 iterations, 8,000 tokens, 1 at a time: 0.400 for 0.3000 dollars",
        "0.1000 over the budget",
        "global|x|y|live (version 7)",
        "run-1",
    ):
        assert part in " ".join(told.split("│")) or part in told


def test_allocations_stand_side_by_side() -> None:
    """A row that one of them lacks is empty there."""
    other = structs.replace(ANSWER, runner_up=None, setting=Setting(2, 3, 8000, 1, "large"), laws={})
    told = text(allocation_table({"one": ANSWER, "other": other}))
    for part in ("one", "other", "model size", "large", "none"):
        assert part in told


def test_what_is_wrong_with_a_question_is_said() -> None:
    """The message names the option and what to give."""
    for arguments, message in (
        (["allocate", "--budget", "1", "--pin", "agent_count=3"], "say why, with --reason"),
        (
            ["allocate", "--budget", "1", "--pin", "agents=3", "--reason", "x"],
            "give one of agent_count, max_iterations",
        ),
        (["allocate", "--target", "2"], "target"),
        (["allocate"], "give --budget, or --target, or --value"),
        (["allocate", "--budget", "1", "--native", "hal"], "give one of claude-agent-sdk"),
        (["override", "set", "o", "--reason", "x"], "give at least one --pin or --cap"),
        (["override", "set", "o", "--reason", "x", "--cap", "agent_count=2", "--context", "a=b"], "project=..."),
    ):
        said = " ".join(run(app, arguments, env={"COLUMNS": "300"}).output.split())
        assert message in said


def test_a_portfolio_is_read_line_by_line(tmp_path: Path) -> None:
    """A line that is no JSON object is named; so is a file without a task, or one that is a folder."""
    file = tmp_path / "tasks.jsonl"
    for content, message in (
        ('{"project": "a"}\n\n[]\n', "line 3 of"),
        ("\n", "has 0 tasks: give 1 to 1000"),
        ("{}\n" * 1001, "has 1001 tasks"),
    ):
        file.write_text(content)
        result = run(app, ["portfolio", str(file), "--budget", "1"], env={"COLUMNS": "400"})
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
    assert run(app, ["portfolio", str(tmp_path), "--budget", "1"]).exit_code == 2
    assert "line 1 of -" in " ".join(
        run(app, ["portfolio", "-", "--budget", "1"], input="7", env={"COLUMNS": "400"}).output.split()
    )


def test_an_override_outside_the_limits_is_refused() -> None:
    """Before it is published: the message names part, value and rule."""
    wrong = ["override", "set", "o", "--reason", "x", "--pin", "agent_count=9"]
    with pytest.raises(SettingsError, match="agent_count pin = 9: must be from 1 to 8"):
        run(app, wrong, catch_exceptions=False)
    with pytest.raises(SettingsError, match="override o! is not valid"):
        run(app, ["override", "set", "o!", "--reason", "x", "--pin", "agent_count=2"], catch_exceptions=False)


def test_the_download_is_read_from_what_deploy_says() -> None:
    """The bar follows the files of deploy.jars, whose message is looked up there; other messages move no bar."""
    source = (ROOT / "deploy" / "jars.py").read_text()
    assert "fetching jar {number} of {len(missing)}" in source
    assert fetched("Kafka: fetching jar 45 of 45 (scala-library), once") == (44, 45)
    assert fetched("Starting Kafka") == (0, None)


def test_dimensions_and_outcomes_are_the_choices() -> None:
    """The filters take the names that events and laws use."""
    said = run(app, ["laws", "--help"], env={"COLUMNS": "300"}).output
    assert all(name.value in said for name in (*Dimension, *Outcome))
