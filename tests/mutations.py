"""Files damaged by a seeded generator, so that every fault can be made again by its seed."""

from __future__ import annotations

import numpy as np

#: words that readers of text trip over
_WORDS = (
    *(b"null", b"-1", b"1e999", b"nan", b"[]", b"{}", b'""', b"\0", b"\xff\xfe", b"\n", b": "),
    *(b"&a *a", b"!!python/name:os", b"../../x", b"9" * 5000, b"true", b"'", b'"', b",", b"[" * 99),
)


def mutated(data: bytes, seed: int, n: int) -> bytes:
    """``data`` with ``n`` changes: bytes flipped, cut out, doubled, or words put in."""
    rng = np.random.default_rng(seed)
    out = bytearray(data)
    for _ in range(n):
        at = int(rng.integers(0, len(out) + 1))
        kind = int(rng.integers(0, 5))
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del out[at : at + int(rng.integers(1, 60))]
        elif kind == 2:
            piece = out[at : at + int(rng.integers(1, 200))]
            out[at:at] = piece
        elif kind == 3:
            out[at:at] = _WORDS[int(rng.integers(0, len(_WORDS)))]
        else:
            end = min(len(out), at + int(rng.integers(1, 20)))
            out[at:end] = _WORDS[int(rng.integers(0, len(_WORDS)))]
    return bytes(out)
