"""`scaling ab`: A/B tests of the allocator against a fixed setting."""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from msgspec import structs
from rich.markup import escape
from rich.table import Table

from agents.ab_result import ArmLog, Reading, Verdict, percent_more, read_test
from agents.experiment_records import moment
from analytics.outcome_per_cost import MARGIN, Look
from analytics.sentences import count
from cli.ab_plan import ENOUGH_RUNS, EXAMPLE, plan_sentences, refuse, setting_of
from cli.authorship import ByOption, ReasonOption, who
from cli.interruption import interruptible
from cli.laws import JsonOption, wide_console
from cli.output import print_json, remark, say
from cli.report.ab_page import ABReport, arms_grid, comparison_grid, page_of_test
from cli.report.blocks import Grid
from cli.report.numbers import time_text
from cli.report.writing import write_page
from cli.settings_of import StateOption, settings_of
from models.allocations import ABTest
from models.contexts import GLOBAL
from models.errors import InvalidExperiment, QueryError, StackError
from models.settings import Settings
from streams.ab_log import Past, find_test, publish_test, read_log, read_past, read_tests

app = typer.Typer(
    help="A/B tests of dynamic allocation against a fixed setting: randomised by task, valid to look at.",
    no_args_is_help=True,
)

RULE = "rule"
"""Who ended a test that its verdict ended."""

ASSUMED_RATE, ASSUMED_CV = 0.5, 1.0

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The test's id, as in scaling ab list.")]


@app.command("start")
def start(  # noqa: PLR0917 - the options of the command
    test_id: Annotated[str, typer.Argument(metavar="ID", help="A name for the test; never used again.")],
    fixed: Annotated[str, typer.Option("--fixed", metavar="PARTS", help=f"The fixed setting: {EXAMPLE}.")],
    reason: ReasonOption,
    by: ByOption = None,
    share: Annotated[float, typer.Option("--share", min=0.05, max=0.95, help="Of tasks in the dynamic arm.")] = 0.5,
    context: Annotated[
        str, typer.Option("--context", metavar="CONTEXT", help="Which tasks take part, such as project=atlas.")
    ] = GLOBAL,
    gain: Annotated[float, typer.Option("--gain", help="The gain in successes per dollar worth finding.")] = 0.10,
    margin: Annotated[
        float, typer.Option("--margin", help="The loss of success that still counts as none; .01 is a point.")
    ] = MARGIN,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Expected success rate; absent: that of the context's runs.")
    ] = None,
    cost_cv: Annotated[
        float | None,
        typer.Option("--cost-cv", help="Standard deviation of a run's cost over its mean; absent: of those runs."),
    ] = None,
    difference: Annotated[
        float, typer.Option("--difference", help="The true difference of success that is expected.")
    ] = 0.0,
    explained: Annotated[
        float, typer.Option("--explained", help="Share of the variance that complexity explains.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan only.")] = False,
    state: StateOption = None,
) -> None:
    """Plan a test, show what it takes, and start it: from now on the allocator gives some tasks the fixed setting.

    Example: scaling ab start spring --fixed agent_count=3,max_iterations=5,context_budget=32000,parallelism=3
    --reason "is dynamic worth it?" --difference 0.02
    """
    settings = settings_of(state)
    past = _past(settings, context)
    test = checked(
        test_id=test_id,
        fixed=setting_of(fixed),
        by=who(by),
        reason=reason,
        started_at=moment(time.time()),
        share=share,
        context=context,
        gain=gain,
        margin=margin,
        rate=rate if rate is not None else ASSUMED_RATE if past is None else past.rate,
        cost_cv=cost_cv if cost_cv is not None else ASSUMED_CV if past is None else past.cost_cv,
        difference=difference,
        explained=explained,
    )
    known = {} if dry_run else asyncio.run(read_tests(settings))
    refuse(test, known)
    for sentence in plan_sentences(test, past, list(known.values())):
        say(sentence)
    if dry_run:
        return
    asyncio.run(publish_test(settings, test))
    say(f"Started. Watch it with: scaling ab report {test_id} --follow")


@app.command("list")
def show_all(as_json: JsonOption = False, state: StateOption = None) -> None:
    """List all tests with what they compare, whether they run, and their verdicts.

    Example: scaling ab list
    """
    tests = asyncio.run(read_tests(settings_of(state)))
    if as_json:
        print_json(list(tests.values()))
        return
    if not tests:
        typer.echo("No A/B test yet: scaling ab start --dry-run shows what one would take.")
        return
    table = Table("test", "context", "fixed setting", "started", "ended", "verdict", "sentence")
    for test in tests.values():
        fixed = test.fixed
        parts = f"{fixed.agent_count} x {fixed.max_iterations} x {fixed.context_budget:,}, {fixed.parallelism} at once"
        ended = "runs" if test.ended_at is None else f"{time_text(test.ended_at)} by {test.ended_by}"
        cells = (test.test_id, test.context, parts, time_text(test.started_at), ended, test.verdict, test.sentence)
        table.add_row(*map(escape, cells))
    wide_console().print(table)


