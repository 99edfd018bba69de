"""The fault harness is what it says: poison is poison, schedules are their seeds', and the audit sees what differs."""

from collections import Counter, defaultdict

import pytest

from agents.accept import accept
from agents.decode import EventDecoder
from analytics.partitions import partition_of
from models.batches import Batch
from models.topics import CELLS_TABLE, RUNS
from tests.faults.audit import compare_log
from tests.faults.harness import settings_under_faults
from tests.faults.poison import KINDS, poison
from tests.faults.publisher import Entry, Ledger, Mix, Records, content_of
from tests.faults.raw_columns import accepted_of, counting
from tests.faults.schedule import random_faults
from tests.faults.tables import Log, compare_tables, fold

SETTINGS = settings_under_faults()
MILLISECONDS = 4_000_000_000_000
"""A Kafka timestamp after every event's time."""


def entries(count: int, mix: Mix) -> list[Entry]:
    """Draw records of a mix, without a broker."""
    records = Records(SETTINGS, 7, mix)
    return [records.draw() for _ in range(count)]


def logged(drawn: list[Entry]) -> tuple[Log, Ledger]:
    """Lay records into a log as their publisher would, with its ledger."""
    ledger, places = Ledger(), defaultdict[int, list[Entry]](list)
    for entry in drawn:
        own = partition_of(entry.key, SETTINGS.partitions)
        places[own if entry.partition is None else entry.partition].append(entry)
        if entry.partition is not None:
            places[own].append(entry)
        (ledger.valid if entry.valid else ledger.invalid).add(content_of(entry.key, entry.value))
    return {place: batch(place, found) for place, found in places.items()}, ledger


def batch(partition: int, found: list[Entry]) -> Batch:
    """Make the batch of a partition."""
    count = len(found)
    keys, values = [entry.key for entry in found], [entry.value for entry in found]
    return Batch(RUNS, partition, range(count), [MILLISECONDS] * count, keys, values, [[]] * count)


@pytest.mark.parametrize("kind", range(KINDS))
def test_poison_is_no_valid_run(kind: int) -> None:
    """Every kind of poison is refused, with a reason."""
    value = poison(kind, "poison-1", SETTINGS.max_event_bytes)
    accepted = accept(batch(0, [Entry(b"poison-1", value, valid=False)]), EventDecoder(SETTINGS), SETTINGS)
    assert accepted.events == []
    assert [bool(rejection.reason) for rejection in accepted.rejections] == [True]


def test_a_seed_is_a_schedule() -> None:
    """The same seed draws the same faults, another seed others; no kind comes twice before all have come."""
    told = [[fault.told for fault in random_faults(seed, 24, 6.0)] for seed in (1, 1, 2)]
    assert told[0] == told[1] != told[2]
    kinds = Counter(fault.kind for fault in random_faults(1, 25, 6.0))
    assert len(kinds) == 24
    assert kinds["kill of a stats worker"] == 2


def test_the_audit_sees_nothing_where_nothing_differs_and_names_what_does() -> None:
    """A whole log agrees with its ledger; a lost run, a strange one and a changed table are each named."""
    drawn = entries(3000, Mix(misplaced=0.02))
    log, ledger = logged(drawn)
    undisturbed, accepted = fold(SETTINGS, log), accepted_of(SETTINGS, log)
    assert list(compare_log(SETTINGS, log, ledger, accepted, undisturbed)) == []
    assert len(counting(accepted, "newest")) == undisturbed.counts.accepted
    assert list(compare_tables(fold(SETTINGS, log).tables, undisturbed.tables)) == []

    ledger.valid.add(content_of(b"lost", b'{"agent_run_id":"lost"}'))
    lost = [remark for remark in compare_log(SETTINGS, log, ledger, accepted, undisturbed) if "lost" in remark]
    assert len(lost) == 3
    key = next(key for key in undisturbed.tables[CELLS_TABLE] if not key.endswith(b"|cut"))
    fewer, _ = logged(drawn[:-50])
    changed = list(compare_tables(fold(SETTINGS, fewer).tables, undisturbed.tables))
    assert any(key.split(b"|")[0].decode() in remark for remark in changed)
