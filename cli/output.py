"""What the commands show: results on standard output, progress and remarks on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cli.terminal import SafeConsole, escaped, visible

console = SafeConsole(highlight=False)
"""Where tables go: standard output. It looks the stream up at each use."""

error_console = SafeConsole(stderr=True, highlight=False)
"""Where progress and remarks go: standard error, so that a pipe receives results only."""

EXIT_REJECTED = 3
"""Exit status of a command that did its work, but met records that were rejected."""


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever msgspec can write
    """Print one JSON document; dataclasses, msgspec structs, enums and paths of plain values are all fine."""
    document = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    typer.echo(escaped(document.decode()))


def say(text: str, *, err: bool = False) -> None:
    """Write a line in which others may have had a word."""
    typer.echo(visible(text), err=err)


def remark(text: str) -> None:
    """Say something beside the result."""
    error_console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress bars on standard error, and nothing where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as progress:
        yield progress