@app.command("report")
def report(  # noqa: PLR0917 - the options of the command
    test_id: IdArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="An .html or .md file, with pictures.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Look again until there is a verdict, then end the test with it.")
    ] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="Time between looks.")] = 5.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Say what a test shows so far; looking changes nothing and is always valid.

    Example: scaling ab report spring -o spring.html
    """
    settings = settings_of(state)
    made = asyncio.run(interruptible(watch(settings, test_id, every) if follow else look_at(settings, test_id)))
    if output is not None:
        write_page(page_of_test(made), output)
        remark(f"Wrote {output}")
    if as_json:
        print_json(document(made))
    elif output is None or follow:
        _show(made)


@app.command("end")
def end(test_id: IdArgument, reason: ReasonOption, by: ByOption = None, state: StateOption = None) -> None:
    """End a test by hand; it keeps the verdict that it has by then. All tasks are allocated dynamically again.

    Example: scaling ab end spring --reason "the budget is needed elsewhere"
    """
    settings = settings_of(state)
    test = asyncio.run(find_test(settings, test_id))
    if test.ended_at is not None:
        raise InvalidExperiment(f"A/B test {test_id} ended {time_text(test.ended_at)} already: {test.sentence}")
    verdict, sentence = Verdict.UNDETERMINED, ""
    try:
        reading = read_test(test, read_log(settings, test_id))
        verdict, sentence = reading.verdict, reading.sentence
    except (StackError, QueryError) as error:
        sentence = f"The runs could not be read ({error}): undetermined."
    asyncio.run(publish_test(settings, ended(test, who(by), verdict, f"{sentence} Ended by hand: {reason}")))
    say(f"Ended. {sentence}")


def checked(**fields: Any) -> ABTest:  # noqa: ANN401 - the fields of a test
    """Make a test whose fields keep the rules.

    Raises:
        InvalidExperiment: One does not; the message names it.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(ABTest(**fields)), ABTest)
    except msgspec.ValidationError as error:
        raise InvalidExperiment(f"the A/B test cannot be started: {error}; correct that option") from None


def ended(test: ABTest, by: str, verdict: str, sentence: str) -> ABTest:
    """End a test now."""
    return structs.replace(test, ended_at=moment(time.time()), ended_by=by, verdict=verdict, sentence=sentence)


async def look_at(settings: Settings, test_id: str, before: Look | None = None) -> ABReport:
    """Read a test and what it says now.

    Raises:
        InvalidExperiment: There is no such test.
        NotReachable: Kafka or ClickHouse does not answer.
    """
    test = await find_test(settings, test_id)
    log = await asyncio.to_thread(read_log, settings, test_id)
    return ABReport(test, log, read_test(test, log, before))


async def watch(settings: Settings, test_id: str, every: float) -> ABReport:
    """Look at a test until it has a verdict, and end it with that; or until somebody else ends it."""
    before: Look | None = None
    while True:
        made = await look_at(settings, test_id, before)
        reading, before = made.reading, made.reading.look or before
        remark(progress(reading))
        if made.test.ended_at is not None:
            return made
        if reading.verdict is not Verdict.UNDETERMINED:
            test = ended(made.test, RULE, reading.verdict, reading.sentence)
            await publish_test(settings, test)
            return ABReport(test, made.log, reading)
        await asyncio.sleep(every)


def progress(reading: Reading) -> str:
    """Say in a line how a test stands."""
    found = reading.look
    if found is None or any(ratio.alarm for ratio in reading.ratios):
        return reading.sentence
    runs = " + ".join(f"{each:,}" for each in found.runs)
    return (
        f"{runs} of {count(reading.plan.runs_per_arm, 'run')} an arm; at any look: successes per dollar "
        f"[{percent_more(found.gain_lo):+.1f}, {percent_more(found.gain_hi):+.1f}] %, success "
        f"{100 * found.difference_lo:+.2f} points or more: {reading.verdict}"
    )


def document(made: ABReport) -> dict[str, Any]:
    """Give a report as plain values."""
    reading = made.reading
    return {
        "test": made.test,
        "verdict": reading.verdict,
        "sentence": reading.sentence,
        "next_step": reading.next_step,
        "plan": reading.plan,
        "look": reading.look,
        "missing": reading.missing,
        "sample_ratio": reading.ratios,
        "arms": {arm: _arm_document(log) for arm, log in made.log.arms.items()},
        "given": made.log.given,
    }


def _arm_document(arm: ArmLog) -> dict[str, Any]:
    pooled = arm.moments.pooled
    runs, (success, cost) = pooled.runs, pooled.mean[0].tolist()
    counts = {name: value for name, value in asdict(arm).items() if name != "steps"}
    known = {"success_rate": success, "mean_cost": cost} if runs else {}
    ratio = {"successes_per_dollar": success / cost} if cost > 0 else {}
    return {**counts, "runs": runs, **known, **ratio}


def _past(settings: Settings, context: str) -> Past | None:
    try:
        past = read_past(settings, context)
    except (StackError, QueryError):
        return None
    return past if past is not None and past.runs >= ENOUGH_RUNS else None


def _show(made: ABReport) -> None:
    console = wide_console()
    test = made.test
    console.print(f"{test.test_id}: {made.verdict}", style="bold", markup=False)
    console.print(made.sentence, markup=False, soft_wrap=True)
    if test.ended_at is None:
        console.print(made.reading.next_step, markup=False, soft_wrap=True)
    else:
        console.print(f"Ended {time_text(test.ended_at)} by {test.ended_by}.", markup=False, soft_wrap=True)
    for grid in (arms_grid(made), comparison_grid(made)):
        if grid is not None:
            console.print(_table(grid))


def _table(grid: Grid) -> Table:
    table = Table(title=grid.caption, title_justify="left")
    for name, align in zip(grid.head, grid.align, strict=True):
        table.add_column(escape(name), justify="right" if align == "r" else "left")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return table
