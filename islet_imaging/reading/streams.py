"""How large a compressed picture says it is, before it is decoded.

The idea: a TIFF's tile may hold a JPEG, JPEG 2000, PNG or WebP stream with a size of its own; a
decoder believes the stream, and sixty bytes may ask for gigabytes.
It fails softly: a stream whose header is not understood has no size, and its decoder judges it.
"""

from __future__ import annotations

import struct


def stream_size(data: bytes) -> tuple[int, int] | None:
    """Height and width in a stream's own header; None where it is no such stream.

    Examples
    --------
    >>> import imagecodecs, numpy as np
    >>> picture = np.zeros((16, 24), np.uint8)
    >>> stream_size(imagecodecs.jpeg8_encode(picture)), stream_size(b"II*")
    ((16, 24), None)
    >>> stream_size(imagecodecs.png_encode(picture))
    (16, 24)
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", data[16:24])
            return height, width
        at = data.find(b"\xff\x4f\xff\x51", 0, 4096)  # JPEG 2000, bare or in boxes
        if at >= 0:
            right, bottom, left, top = struct.unpack(">IIII", data[at + 8 : at + 24])
            return bottom - top, right - left
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
    except struct.error:
        return None
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Size in a JPEG's start of frame."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1 if marker == 0xFF else 2
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return height, width
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return height & 0x3FFF, width & 0x3FFF
    return None
