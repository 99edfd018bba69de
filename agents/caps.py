"""Say once when a cap on the state of a source partition is reached, and what happens from there on."""

from collections.abc import Iterable

import structlog

log = structlog.get_logger(__name__)


class Caps:
    """The caps of one partition that have been reached since the worker owns it: one line in the log for each."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self.reached: set[str] = set()

    def tell(self, reached: Iterable[str]) -> None:
        """Log the caps that were not told yet, each a sentence with its name, its value and what happens at it."""
        for what in reached:
            if what not in self.reached:
                self.reached.add(what)
                log.warning("cap reached", partition=self._partition, what=what)
