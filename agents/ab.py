"""A/B tests of dynamic against fixed allocation: which ones run, which tasks take part, and in which arm.

The arm of a task is a function of the test and the task alone: asked again, a task is in the same arm, and who has the
log can draw it again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import structs

from analytics.randomisation import uniform
from models.allocations import ABTest, Arm, Task


def unit_of(task: Task, request_id: str) -> str:
    """Give what is randomised: the task's task_id, so that all its runs are in one arm; else the request."""
    return str(task.get("task_id") or request_id)


def arm_of(test: ABTest, unit: str) -> Arm:
    """Draw the arm of a unit: dynamic with the probability `test.share`.

    Args:
        test: The test; another one draws independently.
        unit: As `unit_of` gives it.
    """
    return Arm.DYNAMIC if uniform(test.test_id.encode(), "arm", unit) < test.share else Arm.FIXED


def probability(test: ABTest, arm: Arm) -> float:
    """Give the probability of an arm."""
    return test.share if arm is Arm.DYNAMIC else 1 - test.share


def takes_part(test: ABTest, contexts: Sequence[str]) -> bool:
    """Tell whether a test runs and a task of these contexts takes part in it."""
    return test.ended_at is None and test.context in contexts


def running(tests: Iterable[ABTest]) -> list[ABTest]:
    """List the tests that run, the earliest started first."""
    return sorted((test for test in tests if test.ended_at is None), key=_start)


def covering(tests: Iterable[ABTest], contexts: Sequence[str]) -> ABTest | None:
    """Find the one test that a task of these contexts takes part in: of several the earliest started; None without."""
    return next((test for test in running(tests) if takes_part(test, contexts)), None)


def latest(known: ABTest | None, said: ABTest) -> ABTest:
    """Give a test as it stands after another record of it: the first one seals its design, a later one may end it.

    Args:
        known: As it stood; None where this is its first record.
        said: What the record says. Once ended, a test stays as it ended.
    """
    if known is None:
        return said
    if known.ended_at is not None:
        return known
    return structs.replace(
        known, ended_at=said.ended_at, ended_by=said.ended_by, verdict=said.verdict, sentence=said.sentence
    )


def _start(test: ABTest) -> tuple[float, str]:
    return datetime.fromisoformat(test.started_at).timestamp(), test.test_id
