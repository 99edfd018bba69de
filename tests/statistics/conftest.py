"""How many simulations a test makes, and the table of figures that they leave."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

FULL = "SCALING_FULL_STATISTICS"
"""Set (make test-statistics does) to run every simulation as often as docs/statistics.md says."""

FIGURES = "SCALING_FIGURES"
"""Names the file that the figures are appended to, one JSON object a line."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure beside its threshold, and beside what the reference method gives."""

    test: str
    figure: str
    value: float
    threshold: str
    runs: int
    reference: str = ""


@pytest.fixture(scope="session")
def full_statistics() -> bool:
    """Tell whether the simulations run at full size."""
    return bool(os.environ.get(FULL))


@pytest.fixture(scope="session")
def simulations(full_statistics: bool) -> Callable[[int, int], int]:  # noqa: FBT001 - a fixture
    """Choose between a fast and a full number of simulations."""

    def choose(fast: int, full: int) -> int:
        return full if full_statistics else fast

    return choose


@pytest.fixture(scope="session")
def record() -> Iterator[Callable[..., None]]:
    """Collect figures; they are written when the session ends."""
    figures: list[Figure] = []

    def keep(test: str, figure: str, value: float, *, threshold: str, runs: int, reference: str = "") -> None:
        figures.append(Figure(test, figure, float(value), threshold, runs, reference))

    yield keep
    target = os.environ.get(FIGURES)
    if target:
        with Path(target).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in figures)
