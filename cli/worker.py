"""`scaling worker`: run one process of the system in the foreground."""

import typer

from models.settings import load_settings
from streams.app import create_app, create_archive_app
from streams.worker import run_worker

app = typer.Typer(help="Run one worker in the foreground, until SIGTERM or Ctrl-C.", no_args_is_help=True)


@app.command()
def stats() -> None:
    """Observe run events, keep the running statistics, refit and publish the laws.

    Example: SCALING_KAFKA=127.0.0.1:9092 scaling worker stats
    """
    run_worker(create_app, load_settings())


@app.command()
def archive() -> None:
    """Write every run, rejected record and law to ClickHouse.

    Example: SCALING_CLICKHOUSE=http://127.0.0.1:8123 scaling worker archive
    """
    run_worker(create_archive_app, load_settings())
