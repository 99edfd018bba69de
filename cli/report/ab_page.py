"""The report of an A/B test as a page: what was compared, what came of it, and what the dynamic arm gave."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agents.ab_result import PATIENCE, ABLog, ArmLog, Course, Reading, Verdict, course_of, percent_more, points
from analytics.intervals import wilson
from analytics.outcome_per_cost import ln_ratio
from analytics.sentences import count, listed
from cli.law_page import NOTHING
from cli.report.blocks import Badge, Block, Drawing, Facts, Grid, Highlight, Items, Page, Section, Text, Tone
from cli.report.lines import Line, Lines, Spot
from cli.report.numbers import dollars, duration, e_text, number, percent, plain, time_text
from models.allocations import ABTest, Arm, Setting
from models.contexts import GLOBAL
from models.errors import NotEnoughData

TONES: dict[str, Tone] = {Verdict.BETTER: "good", Verdict.WORSE: "bad", Verdict.UNDETERMINED: "open"}

PART_WORDS = {
    "agent_count": "agents",
    "max_iterations": "iterations",
    "context_budget": "context tokens",
    "parallelism": "parallelism",
}

STAGE_WORDS = {
    "assigned": "tasks, by the arm they were assigned to",
    "counted": "runs with success and cost",
    "returned": f"tasks older than {duration(PATIENCE)} that have a run",
}


MONTH, MINUTE = len("2026-"), len("2026-03-01 08:00")


@dataclass(frozen=True, slots=True)
class ABReport:
    """What a report of an A/B test is made from: the test as it stands, its log, and what it says."""

    test: ABTest
    log: ABLog
    reading: Reading

    @property
    def verdict(self) -> str:
        """Give the verdict that the test ended with; of one that runs, or ended without, the present one."""
        return self.test.verdict or self.reading.verdict

    @property
    def sentence(self) -> str:
        """Give the sentence of the verdict."""
        return self.test.sentence or self.reading.sentence


def page_of_test(report: ABReport) -> Page:
    """Lay out the report of an A/B test."""
    test = report.test
    state = "Running" if test.ended_at is None else "Ended"
    ended = "" if test.ended_at is None else f", ended {time_text(test.ended_at)} by {test.ended_by}"
    next_step = f" {report.reading.next_step}" if test.ended_at is None else ""
    return Page(
        title="Dynamic against fixed allocation",
        subtitle=f"A/B test {test.test_id}, started {time_text(test.started_at)} by {test.by}{ended}",
        badges=[Badge(report.verdict, TONES.get(report.verdict, "open")), Badge(state, "plain")],
        summary=f"{report.sentence}{next_step}",
        highlights=list(_highlights(report)),
        sections=list(_sections(report)),
    )


def design_rows(report: ABReport) -> list[tuple[str, str]]:
    """Say in rows of a name and what holds what is compared, and what for."""
    test, plan = report.test, report.reading.plan
    expected = [
        f"success rate {percent(test.rate)}",
        f"standard deviation of a run's cost {percent(test.cost_cv)} of its mean",
        f"difference of success {100 * test.difference:+.3g} points",
        f"complexity explains {percent(test.explained)} of the variance",
    ]
    return [
        ("Reason", test.reason),
        ("Fixed setting", setting_words(test.fixed)),
        ("Tasks", "all" if test.context == GLOBAL else f"of the context {test.context}"),
        ("Share", f"{percent(test.share)} of tasks dynamic, by hash of the task_id (else of the request)"),
        ("To be found", f"{percent(test.gain)} more successes per dollar, at a loss of at most {points(test.margin)}"),
        ("Expected", listed(expected)),
        (
            "Plan",
            f"{count(plan.runs_per_arm, 'run')} in each of two equal arms; may be looked at as often as one likes",
        ),
        ("Level", f"each of the two claims is wrong with probability {plan.alpha:g} at the most, whenever it is made"),
    ]


def setting_words(setting: Setting) -> str:
    """Write a setting.

    >>> setting_words(Setting(3, 5, 32000, 1, "small"))
    '3 agents, 5 iterations, 32,000 context tokens, parallelism 1, model size small'
    """
    size = f", model size {setting.model_size}" if setting.model_size else ""
    return (
        f"{count(setting.agent_count, 'agent')}, {count(setting.max_iterations, 'iteration')}, "
        f"{setting.context_budget:,} context tokens, parallelism {setting.parallelism}{size}"
    )


def arms_grid(report: ABReport) -> Grid:
    """Show what became of each arm's tasks, and what its runs brought."""
    head = ["", *(f"{arm} arm" for arm in Arm)]
    columns = [list(_arm_rows(report.log.arms[arm])) for arm in Arm]
    rows = [[name, *(column[place][1] for column in columns)] for place, (name, _) in enumerate(columns[0])]
    return Grid(
        "The arms, each task in the arm it was assigned to; intervals hold at 95 % for one look", head, "lrr", rows
    )


