import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from agents.definitions import check_definition, digest
from agents.experiment_law import context_laws, contexts_spoken_for, experiment_law, law_tier
from agents.experiment_records import Snapshot
from agents.fitting import fitting_of
from agents.lawbook import LawBook
from analytics.equality import compare_laws
from analytics.ready_made import READY_MADE
from analytics.rows import fit_rows
from models.dimensions import BASES, Dimension, Outcome
from models.errors import NotEnoughData
from models.experiments import Assignment, Definition, Joined, Notes, Sealed, Status, StatusRecord
from models.laws import Drift, Law
from models.settings import load_settings

SETTINGS = load_settings()
NOW = 1_800_000_000.0
VALUES = (1.0, 2.0, 4.0)
BANDS = ("medium", "high")


def snapshot_of(definition: Definition, runs: int, *, contexts: bool = True) -> Snapshot:
    """Make an experiment whose runs did something else than they were assigned: that must not matter."""
    rng = np.random.default_rng(7)
    assignments = []
    for number in range(runs):
        value, band = VALUES[number % 3], BANDS[number // 3 % 2]
        run = Joined(
            f"r{number}",
            NOW,
            (0, number),
            actual_value=1.0,
            success=float(rng.random() < 0.4 + 0.1 * np.log2(value)),
            total_cost=value / 10,
        )
        assignments.append(
            Assignment(
                definition.experiment_id,
                1,
                f"a{number}",
                digest(definition),
                f"task=t{number}",
                value,
                "s",
                number // 3,
                number % 3,
                1 / 3,
                [1 / 3] * 3,
                NOW + number,
                "",
                contexts=["global", f"complexity_band={band}", "project=atlas"] if contexts else [],
                run=run,
            )
        )
    sealed = Sealed(definition, 1, digest(definition), None, "", "", "")
    status = StatusRecord(definition.experiment_id, 1, Status.RUNNING, "", "", "")
    return Snapshot(sealed, status, Notes(), tuple(assignments), None, None, (), final=False)


@pytest.fixture
def definition() -> Definition:
    """The agent count experiment on tasks of medium complexity and above, with three values."""
    fields = {"values_tested": list(VALUES), "planned_per_value": 1000}
    return check_definition(replace(READY_MADE["agent_count"], **fields))


def test_the_law_is_that_of_the_raw_rows_by_assigned_value(definition: Definition) -> None:
    """It equals the row-wise fit, is randomised, and stands in a context of its own."""
    snapshot = snapshot_of(definition, 600)
    law = experiment_law(snapshot, SETTINGS, NOW)
    runs = [(each.value, each.run) for each in snapshot.assignments]
    x = np.array([float(value) for value, _ in runs])
    cost = np.array([run.total_cost for _, run in runs if run], np.float64)
    success = np.array([run.success for _, run in runs if run], np.float64)
    heading: dict[str, Any] = {
        "context": "experiment=agent_count",
        "dimension": Dimension.AGENT_COUNT,
        "basis": BASES[Dimension.AGENT_COUNT][0],
        "sources": ["experiment agent_count"],
        "lineage": {},
        "settings_hash": SETTINGS.validation_hash,
        "fitted_at": law.fitted_at,
        "tier": "experiment",
    }
    none = np.zeros(len(x), np.bool_)
    fitting = fitting_of(SETTINGS)
    costs = fit_rows(x, cost, none, x, fitting=fitting, outcome=Outcome.TOTAL_COST, **heading)
    rows = fit_rows(x, success, none, x, fitting=fitting, cost=costs.published, outcome=Outcome.SUCCESS, **heading)
    assert law.evidence == "randomised"
    assert law.law_id == "experiment=agent_count|agent_count|success|experiment"
    differences = [each for each in compare_laws(law, rows) if not each.startswith("evidence")]
    assert differences == []
    assert law.reference.power is not None
    assert law.knee is not None
    assert [row.n for row in law.reference.success_rate_by_value] == [200, 200, 200]


def test_it_speaks_for_the_contexts_all_of_whose_tasks_take_part(definition: Definition) -> None:
    """Bands from medium up, not a project, which has easy tasks too, nor all runs; and only from 30 runs on."""
    snapshot = snapshot_of(definition, 600)
    assert contexts_spoken_for(snapshot) == ["complexity_band=high", "complexity_band=medium"]
    laws = context_laws(snapshot, SETTINGS, NOW)
    assert [law.law_id for law in laws] == [
        f"complexity_band={band}|agent_count|success|experiment:agent_count" for band in ("high", "medium")
    ]
    assert [law.n for law in laws] == [300, 300]
    assert {law.tier for law in laws} == {law_tier(definition)}
    assert context_laws(snapshot_of(definition, 150), SETTINGS, NOW) == []
    assert context_laws(snapshot_of(definition, 600, contexts=False), SETTINGS, NOW) == []


def test_an_experiment_on_all_tasks_speaks_for_all_contexts(definition: Definition) -> None:
    """Without a filter there is no task that does not take part."""
    snapshot = snapshot_of(replace(definition, context_filter={}), 600)
    assert "global" in contexts_spoken_for(snapshot)
    assert "project=atlas" in contexts_spoken_for(snapshot)


def test_before_the_first_outcome_there_is_no_law(definition: Definition) -> None:
    """That is said, not filled in."""
    with pytest.raises(NotEnoughData, match="no measured run"):
        experiment_law(snapshot_of(definition, 0), SETTINGS, NOW)


def by_time(definition: Definition, outcome: Outcome) -> Snapshot:
    """Make a switchback of 60 time blocks, each with a level of its own and a number of runs of its own."""
    rng = np.random.default_rng(8)
    definition = check_definition(
        replace(definition, assignment="switchback", outcome=outcome, context_filter={}, washout_seconds=0)
    )
    made = []
    for block in range(60):
        value, level = VALUES[block % 3], rng.normal(0, 0.3)
        for place in range(int(rng.integers(3, 9))):
            time = float(np.exp(4 - 0.3 * np.log(value) + level + rng.normal(0, 0.1)))
            run = Joined(f"r{block}-{place}", NOW, (0, place), 1.0, 1.0, 0.5, time_to_complete=time, total_cost=value)
            at = NOW + 1800 * block + place
            made.append(
                Assignment(
                    "agent_count", 1, f"a{block}-{place}", digest(definition), "u", value, "s", block, place, 1 / 3,
                    [1 / 3] * 3, at, "", contexts=["global"], run=run,
                )
            )  # fmt: skip
    sealed = Sealed(definition, 1, digest(definition), None, "", "", "")
    status = StatusRecord(definition.experiment_id, 1, Status.RUNNING, "", "", "")
    return Snapshot(sealed, status, Notes(), tuple(made), None, None, (), final=False)


def test_the_law_of_a_switchback_rests_on_its_time_blocks(definition: Definition) -> None:
    """It is the row-wise fit of the geometric means of the blocks: a block counts once, however many runs it had."""
    snapshot = by_time(definition, Outcome.TIME_TO_COMPLETE)
    law = experiment_law(snapshot, SETTINGS, NOW)
    blocks: dict[int, tuple[float, list[float]]] = {}
    for each in snapshot.assignments:
        assert each.run is not None
        blocks.setdefault(each.block, (float(each.value), []))[1].append(each.run.time_to_complete or 0.0)
    x = np.array([value for value, _ in blocks.values()])
    y = np.array([np.exp(np.log(times).mean()) for _, times in blocks.values()])
    heading: dict[str, Any] = {
        "context": "experiment=agent_count",
        "dimension": Dimension.AGENT_COUNT,
        "basis": BASES[Dimension.AGENT_COUNT][0],
        "sources": ["experiment agent_count", "means of time blocks"],
        "lineage": {},
        "settings_hash": SETTINGS.validation_hash,
        "fitted_at": law.fitted_at,
        "tier": "experiment",
    }
    none = np.zeros(len(x), np.bool_)
    fitting = fitting_of(SETTINGS)
    costs = fit_rows(x, x, none, x, fitting=fitting, outcome=Outcome.TOTAL_COST, **heading)
    rows = fit_rows(x, y, none, x, fitting=fitting, cost=costs.published, outcome=Outcome.TIME_TO_COMPLETE, **heading)
    assert [each for each in compare_laws(law, rows) if not each.startswith("evidence")] == []
    assert law.sources == ["experiment agent_count", "means of time blocks"]
    assert (law.n, [row.n for row in law.values]) == (60, [20, 20, 20])


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        ("switchback", Outcome.SUCCESS),
        ("neyman", Outcome.SUCCESS),
        ("thompson", Outcome.SUCCESS),
        ("neyman", Outcome.QUALITY_SCORE),
        ("thompson", Outcome.TIME_TO_COMPLETE),
    ],
)
def test_runs_that_are_not_independent_have_no_law(definition: Definition, rule: Any, outcome: Outcome) -> None:  # noqa: ANN401
    """Shares of success are no successes, and adaptive draws look at outcomes: the reason names the assignment."""
    made = check_definition(replace(definition, assignment=rule, outcome=outcome, washout_seconds=0))
    with pytest.raises(NotEnoughData) as refused:
        experiment_law(snapshot_of(made, 600), SETTINGS, NOW)
    assert str(refused.value) == (
        f"a law takes runs as independent, which those of assignment = {rule} are not: effect and contrasts are what "
        "holds"
    )


