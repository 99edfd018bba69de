"""`scaling query`: ad hoc SQL over runs, rejects and laws."""

import sys
from typing import Annotated

import typer

from cli.output import say
from cli.settings_of import StateOption, settings_of
from streams.adhoc import ask


def query(
    sql: Annotated[str, typer.Argument(help="One statement; {name:Type} stands for a parameter.")],
    fmt: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Any output format of ClickHouse: TabSeparated, JSON, CSVWithNames, Pretty, Parquet, ... "
            "Absent: PrettyCompact on a terminal, else TabSeparatedWithNames.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="The value of a parameter; may be repeated."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document: the same as --format JSON.")
    ] = False,
    state: StateOption = None,
) -> None:
    """Query ClickHouse and print its answer as it comes. It reads the archive and nothing else, within limits.

    The views, among them observations, laws and decision_outcomes, are in docs/clickhouse.md.

    Example: scaling query "SELECT project, count() FROM observations WHERE agent_count >= {a:UInt8} GROUP BY project"
    --param a=2
    """
    if as_json and fmt not in {None, "JSON"}:
        raise typer.BadParameter(f"--json and --format {fmt} exclude each other: give one of them")
    usual = "PrettyCompact" if sys.stdout.isatty() else "TabSeparatedWithNames"
    answer = ask(
        settings_of(state), sql, fmt="JSON" if as_json else fmt or usual, parameters=dict(map(_pair, param or []))
    )
    if sys.stdout.isatty():
        say(answer.decode(errors="replace").removesuffix("\n"))
        return
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"--param {text}: give NAME=VALUE")
    return name, value
