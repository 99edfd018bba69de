"""`scaling explore`: what was tried, what goes together, what is missing, and what can be learnt from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from agents.exploration import Explorer
from agents.mapping import parse_mapping
from analytics.exploration import Exploration, explore
from analytics.learnable import Learnable, effect_text, learnable
from analytics.sentences import OUTCOME_WORDS, count, listed, slot_words, value_text
from cli.importing import JsonOption, MapOption, ScaleOption
from cli.laws import NOTHING, wide_console
from cli.output import EXIT_REJECTED, print_json, progress_bar, remark
from cli.settings_of import StateOption, settings_of
from models.contexts import GLOBAL, context_pairs
from models.dimensions import Basis
from models.events import RunEvent
from models.laws import Estimate
from models.settings import Settings, load_settings
from streams.clickhouse import query
from streams.context_keys import context_condition
from streams.files import read_runs, size_of

FIRST_REASONS = 10
MOST_RUNS = 500_000
"""Runs taken from ClickHouse, the newest first."""

COLUMNS = (
    "agent_run_id",
    "project",
    "task_type",
    "task_id",
    "model",
    "task_complexity",
    "agent_count",
    "parallelism_level",
    "total_iterations",
    "max_iterations",
    "retry_limit",
    "context_budget",
    "retry_count",
    "context_tokens",
    "model_size_category",
    "model_params_b",
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
)
FilesArgument = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[FILE...]",
        help="JSON Lines, CSV or Parquet, as for scaling fit; absent: the runs in ClickHouse.",
    ),
]


def explore_runs(  # noqa: PLR0917 - the options of the command
    files: FilesArgument = None,
    mapping: MapOption = None,
    complexity_scale: ScaleOption = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="C", help="Only this context, such as global or project=atlas.")
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Explore runs before any law: coverage, confounding, gaps, and what can and cannot be learnt from them.

    The runs come from files, or from ClickHouse where none is given (the newest 500,000 of the context).

    Exit status: 0 when nothing was rejected, 3 when some records were, 1 on errors, 2 on wrong usage.

    Example: scaling explore runs.jsonl.gz --map max_iterations=total_iterations
    """
    if files:
        explorer = Explorer(load_settings())
        for reason in read_files(explorer, files, mapping or [], complexity_scale)[:FIRST_REASONS]:
            remark(f"rejected: {reason}")
        sample = explorer.sample(context)
    else:
        if mapping or complexity_scale:
            raise typer.BadParameter("--map and --complexity-scale are about files: give one, or leave them out")
        settings = settings_of(state)
        explorer = Explorer(settings)
        explorer.add_events(stored_runs(settings, context or GLOBAL))
        sample = explorer.sample()
    found = explore(sample)
    said = learnable(found)
    if as_json:
        print_json({"runs": explorer.met, "exploration": found, "learnable": said})
    else:
        show(found, said)
    if explorer.met.rejected:
        raise typer.Exit(EXIT_REJECTED)


def read_files(
    explorer: Explorer, files: Sequence[Path], mapping: Sequence[str], complexity_scale: str | None
) -> list[str]:
    """Take the runs of files in; say which records were rejected and why."""
    change = parse_mapping(mapping, complexity_scale)
    reasons: list[str] = []
    with progress_bar() as progress:
        tasks = {path: progress.add_task(path.name, total=size_of(path)) for path in files}
        for chunk in read_runs(files, change.apply if change else None):
            reasons += [
                f"{chunk.path}:{chunk.lines[rejection.index]}: {rejection.reason}"
                for rejection in explorer.add(chunk.payloads)
            ]
            progress.update(tasks[chunk.path], completed=chunk.done)
    return reasons


