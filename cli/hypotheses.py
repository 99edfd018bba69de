"""`scaling hypotheses`: the design document's hypotheses, confronted with the laws as they stand."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from agents.lawbook import LawBook, speaks
from analytics.hypotheses import Verdict, confront
from analytics.multiplicity import Scope
from analytics.rulings import Finding
from cli.importing import JsonOption
from cli.laws import NOTHING, judged, read_laws, wide_console
from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from models.contexts import GLOBAL
from models.laws import Law

STYLES = {Finding.SUPPORTED: "green", Finding.REFUTED: "red", Finding.UNDETERMINED: "yellow"}


def hypotheses(
    context: Annotated[
        str, typer.Option("--context", metavar="C", help="The laws of which context, such as project=atlas.")
    ] = GLOBAL,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Say which of the design document's hypotheses the laws support, refute, or leave undetermined, and why.

    Each verdict comes with its decision rule, its evidence and its figures. An audited law speaks before a live one.

    Example: scaling hypotheses --context project=atlas
    """
    settings = settings_of(state)
    verdicts = verdicts_of(asyncio.run(read_laws(settings)), context, settings.significance_scope)
    if as_json:
        print_json(verdicts)
        return
    wide = wide_console()
    wide.print(verdict_table(verdicts, context))
    for verdict in verdicts:
        wide.print(f"{verdict.hypothesis}: {verdict.rule}.", markup=False, soft_wrap=True)


def verdicts_of(laws: Sequence[Law], context: str, scope: Scope) -> list[Verdict]:
    """Confront the hypotheses with the laws that speak, each told whether its trend stands among all in scope."""
    told = judged(laws, scope)
    book = LawBook()
    for law in told:
        book.put(law)
    return confront(told, context, speaks, partial(book.randomised, context))


def verdict_table(verdicts: Sequence[Verdict], context: str) -> Table:
    """Show verdicts, one a row, the counter-hypotheses below a line."""
    table = Table(title=f"Hypotheses, {escape(context)}", title_justify="left")
    for name in ("hypothesis", "claim", "finding", "why", "evidence"):
        table.add_column(name, overflow="fold")
    table.add_column("n", justify="right")
    for place, verdict in enumerate(verdicts):
        style = STYLES[verdict.finding]
        table.add_row(
            verdict.hypothesis,
            escape(verdict.claim),
            f"[{style}]{verdict.finding}[/{style}]",
            escape(verdict.why),
            verdict.evidence if verdict.law_id else NOTHING,
            f"{verdict.n:,}",
            end_section=place + 1 < len(verdicts) and verdicts[place + 1].counter != verdict.counter,
        )
    return table
