"""`scaling laws verify`: whether a law says what its raw runs say."""

import asyncio
from collections.abc import Iterator

import typer
from rich.markup import escape
from rich.table import Table

from analytics.sentences import count
from cli.laws import JsonOption, LawArgument, find, read_laws, wide_console
from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from models.errors import ScalingError
from models.experiments import TIER
from models.joint_laws import is_joint
from streams.verification import Verification
from streams.verification import verify as verify_law

EXIT_DIFFERS = 3
"""Exit status where a law differs from its runs."""

STYLES = {"equal": "green", "differs": "red", "not compared": "yellow"}
MOST_DIFFERENCES = 8


def verify(identifier: LawArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Fit a law anew from the raw runs in ClickHouse that it has seen, and compare it with the one published.

    A live law is fitted row by row, without the running statistics that it came from; an audited one once more by the
    audit. Runs that were corrected since the law saw them are taken as they are now, and named.

    Exit status: 0 when all that was compared is equal, 3 when something differs, 1 on errors, 2 on wrong usage.

    Example: scaling laws verify "global|agent_count|success|live"
    """
    if is_joint(identifier):
        raise ScalingError(
            f"{identifier} is a joint law, and what is verified are laws of one dimension: name one of these"
        )
    settings = settings_of(state)
    law = find(asyncio.run(read_laws(settings)), identifier)
    if law.tier.startswith(TIER):
        raise ScalingError(f"{law.law_id} is an experiment's law: scaling experiment verify checks what it rests on")
    found = verify_law(settings, law)
    if as_json:
        print_json(found)
    else:
        wide = wide_console()
        wide.print(parts_table(found))
        for line in conclusions(found):
            wide.print(line, markup=False, soft_wrap=True)
    if not found.equal:
        raise typer.Exit(EXIT_DIFFERS)


def parts_table(found: Verification) -> Table:
    """Show each part with its verdict."""
    table = Table(title=escape(f"{found.law_id}, version {found.version}"), title_justify="left")
    table.add_column("part")
    table.add_column("verdict")
    table.add_column("published, and from the runs", overflow="fold")
    for part in found.parts:
        verdict = part.verdict
        more = len(part.differences) - MOST_DIFFERENCES
        shown = [*part.differences[:MOST_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
        table.add_row(
            part.name, f"[{STYLES[verdict]}]{verdict}[/]", escape("\n".join(shown) if shown else part.not_compared)
        )
    return table


def conclusions(found: Verification) -> Iterator[str]:
    """Say in sentences what the verification found, and what may be the reason of a difference."""
    if found.equal:
        yield "The law equals the one fitted from its raw runs, in all that was compared."
    else:
        parts = [part.name for part in found.parts if part.differences]
        yield f"The law DIFFERS from the one fitted from its raw runs: {', '.join(parts)}."
    if found.corrected_total:
        more = found.corrected_total - len(found.corrected)
        names = ", ".join(found.corrected) + (f" and {more:,} more" if more else "")
        reason = "" if found.equal else "; that may be the reason"
        were = "was" if found.corrected_total == 1 else "were"
        yield f"{count(found.corrected_total, 'run')} {were} corrected since the law saw them{reason}: {names}."
    if found.corrected_elsewhere and not found.equal:
        yield (
            f"{count(found.corrected_elsewhere, 'run')} outside of the context by now have been corrected too; those "
            "that were in it are missing from the refit."
        )
    if found.not_archived and not found.equal:
        behind = ", ".join(f"{partition} by {offsets:,}" for partition, offsets in sorted(found.not_archived.items()))
        yield (
            f"The archive is behind the law's lineage in partition {behind} offsets: it may not have these runs yet, "
            "or they were rejected."
        )
    if not (found.equal or found.corrected_total or found.corrected_elsewhere or found.not_archived):
        yield "Nothing explains the difference: the record is not what its runs give."
