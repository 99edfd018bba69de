"""A micro-batch: the records that one fetch brought from one partition."""

from collections.abc import Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Raw records of one topic partition in offset order. All sequences have one entry a record.

    Offsets may have gaps (transaction markers, compaction); `start` is the position that was read from, so nothing lies
    between it and the first record. Timestamps are Kafka's, in milliseconds since the epoch.
    """

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]
    start: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, start: int, stop: int) -> "Batch":
        """Keep the records from one place up to another."""
        if start == 0 and stop >= len(self):
            return self
        cut = slice(start, stop)
        return Batch(
            self.topic,
            self.partition,
            self.offsets[cut],
            self.timestamps[cut],
            self.keys[cut],
            self.values[cut],
            self.headers[cut],
            self.offsets[start],
        )

    def take(self, indices: Sequence[int]) -> "Batch":
        """Keep the records at the given places."""
        return Batch(
            self.topic,
            self.partition,
            [self.offsets[index] for index in indices],
            [self.timestamps[index] for index in indices],
            [self.keys[index] for index in indices],
            [self.values[index] for index in indices],
            [self.headers[index] for index in indices],
            self.start,
        )
