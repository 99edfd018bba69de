"""`scaling doctor`: what is well with a deployment and what is not."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import print_json, remark, say
from cli.settings_of import DEFAULT_STATE, StateOption, settings_of
from deploy.check import Check
from deploy.doctor import diagnose
from deploy.remedies import remedies
from deploy.stack import running_endpoints, running_stack
from models.settings import Settings


def doctor(
    state: StateOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not compare the live tables with ClickHouse.")] = False,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Create what is missing and set drifted topic settings right; deletes nothing."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fix: do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check Kafka, topics, ClickHouse, schema, clocks, workers, lag and disk, and the live tables against ClickHouse.

    Each finding says what to do. Exit code 0 when all is well, 1 otherwise.

    Example: scaling doctor --json
    """
    settings = settings_of(state)
    done = asyncio.run(_fix(settings, yes=yes)) if fix else []
    found = running_stack(state or DEFAULT_STATE)
    own = found is not None and found["kafka"] == settings.kafka
    endpoints = running_endpoints(state or DEFAULT_STATE) if own else {}
    checks = asyncio.run(diagnose(settings, endpoints, thorough=not quick))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": [asdict(check) for check in checks], "done": done})
    else:
        _show(checks)
    if not well:
        raise typer.Exit(1)


def _show(checks: Sequence[Check]) -> None:
    width = max(len(check.name) for check in checks)
    for check in checks:
        say(f"{'ok   ' if check.ok else 'WRONG'}  {check.name:<{width}}  {check.message}")


async def _fix(settings: Settings, *, yes: bool) -> list[str]:
    """Set right what can be, one by one, each after it was agreed to; say what was done."""
    done: list[str] = []
    for remedy in await remedies(settings):
        if not yes and not typer.confirm(f"{remedy.what}?", err=True):
            continue
        await remedy.apply()
        done.append(remedy.what)
        remark(f"done: {remedy.what}")
    if not done:
        remark("nothing was changed")
    return done
