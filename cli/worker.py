"""`scaling worker`: run one process of the system in the foreground, which imports no more than it needs."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import typer

from cli.lazy_commands import find
from cli.settings_of import settings_of
from models.settings import Settings
from streams.kafka_security import require_kafka
from streams.worker import configure_logging, run_worker

app = typer.Typer(help="Run one worker in the foreground, until SIGTERM or Ctrl-C.", no_args_is_help=True)


@app.command()
def stats() -> None:
    """Observe run events, keep the running statistics, refit and publish the laws.

    Example: SCALING_KAFKA=127.0.0.1:9092 scaling worker stats
    """
    _run_app("streams.stats_app:create_stats_app")


@app.command()
def archive() -> None:
    """Write every run, rejected record and law to ClickHouse.

    Example: SCALING_CLICKHOUSE=http://127.0.0.1:8123 scaling worker archive
    """
    _run_app("streams.archive_app:create_archive_app")


@app.command()
def allocator() -> None:
    """Follow the laws and answer allocation requests.

    Example: SCALING_KAFKA=127.0.0.1:9092 scaling worker allocator
    """
    _run_until_signal("streams.allocator:run_allocator")


@app.command()
def audit() -> None:
    """Refit the laws from ClickHouse, context by context, and publish those that have changed.

    One audit runs for a deployment; a second one takes over from the first.

    Example: SCALING_CLICKHOUSE=http://127.0.0.1:8123 scaling worker audit
    """
    _run_until_signal("streams.auditor:run_auditor")


@app.command()
def experiments() -> None:
    """Assign values to tasks, join their outcomes, and keep the results of experiments up to date.

    Needs SCALING_EXPERIMENT_SECRET, the same for all workers of this kind.

    Example: SCALING_EXPERIMENT_SECRET=$(openssl rand -hex 32) scaling worker experiments
    """
    _run_app("streams.experiments_app:create_experiments_app")


def _run_app(place: str) -> None:
    settings = _settings()
    run_worker(find(place), settings)


def _run_until_signal(place: str) -> None:
    settings = _settings()
    asyncio.run(_until_signal(find(place), settings))


def _settings() -> Settings:
    """Read the settings, and see that they lead to a Kafka that lets us in."""
    settings = settings_of()
    configure_logging(settings)
    asyncio.run(require_kafka(settings))
    return settings


async def _until_signal(run: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run(settings, stop)
