"""`scaling allocate`, `portfolio` and `advise`: ask the allocator what to give tasks, and whether to go on."""

import asyncio
import math
import sys
import uuid
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from agents.allocation_wire import decode_request, encode_request
from agents.native_settings import ORCHESTRATORS
from cli.authorship import who
from cli.laws import wide_console
from cli.output import print_json, say
from cli.setting_parts import CapOption, PinOption, caps_of, pins_of
from cli.settings_of import StateOption, settings_of
from models.allocations import (
    MOST_TASKS,
    AdviseRequest,
    AllocateRequest,
    Allocation,
    Attitude,
    Objective,
    Parts,
    Pins,
    PortfolioRequest,
    Request,
    Risk,
    Setting,
)
from models.dimensions import Outcome
from models.errors import InvalidEvent
from models.laws import Estimate
from models.settings import Settings
from streams.allocating import Allocating


class How(StrEnum):
    """The methods of allocation."""

    JOINT = "joint"
    REFERENCE = "reference"


class Bought(StrEnum):
    """What can be bought."""

    SUCCESS = "success"
    QUALITY = "quality_score"


TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="JSON",
        help="What is known of the task: project, task_type, model, model_size_category, task_complexity.",
    ),
]
OutcomeOption = Annotated[
    Bought | None,
    typer.Option("--outcome", help="What to buy; absent: success, else quality where only that has a law."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

NOT_KNOWN = "not known"


def allocate(
    *,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="USD", help="What the run may cost, US dollars.")
    ] = None,
    task: TaskOption = "{}",
    target: Annotated[
        float | None, typer.Option("--target", metavar="P", help="Ask for the least cost at which this is expected.")
    ] = None,
    value: Annotated[
        float | None,
        typer.Option("--value", metavar="USD", help="Ask for the most net value: what one success is worth."),
    ] = None,
    time_price: Annotated[
        float, typer.Option("--time-price", metavar="USD", min=0, help="With --value: what a second costs.")
    ] = 0.0,
    outcome: OutcomeOption = None,
    attitude: Annotated[
        Attitude,
        typer.Option("--attitude", help="Score outcomes by mean, mean - kappa sd, or mean of the worst share."),
    ] = Attitude.MEAN,
    kappa: Annotated[float, typer.Option("--kappa", metavar="K", min=0, max=10, help="Of the lower bound.")] = 1.0,
    share: Annotated[float, typer.Option("--worst", metavar="SHARE", help="Of the tail mean.")] = 0.2,
    overspend: Annotated[
        float | None, typer.Option("--overspend", metavar="P", help="Largest chance that the run costs more.")
    ] = None,
    pin: PinOption = None,
    cap: CapOption = None,
    by: Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who pins or caps; absent: the user.")] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is logged.")] = "",
    model_size: Annotated[
        list[str] | None, typer.Option("--model-size", metavar="SIZE", help="A size to choose from; repeatable.")
    ] = None,
    method: Annotated[
        How, typer.Option("--method", help="The best setting by the laws, or the design document's closed form.")
    ] = How.JOINT,
    front: Annotated[bool, typer.Option("--front", help="Show the Pareto front too.")] = False,
    native: Annotated[
        list[str] | None,
        typer.Option(
            "--native", metavar="NAME", help=f"Show an orchestrator's own settings ({', '.join(ORCHESTRATORS)})."
        ),
    ] = None,
    explore: Annotated[
        bool, typer.Option("--explore/--no-explore", help="Whether this task may be used to explore.")
    ] = False,
    timeout: TimeoutOption = 20.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Ask the allocator what to give a task: the best within a budget, the cheapest for a target, or the most value.

    The answer is logged as a decision. From here tasks are not used to explore, unless you say --explore.

    Example: scaling allocate --task '{"project": "atlas", "task_complexity": "high"}' --budget 2
    """
    pins, caps = pins_of(pin), caps_of(cap)
    decided = pins != Pins() or caps != Parts()
    if decided and not reason:
        raise typer.BadParameter("--pin and --cap override the laws: say why, with --reason")
    request = AllocateRequest(
        request_id=str(uuid.uuid4()),
        task=read_task(task),
        budget=_dollars("--budget", budget),
        objective=_objective(budget, target, value),
        outcome=None if outcome is None else outcome.value,
        target=target,
        value=_dollars("--value", value),
        time_price=time_price,
        risk=Risk(attitude, kappa, share, overspend),
        pins=pins,
        caps=caps,
        by=who(by) if decided else "",
        reason=reason,
        model_sizes=model_size or [],
        method=method.value,
        front=front,
        native=native or [],
        explore=explore,
    )
    _check(request)
    answer = asyncio.run(ask(settings_of(state), request, timeout))
    if as_json:
        print_json(msgspec.to_builtins(answer))
        return
    console = wide_console()
    console.print(allocation_table({_heading(request): answer}))
    if answer.front:
        console.print(_front_table(answer))
    for name, own in answer.native.items():
        console.print(f"{name}: {', '.join(f'{key}={each}' for key, each in own.settings.items())}", markup=False)
        console.print(
            "\n".join([*(f"  no setting for {part}" for part in own.not_expressible), *own.notes]), markup=False
        )
    say(answer.why)


def portfolio(
    *,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A task a line, JSON; - for standard input.", allow_dash=True)
    ],
    budget: Annotated[float, typer.Option("--budget", metavar="USD", help="For all tasks together, US dollars.")],
    outcome: OutcomeOption = None,
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Share a budget among a queue of tasks, so that the next dollar is worth the same in all of them.

    Example: scaling portfolio tasks.jsonl --budget 100
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from None
    lines = enumerate(text.splitlines(), 1)
    tasks = [read_task(line, f"line {number} of {file}") for number, line in lines if line.strip()]
    if not 0 < len(tasks) <= MOST_TASKS:
        raise typer.BadParameter(f"{file} has {len(tasks)} tasks: give 1 to {MOST_TASKS}, one JSON object a line")
    total = _dollars("--budget", budget) or 0.0
    request = PortfolioRequest(str(uuid.uuid4()), tasks, total, None if outcome is None else outcome.value)
    _check(request)

    async def shared() -> Any:  # noqa: ANN401
        async with Allocating(settings_of(state)) as allocator:
            return await allocator.share(request, timeout)

    answer = asyncio.run(shared())
    if as_json:
        print_json(msgspec.to_builtins(answer))
        return
    table = Table("task", "setting", "expected", "dollars")
    for task, each in zip(tasks, answer.allocations, strict=True):
        told = each.expected.get(each.outcome)
        cost = each.expected[Outcome.TOTAL_COST].estimate
        expected = f"{each.outcome} {told.estimate:.3f}" if told else NOT_KNOWN
        table.add_row(msgspec.json.encode(task).decode(), setting_text(each.setting), expected, f"{cost:.4f}")
    wide_console().print(table)
    say(
        f"{answer.expected_outcome:.2f} of {len(tasks)} expected for {answer.expected_cost:.4f} of {total:g} dollars. "
        f"One dollar more would add {answer.shadow_price:.3g}, in whichever task."
    )


def advise(
    *,
    agents: Annotated[int, typer.Option("--agents", metavar="N", min=1, help="Of the run.")],
    used: Annotated[int, typer.Option("--iterations-used", metavar="N", min=1, help="So far, of each agent.")],
    cost: Annotated[float, typer.Option("--cost-so-far", metavar="USD", min=0, help="US dollars.")],
    context: Annotated[int, typer.Option("--context-budget", metavar="TOKENS", min=1, help="Of the run.")],
    parallelism: Annotated[int, typer.Option("--parallelism", metavar="N", min=1, help="Of the run.")] = 1,
    budget: Annotated[float | None, typer.Option("--budget", metavar="USD", help="Of the whole run.")] = None,
    value: Annotated[
        float | None, typer.Option("--value", metavar="USD", help="Of a success; absent: value_of_success.")
    ] = None,
    task: TaskOption = "{}",
    timeout: TimeoutOption = 20.0,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Ask whether another iteration of a run that has not succeeded yet is worth it.

    Example: scaling advise --agents 2 --iterations-used 3 --cost-so-far 0.4 --context-budget 16000 --value 5
    """
    request = AdviseRequest(
        str(uuid.uuid4()),
        agents,
        used,
        cost,
        context,
        parallelism,
        task=read_task(task),
        budget=_dollars("--budget", budget),
        value=_dollars("--value", value),
    )
    _check(request)

    async def advised() -> Any:  # noqa: ANN401
        async with Allocating(settings_of(state)) as allocator:
            return await allocator.advise(request, timeout)

    answer = asyncio.run(advised())
    if as_json:
        print_json(msgspec.to_builtins(answer))
    else:
        say(f"{'Go on' if answer.go_on else 'Stop'}. {answer.why}")


