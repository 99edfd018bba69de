"""`scaling doctor`: what is well with a deployment and what is not."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from deploy.doctor import diagnose


def doctor(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check Kafka, the topics, ClickHouse, its schema, the workers, their lag and the disk.

    Each finding says what to do. Exit code 0 when all is well, 1 otherwise.

    Example: scaling doctor --json
    """
    checks = asyncio.run(diagnose(settings_of(state)))
    well = all(check.ok for check in checks)
    if as_json:
        print_json({"ok": well, "checks": [asdict(check) for check in checks]})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{'ok   ' if check.ok else 'WRONG'}  {check.name:<{width}}  {check.message}")
    if not well:
        raise typer.Exit(1)
