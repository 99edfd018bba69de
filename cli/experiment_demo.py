"""`scaling experiment demo`: the agent count experiment, from plan to report, on a world whose truth is known."""

import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from agents.definitions import digest
from analytics.arm_means import effect_weights
from analytics.ready_made import READY_MADE
from analytics.task_filter import matches
from analytics.verdicts import amount
from analytics.world import World
from cli.definition_files import changed
from cli.experiment import arms_table, command, read_report
from cli.experiment_planning import PastRuns, describe, plans_of
from cli.interruption import interruptible, undisturbed
from cli.laws import wide_console
from cli.output import error_console
from cli.report.writing import write_report
from cli.simulated_orchestrators import Habits, Orchestrators, Work
from cli.starting import Starting
from deploy.stack import Stack, StackOptions
from models.dimensions import Dimension, Outcome
from models.errors import StackError
from models.experiments import CreateRequest, Definition, Result, StartRequest, Status
from models.settings import ComplexityScale, Settings, load_settings
from streams.experiment_log import read_course
from streams.experiment_verification import verify_experiment

NOT_COVERED = 4
EXPIRE_SECONDS = 10
LOOK_SECONDS = 2.0
PATIENCE_SECONDS = 300.0


def demo(
    *,
    planned: Annotated[int, typer.Option("--planned", metavar="N", min=30, help="Assignments for each value.")] = 200,
    flat: Annotated[bool, typer.Option("--flat", help="Let agents change nothing: does it say so?")] = False,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Another seed is another stream.")] = 1,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the report goes (.html or .md).")
    ] = Path("agent_count.html"),
) -> None:
    """Run the agent count experiment in a temporary folder on simulated orchestrators; about a minute.

    They crash in 3 % of runs, do as always in 5 %, and publish 2 % twice. Exit code 0 when the interval of the effect
    covers what was planted and the log is as it was sealed, 4 when not. With --flat nothing was planted, and the
    finding to be expected is that there is no effect larger than 20 points.

    Example: scaling experiment demo --planned 200 -o agent_count.html
    """
    with tempfile.TemporaryDirectory(prefix="scaling-experiment-") as folder:
        covered = asyncio.run(interruptible(_run(planned, seed, output, Path(folder), flat=flat)))
    if not covered:
        raise typer.Exit(NOT_COVERED)


async def _run(planned: int, seed: int, output: Path, folder: Path, *, flat: bool) -> bool:
    with Starting(error_console) as starting:
        options = StackOptions(folder, workers=1, kafka_port=0, clickhouse_port=0)
        stack = Stack(options, load_settings(refit_seconds=0.5), starting.tell)
        settings = await stack.start()
    try:
        return await present(settings, experiment_world(flat=flat), planned, seed, output)
    finally:
        with undisturbed():
            error_console.print("Stopping, and removing the temporary folder")
            await stack.stop()


def experiment_world(*, flat: bool) -> World:
    """Make the world of the demo; a flat one has no law of agents."""
    world = World()
    laws = tuple(law for law in world.laws if law.dimension is not Dimension.AGENT_COUNT)
    return replace(world, laws=laws) if flat else world


async def present(settings: Settings, world: World, planned: int, seed: int, output: Path) -> bool:
    """Run the experiment on a running stack and tell about it; say whether the planted effect was covered."""
    console = wide_console()
    definition = changed(READY_MADE["agent_count"], {"planned_per_value": planned, "expire_seconds": EXPIRE_SECONDS})
    name = definition.experiment_id
    (planned_course,) = plans_of([definition], PastRuns(), settings)
    describe(definition, planned_course, console)
    await command(settings, CreateRequest("demo-create", definition, "demo"))
    console.print((await command(settings, StartRequest("demo-start", name, "demo"))).message, markup=False)
    team = Orchestrators(settings, world, name, seed=seed)
    looking = asyncio.ensure_future(_look(settings, name, console))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            work = await team.run()
        result = await _concluded(settings, name)
    except TimeoutError:
        answers = ", ".join(f"{count} {kind}" for kind, count in team.work.answers.items())
        message = f"experiment {name} was not over within {PATIENCE_SECONDS:.0f} s ({answers}): try a smaller --planned"
        raise StackError(message) from None
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    console.print(arms_table(result.arms))
    _tell_work(work, console)
    console.print(f"{result.verdict.upper()}, {result.label}: {result.sentence}", markup=False, soft_wrap=True)
    report = await read_report(settings, name)
    await asyncio.to_thread(write_report, report, output)
    console.print(f"Report: {output}", markup=False, soft_wrap=True)
    return _tell_truth(world, definition, result, console) and await _verified(settings, name, definition, console)


