"""The Kafka topics, their keys' meaning in docs/wire.md."""

from dataclasses import dataclass

RUNS = "scaling.runs"
REJECTED = "scaling.rejected"
STATS = "scaling.stats"
LAWS = "scaling.laws"
ALLOCATE_REQUESTS = "scaling.allocate.requests"
ALLOCATE_REPLIES = "scaling.allocate.replies"

STATS_APP = "scaling-stats"
ARCHIVE_APP = "scaling-archive"

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
IMPORT_HEADER = "scaling-import-id"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. `partitions` None: as many as scaling.runs has."""

    name: str
    partitions: int | None
    compact: bool
    config: tuple[tuple[str, str], ...] = ()


COMPACTED = (("min.cleanable.dirty.ratio", "0.1"), ("segment.ms", "600000"))


def changelog(table: str) -> str:
    """Name the changelog topic of a Faust table of the stats worker."""
    return f"{STATS_APP}-{table}-changelog"


CELLS_TABLE = "cells"
GRAMS_TABLE = "grams"
DEDUPE_TABLE = "dedupe"
IMPORTS_TABLE = "imports"
TABLES: tuple[str, ...] = (CELLS_TABLE, GRAMS_TABLE, DEDUPE_TABLE, IMPORTS_TABLE)

TOPICS: tuple[TopicSpec, ...] = (
    TopicSpec(RUNS, None, compact=False, config=(("max.message.bytes", str(MAX_MESSAGE_BYTES)),)),
    TopicSpec(REJECTED, 1, compact=False),
    TopicSpec(STATS, None, compact=True, config=COMPACTED),
    TopicSpec(LAWS, 1, compact=True, config=(("min.cleanable.dirty.ratio", "0.1"),)),
    TopicSpec(ALLOCATE_REQUESTS, 1, compact=False, config=(("retention.ms", "3600000"),)),
    TopicSpec(ALLOCATE_REPLIES, 1, compact=False, config=(("retention.ms", "3600000"),)),
    *(TopicSpec(changelog(table), None, compact=True, config=COMPACTED) for table in TABLES),
)
