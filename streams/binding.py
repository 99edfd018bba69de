"""What every worker needs of Faust: the app, agents over batches, tables, background tasks and their watch."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import structlog
from faust.types import TP

from agents.observe import Acknowledge
from models.batches import Batch
from models.metrics import COMMIT_AGE_SECONDS, CONSUMER_LAG, REBALANCES
from models.settings import Settings
from streams import store
from streams.group_membership import REBALANCE_SECONDS
from streams.kafka_security import broker_credentials
from streams.ledger import Ledger
from streams.transport import BatchApp, BatchSchema, check_faust_version, current_batches
from streams.vitals import Vitals
from streams.watchdog import CommitWatchdog

HEARTBEATS_PER_SESSION = 4
BUFFERED_BATCHES = 16

Agent = Callable[[AsyncIterator[tuple[Batch, Acknowledge]]], Awaitable[None]]

log = structlog.get_logger(__name__)


def faust_app(name: str, settings: Settings, worker: str) -> BatchApp:
    """Make the Faust app of a kind of worker: static, without a leader, standbys or a web server."""
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


def bind_agent(app: BatchApp, topic: str, function: Agent) -> None:
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


def every(app: BatchApp, seconds: float, function: Callable[[], Any], name: str) -> None:
    """Call a function every so many seconds until the app stops; an error in it stops the worker."""

    async def repeat() -> None:
        while not app.should_stop:
            await function()
            await asyncio.sleep(seconds)

    forever(app, repeat, name)


def forever(app: BatchApp, function: Callable[[], Any], name: str) -> None:
    """Run a function as a background task of the app; an error in it stops the worker."""

    async def run(app: Any) -> None:  # noqa: ANN401 - the Faust app
        try:
            await function()
        except Exception as error:  # noqa: BLE001 - any error of a background service stops the worker
            await app.crash(error)

    run.__name__ = name
    app.task(run)


def watch(
    app: BatchApp,
    settings: Settings,
    also: Callable[[], None] = lambda: None,
    excused: Callable[[], bool] = lambda: False,
    restoring: Callable[[set[TP]], str | None] = lambda _: None,
) -> None:
    """Watch over the progress of commits, and say in health and readiness where the worker stands.

    Args:
        app: Of the worker.
        settings: How long commits may stand still.
        also: Called every second.
        excused: Tells when commits may stand still for a good reason.
        restoring: Says what the assigned partitions still lack before the worker is ready.
    """
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

    every(app, 1.0, look, "commit-watchdog")
    connect(app.on_partitions_assigned, rebalanced)
    vitals.when_asked(measure)
    vitals.alive_unless(stalled)
    vitals.ready_unless(unsettled)


def tables_missing(ledger: Ledger, topic: str) -> Callable[[set[TP]], str | None]:
    """Make what says which of the assigned partitions of a topic have no tables yet."""

    def missing(assignment: set[TP]) -> str | None:
        away = sorted({tp.partition for tp in assignment if tp.topic == topic} - ledger.owned.keys())
        return f"the tables of partitions {away} are being restored" if away else None

    return missing


def connect(signal: Any, function: Callable[[], Awaitable[None]]) -> None:  # noqa: ANN401 - a Faust signal
    """Call a function at a signal, whatever the signal says besides."""

    async def receive(*_: Any, **__: Any) -> None:  # noqa: ANN401 - Faust's signal arguments
        await function()

    signal.connect(receive)


def bind_tables(app: BatchApp, ledger: Ledger, changelogs: Mapping[str, str], settings: Settings) -> None:
    """Declare the tables of a ledger to Faust: their stores restore from the changelogs, see `streams.store`."""
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


def release_at_end(app: BatchApp, ledger: Ledger) -> None:
    """Let the ledger go when partitions are revoked and before a shutdown."""
    connect(app.on_partitions_revoked, ledger.release)
    connect(app.on_before_shutdown, ledger.release)
