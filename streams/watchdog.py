"""Exit rather than limp: a worker whose commits make no progress while events wait stops with an error."""

import time
from collections.abc import Callable, Mapping

from models.errors import StackError


class CommitWatchdog:
    """Watches, per partition, that the committed offset moves while delivered events wait for it."""

    def __init__(self, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._seen: dict[object, tuple[int, float]] = {}

    @property
    def age(self) -> float:
        """Seconds that the oldest waiting batch has been seen waiting; 0 where nothing waits."""
        return max((self._clock() - since for _, since in self._seen.values()), default=0.0)

    def check(self, oldest_waiting: Mapping[object, int | None]) -> None:
        """Compare with the last look.

        Args:
            oldest_waiting: For each assigned partition the offset of the oldest delivered batch that is not
                committed, None where nothing waits.

        Raises:
            StackError: The same batch has waited for longer than stall_seconds.
        """
        now = self._clock()
        for partition in self._seen.keys() - oldest_waiting.keys():
            del self._seen[partition]
        for partition, offset in oldest_waiting.items():
            if offset is None:
                self._seen.pop(partition, None)
                continue
            last = self._seen.get(partition)
            if last is None or last[0] != offset:
                self._seen[partition] = (offset, now)
            elif now - last[1] > self._stall_seconds:
                raise StackError(
                    f"offset {offset} of {partition} has waited {now - last[1]:.0f} s for its commit: this worker "
                    "stops so that its supervisor starts a fresh one (setting stall_seconds)"
                )
