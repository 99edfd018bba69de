"""Faults of every kind at random moments, and everything that comes of them compared exactly.

A scenario prints its seed. `SCALING_FAULT_SEED=17 pytest -m faults tests/faults/test_random_faults.py -k random` runs
the schedule of a seed again.
"""

import os
from pathlib import Path

import pytest

from tests.faults.harness import settings_under_faults
from tests.faults.scenario import run_scenario
from tests.faults.schedule import killed, long_outages, outage, random_faults, storm

FAULTS = 20
FIXED_SEEDS = tuple(range(20261101, 20261111))
CHOSEN = os.environ.get("SCALING_FAULT_SEED")
SEEDS = (int(CHOSEN),) if CHOSEN else FIXED_SEEDS


@pytest.mark.stack
@pytest.mark.timeout(500)
async def test_a_handful_of_faults_changes_nothing(tmp_path: Path) -> None:
    """Kills, a refusing ClickHouse, a frozen broker, corrections and poison on one stack: nothing differs."""
    faults = [
        killed("kill of a stats worker", "stats-0"),
        storm("poison of every kind", lambda records: records.poison, 60),
        outage("ClickHouse refuses inserts", lambda stack: stack.refusing_inserts(), 1.5),
        storm("corrections", lambda records: records.correction, 200),
        killed("kill of archive and ClickHouse", "archive", "clickhouse"),
        storm("wrong partitions", lambda records: records.misplaced, 100),
        outage("broker frozen", lambda stack: stack.frozen("kafka"), 1.5),
    ]
    findings = await run_scenario("a handful", tmp_path, 20261100, faults, laws=2)
    assert findings.differences == []
    assert min(findings.duplicates, findings.corrections, findings.rejected) > 0


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
async def test_random_faults_change_nothing(tmp_path: Path, seed: int) -> None:
    """Twenty faults of twenty kinds on one long-lived stack: nothing differs."""
    faults = random_faults(seed, FAULTS, settings_under_faults().session_seconds)
    findings = await run_scenario("random", tmp_path, seed, faults)
    assert findings.differences == []


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("place", range(2))
async def test_long_outages_lose_nothing(tmp_path: Path, place: int) -> None:
    """Ten outages of 30 s and more, five on each stack: nothing differs."""
    faults = long_outages()[5 * place : 5 * place + 5]
    findings = await run_scenario("long outages", tmp_path, 20261120 + place, faults)
    assert findings.differences == []
