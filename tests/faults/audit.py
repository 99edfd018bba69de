"""The audit: what a stack has made of what was published, compared exactly, with nothing taken on trust.

Five witnesses must agree: the publisher's own ledger, the log, the live tables, the laws, and ClickHouse.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from agents.refits import refit_live
from agents.verify import compare
from analytics.partitions import partitions_of
from cli.laws import read_laws
from models.contexts import GLOBAL
from models.dimensions import Basis, Dimension, Outcome
from models.errors import NotReachable, QueryError
from models.laws import Law
from models.settings import Settings
from models.topics import LAWS, REJECTED, RUNS, STATS_APP
from streams.clickhouse import query
from streams.kafka_clients import read_compacted
from streams.verification import verify
from tests.faults.publisher import Content, Ledger, content_of
from tests.faults.raw_columns import Logged, Which, accepted_of, columns_of, counting
from tests.faults.tables import Log, Undisturbed, compare_rejected, compare_tables, fold, read_log, stored

SETTLE_SECONDS = 120.0
POLL_SECONDS = 1.0
ROWS = 10_000_000
NAMED = 12
"""Differences of one comparison that are named; all are counted."""


@dataclass
class Findings:
    """What an audit found.

    Attributes:
        published: Records that the broker acknowledged.
        accepted, duplicates, corrections, rejected: What observers that never stop make of the log.
        checked: How many things were compared, by witness.
        differences: One sentence each.
        seconds: What it took.
    """

    published: int
    accepted: int = 0
    duplicates: int = 0
    corrections: int = 0
    rejected: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def note(self, what: str, checked: int, differences: Iterable[str]) -> None:
        """Add what a comparison found."""
        found = list(differences)
        self.checked[what] += checked
        self.differences += found[:NAMED]
        if len(found) > NAMED:
            self.differences.append(f"{what}: {len(found) - NAMED} more")


async def audit(
    settings: Settings,
    ledger: Ledger,
    stop_workers: Callable[[], Awaitable[None]],
    *,
    live: Which,
    laws: int = 6,
    seed: int = 0,
) -> Findings:
    """Compare everything, once all that was published has been worked off.

    Args:
        settings: Of the stack.
        ledger: Of its only publisher.
        stop_workers: Awaited before the tables are read as a new owner reads them.
        live: Which event of a run the live tables promise to count.
        laws: How many laws of each tier are fitted anew; 0 for none.
        seed: Chooses them.
    """
    start = time.monotonic()
    log = await worked_off(settings, STATS_APP, SETTLE_SECONDS)
    expected = await asyncio.to_thread(fold, settings, log)
    accepted = await asyncio.to_thread(accepted_of, settings, log)
    counts = expected.counts
    findings = Findings(ledger.records, counts.accepted, counts.duplicate, counts.corrected, counts.rejected)
    findings.note("log", sum(map(len, log.values())), compare_log(settings, log, ledger, accepted, expected))
    await _until_equal(findings, "archive", lambda: asyncio.to_thread(compare_archive, settings, accepted, expected))
    if laws:
        chance = random.Random(seed)  # noqa: S311 - a seed to rerun
        await _laws(settings, findings, accepted, live=live, chance=chance, many=laws)
    await _until_equal(findings, "law rows", lambda: _law_rows(settings))
    await stop_workers()
    dead = [record async for record in read_compacted(settings, REJECTED)]
    found = {record.key: record.value for record in dead}
    findings.note("dead letters", len(expected.rejected), compare_rejected(found, len(dead), expected.rejected))
    tables = await stored(settings)
    checked = sum(map(len, expected.tables.values()))
    findings.note("table entries", checked, compare_tables(tables, expected.tables, corrected=live == "newest"))
    findings.seconds = time.monotonic() - start
    return findings


def compare_log(
    settings: Settings, log: Log, ledger: Ledger, accepted: Collection[Logged], expected: Undisturbed
) -> Iterator[str]:
    """Name where the log, or what observers make of it, is not what the publisher knows that it published."""
    found = {partition: list(map(content_of, batch.keys, batch.values)) for partition, batch in log.items()}
    logged = Counter(chain.from_iterable(found.values()))
    known = ledger.valid | ledger.invalid
    yield from (f"log: {key.decode()} was published and is not there" for key, _ in known - logged.keys())
    yield from (f"log: {key.decode()} is there and was not published" for key, _ in logged.keys() - known)
    runs = {each.event.agent_run_id for each in accepted}
    yield from (f"run {run} was published and does not count" for run in ledger.runs - runs)
    yield from (f"run {run} counts and was not published" for run in runs - ledger.runs)
    if expected.counts.accepted != len(runs):
        yield f"observers accepted {expected.counts.accepted} runs, and there are {len(runs)}"
    rejected = sum(logged[content] for content in ledger.invalid)
    if expected.counts.rejected != rejected:
        yield f"observers rejected {expected.counts.rejected} records, and {rejected} are no valid runs"
    at_home: set[Content] = set()
    for partition, batch in log.items():
        keys = [key or b"" for key in batch.keys]
        own = (partitions_of(keys, settings.partitions) == partition).tolist()
        at_home |= {content for content, here in zip(found[partition], own, strict=True) if here}
    yield from (f"log: {key.decode()} never came to its own partition" for key, _ in ledger.valid - at_home)


def compare_archive(settings: Settings, accepted: Collection[Logged], expected: Undisturbed) -> tuple[int, list[str]]:
    """Compare the rows of ClickHouse with the log: runs, records and rejected records, each exactly once."""
    chosen = counting(accepted, "newest")
    runs = {
        name: (each.partition, each.offset, each.event.revision, each.content, int(each.completed * 1000 + 0.5))
        for name, each in chosen.items()
    }
    sql = "SELECT agent_run_id, partition, offset, revision, content_hash, toUnixTimestamp64Milli(completed_at) FROM "
    rows = query(settings, sql + "observations", rows=ROWS).rows
    found = {str(row[0]): tuple(map(int, row[1:])) for row in rows}
    differences = _differences("observations", found, len(rows), runs)
    records = {(each.partition, each.offset): (each.event.agent_run_id, each.content) for each in accepted}
    rows = query(settings, "SELECT partition, offset, agent_run_id, content_hash FROM records", rows=ROWS).rows
    found_records = {(int(row[0]), int(row[1])): (str(row[2]), int(row[3])) for row in rows}
    differences += _differences("records", found_records, len(rows), records)
    rejected = {key.decode(): value for key, value in expected.rejected.items()}
    sql = "SELECT concat(topic, '|', toString(partition), '|', toString(offset)), reason, size FROM rejected"
    rows = query(settings, sql, rows=ROWS).rows
    said = {str(row[0]): (str(row[1]), int(row[2])) for row in rows}
    letters = {key: msgspec.json.decode(value) for key, value in rejected.items()}
    wanted = {key: (letter["reason"], letter["size"]) for key, letter in letters.items()}
    differences += _differences("rejected", said, len(rows), wanted)
    return len(runs) + len(records) + len(wanted), differences


def _differences(table: str, found: Mapping[Any, Any], rows: int, expected: Mapping[Any, Any]) -> list[str]:
    remarks = [f"{table}: {rows} rows for {len(found)} keys"] if rows != len(found) else []
    remarks += [f"{table}: {key} is missing" for key in expected.keys() - found.keys()]
    remarks += [f"{table}: {key} is in excess" for key in found.keys() - expected.keys()]
    remarks += [
        f"{table}: {key} is {found[key]}, and in the log {value}"
        for key, value in expected.items()
        if key in found and found[key] != value
    ]
    return remarks


async def _laws(
    settings: Settings,
    findings: Findings,
    accepted: Collection[Logged],
    *,
    live: Which,
    chance: random.Random,
    many: int,
) -> None:
    """Fit live laws from the raw rows of the log, audited ones by `scaling laws verify`, and compare."""
    chosen = counting(accepted, live)
    # Time buckets follow every event that was folded, whether it still counts or not.
    folded = counting(accepted, "first").values() if live == "first" else accepted
    newest = max((each.completed for each in folded), default=0.0)
    ids = sorted(law.law_id for law in await read_laws(settings) if law.context == GLOBAL and law.tier == "live")
    wanted = {law.removesuffix("|live") for law in chance.sample(ids, min(many, len(ids)))}
    columns = await asyncio.to_thread(columns_of, settings, chosen.values(), GLOBAL, newest)

    def differ(law: Law) -> list[str]:
        parts = compare(law, refit_live(columns, law, settings), settings)
        return [f"{law.law_id}: {remark}" for part in parts for remark in part.differences]

    newest_columns = await asyncio.to_thread(
        columns_of, settings, counting(accepted, "newest").values(), GLOBAL, newest
    )

    def verified(law: Law) -> list[str]:
        slot, outcome = (Dimension(law.dimension), Basis(law.basis or "")), Outcome(law.outcome)
        runs = int((~np.isnan(newest_columns.x[slot]) & ~np.isnan(newest_columns.outcomes[outcome])).sum())
        if law.epoch_since is None and law.n != runs:
            return [f"{law.law_id}: has seen {law.n} runs, and there are {runs}"]
        parts = verify(settings, law).parts
        return [f"{law.law_id}: {remark}" for part in parts for remark in part.differences]

    async def tier(name: str, differences: Callable[[Law], list[str]]) -> tuple[int, list[str]]:
        laws = {law.law_id: law for law in await read_laws(settings)}
        missing = [f"{each}|{name} is not published" for each in wanted if f"{each}|{name}" not in laws]
        found = [laws[f"{each}|{name}"] for each in sorted(wanted) if f"{each}|{name}" in laws]
        remarks = [await asyncio.to_thread(differences, law) for law in found]
        return len(found), missing + [remark for each in remarks for remark in each]

    await _until_equal(findings, "live laws", lambda: tier("live", differ))
    await _until_equal(findings, "audited laws", lambda: tier("audited", verified))


async def _law_rows(settings: Settings) -> tuple[int, list[str]]:
    """Compare the laws on their topic with those of ClickHouse; versions of a law only go up."""
    remarks: list[str] = []
    newest: dict[str, tuple[int, bytes]] = {}
    published: set[tuple[str, int]] = set()
    async for record in read_compacted(settings, LAWS):
        key = record.key.decode()
        if record.value is None:
            newest.pop(key, None)
            continue
        version = msgspec.json.decode(record.value)["version"]
        if key in newest and version <= newest[key][0]:
            remarks.append(f"law {key}: version {version} was published after {newest[key][0]}")
        newest[key] = version, record.value
        published.add((key, version))
    rows = await asyncio.to_thread(query, settings, "SELECT law_id, version, record FROM law_history", rows=ROWS)
    archived = {(str(row[0]), int(row[1])): str(row[2]) for row in rows.rows}
    if len(archived) != len(rows.rows):
        remarks.append(f"law_history: {len(rows.rows)} rows for {len(archived)} versions")
    remarks += [f"law_history: {each} is missing" for each in sorted(published - archived.keys())]
    for key, (version, value) in newest.items():
        if (key, version) in archived and archived[key, version] != value.decode():
            remarks.append(f"law_history: {key} version {version} is not what was published")
    return len(published), remarks


async def _until_equal(findings: Findings, what: str, compared: Callable[[], Awaitable[tuple[int, list[str]]]]) -> None:
    """Compare until nothing differs; what differs for SETTLE_SECONDS is a finding."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            checked, differences = await compared()
        except (QueryError, NotReachable, KafkaError) as error:
            checked, differences = 0, [f"{what}: {error}"]
        if not differences or time.monotonic() > deadline:
            findings.note(what, checked, differences)
            return
        await asyncio.sleep(POLL_SECONDS)


