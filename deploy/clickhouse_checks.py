"""What the doctor asks ClickHouse: does it answer, is its clock right, is the schema as wanted, is there an audit."""

import time

from deploy.check import Check
from deploy.kafka_checks import skew_check
from models.errors import NotReachable, QueryError, SettingsError
from models.settings import Settings
from streams import schema
from streams.clickhouse import address, query

PATIENCE_SECONDS = 5
AUDIT_SECONDS = 120.0
"""An audited law may take so long, besides two rounds of the audit, until it stands in ClickHouse."""


def clickhouse_checks(settings: Settings) -> list[Check]:
    """Ask everything that ClickHouse can tell; it may not answer."""
    anywhere = settings.model_copy(update={"clickhouse_database": "system"})
    try:
        before = time.time()
        ((version, now),) = query(
            anywhere, "SELECT version(), toUnixTimestamp64Milli(now64(3))", seconds=PATIENCE_SECONDS
        ).rows
        after = time.time()
        found = schema.read_tables(settings)
        checks = [
            Check("ClickHouse", ok=True, message=f"{address(settings)} answers: version {version}"),
            skew_check("clock of ClickHouse", int(now) / 1000, before, after),
            _schema_check(found, settings.clickhouse_database),
        ]
        if not schema.missing(found):
            checks.append(_audit_check(settings))
    except (NotReachable, SettingsError) as error:
        return [Check("ClickHouse", ok=False, message=str(error))]
    except QueryError as error:
        return [Check("ClickHouse", ok=False, message=f"{settings.clickhouse} refused a query: {error}")]
    return checks


def _schema_check(found: dict[str, dict[str, str]], database: str) -> Check:
    missing = schema.missing(found)
    if missing:
        message = f"database {database} lacks {', '.join(missing)}: run scaling topics create"
        return Check("schema", ok=False, message=message)
    differences = schema.differences(found)
    if differences:
        told = "; ".join(map(str, differences))
        todo = "scaling doctor --fix adds what is missing"
        if any(each.found is not None for each in differences):
            todo += (
                "; a type is changed by hand (ALTER TABLE … MODIFY COLUMN), or the table was made by another version"
            )
        return Check("schema", ok=False, message=f"in database {database} {told}: {todo}")
    message = f"all {len(schema.wanted_tables())} tables of database {database} have their columns, and all views exist"
    return Check("schema", ok=True, message=message)


def _audit_check(settings: Settings) -> Check:
    seconds = int(2 * settings.audit_seconds + AUDIT_SECONDS)
    old = f"ingested_at < now() - INTERVAL {seconds} SECOND"
    ((runs, laws),) = query(
        settings,
        f"SELECT (SELECT count() FROM scaling_observations WHERE {old}), "  # noqa: S608 - a number
        "(SELECT count() FROM laws WHERE tier = 'audited')",
        seconds=PATIENCE_SECONDS,
    ).rows
    if int(runs) and not int(laws):
        message = f"no law is audited, and {runs} runs wait for it: start one audit with scaling worker audit"
        return Check("audit", ok=False, message=message)
    return Check("audit", ok=True, message=f"{laws} laws are audited")
