"""Collecting runs for exploration: the same runs, values and contexts as the laws of those files have."""

import csv
import gzip
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from agents.exploration import Explorer
from agents.raw_laws import RawRuns
from analytics.exploration import explore
from analytics.learnable import learnable
from models.contexts import GLOBAL
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotEnoughData
from models.settings import load_settings

DATA = Path(__file__).parents[3] / "shared" / "data"
SETTINGS = load_settings(partitions=1)


def payloads(*events: Mapping[str, object]) -> list[bytes]:
    """Write events."""
    return [json.dumps(event).encode() for event in events]


def test_runs_are_counted_as_the_laws_count_them() -> None:
    """Duplicates, corrections and broken records are told apart; a run counts as its first event has it."""
    records = payloads(
        {"agent_run_id": "a", "agent_count": 2, "success": True, "project": "p"},
        {"agent_run_id": "a", "agent_count": 2, "success": True, "project": "p"},
        {"agent_run_id": "b", "agent_count": 4, "total_iterations": 8, "quality_score": 0.5},
        {"agent_run_id": "b", "revision": 1, "agent_count": 5},
        {"agent_run_id": "c", "agent_count": 0},
    )
    explorer, laws = Explorer(SETTINGS), RawRuns(SETTINGS)
    assert explorer.add(records) == laws.add(records)
    assert explorer.met == laws.met
    sample = explorer.sample()
    np.testing.assert_array_equal(sample.dimensions[Dimension.AGENT_COUNT, Basis.REALISED], [2, 4])
    np.testing.assert_array_equal(sample.dimensions[Dimension.ITERATIONS, Basis.REALISED], [np.nan, 2])
    np.testing.assert_array_equal(sample.outcomes[Outcome.SUCCESS], [1, np.nan])
    np.testing.assert_array_equal(sample.outcomes[Outcome.QUALITY_SCORE], [np.nan, 0.5])
    assert sample.groups["project"].tolist() == [0, -1]


def test_contexts_are_those_of_the_laws() -> None:
    """Each context has its rows; one alone can be taken; an unknown one is an error that names others."""
    explorer = Explorer(SETTINGS)
    explorer.add(payloads(*({"agent_run_id": str(n), "project": "web shop" if n % 3 else "b"} for n in range(9))))
    sample = explorer.sample()
    assert {name: len(rows) for name, rows in sample.contexts.items()} == {
        GLOBAL: 9,
        "project=b": 3,
        "project=web%20shop": 6,
    }
    one = explorer.sample("project=b")
    assert len(one) == 3
    assert list(one.contexts) == [GLOBAL]
    with pytest.raises(NotEnoughData, match="no run belongs to the context project=c: choose one of global"):
        explorer.sample("project=c")
    with pytest.raises(NotEnoughData, match="0 valid runs"):
        Explorer(SETTINGS).sample()


def test_real_repeated_trials_are_recognised() -> None:
    """Tau-bench: 50 tasks of four trials; the likeness of trials is that of the published pass^1 and pass^2."""
    file = DATA / "tau_bench_gpt4o_airline" / "events.jsonl.gz"
    if not file.exists():
        pytest.skip("the real runs of ../shared/data/tau_bench_gpt4o_airline are not on this machine")
    explorer = Explorer(SETTINGS)
    # Its complexity is a number of actions, not a share.
    lines = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    explorer.add(
        payloads(*({name: value for name, value in one.items() if name != "task_complexity"} for one in lines))
    )
    found = explore(explorer.sample())
    assert found.repeats is not None
    assert (found.runs, found.repeats.tasks, found.repeats.runs_per_task) == (200, 50, 4)
    p, both = 0.42, 0.2733
    (trials,) = found.trials
    published = {
        (row["dimension"].split()[-1], int(row["value"])): float(row["outcome"])
        for row in csv.DictReader((DATA / "tau_bench_gpt4o_airline" / "pass_hat_k.csv").read_text().splitlines())
        if row["context"].endswith("computed from the rows")
    }
    assert (trials.tasks, [rate.k for rate in trials.rates]) == (50, [1, 2, 3, 4])
    for rate in trials.rates:
        expected = published["(pass@k)", rate.k], published["(pass^k)", rate.k]
        assert (rate.any_of.estimate, rate.all_of.estimate) == pytest.approx(expected, abs=1e-5)
    assert trials.forecast is not None
    assert trials.forecast.lo < trials.rates[-1].any_of.estimate < trials.forecast.estimate < trials.forecast.hi
    told = learnable(found).can[-1]
    assert told.startswith(
        "50 tasks with at least 4 trials each: one trial solves 42 %, at least one of 4 solves 72 %, and all 4 solve "
        "20 %; of as many new tasks 8 trials would solve "
    )
    assert found.repeats.likeness == pytest.approx((both - p * p) / (p * (1 - p)), abs=0.01)


def test_real_confounding_is_found() -> None:
    """DyLAN: rounds are missing for nearly all teams of seven only, and team size goes with rounds used."""
    file = DATA / "dylan_mmlu_team_size" / "events.jsonl.gz"
    if not file.exists():
        pytest.skip("the real runs of ../shared/data/dylan_mmlu_team_size are not on this machine")
    explorer = Explorer(SETTINGS)
    lines = gzip.decompress(file.read_bytes()).splitlines()
    explorer.add(lines)
    found = explore(explorer.sample())
    events = list(map(json.loads, lines))
    teams = Counter(event["agent_count"] for event in events)
    without = Counter(event["agent_count"] for event in events if "total_iterations" not in event)
    large = [size for size in teams if size > 3]
    depends = next(one for one in found.missing if one.field == "iterations").depends_on
    on = next(one for one in depends if one.field == "agents")
    assert on.high_share == pytest.approx(sum(without[size] for size in large) / sum(teams[size] for size in large))
    assert on.low_share < 0.01
    linked = [(one.first, one.second) for one in found.associations if one.linked]
    assert linked == [("agents", "used iterations")]
    said = learnable(found)
    assert said.can[0] == "Agents from 2 to 7: a change of 3.3 points of success (11,236 runs) would show."
    assert any("set before the runs, say so with max_iterations" in text for text in said.mind)
