"""A header whose name is no text stops nobody."""

import gc
import gzip
import struct
import weakref
from collections.abc import Callable

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from models.settings import load_settings
from streams.header_names import AllRecords, KeptRecords
from streams.kafka_security import connection

PLACE = TopicPartition("scaling.runs", 0)
NAME, ODD = b"nameXX", b"name\xff\xfe"
LENGTH_AT, CRC_AT, CHECKED_FROM, RECORDS_AT = 8, 17, 21, 61
GZIP = 1


def spoiled(built: bytes) -> bytes:
    """Give the headers called nameXX a name that is not UTF-8, with the checksum that belongs to it."""
    batch = bytearray(built.replace(NAME, ODD))
    struct.pack_into(">I", batch, CRC_AT, calc_crc32c(bytes(batch[CHECKED_FROM:])))
    return bytes(batch)


def batch_of(first: int, *headers: list[tuple[str, bytes]]) -> bytes:
    """Build a record batch at an offset, a record for each list of headers."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number, each in enumerate(headers):
        builder.append(number, 1000, b"key", f"value-{first + number}".encode(), each)
    built = bytearray(builder.build())
    struct.pack_into(">q", built, 0, first)
    return spoiled(bytes(built))


def zipped(batch: bytes) -> bytes:
    """Compress the records of a batch."""
    head = bytearray(batch[:RECORDS_AT])
    body = gzip.compress(batch[RECORDS_AT:])
    struct.pack_into(">i", head, LENGTH_AT, RECORDS_AT - LENGTH_AT - 4 + len(body))
    struct.pack_into(">h", head, CHECKED_FROM, GZIP)
    struct.pack_into(">I", head, CRC_AT, calc_crc32c(bytes(head[CHECKED_FROM:]) + body))
    return bytes(head) + body


@pytest.mark.parametrize("pack", [bytes, zipped])
def test_records_around_an_odd_name_are_read_once_each_in_order(pack: Callable[[bytes], bytes]) -> None:
    """Those before and behind it in the batch, those of other batches, and the record itself, as it is otherwise."""
    fetched = (
        batch_of(5, [], [("fine", b"1")])
        + pack(batch_of(7, [("fine", b"2")], [(NAME.decode(), b"3")], [], [(NAME.decode(), b"4")]))
        + batch_of(20, [])
    )
    records = AllRecords(PLACE, KeptRecords(fetched), None, 6, None, None, True, 0)  # noqa: FBT003 - aiokafka's order
    found = list(records)
    assert [record.offset for record in found] == [6, 7, 8, 9, 10, 20]
    assert [record.value for record in found] == [f"value-{offset}".encode() for offset in (6, 7, 8, 9, 10, 20)]
    assert [list(record.headers) for record in found[1:4]] == [
        [("fine", b"2")],
        [("name\\xff\\xfe", b"3")],
        [],
    ]
    assert records.next_fetch_offset == 21


@pytest.mark.parametrize("read", [0, 1, 3])
def test_a_fetch_that_is_dropped_goes_at_once(read: int) -> None:
    """Read or not: bytes that waited for the garbage collector would be hundreds of KiB for each record read alone."""
    kept = KeptRecords(batch_of(0, [], [(NAME.decode(), b"1")], []))
    records = AllRecords(PLACE, kept, None, 0, None, None, True, 0)  # noqa: FBT003 - aiokafka's order
    gone = weakref.ref(kept)
    del kept
    gc.collect()
    gc.disable()
    try:
        assert [next(records).offset for _ in range(read)] == list(range(read))
        assert gone() is not None
        del records
        assert gone() is None
    finally:
        gc.enable()


def test_every_client_of_ours_reads_like_that() -> None:
    """Whoever asks how to connect has it in place."""
    connection(load_settings())
    assert (fetcher.MemoryRecords, fetcher.PartitionRecords) == (KeptRecords, AllRecords)


@pytest.mark.parametrize("damage", [0, 30])
def test_a_batch_that_is_damaged_is_still_refused(damage: int) -> None:
    """Only the names of headers are forgiven."""
    fetched = bytearray(batch_of(0, [(NAME.decode(), b"1")]))
    fetched[CHECKED_FROM + damage] ^= 1
    with pytest.raises(fetcher.Errors.CorruptRecordException):
        list(AllRecords(PLACE, KeptRecords(bytes(fetched)), None, 0, None, None, True, 0))  # noqa: FBT003
