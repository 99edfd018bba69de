"""What an A/B test says: by intention to treat, at any look, and only while the arms got the tasks they should get."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from operator import add

import numpy as np

from agents.ab import probability
from agents.experiment_results import RATIO_ALPHA
from analytics.confidence_sequences import confidence_sequence
from analytics.moments import Floats
from analytics.outcome_per_cost import Arm as Moments
from analytics.outcome_per_cost import Look, Plan, ln_ratio, look, planned
from analytics.sample_ratio import attrition_e_value, sample_ratio_e_value
from analytics.sentences import count
from models.allocations import ABTest, Arm
from models.errors import NotEnoughData
from models.experiments import SampleRatio

STRATA = 6
"""Fifths of complexity, and tasks of unknown complexity."""

STEPS = 24
"""Steps of time of the pictures."""

PATIENCE = 21_600
"""Seconds after which a decision without a run counts as lost, as of experiments by default."""

NOTHING = Moments(np.zeros(STRATA), np.zeros((STRATA, 2)), np.zeros((STRATA, 3)))

LOST = (
    "look for runs of one arm that end without an event (timeouts, crashes) or come without success or total_cost, and "
    "for orchestrators that drop the decision_id"
)
WHAT_TO_LOOK_FOR = {
    "assigned": "look for orchestrators that ask again until they like the answer, or that ask for some tasks only, "
    "and for decisions that are missing in the archive",
    "counted": f"{LOST}; or runs of one arm take longer and are on their way: then look again later",
    "returned": LOST,
}
"""For each stage whose sample ratio is checked."""


class Verdict(StrEnum):
    """What an A/B test says of dynamic allocation."""

    BETTER = "better"
    WORSE = "worse"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True, eq=False)
class ArmLog:
    """What became of an arm's tasks; each counts once, with its first decision.

    Attributes:
        tasks: All of them.
        repeats: Further decisions for the same tasks: in `spend`, and nowhere else.
        pending: Tasks without a run so far.
        unjudged: Tasks whose run has no success.
        unpriced: Tasks whose run has a success but no cost.
        explored: Tasks whose setting the dice gave.
        reporting: Tasks whose run tells what it used.
        complied: Of these, with the setting that was given.
        due: Tasks that were decided longer ago than PATIENCE.
        returned: Of these, with a run.
        spend: US dollars of all runs.
        steps: Moments of success and cost by stratum, step by step as runs completed. [STEPS]
    """

    tasks: int = 0
    repeats: int = 0
    pending: int = 0
    unjudged: int = 0
    unpriced: int = 0
    explored: int = 0
    reporting: int = 0
    complied: int = 0
    due: int = 0
    returned: int = 0
    spend: float = 0.0
    steps: Sequence[Moments] = ()

    @property
    def moments(self) -> Moments:
        """Add up all steps."""
        return reduce(add, self.steps, NOTHING)


@dataclass(frozen=True, slots=True)
class Given:
    """What the dynamic arm gave tasks of a complexity in [complexity, complexity + .1): geometric means.

    Attributes:
        setting: By part; of parts that were chosen.
        tasks: How many.
    """

    complexity: float
    tasks: int
    setting: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class ABLog:
    """A test's log, reduced.

    Attributes:
        arms: Both arms.
        times: When each step ends, RFC 3339; empty where no run completed in it. [STEPS]
        given: Settings of the dynamic arm by complexity, without those that the dice gave.
    """

    arms: Mapping[Arm, ArmLog]
    times: Sequence[str] = ()
    given: Sequence[Given] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """What a test says at a look.

    Attributes:
        plan: What it is planned for.
        look: The comparison; None where there are too few runs, for the reason in `missing`.
        ratios: Whether the arms got, and kept, their shares of tasks.
        sentence: The verdict in plain words, and `next_step` what to do.
    """

    plan: Plan
    look: Look | None
    missing: str
    ratios: list[SampleRatio]
    verdict: Verdict
    sentence: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Course:
    """ln(successes per dollar) of an arm as runs completed, with its confidence sequence."""

    step: Sequence[int]
    estimate: Sequence[float]
    lo: Sequence[float]
    hi: Sequence[float]


def plan_of(test: ABTest) -> Plan:
    """Plan a test from what it was started with.

    Raises:
        NotEnoughData: There is nothing to find, such as an expected loss beyond the margin.
    """
    return planned(
        test.rate,
        test.cost_cv,
        gain=test.gain,
        difference=test.difference,
        margin=test.margin,
        explained=test.explained,
    )


def tasks_in_all(plan: Plan, share: float) -> int:
    """Give the tasks that arms of these shares need for the precision of two equal ones: n / (2 share (1 - share))."""
    return math.ceil(plan.runs_per_arm / (2 * share * (1 - share)))


def read_test(test: ABTest, log: ABLog, before: Look | None = None) -> Reading:
    """Say what a test says now; as often as one likes.

    Args:
        test: The test.
        log: Its log.
        before: The look before in the same watch; absent: the sequences as they are now, which are valid alone.
    """
    plan, ratios = plan_of(test), list(sample_ratios(test, log))
    found, missing = None, ""
    try:
        found = look(log.arms[Arm.DYNAMIC].moments, log.arms[Arm.FIXED].moments, plan, before)
    except NotEnoughData as reason:
        missing = str(reason)
    alarm = next((ratio for ratio in ratios if ratio.alarm), None)
    verdict = Verdict.UNDETERMINED
    if found is not None and alarm is None:
        verdict = Verdict.WORSE if found.worse else Verdict.BETTER if found.better else verdict
    sentence = _alarm(test, alarm) if alarm is not None else _sentence(verdict, found, plan, missing)
    next_step = f"What to do next: {_next_step(verdict, found, plan, alarm)}."
    return Reading(plan, found, missing, ratios, verdict, sentence, next_step)


def sample_ratios(test: ABTest, log: ABLog) -> list[SampleRatio]:
    """Check whether tasks, and the runs that count, have the arms' shares, and whether as many of each arm were lost.

    `assigned` and `counted` (with success and cost) are held against the plan; `returned` compares, among tasks whose
    time is over, those with a run and those without. Each check is valid at any look.
    """
    arms = [log.arms[arm] for arm in Arm]
    shares = np.array([probability(test, arm) for arm in Arm])
    tasks, counted = np.array([arm.tasks for arm in arms]), np.array([arm.moments.runs for arm in arms])
    found = [
        _ratio("assigned", tasks, sample_ratio_e_value(tasks, shares)),
        _ratio("counted", counted, sample_ratio_e_value(counted, shares)),
    ]
    due, returned = np.array([arm.due for arm in arms]), np.array([arm.returned for arm in arms])
    if due.all():
        found.append(_ratio("returned", returned, attrition_e_value(returned, due)))
    return found


def course_of(arm: ArmLog, plan: Plan) -> Course:
    """Follow an arm's ln(successes per dollar) as its runs completed; from the plan's least runs on.

    The confidence sequence is tightest at the planned size; as two arms share the variance of their difference, I* of
    one is twice that of ln gain.
    """
    total, step, points = NOTHING, [], []
    for place, moments in enumerate(arm.steps):
        total += moments
        if total.runs < plan.least_runs or not moments.runs:
            continue
        try:
            ratio = ln_ratio(total)
            ends = confidence_sequence(ratio.estimate, ratio.se, 2 * plan.gain_information, plan.alpha)
        except NotEnoughData:
            continue
        step.append(place)
        points.append((ratio.estimate, float(ends[0]), float(ends[1])))
    return Course(step, *([point[part] for point in points] for part in range(3)))


def percent_more(ln_gain: float) -> float:
    """Turn ln gain into percent."""
    return 100 * math.expm1(ln_gain)


def points(share: float) -> str:
    """Write a share as points of success.

    >>> points(0.01), points(0.025)
    ('1 point', '2.5 points')
    """
    return f"{100 * share:.3g} point{'' if round(100 * share, 9) == 1 else 's'}"


def _ratio(stage: str, counts: Floats, evidence: float) -> SampleRatio:
    limit = 1 / RATIO_ALPHA
    return SampleRatio(stage, evidence, limit, evidence >= limit, [int(each) for each in counts])


def _alarm(test: ABTest, alarm: SampleRatio) -> str:
    meant = f"{100 * test.share:.3g} to {100 * (1 - test.share):.3g}"
    told = "{:,} to {:,}".format(*alarm.counts)
    return f"The arms do not have the tasks that they should have ({alarm.stage}: {told}, meant {meant}): undetermined."


def _sentence(verdict: Verdict, found: Look | None, plan: Plan, missing: str) -> str:
    if found is None:
        return f"There is nothing to say yet: {missing}: undetermined."
    lost = f"more than {points(plan.margin)} of success"
    kept = f"no more than {points(plan.margin)} of success"
    limit = 1 / plan.alpha
    gain = _gain(found)
    if verdict is Verdict.BETTER:
        return f"{gain}, and loses {kept}: better."
    if found.inferior_e >= limit:
        points_lost = f"{100 * found.difference.estimate:+.1f} points"
        return f"Dynamic allocation loses {lost} ({points_lost}). {gain}: worse."
    if verdict is Verdict.WORSE:
        return f"{gain}: worse."
    open_questions = []
    if found.gain_lo <= 0:
        open_questions.append("that it brings more is not shown yet")
    if found.non_inferior_e < limit:
        open_questions.append(f"that it loses {kept} is not shown yet")
    return f"{gain}; {' and '.join(open_questions)}: undetermined."


def _gain(found: Look) -> str:
    gain = percent_more(found.gain.estimate)
    ends = ", ".join(_percent(percent_more(end), sign=True) for end in (found.gain_lo, found.gain_hi))
    more = "more" if gain >= 0 else "fewer"
    return f"Dynamic allocation brings {_percent(abs(gain))} % {more} successes per dollar [{ends}] (holds at any look)"


def _percent(value: float, *, sign: bool = False) -> str:
    places = 0 if abs(value) >= 10 else 1  # noqa: PLR2004 - two digits
    return f"{value:{'+' if sign else ''},.{places}f}"


def _next_step(verdict: Verdict, found: Look | None, plan: Plan, alarm: SampleRatio | None) -> str:
    if alarm is not None:
        return WHAT_TO_LOOK_FOR[alarm.stage]
    if verdict is Verdict.BETTER:
        return "end the test and let dynamic allocation have all tasks"
    if verdict is Verdict.WORSE:
        return "end the test, pin the fixed setting, and see which settings were chosen where"
    fewest = 0 if found is None else min(found.runs)
    if fewest > 2 * plan.runs_per_arm:
        return (
            "twice the planned runs are in, so the gain is smaller than planned for, or the margin too narrow: end the "
            "test, and plan another one if a smaller gain matters"
        )
    return f"wait; the plan is {count(plan.runs_per_arm, 'run')} in each arm, the smaller one has {fewest:,}"
