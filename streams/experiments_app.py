"""The experiments worker: it assigns values to tasks, joins their outcomes, and keeps the results up to date."""

from collections.abc import Sequence
from functools import partial

from agents.definitions import check_secret
from agents.experimentation import Experimentation
from agents.flush import Record
from models.metrics import EXPERIMENTS_WORKER, REPLIES
from models.settings import Settings
from models.topics import ASSIGN_REQUESTS, EXPERIMENT_CHANGELOGS, EXPERIMENTS_APP, OUTCOMES
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
from streams.replies import Replies
from streams.sampling import assignment_counts, flush_counter, table_sizes
from streams.seals import watch_seals
from streams.transport import BatchApp

TICK_SECONDS = 0.1


def create_experiments_app(settings: Settings) -> BatchApp:
    """Compose the experiments worker: assign values to tasks, join their outcomes, keep the results up to date.

    Raises:
        SettingsError: The secret is missing or short.
    """
    check_secret(settings.experiment_secret)
    app = faust_app(EXPERIMENTS_APP, settings, EXPERIMENTS_WORKER)
    vitals = app.vitals
    ledger = Ledger(settings, EXPERIMENTS_APP, EXPERIMENT_CHANGELOGS, flush_counter(vitals), headed=False)
    bind_tables(app, ledger, EXPERIMENT_CHANGELOGS, settings)
    replies = Replies(settings)

    async def reply(records: Sequence[Record]) -> None:
        await replies.send(records)
        vitals.count(REPLIES, len(records))

    experimentation = Experimentation(settings, lambda: ledger.owned, reply, settled=lambda: not app.rebalancing)
    bind_agent(app, ASSIGN_REQUESTS, experimentation.answer)
    bind_agent(app, OUTCOMES, experimentation.join)
    forever(app, experimentation.keep_writing, "write")
    every(app, TICK_SECONDS, experimentation.tick, "tick")
    every(app, settings.refit_seconds, experimentation.refresh, "refresh")
    forever(app, partial(watch_seals, settings, experimentation.suspect), "seals")
    vitals.when_asked(table_sizes(vitals, ledger, EXPERIMENT_CHANGELOGS))
    vitals.when_asked(
        assignment_counts(
            vitals,
            lambda: [trial for desk in experimentation.desks.values() for trial in desk.experimenter.store.trials],
        )
    )
    watch(app, settings, restoring=tables_missing(ledger, ASSIGN_REQUESTS))
    release_at_end(app, ledger)
    connect(app.on_before_shutdown, replies.close)
    return app
