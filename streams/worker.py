"""Run a Faust app as a process: signals, logging, and an exit status that a supervisor can trust."""

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable

import faust
import structlog
import uvloop

from models.settings import Settings
from streams.endpoint import EndpointService
from streams.transport import BatchApp

log = structlog.get_logger(__name__)

NEVER_ROUTINE = 100_000
"""Garbage collections are spaced out: event batches are large, and nearly free of reference cycles."""

LAST_SECONDS = 90.0
"""What a worker may take to stop: longer than Faust waits for any of its threads."""


class Worker(faust.Worker):  # type: ignore[misc]
    """Faust's worker, which ends even where something that is to be stopped does not stop.

    After a crash nobody would start it again otherwise: its process lives, and its partitions may have no other owner.
    """

    last_seconds = LAST_SECONDS

    def on_worker_shutdown(self) -> None:
        """Begin to stop, after a signal, a crash or a start that failed."""
        super().on_worker_shutdown()
        leaving = threading.Timer(self.last_seconds, self._leave)
        leaving.daemon = True
        leaving.start()

    def _leave(self) -> None:
        log.error("killed itself: did not stop", seconds=self.last_seconds)
        os._exit(1)


def run_worker(create: Callable[[Settings], BatchApp], settings: Settings) -> None:
    """Run an app until SIGTERM or SIGINT; exits with 0 then, and with 1 after a crash. Logging is configured before."""
    gc.set_threshold(NEVER_ROUTINE, 20, 50)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    app = create(settings)
    worker = Worker(
        app,
        EndpointService(settings, app.vitals),
        loop=loop,
        loglevel=None,
        redirect_stdouts=False,
        override_logging=False,
        quiet=True,
        stdout=sys.stderr,
    )
    try:
        worker.execute_from_commandline()
    finally:
        # The last line of the log, which a supervisor shows: above it stand the tracebacks of all that stopped with it.
        if app.crash_reason is not None:
            log.error("stopped", app=app.conf.id, reason=str(app.crash_reason))


def configure_logging(settings: Settings) -> None:
    """Send our logs, and the libraries' warnings, to standard error, one line each."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    logging.basicConfig(
        stream=sys.stderr, level=max(level, logging.WARNING), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    log_to_stderr(level)


def log_to_stderr(level: int) -> None:
    """Send our own logs from a level on to standard error, one line each."""
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
