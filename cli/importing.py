"""`scaling import`: publish runs from files and say what became of them."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID
from rich.table import Table
from rich.text import Text

from agents.mapping import parse_mapping
from cli.output import EXIT_REJECTED, console, print_json, progress_bar, remark
from cli.settings_of import StateOption, settings_of
from models.settings import Settings
from models.topics import ARCHIVE_APP, STATS_APP
from streams.files import Chunk, read_runs, size_of
from streams.imports import Imported, import_runs
from streams.publisher import Refused

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="JSON Lines (.jsonl, .ndjson), CSV (.csv), either also with .gz, or Parquet (.parquet); - is JSON Lines "
        "from standard input.",
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=SOURCE",
        help="Take a field of the event from another top-level field or from an entry of project_characteristics "
        "(NAME, or project_characteristics.NAME); may be repeated. max_iterations=total_iterations says that the "
        "count was a limit set before the run.",
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option("--complexity-scale", metavar="MIN:MAX", help="The scale of numeric task complexities, if not 0:1."),
]
RateOption = Annotated[
    float | None, typer.Option("--rate", min=0.1, metavar="N", help="Publish N events a second at the most.")
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for the workers at the end.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

STEPS = {STATS_APP: "Running statistics", ARCHIVE_APP: "ClickHouse"}


def import_files(  # noqa: PLR0917 - the options of the command
    files: FilesArgument,
    mapping: MapOption = None,
    complexity_scale: ScaleOption = None,
    rate: RateOption = None,
    import_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Name of this import; absent: a new one is made.")
    ] = None,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Publish runs from files, wait until they are in the running statistics and in ClickHouse, and count them.

    Runs that are there already count as duplicates, so an import can be repeated. Needs a stats and an archive worker.

    Exit status: 0 when nothing was rejected, 3 when some records were, 1 on errors, 2 on wrong usage.

    Example: scaling import runs.jsonl.gz --map max_iterations=total_iterations
    """
    change = parse_mapping(mapping or [], complexity_scale)
    chunks = read_runs(files, change.apply if change else None)
    settings = settings_of(state)
    with progress_bar() as progress:
        tasks = {path: progress.add_task(path.name, total=size_of(path)) for path in files}
        watched = _watched(chunks, progress, tasks)
        imported = run_import(settings, watched, progress, import_id=import_id, rate=rate, timeout=timeout)
    if as_json:
        print_json(document(imported))
    else:
        show(imported)
    if imported.rejected:
        raise typer.Exit(EXIT_REJECTED)


def run_import(
    settings: Settings,
    chunks: AsyncIterable[Chunk],
    progress: Progress,
    *,
    timeout: float,
    import_id: str | None = None,
    rate: float | None = None,
) -> Imported:
    """Import chunks, with a progress bar for each worker that must get past them."""
    groups = {group: progress.add_task(name, total=None, visible=False) for group, name in STEPS.items()}

    def on_progress(group: str, done: int, total: int) -> None:
        progress.update(groups[group], completed=done, total=total, visible=True)

    return asyncio.run(import_runs(settings, chunks, import_id, rate=rate, timeout=timeout, on_progress=on_progress))


def document(imported: Imported) -> dict[str, Any]:
    """Make the JSON document of an import."""
    tally = imported.tally
    return {
        "import_id": imported.import_id,
        "published": imported.published,
        "accepted": tally.accepted,
        "duplicate": tally.duplicate,
        "corrected": tally.corrected,
        "rejected": imported.rejected,
        "reasons": tally.reasons,
        "refused": [{"record": _place(each), "reason": each.reason} for each in imported.refused],
    }


def show(imported: Imported) -> None:
    """Print the counts of an import and the first reasons for rejection."""
    tally = imported.tally
    table = Table("accepted", "duplicate", "corrected", "rejected", title=Text(f"import {imported.import_id}"))
    counts = (tally.accepted, tally.duplicate, tally.corrected, imported.rejected)
    table.add_row(*(f"{count:,}" for count in counts))
    console.print(table)
    for reason in tally.reasons:
        console.print(f"rejected: {reason}", markup=False, soft_wrap=True)
    for refused in imported.refused:
        console.print(f"refused: {_place(refused)}: {refused.reason}", markup=False, soft_wrap=True)
    if tally.rejected:
        remark(f"see them with: scaling rejected list --import-id {imported.import_id}")


async def _watched(chunks: Iterable[Chunk], progress: Progress, tasks: Mapping[Path, TaskID]) -> AsyncIterator[Chunk]:
    for chunk in chunks:
        yield chunk
        progress.update(tasks[chunk.path], completed=chunk.done)


def _place(refused: Refused) -> str:
    path, line = refused.mark
    return f"{path}:{line}"
