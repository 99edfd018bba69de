"""What the closed loop shows while it runs."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from agents.ab_result import percent_more
from analytics.joint_laws import Predictor
from analytics.sentences import count
from cli.closed_loop_team import Ran, Team
from cli.closed_loop_truth import FIXED, grid_of
from cli.following import follow
from cli.law_page import NOTHING
from cli.report.ab_page import ABReport
from models.allocations import Arm, Setting
from models.contexts import GLOBAL
from models.dimensions import Outcome
from models.joint_laws import JOINT, JointLaw
from models.laws import Estimate, law_id
from models.settings import Settings
from models.topics import LAWS
from streams.kafka_clients import POLL_MS, reader

FOLLOWED = law_id(GLOBAL, JOINT, Outcome.SUCCESS, "audited")
"""The law that is watched."""

MIDDLING = 0.5
KINDS = {"easy": 0.15, "middling": MIDDLING, "hard": 0.85}
NEAR = 0.05
"""Kinds of tasks by complexity, and what still counts as that."""


@dataclass(frozen=True, slots=True)
class Sharpened:
    """A version of the joint law, and what it says of the fixed setting for a task of middling complexity."""

    at: datetime
    version: int
    runs: int
    success: Estimate


@dataclass(slots=True)
class Course:
    """How far the loop has come."""

    team: Team
    doing: str = "trying settings"
    laws: list[Sharpened] = field(default_factory=list)
    report: ABReport | None = None
    started: float = field(default_factory=time.monotonic)

    def per_dollar(self, arm: Arm) -> float | None:
        """Give the successes per dollar of an arm so far; None before there is a run."""
        ran = self.team.of(arm)
        return sum(each.success for each in ran) / sum(each.cost for each in ran) if ran else None

    def given(self, complexity: float) -> Setting | None:
        """Give the setting that the laws chose last for a task of about this complexity; None without one."""
        return next((each.choice for each in reversed(self.team.ran) if abs(each.complexity - complexity) < NEAR), None)


async def follow_law(settings: Settings, course: Course) -> None:
    """Take in each version of the joint law of success."""
    decode = msgspec.json.Decoder(JointLaw).decode
    async with reader(settings, LAWS) as laws:
        while True:
            for records in (await laws.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    law = decode(record.value) if record.value and record.key.decode() == FOLLOWED else None
                    if law is not None and law.terms:
                        course.laws.append(sharpened(law))


def sharpened(law: JointLaw) -> Sharpened:
    """Ask a law about the fixed setting."""
    (success,) = Predictor.of(law).estimates(grid_of([FIXED], np.array([MIDDLING])))
    return Sharpened(datetime.now(UTC), law.version, law.n, success)


async def show(course: Course, console: Console) -> None:
    """Show the course until cancelled."""
    await follow(console, lambda: course.doing, lambda: headline(course), lambda: table(course))


def headline(course: Course) -> str:
    """Say in one line how far it is."""
    law = f"law v{course.laws[-1].version} of {course.laws[-1].runs:,} runs" if course.laws else "no joint law yet"
    arms = ", ".join(f"{arm} {value:.3f}" for arm in Arm if (value := course.per_dollar(arm)) is not None)
    told = f"  successes per dollar: {arms}" if arms else ""
    seconds = time.monotonic() - course.started
    look = f"  {look_words(course.report)}" if course.report and course.report.reading.look else ""
    return f"{seconds:3.0f} s  {course.doing}  published {course.team.published:,}  {law}{told}{look}"


def table(course: Course) -> Table:
    """Show the law, what it gives, what that brings, and the test."""
    shown = Table(title="The closed loop", title_justify="left", show_header=False)
    shown.add_row("joint law of success", law_words(course.laws))
    for kind, complexity in KINDS.items():
        shown.add_row(f"given to {kind} tasks", setting_words(course.given(complexity)))
    for arm in Arm:
        shown.add_row(f"{arm} arm", arm_words(course.team.of(arm)))
    shown.add_row("test, at any look", look_words(course.report))
    return shown


def law_words(laws: list[Sharpened]) -> str:
    """Say what the newest law makes of the fixed setting."""
    if not laws:
        return NOTHING
    newest = laws[-1]
    success = newest.success
    return (
        f"version {newest.version} of {newest.runs:,} runs: the fixed setting succeeds in "
        f"{100 * success.estimate:.1f} % of middling tasks [{100 * success.lo:.1f}, {100 * success.hi:.1f}]"
    )


def setting_words(setting: Setting | None) -> str:
    """Write a setting shortly.

    >>> setting_words(Setting(1, 5, 32000, 1))
    '1 agent x 5 iterations x 32,000 tokens, 1 at once'
    """
    if setting is None:
        return NOTHING
    return (
        f"{count(setting.agent_count, 'agent')} x {count(setting.max_iterations, 'iteration')} x "
        f"{setting.context_budget:,} tokens, {setting.parallelism} at once"
    )


def arm_words(ran: Iterable[Ran]) -> str:
    """Say what the runs of an arm brought."""
    runs = list(ran)
    if not runs:
        return NOTHING
    won, spent = sum(each.success for each in runs), sum(each.cost for each in runs)
    return f"{len(runs):,} runs, {won:,} successes, ${spent:,.2f}: {won / spent:.3f} successes per dollar"


def look_words(report: ABReport | None) -> str:
    """Say how the test stands."""
    look = report.reading.look if report else None
    if report is None or look is None:
        return NOTHING
    return (
        f"{percent_more(look.gain.estimate):+.1f} % successes per dollar "
        f"[{percent_more(look.gain_lo):+.1f}, {percent_more(look.gain_hi):+.1f}], success "
        f"{100 * look.difference_lo:+.1f} points or more: {report.reading.verdict}"
    )
