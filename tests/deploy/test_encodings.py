import gzip
import sys
import zlib

import lz4.frame  # type: ignore[import-untyped]
import pytest

from deploy.encodings import FRAMES, Decoder

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCKS = [b"", b"first block " * 1000, b"second", bytes(range(256)) * 300]
ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("encoding", sorted(FRAMES))
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_bodies_of_several_frames_are_decoded_however_they_arrive(encoding: str, size: int) -> None:
    """Clients compress block by block; the network cuts the body anywhere."""
    body = b"".join(ENCODERS[encoding](block) for block in BLOCKS)
    decoder = Decoder(FRAMES[encoding])
    decoded = b"".join(decoder.push(body[start : start + size]) for start in range(0, len(body), size))
    assert decoded == b"".join(BLOCKS)
