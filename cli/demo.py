"""`scaling demo`: the whole system in a temporary folder, learning laws whose truth is known."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from aiokafka import TopicPartition
from rich.console import Console

from agents.mapping import Mapping, parse_mapping
from analytics.simulation import simulate
from analytics.world import LAWS as PLANTED_LAWS
from analytics.world import Planted, World, confounded_world
from cli.allocating import allocation_table
from cli.closed_loop import closed_loop
from cli.demo_view import Progress, confounding_table, show, table
from cli.importing import MapOption, ScaleOption
from cli.interruption import interruptible
from cli.laws import wide_console
from cli.staging import staged
from cli.truth import Confounding, confounding
from models.allocations import AllocateRequest, Allocation
from models.contexts import GLOBAL
from models.errors import BudgetTooSmall, StackError
from models.joint_laws import JOINT, is_joint
from models.laws import Law, law_id
from models.settings import Settings
from models.topics import LAWS, RUNS
from streams.allocating import Allocating
from streams.clickhouse import query
from streams.files import Chunk, read_runs
from streams.imports import Imported, import_runs
from streams.kafka_clients import POLL_MS, reader

NOT_COVERED = 4
"""The exit code when not all intervals have the truth in them, or a confounded law was not seen through."""

CONFOUNDED = PLANTED_LAWS[0]
"""The planted law that is biased where harder tasks get more agents: success over agents."""

BUDGETS = (1.0, 5.0)
SLICE = 100
PATIENCE_SECONDS = 120.0
AUDIT_PATIENCE_SECONDS = 240.0
QUIET_SECONDS = 4.0
POLL_SECONDS = 0.1

QUERIES = {
    "What more agents buy": """\
SELECT agent_count, count() AS runs, round(avg(success), 3) AS success_rate, round(avg(quality_score), 3) AS quality,
       round(avg(total_cost), 3) AS dollars
FROM observations GROUP BY agent_count ORDER BY agent_count""",
    "What a success costs": """\
SELECT project, countIf(success) AS successes, round(sum(total_cost), 2) AS dollars,
       round(dollars / successes, 3) AS dollars_per_success
FROM observations GROUP BY project ORDER BY dollars_per_success""",
    "How the laws settled": """\
SELECT dimension, outcome, count() AS versions,
       min(n) AS first_runs, round(argMin(exponent, version), 3) AS first_exponent,
       max(n) AS last_runs, round(argMax(exponent, version), 3) AS last_exponent
FROM (SELECT *, JSONExtractFloat(record, 'power', 'exponent', 'estimate') AS exponent
      FROM law_history WHERE context = 'global' AND tier = 'live' AND family != '')
