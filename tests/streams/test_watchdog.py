"""The watchdog on commit progress, with a clock of its own."""

import pytest

from models.errors import StackError
from streams.watchdog import CommitWatchdog


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def test_a_batch_that_waits_too_long_stops_the_worker() -> None:
    """The message names partition, offset and time."""
    clock = Clock()
    watchdog = CommitWatchdog(60, clock)
    watchdog.check({"runs-0": 9, "runs-1": None})
    clock.now = 60
    watchdog.check({"runs-0": 9, "runs-1": None})
    clock.now = 61
    with pytest.raises(StackError, match="offset 9 of runs-0 has waited 61 s"):
        watchdog.check({"runs-0": 9, "runs-1": None})


def test_progress_starts_the_time_anew() -> None:
    """A partition that commits anything is alive, however much waits behind it."""
    clock = Clock()
    watchdog = CommitWatchdog(60, clock)
    for step in range(10):
        clock.now = step * 50
        watchdog.check({"runs-0": step})


@pytest.mark.parametrize("between", [{"runs-0": None}, {}, {"runs-1": 4}])
def test_what_no_longer_waits_or_was_given_up_is_forgotten(between: dict[object, int | None]) -> None:
    """A batch that comes back after a rebalance under the same offset has its whole time again."""
    clock = Clock()
    watchdog = CommitWatchdog(60, clock)
    watchdog.check({"runs-0": 9})
    clock.now = 50
    watchdog.check(between)
    watchdog.check({"runs-0": 9})
    clock.now = 100
    watchdog.check({"runs-0": 9})


def test_its_age_is_that_of_the_batch_that_has_waited_longest() -> None:
    """Nothing that waits has no age; a commit makes it young again."""
    clock = Clock()
    watchdog = CommitWatchdog(60, clock)
    assert watchdog.age == 0
    watchdog.check({"runs-0": 9, "runs-1": None})
    clock.now = 40
    watchdog.check({"runs-0": 9, "runs-1": 3})
    assert watchdog.age == 40
    clock.now = 50
    watchdog.check({"runs-0": None, "runs-1": 3})
    assert watchdog.age == 10
    watchdog.check({})
    assert watchdog.age == 0
