"""`scaling experiment`: define, seal, run, watch, verify and report experiments."""

import asyncio
import uuid
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from agents.findings import Registered, registered
from analytics.ready_made import READY_MADE
from cli.allocating import read_task
from cli.authorship import ByOption, ReasonOption, who
from cli.definition_files import changed, definition_of
from cli.laws import wide_console
from cli.output import EXIT_REJECTED, print_json, remark, say
from cli.report.words import design_rows, value_text
from cli.report.writing import Report, write_report
from cli.settings_of import StateOption, settings_of
from models.errors import InvalidExperiment
from models.experiments import (
    AmendRequest,
    ArmResult,
    CreateRequest,
    Reply,
    Request,
    Result,
    StartRequest,
    StopRequest,
    Verdict,
)
from models.settings import Settings
from streams.assigning import Assigner
from streams.experiment_log import Course, read_course, read_courses, read_findings
from streams.experiment_verification import verify_experiment

app = typer.Typer(
    help="Controlled experiments: sealed beforehand, assigned at random, valid to look at.", no_args_is_help=True
)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The experiment's id, as in scaling experiment list.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command("create")
def create(  # noqa: PLR0917 - the options of the command
    source: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE", help=f"A ready-made one ({', '.join(READY_MADE)}), or a .json or .toml file."
        ),
    ],
    experiment_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Another id than the one given.")
    ] = None,
    planned: Annotated[int | None, typer.Option("--planned", metavar="N", help="Assignments for each value.")] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="USD", help="Dollars to spend at the most.")
    ] = None,
    expire: Annotated[
        int | None, typer.Option("--expire", metavar="SECONDS", help="How long an outcome is waited for.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a draft of the same id.")] = False,
    by: ByOption = None,
    state: StateOption = None,
) -> None:
    """Keep a draft of an experiment. Nothing is assigned before it is started.

    Example: scaling experiment create agent_count --planned 200 --budget 500
    """
    changes = {
        "experiment_id": experiment_id,
        "planned_per_value": planned,
        "budget_dollars": budget,
        "expire_seconds": expire,
    }
    definition = changed(definition_of(source), {name: value for name, value in changes.items() if value is not None})
    _say(settings_of(state), CreateRequest(_request_id(), definition, who(by), replace))


@app.command("start")
def start(experiment_id: IdArgument, by: ByOption = None, state: StateOption = None) -> None:
    """Seal a draft and begin to assign. From now on every change is a deviation.

    Example: scaling experiment start agent_count
    """
    _say(settings_of(state), StartRequest(_request_id(), experiment_id, who(by)))


@app.command("amend")
def amend(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The whole definition, changed.")],
    reason: ReasonOption,
    by: ByOption = None,
    state: StateOption = None,
) -> None:
    """Change an experiment that was started: a new version is sealed, and its results are exploratory for good.

    Example: scaling experiment amend agent_count.json --reason "medium tasks were mislabelled"
    """
    definition = definition_of(str(source))
    _say(settings_of(state), AmendRequest(_request_id(), definition, reason, who(by)))


@app.command("stop")
def stop(experiment_id: IdArgument, reason: ReasonOption, by: ByOption = None, state: StateOption = None) -> None:
    """End an experiment by hand. Its outcomes are still taken in; its result is exploratory.

    Example: scaling experiment stop agent_count --reason "the budget is needed elsewhere"
    """
    _say(settings_of(state), StopRequest(_request_id(), experiment_id, reason, who(by)))


@app.command("list")
def show_all(as_json: JsonOption = False, state: StateOption = None) -> None:
    """List all experiments with their status, size, verdict and what to do next.

    Example: scaling experiment list
    """
    courses = asyncio.run(read_courses(settings_of(state)))
    if as_json:
        print_json([_summary(course) for course in courses.values()])
        return
    if not courses:
        typer.echo("No experiment yet: scaling experiment plan shows the ready-made ones, and what each would take.")
        return
    table = Table("experiment", "version", "status", "tests", "runs", "verdict", "what to do next")
    for course in courses.values():
        row = _summary(course)
        names = ("experiment_id", "version", "status", "dimension", "runs", "verdict", "next_step")
        table.add_row(*(str(row[name]) for name in names))
    wide_console().print(table)


