"""Run a Faust app as a process: signals, logging, and an exit status that a supervisor can trust."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable

import faust
import structlog
import uvloop

from models.settings import Settings
from streams.transport import BatchApp

NEVER_ROUTINE = 100_000
"""Garbage collections are spaced out: event batches are large, and nearly free of reference cycles."""


def run_worker(create: Callable[[Settings], BatchApp], settings: Settings) -> None:
    """Run an app until SIGTERM or SIGINT; exits with 0 then, and with 1 after a crash."""
    configure_logging(settings)
    gc.set_threshold(NEVER_ROUTINE, 20, 50)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = create(settings)
    worker = faust.Worker(
        app, loop=loop, loglevel=None, redirect_stdouts=False, override_logging=False, quiet=True, stdout=sys.stderr
    )
    worker.execute_from_commandline()


def configure_logging(settings: Settings) -> None:
    """Send our logs, and the libraries' warnings, to standard error, one line each."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
