"""What is well and what is not with a deployment, each finding with what to do about it."""

import asyncio
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from aiokafka.errors import KafkaError

from deploy.check import Check
from deploy.clickhouse_checks import clickhouse_checks
from deploy.health_checks import health_checks
from deploy.kafka_checks import PATIENCE_SECONDS, kafka_checks, refusal
from deploy.machine import LEAST_FREE_BYTES, free_bytes
from models.errors import NotReachable, QueryError, StackError
from models.settings import Settings
from streams.reconciliation import Live, Reconciliation, read_live, reconcile
from streams.topics import connected_admin

DISTRIBUTIONS = ("orchestration-scaling-laws", "faust-streaming", "aiokafka", "clickhouse-connect")
SHOWN = 5


async def diagnose(
    settings: Settings, endpoints: Mapping[str, str] | None = None, *, thorough: bool = True
) -> list[Check]:
    """Look at Kafka, ClickHouse, the workers and the disk; never raises for what it finds wrong.

    Args:
        settings: Where Kafka and ClickHouse are.
        endpoints: By worker: where it tells of its health, as far as that is known.
        thorough: Whether the live tables are compared with ClickHouse as well, which reads scaling.stats as a whole.
    """
    kafka, clickhouse, health = await asyncio.gather(
        _kafka(settings), asyncio.to_thread(clickhouse_checks, settings), health_checks(endpoints or {})
    )
    checks = [_versions_check(), *kafka, *clickhouse, *health, _disk_check(Path.cwd())]
    wrong = {check.name for check in checks if not check.ok}
    if thorough and not wrong & {"Kafka", "topics", "ClickHouse", "schema"}:
        checks += await _reconciliation_checks(settings)
    return checks


def _versions_check() -> Check:
    distributions = ", ".join(f"{name} {_version(name)}" for name in DISTRIBUTIONS)
    return Check("versions", ok=True, message=f"Python {platform.python_version()}, {distributions}")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed as a package)"


async def _kafka(settings: Settings) -> list[Check]:
    try:
        async with connected_admin(settings, PATIENCE_SECONDS) as admin:
            return await kafka_checks(admin, settings)
    except NotReachable as error:
        return [Check("Kafka", ok=False, message=str(error))]
    except KafkaError as error:
        return [refusal(settings, error)]


async def _reconciliation_checks(settings: Settings) -> list[Check]:
    try:
        async with connected_admin(settings, PATIENCE_SECONDS) as admin:
            live = await read_live(settings)
            result = await reconcile(settings, admin, live)
    except (NotReachable, QueryError, StackError, KafkaError) as error:
        return [Check("reconciliation", ok=False, message=f"the live tables cannot be compared: {error}")]
    return [_tables_check(live, settings), _reconciliation_check(live, result)]


def _tables_check(live: Live, settings: Settings) -> Check:
    if not live.cuts:
        return Check("live tables", ok=True, message="no run has been folded yet")
    strange = sorted(live.settings_hashes - {settings.validation_hash})
    if strange:
        message = (
            f"they were built under settings {', '.join(strange)}, and those here have {settings.validation_hash}: "
            "set what decides how events are read (docs/settings.md) as the stats workers have it"
        )
        return Check("live tables", ok=False, message=message)
    return Check("live tables", ok=True, message=f"{len(live.cuts)} partitions, settings {settings.validation_hash}")


def _reconciliation_check(live: Live, result: Reconciliation) -> Check:
    behind = ", ".join(f"{number} ({records} records)" for number, records in sorted(result.behind.items()))
    left_out = f"; not compared, because the archive is behind: partitions {behind}" if behind else ""
    if result.disagreements:
        told = "; ".join(map(str, result.disagreements[:SHOWN]))
        more = len(result.disagreements) - SHOWN
        message = (
            f"{told}{f'; and {more} more' if more > 0 else ''}: a run that came again after dedupe_runs others counts "
            f"twice live, and one that was deleted in ClickHouse not at all (docs/operations.md){left_out}"
        )
        return Check("reconciliation", ok=False, message=message)
    compared = len(live.cuts) - len(result.behind)
    message = f"{result.runs} runs in {result.contexts} contexts of {compared} partitions are equal{left_out}"
    if result.moved:
        message += f"; {result.moved} corrected since"
    return Check("reconciliation", ok=True, message=message)


def _disk_check(folder: Path) -> Check:
    free = free_bytes(folder)
    message = f"{free / 2**30:.1f} GiB free on the disk of {folder}"
    if free < LEAST_FREE_BYTES:
        message += ": make room, Kafka and ClickHouse stop at a full disk"
    return Check("disk", ok=free >= LEAST_FREE_BYTES, message=message)
