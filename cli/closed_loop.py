"""`scaling demo --closed-loop`: event, law, allocation, outcome, law, on a world whose truth is known."""

import asyncio
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.ab_result import Verdict
from agents.evaluate import Evaluation
from agents.experiment_records import moment
from agents.policies import GREEDY, Policy
from analytics.outcome_per_cost import Look
from cli.ab import RULE, checked, ended, look_at
from cli.ab_plan import plan_sentences
from cli.closed_loop_conclusion import HEAD, Conclusion
from cli.closed_loop_team import Team
from cli.closed_loop_truth import FIXED, LoopWorld
from cli.closed_loop_view import Course, follow_law, show, table
from cli.interruption import interruptible
from cli.laws import wide_console
from cli.report.ab_page import ABReport
from cli.report.closed_loop_page import page_of_loop
from cli.report.writing import write_page
from cli.staging import staged
from models.allocations import ABTest
from models.errors import NotEnoughData, StackError
from models.settings import Settings
from streams.ab_log import publish_test
from streams.clickhouse import query
from streams.decision_log import evaluate_policy

TEST = "closed-loop"
TRIALS = 1000
LEAST_TASKS = 1000
"""The test goes on for as many: an earlier verdict holds too, but its estimate is far too high more often than not."""

LOOK_SECONDS = 2.0
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 120.0

STAGE: dict[str, Any] = {"audit_seconds": 1.0, "bootstrap_draws": 100, "context_keys": []}
"""One context, audited as often as it can be."""

Result = TypeVar("Result")


def closed_loop(seed: int, tasks: int, output: Path) -> bool:
    """Show the loop in a temporary folder.

    Args:
        seed: Another seed is another stream of tasks and outcomes.
        tasks: How many are allocated at the most.
        output: Where the picture goes.

    Returns:
        Whether the test found dynamic allocation better, with an interval that has the planted gain in it.
    """
    with tempfile.TemporaryDirectory(prefix="scaling-demo-") as folder:

        async def present(settings: Settings) -> bool:
            return await _present(settings, seed, tasks, output)

        return asyncio.run(interruptible(staged(Path(folder), present, **STAGE)))


async def _present(settings: Settings, seed: int, tasks: int, output: Path) -> bool:
    console, loop_world = wide_console(), LoopWorld()
    course = Course(Team(settings, loop_world, seed))
    report = await _beside(_loop(settings, course, tasks, console), follow_law(settings, course), show(course, console))
    console.print(table(course))
    greedy = await asyncio.to_thread(_greedy, settings)
    conclusion = Conclusion(report, loop_world, course.team.ran, course.laws, greedy)
    _tell(conclusion, console)
    await asyncio.to_thread(write_page, page_of_loop(conclusion), output)
    console.print(f"Pictures: {output}", markup=False, soft_wrap=True)
    return conclusion.found


async def _loop(settings: Settings, course: Course, tasks: int, console: Console) -> ABReport:
    """Try settings, wait for laws, then allocate until the test has a verdict or all tasks are done."""
    team = course.team
    await team.try_settings(TRIALS)
    course.doing = "waiting for laws"
    await _laws_speak(course)
    test = the_test()
    for sentence in plan_sentences(test, None):
        console.print(sentence, markup=False, soft_wrap=True)
    await publish_test(settings, test)
    course.doing = "allocating"
    over = asyncio.Event()
    working = asyncio.ensure_future(team.work(tasks, over))
    try:
        report = await _judge(settings, course, working)
        course.doing = "finishing"
        over.set()
        await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    await _archived(settings, len(team.ran))
    return report


def the_test() -> ABTest:
    """Plan the test as `scaling ab start` does."""
    return checked(
        test_id=TEST,
        fixed=FIXED,
        by="demo",
        reason="is dynamic allocation worth it in this world?",
        started_at=moment(time.time()),
        gain=0.2,
        margin=0.03,
        rate=0.5,
        cost_cv=0.5,
        difference=0.05,
    )


async def _laws_speak(course: Course) -> None:
    """Wait until the joint law has seen all trials.

    Raises:
        StackError: It takes too long.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not course.laws or course.laws[-1].runs < TRIALS:
        if time.monotonic() > deadline:
            raise StackError(
                f"there is no joint law of all {TRIALS:,} trials after {PATIENCE_SECONDS:.0f} s: try again"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _judge(settings: Settings, course: Course, working: "asyncio.Future[None]") -> ABReport:
    """Look at the test until it has a verdict, and end it with that; or until all its tasks are done."""
    before: Look | None = None
    while True:
        last = working.done()
        if last:
            working.result()
            await _archived(settings, len(course.team.ran))
        made = course.report = await look_at(settings, TEST, before)
        reading, before = made.reading, made.reading.look or before
        if reading.verdict is not Verdict.UNDETERMINED and (last or len(course.team.ran) >= LEAST_TASKS):
            test = ended(made.test, RULE, reading.verdict, reading.sentence)
            await publish_test(settings, test)
            course.report = ABReport(test, made.log, reading)
            return course.report
        if last:
            return made
        await asyncio.sleep(LOOK_SECONDS)


async def _archived(settings: Settings, decisions: int) -> None:
    """Wait until ClickHouse has so many decisions with their runs.

    Raises:
        StackError: It takes too long.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    sql = "SELECT count() FROM decision_outcomes WHERE runs > 0"
    while int(await asyncio.to_thread(query, settings, sql, fmt="TabSeparated")) < decisions:
        if time.monotonic() > deadline:
            raise StackError(f"ClickHouse lacks decisions or runs after {PATIENCE_SECONDS:.0f} s: try fewer (--tasks)")
        await asyncio.sleep(POLL_SECONDS)


def _greedy(settings: Settings) -> Evaluation | str:
    try:
        return evaluate_policy(settings, Policy(GREEDY))
    except NotEnoughData as reason:
        return str(reason)


def _tell(conclusion: Conclusion, console: Console) -> None:
    report = conclusion.report
    console.print(f"{report.verdict.upper()}: {report.sentence}", markup=False, soft_wrap=True, style="bold")
    compared = Table(*HEAD)
    for each in conclusion.compared:
        compared.add_row(*map(escape, each.cells))
    console.print(compared)
    for sentence in conclusion.sentences():
        console.print(sentence, markup=False, soft_wrap=True)


async def _beside(work: Coroutine[Any, Any, Result], *endless: Coroutine[Any, Any, None]) -> Result:
    """Run work beside what never ends; where that fails, the work is given up."""
    main, others = asyncio.ensure_future(work), [asyncio.ensure_future(each) for each in endless]
    try:
        await asyncio.wait((main, *others), return_when=asyncio.FIRST_COMPLETED)
        for each in others:
            if each.done():
                each.result()
        return main.result()
    finally:
        main.cancel()
        for each in others:
            each.cancel()
        await asyncio.gather(main, *others, return_exceptions=True)
