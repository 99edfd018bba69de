"""The archive worker: everything on the topics becomes rows in ClickHouse."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import structlog

from agents import archive_allocations, archive_experiments
from agents.archive import LAWS as LAWS_TABLE
from agents.archive import (
    OBSERVATIONS,
    RECORDS,
    Insert,
    TableColumns,
    Tables,
    archive,
    archive_laws,
    archive_rejected,
    archive_runs,
)
from agents.archive import REJECTED as REJECTED_TABLE
from agents.decode import EventDecoder
from agents.observe import Acknowledge
from models.batches import Batch
from models.metrics import ARCHIVE_WORKER, INSERT_FAILURES, INSERT_SECONDS, RETRYING, ROWS
from models.settings import Settings
from models.topics import (
    ARCHIVE_APP,
    ASSIGNMENTS,
    DECISIONS,
    EXPERIMENTS,
    FINDINGS,
    LAWS,
    OVERRIDES,
    REJECTED,
    RUNS,
    TESTS,
)
from streams.binding import Agent, bind_agent, connect, faust_app, watch
from streams.clickhouse import ClickHouseSink
from streams.transport import BatchApp
from streams.vitals import Vitals

log = structlog.get_logger(__name__)


def create_archive_app(settings: Settings) -> BatchApp:
    """Compose the archive worker: everything on the topics becomes rows in ClickHouse."""
    app = faust_app(ARCHIVE_APP, settings, ARCHIVE_WORKER)
    sink = ClickHouseSink(settings)
    insert = _measured_insert(sink, app.vitals)
    for topic, tables_of in _tables_by_topic(settings).items():
        bind_agent(app, topic, _archiving(settings, insert, tables_of))
    connect(app.on_before_shutdown, sink.close)
    watch(app, settings, excused=lambda: sink.retrying)
    app.vitals.ready_unless(lambda: "ClickHouse does not take inserts: see the log" if sink.retrying else None)
    return app


def _tables_by_topic(settings: Settings) -> dict[str, Callable[[Batch], Tables]]:
    decoder = EventDecoder(settings)

    def runs(batch: Batch) -> Tables:
        observations, records = archive_runs(batch, decoder, settings, int(time.time() * 1000))
        return {OBSERVATIONS: observations, RECORDS: records}

    def read(table: str, columns_of: Callable[[Batch], tuple[TableColumns, list[str]]]) -> Callable[[Batch], Tables]:
        def tables(batch: Batch) -> Tables:
            columns, problems = columns_of(batch)
            _report(problems)
            return {table: columns}

        return tables

    return {
        RUNS: runs,
        REJECTED: read(REJECTED_TABLE, archive_rejected),
        LAWS: read(LAWS_TABLE, archive_laws),
        EXPERIMENTS: read(
            archive_experiments.EXPERIMENTS,
            partial(archive_experiments.archive_experiments, partitions=settings.partitions),
        ),
        ASSIGNMENTS: read(archive_experiments.ASSIGNMENTS, archive_experiments.archive_assignments),
        FINDINGS: read(archive_experiments.FINDINGS, archive_experiments.archive_findings),
        DECISIONS: read(archive_allocations.DECISIONS, archive_allocations.archive_decisions),
        OVERRIDES: read(archive_allocations.OVERRIDES, archive_allocations.archive_overrides),
        TESTS: read(archive_allocations.TESTS, archive_allocations.archive_tests),
    }


def _report(problems: list[str]) -> None:
    for problem in problems:
        log.warning("record not archived", problem=problem)


def _measured_insert(sink: ClickHouseSink, vitals: Vitals) -> Insert:
    failures = 0

    def look() -> None:
        nonlocal failures
        vitals.set(RETRYING, sink.retrying)
        vitals.count(INSERT_FAILURES, sink.failures - failures)
        failures = sink.failures

    async def insert(table: str, columns: TableColumns) -> None:
        began = time.monotonic()
        await sink.insert(table, columns)
        vitals.observe(INSERT_SECONDS, time.monotonic() - began)
        vitals.count(ROWS, len(next(iter(columns.values()))), table=table)

    vitals.when_asked(look)
    return insert


def _archiving(settings: Settings, insert: Insert, tables_of: Callable[[Batch], Tables]) -> Agent:
    async def run(batches: AsyncIterator[tuple[Batch, Acknowledge]]) -> None:
        async def awaitable() -> AsyncIterator[tuple[Batch, Callable[[], Awaitable[None]]]]:
            async for batch, acknowledge in batches:
                yield batch, _as_coroutine(acknowledge)

        await archive(awaitable(), tables_of, insert, rows=settings.archive_rows, seconds=settings.archive_seconds)

    return run


def _as_coroutine(acknowledge: Acknowledge) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        acknowledge()

    return run
