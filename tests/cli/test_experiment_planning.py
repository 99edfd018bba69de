"""`scaling experiment plan` and `suggest`: which experiments, from which runs, and what is printed."""

import asyncio
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from msgspec import structs
from rich.console import Console
from typer.testing import CliRunner, Result

from agents.definitions import canonical
from agents.raw_laws import RawRuns, Wanted
from analytics.experiment_value import Outlook
from analytics.experiment_value import suggest as rank
from analytics.published import Fitting
from analytics.ready_made import READY_MADE
from analytics.simulation import simulate
from analytics.world import World
from cli.experiment_planning import (
    COLUMNS,
    PastRuns,
    by_context,
    chosen,
    days_of,
    describe,
    document,
    plan,
    plan_table,
    plans_of,
    row_of,
    suggest,
    suggestion_table,
)
from deploy.machine import claim_port
from models.contexts import complexity_band
from models.dimensions import Dimension, Outcome
from models.errors import InvalidExperiment, NotReachable
from models.settings import Settings, load_settings
from streams.clickhouse import ClickHouseSink, apply_schema

app = typer.Typer()
app.command("plan")(plan)
app.command("suggest")(suggest)
SETTINGS = load_settings()


def run(*arguments: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def text(*renderables: object) -> str:
    """Render as a wide file would get it."""
    file = StringIO()
    Console(width=250, file=file).print(*renderables)
    return file.getvalue()


@pytest.fixture(scope="module")
def events() -> list[dict[str, Any]]:
    """Give 3,000 runs of a day."""
    return list(simulate(World(), 3000, seed=4, start=datetime(2026, 3, 1, tzinfo=UTC)))


def stored(event: dict[str, Any]) -> dict[str, Any]:
    """Give an event as a row of the view."""
    row: dict[str, Any] = {name: event.get(name) for name in COLUMNS}
    completed = datetime.fromisoformat(event["completed_at"])
    return row | {"completed_at": completed, "project_characteristics": '{"team": "red", "size": 8.0, "old": true}'}


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Point ClickHouse and Kafka at a port that nobody answers on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("SCALING_CLICKHOUSE", f"http://{address}")
        monkeypatch.setenv("SCALING_KAFKA", address)
        yield address


def test_all_ready_made_are_planned_the_cheapest_first() -> None:
    """Without a name every ready-made experiment has a row; model size has three values and comes first."""
    plans = plans_of(list(READY_MADE.values()), PastRuns(), SETTINGS)
    assert {each.experiment_id for each in plans} == set(READY_MADE)
    assert [each.dollars for each in plans] == sorted(each.dollars for each in plans)
    assert plans[0].experiment_id == "model_size"
    told = text(plan_table(plans))
    for name in READY_MADE:
        assert name in told
    assert "$475 [$238, $950]" in told
    assert "20 points" in told
    assert "sequential" in told


def test_one_plan_is_told_with_its_warnings_and_assumptions() -> None:
    """What it asks, what both rules see, what to mind, and what no run told."""
    definition = structs.replace(READY_MADE["agent_count"], minimum_effect=0.1)
    (found,) = plans_of([definition], PastRuns(), SETTINGS)
    file = StringIO()
    describe(definition, found, Console(width=200, file=file))
    told = file.getvalue()
    assert "Agent Count Scaling: Success rate improves logarithmically with agent count" in told
    assert "200 runs at each of 1, 2, 3, 4, 6 and 8, assigned by blocks" in told
    assert "one look at the planned size: power 0.65, detectable 11.9 points, flat 0.52" in told
    assert "any look: power 0.25, detectable 16.5 points, flat 0.00" in told
    assert "mind: It sees its minimum effect (10 points) in 25% of cases: 546 runs a value" in told
    assert "A success rate of 0.6 is assumed" in told


def test_past_runs_replace_assumptions(events: list[dict[str, Any]]) -> None:
    """With a day of runs the plan has days and costs of its own, and switchbacks count their blocks."""
    past = PastRuns([row_of(stored(event)) for event in events])
    plans = {each.experiment_id: each for each in plans_of(list(READY_MADE.values()), past, SETTINGS)}
    agents = plans["agent_count"]
    matching = [event for event in events if event["task_complexity"] >= 0.5]
    # 480 tasks come again and again, each fills one place only.
    tasks = len({event["task_id"] for event in matching})
    assert agents.seconds == pytest.approx(1200 / tasks * days_of(past.rows) * 86_400)
    paid = [(event["agent_count"], event["total_cost"]) for event in matching if "total_cost" in event]
    by_value = {x: [cost for agents, cost in paid if agents == x] for x in (1, 2, 3, 4, 6, 8)}
    assert agents.dollars == pytest.approx(200 * sum(sum(costs) / len(costs) for costs in by_value.values()))
    blocks = plans["parallelism_level"].blocks
    assert blocks is not None
    assert blocks > 48
    assert not any("assumed" in note for note in agents.notes)
    assert "–" not in text(plan_table([agents]))  # noqa: RUF001 - the dash of what is not known


def test_a_definition_may_come_from_a_file(tmp_path: Path) -> None:
    """Files are planned beside names; what is wrong with one is said."""
    path = tmp_path / "mine.json"
    fields = json.loads(canonical(READY_MADE["attempts"])) | {"experiment_id": "mine"}
    path.write_text(json.dumps(fields))
    assert [each.experiment_id for each in chosen(["context", str(path)], {})] == ["context", "mine"]
    assert chosen(["mine"], {"mine": READY_MADE["context"]}) == [READY_MADE["context"]]
    path.write_text(json.dumps(fields | {"control_value": 9}))
    with pytest.raises(InvalidExperiment, match="control_value = 9"):
        chosen([str(path)], {})
    path.write_text("{")
    with pytest.raises(InvalidExperiment, match=r"mine.json cannot be read"):
        chosen([str(path)], {})
    with pytest.raises(
        InvalidExperiment, match=r"there is no experiment agents: choose one of agent_count, iterations"
    ):
        chosen(["agents"], {})


@pytest.mark.usefixtures("nowhere")
def test_without_clickhouse_plans_go_by_assumptions() -> None:
    """The reason is told beside the table and in the document."""
    result = run("plan")
    assert result.exit_code == 0, result.output
    assert "ClickHouse does not answer" in result.stderr
    assert "Plans go by assumptions alone." in result.stderr
    assert "Experiments, planned" in result.stdout
    found = json.loads(run("plan", "agent_count", "--json").stdout)
    assert found["runs"] == 0
    assert "ClickHouse does not answer" in found["reason"]
    (one,) = found["plans"]
    assert one["power"] == one["sequential"]["power"] == pytest.approx(0.952, abs=0.001)
    assert one["detectable_effect"] == pytest.approx(0.165, abs=0.001)
    assert one["equivalence_power"] == pytest.approx(0.904, abs=0.001)
    assert one["seconds"] is None
    assert one["warnings"] == []


@pytest.mark.usefixtures("nowhere")
def test_suggestions_need_laws_and_runs() -> None:
    """What does not answer is named."""
    assert isinstance(run("suggest").exception, NotReachable)


def test_the_document_of_a_plan_has_its_own_rules_figures() -> None:
    """A fixed plan's power is that of one look."""
    (found,) = plans_of([READY_MADE["context"]], PastRuns(), SETTINGS)
    told = document(found)
    assert told["power"] == told["sequential"]["power"]
    assert told["dimension"] == "context"
    assert orjson.loads(orjson.dumps(told))["runs"] == 1000


def test_runs_belong_to_the_contexts_that_their_laws_have(events: list[dict[str, Any]]) -> None:
    """Contexts and their sizes are those of the laws of the same runs, characteristics of any type among them."""
    keys = [["project"], ["task_type", "model"], ["complexity_band"], ["team"], ["size"], ["old"], ["none"]]
    settings = load_settings(context_keys=keys, bootstrap_draws=100)
    more = {"team": "red", "size": 8.0, "old": True}
    raw = RawRuns(settings)
    raw.add([orjson.dumps(event | {"project_characteristics": more}) for event in events])
    wanted = Wanted(None, Dimension.AGENT_COUNT, Outcome.SUCCESS)
    sizes = {law.context: law.n for law in raw.laws(wanted)}
    found = by_context([row_of(stored(event)) for event in events], settings)
    assert {context: len(rows) for context, rows in found.items()} == sizes
    assert {"size=8.0", "old=True", "global"} < set(found)
    assert by_context([], settings) == {"global": []}
    assert days_of([]) == 0


def test_suggestions_are_printed_with_their_contexts(events: list[dict[str, Any]]) -> None:
    """A row each: where, on what evidence, what is best now, what is saved and what it costs."""
    raw = RawRuns(load_settings(bootstrap_draws=100))
    raw.add([orjson.dumps(event) for event in events])
    laws = list(raw.laws())
    rows = [row_of(stored(event)) for event in events]
    outlook = Outlook(by_context(rows, SETTINGS), days_of(rows), Fitting(value_of_success=5.0))
    found = rank(laws, outlook)
    counted = Counter(each.dimension for each in found)
    assert set(counted) == set(Dimension)
    told = text(suggestion_table(found))
    for name in ("project atlas", "task type bugfix", "all runs", "associational", "at most"):
        assert name in told
    first = found[0]
    assert first.per_dollar == max(each.per_dollar for each in found)
    assert first.sentence.endswith(f"costs ${first.dollars:,.0f}.")
    assert all(each.saving <= each.most * (1 + 1e-9) for each in found)


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]]) -> Iterator[Settings]:
    """The runs in an embedded ClickHouse."""
    port = claim_port("ClickHouse", 0)
    state = tmp_path_factory.mktemp("clickhouse")
    server = subprocess.Popen([sys.executable, "-m", "deploy.clickhouse", "--state", str(state), "--port", str(port)])
    settings = load_settings(clickhouse=f"http://127.0.0.1:{port}")
    try:
        asyncio.run(fill(settings, events))
        yield settings
    finally:
        server.terminate()
        server.wait(30)


