"""HTTP content encodings of request bodies, decoded as they arrive."""

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Frame(Protocol):
    """A decoder of one compressed frame, as zlib, lz4 and zstd have it."""

    @property
    def eof(self) -> bool:
        """Whether the frame has ended."""

    @property
    def unused_data(self) -> bytes | None:
        """What came behind the frame's end."""

    def decompress(self, data: bytes, /) -> bytes:
        """Decode the next bytes of the frame."""


FRAMES: dict[str, Callable[[], Frame]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "deflate": zlib.decompressobj,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}


class Decoder:
    """Decode a body of one or more frames; clients compress block by block, each to a frame of its own."""

    def __init__(self, frame: Callable[[], Frame]) -> None:
        self._new = frame
        self._frame = frame()

    def push(self, data: bytes) -> bytes:
        """Decode the next bytes of the body."""
        decoded = []
        while data:
            if self._frame.eof:
                self._frame = self._new()
            decoded.append(self._frame.decompress(data))
            data = (self._frame.unused_data or b"") if self._frame.eof else b""
        return b"".join(decoded)
