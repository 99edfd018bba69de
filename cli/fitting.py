"""`scaling fit`: the laws of runs in files, straight from the rows; needs neither Kafka nor ClickHouse."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from agents.mapping import parse_mapping
from agents.raw_laws import RawRuns, Wanted
from cli.importing import FilesArgument, JsonOption, MapOption, ScaleOption
from cli.laws import NOTHING, exponent_of, values_table, wide_console
from cli.output import EXIT_REJECTED, print_json, progress_bar, remark
from models.dimensions import Dimension, Outcome
from models.errors import NotEnoughData
from models.laws import Law
from models.settings import load_settings
from streams.files import read_runs, size_of

FIRST_REASONS = 10
COLUMNS = ("context", "dimension", "outcome", "basis", "n", "exponent", "R²", "knee", "recommended", "status")


def fit(  # noqa: PLR0917 - the options of the command
    files: FilesArgument,
    mapping: MapOption = None,
    complexity_scale: ScaleOption = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="C", help="Only this context, such as global or project=atlas.")
    ] = None,
    dimension: Annotated[Dimension | None, typer.Option("--dimension", help="Only this dimension.")] = None,
    outcome: Annotated[Outcome | None, typer.Option("--outcome", help="Only this outcome.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit the scaling laws of runs in files, from the rows themselves, and print them.

    The result equals what the workers learn from the same runs; nothing needs to run. The exponent is that of the
    published power law with its 95 % interval; R² is that of the log-log reference fit.

    Exit status: 0 when nothing was rejected, 3 when some records were, 1 on errors, 2 on wrong usage.

    Example: scaling fit runs.jsonl.gz --dimension agent_count --outcome success
    """
    change = parse_mapping(mapping or [], complexity_scale)
    runs = RawRuns(load_settings())
    reasons: list[str] = []
    with progress_bar() as progress:
        tasks = {path: progress.add_task(path.name, total=size_of(path)) for path in files}
        for chunk in read_runs(files, change.apply if change else None):
            for rejection in runs.add(chunk.payloads):
                if len(reasons) < FIRST_REASONS:
                    reasons.append(f"{chunk.path}:{chunk.lines[rejection.index]}: {rejection.reason}")
            progress.update(tasks[chunk.path], completed=chunk.done)
        fitting = progress.add_task("Fitting", total=None)
        laws = []
        for law in runs.laws(Wanted(context, dimension, outcome)):
            laws.append(law)
            progress.update(fitting, description=f"Fitting {law.context}")
    if as_json:
        print_json({"runs": _counts(runs, reasons), "laws": laws})
    else:
        _show(laws, runs, reasons)
    if not laws:
        raise NotEnoughData(
            f"none of the {runs.met.accepted} runs belongs to such a law: give runs that have the context, a value of "
            "the dimension, and an outcome"
        )
    if runs.met.rejected:
        raise typer.Exit(EXIT_REJECTED)


def _counts(runs: RawRuns, reasons: Sequence[str]) -> dict[str, Any]:
    met = runs.met
    return {
        "accepted": met.accepted,
        "duplicate": met.duplicate,
        "corrected": met.corrected,
        "rejected": met.rejected,
        "reasons": reasons,
    }


def _show(laws: Sequence[Law], runs: RawRuns, reasons: Sequence[str]) -> None:
    counts = {name: count for name, count in _counts(runs, reasons).items() if name != "reasons"}
    remark(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    for reason in reasons:
        remark(f"rejected: {reason}")
    if not laws:
        return
    wide = wide_console()
    table = Table(*COLUMNS)
    for law in laws:
        table.add_row(*map(escape, _row(law)))
    wide.print(table)
    if len(laws) == 1:
        wide.print(values_table(laws[0]))
        for part, reason in laws[0].missing.items():
            wide.print(f"{part}: {reason}", markup=False, soft_wrap=True)


def _row(law: Law) -> tuple[str, ...]:
    exponent, power, knee = exponent_of(law), law.reference.power, law.knee
    recommended = law.reference.recommended_value
    return (
        law.context,
        law.dimension,
        law.outcome,
        law.basis or NOTHING,
        f"{law.n:,}",
        f"{exponent.estimate:.3f} [{exponent.lo:.3f}, {exponent.hi:.3f}]" if exponent else NOTHING,
        f"{power.r_squared:.3f}" if power else NOTHING,
        f"{knee.value:g} [{knee.lo:g}, {knee.hi:g}]" if knee else NOTHING,
        NOTHING if recommended is None else f"{recommended:g}",
        law.status,
    )
