"""The Kafka topics, their keys' meaning in docs/wire.md."""

from dataclasses import dataclass

RUNS = "scaling.runs"
REJECTED = "scaling.rejected"
STATS = "scaling.stats"
LAWS = "scaling.laws"
ALLOCATE_REQUESTS = "scaling.allocate.requests"
ALLOCATE_REPLIES = "scaling.allocate.replies"
DECISIONS = "scaling.decisions"
OVERRIDES = "scaling.overrides"
TESTS = "scaling.tests"
EXPERIMENTS = "scaling.experiments"
ASSIGNMENTS = "scaling.assignments"
OUTCOMES = "scaling.outcomes"
FINDINGS = "scaling.findings"
ASSIGN_REQUESTS = "scaling.assign.requests"
ASSIGN_REPLIES = "scaling.assign.replies"

STATS_APP = "scaling-stats"
ARCHIVE_APP = "scaling-archive"
EXPERIMENTS_APP = "scaling-experiments"

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
IMPORT_HEADER = "scaling-import-id"
SOURCE_HEADER = "scaling-source"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. `partitions` None: as many as scaling.runs has."""

    name: str
    partitions: int | None
    compact: bool
    config: tuple[tuple[str, str], ...] = ()


SEGMENT_BYTES = 64 * 1024 * 1024
"""The broker compacts closed segments only: a small one is closed soon."""
COMPACTED = (("min.cleanable.dirty.ratio", "0.1"), ("segment.ms", "600000"), ("segment.bytes", str(SEGMENT_BYTES)))


def changelog(table: str) -> str:
    """Name the changelog topic of a Faust table of the stats worker."""
    return f"{STATS_APP}-{table}-changelog"


CELLS_TABLE = "cells"
GRAMS_TABLE = "grams"
DEDUPE_TABLE = "dedupe"
IMPORTS_TABLE = "imports"
TABLES: tuple[str, ...] = (CELLS_TABLE, GRAMS_TABLE, DEDUPE_TABLE, IMPORTS_TABLE)
STATS_CHANGELOGS: dict[str, str] = {table: changelog(table) for table in TABLES}

EXPERIMENTS_TABLE = "experiments"
ASSIGNMENTS_TABLE = "assignments"
EXPERIMENT_CHANGELOGS: dict[str, str] = {EXPERIMENTS_TABLE: EXPERIMENTS, ASSIGNMENTS_TABLE: ASSIGNMENTS}
"""The tables of the experiments worker: their changelogs are the public topics themselves."""

WRITTEN_BESIDE: dict[str, tuple[str, ...]] = {
    STATS_APP: (STATS, REJECTED, RUNS, OUTCOMES),
    EXPERIMENTS_APP: (FINDINGS, LAWS),
}
"""What the flushes of an app write besides its changelogs."""

HOUR = ("retention.ms", "3600000")

TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(RUNS, None, compact=False, config=(("max.message.bytes", str(MAX_MESSAGE_BYTES)),)),
    TopicSpec(REJECTED, 1, compact=False),
    TopicSpec(STATS, None, compact=True, config=COMPACTED),
    TopicSpec(LAWS, 1, compact=True, config=COMPACTED),
    TopicSpec(ALLOCATE_REQUESTS, 1, compact=False, config=(HOUR,)),
    TopicSpec(ALLOCATE_REPLIES, 1, compact=False, config=(HOUR,)),
    TopicSpec(DECISIONS, None, compact=False),
    TopicSpec(OVERRIDES, 1, compact=True, config=COMPACTED),
    TopicSpec(TESTS, 1, compact=True, config=COMPACTED),
    TopicSpec(EXPERIMENTS, None, compact=True, config=COMPACTED),
    TopicSpec(ASSIGNMENTS, None, compact=True, config=COMPACTED),
    TopicSpec(OUTCOMES, None, compact=True, config=(("max.message.bytes", str(MAX_MESSAGE_BYTES)), *COMPACTED)),
    # The order of findings is that of the tests, so each is kept under a key of its own.
    TopicSpec(FINDINGS, 1, compact=True, config=COMPACTED),
    # The broker's clock says when a request came: a caller's own may be wrong.
    TopicSpec(ASSIGN_REQUESTS, None, compact=False, config=(HOUR, ("message.timestamp.type", "LogAppendTime"))),
    TopicSpec(ASSIGN_REPLIES, 1, compact=False, config=(HOUR, ("message.timestamp.type", "LogAppendTime"))),
    *(TopicSpec(changelog(table), None, compact=True, config=COMPACTED) for table in TABLES),
)
