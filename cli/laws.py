"""`scaling laws`: the scaling laws as they stand on scaling.laws."""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.aged import aged
from agents.lawbook import LawBook
from analytics.forgetting import Forgotten
from analytics.multiplicity import Scope, significance
from analytics.published import trend_p
from analytics.sentences import change_text, value_text
from cli.joint_law_page import describe_jointly, read_joint_law
from cli.law_page import NOTHING, describe, values_table
from cli.output import console, print_json, say
from cli.settings_of import StateOption, settings_of
from cli.terminal import SafeConsole
from models.dimensions import Basis, Dimension, Outcome
from models.errors import ScalingError
from models.experiments import TIER
from models.joint_laws import is_joint
from models.laws import Estimate, Knee, Law, Significance, law_id
from models.settings import Settings
from models.topics import LAWS
from streams.kafka_clients import read_compacted
from streams.verification import read_columns

__all__ = ["NOTHING", "exponent_of", "laws_table", "read_laws", "values_table", "wide_console"]

WIDTH_OF_A_FILE = 230

Tier = Literal["speaking", "live", "audited", "experiment", "all"]
TIERS: Mapping[Tier, tuple[str, ...]] = {
    "live": ("live",),
    "audited": ("audited",),
    "experiment": (TIER,),
    "all": ("live", "audited", TIER),
}

LawArgument = Annotated[
    str,
    typer.Argument(
        metavar="LAW_ID",
        help="context|dimension|outcome|tier, as in scaling laws --json; without a tier, the law that speaks.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
ScopeOption = Annotated[
    Scope | None,
    typer.Option(
        "--scope",
        help="Among which laws a trend must stand: all of the tier, or those that share a part; absent: as the setting "
        "significance_scope has it.",
    ),
]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def laws(  # noqa: PLR0917 - the options of the command
    given: typer.Context,
    context: Annotated[
        str | None, typer.Option("--context", metavar="CONTEXT", help="Such as global or project=atlas.")
    ] = None,
    dimension: Annotated[Dimension | None, typer.Option("--dimension", help="What is scaled.")] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="What it buys.")] = None,
    tier: Annotated[
        Tier,
        typer.Option(
            "--tier",
            help="speaking: of an experiment's, the audited and the live law, the one to act on; else all of a tier.",
        ),
    ] = "speaking",
    scope: ScopeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document: a list of full records.")] = False,
    state: StateOption = None,
) -> None:
    """Show the scaling laws; a single one also with its sentence, its curve and what stands behind it.

    Trends stand alone (p of no trend at most 0.05) and among all laws of their tier (e-BH on their e-values: of the
    laws that stand, at most 5 % are false, whenever one looks).

    Example: scaling laws --context global --dimension agent_count --outcome success
    """
    if given.invoked_subcommand is not None:
        if any((context, dimension, outcome, as_json, state)):
            raise typer.BadParameter(f"give the options after {given.invoked_subcommand}, which has its own")
        return
    settings = settings_of(state)
    known = asyncio.run(read_laws(settings))
    wanted = (context, dimension, outcome)
    told = select(judged(known, scope or settings.significance_scope), tier)
    chosen = [law for law in told if _chosen(law, *wanted)]
    if as_json:
        print_json(chosen)
        return
    if not chosen:
        contexts = sorted({law.context for law in known})
        there = f"the contexts with laws are {', '.join(contexts)}" if contexts else "publish runs to scaling.runs"
        say(f"No such law yet: {there}.")
        return
    wide = wide_console()
    wide.print(laws_table(chosen))
    if len(chosen) == 1:
        describe(chosen[0], wide)


