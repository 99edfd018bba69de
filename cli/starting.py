"""What one sees while the embedded stack starts: a progress bar on a terminal, plain lines elsewhere."""

import re
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from models.errors import StackError

FETCHING = re.compile(r"fetching jar (\d+) of (\d+)")
"""How deploy.jars tells about the download of the first start."""


class Starting:
    """Shows what `tell` is told, from any thread, until the block ends.

    Once the block has ended with an error or Ctrl-C, `tell` raises: a download in a thread of its own ends at its next
    file instead of holding up the exit.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._given_up = False

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
            self._progress = Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True)
            self._task = self._progress.add_task("Starting", total=None)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up = error is not None
        if self._progress is not None:
            self._progress.stop()

    def tell(self, message: str) -> None:
        """Show what is being done.

        Raises:
            StackError: The start was given up.
        """
        if self._given_up:
            raise StackError("the start was given up: run the command again")
        done, total = fetched(message)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=message, completed=done, total=total)
        elif total is None or done in {0, total - 1}:
            self._console.print(message, highlight=False)


def fetched(message: str) -> tuple[int, int | None]:
    """Read from a message how many files of a download are there: (done, total), (0, None) where it is about others.

    >>> fetched("Kafka: fetching jar 3 of 45 (kafka-raft), once")
    (2, 45)
    """
    found = FETCHING.search(message)
    return (int(found[1]) - 1, int(found[2])) if found else (0, None)
