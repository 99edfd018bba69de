"""The commands: their help, their exit codes, what they print."""

import json
import os
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from agents.lawbook import LawBook
from analytics.allocation import Allocation
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
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData, StackError
from models.laws import Law, ValueRow
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


def test_an_allocation_is_shown_with_its_laws() -> None:
    """Unknown quality is said, an overspend is said, and each law stands with its version."""
    allocation = Allocation(2, 3, 8000, 1, None, 0.5, "reference", 0.1, {"global|x|y|live": 7}, "success", {}, {}, "")
    told = text(allocation_table({"within 1 dollars": allocation}))
    for part in ("8,000 tokens", "success not known", "0.1000 over the budget", "global|x|y|live (version 7)"):
        assert part in told


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