def stored_runs(settings: Settings, context: str) -> list[RunEvent]:
    """Read the newest runs of a context from ClickHouse.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    condition, parameters = context_condition(context)
    # Columns, condition and limit are made of constants; values are bound by the server.
    sql = (
        f"SELECT {', '.join(COLUMNS)} FROM observations WHERE {condition} ORDER BY completed_at DESC LIMIT {MOST_RUNS}"  # noqa: S608
    )
    answer = query(settings, sql, parameters=parameters, rows=MOST_RUNS)
    if len(answer.rows) == MOST_RUNS:
        remark(f"These are the newest {MOST_RUNS:,} runs; there may be more.")
    return [RunEvent(**dict(zip(answer.columns, row, strict=True))) for row in answer.rows]


def show(found: Exploration, said: Learnable) -> None:
    """Print the tables, then the sentences."""
    wide = wide_console()
    names = {"project": "project", "task_type": "task type", "model": "model", "task_id": "task"}
    counts = [count(found.groups[key], noun) for key, noun in names.items()]
    wide.print(f"{count(found.runs, 'run')}, {listed(counts)}", soft_wrap=True)
    for table in (spread_table(found), context_table(found), coverage_table(found), association_table(found)):
        if table.row_count:
            wide.print(table)
    for table in (missing_table(found), trials_table(found), sensitivity_table(found)):
        if table.row_count:
            wide.print(table)
    titles = {
        "What these runs can show": said.can,
        "What they cannot": said.cannot,
        "What to mind": said.mind,
    }
    for title, sentences in titles.items():
        if sentences:
            wide.print(f"[bold]{title}[/bold]")
            for sentence in sentences:
                wide.print(f"- {sentence}", markup=False, soft_wrap=True)


def spread_table(found: Exploration) -> Table:
    """Show the dimensions of all runs."""
    table = _table(
        "Dimensions", ("dimension", "basis"), ("runs", "missing", "values", "with 30", "least", "median", "most")
    )
    for one in found.spreads:
        if one.context == GLOBAL:
            numbers = [NOTHING] * 3
            if one.basis is not Basis.CATEGORY:
                numbers = [value_text(one.dimension, x) for x in (one.lo, one.median, one.hi)]
            counts = (f"{one.n:,}", f"{one.missing:.1%}", f"{one.values:,}", f"{one.supported:,}")
            table.add_row(one.dimension, one.basis, *counts, *numbers)
    return table


def context_table(found: Exploration) -> Table:
    """Show in how many contexts of each kind a dimension varies enough for a law."""
    table = _table(
        "Contexts in which a dimension has 2 values with 30 runs", ("context", "dimension"), ("contexts", "of")
    )
    kinds: dict[str, dict[str, dict[str, bool]]] = {}
    totals: dict[str, set[str]] = {}
    for one in found.spreads:
        if one.context != GLOBAL:
            kind = " and ".join(key for key, _ in context_pairs(one.context))
            totals.setdefault(kind, set()).add(one.context)
            name = slot_words(one.dimension, one.basis)
            known = kinds.setdefault(kind, {}).setdefault(name, {})
            known[one.context] = known.get(one.context, False) or one.supported > 1
    for kind, dimensions in kinds.items():
        for name, enough in dimensions.items():
            if any(enough.values()):
                table.add_row(kind, name, f"{sum(enough.values()):,}", f"{len(totals[kind]):,}")
    return table


def coverage_table(found: Exploration) -> Table:
    """Show how much of each pair's cross was tried."""
    table = _table("Coverage of pairs", ("first", "second"), ("pairs", "tried", "with 30"))
    table.add_column("empty corners", overflow="fold")
    for one in found.coverage:
        numbers = (f"{one.pairs:,}", f"{one.tried:.0%}", f"{one.supported:.0%}")
        table.add_row(one.first, one.second, *numbers, escape("; ".join(one.empty_corners)) or NOTHING)
    return table


def association_table(found: Exploration) -> Table:
    """Show what goes together."""
    table = _table("Confounding", ("first", "second", "measure"), ("association", "runs"))
    table.add_column("")
    for one in found.associations:
        value = f"{one.value:.2f}"
        table.add_row(one.first, one.second, one.measure, value, f"{one.n:,}", "confounded" if one.linked else "")
    return table


def missing_table(found: Exploration) -> Table:
    """Show what is missing, and with what that goes."""
    table = _table("Missing fields", ("field",), ("missing",))
    table.add_column("more often with", overflow="fold")
    for one in found.missing:
        if one.share:
            depends = [f"{'more' if on.correlation > 0 else 'less'} {on.field}" for on in one.depends_on]
            table.add_row(one.field, f"{one.share:.1%}", ", ".join(depends) or NOTHING)
    return table


def trials_table(found: Exploration) -> Table:
    """Show what repeated trials of tasks brought, and in the last row of each setting what twice as many would."""
    numbers = ("tasks", "k", "any of k", "95 % interval", "all of k", "95 % interval")
    table = _table("Repeated trials of the same tasks at the same settings", ("settings",), numbers)
    for one in found.trials:
        name = escape(one.setting) or "all alike"
        for rate in one.rates:
            shares = [text for share in (rate.any_of, rate.all_of) for text in _share(share)]
            table.add_row(name, f"{one.tasks:,}", str(rate.k), *shares)
        if one.forecast is not None:
            ahead = (f"{one.tasks:,} new", f"{one.forecast_trials} (forecast)")
            table.add_row(name, *ahead, *_share(one.forecast), NOTHING, NOTHING, end_section=True)
    return table


def _share(share: Estimate) -> tuple[str, str]:
    return f"{share.estimate:.3f}", rf"\[{share.lo:.3f}, {share.hi:.3f}]"


def sensitivity_table(found: Exploration) -> Table:
    """Show what would be seen."""
    table = _table(
        "What would show (80 % power, level 5 %)",
        ("outcome", "dimension"),
        ("runs", "from", "to", "least change", "clusters inflate by", "power for 0.1 or 20 %"),
    )
    for one in found.sensitivity:
        table.add_row(
            OUTCOME_WORDS[one.outcome],
            slot_words(one.dimension, one.basis),
            f"{one.n:,}",
            value_text(one.dimension, one.lo),
            value_text(one.dimension, one.hi),
            effect_text(one),
            f"{one.inflation:.2f}",
            f"{one.power:.2f}",
        )
    return table


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table
