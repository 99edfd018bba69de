"""Import runs: publish them, wait until both workers are past them, and read what became of them."""

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from agents.observer import TALLY
from agents.tallies import Tally
from analytics.partitions import partition_of
from models.errors import NotReachable, SettingsError, StackError
from models.settings import Settings
from models.topics import ARCHIVE_APP, RUNS, STATS, STATS_APP
from streams.files import Chunk
from streams.kafka_clients import POLL_MS, read_compacted, reader
from streams.publisher import Refused, Sent, publishing
from streams.restore import stats_begins
from streams.topics import connected_admin

WORKERS = {STATS_APP: "scaling worker stats", ARCHIVE_APP: "scaling worker archive"}
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 20.0
"""How long a group may have no worker before that is an error; one that has just been started needs some of it."""
LONGEST_ID = 64
MEMBERS = 5
"""The place of the members in aiokafka's description of a group."""

OnProgress = Callable[[str, int, int], None]
"""Told a consumer group, how many offsets it has come past, and how many there are."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import: what Kafka took, what it refused, and what the stats worker counted."""

    import_id: str
    published: int
    tally: Tally
    refused: tuple[Refused, ...]

    @property
    def rejected(self) -> int:
        """How many records were rejected, or refused by Kafka."""
        return self.tally.rejected + len(self.refused)


@dataclass(frozen=True, slots=True)
class Before:
    """Where the tallies of an import are, and what they say before it begins, by source partition."""

    partition: int
    end: int
    tallies: Mapping[int, Tally]


async def import_runs(
    settings: Settings,
    chunks: AsyncIterable[Chunk],
    import_id: str | None = None,
    *,
    rate: float | None = None,
    timeout: float = 600.0,  # noqa: ASYNC109 - the message names what was waited for
    on_progress: OnProgress = lambda *_: None,
) -> Imported:
    """Publish runs and wait until they are in the running statistics and in ClickHouse.

    An import id that was used before is continued: its tallies count from its first use.

    Args:
        settings: The deployment.
        chunks: What to publish; a refused record is named by (path, line).
        import_id: 1 to 64 characters without "|"; absent: a new UUID.
        rate: Events a second at the most.
        timeout: Seconds to wait for the workers, from the last record on.
        on_progress: Told how far each worker's group has come.

    Raises:
        SettingsError: The import id cannot be one.
        NotReachable: Kafka does not answer, or no worker reads.
        StackError: The workers did not get through in time.
    """
    if import_id is not None and (not import_id or len(import_id) > LONGEST_ID or "|" in import_id):
        raise SettingsError(f"import id {import_id!r}: give 1 to {LONGEST_ID} characters without |")
    given, import_id = import_id, import_id or str(uuid4())
    before = await _before(settings, import_id, used=given is not None)
    async with publishing(settings, import_id, rate) as publisher:
        async for chunk in chunks:
            await publisher.publish(chunk.payloads, [(chunk.path, line) for line in chunk.lines])
        sent = await publisher.finish()
    await _wait_for_workers(settings, sent, import_id, timeout, on_progress)
    tally = await _tally(settings, import_id, before, sent.records)
    return Imported(import_id, sent.records, tally, sent.refused)


async def _before(settings: Settings, import_id: str, *, used: bool) -> Before:
    """Find the end of the partition of scaling.stats that will hold the tallies; read those of a used id."""
    partition = partition_of(import_id.encode(), settings.partitions)
    async with reader(settings, STATS, [partition]) as consumer:
        end = (await consumer.end_offsets(list(consumer.assignment())))[TopicPartition(STATS, partition)]
    tallies: dict[int, Tally] = {}
    if used:
        begin = await stats_begins(settings, [partition])
        async for record in read_compacted(settings, STATS, [partition], begin):
            _take(tallies, import_id, record.key, record.value)
    return Before(partition, end, tallies)


