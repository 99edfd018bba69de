"""`scaling laws`: the scaling laws as they stand on scaling.laws."""

import asyncio
import math
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from agents.lawbook import LawBook
from cli.output import console, print_json
from cli.settings_of import StateOption, settings_of
from models.dimensions import Dimension, Outcome
from models.laws import Estimate, Law, ReferenceKnee, ValueRow
from models.settings import Settings
from models.topics import LAWS
from streams.kafka_clients import read_compacted

NOTHING = "–"  # noqa: RUF001 - a dash, as tables have it
WIDTH_OF_A_FILE = 160


def laws(
    context: Annotated[
        str | None, typer.Option("--context", metavar="CONTEXT", help="Such as global or project=atlas.")
    ] = None,
    dimension: Annotated[Dimension | None, typer.Option("--dimension", help="What is scaled.")] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="What it buys.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document: a list of full records.")] = False,
    state: StateOption = None,
) -> None:
    """Show the scaling laws; a single one also with its values and what it cannot know.

    Example: scaling laws --context global --dimension agent_count --outcome success
    """
    known = asyncio.run(read_laws(settings_of(state)))
    chosen = [law for law in known if _chosen(law, context, dimension, outcome)]
    if as_json:
        print_json(chosen)
        return
    if not chosen:
        contexts = sorted({law.context for law in known})
        there = f"the contexts with laws are {', '.join(contexts)}" if contexts else "publish runs to scaling.runs"
        typer.echo(f"No such law yet: {there}.")
        return
    wide = wide_console()
    wide.print(laws_table(chosen))
    if len(chosen) == 1:
        wide.print(values_table(chosen[0]))
        for part, reason in chosen[0].missing.items():
            wide.print(f"{part}: {reason}", markup=False, soft_wrap=True)


def wide_console() -> Console:
    """Give the console of the terminal, or one wide enough that no cell of a table in a file or pipe is broken up."""
    return console if console.is_terminal else Console(highlight=False, width=WIDTH_OF_A_FILE)


async def read_laws(settings: Settings) -> list[Law]:
    """Read the newest version of every law, in the order of context, dimension and outcome; the global ones first.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: scaling.laws does not exist.
    """
    book = LawBook()
    async for record in read_compacted(settings, LAWS):
        if record.value is None:
            book.delete(record.key.decode())
        else:
            book.put(msgspec.json.decode(record.value, type=Law))
    return sorted(book, key=lambda law: (law.context != "global", law.context, law.dimension, law.outcome, law.tier))


def laws_table(laws: list[Law]) -> Table:
    """Show laws, one a row."""
    table = Table(title=f"{len(laws)} scaling laws", title_justify="left")
    for name in ("context", "dimension", "outcome", "basis"):
        table.add_column(name, overflow="fold")
    for name in ("n", "exponent", "95 % interval", "knee", "recommended"):
        table.add_column(name, justify="right")
    for name in ("status", "evidence"):
        table.add_column(name)
    table.add_column("version", justify="right")
    for law in laws:
        exponent = exponent_of(law)
        table.add_row(
            law.context,
            law.dimension,
            law.outcome,
            law.basis or NOTHING,
            f"{law.n:,}",
            f"{exponent.estimate:.3f}" if exponent else NOTHING,
            rf"\[{exponent.lo:.3f}, {exponent.hi:.3f}]" if exponent else NOTHING,
            _knee(law.knee),
            NOTHING if law.reference.recommended_value is None else f"{law.reference.recommended_value:.4g}",
            law.status,
            law.evidence,
            str(law.version),
        )
    return table


def values_table(law: Law) -> Table:
    """Show what the runs at each value brought."""
    table = Table(title=f"{law.outcome} by {law.dimension}, {law.context}", title_justify="left")
    for name in (law.dimension, "n", "mean", "95 % interval"):
        table.add_column(name, justify="right")
    for row in law.values:
        table.add_row(_value(row), f"{row.n:,}", f"{row.mean:.4g}", rf"\[{row.lo:.4g}, {row.hi:.4g}]")
    return table


def exponent_of(law: Law) -> Estimate | None:
    """Give the exponent of a law's published power fit, where it has one."""
    return law.published.params.get("exponent") if law.published else None


def _chosen(law: Law, context: str | None, dimension: Dimension | None, outcome: Outcome | None) -> bool:
    wanted = ((context, law.context), (dimension, law.dimension), (outcome, law.outcome))
    return all(value is None or value == has for value, has in wanted)


def _knee(knee: ReferenceKnee | None) -> str:
    return NOTHING if knee is None else rf"{knee.value:.4g} \[{knee.lo:.4g}, {knee.hi:.4g}]"


def _value(row: ValueRow) -> str:
    if row.label is not None:
        return row.label
    return NOTHING if row.x is None or math.isnan(row.x) else f"{row.x:,.6g}"
