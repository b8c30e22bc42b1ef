"""Images of a job: the smallest there is, or noise of a real image's size that follows from the job."""

from __future__ import annotations

import base64
import struct
import zlib
from hashlib import shake_128

# The smallest PNG there is: one transparent pixel.
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)  # fmt: skip
_WIDTH = 256
_LINE = 1 + 3 * _WIDTH  # a byte that says how the line is coded, and three a pixel


def picture(size: int, nonce: int, index: int = 0) -> str:
    """A PNG of about `size` bytes in base64; its content follows from `nonce` and `index`. PIXEL for a size of 0."""
    if not size:
        return PIXEL
    height = max(1, size // _LINE)
    noise = shake_128(b"%d %d" % (nonce, index)).digest(height * (_LINE - 1))
    lines = b"".join(
        b"\0" + noise[start : start + _LINE - 1] for start in range(0, len(noise), _LINE - 1)
    )  # 0: as they are
    head = struct.pack(">IIBBBBB", _WIDTH, height, 8, 2, 0, 0, 0)  # eight bits, red green blue
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