def planted_effect(world: World, definition: Definition, habits: Habits) -> float:
    """Work out the effect that intention to treat estimates: strays do as always, whatever they were assigned.

    Equation: w' ((1 - s) f(assigned) + s f(always)), f the mean success of the tasks that take part, w as in
    `analytics.arm_means.effect_weights`.
    """
    scale = ComplexityScale().model_dump()
    takes_part = [matches(definition.context_filter, {"task_complexity": each}, scale) for each in world.complexities()]
    level = world.start(Outcome.SUCCESS) * float(world.ease()[np.array(takes_part)].mean())
    for dimension in Dimension:
        if dimension is not Dimension.AGENT_COUNT:
            level *= float(world.factors(Outcome.SUCCESS, dimension).mean())
    rates = level * world.factors(Outcome.SUCCESS, Dimension.AGENT_COUNT)
    given = (1 - habits.stray) * rates + habits.stray * rates[habits.always]
    return float(effect_weights(definition)[0] @ given)


async def _look(settings: Settings, name: str, console: Console) -> None:
    """Peek at the result every other second, which is what an anytime-valid one is for."""
    told = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        result = (await read_course(settings, name)).results.get(1)
        if result is None or result.look == told or result.effect is None:
            continue
        told, effect = result.look, result.effect
        ends = f"{amount(Outcome.SUCCESS, effect.anytime_lo)} to {amount(Outcome.SUCCESS, effect.anytime_hi)}"
        console.print(
            f"look {result.look}: {result.runs} runs, {amount(Outcome.SUCCESS, effect.estimate.estimate)} ({ends}), "
            f"e-value {effect.e_value:.3g}, {result.verdict}",
            markup=False,
        )


async def _concluded(settings: Settings, name: str) -> Result:
    """Wait until every outcome is in or has expired, and the finding is registered.

    Raises:
        StackError: It takes too long.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        course = await read_course(settings, name)
        result = course.results.get(1)
        if result is not None and result.status in {Status.ANALYZED, Status.STOPPED} and not _waiting(result):
            return result
        if time.monotonic() > deadline:
            raise StackError(
                f"experiment {name} was not concluded within {PATIENCE_SECONDS:.0f} s: it is {course.status}"
            )
        await asyncio.sleep(0.5)


def _waiting(result: Result) -> bool:
    return any(arm.pending for arm in result.arms)


def _tell_work(work: Work, console: Console) -> None:
    waited = sorted(work.waited)
    slowest = waited[int(0.99 * (len(waited) - 1))] if waited else 0.0
    answers = ", ".join(f"{count} {kind}" for kind, count in sorted(work.answers.items()))
    console.print(
        f"{sum(work.answers.values())} tasks asked ({answers}); 99 % were answered within {1000 * slowest:.0f} ms. "
        f"{work.crashed} runs crashed, {work.strayed} did as always, {work.repeated} were published twice.",
        markup=False,
        soft_wrap=True,
    )


def _tell_truth(world: World, definition: Definition, result: Result, console: Console) -> bool:
    planted, effect = planted_effect(world, definition, Habits()), result.effect
    if effect is None:
        console.print("There is no effect to compare with the planted one.")
        return False
    covered = effect.anytime_lo <= planted <= effect.anytime_hi
    console.print(
        f"Planted: {amount(Outcome.SUCCESS, planted)} {effect.what}; "
        f"the interval {'covers' if covered else 'does NOT cover'} it.",
        markup=False,
    )
    return covered


async def _verified(settings: Settings, name: str, definition: Definition, console: Console) -> bool:
    found = await verify_experiment(settings, name)
    console.print(
        f"Verified: {found.versions} sealed version ({digest(definition)[:12]}), {found.assignments} assignments, "
        f"{len(found.problems)} problems.",
        markup=False,
    )
    for problem in found.problems:
        console.print(f"WRONG {problem}", markup=False)
    return not found.problems
