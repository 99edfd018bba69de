"""What the doctor asks Kafka: does it answer, are topics as they should be, do workers live, do they keep up."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.check import Check
from models.settings import Settings
from models.topics import (
    ARCHIVE_APP,
    ASSIGN_REPLIES,
    ASSIGN_REQUESTS,
    ASSIGNMENTS,
    DECISIONS,
    EXPERIMENTS,
    EXPERIMENTS_APP,
    FINDINGS,
    LAWS,
    OUTCOMES,
    OVERRIDES,
    REJECTED,
    RUNS,
    STATS_APP,
    TESTS,
    TOPICS,
)
from streams.kafka_security import connection
from streams.topic_settings import find_drifts, read_settings
from streams.topics import partition_mismatch, wait_for_coordinator

APPS = {"stats": STATS_APP, "archive": ARCHIVE_APP, "experiments": EXPERIMENTS_APP}
ALSO_READ = {
    "stats": (),
    "archive": (REJECTED, LAWS, EXPERIMENTS, ASSIGNMENTS, FINDINGS, DECISIONS, OVERRIDES, TESTS),
    "experiments": (ASSIGN_REQUESTS, OUTCOMES),
}
"""What the workers read besides scaling.runs."""

PATIENCE_SECONDS = 5.0
MOST_LAG = 100_000
"""Records that may wait: a worker that is well works them off within seconds."""

MOST_SKEW_SECONDS = 2.0
"""Clocks may differ by so much: a request for an assignment waits no longer than a second or two."""

PROBE = b"doctor"


async def kafka_checks(admin: AIOKafkaAdminClient, settings: Settings) -> list[Check]:
    """Ask everything that one broker can tell."""
    checks = [await _broker_check(admin, settings)]
    described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics()}
    found = {topic: len(partitions) for topic, partitions in described.items()}
    checks += [_topics_check(found, settings), _leaders_check(described), await _settings_check(admin, found)]
    if ASSIGN_REPLIES in found:
        checks.append(await _clock_check(settings))
    for kind, app in APPS.items():
        await wait_for_coordinator(admin, app, PATIENCE_SECONDS)
        checks.append(await _members_check(admin, kind, app))
        checks += await _lag_check(admin, settings, kind, found)
    return checks


async def _broker_check(admin: AIOKafkaAdminClient, settings: Settings) -> Check:
    cluster = await admin.describe_cluster()
    message = f"{settings.kafka} answers: {len(cluster['brokers'])} broker(s), cluster {cluster['cluster_id']}"
    return Check("Kafka", ok=True, message=message)


def _topics_check(found: dict[str, int], settings: Settings) -> Check:
    missing = [spec.name for spec in TOPICS if spec.name not in found]
    if missing:
        message = (
            f"{len(missing)} of {len(TOPICS)} topics are missing ({', '.join(missing)}): run scaling topics create"
        )
        return Check("topics", ok=False, message=message)
    mismatch = partition_mismatch(found, settings)
    return Check(
        "topics", ok=mismatch is None, message=mismatch or f"all {len(TOPICS)} exist with the right partitions"
    )


def _leaders_check(described: Mapping[str, list[dict[str, Any]]]) -> Check:
    ours = [(spec.name, each) for spec in TOPICS for each in described.get(spec.name, ())]
    orphans = [f"{topic}-{each['partition']}" for topic, each in ours if each["leader"] < 0]
    behind = [f"{topic}-{each['partition']}" for topic, each in ours if len(each["isr"]) < len(each["replicas"])]
    if orphans:
        message = f"no broker leads {_some(orphans)}: start the brokers that hold them"
    elif behind:
        message = f"replicas are missing or behind of {_some(behind)}: look at the brokers that hold them"
    else:
        message = f"all {len(ours)} have a leader and all their replicas"
    return Check("partitions", ok=not (orphans or behind), message=message)


async def _settings_check(admin: AIOKafkaAdminClient, found: Mapping[str, int]) -> Check:
    present = [spec.name for spec in TOPICS if spec.name in found]
    drifts = find_drifts(await read_settings(admin, present)) if present else []
    if not drifts:
        return Check("topic settings", ok=True, message=f"all are as the {len(present)} topics need them")
    by_hand = [f"{drift} ({drift.danger})" for drift in drifts if drift.danger]
    parts = [str(drift) for drift in drifts if not drift.danger]
    message = "; ".join(
        filter(None, [_some(parts, "; ") and f"{_some(parts, '; ')}: run scaling doctor --fix", *by_hand])
    )
    return Check("topic settings", ok=False, message=message)


async def _clock_check(settings: Settings) -> Check:
    """Compare the broker's clock with this machine's: the topic says when it appended a probe that nobody reads."""
    name = "clock of Kafka"
    async with AIOKafkaProducer(**connection(settings)) as producer:
        await producer.partitions_for(ASSIGN_REPLIES)
        before = time.time()
        sent = await producer.send_and_wait(ASSIGN_REPLIES, b"{}", key=PROBE, partition=0)
        after = time.time()
    if sent.timestamp_type != 1:
        message = f"{ASSIGN_REPLIES} does not say when the broker appended a record: see topic settings"
        return Check(name, ok=False, message=message)
    return skew_check(name, sent.timestamp / 1000, before, after)


def skew_check(name: str, theirs: float, before: float, after: float) -> Check:
    """Judge a clock that said `theirs` at some moment between `before` and `after` of this machine's."""
    # Any moment in between may have been the one: only what lies outside is certainly skewed.
    skew = theirs - min(max(theirs, before), after)
    message = f"within {max(abs(theirs - before), abs(theirs - after)):.3f} s of this machine's"
    if abs(skew) > MOST_SKEW_SECONDS:
        message = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's: let both follow NTP"
    return Check(name, ok=abs(skew) <= MOST_SKEW_SECONDS, message=message)


