"""`scaling allocate`: ask the allocator what to give a task."""

import asyncio
import math
import uuid
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from agents.allocate import Method, decode_reply, encode_request
from analytics.allocation import Allocation
from cli.output import console, print_json
from cli.settings_of import StateOption, settings_of
from models.settings import Settings
from models.topics import ALLOCATE_REPLIES, ALLOCATE_REQUESTS
from streams.kafka_clients import request_reply


class How(StrEnum):
    """The methods of allocation."""

    EXACT = "exact"
    REFERENCE = "reference"


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
    allocation = asyncio.run(ask(settings_of(state), _task(task), budget, METHODS[method], timeout))
    if as_json:
        print_json(msgspec.to_builtins(allocation))
    else:
        console.print(allocation_table(allocation, f"Within {budget:g} dollars"))
        console.print(allocation.reasons)


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


def allocation_table(allocation: Allocation, title: str) -> Table:
    """Show a setting, what to expect of it, and the laws behind it."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    quality = allocation.expected_quality
    cost = f"{allocation.expected_cost:.4f} dollars"
    if allocation.overspend > 0:
        cost += f", {allocation.overspend:.4f} over the budget"
    rows = {
        "agents": f"{allocation.agent_count}",
        "iterations at most": f"{allocation.max_iterations}",
        "context budget": f"{allocation.context_budget:,} tokens",
        "parallelism": f"{allocation.parallelism}",
        f"expected {allocation.quality_outcome}": "not known" if quality is None else f"{quality:.3f}",
        "expected cost": cost,
        "method": allocation.method,
        "laws used": "\n".join(f"{name} (version {version})" for name, version in allocation.laws.items()) or "none",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _task(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(
            f'--task is not a JSON object ({error}): give one such as {{"project": "a"}}'
        ) from None
