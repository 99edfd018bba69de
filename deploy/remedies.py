"""What the doctor can set right by itself: nothing of it deletes or changes a record."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.kafka_checks import PATIENCE_SECONDS
from models.settings import Settings
from models.topics import TOPICS
from streams import schema
from streams.clickhouse import apply_schema
from streams.topic_settings import Drift, find_drifts, read_settings, set_right
from streams.topics import connected_admin, create_topics, partition_counts


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something that can be set right: what will be done, in a sentence, and how."""

    what: str
    apply: Callable[[], Awaitable[object]]


async def remedies(settings: Settings) -> list[Remedy]:
    """List what can be set right, in the order in which it should be.

    Raises:
        NotReachable: Kafka or ClickHouse does not answer.
        QueryError: ClickHouse refused a query.
    """
    async with connected_admin(settings, PATIENCE_SECONDS) as admin:
        topics = await partition_counts(admin)
        present = [spec.name for spec in TOPICS if spec.name in topics]
        drifts = find_drifts(await read_settings(admin, present)) if present else []
    found = await asyncio.to_thread(schema.read_tables, settings)
    return [
        *_missing_topics(settings, [spec.name for spec in TOPICS if spec.name not in topics]),
        *_drifted(settings, [drift for drift in drifts if drift.danger is None]),
        *_missing_tables(settings, schema.missing(found)),
        *_missing_columns(settings, [each for each in schema.differences(found) if each.found is None]),
    ]


def _missing_topics(settings: Settings, names: list[str]) -> list[Remedy]:
    if not names:
        return []
    return [Remedy(f"create the topics {', '.join(names)}", lambda: create_topics(settings))]


def _drifted(settings: Settings, drifts: list[Drift]) -> list[Remedy]:
    async def apply() -> None:
        async with connected_admin(settings, PATIENCE_SECONDS) as admin:
            found = await read_settings(admin, {drift.topic for drift in drifts})
            await set_right(admin, found, drifts)

    told = "; ".join(f"{drift.topic}: {drift.name} = {drift.wanted} (was {drift.found})" for drift in drifts)
    return [Remedy(f"set {told}", apply)] if drifts else []


def _missing_tables(settings: Settings, names: list[str]) -> list[Remedy]:
    if not names:
        return []
    what = f"create in database {settings.clickhouse_database} {', '.join(names)}"
    return [Remedy(what, lambda: apply_schema(settings))]


def _missing_columns(settings: Settings, columns: list[schema.Difference]) -> list[Remedy]:
    told = ", ".join(f"{each.table}.{each.column}" for each in columns)
    return [Remedy(f"add the columns {told}", lambda: apply_schema(settings))] if columns else []
