"""Assignment (T18): permuted blocks beside the design document's rule, while earlier runs are still in flight."""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pytest

from analytics.moments import Floats
from analytics.randomisation import Place, block, fewest, following, uniform, value_at

pytestmark = pytest.mark.statistics

Choose = Callable[[int, int], int]
Record = Callable[..., None]

VALUES = 6
TASKS = 1200
IN_FLIGHT = 30.0
"""How long a run takes, in the mean, when a task comes in each unit of time."""

PERIOD = 6
EFFECT = 0.2 * np.sin(2 * np.pi * np.arange(PERIOD) / PERIOD)
"""What the workload adds to the success rate of each sixth task: as much as 20 points."""

Choice = Callable[[int, str, Sequence[int], Sequence[int]], int]
"""Chooses a value from the task's number, its stratum, and the completed and the assigned runs of each value."""


@dataclass(slots=True)
class Blocks:
    """Assigns by permuted blocks; all it keeps is the last place of each stratum."""

    key: bytes
    last: dict[str, Place] = field(default_factory=dict)
    log: list[tuple[str, Place, int]] = field(default_factory=list)

    def __call__(self, task: int, stratum: str, completed: Sequence[int], assigned: Sequence[int]) -> int:
        """Take the next slot of the stratum, whatever runs have done."""
        del task, completed, assigned
        self.last[stratum] = place = following(self.key, stratum, VALUES, self.last.get(stratum))
        value = value_at(self.key, stratum, VALUES, place)
        self.log.append((stratum, place, value))
        return value


def fewest_completed(task: int, stratum: str, completed: Sequence[int], assigned: Sequence[int]) -> int:
    """Choose as the design document does: the first value with the fewest completed runs."""
    del task, stratum, assigned
    return fewest(completed, 0.0)[0]


def round_robin(task: int, stratum: str, completed: Sequence[int], assigned: Sequence[int]) -> int:
    """Choose the first value with the fewest assignments."""
    del task, stratum, completed
    return fewest(assigned, 0.0)[0]


def fewest_assigned(key: bytes) -> Choice:
    """Choose a value with the fewest assignments, ties at random."""

    def choose(task: int, stratum: str, completed: Sequence[int], assigned: Sequence[int]) -> int:
        del completed
        return fewest(assigned, uniform(key, stratum, task))[0]

    return choose


def simulate(rng: np.random.Generator, choose: Choice, strata: int) -> tuple[list[str], list[int]]:
    """Assign tasks as they come, while runs of random length complete in another order; give strata and values."""
    completed, assigned = [0] * VALUES, [0] * VALUES
    in_flight: list[tuple[float, int]] = []
    came = rng.exponential(1.0, TASKS).cumsum()
    length = IN_FLIGHT * rng.lognormal(-0.5, 1.0, TASKS)
    names = [f"project {number}" for number in rng.integers(0, strata, TASKS)]
    values = []
    for task, now in enumerate(came.tolist()):
        while in_flight and in_flight[0][0] <= now:
            completed[heapq.heappop(in_flight)[1]] += 1
        value = choose(task, names[task], completed, assigned)
        assigned[value] += 1
        values.append(value)
        heapq.heappush(in_flight, (now + float(length[task]), value))
    return names, values


def longest_run(values: Sequence[int]) -> int:
    """Give the length of the longest stretch of one value."""
    return max(len(list(stretch)) for _, stretch in groupby(values))


def bias(values: Sequence[int]) -> float:
    """Give how far the periodic workload alone moves the mean of a value, in the mean over values."""
    by_value = np.bincount(values, EFFECT[np.arange(TASKS) % PERIOD], VALUES) / np.bincount(values, minlength=VALUES)
    return float(np.abs(by_value).mean())


def spread_by_prefix(values: Sequence[int]) -> int:
    """Give the largest difference between the counts of two values at any time."""
    counts: Floats = (np.asarray(values)[:, None] == np.arange(VALUES)).cumsum(axis=0).astype(np.float64)
    return int((counts.max(axis=1) - counts.min(axis=1)).max())