def test_runs_that_are_not_independent_speak_for_no_context(definition: Definition) -> None:
    """Neither time blocks nor adaptive draws have laws of contexts, however many runs there are."""
    assert len(context_laws(snapshot_of(definition, 600), SETTINGS, NOW)) == 2
    for rule in ("switchback", "neyman", "thompson"):
        made: Definition = replace(definition, assignment=rule)
        assert contexts_spoken_for(snapshot_of(made, 600))
        assert context_laws(snapshot_of(made, 600), SETTINGS, NOW) == []
    assert context_laws(by_time(definition, Outcome.TIME_TO_COMPLETE), SETTINGS, NOW) == []
    fewest: Definition = replace(definition, assignment="least")
    assert len(context_laws(snapshot_of(fewest, 600), SETTINGS, NOW)) == 2


def test_a_law_bears_the_number_of_its_look(definition: Definition) -> None:
    """It goes on from the looks at earlier versions, so that a law book takes it after theirs."""
    first = snapshot_of(definition, 300)
    second = dataclasses.replace(first, looks_before=7, sealed=replace(first.sealed, version=2))
    laws = [experiment_law(each, SETTINGS, NOW) for each in (first, second)]
    assert [(law.version, law.epoch) for law in laws] == [(1, 1), (8, 2)]
    book = LawBook()
    for law in (*laws, laws[0]):
        book.put(law)
    assert book.get("experiment=agent_count", Dimension.AGENT_COUNT, Outcome.SUCCESS, "experiment") == laws[1]


def test_the_law_of_an_experiment_speaks_first(definition: Definition, make_law: Callable[..., Law]) -> None:
    """Of several the one with most runs; not once a live alarm has sounded since; its tombstone silences it."""
    (high, _) = context_laws(snapshot_of(definition, 600), SETTINGS, NOW)
    book = LawBook()
    context = "complexity_band=high"
    where = (context, Dimension.AGENT_COUNT, Outcome.SUCCESS)
    live = make_law(Dimension.AGENT_COUNT, Outcome.SUCCESS, context=context, runs=(1000, 1000))
    book.put(live)
    assert book.speaking(*where) == live
    book.put(high)
    assert book.speaking(*where) == high
    assert book.choose([context], Dimension.AGENT_COUNT, Outcome.SUCCESS) == high
    larger = replace(high, law_id=high.law_id + "-2", tier=high.tier + "-2", n=high.n + 1)
    book.put(larger)
    assert book.speaking(*where) == larger
    book.delete(larger.law_id)
    assert book.speaking(*where) == high
    book.put(
        replace(
            live, version=2, drift=Drift(alarm=True, evidence=1e5, limit=1e4, buckets=10, since="2099-01-01T00:00:00Z")
        )
    )
    assert book.speaking(*where) is not high