async def ask(settings: Settings, request: AllocateRequest, seconds: float = 20.0) -> Allocation:
    """Send one request and wait for its reply.

    Raises:
        NotReachable: Kafka does not answer, or no allocator does within `seconds`.
        ScalingError: As `agents.allocator.Allocator.allocate`.
    """
    async with Allocating(settings) as allocator:
        return await allocator.allocate(request, seconds)


def allocation_table(answers: Mapping[str, Allocation]) -> Table:
    """Show settings side by side, each under its heading: what to expect of them, and the laws behind them."""
    rows = [dict(_cells(allocation)) for allocation in answers.values()]
    table = Table("", *answers)
    for name in dict.fromkeys(name for row in rows for name in row):
        table.add_row(name, *(row.get(name, "") for row in rows))
    return table


def setting_text(setting: Setting) -> str:
    """Write a setting in one line."""
    size = f" {setting.model_size}" if setting.model_size else ""
    return (
        f"{setting.agent_count}{size} x {setting.max_iterations} iterations, {setting.context_budget:,} tokens, "
        f"{setting.parallelism} at a time"
    )


def _cells(answer: Allocation) -> Iterator[tuple[str, str]]:
    setting = answer.setting
    yield "agents", f"{setting.agent_count}"
    yield "iterations", f"{setting.max_iterations}"
    yield "context", f"{setting.context_budget:,} tokens"
    yield "parallelism", f"{setting.parallelism}"
    if setting.model_size:
        yield "model size", setting.model_size
    units = {Outcome.TOTAL_COST: " dollars", Outcome.TIME_TO_COMPLETE: " seconds"}
    for outcome in (Outcome.SUCCESS, Outcome.QUALITY_SCORE, Outcome.TIME_TO_COMPLETE, Outcome.TOTAL_COST):
        told = answer.expected.get(outcome)
        yield outcome.value, NOT_KNOWN if told is None else _interval(told) + units.get(outcome, "")
    if answer.overspend is not None:
        yield "chance of costing more", f"{answer.overspend:.0%}"
    if answer.promised is not None:
        yield "gain that may be promised", f"{answer.promised.gain:+.3f} {answer.outcome}"
    yield "binds", ", ".join(answer.binds) or "nothing"
    yield "one dollar more adds", f"{answer.next_dollar:.3g}"
    if answer.runner_up is not None:
        other = answer.runner_up
        yield "runner-up", f"{setting_text(other.setting)}: {other.outcome:.3f} for {other.cost:.4f} dollars"
    if answer.reference is not None:
        other = answer.reference
        over = f", {other.overspend:.4f} over the budget" if other.overspend > 0 else ""
        yield "closed form", f"{setting_text(other.setting)}: {other.cost:.4f} dollars{over}"
    yield (
        "method",
        answer.method + (", explored" if answer.explored else "") + (f", {answer.arm}" if answer.arm else ""),
    )
    yield "evidence", answer.evidence + (", prior-dominated" if answer.prior_dominated else "")
    yield "laws used", "\n".join(f"{name} (version {version})" for name, version in answer.laws.items()) or "none"
    yield "decision", answer.decision_id


