"""Read records whose headers have names that are not UTF-8.

Kafka takes any bytes for a header's name. aiokafka 0.14 decodes them strictly while it reads a batch, so that one such
record stops every consumer of its partition for good. Here what cannot be decoded is escaped by "backslashreplace"; no
header of ours has such a name, and key and value are what they are. And aiokafka's records of a fetch and its iterator
hold each other: here a fetch that is dropped unread is not left to the garbage collector.
"""

import weakref
from collections.abc import Iterator
from typing import Any, SupportsIndex

from aiokafka import ConsumerRecord
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy


class Lenient(bytearray):
    """Bytes whose parts decode whatever they are."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:  # noqa: ANN401 - an int or bytes
        found = super().__getitem__(at)
        return Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        """Decode; what cannot be decoded is escaped."""
        return super().decode(encoding, errors)


class KeptRecords(MemoryRecords):  # type: ignore[misc]
    """Fetched record batches that still know their bytes."""

    def __init__(self, fetched: bytes) -> None:
        super().__init__(fetched)
        self.fetched = fetched

    def lenient_batch(self, offset: int) -> _DefaultRecordBatchPy:
        """Read once more, leniently, the first batch that ends beyond an offset."""
        batches = _MemoryRecordsPy(self.fetched)
        while (found := batches._next_slice) is not None:  # noqa: SLF001 - aiokafka's own
            batch = _DefaultRecordBatchPy(found)
            if batch.next_offset > offset:
                batch._maybe_uncompress()  # noqa: SLF001
                batch._buffer = Lenient(batch._buffer)  # noqa: SLF001
                return batch
            batches.next_batch()
        raise AssertionError(f"no batch ends beyond offset {offset}")


class AllRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a fetch, whatever the names of their headers."""

    _records: KeptRecords
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        # aiokafka keeps this iterator in the records that it reads. Over a weak reference that is no cycle: a fetch
        # that is dropped unread, as most are where records are read one by one, goes at once, with all its bytes.
        this: AllRecords = weakref.proxy(self)  # type: ignore[assignment]
        return AllRecords._read(this)

    def _read(self) -> Iterator[ConsumerRecord]:
        while True:
            try:
                yield from super()._unpack_records()
            except (UnicodeDecodeError, CorruptRecordException) as error:
                # Without its extension aiokafka wraps the one in the other.
                if not isinstance(error.__cause__ or error, UnicodeDecodeError):
                    raise
                # The batch is gone from the records; what it held before the name has been given out already.
                batch = self._records.lenient_batch(self.next_fetch_offset)
                for record in batch:
                    if record.offset >= self.next_fetch_offset:
                        self.next_fetch_offset = record.offset + 1
                        yield self._consumer_record(self._tp, record)
                self.next_fetch_offset = batch.next_offset
            else:
                return


def read_any_header_name() -> None:
    """Let every consumer of this process read records with any header name."""
    fetcher.MemoryRecords = KeptRecords
    fetcher.PartitionRecords = AllRecords
