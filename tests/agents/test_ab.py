"""A/B tests: who takes part, in which arm, and how a test's records add up."""

import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from agents.ab import arm_of, covering, latest, probability, running, takes_part, unit_of
from models.allocations import ABTest, Arm, Setting

TEST = ABTest("spring", Setting(3, 5, 32000, 3), "ada", "worth it?", "2026-03-01T08:00:00Z")

replace = structs.replace


def share_of(test: ABTest, units: range) -> float:
    """Give the share of units in the dynamic arm."""
    return float(np.mean([arm_of(test, f"task-{unit}") is Arm.DYNAMIC for unit in units]))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
def test_arms_have_their_shares(share: float) -> None:
    """Of 20,000 tasks the share in the dynamic arm is the test's, as of independent draws."""
    test = replace(TEST, share=share)
    k = round(20_000 * share_of(test, range(20_000)))
    assert stats.binomtest(k, 20_000, share).pvalue > 1e-4
    assert probability(test, Arm.DYNAMIC) + probability(test, Arm.FIXED) == 1


def test_a_task_is_always_in_the_same_arm() -> None:
    """The arm depends on the test and the task alone; the pinned draws make sure that no release moves tasks."""
    drawn = [arm_of(TEST, f"task-{unit}").value[0] for unit in range(24)]
    assert drawn == [arm_of(replace(TEST, reason="another"), f"task-{unit}").value[0] for unit in range(24)]
    assert "".join(drawn) == "fffdfdffdfdfffdfdfdfdddf"


def test_tests_draw_independently() -> None:
    """Which arm a task was in tells nothing about its arm in the next test."""
    other = replace(TEST, test_id="summer")
    pairs = [(arm_of(TEST, f"{unit}"), arm_of(other, f"{unit}")) for unit in range(10_000)]
    table = [[pairs.count((one, two)) for two in Arm] for one in Arm]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_the_unit_is_the_task_else_the_request() -> None:
    """All runs of a task share an arm; a task without an id is randomised by its request."""
    assert unit_of({"task_id": "t-1"}, "r-1") == "t-1"
    assert unit_of({"task_id": 17}, "r-1") == "17"
    assert unit_of({"task_id": ""}, "r-1") == unit_of({}, "r-1") == "r-1"


def test_a_task_takes_part_in_a_running_test_of_its_contexts() -> None:
    """Neither an ended test nor one of another context has a part of it."""
    contexts = ["global", "project=atlas"]
    assert takes_part(TEST, contexts)
    assert takes_part(replace(TEST, context="project=atlas"), contexts)
    assert not takes_part(replace(TEST, context="project=delta"), contexts)
    assert not takes_part(replace(TEST, ended_at="2026-03-02T08:00:00Z"), contexts)


def test_of_several_tests_the_earliest_started_has_the_task() -> None:
    """Starts are compared as moments, not as texts."""
    later = replace(TEST, test_id="later", started_at="2026-03-01T09:30:00+01:00")
    narrow = replace(TEST, test_id="narrow", context="project=atlas", started_at="2026-02-01T08:00:00Z")
    ended = replace(narrow, test_id="ended", started_at="2026-01-01T08:00:00Z", ended_at="2026-02-01T08:00:00Z")
    tests = [later, narrow, TEST, ended]
    assert running(tests) == [narrow, TEST, later]
    assert covering(tests, ["global", "project=atlas"]) == narrow
    assert covering(tests, ["global"]) == TEST
    assert covering([ended], ["global", "project=atlas"]) is None


def test_the_first_record_seals_a_test() -> None:
    """A later record may end it, and changes nothing else; once ended it stays as it ended."""
    assert latest(None, TEST) == TEST
    moved = replace(TEST, share=0.9, margin=0.2, ended_at="2026-03-05T08:00:00Z", ended_by="rule", verdict="better")
    done = latest(TEST, moved)
    assert done == replace(TEST, ended_at="2026-03-05T08:00:00Z", ended_by="rule", verdict="better")
    assert latest(done, replace(TEST, verdict="worse")) == done
