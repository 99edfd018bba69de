"""`scaling experiment plan` and `suggest`: what an experiment would see, cost and take, and which one to run next."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from agents.fitting import fitting_of
from analytics import experiment_planning, experiment_value
from analytics.experiment_baseline import DAY, Row, baseline_of
from analytics.experiment_planning import Plan, effect_words
from analytics.experiment_value import MONTH, Outlook, Suggestion, context_words, money
from analytics.ready_made import READY_MADE
from analytics.sentences import OUTCOME_WORDS, listed, value_text
from analytics.task_filter import field_of
from cli.definition_files import definition_of, is_file
from cli.laws import NOTHING, JsonOption, read_laws, select, wide_console
from cli.output import print_json, remark
from cli.settings_of import StateOption, settings_of
from models.contexts import GLOBAL, contexts_of
from models.dimensions import Dimension
from models.errors import NotReachable, StackError
from models.experiments import Definition, Value
from models.settings import Settings
from streams.clickhouse import query
from streams.experiment_log import read_courses

MOST_RUNS = 50_000
"""Runs taken from ClickHouse, the newest first."""

SHOWN = 20
"""Suggestions that are printed; the JSON document has all."""

COLUMNS = (
    "agent_run_id",
    "completed_at",
    "project",
    "task_type",
    "task_id",
    "model",
    "model_size_category",
    "model_params_b",
    "task_complexity",
    "project_characteristics",
    "agent_count",
    "parallelism_level",
    "total_iterations",
    "max_iterations",
    "retry_limit",
    "context_budget",
    "context_tokens",
    "success",
    "quality_score",
    "time_to_complete",
    "total_cost",
)


@dataclass(frozen=True, slots=True)
class PastRuns:
    """The runs that plans go by; where they could not be read, there are none, and the reason why."""

    rows: Sequence[Row] = ()
    reason: str = ""


def plan(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID|FILE...]",
            help=f"Ready-made ones ({', '.join(READY_MADE)}), .json or .toml files, ids of drafts and experiments. "
            "Absent: all ready-made ones, the cheapest first.",
        ),
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Plan experiments: what each would see, what its runs would cost, and how long it would take.

    Power is the probability that an effect of the minimum size is seen, detectable the effect that is seen in 80 of 100
    cases, and flat the probability that a dimension without effect is said to have none larger than the minimum; all by
    the stopping rule. Outcomes, costs and the rate of tasks are those of the newest 50,000 runs. What they do not tell
    is assumed; name one experiment to see its warnings and assumptions.

    Example: scaling experiment plan agent_count
    """
    settings = settings_of(state)
    asked = sources or list(READY_MADE)
    known = {} if set(asked) <= READY_MADE.keys() | set(filter(is_file, asked)) else asyncio.run(_known(settings))
    definitions = chosen(asked, known)
    try:
        past = PastRuns(past_runs(settings))
    except NotReachable as error:
        past = PastRuns(reason=f"{error}. Plans go by assumptions alone.")
        remark(past.reason)
    plans = plans_of(definitions, past, settings)
    if as_json:
        print_json({"runs": len(past.rows), "reason": past.reason, "plans": [document(each) for each in plans]})
        return
    wide = wide_console()
    wide.print(plan_table(plans))
    if len(plans) == 1:
        describe(definitions[0], plans[0], wide)


