"""`scaling worker`: run one process of the system in the foreground."""

import asyncio
import signal

import typer

from cli.settings_of import settings_of
from models.settings import Settings
from streams.allocator import run_allocator
from streams.app import create_app, create_archive_app
from streams.worker import configure_logging, run_worker

app = typer.Typer(help="Run one worker in the foreground, until SIGTERM or Ctrl-C.", no_args_is_help=True)


@app.command()
def stats() -> None:
    """Observe run events, keep the running statistics, refit and publish the laws.

    Example: SCALING_KAFKA=127.0.0.1:9092 scaling worker stats
    """
    run_worker(create_app, settings_of())


@app.command()
def archive() -> None:
    """Write every run, rejected record and law to ClickHouse.

    Example: SCALING_CLICKHOUSE=http://127.0.0.1:8123 scaling worker archive
    """
    run_worker(create_archive_app, settings_of())


@app.command()
def allocator() -> None:
    """Follow the laws and answer allocation requests.

    Example: SCALING_KAFKA=127.0.0.1:9092 scaling worker allocator
    """
    settings = settings_of()
    configure_logging(settings)
    asyncio.run(_allocate_until_signal(settings))


async def _allocate_until_signal(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_allocator(settings, stop)
