"""Does ClickHouse hold the runs that the live tables count? By context, up to the same record of each partition."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from agents import live_grams
from agents.moment_table import decode_rows
from agents.observer import BARRIER, GRAM, read_cut
from models.cells import GramKey
from models.contexts import GLOBAL, OTHER, context_pairs
from models.dimensions import MASK_BITS
from models.settings import Settings
from models.topics import ARCHIVE_APP, RUNS, STATS
from streams.clickhouse import query
from streams.cut import below_condition
from streams.extents import by_context
from streams.kafka_clients import read_compacted
from streams.restore import stats_begins

OUTCOMES = ("success", "quality_score", "time_to_complete", "total_cost")
ALL_RUNS = "runs"
BARRIER_PREFIX = f"{BARRIER}|".encode()
ATTEMPTS = 3
POLL_SECONDS = 0.5
NONE: Mapping[str, int] = {}

Counts = Mapping[str, Mapping[str, int]]
"""By context: how many runs, and how many of them carry each outcome."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A context that the two count differently."""

    context: str
    what: str
    live: int
    archived: int

    def __str__(self) -> str:
        return f"{self.context} {self.what}: {self.live} live, {self.archived} in ClickHouse"


@dataclass(frozen=True, slots=True)
class Live:
    """What the live tables hold: the offset up to which each source partition is in, its hash of settings, counts."""

    cuts: Mapping[int, int]
    settings_hashes: frozenset[str]
    counts: Mapping[int, Counts]


@dataclass(slots=True)
class Reconciliation:
    """What came of the comparison.

    `behind` are the partitions whose records the archive did not have in time: they are not compared. `moved` counts
    the runs that were corrected after the cut, each of which may be in another context now.
    """

    runs: int = 0
    contexts: int = 0
    moved: int = 0
    behind: dict[int, int] = field(default_factory=dict)
    disagreements: list[Disagreement] = field(default_factory=list)


async def read_live(settings: Settings) -> Live:
    """Read what the stats workers have published, as of one flush of each source partition.

    Raises:
        NotReachable: Kafka does not answer.
        StackError: scaling.stats does not exist, or was written by a newer version.
    """
    for _ in range(ATTEMPTS):
        grams: dict[bytes, bytes] = {}
        barriers: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        begins = await stats_begins(settings, range(settings.partitions))
        async for record in read_compacted(settings, STATS, begin=begins):
            if record.key.startswith(GRAM):
                if record.value is None:
                    grams.pop(record.key, None)
                else:
                    grams[record.key] = record.value
            elif record.key.startswith(BARRIER_PREFIX):
                barriers[int(record.key[len(BARRIER_PREFIX) :])][record.partition] = record.value
        # A flush that became visible while the ends were asked for may be in one partition and not yet in another.
        if all(len(set(found.values())) == 1 for found in barriers.values()):
            break
    cuts = {source: read_cut(next(iter(found.values()))) for source, found in barriers.items()}
    return Live(
        {source: cut.offset for source, cut in cuts.items()},
        frozenset(cut.settings_hash for cut in cuts.values()),
        _count(grams),
    )


