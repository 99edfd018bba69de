"""What the batching transport does, and what it takes for granted about Faust 0.15.3."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import faust
import mode
import pytest
from faust.transport.consumer import Consumer as BaseConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as StockConsumer
from faust.types import TP

from models.settings import load_settings
from models.topics import CELLS_TABLE, RUNS, changelog
from streams.stats_app import create_stats_app
from streams.transport import (
    FETCH_WAIT_MS,
    BatchApp,
    BatchConsumer,
    BatchTransport,
    Delivery,
    check_faust_version,
    current_batches,
)

TP0, TP1 = TP(RUNS, 0), TP(RUNS, 1)


@dataclass(slots=True)
class Raw:
    """A record as aiokafka's fetcher gives it."""

    offset: int
    partition: int = 0
    topic: str = RUNS
    timestamp: int = 1000
    timestamp_type: int = 0
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()
    checksum: int | None = None
    serialized_key_size: int = 0
    serialized_value_size: int = 0


class Unplugged(BatchConsumer):
    """The batching consumer without the thread that talks to Kafka: fetches give `fetched`, seeks end at once."""

    fetched: dict[TP, list[Raw]]
    rewound: list[TP]

    def _new_consumer_thread(self) -> mode.Service:
        return mode.Service()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Raw]]:  # noqa: ARG002, ASYNC109
        await asyncio.sleep(0)
        return self.fetched

    async def seek_to_committed(self) -> dict[TP, int]:
        """Seek nowhere."""
        return {}

    def highwater(self, tp: TP) -> int:  # noqa: ARG002
        """Know of no end."""
        return 0

    def assignment(self) -> set[TP]:
        """Own what the test has made active."""
        return set(self._active_partitions)

    async def _rewind(self, partitions: Sequence[TP]) -> None:
        self.rewound = list(partitions)


async def nothing(*_: object) -> None:
    """Stand where Faust wants a callback."""


@pytest.fixture
async def consumer() -> Unplugged:
    """Make a consumer with partitions 0 and 1 of scaling.runs, its flow running."""
    app = create_stats_app(load_settings(kafka="127.0.0.1:1"))
    app.topics._acking_topics.add(RUNS)
    made = Unplugged(app.transport, nothing, nothing, nothing)
    made._set_active_tps({TP0, TP1})
    return await sought(made)


async def sought(consumer: Unplugged) -> Unplugged:
    """Seek and let the flow go on, as the end of Faust's recovery does."""
    await consumer.perform_seek()
    consumer.resume_flow()
    return consumer


async def fetched(consumer: Unplugged, **records: list[int]) -> list[tuple[TP, Any]]:
    """Fetch records with these offsets; p0 and p1 name the partitions."""
    consumer.fetched = {
        TP(RUNS, int(name[1:])): [Raw(offset, int(name[1:])) for offset in offsets] for name, offsets in records.items()
    }
    return [found async for found in consumer.getmany(1.0)]


# --- assumptions ------------------------------------------------------------------------------------------------------


