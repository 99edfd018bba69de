"""`scaling rebuild`: compute the live tables anew from ClickHouse."""

import asyncio
import logging
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cli.laws import JsonOption, wide_console
from cli.output import print_json, progress_bar
from cli.settings_of import StateOption, settings_of
from streams.rebuild import Rebuilt
from streams.rebuild import rebuild as rebuild_tables
from streams.worker import log_to_stderr

EXIT_DIFFERS = 3
"""Exit status of a dry run that found differences."""


def rebuild(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; show by context what a rebuild would change.")
    ] = False,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", metavar="N", min=0, help="Only this partition; may be repeated. Absent: all."),
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Compute the running statistics anew from ClickHouse: every run once, in its newest revision.

    For corrections that came after Kafka had let go of what they replace, and repeats from further back than the
    workers remember. Publishing goes on meanwhile. Each partition's worker stops when its tables have been replaced,
    and must be started again by whatever supervises it (scaling up does, and so do containers that restart).

    Exit status: 0 when the tables are rebuilt, or equal; 3 when a dry run found differences; 1 on errors, 2 on wrong
    usage.

    Example: scaling rebuild --dry-run
    """
    settings = settings_of(state)
    unknown = [number for number in partition or [] if number >= settings.partitions]
    if unknown:
        raise typer.BadParameter(f"there is no partition {unknown[0]}: there are {settings.partitions}, from 0 on")
    chosen = sorted(set(partition)) if partition else list(range(settings.partitions))
    log_to_stderr(logging.WARNING)
    with progress_bar() as progress:
        bars = {number: progress.add_task(f"Partition {number}", total=None) for number in chosen}
        found = asyncio.run(
            rebuild_tables(
                settings,
                chosen,
                dry_run=dry_run,
                progress=lambda number, done, total: progress.update(bars[number], completed=done, total=total),
            )
        )
    differs = any(each.differences for each in found)
    if as_json:
        print_json({"dry_run": dry_run, "partitions": found})
    else:
        show(found, dry_run=dry_run)
    if dry_run and differs:
        raise typer.Exit(EXIT_DIFFERS)


def show(found: list[Rebuilt], *, dry_run: bool) -> None:
    """Show what differs, by partition and context."""
    table = Table(title="What a rebuild would change" if dry_run else "What was changed", title_justify="left")
    for name in ("partition", "context", "runs before", "runs after", "cells that differ"):
        table.add_column(name, justify="left" if name == "context" else "right")
    for each in found:
        for one in each.differences:
            numbers = (f"{one.runs_before:,}", f"{one.runs_after:,}", f"{one.cells:,}")
            table.add_row(str(each.partition), Text(one.context), *numbers)
    console = wide_console()
    if table.row_count:
        console.print(table)
    else:
        console.print("The tables are what the archive gives: nothing differs.")
    runs = sum(each.runs for each in found)
    done = "compared" if dry_run else "rebuilt"
    console.print(f"{done}: {runs:,} runs in {len(found)} partitions")