def _count(grams: Mapping[bytes, bytes]) -> dict[int, dict[str, Counter[str]]]:
    """Add up the Grams, which hold every run of a context once."""
    counts: defaultdict[int, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    if grams:
        _, _, (sizes, _, _) = decode_rows(list(grams.values()), len(live_grams.REGRESSORS) + len(live_grams.OUTCOMES))
        for name, size in zip(grams, sizes.tolist(), strict=True):
            key = GramKey.decode(name[len(GRAM) :])
            found = counts[key.partition][key.context]
            found[ALL_RUNS] += round(size)
            for outcome in OUTCOMES:
                if key.mask & MASK_BITS[outcome]:
                    found[outcome] += round(size)
    return {source: dict(found) for source, found in counts.items()}


async def reconcile(
    settings: Settings, admin: AIOKafkaAdminClient, live: Live, patience: float = 10.0
) -> Reconciliation:
    """Compare the live tables with ClickHouse, once the archive has what the tables have.

    Args:
        settings: Where Kafka and ClickHouse are, and the context keys.
        admin: Asks how far the archive is.
        live: What the live tables hold.
        patience: Seconds that the archive is given to catch up with them.

    Raises:
        QueryError: ClickHouse refused a query.
        NotReachable: ClickHouse does not answer.
        KafkaError: Kafka does not say how far the archive is.
    """
    result = Reconciliation(behind=await _behind(admin, live.cuts, patience))
    cuts = {source: offset for source, offset in live.cuts.items() if source not in result.behind}
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for source in cuts:
        for context, counts in live.counts.get(source, {}).items():
            counted[context].update(counts)
    if not cuts:
        return result
    archived = await asyncio.to_thread(_archived, settings, cuts)
    result.moved = await asyncio.to_thread(_moved, settings, cuts)
    result.runs = counted.get(GLOBAL, Counter())[ALL_RUNS]
    compared = comparable(counted, archived, settings.context_values)
    result.contexts = len(compared)
    result.disagreements = disagreements(counted, archived, compared, result.moved)
    return result


def disagreements(live: Counts, archived: Counts, contexts: Sequence[str], allowed: int) -> list[Disagreement]:
    """List what the two count differently in some contexts by more than is allowed, the largest differences first."""
    found = [
        Disagreement(context, what, live.get(context, NONE).get(what, 0), archived.get(context, NONE).get(what, 0))
        for context in contexts
        for what in (ALL_RUNS, *OUTCOMES)
    ]
    wrong = [each for each in found if abs(each.live - each.archived) > allowed]
    return sorted(wrong, key=lambda each: (-abs(each.live - each.archived), each.context != GLOBAL))


def comparable(live: Counts, archived: Counts, most: int) -> list[str]:
    """List the contexts that both must have.

    Which values of a key list have contexts of their own is decided partition by partition in the live tables, and
    over all of them in ClickHouse: where there are too many, only those that both have are compared.
    """
    groups: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    full: set[tuple[str, ...]] = set()
    for context in {*live, *archived}:
        pairs = context_pairs(context)
        keys = tuple(key for key, _ in pairs)
        if pairs and all(value == OTHER for _, value in pairs) and context in live:
            full.add(keys)
        else:
            groups[keys].add(context)
    contexts: list[str] = []
    for keys, found in groups.items():
        crowded = keys in full or len(found) >= most
        contexts += found & live.keys() & archived.keys() if crowded else found
    return sorted(contexts)


async def _behind(admin: AIOKafkaAdminClient, cuts: Mapping[int, int], patience: float) -> dict[int, int]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        committed = await admin.list_consumer_group_offsets(ARCHIVE_APP)
        reached = {
            number: committed[where].offset if (where := TopicPartition(RUNS, number)) in committed else 0
            for number in cuts
        }
        behind = {number: offset - reached[number] for number, offset in cuts.items() if offset > reached[number]}
        if not behind or loop.time() > deadline:
            return behind
        await asyncio.sleep(POLL_SECONDS)


def _archived(settings: Settings, cuts: Mapping[int, int]) -> dict[str, dict[str, int]]:
    names = (ALL_RUNS, *OUTCOMES)
    return {
        context: dict(zip(names, map(int, numbers), strict=True))
        for context, numbers in by_context(settings, cuts, "reconciliation").items()
    }


def _moved(settings: Settings, cuts: Mapping[int, int]) -> int:
    condition, parameters = below_condition(cuts)
    after = "offset >= {cut:Map(UInt16, UInt64)}[partition]"
    found = query(settings, f"SELECT count() FROM observations WHERE {after} AND {condition}", parameters=parameters)  # noqa: S608 - constants
    return int(found.rows[0][0])
