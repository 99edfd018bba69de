"""What is well and what is not with a deployment, each finding with what to do about it."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from deploy.machine import LEAST_FREE_BYTES, free_bytes
from models.errors import NotReachable, QueryError
from models.settings import Settings
from models.topics import ARCHIVE_APP, EXPERIMENTS_APP, RUNS, STATS_APP, TOPICS
from streams.topics import connected_admin, partition_counts, partition_mismatch, wait_for_coordinator

TABLES = (
    "scaling_observations",
    "scaling_records",
    "scaling_rejected",
    "scaling_laws",
    "scaling_experiments",
    "scaling_assignments",
    "scaling_findings",
    "scaling_decisions",
    "scaling_overrides",
    "scaling_tests",
    "observations",
    "decision_outcomes",
)
APPS = {"stats": STATS_APP, "archive": ARCHIVE_APP, "experiments": EXPERIMENTS_APP}
PATIENCE_SECONDS = 5.0
AUDIT_SECONDS = 120.0
"""An audited law may take so long, besides two rounds of the audit, until it stands in ClickHouse."""

MOST_LAG = 100_000
"""Runs that may wait: a worker that is well works them off within seconds."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, whether it is well, and what was found or what to do."""

    name: str
    ok: bool
    message: str


async def diagnose(settings: Settings) -> list[Check]:
    """Look at Kafka, ClickHouse, the workers and the disk; never raises for what it finds wrong."""
    kafka, clickhouse = await asyncio.gather(_kafka_checks(settings), asyncio.to_thread(_clickhouse_checks, settings))
    return [*kafka, *clickhouse, _disk_check(Path.cwd())]


async def _kafka_checks(settings: Settings) -> list[Check]:
    checks: list[Check] = []
    try:
        async with connected_admin(settings, PATIENCE_SECONDS) as admin:
            checks.append(await _broker_check(admin, settings))
            found = await partition_counts(admin)
            checks.append(_topics_check(found, settings))
            for kind, app in APPS.items():
                await wait_for_coordinator(admin, app, PATIENCE_SECONDS)
                checks.append(await _members_check(admin, kind, app))
                if RUNS in found and app != EXPERIMENTS_APP:
                    checks.append(await _lag_check(admin, settings, kind, app, found[RUNS]))
    except NotReachable as error:
        checks.append(Check("Kafka", ok=False, message=str(error)))
    except KafkaError as error:
        message = f"Kafka at {settings.kafka} answered with {error}: read the broker's log"
        checks.append(Check("Kafka", ok=False, message=message))
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


async def _members_check(admin: AIOKafkaAdminClient, kind: str, app: str) -> Check:
    name = f"{kind} workers"
    # A response names its groups; the entries are tuples in the protocol's order: error, group, state, …, members.
    (response,) = await admin.describe_consumer_groups([app])
    ((_error, _group, state, _protocol_type, _protocol, members, *_),) = response.groups
    if not members:
        return Check(name, ok=False, message=f"none is alive in group {app}: start one with scaling worker {kind}")
    return Check(name, ok=True, message=f"{len(members)} alive in group {app} ({state})")


async def _lag_check(admin: AIOKafkaAdminClient, settings: Settings, kind: str, app: str, partitions: int) -> Check:
    runs = [TopicPartition(RUNS, partition) for partition in range(partitions)]
    committed = await admin.list_consumer_group_offsets(app)
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka) as consumer:
        ends, begins = await asyncio.gather(consumer.end_offsets(runs), consumer.beginning_offsets(runs))
    # A group without a commit has everything that is still there before it.
    seen = {run: committed[run].offset if run in committed else begins[run] for run in runs}
    lag = sum(max(0, ends[run] - max(seen[run], begins[run])) for run in runs)
    message = f"{lag} runs wait on {RUNS}"
    if lag > MOST_LAG:
        message += f": start more workers (scaling worker {kind}), up to one a partition"
    return Check(f"{kind} lag", ok=lag <= MOST_LAG, message=message)


def _clickhouse_checks(settings: Settings) -> list[Check]:
    try:
        (version,) = _select(settings, "SELECT version()")
        database = settings.clickhouse_database
        found = set(_select(settings, f"SELECT name FROM system.tables WHERE database = '{database}'"))  # noqa: S608 - the setting's pattern admits names only
        audit = [_audit_check(settings)] if set(TABLES) <= found else []
    except (OSError, HTTPException, ValueError) as error:
        message = (
            f"ClickHouse at {settings.clickhouse} does not answer ({error}): start it (scaling up starts an embedded "
            "one), or set SCALING_CLICKHOUSE to its URL"
        )
        return [Check("ClickHouse", ok=False, message=message)]
    except QueryError as error:
        return [Check("ClickHouse", ok=False, message=f"{settings.clickhouse} refused a query: {error}")]
    return [
        Check("ClickHouse", ok=True, message=f"{settings.clickhouse} answers: version {version}"),
        _schema_check(found, database),
        *audit,
    ]


def _schema_check(found: Iterable[str], database: str) -> Check:
    missing = sorted(set(TABLES) - set(found))
    if missing:
        message = f"database {database} lacks {', '.join(missing)}: run scaling topics create"
        return Check("schema", ok=False, message=message)
    return Check("schema", ok=True, message=f"all tables and views exist in database {database}")


def _audit_check(settings: Settings) -> Check:
    database, seconds = settings.clickhouse_database, int(2 * settings.audit_seconds + AUDIT_SECONDS)
    old = f"ingested_at < now() - INTERVAL {seconds} SECOND"
    (runs,) = _select(settings, f"SELECT count() FROM {database}.scaling_observations WHERE {old}")  # noqa: S608 - as above
    (laws,) = _select(settings, f"SELECT count() FROM {database}.laws WHERE tier = 'audited'")  # noqa: S608 - as above
    if int(runs) and not int(laws):
        message = f"no law is audited, and {runs} runs wait for it: start one audit with scaling worker audit"
        return Check("audit", ok=False, message=message)
    return Check("audit", ok=True, message=f"{laws} laws are audited")


def _select(settings: Settings, sql: str) -> list[str]:
    """Read one column of text."""
    url = urlsplit(settings.clickhouse)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=PATIENCE_SECONDS)
    headers = {
        "X-ClickHouse-User": settings.clickhouse_user,
        "X-ClickHouse-Key": settings.clickhouse_password,
    }
    try:
        connection.request("POST", f"{url.path or '/'}?default_format=TabSeparated&readonly=1", sql.encode(), headers)
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    if response.status != 200:  # noqa: PLR2004 - HTTP OK
        raise QueryError(text.strip())
    return text.splitlines()


def _disk_check(folder: Path) -> Check:
    free = free_bytes(folder)
    message = f"{free / 2**30:.1f} GiB free on the disk of {folder}"
    if free < LEAST_FREE_BYTES:
        message += ": make room, Kafka and ClickHouse stop at a full disk"
    return Check("disk", ok=free >= LEAST_FREE_BYTES, message=message)