def suggest(
    horizon_days: Annotated[
        float,
        typer.Option("--horizon-days", metavar="DAYS", min=0.01, help="For how long runs go by what is learnt."),
    ] = MONTH,
    value_of_success: Annotated[
        float | None,
        typer.Option(
            "--value-of-success",
            metavar="USD",
            min=0.0,
            help="What a success, or a quality of 1, is worth; absent: the setting value_of_success.",
        ),
    ] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Suggest which experiment to run next: by the regret of allocation it is expected to remove for each dollar.

    A candidate is a dimension in a context with a law. What its experiment saves is the expected value of sample
    information: how much better the best setting would be chosen with its result than without, over the runs of the
    horizon. "At most" is what the truth itself would save.

    Example: scaling experiment suggest --value-of-success 5
    """
    settings = settings_of(state)
    laws = select(asyncio.run(read_laws(settings)), "speaking")
    fitting = fitting_of(settings)
    if value_of_success is not None:
        fitting = replace(fitting, value_of_success=value_of_success)
    rows = past_runs(settings)
    outlook = Outlook(by_context(rows, settings), days_of(rows), fitting, horizon_days)
    found = experiment_value.suggest(laws, outlook)
    if as_json:
        print_json({"runs": len(rows), "days": outlook.days, "suggestions": found})
        return
    wide = wide_console()
    wide.print(suggestion_table(found[:SHOWN]))
    for each in found[:SHOWN]:
        wide.print(f"- {each.sentence}", markup=False, soft_wrap=True)
    if len(found) > SHOWN:
        remark(f"{len(found) - SHOWN} more are in the JSON document.")


def chosen(sources: Sequence[str], known: Mapping[str, Definition]) -> list[Definition]:
    """Find definitions: those of known experiments, ready-made ones, and files.

    Raises:
        InvalidExperiment: There is no such experiment, or a file holds no valid definition.
    """
    return [known[source] if source in known else definition_of(source) for source in sources]


async def _known(settings: Settings) -> dict[str, Definition]:
    try:
        return {name: course.definition for name, course in (await read_courses(settings)).items()}
    except StackError as error:
        remark(f"{error}. Only ready-made experiments and files are known.")
        return {}


def past_runs(settings: Settings) -> list[Row]:
    """Read the newest 50,000 runs from ClickHouse.

    Raises:
        QueryError: ClickHouse refused the query.
        NotReachable: ClickHouse does not answer.
    """
    sql = f"SELECT {', '.join(COLUMNS)} FROM observations ORDER BY completed_at DESC LIMIT {{most:UInt64}}"  # noqa: S608
    answer = query(settings, sql, parameters={"most": MOST_RUNS}, rows=MOST_RUNS)
    return [row_of(dict(zip(answer.columns, row, strict=True))) for row in answer.rows]


def row_of(stored: Mapping[str, Any]) -> Row:
    """Read a stored row: its project_characteristics are JSON."""
    text = stored["project_characteristics"]
    return {**stored, "project_characteristics": msgspec.json.decode(text, type=dict[str, Any]) if text else {}}


def plans_of(definitions: Sequence[Definition], past: PastRuns, settings: Settings) -> list[Plan]:
    """Plan experiments, the cheapest first."""
    prices, scale = fitting_of(settings), settings.complexity_scale.model_dump()
    plans = [
        experiment_planning.plan(definition, baseline_of(definition, past.rows, prices, scale))
        for definition in definitions
    ]
    return sorted(plans, key=lambda each: each.dollars)


def by_context(rows: Sequence[Row], settings: Settings) -> dict[str, list[Row]]:
    """Put runs into the contexts that they belong to, the global one with all of them."""
    scale = settings.complexity_scale.model_dump()
    keys = {key for keys in settings.context_keys for key in keys}
    found: defaultdict[str, list[Row]] = defaultdict(list, {GLOBAL: []})
    for row in rows:
        texts = {key: str(value) for key in keys if (value := field_of(row, key, scale)) not in {None, ""}}
        for context in contexts_of(texts, settings.context_keys):
            found[context].append(row)
    return dict(found)


def days_of(rows: Sequence[Row]) -> float:
    """Give the days between the first and the last run."""
    times = [row["completed_at"] for row in rows]
    return (max(times) - min(times)).total_seconds() / DAY if times else 0.0


def document(found: Plan) -> dict[str, Any]:
    """Give a plan with the figures of its own stopping rule beside those of both."""
    own = ("power", "detectable_effect", "equivalence_power")
    return {**asdict(found), **{name: getattr(found, name) for name in own}}


def plan_table(plans: Sequence[Plan]) -> Table:
    """Show plans, one a row."""
    table = Table(title="Experiments, planned", title_justify="left")
    for name in ("experiment", "outcome", "stopping", "minimum effect"):
        table.add_column(name, overflow="fold")
    for name in ("power", "detectable", "flat", "runs", "dollars", "days"):
        table.add_column(name, justify="right")
    for each in plans:
        table.add_row(*_plan_row(each))
    return table


def describe(definition: Definition, found: Plan, console: Console) -> None:
    """Print what a plan is about, what to mind and what was assumed."""

    def say(text: str, style: str | None = None) -> None:
        console.print(text, markup=False, soft_wrap=True, style=style)

    values = [_value(found.dimension, value) for value in definition.values_tested]
    say(f"\n{definition.name}: {definition.hypothesis}", "bold")
    say(f"  {definition.planned_per_value:,} runs at each of {listed(values)}, assigned by {definition.assignment}")
    error = effect_words(found.outcome, found.standard_error)
    say(f"  standard error of the {definition.estimand} at the planned size: {error}")
    for name, rule in (("one look at the planned size", found.fixed), ("any look", found.sequential)):
        seen = effect_words(found.outcome, rule.detectable_effect, definition.direction)
        say(f"  {name}: power {rule.power:.2f}, detectable {seen}, flat {rule.equivalence_power:.2f}")
    if found.blocks is not None:
        say(f"  {found.blocks:,} time blocks of {definition.switchback_seconds:,} s")
    for warning in found.warnings:
        say(f"  mind: {warning}", "yellow")
    for note in found.notes:
        say(f"  {note}")


def suggestion_table(found: Sequence[Suggestion]) -> Table:
    """Show suggestions, one a row."""
    table = Table(title="Which experiment next", title_justify="left")
    for name in ("dimension", "context", "outcome", "evidence", "now best"):
        table.add_column(name, overflow="fold")
    for name in ("runs a day", "saves", "at most", "costs", "for each dollar"):
        table.add_column(name, justify="right")
    for each in found:
        table.add_row(
            each.dimension,
            escape(context_words(each.context)),
            OUTCOME_WORDS[each.outcome],
            each.evidence,
            _value(each.dimension, each.best),
            _number(each.runs_a_day),
            money(each.saving),
            money(each.most),
            money(each.dollars),
            _number(each.per_dollar),
        )
    return table


def _plan_row(found: Plan) -> Iterator[str]:
    yield escape(found.experiment_id)
    yield OUTCOME_WORDS[found.outcome]
    yield found.stopping
    yield effect_words(found.outcome, found.minimum_effect, found.direction)
    yield f"{found.power:.2f}"
    yield effect_words(found.outcome, found.detectable_effect, found.direction)
    yield f"{found.equivalence_power:.2f}"
    yield f"{found.runs:,}"
    yield rf"{money(found.dollars)} \[{money(found.dollars_lo)}, {money(found.dollars_hi)}]"
    yield NOTHING if found.seconds is None else f"{found.seconds / DAY:,.1f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"  # noqa: PLR2004 - two digits


def _value(dimension: Dimension, value: Value) -> str:
    return value if isinstance(value, str) else value_text(dimension, value)