async def _wait_for_workers(
    settings: Settings,
    sent: Sent,
    import_id: str,
    timeout: float,  # noqa: ASYNC109 - the message names what was waited for
    on_progress: OnProgress,
) -> None:
    """Wait until every worker's group has committed past the last record on every partition."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    total = sum(sent.last[partition] + 1 - sent.first[partition] for partition in sent.last)
    attended = dict.fromkeys(WORKERS, loop.time())
    waiting = list(WORKERS)
    async with connected_admin(settings, PATIENCE_SECONDS) as admin:
        while True:
            for group in tuple(waiting):
                done = await _done(admin, group, sent)
                on_progress(group, done, total)
                if done == total:
                    waiting.remove(group)
                elif await _has_members(admin, group):
                    attended[group] = loop.time()
                elif loop.time() > min(deadline, attended[group] + PATIENCE_SECONDS):
                    raise NotReachable(
                        f"no worker of group {group} reads {RUNS}: start {WORKERS[group]}; the {sent.records} records "
                        f"of import {import_id} are on the topic and will be read then"
                    )
            if not waiting:
                return
            if loop.time() > deadline:
                raise StackError(
                    f"{' and '.join(waiting)} did not get through import {import_id} within {timeout:g} s: look into "
                    f"the logs of {' and '.join(WORKERS[group] for group in waiting)}, or give --timeout a longer time"
                )
            await asyncio.sleep(POLL_SECONDS)


async def _done(admin: AIOKafkaAdminClient, group: str, sent: Sent) -> int:
    """Count the offsets of an import that a group has committed past."""
    partitions = [TopicPartition(RUNS, partition) for partition in sent.last]
    if not partitions:
        return 0
    try:
        committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
    except KafkaError as error:
        # A new group has no coordinator for a moment.
        if not error.retriable:
            raise StackError(f"the offsets of {group} cannot be read: {error}; try again") from None
        return 0
    ends = {
        each: min(committed[each].offset, sent.last[each.partition] + 1) for each in partitions if each in committed
    }
    return sum(max(end - sent.first[each.partition], 0) for each, end in ends.items())


async def _has_members(admin: AIOKafkaAdminClient, group: str) -> bool:
    with suppress(KafkaError):
        responses = await admin.describe_consumer_groups([group])
        return any(found[MEMBERS] for response in responses for found in response.groups)
    return False


async def _tally(settings: Settings, import_id: str, before: Before, published: int) -> Tally:
    """Add up the newest tallies of the source partitions, once they account for every record."""
    tallies = dict(before.tallies)
    if not published:
        return _sum(tallies)
    wanted = _count(_sum(tallies)) + published
    partition = TopicPartition(STATS, before.partition)
    quiet = 0.0
    async with reader(settings, STATS, [before.partition]) as consumer:
        consumer.seek(partition, before.end)
        # A flush that another partition has under way can hide finished ones for a moment: the count tells.
        while (found := _count(_sum(tallies))) < wanted:
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            for record in fetched.get(partition, ()):
                _take(tallies, import_id, record.key, record.value)
            quiet = 0.0 if fetched else quiet + POLL_MS / 1000
            if quiet > PATIENCE_SECONDS:
                raise StackError(
                    f"the tallies of import {import_id} account for {found} of {wanted} records: look into the logs "
                    "of the stats workers, and import again (what is there already counts as duplicate)"
                )
    return _sum(tallies)


def _take(tallies: dict[int, Tally], import_id: str, key: bytes | None, value: bytes | None) -> None:
    kind, _, rest = (key or b"").partition(b"|")
    source, _, name = rest.partition(b"|")
    if value is not None and kind == TALLY.encode() and name == import_id.encode():
        tallies[int(source)] = msgspec.json.decode(value, type=Tally)


def _sum(tallies: Mapping[int, Tally]) -> Tally:
    return sum(tallies.values(), Tally())


def _count(tally: Tally) -> int:
    return tally.accepted + tally.duplicate + tally.corrected + tally.rejected
