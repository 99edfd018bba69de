"""Ctrl-C and the signals that ask for an end, for commands that start processes and must stop them in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import typer

INTERRUPTED = 130
"""The exit code of a command that was asked to end: the shell's convention, 128 + SIGINT."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Result = TypeVar("Result")


async def interruptible(work: Coroutine[Any, Any, Result]) -> Result:
    """Run work that the first signal cancels; further ones leave its clean-up alone.

    Raises:
        Exit: A signal came; the exit code is INTERRUPTED.
    """
    task = asyncio.ensure_future(work)
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    with _handled(interrupt):
        try:
            return await task
        except asyncio.CancelledError:
            if interrupted:
                raise typer.Exit(INTERRUPTED) from None
            raise


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore the signals while processes are being stopped, which takes ten seconds at the most."""
    with _handled(lambda: None):
        yield


@contextmanager
def _handled(handler: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
