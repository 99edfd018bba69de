"""Laws from the rows themselves, against the live tier in memory and against counts by hand."""

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.decode import EventDecoder
from agents.intake import Met
from agents.observer import Observer
from agents.raw_laws import RawRuns, Wanted
from agents.refit import Refitter
from analytics.equality import compare_laws
from analytics.simulation import simulate
from analytics.world import World
from models.batches import Batch
from models.dimensions import Dimension, Outcome
from models.laws import Law
from models.settings import load_settings
from models.topics import RUNS, STATS

DATA = Path(__file__).parents[3] / "shared" / "data"
SETTINGS = load_settings(partitions=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
BUCKETED = {"adjusted", "drift"}
"""Parts that need time buckets, which rows by dimension do not have."""
STAMP = int(START.timestamp() * 1000) + 86_400_000


def live_laws(payloads: Sequence[bytes]) -> dict[str, Law]:
    """Fold the records into cells and fit the laws from those, as the stats worker does."""
    observer, refitter, count = Observer(0, SETTINGS, EventDecoder(SETTINGS)), Refitter(SETTINGS), len(payloads)
    observer.observe(Batch(RUNS, 0, range(count), [STAMP] * count, [None] * count, payloads, [()] * count))
    for record in observer.drain().records:
        if record.topic == STATS:
            refitter.stage(record.key or b"", record.value)
    return {law.law_id: law for law in refitter.fit(refitter.snapshot())}


def raw_laws(payloads: Sequence[bytes], chunk: int = 700, wanted: Wanted | None = None) -> dict[str, Law]:
    """Fit the same from the rows, taken in by chunks."""
    runs = RawRuns(SETTINGS)
    for start in range(0, len(payloads), chunk):
        runs.add(payloads[start : start + chunk])
    return {law.law_id: law for law in runs.laws(wanted or Wanted())}


def event(run: str, **fields: Any) -> bytes:  # noqa: ANN401 - any field
    """Write an event."""
    return json.dumps({"agent_run_id": run} | fields).encode()


def simulated() -> list[bytes]:
    """Two thousand runs with gaps: no size, no dose, zero tokens, zero cost, and runs that a policy decided."""
    events = list(simulate(World(), 2000, seed=3, start=START))
    for place, each in enumerate(events):
        if place % 7 == 0:
            del each["model_params_b"]
        if place % 5 == 0:
            del each["max_iterations"], each["context_budget"]
        if place % 11 == 0:
            each["total_cost"], each["context_tokens"] = 0.0, 0
        if place % 13 == 0:
            each["policy_version"] = "v1"
    return [json.dumps(each).encode() for each in events]


def assert_same(raw: dict[str, Law], live: dict[str, Law]) -> None:
    """The same laws, with the same fields but time, lineage and what the Grams of time buckets add."""
    assert raw.keys() == live.keys()
    for name, law in raw.items():
        assert compare_laws(law, msgspec.structs.replace(live[name], evidence=law.evidence)) == []
        assert (law.sources, law.settings_hash, law.tier) == (live[name].sources, live[name].settings_hash, "live")
        assert law.missing.keys() == live[name].missing.keys() - BUCKETED
        assert law.lineage == {}


def test_raw_laws_equal_the_live_laws_of_a_simulated_world() -> None:
    """Every context, dimension and outcome, with bins, categories, doses and zeros, comes out the same."""
    payloads = simulated()

    assert_same(raw_laws(payloads), live_laws(payloads))


def test_without_doses_the_realised_counts_are_used_and_binned() -> None:
    """A law falls back to the second basis where the first has no two values, exactly as the live tier does."""
    payloads = []
    for each in simulate(World(), 900, seed=4, start=START):
        each["max_iterations"], each["model_params_b"] = 5, 8.0
        del each["context_budget"]
        payloads.append(json.dumps(each).encode())
    raw = raw_laws(payloads)

    assert_same(raw, live_laws(payloads))
    bases = {law.dimension: law.basis for law in raw.values() if law.context == "global"}
    assert (bases["iterations"], bases["context"], bases["model_size"]) == ("realised", "realised", "category")


@pytest.mark.parametrize("folder", ["dylan_mmlu_team_size", "tau_bench_gpt4o_airline"])
def test_raw_laws_equal_the_live_laws_of_published_runs(folder: str) -> None:
    """Real runs give the same laws by both ways."""
    path = DATA / folder / "events.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the public runs of {folder} are not beside the project")
    payloads = gzip.decompress(path.read_bytes()).splitlines()

    assert_same(raw_laws(payloads, chunk=4000), live_laws(payloads))


def test_means_are_those_of_the_runs() -> None:
    """Success by agent count is counted by hand; a value without the outcome does not count."""
    runs = [(1, True), (1, False), (2, True), (2, True), (2, False), (4, None)]
    payloads = [event(f"r{at}", agent_count=x, success=y) for at, (x, y) in enumerate(runs)]

    law = raw_laws(payloads, wanted=Wanted("global", Dimension.AGENT_COUNT, Outcome.SUCCESS))
    rows = law["global|agent_count|success|live"].values
    assert [(row.x, row.n, row.mean) for row in rows] == [(1, 2, 0.5), (2, 3, pytest.approx(2 / 3))]
    assert len(law) == 1


def test_a_law_wanted_alone_is_the_same() -> None:
    """The cost law prices the knees of the others whether it is wanted too or not."""
    payloads = simulated()
    wanted = Wanted("global", Dimension.ITERATIONS, Outcome.QUALITY_SCORE)
    ((name, alone),) = raw_laws(payloads, wanted=wanted).items()
    together = raw_laws(payloads, wanted=Wanted("global", Dimension.ITERATIONS))[name]

    assert alone.knee is not None
    assert "by the cost law" in alone.knee.rule
    assert (alone.knee, alone.published) == (together.knee, together.published)


def test_the_first_event_of_a_run_counts() -> None:
    """A repeated record is a duplicate, a changed one a correction that the laws leave out."""
    runs = RawRuns(SETTINGS)
    first = event("a", agent_count=1, success=True)
    rejections = runs.add([first, b"no json", event("a", agent_count=2, success=True), first])
    rejections += runs.add([first, event("b", agent_count=-1)])

    assert runs.met == Met(accepted=1, duplicate=1, corrected=2, rejected=2)
    assert [rejection.index for rejection in rejections] == [1, 1]
    assert [law.n for law in runs.laws(Wanted("global"))] == [1]


def test_without_runs_there_are_no_laws() -> None:
    """Nothing in, nothing out."""
    assert list(RawRuns(SETTINGS).laws()) == []