async def _members_check(admin: AIOKafkaAdminClient, kind: str, app: str) -> Check:
    name = f"{kind} workers"
    # A response names its groups; the entries are tuples in the protocol's order: error, group, state, …, members.
    (response,) = await admin.describe_consumer_groups([app])
    ((_error, _group, state, _protocol_type, _protocol, members, *_),) = response.groups
    if not members:
        return Check(name, ok=False, message=f"none is alive in group {app}: start one with scaling worker {kind}")
    return Check(name, ok=True, message=f"{len(members)} alive in group {app} ({state})")


async def _lag_check(
    admin: AIOKafkaAdminClient, settings: Settings, kind: str, found: Mapping[str, int]
) -> list[Check]:
    main, *others = ALSO_READ[kind] if kind == "experiments" else (RUNS, *ALSO_READ[kind])
    if main not in found:
        return []
    lags = await _lags(
        admin, settings, APPS[kind], {topic: found[topic] for topic in (main, *others) if topic in found}
    )
    worst = max(lags.values(), default=0)
    waiting = sum(count for (topic, _), count in lags.items() if topic == main)
    beside = sum(lags.values()) - waiting
    message = f"{waiting} {'runs' if main == RUNS else 'records'} wait on {main}"
    if others:
        message += f", {beside} records on {len(others)} other topic{'s' if len(others) > 1 else ''}"
    if sum(lags.values()) > MOST_LAG:
        where = max(lags, key=lambda each: lags[each])
        message += (
            f", most on {where.topic}-{where.partition} ({worst}): start more workers (scaling worker {kind}), "
            "up to one a partition"
        )
    return [Check(f"{kind} lag", ok=sum(lags.values()) <= MOST_LAG, message=message)]


async def _lags(
    admin: AIOKafkaAdminClient, settings: Settings, app: str, topics: Mapping[str, int]
) -> dict[TopicPartition, int]:
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    committed = await admin.list_consumer_group_offsets(app)
    async with AIOKafkaConsumer(**connection(settings)) as consumer:
        ends, begins = await asyncio.gather(consumer.end_offsets(partitions), consumer.beginning_offsets(partitions))
    # A group without a commit has everything that is still there before it.
    seen = {each: committed[each].offset if each in committed else begins[each] for each in partitions}
    return {each: max(0, ends[each] - max(seen[each], begins[each])) for each in partitions}


def _some(names: list[str], separator: str = ", ", most: int = 5) -> str:
    shown = separator.join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def refusal(settings: Settings, error: KafkaError) -> Check:
    """Tell of an error that Kafka answered with."""
    message = f"Kafka at {settings.kafka} answered with {error}: read the broker's log"
    return Check("Kafka", ok=False, message=message)
