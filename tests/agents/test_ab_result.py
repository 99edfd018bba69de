"""What an A/B test says: planted gains are found, no gain is not claimed, and broken samples say nothing."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from msgspec import structs

from agents.ab_result import (
    STEPS,
    STRATA,
    ABLog,
    ArmLog,
    Reading,
    Verdict,
    course_of,
    plan_of,
    read_test,
    sample_ratios,
    tasks_in_all,
)
from analytics.moments import Floats, Ints
from analytics.outcome_per_cost import Arm as Moments
from analytics.outcome_per_cost import Look, ln_ratio
from models.allocations import ABTest, Arm, Setting
from models.errors import NotEnoughData

TEST = ABTest(
    "spring", Setting(3, 5, 32000, 3), "ada", "worth it?", "2026-03-01T08:00:00Z", margin=0.03, rate=0.55, cost_cv=0.6
)

Draw = Callable[[int], tuple[Floats, Floats, Ints]]


def drawing(rng: np.random.Generator, gain: float = 0.0, cheaper: float = 1.0) -> Draw:
    """Draw success, cost and stratum of runs; harder tasks fail more and cost more."""

    def draw(runs: int) -> tuple[Floats, Floats, Ints]:
        stratum = rng.integers(STRATA - 1, size=runs)
        y = (rng.random(runs) < 0.75 + gain - 0.1 * stratum).astype(np.float64)
        return y, cheaper * (1 + 0.3 * stratum) * rng.lognormal(0, 0.4, runs), stratum

    return draw


def arm_log(draw: Draw, runs: int, **fields: int) -> ArmLog:
    """Make the log of an arm with so many runs, in equal steps."""
    known = {"tasks": runs, "reporting": runs, "complied": runs, "due": runs, "returned": runs}
    steps = [Moments.of(*draw(each), STRATA) for each in np.diff(np.linspace(0, runs, STEPS + 1).astype(int))]
    return ArmLog(**{**known, **fields}, steps=steps)


def log_of(dynamic: ArmLog, fixed: ArmLog) -> ABLog:
    """Make a log of both arms."""
    return ABLog({Arm.DYNAMIC: dynamic, Arm.FIXED: fixed}, [f"2026-03-{day + 1:02}T08:00:00Z" for day in range(STEPS)])


def read(runs: int, seed: int = 1, gain: float = 0.0, cheaper: float = 1.0, test: ABTest = TEST) -> Reading:
    """Read a test whose dynamic arm gains so much success, at costs so many times those of the other."""
    rng = np.random.default_rng(seed)
    return read_test(test, log_of(arm_log(drawing(rng, gain, cheaper), runs), arm_log(drawing(rng), runs)))


def test_a_planted_gain_is_found() -> None:
    """A fifth cheaper at three more points of success is better, in plain words that name interval and margin."""
    found = read(6000, gain=0.03, cheaper=0.85)
    assert found.verdict is Verdict.BETTER
    assert found.look is not None
    assert found.look.gain_lo < math.log(0.58 / 0.55 / 0.85) < found.look.gain_hi
    assert found.sentence.startswith("Dynamic allocation brings 2")
    assert "(holds at any look), and loses no more than 3 points of success: better." in found.sentence
    assert found.next_step == "What to do next: end the test and let dynamic allocation have all tasks."


@pytest.mark.parametrize(
    ("gain", "cheaper", "words"),
    [(0.0, 1.25, "% fewer successes per dollar"), (-0.12, 0.3, "loses more than 3 points of success (-1")],
    ids=["dearer", "bought with success"],
)
def test_a_planted_loss_is_found(gain: float, cheaper: float, words: str) -> None:
    """A loss of successes per dollar is worse, and so is a loss of success however much is saved."""
    found = read(6000, gain=gain, cheaper=cheaper)
    assert found.verdict is Verdict.WORSE
    assert words in found.sentence
    assert found.sentence.endswith(": worse.")


def test_what_is_not_shown_yet_is_named() -> None:
    """A gain alone does not do; the sentence says that non-inferior success is open, and how many runs are planned."""
    found = read(1500, gain=0.0, cheaper=0.7)
    assert found.look is not None
    assert found.look.gain_lo > 0
    assert found.verdict is Verdict.UNDETERMINED
    assert "that it loses no more than 3 points of success is not shown yet: undetermined." in found.sentence
    assert f"the plan is {found.plan.runs_per_arm:,} runs in each arm, the smaller one has 1,500" in found.next_step
    small = structs.replace(TEST, gain=1.0, margin=0.4)
    assert "twice the planned runs are in" in read(1500, test=small).next_step


def test_few_runs_say_nothing() -> None:
    """Before the first look the verdict is open and says what it waits for, also where an arm has no task at all."""
    found = read(99)
    assert (found.verdict, found.look) == (Verdict.UNDETERMINED, None)
    assert "a look needs 100 runs in each arm, one has 99" in found.sentence
    empty = read_test(TEST, ABLog({arm: ArmLog() for arm in Arm}))
    assert (empty.verdict, empty.look) == (Verdict.UNDETERMINED, None)


def test_two_equal_arms_are_not_told_apart_at_any_look() -> None:
    """Over 15 looks at each of 200 tests without a difference, at most 5 % are ever called better or worse."""
    wrong, looks, step = 0, 15, 200
    for seed in range(200):
        rng = np.random.default_rng([7, seed])
        draws = {arm: drawing(rng) for arm in Arm}
        total = {arm: Moments.of(*draw(step), STRATA) for arm, draw in draws.items()}
        before: Look | None = None
        for number in range(1, looks + 1):
            logs = {
                arm: ArmLog(tasks=number * step, due=number * step, returned=number * step, steps=[moments])
                for arm, moments in total.items()
            }
            found = read_test(TEST, ABLog(logs), before)
            before = found.look
            if found.verdict is not Verdict.UNDETERMINED:
                wrong += 1
                break
            total = {arm: moments + Moments.of(*draws[arm](step), STRATA) for arm, moments in total.items()}
    assert wrong <= 10


def test_broken_shares_raise_an_alarm_and_void_the_verdict() -> None:
    """Whatever the outcomes say, arms that did not get their tasks are not compared; the stage says where to look."""
    rng = np.random.default_rng(3)
    better, other = arm_log(drawing(rng, 0.03, 0.5), 6000), arm_log(drawing(rng), 6000)
    assert read_test(TEST, log_of(better, other)).verdict is Verdict.BETTER
    cases = {
        "assigned": (arm_log(drawing(rng, 0.03, 0.5), 6000, tasks=7000, due=7000, returned=6000), "ask again"),
        "counted": (arm_log(drawing(rng, 0.03, 0.5), 5200, tasks=6000, due=0, returned=0), "on their way"),
        "returned": (arm_log(drawing(rng, 0.03, 0.5), 5900, tasks=6000, due=6000, returned=5900), "timeouts"),
    }
    for stage, (broken, words) in cases.items():
        found = read_test(TEST, log_of(broken, other))
        assert found.verdict is Verdict.UNDETERMINED, stage
        assert next(ratio.stage for ratio in found.ratios if ratio.alarm) == stage
        assert f"({stage}: " in found.sentence
        assert words in found.next_step


def test_unequal_shares_are_no_alarm() -> None:
    """Counts are held against the shares of the test; equal ones in a test of 80 to 20 are an alarm."""
    uneven = structs.replace(TEST, share=0.8)
    rng = np.random.default_rng(4)
    fixed = arm_log(drawing(rng), 1000)
    assert not any(ratio.alarm for ratio in sample_ratios(uneven, log_of(arm_log(drawing(rng), 4000), fixed)))
    assert sample_ratios(uneven, log_of(fixed, fixed))[0].alarm


def test_no_task_is_due_at_first() -> None:
    """Attrition is compared among tasks whose time is over: before there are some it is not."""
    young = arm_log(drawing(np.random.default_rng(5)), 300, due=0, returned=0)
    assert [ratio.stage for ratio in sample_ratios(TEST, log_of(young, young))] == ["assigned", "counted"]


def test_a_course_ends_where_the_arm_stands() -> None:
    """The last point is ln R of all runs, the band holds the truth, and steps before the least runs are left out."""
    arm = arm_log(drawing(np.random.default_rng(6)), 2400)
    course = course_of(arm, plan_of(TEST))
    assert course.step == list(range(STEPS))
    assert course.estimate[-1] == pytest.approx(ln_ratio(arm.moments).estimate)
    truth = math.log(0.55 / (1.6 * math.exp(0.08)))
    assert all(lo < truth < hi for lo, hi in zip(course.lo, course.hi, strict=True))
    sparse = arm_log(drawing(np.random.default_rng(6)), 240)
    assert course_of(sparse, plan_of(TEST)).step[0] == 9
    failing = ArmLog(steps=[Moments.of(np.zeros(200), np.ones(200), np.zeros(200, np.int64), STRATA)])
    assert course_of(failing, plan_of(TEST)).step == []


def test_uneven_arms_take_more_tasks() -> None:
    """At a share of s, n / (2 s (1 - s)) tasks have the precision of two arms of n."""
    plan = plan_of(TEST)
    assert tasks_in_all(plan, 0.5) == 2 * plan.runs_per_arm
    assert tasks_in_all(plan, 0.8) == math.ceil(plan.runs_per_arm / 0.32)
    with pytest.raises(NotEnoughData, match="a plan needs"):
        plan_of(structs.replace(TEST, difference=-0.5))
