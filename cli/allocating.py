"""`scaling allocate`: ask the allocator what to give a task."""

import asyncio
import math
import uuid
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from agents.allocate import Method, decode_reply, encode_request
from analytics.allocation import Allocation
from cli.laws import wide_console
from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from models.settings import Settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS
from streams.kafka_clients import request_reply


class How(StrEnum):
    """The methods of allocation."""

    EXACT = "exact"
    REFERENCE = "reference"


ROWS = ("agents", "iterations", "context", "parallelism", "expected", "expected cost", "method", "laws used")
METHODS: dict[How, Method] = {How.EXACT: "exact", How.REFERENCE: "reference"}


def allocate(
    *,
    budget: Annotated[float, typer.Option("--budget", metavar="USD", help="What the run may cost, US dollars.")],
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="JSON",
            help="What is known of the task: project, task_type, model, model_size_category, task_complexity.",
        ),
    ] = "{}",
    method: Annotated[
        How, typer.Option("--method", help="The best setting within the budget, or the design document's closed form.")
    ] = How.EXACT,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long to wait.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    state: StateOption = None,
) -> None:
    """Ask the allocator over Kafka for agents, iterations, context and parallelism within a budget.

    Example: scaling allocate --task '{"project": "atlas", "task_complexity": "high"}' --budget 2
    """
    if not (math.isfinite(budget) and budget > 0):
        raise typer.BadParameter(f"--budget {budget:g}: give a number of dollars above 0")
    allocation = asyncio.run(ask(settings_of(state), read_task(task), budget, METHODS[method], timeout))
    if as_json:
        print_json(msgspec.to_builtins(allocation))
    else:
        wide_console().print(allocation_table({f"within {budget:g} dollars": allocation}))
        typer.echo(allocation.reasons)


async def ask(
    settings: Settings,
    task: dict[str, Any],
    budget: float,
    method: Method = "exact",
    seconds: float = 20.0,
) -> Allocation:
    """Send one request and wait for its reply.

    Raises:
        NotReachable: Kafka does not answer, or no allocator does within `seconds`.
        BudgetTooSmall: Not even the smallest setting fits.
        InvalidEvent: A field of the task has a wrong value.
    """
    request_id = str(uuid.uuid4())
    payload = encode_request(request_id, task, budget, method)
    return decode_reply(
        await request_reply(settings, ALLOCATE_REQUESTS, ALLOCATE_REPLIES, request_id, payload, seconds)
    )


def allocation_table(answers: Mapping[str, Allocation]) -> Table:
    """Show settings side by side, each under its heading: what to expect of them, and the laws behind them."""
    table = Table("", *answers)
    columns = [list(_cells(allocation)) for allocation in answers.values()]
    for name, *values in zip(ROWS, *columns, strict=True):
        table.add_row(name, *values)
    return table


def _cells(allocation: Allocation) -> Iterator[str]:
    yield f"{allocation.agent_count}"
    yield f"{allocation.max_iterations}"
    yield f"{allocation.context_budget:,} tokens"
    yield f"{allocation.parallelism}"
    quality = allocation.expected_quality
    yield f"{allocation.quality_outcome} " + ("not known" if quality is None else f"{quality:.3f}")
    over = f", {allocation.overspend:.4f} over the budget" if allocation.overspend > 0 else ""
    yield f"{allocation.expected_cost:.4f} dollars{over}"
    yield allocation.method
    yield "\n".join(f"{name} (version {version})" for name, version in allocation.laws.items()) or "none"


def read_task(text: str) -> dict[str, Any]:
    """Read the fields of a task from the command line."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(
            f'--task is not a JSON object ({error}): give one such as {{"project": "a"}}'
        ) from None
