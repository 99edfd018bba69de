"""`scaling topics`: the Kafka topics and the ClickHouse schema of a deployment."""

import asyncio
from typing import Annotated

import typer

from cli.output import print_json
from cli.settings_of import StateOption, settings_of
from streams.clickhouse import apply_schema
from streams.topics import create_topics

app = typer.Typer(help="Create the Kafka topics and the ClickHouse schema.", no_args_is_help=True)


@app.callback()
def topics() -> None:
    """Create the Kafka topics and the ClickHouse schema."""


@app.command()
def create(
    state: StateOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Create what is missing of the topics and of ClickHouse's database, tables and views; check what exists.

    It waits half a minute for Kafka and ClickHouse to answer, and running it again changes nothing. `scaling up` does
    this by itself.

    Example: SCALING_KAFKA=broker:9092 SCALING_REPLICATION=3 scaling topics create
    """
    settings = settings_of(state)
    created = asyncio.run(create_topics(settings))
    asyncio.run(apply_schema(settings))
    if as_json:
        print_json({"created": created, "database": settings.clickhouse_database})
        return
    for name in created:
        typer.echo(f"created {name}")
    typer.echo(f"All topics exist, and so do all tables and views in database {settings.clickhouse_database}.")