async def fill(settings: Settings, events: list[dict[str, Any]]) -> None:
    """Create the schema and insert the runs."""
    await apply_schema(settings)
    sink = ClickHouseSink(settings)
    rows = [stored(event) for event in events]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in COLUMNS}
    columns["completed_at"] = [int(row["completed_at"].timestamp() * 1000) for row in rows]
    columns["complexity_band"] = [complexity_band(row["task_complexity"]) for row in rows]
    await sink.insert("scaling_observations", columns | {"version": [1] * len(rows)})
    await sink.close()


@pytest.mark.stack
def test_stored_runs_give_the_plan_of_their_events(
    clickhouse: Settings, events: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view gives back what was published: the same plans, to the last digit of their sums."""
    monkeypatch.setenv("SCALING_CLICKHOUSE", clickhouse.clickhouse)
    result = run("plan", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["runs"], found["reason"]) == (3000, "")
    past = PastRuns([row_of(stored(event)) for event in events])
    expected = [document(each) for each in plans_of(list(READY_MADE.values()), past, SETTINGS)]
    for told, known in zip(found["plans"], expected, strict=True):
        assert told["experiment_id"] == known["experiment_id"]
        assert told["notes"] == list(known["notes"])
        for name in ("power", "dollars", "dollars_hi", "seconds", "standard_error"):
            assert told[name] == pytest.approx(known[name], rel=1e-9)