def comparison_grid(report: ABReport) -> Grid | None:
    """Show the gain and the difference of success with their intervals; None where there is nothing to show."""
    found = report.reading.look
    if found is None:
        return None
    gain, difference = found.gain, found.difference
    limit, lost = f"of {plain(1 / report.reading.plan.alpha)} needed", points(report.test.margin)
    return Grid(
        "Dynamic less fixed",
        ["", "Estimate", "At any look", "Plain, for one look only", "Evidence"],
        "lrrrl",
        [
            [
                "Successes per dollar",
                f"{percent_more(gain.estimate):+.1f} %",
                f"[{percent_more(found.gain_lo):+.1f}, {percent_more(found.gain_hi):+.1f}] %",
                f"[{percent_more(gain.lo):+.1f}, {percent_more(gain.hi):+.1f}] %",
                f"a change: {e_text(found.gain_e)} {limit}",
            ],
            [
                "Success",
                f"{100 * difference.estimate:+.2f} points",
                f"{100 * found.difference_lo:+.2f} points or more",
                f"[{100 * difference.lo:+.2f}, {100 * difference.hi:+.2f}] points",
                f"loses less than {lost}: {e_text(found.non_inferior_e)}; more: {e_text(found.inferior_e)}; {limit}",
            ],
        ],
    )


def ratio_picture(report: ABReport) -> Lines | None:
    """Picture successes per dollar of each arm as its runs completed; None before there are enough runs."""
    times = report.log.times
    courses = {arm: course_of(report.log.arms[arm], report.reading.plan) for arm in Arm}
    lines = [Line(f"{arm}", list(_spots(course, times))) for arm, course in courses.items() if course.step]
    if not lines:
        return None
    return Lines(
        name="successes-per-dollar",
        title="Successes per dollar over time",
        caption="All runs of an arm that had completed by then. The bands hold at 95 % for each arm at any look, so an "
        "arm may be watched and the test ended at any time; the verdict rests on the comparison above, which takes out "
        "how complex the tasks were.",
        axis="successes per dollar",
        along="completed by",
        lines=lines,
        date=True,
    )


def settings_picture(report: ABReport) -> Lines | None:
    """Picture what the dynamic arm gave tasks of each complexity, against the fixed setting; None if nothing."""
    given = report.log.given
    if not given:
        return None
    lines = []
    for part, words in PART_WORDS.items():
        fixed = getattr(report.test.fixed, part)
        spots = [
            Spot(
                x=round(each.complexity + 0.05, 2),
                y=each.setting[part] / fixed,
                lo=None,
                hi=None,
                label=f"at {each.complexity + 0.05:.2f}",
                text=f"{number(each.setting[part])} {words}, {number(each.setting[part] / fixed)} times {plain(fixed)}",
            )
            for each in given
        ]
        lines.append(Line(words, spots))
    return Lines(
        name="settings-by-complexity",
        title="What the dynamic arm gave, by complexity",
        caption="Geometric means of the settings of tasks in tenths of complexity, as multiples of the fixed setting, "
        "which is the line at 1. Settings that the dice gave are left out.",
        axis="multiple of the fixed setting",
        along="task complexity",
        lines=lines,
        suffix=" ×",  # noqa: RUF001 - times
        logarithmic=True,
        level=1.0,
    )


def _highlights(report: ABReport) -> Iterator[Highlight]:
    found = report.reading.look
    if found is not None:
        ends = f"[{percent_more(found.gain_lo):+.1f}, {percent_more(found.gain_hi):+.1f}] at any look"
        yield Highlight("Successes per dollar", f"{percent_more(found.gain.estimate):+.1f} %", ends)
        low = f"{100 * found.difference_lo:+.2f} or more, at any look"
        yield Highlight("Success", f"{100 * found.difference.estimate:+.2f} points", low)
    arms = [report.log.arms[arm] for arm in Arm]
    counted = listed([f"{report.log.arms[arm].moments.runs:,} {arm}" for arm in Arm])
    yield Highlight("Runs", f"{sum(arm.moments.runs for arm in arms):,}", counted)
    yield Highlight("Spent", dollars(sum(arm.spend for arm in arms)), "by all runs of both arms")


def _sections(report: ABReport) -> Iterator[Section]:
    yield Section("Design", [Facts(design_rows(report))])
    yield Section("Result", list(_result(report)))
    yield Section("The arms", [arms_grid(report), *_missing(report)])
    yield Section("Was the comparison fair?", list(_ratios(report)))
    yield Section("What the dynamic arm gave", list(_given(report)))