@pytest.mark.parametrize("strata", [1, 4])
def test_t18_blocks_stay_balanced_while_runs_are_in_flight(strata: int, simulations: Choose, record: Record) -> None:
    """In each stratum counts differ by a block at most at any time, and no value comes more often than four times."""
    experiments = simulations(20, 200)
    differ, longest, longest_single, biases = 0, 0, 0, []
    for number in range(experiments):
        rule = Blocks(number.to_bytes(32))
        _, values = simulate(np.random.default_rng(1801 + number), rule, strata)
        biases.append(bias(values))
        for stratum in rule.last:
            places = [(place, value) for name, place, value in rule.log if name == stratum]
            own = [value for _, value in places]
            differ, longest = max(differ, spread_by_prefix(own)), max(longest, longest_run(own))
            single = [len(block(rule.key, stratum, place.block, VALUES)) == VALUES for place, _ in places]
            for alone, stretch in groupby(zip(single, own, strict=True), key=lambda at: at[0]):
                if alone:
                    longest_single = max(longest_single, longest_run([value for _, value in stretch]))
    moved = float(np.mean(biases))
    size = f"{strata} strata" if strata > 1 else "one stratum"
    record("T18", f"largest difference of counts, {size}", differ, threshold="<= 2 (a block)", runs=experiments)
    record("T18", f"longest run of a value, {size}", longest, threshold="<= 4", runs=experiments)
    record("T18", f"the same within single blocks, {size}", longest_single, threshold="<= 2", runs=experiments)
    record("T18", f"bias under a workload of period 6, {size}", moved, threshold="<= .04", runs=experiments)
    assert differ <= 2
    assert longest_single <= 2
    assert longest <= 4
    assert moved <= 0.04


def test_t18_the_documents_rule_sends_bursts(simulations: Choose, record: Record) -> None:
    """Counted by completed runs, the rarest value gets everything that comes until its first run completes."""
    experiments = simulations(20, 200)
    runs = [
        longest_run(simulate(np.random.default_rng(1802 + number), fewest_completed, 1)[1])
        for number in range(experiments)
    ]
    typical = float(np.median(runs))
    record("T18", "longest run of a value, fewest completed", typical, threshold=">= 20", runs=experiments)
    assert typical >= 20


def test_t18_round_robin_takes_the_workload_for_an_effect(simulations: Choose, record: Record) -> None:
    """In a fixed order each value meets one sixth of the workload; with ties at random it meets all of it."""
    experiments = simulations(20, 200)
    fixed, random = [], []
    for number in range(experiments):
        fixed.append(bias(simulate(np.random.default_rng(1803 + number), round_robin, 1)[1]))
        choose = fewest_assigned(number.to_bytes(32))
        random.append(bias(simulate(np.random.default_rng(1803 + number), choose, 1)[1]))
    record("T18", "bias of round robin, period 6", float(np.mean(fixed)), threshold=">= .10", runs=experiments)
    record("T18", "bias of fewest assigned", float(np.mean(random)), threshold="<= .04", runs=experiments)
    assert np.mean(fixed) >= 0.10
    assert np.mean(random) <= 0.04


def test_t18_a_replay_gives_the_identical_assignment() -> None:
    """From the same tasks again, or from the places kept half way, all values come again; not by another key."""
    names, values = simulate(np.random.default_rng(1804), Blocks(b"key"), 4)
    _, again = simulate(np.random.default_rng(1804), Blocks(b"key"), 4)
    assert again == values
    first = Blocks(b"key")
    before = [first(task, name, (), ()) for task, name in enumerate(names[:500])]
    resumed = Blocks(b"key", last=dict(first.last))
    assert before + [resumed(task, name, (), ()) for task, name in enumerate(names[500:])] == values
    other = Blocks(b"another key")
    same = Counter(
        other(task, name, (), ()) == value for task, (name, value) in enumerate(zip(names, values, strict=True))
    )
    assert same[True] / TASKS == pytest.approx(1 / VALUES, abs=0.04)