@app.command()
def show(
    identifier: LawArgument,
    scope: ScopeOption = None,
    half_life: Annotated[
        float | None,
        typer.Option(
            "--half-life",
            metavar="HOURS",
            min=0.01,
            help="Show besides how it looks when a run counts half after so many hours. For display: no law forgets.",
        ),
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show one law: its sentence, what to mind, its curve, and everything that stands behind it.

    A joint law, of all dimensions together, has joint for its dimension: its terms, prices and range are shown.

    Example: scaling laws show "global|agent_count|success" --half-life 24
    """
    settings = settings_of(state)
    if is_joint(identifier):
        if half_life is not None:
            raise typer.BadParameter("--half-life shows the slope of one dimension, and a joint law has several")
        _show_jointly(settings, identifier, as_json=as_json)
        return
    known = asyncio.run(read_laws(settings))
    law = find(judged(known, scope or settings.significance_scope), identifier)
    recent = None if half_life is None else _recent(settings, law, half_life)
    if as_json:
        print_json(law if recent is None else {"law": law, "recent": recent})
        return
    wide = wide_console()
    wide.print(laws_table([law]))
    describe(law, wide)
    if recent is not None:
        slope = recent.slope
        wide.print(
            f"\nWith a half-life of {half_life:g} hours (for display), worth {recent.runs:,.0f} runs of equal weight\n"
            f"  slope on ln x {slope.estimate:.4g} \\[{slope.lo:.4g}, {slope.hi:.4g}]"
        )


def _show_jointly(settings: Settings, identifier: str, *, as_json: bool) -> None:
    law = asyncio.run(read_joint_law(settings, identifier))
    if as_json:
        print_json(law)
    else:
        describe_jointly(law, wide_console())


def _recent(settings: Settings, law: Law, half_life: float) -> Forgotten:
    cut = {int(partition): offset for partition, offset in law.lineage.items()}
    return aged(read_columns(settings, law, cut), law, half_life, settings.bucket_seconds)


def wide_console() -> Console:
    """Give the console of the terminal, or one wide enough that no cell of a table in a file or pipe is broken up."""
    return console if console.is_terminal else SafeConsole(highlight=False, width=WIDTH_OF_A_FILE)


async def read_laws(settings: Settings) -> list[Law]:
    """Read the newest version of every law of one dimension, by context, dimension and outcome; the global ones first.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: scaling.laws does not exist.
    """
    book = LawBook()
    async for record in read_compacted(settings, LAWS):
        try:
            key = (record.key or b"").decode()
            if record.value is None:
                book.delete(key)
            elif not is_joint(key):
                book.put(msgspec.json.decode(record.value, type=Law))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue  # no worker wrote it, and the allocator passes over it as well
    return sorted(book, key=lambda law: (law.context != "global", law.context, law.dimension, law.outcome, law.tier))


def select(laws: Sequence[Law], tier: Tier) -> list[Law]:
    """Keep the laws of a tier, or of each context, dimension and outcome the one that speaks."""
    if tier != "speaking":
        return [law for law in laws if law.tier.partition(":")[0] in TIERS[tier]]
    book = LawBook()
    for law in laws:
        book.put(law)
    spoken = (book.speaking(law.context, Dimension(law.dimension), Outcome(law.outcome)) for law in laws)
    return list({law.law_id: law for law in spoken if law is not None}.values())


def judged(laws: Sequence[Law], scope: Scope) -> list[Law]:
    """Say of each law whether its trend stands, alone and among the laws of its tier that are in scope."""
    verdicts: dict[str, Significance] = {}
    for tier in {law.tier for law in laws}:
        evident = {
            law.law_id: (trend_p(law.trend), law.e_value)
            for law in laws
            if law.tier == tier and law.trend is not None and law.e_value is not None
        }
        verdicts |= significance(evident, scope=scope)
    return [msgspec.structs.replace(law, adjusted_significance=verdicts.get(law.law_id)) for law in laws]


def find(laws: Sequence[Law], identifier: str) -> Law:
    """Find a law by its id, or by an id without a tier the law that speaks.

    Raises:
        ScalingError: There is no such law.
    """
    there = {law.law_id: law for law in laws}
    there |= {law.law_id.rpartition("|")[0]: law for law in select(laws, "speaking")}
    if identifier not in there:
        example = law_id("global", Dimension.AGENT_COUNT, Outcome.SUCCESS, "live")
        raise ScalingError(
            f"there is no law {identifier}: an id is context|dimension|outcome|tier, such as {example}; "
            "scaling laws shows the laws there are"
        )
    return there[identifier]


def laws_table(laws: Sequence[Law]) -> Table:
    """Show laws, one a row."""
    table = Table(title=f"{len(laws)} scaling laws", title_justify="left")
    for name in ("context", "dimension", "outcome", "tier"):
        table.add_column(name, overflow="fold")
    for name in ("n", "exponent", "95 % interval"):
        table.add_column(name, justify="right")
    for name in ("family", "direction", "change"):
        table.add_column(name)
    table.add_column("knee", justify="right")
    for name in ("status", "evidence"):
        table.add_column(name)
    for name in ("p", "alone", "among all", "version"):
        table.add_column(name, justify="right")
    for law in laws:
        table.add_row(*_row(law))
    return table


def exponent_of(law: Law) -> Estimate | None:
    """Give the exponent of a law's power fit of the mean, where it has one."""
    return law.power.exponent if law.power else None


def _row(law: Law) -> Iterator[str]:
    exponent, published, judgement = exponent_of(law), law.published, law.adjusted_significance
    yield escape(law.context)
    yield law.dimension if law.basis in {None, Basis.REALISED} else f"{law.dimension} ({law.basis})"
    yield law.outcome
    yield law.tier
    yield f"{law.n:,}"
    yield f"{exponent.estimate:.3f}" if exponent else NOTHING
    yield rf"\[{exponent.lo:.3f}, {exponent.hi:.3f}]" if exponent else NOTHING
    yield published.family if published else NOTHING
    yield published.direction if published else NOTHING
    change = published.change if published else None
    yield escape(change_text(Outcome(law.outcome), change, published.scale)) if published and change else NOTHING
    yield _knee(law.knee, Dimension(law.dimension))
    yield law.status
    yield law.evidence
    yield NOTHING if judgement is None else f"{judgement.p:.2g}"
    yield NOTHING if judgement is None else _yes(stands=judgement.unadjusted)
    yield NOTHING if judgement is None else _yes(stands=judgement.adjusted)
    yield str(law.version)


def _chosen(law: Law, context: str | None, dimension: Dimension | None, outcome: Outcome | None) -> bool:
    wanted = ((context, law.context), (dimension, law.dimension), (outcome, law.outcome))
    return all(value is None or value == has for value, has in wanted)


def _knee(knee: Knee | None, dimension: Dimension) -> str:
    """Write a knee; one that is not more than noise is marked."""
    if knee is None:
        return NOTHING
    value, lo, hi = (
        value_text(dimension, each) if math.isfinite(each) else "none" for each in (knee.value, knee.lo, knee.hi)
    )
    return rf"{value} \[{lo}, {hi}]{'' if knee.supported else '?'}"


def _yes(*, stands: bool) -> str:
    return "yes" if stands else "no"
