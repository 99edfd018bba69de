"""181,935 real runs through the whole system: counts, published rates, laws, and the same import twice."""

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from analytics.equality import compare_laws
from deploy.stack import Stack, StackOptions, environment
from models.laws import Law
from models.settings import Settings, load_settings

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "mint_bench"
RUNS = 181_935
RATES = 266

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not DATA.exists(), reason="the real runs of ../shared/data/mint_bench are not on this machine"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A whole embedded stack with two stats workers."""
    options = StackOptions(state=tmp_path_factory.mktemp("mint"), workers=2, kafka_port=0, clickhouse_port=0)
    stack = Stack(options, load_settings())
    try:
        yield await stack.start()
    finally:
        await stack.stop()


def scaling(settings: Settings, *arguments: str) -> str:
    """Run a command of the CLI against the stack and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        env=os.environ | environment(settings),
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def import_mint(settings: Settings) -> dict[str, int]:
    """Import the runs with the turn limit marked as the dose that it is."""
    file = str(DATA / "events.jsonl.gz")
    answer: dict[str, int] = json.loads(
        scaling(settings, "import", "--map", "max_iterations=total_iterations", "--json", file)
    )
    return answer


def laws(settings: Settings) -> dict[str, Law]:
    """Read all current live laws."""
    found = msgspec.convert(json.loads(scaling(settings, "laws", "--tier", "live", "--json")), list[Law])
    return {law.law_id: law for law in found}


def settled_laws(settings: Settings, expected: dict[str, Law]) -> dict[str, Law]:
    """Read the laws once the refitter has seen as many runs as the rows hold."""
    deadline = time.monotonic() + 60
    while True:
        found = laws(settings)
        behind = {key for key, law in expected.items() if key not in found or found[key].n < law.n}
        if not behind:
            return found
        assert time.monotonic() < deadline, f"laws that were not refitted: {sorted(behind)[:5]}"
        time.sleep(settings.refit_seconds)


def rows(settings: Settings, sql: str) -> list[dict[str, str]]:
    """Query ClickHouse."""
    return list(csv.DictReader(scaling(settings, "query", sql, "--format", "CSVWithNames").splitlines()))


def published_name(model: str) -> str:
    """Write a model as the authors' table does."""
    return model.removesuffix("-hf").replace("agentlm", "AgentLM").replace("lemur", "Lemur").removesuffix("-llama-2")


async def test_mint_from_import_to_laws(running: Settings) -> None:
    """Every run is counted once, in every place, and a second import of the same file changes nothing."""
    first = import_mint(running)
    assert (first["accepted"], first["duplicate"], first["rejected"]) == (RUNS, 0, 0)
    assert rows(running, "SELECT count() AS n FROM observations") == [{"n": str(RUNS)}]
    expected = raw_laws()
    before = settled_laws(running, expected)

    check_published_rates(running)
    check_value_tables(running, before)
    assert before.keys() == expected.keys()
    assert [line for key, law in before.items() for line in compare_laws(law, expected[key])] == []

    second = import_mint(running)
    assert (second["accepted"], second["duplicate"], second["rejected"]) == (0, RUNS, 0)
    assert rows(running, "SELECT count() AS n FROM observations") == [{"n": str(RUNS)}]
    assert laws(running) == before


def check_published_rates(settings: Settings) -> None:
    """Success by turn limit for each model equals the authors' 266 published rates to their two decimals."""
    sql = (
        "SELECT model, max_iterations AS k, 100 * avg(success) AS rate FROM observations "
        "WHERE NOT JSONHas(project_characteristics, 'feedback_provider') GROUP BY model, k"
    )
    found = {(published_name(row["model"]), row["k"]): float(row["rate"]) for row in rows(settings, sql)}
    with (DATA / "published_benchmark_table.csv").open() as file:
        published = {
            (row["model"], str(k)): float(row[f"sr_k{k}"])
            for row in csv.DictReader(file)
            for k in range(1, 6)
            if row[f"sr_k{k}"] not in {"", "-"}
        }
    assert len(published) == RATES
    assert {key: f"{found[key]:.2f}" for key in published} == {key: f"{rate:.2f}" for key, rate in published.items()}


def check_value_tables(settings: Settings, found: dict[str, Law]) -> None:
    """In the contexts by model, the table inside each law equals the same GROUP BY: n exactly, means to 1e-12."""
    sql = "SELECT model, max_iterations AS k, count() AS n, avg(success) AS mean FROM observations GROUP BY model, k"
    grouped = {(row["model"], float(row["k"])): (int(row["n"]), float(row["mean"])) for row in rows(settings, sql)}
    tabled = {
        (law.context.removeprefix("model="), value.x): (value.n, value.mean)
        for law in found.values()
        if law.context.startswith("model=") and (law.dimension, law.outcome) == ("iterations", "success")
        for value in law.values
    }
    assert tabled.keys() == grouped.keys()
    for key, (n, mean) in grouped.items():
        assert tabled[key][0] == n
        assert tabled[key][1] == pytest.approx(mean, rel=1e-12, abs=1e-12)


def raw_laws() -> dict[str, Law]:
    """Fit the laws to the rows themselves, without cells and without Kafka."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "cli.main", "fit", "--json", "--map", "max_iterations=total_iterations"),
            str(DATA / "events.jsonl.gz"),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return {law.law_id: law for law in msgspec.convert(json.loads(done.stdout)["laws"], list[Law])}