def test_the_installed_faust_is_the_one_the_transport_was_checked_against(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version is refused at the start, by name."""
    check_faust_version()
    monkeypatch.setattr(faust, "__version__", "0.16.0")
    with pytest.raises(RuntimeError, match=r"faust-streaming 0\.16\.0 is installed"):
        check_faust_version()


OVERRIDDEN = (
    "_new_consumer_thread",
    "_wait_next_records",
    "getmany",
    "_to_message",
    "_add_gap",
    "ack",
    "_new_offset",
    "perform_seek",
    "stop_flow",
    "on_partitions_revoked",
)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_every_overridden_method_has_the_signature_of_fausts(name: str) -> None:
    """An override that Faust calls in another way would fail at the worst moment."""
    stock, ours = getattr(StockConsumer, name), getattr(BatchConsumer, name)
    assert inspect.iscoroutinefunction(stock) == inspect.iscoroutinefunction(ours)
    assert inspect.isasyncgenfunction(stock) == inspect.isasyncgenfunction(ours)
    assert list(inspect.signature(stock).parameters) == list(inspect.signature(ours).parameters)


def test_the_list_of_overrides_is_complete() -> None:
    """Whatever of Faust's the transport replaces is checked above."""
    ours = {name for name, thing in vars(BatchConsumer).items() if inspect.isfunction(thing) and name != "__init__"}
    assert {name for name in ours if hasattr(StockConsumer, name)} == set(OVERRIDDEN)


async def test_the_state_that_is_used_exists(consumer: Unplugged) -> None:
    """Attributes of Faust's consumer that the transport reads or changes."""
    for name in (
        "_acked",
        "_acked_index",
        "_unacked_messages",
        "_committed_offset",
        "_read_offset",
        "not_waiting_next_records",
        "can_resume_flow",
        "flow_active",
        "scheduler",
    ):
        assert hasattr(consumer, name), name


def test_faust_drains_getmany_and_commits_new_offset() -> None:
    """Deliveries come through getmany and read offsets; commits go through _new_offset; recovery seeks."""
    drain = inspect.getsource(BaseConsumer._drain_messages)
    assert "self.getmany" in drain
    assert "offset >= r_offset" in drain
    assert "self._new_offset(tp)" in inspect.getsource(BaseConsumer._filter_committable_offsets)
    recovery = inspect.getsource(faust.tables.recovery.Recovery.on_recovery_completed)
    assert recovery.index("perform_seek") < recovery.index("flow_control.resume") < recovery.index("resume_flow")


def test_the_flaws_that_are_corrected_are_still_there() -> None:
    """Stock Faust says that no fetch is under way where one begins; once that is fixed, the override can go."""
    source = inspect.getsource(BaseConsumer._wait_next_records)
    assert "not_waiting_next_records.set()" in source
    assert "not_waiting_next_records.clear()" not in source
    source = inspect.getsource(AIOKafkaConsumerThread._create_worker_consumer)
    assert "fetch_max_wait_ms=1500" in source
    assert 'isolation_level: str = "read_uncommitted"' in source


async def test_the_app_uses_the_batching_transport() -> None:
    """Faust asks _new_transport, and the transport its Consumer class."""
    app = create_stats_app(load_settings())
    assert isinstance(app, BatchApp)
    assert isinstance(app.transport, BatchTransport)
    assert app.transport.Consumer is BatchConsumer
    assert "self.Consumer(" in inspect.getsource(faust.transport.base.Transport.create_consumer)


async def test_the_consumer_reads_what_is_committed_and_a_fetch_ends_soon() -> None:
    """Aborted records reach no agent, and no partition waits 1.5 s for another."""
    app = create_stats_app(load_settings(kafka="127.0.0.1:1"))
    thread = BatchConsumer(app.transport, nothing, nothing, nothing)._thread
    ours = thread._create_worker_consumer(app.transport)
    assert (ours._isolation_level, ours._fetch_max_wait_ms) == ("read_committed", FETCH_WAIT_MS)
    assert "isolation_level=self._isolation_level" in inspect.getsource(type(ours).start)
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(type(ours).start)
    await ours.stop()
    thread.thread_loop.close()


# --- behaviour --------------------------------------------------------------------------------------------------------


async def test_a_fetch_is_one_message_a_partition_under_its_last_offset(consumer: Unplugged) -> None:
    """The message holds the records in order, whatever offsets are missing between them."""
    found = dict(await fetched(consumer, p0=[3, 4, 9], p1=[1]))
    assert {tp: message.offset for tp, message in found.items()} == {TP0: 9, TP1: 1}
    batch = found[TP0].value.batch
    assert (batch.topic, batch.partition, list(batch.offsets), batch.values) == (RUNS, 0, [3, 4, 9], [b"{}"] * 3)


async def test_records_of_a_changelog_are_left_as_they_are(consumer: Unplugged) -> None:
    """Faust's own recovery reads changelogs record by record."""
    tp = TP(changelog(CELLS_TABLE), 0)
    consumer._set_active_tps({tp})
    consumer.fetched = {tp: [Raw(1, 0, tp.topic), Raw(2, 0, tp.topic)]}
    assert tp.topic in consumer.app.tables.changelog_topics
    found = [message async for _, message in consumer.getmany(1.0)]
    assert [(message.offset, message.value) for message in found] == [(1, b"{}"), (2, b"{}")]


async def test_only_a_head_of_finished_batches_is_committed(consumer: Unplugged) -> None:
    """A batch that is done before its predecessor waits for it; the commit is the offset behind the last one done."""
    messages = []
    for offsets in ([1, 2], [5, 6], [9]):
        messages += [message for _, message in await fetched(consumer, p0=offsets)]
    assert consumer._new_offset(TP0) is None
    assert consumer.ack(messages[1])
    assert (consumer._new_offset(TP0), consumer.oldest_unacknowledged(TP0)) == (None, 2)
    assert consumer.ack(messages[0])
    assert (consumer._new_offset(TP0), consumer.oldest_unacknowledged(TP0)) == (7, 9)
    assert consumer._new_offset(TP0) is None
    assert consumer.ack(messages[2])
    assert (consumer._new_offset(TP0), consumer.oldest_unacknowledged(TP0)) == (10, None)
    assert consumer._new_offset(TP1) is None


async def test_gaps_are_not_kept(consumer: Unplugged) -> None:
    """Markers and compaction leave gaps; none of them is remembered, so none can stall or overshoot a commit."""
    await consumer._add_gap(TP0, 1, 1000)
    assert not consumer._gap[TP0]
    ((_, message),) = await fetched(consumer, p0=[1000])
    consumer.ack(message)
    assert consumer._new_offset(TP0) == 1001


async def test_an_acknowledgement_from_before_a_seek_counts_for_nothing(consumer: Unplugged) -> None:
    """What was delivered before is delivered again; its old acknowledgement must not commit it."""
    ((_, old),) = await fetched(consumer, p0=[1, 2])
    await sought(consumer)
    ((_, new),) = await fetched(consumer, p0=[1, 2])
    assert not consumer.ack(old)
    assert old.acked
    assert (consumer._new_offset(TP0), consumer.oldest_unacknowledged(TP0)) == (None, 2)
    assert consumer.ack(new)
    assert consumer._new_offset(TP0) == 3


async def test_a_seek_waits_until_no_fetch_is_under_way(consumer: Unplugged) -> None:
    """A fetch from the old position ends first, and what it brought is dropped."""
    release = asyncio.Event()

    class Slow(Unplugged):
        async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Raw]]:  # noqa: ARG002, ASYNC109
            await release.wait()
            return {TP0: [Raw(1)]}

    slow = Slow(consumer.transport, nothing, nothing, nothing)
    slow._set_active_tps({TP0})
    await sought(slow)
    fetch = asyncio.create_task(_all(slow.getmany(1.0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    seek = asyncio.create_task(slow.perform_seek())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not seek.done()
    release.set()
    await seek
    assert await fetch == []
    assert slow.oldest_unacknowledged(TP0) is None


async def test_what_is_fetched_after_a_seek_is_handed_on_by_a_call_that_waited_through_it(consumer: Unplugged) -> None:
    """A rebalance parks the reader until the flow resumes; what it then reads lies behind the seek and is not stale."""
    consumer.fetched = {TP0: [Raw(7)]}
    consumer.stop_flow()
    fetch = asyncio.create_task(_all(consumer.getmany(1.0)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not fetch.done()
    await sought(consumer)
    assert [message.offset for _, message in await fetch] == [7]


async def test_messages_of_a_fetch_end_where_a_seek_comes_between(consumer: Unplugged) -> None:
    """The rest of a fetch is not handed on after a seek: its offsets lie behind the new position."""
    consumer.fetched = {TP0: [Raw(1)], TP1: [Raw(1, 1)]}
    messages = consumer.getmany(1.0)
    await anext(messages)
    await sought(consumer)
    assert await _all(messages) == []


async def test_nothing_is_fetched_between_a_stop_and_the_seek_after_it(consumer: Unplugged) -> None:
    """Until the seek to the committed offsets, whatever would be read is not to be read; what was is stale."""
    ((_, message),) = await fetched(consumer, p0=[1, 2])
    consumer.stop_flow()
    consumer.resume_flow()
    assert await fetched(consumer, p0=[9]) == []
    assert not consumer.ack(message)
    await sought(consumer)
    assert len(await fetched(consumer, p0=[1, 2])) == 1


async def test_a_batch_says_from_where_it_was_read(consumer: Unplugged) -> None:
    """It begins behind the last record delivered before it, whatever gap lies between, or at the position sought."""
    ((_, first),) = await fetched(consumer, p0=[3, 4])
    ((_, second),) = await fetched(consumer, p0=[9])
    assert (first.value.start, second.value.start) == (0, 5)
    consumer._read_offset[TP0] = 7
    await sought(consumer)
    ((_, third),) = await fetched(consumer, p0=[9])
    assert third.value.start == 7


async def test_without_active_partitions_nothing_is_fetched(consumer: Unplugged) -> None:
    """While all partitions are paused a fetch is a short sleep, not a fetch of everything."""
    consumer.fetched = {TP0: [Raw(1)]}
    consumer.pause_partitions({TP0, TP1})
    assert await _all(consumer.getmany(1.0)) == []


async def test_an_agent_is_not_given_batches_that_a_seek_made_stale(consumer: Unplugged) -> None:
    """They are acknowledged into nothing; fresh ones come with their event."""
    ((_, old),) = await fetched(consumer, p0=[1])
    await sought(consumer)
    ((_, new),) = await fetched(consumer, p0=[1, 2])

    @dataclass(slots=True, eq=False)
    class Event:
        value: Delivery
        acknowledged: bool = False

        def ack(self) -> None:
            self.acknowledged = True

    events = [Event(old.value), Event(new.value)]

    class Stream:
        def noack(self) -> "Stream":
            return self

        async def events(self) -> AsyncIterator[Event]:
            for event in events:
                yield event

    found = [(list(batch.offsets), event) async for batch, event in current_batches(Stream(), lambda: consumer)]
    assert found == [([1, 2], events[1])]
    assert [event.acknowledged for event in events] == [True, False]


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def test_a_seek_rewinds_partitions_without_a_commit(consumer: Unplugged) -> None:
    """What was fetched of a partition that has no commit yet is read again from its beginning, never skipped."""
    await consumer.perform_seek()
    assert sorted(consumer.rewound) == [TP0, TP1]