GROUP BY dimension, outcome HAVING abs(last_exponent) >= 0.1 ORDER BY dimension, outcome""",
}


CONFOUNDED_SETTINGS = {"audit_seconds": 1.0, "context_keys": [["project"], ["complexity_band"]]}
"""Few contexts and frequent rounds: the demo waits until the audit has seen all runs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo publishes, at how many runs a second, and who counts them."""

    world: World
    runs: int
    seed: int
    rate: float
    workers: int
    file: Path | None
    mapping: Mapping

    @property
    def planted(self) -> list[Planted]:
        """The laws that the intervals of what was learnt shall cover; a file's truth is not known.

        Where agents go with difficulty, their plain law is biased: it is judged apart.
        """
        if self.file:
            return []
        return [law for law in self.world.planted() if not (self.world.confounded and law == CONFOUNDED)]


def demo(
    *,
    runs: Annotated[int, typer.Option("--runs", metavar="N", min=1000, help="Simulated runs.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Another seed is another stream.")] = 1,
    rate: Annotated[float, typer.Option("--rate", metavar="R", min=1, help="Runs published a second.")] = 1000.0,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=1, help="Stats workers.")] = 1,
    confounded: Annotated[
        bool,
        typer.Option(
            "--confounded", help="Give harder tasks more agents: the plain law deceives, the adjusted does not."
        ),
    ] = False,
    closed: Annotated[
        bool, typer.Option("--closed-loop", help="Let the laws allocate tasks, and test that against a fixed setting.")
    ] = False,
    tasks: Annotated[
        int, typer.Option("--tasks", metavar="N", min=100, help="With --closed-loop: tasks at the most.")
    ] = 6000,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="With --closed-loop: where pictures go (.html, .md).")
    ] = Path("closed_loop.html"),
    file: Annotated[
        Path | None, typer.Option("--file", metavar="RUNS", help="Publish the runs of this file instead.")
    ] = None,
    mapping: MapOption = None,
    complexity_scale: ScaleOption = None,
) -> None:
    """Run the whole system in a temporary folder and show it learn; about a minute.

    Simulated orchestrators publish runs through Kafka; workers count them, refit the laws every second and archive
    everything in ClickHouse. Six laws are planted: in 95 of 100 streams the intervals of all six have the truth in
    them at the end. Then the allocator answers for two budgets, and ClickHouse three queries. Exit code 0 when all
    six are covered, 4 when not.

    With --confounded harder tasks get more agents, so that agents seem to hurt. At the end the plain law of success
    over agents has the wrong sign, and the adjusted ones the right one, or the exit code is 4; so it is when not all
    of the other five laws are covered.

    With --closed-loop orchestrators try settings, then ask the allocator for each task; half of the tasks get a fixed
    setting instead. The test ends as soon as it has a verdict, in one to three minutes, and the gain is held against
    what the given settings bring in truth. Exit code 0 when dynamic allocation is found better and the interval of its
    gain has the truth in it, 4 when not. Of the other options only --seed counts.

    Example: scaling demo --runs 20000 --seed 7
    """
    if file and (confounded or closed):
        raise typer.BadParameter(
            f"{'--confounded' if confounded else '--closed-loop'} and --file exclude each other: the truth of a file "
            "is not known"
        )
    if confounded and closed:
        raise typer.BadParameter("--confounded and --closed-loop exclude each other: show one after the other")
    if closed:
        if not closed_loop(seed, tasks, output):
            raise typer.Exit(NOT_COVERED)
        return
    world = confounded_world() if confounded else World()
    plan = Plan(world, runs, seed, rate, workers, file, parse_mapping(mapping or [], complexity_scale))
    with tempfile.TemporaryDirectory(prefix="scaling-demo-") as folder:

        async def present(settings: Settings) -> bool:
            return await _present(plan, settings, sliced(_chunks(plan)))

        overrides = CONFOUNDED_SETTINGS if confounded else {}
        shown = staged(Path(folder), present, workers=workers, logs="stats-*.log", **overrides)
        covered = asyncio.run(interruptible(shown))
    if not covered:
        raise typer.Exit(NOT_COVERED)


async def _present(plan: Plan, settings: Settings, chunks: Iterable[Chunk]) -> bool:
    progress = Progress(plan.planted, None if plan.file else plan.runs)
    console = wide_console()
    began = time.monotonic()
    background = [asyncio.ensure_future(_follow(settings, progress)), asyncio.ensure_future(show(progress, console))]
    learning = asyncio.ensure_future(_learn(settings, plan, chunks, progress))
    try:
        await asyncio.wait((learning, *background), return_when=asyncio.FIRST_COMPLETED)
        for task in (learning, *background):
            if task.done():
                task.result()
        imported = learning.result()
    finally:
        for task in (learning, *background):
            task.cancel()
        await asyncio.gather(learning, *background, return_exceptions=True)
    seconds = time.monotonic() - began
    console.print(table(progress))
    await _allocate(settings, console)
    await _archived(settings, progress)
    await _query(settings, console)
    seen_through = not plan.world.confounded or _tell_confounding(confounding(CONFOUNDED, progress.book), console)
    return _summarise(progress, imported, seconds, console) and seen_through


async def _learn(settings: Settings, plan: Plan, chunks: Iterable[Chunk], progress: Progress) -> Imported:
    """Publish, then wait until workers, archive and laws have everything."""

    async def counted() -> AsyncIterator[Chunk]:
        for chunk in chunks:
            yield chunk
            progress.published = chunk.done

    def tell(*_: object) -> None:
        progress.doing = "catching up"

    imported = await import_runs(settings, counted(), rate=plan.rate, on_progress=tell)
    progress.doing = "refitting"
    await _laws_cover(settings, progress, all_accepted=imported.tally.accepted == imported.published)
    if plan.world.confounded:
        progress.doing = "auditing"
        await _audit_covers(progress, imported.tally.accepted)
    return imported


async def _audit_covers(progress: Progress, runs: int) -> None:
    """Wait until the audited law that is confounded has seen all runs.

    Raises:
        StackError: It takes too long.
    """
    identifier = law_id(GLOBAL, CONFOUNDED.dimension, CONFOUNDED.outcome, "audited")
    deadline = time.monotonic() + AUDIT_PATIENCE_SECONDS
    while not any(law.law_id == identifier and law.n >= runs for law in progress.book):
        if time.monotonic() > deadline:
            raise StackError(
                f"the audited law {identifier} has not seen all runs after {AUDIT_PATIENCE_SECONDS:.0f} s: "
                "try fewer (--runs)"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _laws_cover(settings: Settings, progress: Progress, *, all_accepted: bool) -> None:
    """Wait until the lineage of every global law holds everything that was published.

    A law is refitted when its own cells change. A rejected or repeated record changes none, so with such records at
    an end of the topic a lineage stays short of it: then the laws are final when no new ones come for some windows.

    Raises:
        StackError: It takes too long.
    """
    async with reader(settings, RUNS) as runs:
        ends = await runs.end_offsets([TopicPartition(RUNS, partition) for partition in range(settings.partitions)])
    wanted = {str(each.partition): end for each, end in ends.items()}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        laws = progress.global_laws()
        if laws and all(covers(law, wanted) for law in laws):
            return
        quiet = time.monotonic() - progress.updated
        if not all_accepted and quiet > QUIET_SECONDS + settings.refit_seconds:
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"the laws have not seen all runs after {PATIENCE_SECONDS:.0f} s: try fewer (--runs) or slower (--rate)"
            )
        await asyncio.sleep(POLL_SECONDS)


def covers(law: Law, ends: dict[str, int]) -> bool:
    """Tell whether a law has seen every record below the given offset of each source partition."""
    return all(law.lineage.get(partition, 0) >= end for partition, end in ends.items())


async def _follow(settings: Settings, progress: Progress) -> None:
    """Keep the laws of one dimension in step with their topic."""
    decode = msgspec.json.Decoder(Law).decode
    async with reader(settings, LAWS) as laws:
        while True:
            for records in (await laws.getmany(timeout_ms=POLL_MS)).values():
                known = [record.value for record in records if not is_joint(record.key.decode())]
                for value in known:
                    progress.book.put(decode(value))
                progress.updates += len(known)
                progress.updated = time.monotonic()


async def _allocate(settings: Settings, console: Console) -> None:
    answers: dict[str, Allocation] = {}
    remarks: list[str] = []
    async with Allocating(settings) as allocator:
        for budget in BUDGETS:
            heading = f"within {budget:g} dollars"
            request = AllocateRequest(f"demo-{budget:g}", budget=budget, explore=False)
            try:
                answers[heading] = await allocator.allocate(request)
            except BudgetTooSmall as error:
                remarks.append(str(error))
            else:
                remarks.append(f"{heading}: {answers[heading].why}")
    console.print("\nWhat to give a task", style="italic")
    if answers:
        console.print(allocation_table(answers))
    console.print("\n".join(remarks), markup=False, soft_wrap=True)


async def _archived(settings: Settings, progress: Progress) -> None:
    """Wait until ClickHouse has the newest version of every law that the book has.

    Raises:
        StackError: It takes too long.
    """
    versions = sum(law.version for law in progress.book)
    deadline = time.monotonic() + PATIENCE_SECONDS
    archived = f"SELECT sum(version) FROM laws WHERE dimension != '{JOINT}'"  # noqa: S608 - a constant
    while int(await asyncio.to_thread(query, settings, archived, fmt="TabSeparated")) < versions:
        if time.monotonic() > deadline:
            raise StackError(f"ClickHouse lacks laws after {PATIENCE_SECONDS:.0f} s: try a slower demo (--rate)")
        await asyncio.sleep(POLL_SECONDS)


async def _query(settings: Settings, console: Console) -> None:
    for title, sql in QUERIES.items():
        answer = await asyncio.to_thread(query, settings, sql, fmt="PrettyCompact")
        console.print(f"\n{title}", style="italic")
        console.print(sql, style="dim", markup=False, soft_wrap=True)
        console.print(answer.decode().rstrip(), markup=False, soft_wrap=True)


def _tell_confounding(found: Confounding, console: Console) -> bool:
    """Show the law that deceives beside the adjusted ones; say whether it was seen through."""
    console.print()
    console.print(confounding_table(found))
    console.print("\n".join(found.conclusions()), markup=False, soft_wrap=True)
    return found.seen_through


def _summarise(progress: Progress, imported: Imported, seconds: float, console: Console) -> bool:
    tally = imported.tally
    covered, planted = progress.covered(), len(progress.planted)
    rate = imported.published / seconds
    counts = f"{tally.accepted:,} accepted, {tally.duplicate:,} duplicates, {imported.rejected:,} rejected"
    lines = [
        f"{imported.published:,} runs in {seconds:.0f} s ({rate:,.0f} a second): {counts}.",
        f"{len(progress.book)} laws, {progress.updates:,} updates of them.",
        *(f"rejected: {reason}" for reason in tally.reasons),
    ]
    if planted:
        lines.append(
            f"All {planted} planted laws lie in their simultaneous 95 % intervals."
            if covered == planted
            else f"{covered} of {planted} planted laws lie in their simultaneous 95 % intervals. With sound intervals "
            "that happens in up to 5 of 100 streams: try another --seed."
        )
    lines.append("Next: scaling up keeps the system running; scaling import FILE feeds it your own runs.")
    console.print("\n" + "\n".join(lines), markup=False, soft_wrap=True)
    return covered == planted


def _chunks(plan: Plan) -> Iterator[Chunk]:
    if plan.file is None:
        return _simulated(plan)
    return read_runs([plan.file], plan.mapping.apply if plan.mapping else None)


def _simulated(plan: Plan) -> Iterator[Chunk]:
    events = simulate(plan.world, plan.runs, plan.seed)
    for first in range(1, plan.runs + 1, SLICE):
        payloads = [msgspec.json.encode(event) for event in islice(events, SLICE)]
        yield Chunk(Path("simulated"), range(first, first + len(payloads)), payloads, first + len(payloads) - 1)


def sliced(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Cut chunks small, so that the progress is smooth; `done` counts records."""
    done = 0
    for chunk in chunks:
        for first in range(0, len(chunk.lines), SLICE):
            payloads = chunk.payloads[first : first + SLICE]
            done += len(payloads)
            yield Chunk(chunk.path, chunk.lines[first : first + SLICE], payloads, done)