def _front_table(answer: Allocation) -> Table:
    table = Table("setting", answer.outcome, "dollars", title="Pareto front")
    for each in answer.front:
        table.add_row(setting_text(each.setting), f"{each.outcome:.3f}", f"{each.cost:.4f}")
    return table


def _interval(told: Estimate) -> str:
    return f"{told.estimate:.4g}" if told.se <= 0 else f"{told.estimate:.4g} ({told.lo:.3g} to {told.hi:.3g})"


def _heading(request: AllocateRequest) -> str:
    if request.objective is Objective.LEAST_COST:
        return f"for {request.target:g}"
    if request.objective is Objective.MOST_NET_VALUE:
        return f"at {request.value:g} dollars a success"
    return f"within {request.budget:g} dollars"


def _objective(budget: float | None, target: float | None, value: float | None) -> Objective:
    if target is not None and value is not None:
        raise typer.BadParameter("--target and --value exclude each other: ask for the least cost or the most value")
    if target is not None:
        return Objective.LEAST_COST
    if value is not None:
        return Objective.MOST_NET_VALUE
    if budget is None:
        raise typer.BadParameter("give --budget, or --target, or --value")
    return Objective.MOST_OUTCOME


def _check(request: Request) -> None:
    """Refuse what an allocator would refuse, before it is asked."""
    for name in request.native if isinstance(request, AllocateRequest) else []:
        if name not in ORCHESTRATORS:
            raise typer.BadParameter(f"--native {name}: give one of {', '.join(ORCHESTRATORS)}")
    try:
        decode_request(encode_request(request))
    except InvalidEvent as error:
        raise typer.BadParameter(str(error)) from None


def _dollars(option: str, amount: float | None) -> float | None:
    if amount is not None and not (math.isfinite(amount) and amount > 0):
        raise typer.BadParameter(f"{option} {amount:g}: give a number of dollars above 0")
    return amount


def read_task(text: str, where: str = "--task") -> dict[str, Any]:
    """Read the fields of a task, and say where they stood if they are none."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise typer.BadParameter(
            f'{where} is not a JSON object ({error}): give one such as {{"project": "a"}}'
        ) from None
