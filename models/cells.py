"""Value cells and Grams as they are named in Faust tables and on scaling.stats."""

from dataclasses import dataclass

from models.dimensions import Basis, Dimension, Source

BIN_MARK = "~"
BINS_PER_OCTAVE = 4
LARGEST_OWN_VALUE = 64


@dataclass(frozen=True, slots=True)
class CellKey:
    """Names one value cell; `value` is a number's text, a bin index after "~", or a category's label."""

    partition: int
    context: str
    dimension: Dimension
    basis: Basis
    value: str
    source: Source
    mask: int

    def encode(self) -> bytes:
        """Write the key; contexts are percent-encoded, so the separator cannot occur in a part."""
        parts = (self.partition, self.context, self.dimension, self.basis, self.value, self.source, self.mask)
        return "|".join(map(str, parts)).encode()

    @classmethod
    def decode(cls, key: bytes) -> "CellKey":
        """Read the key back."""
        partition, context, dimension, basis, value, source, mask = key.decode().split("|")
        return cls(
            int(partition), context, Dimension(dimension), Basis(basis), value, Source(source), int(mask)
        )  # fmt: skip

    @property
    def binned(self) -> bool:
        """Whether the cell is a quarter-octave bin."""
        return self.value.startswith(BIN_MARK)


@dataclass(frozen=True, slots=True)
class GramKey:
    """Names one Gram: the joint moments of all dimensions and outcomes in one time bucket, or in history.

    `presence` has one character a regressor (models.dimensions order, then complexity): "-" absent, "r" realised,
    "d" dose; `bucket` is completed_at // bucket_seconds, None for history.
    """

    partition: int
    context: str
    bucket: int | None
    source: Source
    presence: str
    mask: int

    def encode(self) -> bytes:
        """Write the key."""
        bucket = "history" if self.bucket is None else str(self.bucket)
        return "|".join(
            (str(self.partition), self.context, bucket, self.source, self.presence, str(self.mask))
        ).encode()

    @classmethod
    def decode(cls, key: bytes) -> "GramKey":
        """Read the key back."""
        partition, context, bucket, source, presence, mask = key.decode().split("|")
        number = None if bucket == "history" else int(bucket)
        return cls(int(partition), context, number, Source(source), presence, int(mask))


def bin_value(index: int) -> float:
    """Give the nominal value of a quarter-octave bin: the geometric middle of [2^(i/4), 2^((i+1)/4))."""
    return float(2.0 ** ((index + 0.5) / BINS_PER_OCTAVE))


def value_text(value: float) -> str:
    """Write a value that has a cell of its own: integers without a point, others so that they read back exactly."""
    return str(int(value)) if value == int(value) else repr(value)
