"""The limit on the share of dead letters: when it stops a worker, what it says, and what is left on the topic."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from agents.decode import Rejection
from agents.flush import Flush
from agents.observe import Acknowledge, Observation
from agents.reject_limit import RejectLimit
from models.batches import Batch
from models.errors import StackError
from models.settings import Settings, load_settings
from models.topics import TABLES

LIMITED = load_settings(partitions=1, reject_share=0.5, reject_window=100, flush_events=10)
GOOD, BAD = '{"agent_run_id": "run-%d", "agent_count": 1}', '{"agent_run_id": "run-%d", "agent_count": "many"}'


def counted(limit: RejectLimit, bad: Sequence[bool], chunk: int = 7) -> RejectLimit:
    """Give a limit records in chunks, of which some are bad."""
    for at in range(0, len(bad), chunk):
        part = bad[at : at + chunk]
        rejections = [Rejection(place, f"{place} bytes") for place, wrong in enumerate(part) if wrong]
        limit.count(len(part), rejections)
    return limit


def test_more_than_the_share_of_the_window_stops_and_says_why() -> None:
    """The message has the numbers, the most frequent reason, the setting and what to do."""
    limit = RejectLimit(3, 0.5, 100)
    counted(limit, [True] * 60 + [False] * 40)
    with pytest.raises(StackError, match=r"60 of the last 100 records of scaling.runs, partition 3, .*\b0 bytes.*"):
        limit.check()
    with pytest.raises(StackError, match=r"reject_share is 0\.5.*stay on the topic.*SCALING_REJECT_SHARE=1"):
        limit.check()


@pytest.mark.parametrize(
    ("share", "bad"),
    [(0.5, [True] * 99), (0.5, [True, False] * 500), (1.0, [True] * 1000), (0.5, [True] * 50 + [False] * 950)],
    ids=["fewer than the window", "just the share", "share 1", "a bad beginning"],
)
def test_what_does_not_stop(share: float, bad: list[bool]) -> None:
    """Fewer than the window, the share itself, and a share of 1 never stop."""
    counted(RejectLimit(0, share, 100), bad).check()


def test_old_records_leave_the_window() -> None:
    """Good records long ago do not excuse bad ones now, and once passed the limit stays passed."""
    limit = counted(RejectLimit(0, 0.5, 100), [False] * 10_000 + [True] * 60)
    with pytest.raises(StackError, match="60 of the last 100"):
        limit.check()
    counted(limit, [False] * 1000)
    with pytest.raises(StackError):
        limit.check()


@pytest.mark.parametrize("chunk", [1, 3, 10, 1000])
def test_the_window_does_not_depend_on_how_records_arrive(chunk: int) -> None:
    """Spans are counted in records, so the same records give the same state; it is at most ten spans."""
    bad = [number % 3 == 0 for number in range(1234)]
    limit = counted(RejectLimit(0, 0.5, 100), bad, chunk)
    assert limit.spans == counted(RejectLimit(0, 0.5, 100), bad).spans
    assert len(limit.spans) <= 10


def test_a_worker_that_starts_again_stops_at_the_same_record() -> None:
    """The counts survive; those of another window are left alone."""
    bad = [False] * 200 + [True] * 55
    before = counted(RejectLimit(0, 0.5, 100), bad)
    before.check()
    after = RejectLimit(0, 0.5, 100)
    after.restore(before.spans)
    assert after.spans == before.spans
    counted(after, [True] * 5)
    with pytest.raises(StackError, match="60 of the last 100"):
        after.check()
    other = RejectLimit(0, 0.5, 500)
    other.restore(before.spans)
    assert other.spans == ()


@dataclass(slots=True, eq=False)
class Memory:
    """An owned partition in memory, which shows in its tables what it has written."""

    tables: dict[str, dict[bytes, bytes]] = field(default_factory=lambda: {table: {} for table in TABLES})
    flushes: list[Flush] = field(default_factory=list)
    swollen: bool = False

    async def write(self, flush: Flush) -> bool:
        """Take a flush."""
        await asyncio.sleep(0)
        self.flushes.append(flush)
        for table, changes in flush.tables.items():
            self.tables[table].update({key: value for key, value in changes.items() if value is not None})
        return True


async def nothing_again(partition: int, offsets: Sequence[int]) -> Batch:
    """Read nothing again: no run is corrected."""
    raise AssertionError(f"records {offsets} of partition {partition}")


async def observed(settings: Settings, memory: Memory, texts: Sequence[str], acknowledged: list[int]) -> None:
    """Run a new worker over a topic from the stored offset on, ten records a batch."""
    first = memory.flushes[-1].offset if memory.flushes else 0

    def acknowledge(offset: int) -> Acknowledge:
        return lambda: acknowledged.append(offset)

    async def batches() -> AsyncIterator[tuple[Batch, Acknowledge]]:
        for at in range(first, len(texts), 10):
            offsets = list(range(at, min(at + 10, len(texts))))
            count = len(offsets)
            values = [(texts[offset] % offset).encode() for offset in offsets]
            batch = Batch("scaling.runs", 0, offsets, [1_750_000_000_000] * count, [None] * count, values, [()] * count)
            yield batch, acknowledge(offsets[-1])

    await Observation(settings, lambda: {0: memory}, nothing_again).observe(batches())


async def test_a_stopped_worker_writes_and_acknowledges_nothing_further() -> None:
    """However often it is started again it stops there; with the share at 1 it goes on, and nothing is lost."""
    memory, acknowledged = Memory(), list[int]()
    texts = [GOOD] * 200 + [BAD] * 100 + [GOOD] * 50
    for _ in range(3):
        with pytest.raises(StackError, match="60 of the last 100"):
            await observed(LIMITED, memory, texts, acknowledged)
        assert (memory.flushes[-1].offset, acknowledged[-1]) == (250, 249)
    await observed(LIMITED.model_copy(update={"reject_share": 1.0}), memory, texts, acknowledged)
    assert acknowledged == list(range(9, 350, 10))
    rejected = [record for flush in memory.flushes for record in flush.records if record.topic == "scaling.rejected"]
    assert len(rejected) == 100
