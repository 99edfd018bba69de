"""The stats worker: it observes run events, keeps the running statistics, and refits the laws."""

from agents.observe import Observation
from models.metrics import STATS_WORKER
from models.settings import Settings
from models.topics import RUNS, STATS_APP, STATS_CHANGELOGS
from streams.binding import (
    bind_agent,
    bind_tables,
    connect,
    every,
    faust_app,
    forever,
    release_at_end,
    tables_missing,
    watch,
)
from streams.ledger import Ledger
from streams.refitter import RefitService
from streams.run_records import RunRecords
from streams.sampling import EventCounts, flush_counter, table_sizes
from streams.transport import BatchApp

FLUSH_CHECK_SECONDS = 0.1


def create_stats_app(settings: Settings, *, refit: bool = True) -> BatchApp:
    """Compose the stats worker: observe run events, keep the tables and, unless told otherwise, refit the laws."""
    app = faust_app(STATS_APP, settings, STATS_WORKER)
    vitals = app.vitals
    ledger = Ledger(settings, written=flush_counter(vitals))
    bind_tables(app, ledger, STATS_CHANGELOGS, settings)
    records = RunRecords(settings)
    observation = Observation(settings, lambda: ledger.owned, records.read)
    connect(app.on_before_shutdown, records.close)
    bind_agent(app, RUNS, observation.observe)
    every(app, FLUSH_CHECK_SECONDS, observation.flush_when_due, "flush")
    counts = EventCounts(vitals, lambda: [desk.observer for desk in observation.desks.values()])
    vitals.when_asked(counts.look)
    vitals.when_asked(table_sizes(vitals, ledger, STATS_CHANGELOGS))
    if refit:
        service = RefitService(settings, vitals)
        forever(app, service.run, "refit")
        connect(app.on_before_shutdown, service.stop)
    # Counts are taken up every second: those of a partition that leaves go with its observer.
    watch(app, settings, counts.look, restoring=tables_missing(ledger, RUNS))
    release_at_end(app, ledger)
    return app
