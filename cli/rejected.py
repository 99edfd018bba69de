"""`scaling rejected`: look at the records that were no run events, and publish them again once the cause is mended."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from agents.decode import EventDecoder
from agents.mapping import parse_mapping
from cli.importing import JsonOption, MapOption, ScaleOption, TimeoutOption, document, run_import, show
from cli.laws import NOTHING, wide_console
from cli.output import EXIT_REJECTED, console, print_json, progress_bar
from cli.settings_of import StateOption, settings_of
from models.errors import ScalingError
from models.settings import Settings
from streams.files import Chunk
from streams.originals import Original, Selection, count_rejected, list_rejected, read_originals

app = typer.Typer(help="Records that were rejected: list them, publish them again.", no_args_is_help=True)

HEAD = 60
FIRST_REASONS = 10


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many, the latest first.")] = 20,
    import_id: Annotated[str | None, typer.Option("--import-id", metavar="ID", help="Only those of an import.")] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """List rejected records with their coordinates, the reason and the beginning of what they held.

    Exit status: 0, or 1 on errors, 2 on wrong usage.

    Example: scaling rejected list --limit 5
    """
    settings = settings_of(state)
    selection = Selection(import_id)
    total = count_rejected(settings, selection)
    rows = list_rejected(settings, selection, limit)
    if as_json:
        print_json({"total": total, "rejected": rows})
        return
    table = Table(title=f"{len(rows)} of {total:,} rejected")
    for name in ("record", "time", "import", "bytes", "reason", "payload"):
        table.add_column(name, overflow="fold")
    for row in rows:
        texts = (
            f"{row['topic']}:{row['partition']}:{row['offset']}",
            f"{row['timestamp']:%Y-%m-%d %H:%M:%S}",
            row["import_id"] or NOTHING,
            f"{row['size']:,}",
            row["reason"],
            row["payload_head"][:HEAD],
        )
        table.add_row(*map(Text, texts))
    wide_console().print(table)


@app.command()
def replay(  # noqa: PLR0917 - the options of the command
    import_id: Annotated[
        str | None, typer.Option("--import-id", metavar="ID", help="The rejected records of this import.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All rejected records.")] = False,
    offset: Annotated[
        list[str] | None,
        typer.Option("--offset", metavar="TOPIC:PARTITION:OFFSET", help="The record there; may be repeated."),
    ] = None,
    mapping: MapOption = None,
    complexity_scale: ScaleOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Publish nothing; say what would be accepted and rejected.")
    ] = False,
    timeout: TimeoutOption = 600.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Publish rejected records again under a new import id, changed by --map and --complexity-scale, and count them.

    A record longer than 64 KiB is read again from its topic, as long as that retains it. Records of the same content
    are published once.

    Exit status: 0 when all were accepted, 3 when some were rejected or are gone, 1 on errors, 2 on wrong usage.

    Example: scaling rejected replay --import-id nightly --complexity-scale 1:10
    """
    if (import_id is not None) + everything + bool(offset) != 1:
        raise typer.BadParameter("give one of --import-id ID, --all and --offset TOPIC:PARTITION:OFFSET")
    settings = settings_of(state)
    selection = Selection(import_id, tuple(offset or ()))
    if not count_rejected(settings, selection):
        raise ScalingError("there are no such rejected records: see which there are with scaling rejected list")
    change = parse_mapping(mapping or [], complexity_scale)
    gone: list[Original] = []
    chunks = _chunks(settings, selection, change.apply if change else bytes, gone)
    if dry_run:
        result = asyncio.run(_tried(settings, chunks))
        rejected = bool(result["rejected"])
    else:
        with progress_bar() as progress:
            imported = run_import(settings, chunks, progress, timeout=timeout)
        result, rejected = document(imported), bool(imported.rejected)
    if as_json:
        print_json(result | {"gone": [{"record": _place(each), "reason": each.gone} for each in gone]})
    else:
        if dry_run:
            _show_tried(result)
        else:
            show(imported)
        for each in gone:
            console.print(f"gone: {_place(each)}: {each.gone}", markup=False, soft_wrap=True)
    if rejected or gone:
        raise typer.Exit(EXIT_REJECTED)


async def _chunks(
    settings: Settings, selection: Selection, change: Callable[[bytes], bytes], gone: list[Original]
) -> AsyncIterator[Chunk]:
    """Yield the originals as chunks to publish; those that are gone are put aside."""
    done = 0
    async for originals in read_originals(settings, selection):
        gone.extend(each for each in originals if each.payload is None)
        there = [(each.offset, change(each.payload)) for each in originals if each.payload is not None]
        done += len(originals)
        path = Path(f"{originals[0].topic}:{originals[0].partition}")
        yield Chunk(path, [offset for offset, _ in there], [payload for _, payload in there], done)


async def _tried(settings: Settings, chunks: AsyncIterator[Chunk]) -> dict[str, Any]:
    """Decode without publishing."""
    decoder = EventDecoder(settings)
    accepted = 0
    reasons: Counter[str] = Counter()
    async for chunk in chunks:
        decoded = decoder.decode_batch(chunk.payloads)
        accepted += len(decoded.events)
        reasons.update(rejection.reason for rejection in decoded.rejections)
    first = [reason for reason, _ in reasons.most_common(FIRST_REASONS)]
    return {"dry_run": True, "accepted": accepted, "rejected": reasons.total(), "reasons": first}


def _show_tried(result: dict[str, Any]) -> None:
    console.print(f"{result['accepted']:,} would be accepted or duplicate, {result['rejected']:,} rejected again")
    for reason in result["reasons"]:
        console.print(f"rejected: {reason}", markup=False, soft_wrap=True)


def _place(original: Original) -> str:
    return f"{original.topic}:{original.partition}:{original.offset}"
