"""The store that Faust sees: a read-only view of what the ledger has restored."""

from collections.abc import Iterable

import pytest
from faust.types import TP

from models.settings import Settings, load_settings
from models.topics import CELLS_TABLE, STATS_APP, STATS_CHANGELOGS, TABLES, changelog
from streams import store
from streams.ledger import Ledger, OwnedPartition
from streams.stats_app import create_stats_app
from streams.store import LedgerStore, NotSupported


class Restored(Ledger):
    """A ledger that takes partitions without Kafka: each has one cell, and has read its changelog up to offset 41."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.taken: list[tuple[int, list[int]]] = []

    async def take(self, generation: int, partitions: Iterable[int]) -> None:
        """Own them."""
        wanted = sorted(partitions)
        self.taken.append((generation, wanted))
        restored = {}
        for number in wanted:
            owned = OwnedPartition(number, None, STATS_APP, STATS_CHANGELOGS)  # type: ignore[arg-type]
            owned.tables[CELLS_TABLE][f"{number}|cell".encode()] = b"value"
            owned.restored = {changelog(table): 41 for table in TABLES}
            restored[number] = owned
        self._owned = restored


@pytest.fixture
async def cells() -> LedgerStore:
    """Make the store of the cells table, with partitions 0 and 2 owned."""
    settings = load_settings()
    app = create_stats_app(settings)
    ledger = Restored(settings)
    made = LedgerStore(store.URL, app, app.tables[CELLS_TABLE], options={"ledger": ledger})
    topic = changelog(CELLS_TABLE)
    await made.on_rebalance({TP(topic, 0), TP(topic, 2), TP("scaling.runs", 1)}, set(), set(), generation_id=7)
    assert ledger.taken == [(7, [0, 2])]
    return made


async def test_faust_makes_our_store_for_every_table() -> None:
    """The URL is registered, and each table of the stats worker has it."""
    app = create_stats_app(load_settings())
    assert {table.name for table in app.tables.values()} == set(TABLES)
    for table in app.tables.values():
        assert isinstance(table.data, LedgerStore)
        assert table.changelog_topic_name == changelog(table.name)


async def test_a_restored_partition_has_nothing_left_to_recover(cells: LedgerStore) -> None:
    """Faust compares this offset with the changelog's end; a partition that is not owned has none."""
    assert cells.persisted_offset(TP(changelog(CELLS_TABLE), 2)) == 41
    assert cells.persisted_offset(TP(changelog(CELLS_TABLE), 1)) is None


async def test_it_reads_as_one_mapping_over_the_owned_partitions(cells: LedgerStore) -> None:
    """Keys, length and look-up; what is not there is a KeyError."""
    assert set(cells) == {b"0|cell", b"2|cell"}
    assert len(cells) == 2
    assert cells[b"2|cell"] == b"value"
    with pytest.raises(KeyError):
        cells[b"1|cell"]


async def test_it_refuses_to_be_written_past_the_ledger(cells: LedgerStore) -> None:
    """A single write would not be part of a flush; recovery by Faust would mean that something was missed."""
    with pytest.raises(NotSupported, match="all or nothing"):
        cells[b"0|cell"] = b"other"
    with pytest.raises(NotSupported, match="all or nothing"):
        del cells[b"0|cell"]
    with pytest.raises(NotSupported, match="nothing to recover"):
        cells.apply_changelog_batch([], None, None)
    with pytest.raises(NotSupported):
        await cells.backup_partition(0)
    with pytest.raises(NotSupported):
        cells.restore_backup(0)
    cells.reset_state()
    assert len(cells) == 2
