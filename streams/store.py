"""The store behind our Faust tables: kept by partition, restored in bulk, changed only by whole flushes.

Faust's memory store keeps keys of revoked partitions and recovers 9,000 records a second. Here the ledger has read the
changelog before Faust asks, so that Faust finds every table up to date, and a revoked partition is gone with its owner.
"""

from collections.abc import Iterator
from typing import Any

from faust import stores
from faust.stores.base import Store
from faust.types import TP

from streams.ledger import Ledger

URL = "ledger://kafka"
"""Without a host the URL is false, and Faust would take its memory store instead."""


class NotSupported(TypeError):  # noqa: N818 - says what it is
    """Faust asked the store for something that the ledger does its own way."""


class LedgerStore(Store):  # type: ignore[misc]
    """A read-only view of one table over the owned partitions."""

    @property
    def _ledger(self) -> Ledger:
        ledger: Ledger = self.options["ledger"]
        return ledger

    def persisted_offset(self, tp: TP) -> int | None:
        """Tell Faust's recovery that nothing is left to read for a partition that the ledger has restored."""
        owned = self._ledger.owned.get(tp.partition)
        return None if owned is None else owned.restored[tp.topic]

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Take the assigned partitions; the first table of a generation does it for all."""
        del revoked, newly_assigned
        topic = self.table.changelog_topic_name
        await self._ledger.take(generation_id, {tp.partition for tp in assigned if tp.topic == topic})

    def __getitem__(self, key: bytes) -> bytes:
        for owned in self._ledger.owned.values():
            if key in owned.tables[self.table_name]:
                return owned.tables[self.table_name][key]
        raise KeyError(key)

    def __iter__(self) -> Iterator[bytes]:
        for owned in self._ledger.owned.values():
            yield from owned.tables[self.table_name]

    def __len__(self) -> int:
        return sum(len(owned.tables[self.table_name]) for owned in self._ledger.owned.values())

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise NotSupported("write through the ledger: a flush is all or nothing")

    def __delitem__(self, key: bytes) -> None:
        raise NotSupported("write through the ledger: a flush is all or nothing")

    def apply_changelog_batch(self, batch: Any, to_key: Any, to_value: Any) -> None:  # noqa: ANN401, ARG002 - Faust's signature
        """Refuse records that Faust itself recovered: the ledger has restored everything already."""
        raise NotSupported("the ledger restores tables; Faust had nothing to recover")

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:  # noqa: ANN401, ARG002, FBT001, FBT002 - Faust's signature
        """Refuse: the changelog topics are the backup."""
        raise NotSupported("tables are backed up by their changelog topics")

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:  # noqa: ANN401, ARG002, FBT001, FBT002 - Faust's signature
        """Refuse: the changelog topics are the backup."""
        raise NotSupported("tables are restored from their changelog topics")

    def reset_state(self) -> None:
        """Keep nothing on disk, so nothing is reset."""


def register() -> None:
    """Make the store known to Faust by its URL."""
    stores.STORES.aliases["ledger"] = f"{LedgerStore.__module__}:{LedgerStore.__qualname__}"
