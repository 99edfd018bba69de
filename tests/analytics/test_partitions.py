"""The vectorised partitioner agrees with aiokafka's (and so with Java's)."""

import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2
from hypothesis import given
from hypothesis import strategies as st

from analytics.partitions import murmur2, partition_of, partitions_of


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=50))
def test_murmur2_equals_the_reference(keys: list[bytes]) -> None:
    """Every key hashes to what aiokafka computes one key at a time, whatever the mix of lengths."""
    assert [int(h) & 0xFFFFFFFF for h in murmur2(keys)] == [reference_murmur2(key) & 0xFFFFFFFF for key in keys]


def test_no_keys_give_no_hashes() -> None:
    """An empty batch is fine."""
    assert len(murmur2([])) == 0


@pytest.mark.parametrize("partitions", [1, 4, 7])
def test_partitions_are_in_range(partitions: int) -> None:
    """A partition is non-negative and below the count, and the single-key form agrees."""
    keys = [f"run-{i}".encode() for i in range(200)]
    found = partitions_of(keys, partitions)
    assert found.min() >= 0
    assert found.max() < partitions
    assert [partition_of(key, partitions) for key in keys] == found.tolist()
