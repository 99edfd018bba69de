"""The composition root: bind agents, tables and topics to Faust apps."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from faust.types import TP

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
from agents.definitions import check_secret
from agents.experimentation import Experimentation
from agents.flush import Record
from agents.observe import Acknowledge, Observation
from models.batches import Batch
from models.metrics import (
    ARCHIVE_WORKER,
    COMMIT_AGE_SECONDS,
    CONSUMER_LAG,
    EXPERIMENTS_WORKER,
    INSERT_FAILURES,
    INSERT_SECONDS,
    REBALANCES,
    REPLIES,
    RETRYING,
    ROWS,
    STATS_WORKER,
)
from models.settings import Settings
from models.topics import (
    ARCHIVE_APP,
    ASSIGN_REQUESTS,
    ASSIGNMENTS,
    DECISIONS,
    EXPERIMENT_CHANGELOGS,
    EXPERIMENTS,
    EXPERIMENTS_APP,
    FINDINGS,
    LAWS,
    OUTCOMES,
    OVERRIDES,
    REJECTED,
    RUNS,
    STATS_APP,
    STATS_CHANGELOGS,
    TESTS,
)
from streams import store
from streams.clickhouse import ClickHouseSink
from streams.group_membership import REBALANCE_SECONDS
from streams.kafka_security import broker_credentials
from streams.ledger import Ledger
from streams.refitter import RefitService
from streams.replies import Replies
from streams.run_records import RunRecords
from streams.sampling import EventCounts, assignment_counts, flush_counter, table_sizes
from streams.seals import watch_seals
from streams.transport import BatchApp, BatchSchema, check_faust_version, current_batches
from streams.vitals import Vitals
from streams.watchdog import CommitWatchdog

TICK_SECONDS = 0.1
log = structlog.get_logger(__name__)

Agent = Callable[[AsyncIterator[tuple[Batch, Acknowledge]]], Awaitable[None]]
HEARTBEATS_PER_SESSION = 4
BUFFERED_BATCHES = 16


def create_app(settings: Settings, *, refit: bool = True) -> BatchApp:
    """Compose the stats worker: observe run events, keep the tables and, unless told otherwise, refit the laws."""
    app = _faust_app(STATS_APP, settings, STATS_WORKER)
    vitals = app.vitals
    ledger = Ledger(settings, written=flush_counter(vitals))
    _tables(app, ledger, STATS_CHANGELOGS, settings)
    records = RunRecords(settings)
    observation = Observation(settings, lambda: ledger.owned, records.read)
    _connect(app.on_before_shutdown, records.close)
    _agent(app, RUNS, observation.observe)
    _every(app, TICK_SECONDS, observation.flush_when_due, "flush")
    counts = EventCounts(vitals, lambda: [desk.observer for desk in observation.desks.values()])
    vitals.when_asked(counts.look)
    vitals.when_asked(table_sizes(vitals, ledger, STATS_CHANGELOGS))
    if refit:
        service = RefitService(settings, vitals)
        _forever(app, service.run, "refit")
        _connect(app.on_before_shutdown, service.stop)
    # Counts are taken up every second: those of a partition that leaves go with its observer.
    _watch(app, settings, counts.look, restoring=_restoring(ledger, RUNS))
    _release(app, ledger)
    return app


def create_experiments_app(settings: Settings) -> BatchApp:
    """Compose the experiments worker: assign values to tasks, join their outcomes, keep the results up to date.

    Raises:
        SettingsError: The secret is missing or short.
    """
    check_secret(settings.experiment_secret)
    app = _faust_app(EXPERIMENTS_APP, settings, EXPERIMENTS_WORKER)
    vitals = app.vitals
    ledger = Ledger(settings, EXPERIMENTS_APP, EXPERIMENT_CHANGELOGS, flush_counter(vitals), headed=False)
    _tables(app, ledger, EXPERIMENT_CHANGELOGS, settings)
    replies = Replies(settings)

    async def reply(records: Sequence[Record]) -> None:
        await replies.send(records)
        vitals.count(REPLIES, len(records))

    experimentation = Experimentation(settings, lambda: ledger.owned, reply, settled=lambda: not app.rebalancing)
    _agent(app, ASSIGN_REQUESTS, experimentation.answer)
    _agent(app, OUTCOMES, experimentation.join)
    _forever(app, experimentation.keep_writing, "write")
    _every(app, TICK_SECONDS, experimentation.tick, "tick")
    _every(app, settings.refit_seconds, experimentation.refresh, "refresh")
    _forever(app, partial(watch_seals, settings, experimentation.suspect), "seals")
    vitals.when_asked(table_sizes(vitals, ledger, EXPERIMENT_CHANGELOGS))
    vitals.when_asked(
        assignment_counts(
            vitals,
            lambda: [trial for desk in experimentation.desks.values() for trial in desk.experimenter.store.trials],
        )
    )
    _watch(app, settings, restoring=_restoring(ledger, ASSIGN_REQUESTS))
    _release(app, ledger)
    _connect(app.on_before_shutdown, replies.close)
    return app


def create_archive_app(settings: Settings) -> BatchApp:
    """Compose the archive worker: everything on the topics becomes rows in ClickHouse."""
    app = _faust_app(ARCHIVE_APP, settings, ARCHIVE_WORKER)
    sink = ClickHouseSink(settings)
    insert = _measured_insert(sink, app.vitals)
    for topic, tables_of in _tables_by_topic(settings).items():
        _agent(app, topic, _archiving(settings, insert, tables_of))
    _connect(app.on_before_shutdown, sink.close)
    _watch(app, settings, excused=lambda: sink.retrying)
    app.vitals.ready_unless(lambda: "ClickHouse does not take inserts: see the log" if sink.retrying else None)
    return app


def _tables(app: BatchApp, ledger: Ledger, changelogs: Mapping[str, str], settings: Settings) -> None:
    store.register()
    for table, topic in changelogs.items():
        app.Table(
            table,
            partitions=settings.partitions,
            key_type=bytes,
            value_type=bytes,
            store=store.URL,
            options={"ledger": ledger},
            changelog_topic=app.topic(topic, key_type=bytes, value_type=bytes, internal=True),
        )


def _release(app: BatchApp, ledger: Ledger) -> None:
    _connect(app.on_partitions_revoked, ledger.release)
    _connect(app.on_before_shutdown, ledger.release)


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


def _faust_app(name: str, settings: Settings, worker: str) -> BatchApp:
    check_faust_version()
    app = BatchApp(
        name,
        broker=[f"kafka://{server.strip()}" for server in settings.kafka.split(",")],
        broker_credentials=broker_credentials(settings),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        table_standby_replicas=0,
        stream_buffer_maxsize=BUFFERED_BATCHES,
        # Events that were not flushed are read again; a stop need not wait for them.
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_commit_interval=settings.commit_seconds,
        broker_session_timeout=settings.session_seconds,
        broker_rebalance_timeout=REBALANCE_SECONDS,
        broker_heartbeat_interval=settings.session_seconds / HEARTBEATS_PER_SESSION,
        broker_max_poll_records=settings.poll_records,
        consumer_max_fetch_size=settings.fetch_bytes,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id or None,
    )
    app.vitals = Vitals(worker)
    return app


def _agent(app: BatchApp, topic: str, function: Agent) -> None:
    """Bind a plain function over batches to a topic; an error in it stops the worker, never only the agent."""

    async def process(stream: Any) -> None:  # noqa: ANN401 - a Faust stream
        async def batches() -> AsyncIterator[tuple[Batch, Acknowledge]]:
            async for batch, event in current_batches(stream, lambda: app.consumer):
                yield batch, event.ack

        try:
            await function(batches())
        except Exception as error:  # noqa: BLE001 - Faust would restart the agent on a half-cleaned stream
            # What fails because everything stops is read again after the next start.
            if app.should_stop:
                log.info("stopped", topic=topic, reason=str(error))
                return
            await app.crash(error)

    app.agent(app.topic(topic, schema=BatchSchema(), allow_empty=True), name=f"{app.conf.id}.{topic}")(process)


def _every(app: BatchApp, seconds: float, function: Callable[[], Any], name: str) -> None:
    async def repeat() -> None:
        while not app.should_stop:
            await function()
            await asyncio.sleep(seconds)

    _forever(app, repeat, name)


def _forever(app: BatchApp, function: Callable[[], Any], name: str) -> None:
    async def run(app: Any) -> None:  # noqa: ANN401 - the Faust app
        try:
            await function()
        except Exception as error:  # noqa: BLE001 - any error of a background service stops the worker
            await app.crash(error)

    run.__name__ = name
    app.task(run)


def _watch(
    app: BatchApp,
    settings: Settings,
    also: Callable[[], None] = lambda: None,
    excused: Callable[[], bool] = lambda: False,
    restoring: Callable[[set[TP]], str | None] = lambda _: None,
) -> None:
    watchdog, vitals = CommitWatchdog(settings.stall_seconds), app.vitals
    started = False

    async def look() -> None:
        nonlocal started
        started = True
        also()
        if app.rebalancing or excused():
            watchdog.check({})
            return
        consumer = app.consumer
        watchdog.check({tp: consumer.oldest_unacknowledged(tp) for tp in consumer.assignment()})

    def measure() -> None:
        vitals.set(COMMIT_AGE_SECONDS, watchdog.age)
        lag = app.consumer.lag() if started and not app.rebalancing else {}
        vitals.replace(CONSUMER_LAG, {(tp.topic, str(tp.partition)): count for tp, count in lag.items()})

    def stalled() -> str | None:
        age = watchdog.age
        return f"commits have made no progress for {age:.0f} s" if age > settings.stall_seconds else None

    def unsettled() -> str | None:
        if not started or app.rebalancing:
            return "the group shares out its partitions"
        return restoring(app.consumer.assignment())

    async def rebalanced() -> None:
        vitals.count(REBALANCES)

    _every(app, 1.0, look, "commit-watchdog")
    _connect(app.on_partitions_assigned, rebalanced)
    vitals.when_asked(measure)
    vitals.alive_unless(stalled)
    vitals.ready_unless(unsettled)


def _restoring(ledger: Ledger, topic: str) -> Callable[[set[TP]], str | None]:
    def restoring(assignment: set[TP]) -> str | None:
        missing = sorted({tp.partition for tp in assignment if tp.topic == topic} - ledger.owned.keys())
        return f"the tables of partitions {missing} are being restored" if missing else None

    return restoring


def _connect(signal: Any, function: Callable[[], Awaitable[None]]) -> None:  # noqa: ANN401 - a Faust signal
    """Call a function at a signal, whatever the signal says besides."""

    async def receive(*_: Any, **__: Any) -> None:  # noqa: ANN401 - Faust's signal arguments
        await function()

    signal.connect(receive)