async def worked_off(settings: Settings, group: str, seconds: float) -> Log:
    """Wait until a group has committed every record of scaling.runs, and give the log.

    Records count, not offsets: the markers of transactions by which misplaced records came are behind the last one.

    Raises:
        TimeoutError: It did not in time; the partitions are named, with their first record that is left.
    """
    deadline = time.monotonic() + seconds
    while True:
        # Asked before the log is read: a record that is moved to its own partition meanwhile is seen there.
        committed = await committed_offsets(settings, group)
        log = await read_log(settings)
        ends = {partition: batch.offsets[-1] + 1 for partition, batch in log.items() if len(batch)}
        behind = {one: committed.get(one, 0) for one, end in ends.items() if committed.get(one, 0) < end}
        if not behind:
            return log
        if time.monotonic() > deadline:
            raise TimeoutError(f"{group} has not worked off scaling.runs after {seconds:.0f} s: {behind} of {ends}")
        await asyncio.sleep(POLL_SECONDS)


async def settled(settings: Settings, group: str, topics: list[str], seconds: float) -> None:
    """Wait until a group has committed everything.

    Raises:
        TimeoutError: It did not in time; the lags are named.
    """
    deadline = time.monotonic() + seconds
    while any((found := await lags(settings, group, topics)).values()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{group} still has lags after {seconds:.0f} s: {found}")
        await asyncio.sleep(0.5)


@retry(retry=retry_if_exception_type(KafkaError), wait=wait_fixed(0.5), stop=stop_after_delay(60))
async def committed_offsets(settings: Settings, group: str) -> dict[int, int]:
    """Read what a group has committed of each partition of scaling.runs."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        await admin.start()
        found = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {tp.partition: max(0, at.offset) for tp, at in found.items() if tp.topic == RUNS}


@retry(retry=retry_if_exception_type(KafkaError), wait=wait_fixed(0.5), stop=stop_after_delay(60))
async def lags(settings: Settings, group: str, topics: Collection[str] = (RUNS,)) -> dict[str, int]:
    """Count, per partition of some topics, the offsets above the group's committed one."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await consumer.start()
    try:
        await admin.start()
        partitions = [TopicPartition(topic, one) for topic in topics for one in range(settings.partitions)]
        ends = await consumer.end_offsets(partitions)
        committed = await admin.list_consumer_group_offsets(group)
        return {
            f"{tp.topic}-{tp.partition}": end - max(0, committed[tp].offset if tp in committed else 0)
            for tp, end in ends.items()
        }
    finally:
        await consumer.stop()
        await admin.close()
