"""Everything that a worker measures of itself: the catalogue behind /metrics, docs/metrics.md, dashboard and alerts."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a number moves: only up until the process ends, freely, or as a distribution."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


STATS_WORKER = "stats"
ARCHIVE_WORKER = "archive"
ALLOCATOR_WORKER = "allocator"
AUDIT_WORKER = "audit"
EXPERIMENTS_WORKER = "experiments"
WORKERS = (STATS_WORKER, ARCHIVE_WORKER, ALLOCATOR_WORKER, AUDIT_WORKER, EXPERIMENTS_WORKER)
FAUST_WORKERS = (STATS_WORKER, ARCHIVE_WORKER, EXPERIMENTS_WORKER)

WORK_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
QUICK_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that workers publish.

    Attributes:
        name: As Prometheus sees it; a counter's ends with _total.
        kind: How it moves.
        unit: Of its value; empty where it is a number of things that the name says.
        meaning: What it says, in one sentence.
        advice: What to do when it moves.
        workers: The kinds of workers that have it.
        labels: What its series are told apart by.
        buckets: Upper limits of a histogram's buckets, in its unit.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    advice: str
    workers: tuple[str, ...]
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = WORK_SECONDS


READY = Metric(
    "scaling_ready",
    Kind.GAUGE,
    "1 or 0",
    "Whether the worker does its work: as /readyz says.",
    "0 for longer than a start takes: /readyz names what it waits for.",
    WORKERS,
)
LOOP_LAG_SECONDS = Metric(
    "scaling_loop_lag_seconds",
    Kind.GAUGE,
    "seconds",
    "By how much the event loop was late in the last second.",
    "Above session_seconds / 4 heartbeats are late: give the process a core, or lower poll_records.",
    WORKERS,
)
REBALANCES = Metric(
    "scaling_rebalances_total",
    Kind.COUNTER,
    "",
    "Times that the consumer group shared out its partitions anew.",
    "Rising without workers that come or go: heartbeats are late, or workers die; look at loop lag and logs.",
    FAUST_WORKERS,
)
CONSUMER_LAG = Metric(
    "scaling_consumer_lag",
    Kind.GAUGE,
    "records",
    "Records on a partition that are not committed yet; a transaction's marker counts as one.",
    "Growing: start more workers of the kind, up to one a partition; of the archive, look at ClickHouse first.",
    FAUST_WORKERS,
    ("topic", "partition"),
)
COMMIT_AGE_SECONDS = Metric(
    "scaling_commit_age_seconds",
    Kind.GAUGE,
    "seconds",
    "How long the oldest delivered batch has waited for its commit; 0 where nothing waits.",
    "At stall_seconds the worker stops by itself and starts anew; before that its log says what it waits for.",
    FAUST_WORKERS,
)
EVENTS = Metric(
    "scaling_events_total",
    Kind.COUNTER,
    "events",
    "Events folded, by what became of them: accepted, duplicate, corrected (of these out_of_reach: its "
    "first record is gone, so that it counts on), rejected, replayed, misplaced.",
    "Duplicates rising: a publisher repeats. Misplaced: one has another partitioner. Replayed: after a restart, fine.",
    (STATS_WORKER,),
    ("verdict",),
)
DEAD_LETTERS = Metric(
    "scaling_dead_letters_total",
    Kind.COUNTER,
    "records",
    "Records written to scaling.rejected, by reason: no_value, too_large, not_utf8, not_json, too_new, invalid_field.",
    "Rising: scaling rejected list says which field of which publisher breaks which rule.",
    (STATS_WORKER,),
    ("reason",),
)
FLUSH_SECONDS = Metric(
    "scaling_flush_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time to write one flush of a partition as a transaction.",
    "Above flush_seconds laws are late: look at the broker's disk and at its replicas.",
    (STATS_WORKER, EXPERIMENTS_WORKER),
)
TABLE_ENTRIES = Metric(
    "scaling_table_entries",
    Kind.GAUGE,
    "entries",
    "Entries of the tables in memory, over the partitions owned; dedupe has one for each block of 4,096 runs.",
    "Memory grows with cells and grams: fewer context_keys, a smaller context_values, or more workers.",
    (STATS_WORKER, EXPERIMENTS_WORKER),
    ("table",),
)
PARTITIONS_OWNED = Metric(
    "scaling_partitions_owned",
    Kind.GAUGE,
    "partitions",
    "Partitions that this worker owns, with tables restored.",
    "Summed over the workers it is the partition count; less for long: a partition has no owner.",
    (STATS_WORKER, EXPERIMENTS_WORKER),
)
CONTEXTS = Metric(
    "scaling_contexts",
    Kind.GAUGE,
    "contexts",
    "Contexts in memory, over the partitions owned: one that several partitions have counts once in each.",
    "At context_values for each key list and partition, new values go to 'other': raise it if they matter.",
    (STATS_WORKER,),
)
RUNS_REMEMBERED = Metric(
    "scaling_runs_remembered",
    Kind.GAUGE,
    "runs",
    "Run ids that a repeat would be recognised by, over the partitions owned.",
    "At dedupe_runs for each partition the oldest are forgotten: raise it if publishers repeat later than that.",
    (STATS_WORKER,),
)
LAWS_PUBLISHED = Metric(
    "scaling_laws_published_total",
    Kind.COUNTER,
    "laws",
    "Laws published on scaling.laws.",
    "Still while events are accepted: look at readiness, at refit seconds, and at the log.",
    (STATS_WORKER, AUDIT_WORKER),
)
REFIT_SECONDS = Metric(
    "scaling_refit_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time to refit what changed in one partition of scaling.stats.",
    "Above refit_seconds laws are late: fewer contexts, or more stats workers.",
    (STATS_WORKER,),
)
ROWS = Metric(
    "scaling_archive_rows_total",
    Kind.COUNTER,
    "rows",
    "Rows stored in ClickHouse; a row that is stored again after a restart counts again.",
    "Still while events are accepted: look at retries and at ClickHouse.",
    (ARCHIVE_WORKER,),
    ("table",),
)
INSERT_SECONDS = Metric(
    "scaling_archive_insert_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time until an insert was stored, attempts that failed included.",
    "Rising: ClickHouse merges too slowly or its disk is slow; raise archive_rows and archive_seconds.",
    (ARCHIVE_WORKER,),
)
RETRYING = Metric(
    "scaling_archive_retrying",
    Kind.GAUGE,
    "1 or 0",
    "Whether an insert has failed and has not succeeded since.",
    "1: the log names ClickHouse's reason. Nothing is lost: events wait in Kafka, and laws go on.",
    (ARCHIVE_WORKER,),
)
INSERT_FAILURES = Metric(
    "scaling_archive_insert_failures_total",
    Kind.COUNTER,
    "attempts",
    "Attempts to insert that failed; each is repeated.",
    "Rising: as for scaling_archive_retrying.",
    (ARCHIVE_WORKER,),
)
ROUND_SECONDS = Metric(
    "scaling_audit_round_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time of one round of the audit that had something to do.",
    "Above the age you accept for audited laws: raise audit_processes.",
    (AUDIT_WORKER,),
)
CONTEXTS_AUDITED = Metric(
    "scaling_audit_contexts_total",
    Kind.COUNTER,
    "contexts",
    "Contexts audited, by what became of them: audited or failed; a context that failed is tried again.",
    "Failed rising: the log names context and reason.",
    (AUDIT_WORKER,),
    ("result",),
)
LAWS_KNOWN = Metric(
    "scaling_laws_known",
    Kind.GAUGE,
    "laws",
    "Laws that the allocator answers from.",
    "0 while stats workers publish: it reads another Kafka than they write to.",
    (ALLOCATOR_WORKER,),
)
ANSWERS = Metric(
    "scaling_allocator_answers_total",
    Kind.COUNTER,
    "answers",
    "Replies that the broker has taken.",
    "Still while orchestrators ask: look at readiness.",
    (ALLOCATOR_WORKER,),
)
DECISIONS = Metric(
    "scaling_allocator_decisions_total",
    Kind.COUNTER,
    "decisions",
    "Decisions made; each is logged on scaling.decisions.",
    "An answer to advise makes none, one to a portfolio makes several.",
    (ALLOCATOR_WORKER,),
)
UNLOGGED = Metric(
    "scaling_allocator_unlogged_total",
    Kind.COUNTER,
    "decisions",
    "Decisions that the broker did not take: their runs cannot be valued.",
    "Above 0: look at the broker; the log names the reason.",
    (ALLOCATOR_WORKER,),
)
ANSWER_SECONDS = Metric(
    "scaling_allocator_answer_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Time to work an answer out, Kafka's time not included.",
    "Rising: larger portfolios or grids; start another allocator, they share the requests.",
    (ALLOCATOR_WORKER,),
    buckets=QUICK_SECONDS,
)
REPLIES = Metric(
    "scaling_experiment_replies_total",
    Kind.COUNTER,
    "replies",
    "Replies sent to orchestrators that asked for a value.",
    "Still while they ask: look at readiness and lag; their runs go on without the experiment.",
    (EXPERIMENTS_WORKER,),
)
ASSIGNMENTS = Metric(
    "scaling_experiment_assignments",
    Kind.GAUGE,
    "assignments",
    "Assignments in memory, over the partitions owned, by state: pending, completed, expired.",
    "Expired growing against completed: runs do not echo their token, or end later than the experiment waits.",
    (EXPERIMENTS_WORKER,),
    ("state",),
)

CATALOGUE: tuple[Metric, ...] = (
    READY,
    LOOP_LAG_SECONDS,
    REBALANCES,
    CONSUMER_LAG,
    COMMIT_AGE_SECONDS,
    EVENTS,
    DEAD_LETTERS,
    FLUSH_SECONDS,
    TABLE_ENTRIES,
    PARTITIONS_OWNED,
    CONTEXTS,
    RUNS_REMEMBERED,
    LAWS_PUBLISHED,
    REFIT_SECONDS,
    ROWS,
    INSERT_SECONDS,
    RETRYING,
    INSERT_FAILURES,
    ROUND_SECONDS,
    CONTEXTS_AUDITED,
    LAWS_KNOWN,
    ANSWERS,
    DECISIONS,
    UNLOGGED,
    ANSWER_SECONDS,
    REPLIES,
    ASSIGNMENTS,
)


def series(metric: Metric) -> tuple[str, ...]:
    """List the names under which a metric's series are found; a histogram has three.

    >>> series(EVENTS)
    ('scaling_events_total',)
    """
    if metric.kind is not Kind.HISTOGRAM:
        return (metric.name,)
    return tuple(f"{metric.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
