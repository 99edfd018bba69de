"""Stage a demo: start the embedded stack in a folder, present something on it, and stop it, whatever happens."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import typer

from cli.interruption import INTERRUPTED, undisturbed
from cli.output import error_console
from cli.starting import Starting
from deploy.processes import log_tail
from deploy.stack import Stack, StackOptions
from models.errors import StackError
from models.settings import Settings, load_settings

Shown = TypeVar("Shown")

TAIL_LINES = 6


async def staged(
    folder: Path,
    present: Callable[[Settings], Coroutine[Any, Any, Shown]],
    *,
    workers: int = 1,
    logs: str = "*.log",
    **overrides: Any,  # noqa: ANN401 - any setting by its name
) -> Shown:
    """Present something on a stack of its own.

    Args:
        folder: Where the stack keeps its state.
        present: Called with the stack's settings.
        workers: Stats workers.
        logs: Whose ends go into the message of an error, as the logs go with the folder.
        overrides: Settings that differ.

    Raises:
        StackError: A part of the stack broke, or what was waited for took too long.
        Exit: The stack was asked to end.
    """
    with Starting(error_console) as starting:
        options = StackOptions(folder, workers, kafka_port=0, clickhouse_port=0)
        stack = Stack(options, load_settings(**overrides), starting.tell)
        settings = await stack.start()
    try:
        return await _watched(stack, present(settings))
    except StackError as error:
        tails = (f"{log.name} ends with:\n{log_tail(log, TAIL_LINES)}" for log in sorted((folder / "logs").glob(logs)))
        raise StackError("\n".join([str(error), *tails])) from None
    finally:
        with undisturbed():
            error_console.print("Stopping, and removing the temporary folder")
            await stack.stop()


async def _watched(stack: Stack, presenting: Coroutine[Any, Any, Shown]) -> Shown:
    """Present until that is done, a signal comes, or a part of the stack breaks."""
    presentation, watcher = asyncio.ensure_future(presenting), asyncio.ensure_future(stack.run_until_signal())
    try:
        await asyncio.wait((presentation, watcher), return_when=asyncio.FIRST_COMPLETED)
        if presentation.done():
            return presentation.result()
        watcher.result()
        raise typer.Exit(INTERRUPTED)
    finally:
        presentation.cancel()
        watcher.cancel()
        await asyncio.gather(presentation, watcher, return_exceptions=True)