@app.command("show")
def show(experiment_id: IdArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show an experiment's design and its result so far; looking changes nothing and is always valid.

    Example: scaling experiment show agent_count
    """
    course = asyncio.run(read_course(settings_of(state), experiment_id))
    if as_json:
        print_json(_document(course))
        return
    definition = course.definition
    console = wide_console()
    console.print(f"{definition.name}: {course.status}", style="bold", markup=False)
    console.print(f"Hypothesis: {definition.hypothesis}", markup=False)
    for name, said in design_rows(definition):
        console.print(f"  {name}: {said}", markup=False, soft_wrap=True)
    result = course.results.get(course.newest)
    if result is None:
        console.print("No result yet.")
        return
    console.print()
    console.print(arms_table(result.arms))
    console.print(result.sentence, markup=False, soft_wrap=True)
    console.print(f"{result.label.capitalize()}. {result.next_step}", markup=False, soft_wrap=True)
    for deviation in result.deviations:
        console.print(f"Deviation: {deviation}", markup=False, soft_wrap=True)


@app.command("assign")
def assign(
    experiment_id: IdArgument,
    task: Annotated[str, typer.Option("--task", metavar="JSON", help="Fields of the run event known before the run.")],
    patience: Annotated[float, typer.Option("--patience", metavar="SECONDS", min=0.1, help="How long to wait.")] = 1.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Ask for a task's value as an orchestrator does; the run must echo experiment, value and token.

    Example: scaling experiment assign agent_count --task '{"task_id": "t-1", "task_complexity": 0.7}'
    """
    reply = asyncio.run(_assign(settings_of(state), experiment_id, read_task(task), patience))
    if as_json:
        print_json(msgspec.to_builtins(reply))
    elif reply.assigned_value is None:
        say(f"not assigned: {reply.message}")
    else:
        say(f"{value_text(reply.assigned_value)} (probability {reply.propensity:g})\n{reply.assignment_token}")


@app.command("verify")
def verify(experiment_id: IdArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Check the seals of all versions, and that every assignment was made under them; exit code 3 where not.

    Example: scaling experiment verify agent_count
    """
    found = asyncio.run(verify_experiment(settings_of(state), experiment_id))
    if as_json:
        print_json(found)
    else:
        say(f"{experiment_id}: {found.versions} sealed versions, {found.assignments} assignments")
        for problem in found.problems:
            say(f"WRONG  {problem}")
        for what in found.unchecked:
            say(f"not checked: {what}")
        if not found.problems:
            typer.echo("Everything that was checked is as it was sealed.")
    if found.problems:
        raise typer.Exit(EXIT_REJECTED)


@app.command("report")
def report(
    experiment_id: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="An .html or .md file.")],
    state: StateOption = None,
) -> None:
    """Write the report of an experiment: hypothesis, design, deviations, result with pictures, verdict and cost.

    Example: scaling experiment report agent_count -o agent_count.html
    """
    write_report(asyncio.run(read_report(settings_of(state), experiment_id)), output)
    remark(f"Wrote {output}")


@app.command("findings")
def findings(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Print the register of findings: what was asked and found, negative findings too, in the order of the tests.

    An effect stands if its p is at most the level that LORD++ leaves it: of all that stand, at most 5 % are false.

    Example: scaling experiment findings
    """
    known = registered(asyncio.run(read_findings(settings_of(state))))
    if as_json:
        print_json([msgspec.to_builtins(each.finding) | {"level": each.level, "stands": each.stands} for each in known])
        return
    if not known:
        typer.echo("No experiment has ended yet.")
        return
    table = Table("experiment", "verdict", "label", "finding", "p", "level", "stands")
    for each in known:
        table.add_row(*_finding_cells(each))
    wide_console().print(table)


def arms_table(arms: list[ArmResult]) -> Table:
    """Show what became of each value's assignments, and what its runs brought."""
    table = Table(
        "value", "assigned", "pending", "expired", "completed", "complied", "mean", "95 %", "at any look", "dollars"
    )
    for arm in arms:
        mean = arm.mean
        anytime = "" if arm.anytime_lo is None else f"{arm.anytime_lo:.3f} to {arm.anytime_hi:.3f}"
        table.add_row(
            value_text(arm.value),
            *(str(count) for count in (arm.assigned, arm.pending, arm.expired, arm.completed, arm.complied)),
            "" if mean is None else f"{mean.estimate:.3f}",
            "" if mean is None else f"{mean.lo:.3f} to {mean.hi:.3f}",
            anytime,
            f"{arm.dollars:.2f}",
        )
    return table


async def read_report(settings: Settings, experiment_id: str) -> Report:
    """Read what the report of an experiment tells.

    Raises:
        InvalidExperiment: There is no such experiment, or it has not started.
    """
    course = await read_course(settings, experiment_id)
    if not course.versions:
        raise InvalidExperiment(f"experiment {experiment_id} is a draft: start it, then there is something to report")
    known = registered(await read_findings(settings))
    own = [
        each for each in known if (each.finding.experiment_id, each.finding.version) == (experiment_id, course.newest)
    ]
    return Report(
        versions=[course.versions[number] for number in sorted(course.versions)],
        status=course.statuses[course.newest],
        result=course.results.get(course.newest),
        findings=[each.finding for each in known],
        level=own[-1].level if own else None,
    )


async def command(settings: Settings, request: Request) -> Reply:
    """Send one command to the owner of an experiment.

    Raises:
        NotReachable: Nobody answered.
        InvalidExperiment: It was refused.
    """
    async with Assigner(settings) as assigner:
        return await assigner.command(request)


async def _assign(settings: Settings, experiment_id: str, task: dict[str, Any], patience: float) -> Reply:
    async with Assigner(settings) as assigner:
        return await assigner.assign(experiment_id, task, patience=patience)


def _say(settings: Settings, request: Request) -> None:
    say(asyncio.run(command(settings, request)).message)


def _request_id() -> str:
    return str(uuid.uuid4())


def _summary(course: Course) -> dict[str, Any]:
    result, status = course.results.get(course.newest), course.statuses.get(course.newest)
    return {
        "experiment_id": course.experiment_id,
        "version": course.newest,
        "status": course.status,
        "dimension": course.definition.dimension_tested,
        "runs": 0 if result is None else result.runs,
        "verdict": "" if result is None else f"{result.verdict} ({result.label})",
        "next_step": "scaling experiment start" if status is None else status.next_step,
    }


def _document(course: Course) -> dict[str, Any]:
    result: Result | None = course.results.get(course.newest)
    return {
        "experiment_id": course.experiment_id,
        "status": course.statuses.get(course.newest) or course.status,
        "definition": course.definition,
        "versions": list(course.versions.values()),
        "result": result,
    }


def _finding_cells(each: Registered) -> list[str]:
    finding = each.finding
    level = "" if each.level is None else f"{each.level:.4f}"
    effect = each.level is not None and finding.verdict is Verdict.SUPPORTED and finding.p < 1
    stands = "" if not effect else "yes" if each.stands else "no"
    return [
        finding.experiment_id,
        finding.verdict.value,
        finding.label.value,
        finding.sentence,
        f"{finding.p:.2g}",
        level,
        stands,
    ]
