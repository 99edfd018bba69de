"""`scaling up`: the embedded stack in the foreground."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.interruption import interruptible, undisturbed
from cli.output import error_console
from cli.settings_of import DEFAULT_STATE
from cli.starting import Starting
from deploy.stack import Stack, StackOptions
from models.settings import Settings, load_settings

Port = Annotated[int, typer.Option(min=0, max=65535, help="Loopback port; 0 picks a free one.")]


def up(
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="Where the data are kept.")] = DEFAULT_STATE,
    workers: Annotated[int, typer.Option("--workers", metavar="N", min=0, help="Number of stats workers.")] = 2,
    kafka_port: Port = 9092,
    clickhouse_port: Port = 8123,
) -> None:
    """Run Kafka, ClickHouse and all workers on this machine until Ctrl-C. Data are kept in the state folder.

    The first start fetches Kafka's jars (46 MB). Other commands find the stack by its state folder.

    Example: scaling up --workers 2
    """
    options = StackOptions(state, workers, kafka_port, clickhouse_port)
    asyncio.run(interruptible(_run(options, load_settings())))


async def _run(options: StackOptions, settings: Settings) -> None:
    with Starting(error_console) as starting:
        stack = Stack(options, settings, starting.tell)
        ready = await stack.start()
    try:
        typer.echo(_what_next(ready, options.state))
        await stack.run_until_signal()
        typer.echo("Stopping")
    finally:
        with undisturbed():
            await stack.stop()
    typer.echo(f"Stopped; the data are kept in {options.state}")


def _what_next(settings: Settings, state: Path) -> str:
    other = "" if state == DEFAULT_STATE else f" --state {state}"
    count = 'scaling query "SELECT count() FROM observations"'
    return f"""Kafka       {settings.kafka}
ClickHouse  {settings.clickhouse}  (database {settings.clickhouse_database})
Logs        {state / "logs"}

In another terminal:
  publish JSON run events to scaling.runs with agent_run_id as the key, or scaling import FILE
  scaling laws{other}
  {count}{other}
  scaling doctor{other}

Ctrl-C stops everything."""