def _result(report: ABReport) -> Iterator[Block]:
    if report.test.ended_at is not None:
        yield Text(f"The test has ended: {report.sentence} With all runs that are in by now: {report.reading.sentence}")
    grid = comparison_grid(report)
    if grid is None:
        yield Text(f"Not known: {report.reading.missing}.", note=True)
    else:
        yield grid
        yield Text(
            "Post-stratified by fifths of complexity. Successes per dollar is the ratio of the sums. What holds at any "
            "look may be read as often as one likes; the plain intervals are right at one look that was fixed "
            "beforehand, and mislead who watches.",
            note=True,
        )
    picture = ratio_picture(report)
    if picture is not None:
        yield Drawing(picture)


def _arm_rows(arm: ArmLog) -> Iterator[tuple[str, str]]:
    moments = arm.moments.pooled
    runs, success, cost = arm.moments.runs, float(moments.mean[0, 0]), float(moments.mean[0, 1])
    yield "tasks", f"{arm.tasks:,}"
    yield "runs that count", f"{runs:,}"
    if runs:
        lo, hi = (float(end) for end in wilson(success * runs, runs))
        yield "success rate", f"{percent(success)} [{100 * lo:.1f}, {100 * hi:.1f}]"
        yield "mean cost", dollars(cost)
    else:
        yield "success rate", NOTHING
        yield "mean cost", NOTHING
    yield "successes per dollar", _per_dollar(arm)
    yield "spent", dollars(arm.spend)
    yield "explored", f"{arm.explored:,}"
    complied = NOTHING if not arm.reporting else percent(arm.complied / arm.reporting)
    yield "ran with the setting that was given", complied


def _per_dollar(arm: ArmLog) -> str:
    try:
        ratio = ln_ratio(arm.moments)
    except NotEnoughData:
        return NOTHING
    middle, lo, hi = (number(math.exp(each)) for each in (ratio.estimate, ratio.lo, ratio.hi))
    return f"{middle} [{lo}, {hi}]"


def _missing(report: ABReport) -> Iterator[Block]:
    told = {
        "pending": "without a run so far",
        "unjudged": "whose run has no success",
        "unpriced": "whose run has no total_cost",
        "repeats": "that came again after their first decision: those runs are in the spending alone",
    }
    items = [
        f"{arm} arm: {count(getattr(report.log.arms[arm], name), 'task')} {words}"
        for name, words in told.items()
        for arm in Arm
        if getattr(report.log.arms[arm], name)
    ]
    yield Items(items) if items else Text("Every task has its run, with success and cost.", note=True)


def _ratios(report: ABReport) -> Iterator[Block]:
    ratios = report.reading.ratios
    yield Grid(
        "Sample ratio, dynamic to fixed",
        ["Among", *(f"{arm}" for arm in Arm), "e-value", "Alarm at"],
        "lrrrr",
        [
            [STAGE_WORDS[each.stage], *(f"{n:,}" for n in each.counts), e_text(each.e_value), e_text(each.limit)]
            for each in ratios
        ],
    )
    alarms = [each.stage for each in ratios if each.alarm]
    meant = f"{percent(report.test.share)} of tasks are meant to be in the dynamic arm."
    if alarms:
        yield Text(f"{meant} Alarm: {listed([STAGE_WORDS[each] for each in alarms])}. {report.reading.next_step}")
    else:
        yield Text(f"{meant} No alarm: nothing speaks against it.", note=True)


def _given(report: ABReport) -> Iterator[Block]:
    picture = settings_picture(report)
    if picture is None:
        yield Text("No task of known complexity yet.", note=True)
        return
    yield Drawing(picture)
    yield Grid(
        f"Geometric means; the fixed setting is {setting_words(report.test.fixed)}",
        ["Complexity", "Tasks", *PART_WORDS.values()],
        "lrrrrr",
        [
            [_tenth(each.complexity), f"{each.tasks:,}", *(number(each.setting[part]) for part in PART_WORDS)]
            for each in report.log.given
        ],
    )


def _spots(course: Course, times: Sequence[str]) -> Iterator[Spot]:
    for step, *values in zip(course.step, course.estimate, course.lo, course.hi, strict=True):
        middle, lo, hi = (math.exp(min(each, 20.0)) for each in values)
        text = f"{number(middle)} [{number(lo)}, {number(hi)}]"
        yield Spot(times[step], middle, lo, hi, time_text(times[step])[MONTH:MINUTE], text)


def _tenth(complexity: float) -> str:
    return f"{complexity:.1f} to {complexity + 0.1:.1f}"
