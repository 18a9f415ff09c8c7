"""Writes small ND2 files of NIS-Elements' structure (version 3).

Laid out as in a file that a microscope wrote and the package ``pims_nd2`` carries (cluster.nd2):
chunks of a header, a padded name and data, each begun at a multiple of 4096 bytes; metadata as
typed items with UTF-16 names; frames that hold all channels; a map of the chunks at the end.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x0ABECEDA
_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"


def item(name: str, value: Any) -> bytes:
    """One typed item: its kind by the name's first letters, as the software has it."""
    start = struct.pack("<BB", 0, len(name) + 1) + f"{name}\0".encode("utf-16-le")
    if isinstance(value, Mapping | list):
        parts = value.items() if isinstance(value, Mapping) else [("", v) for v in value]
        children = [item(k, v) for k, v in parts]
        body = b"".join(children)
        head = struct.pack("<IQ", len(children), len(start) + 12 + len(body))
        # where each child begins; readers step over it
        table = np.cumsum([0, *map(len, children)])[:-1] + len(start) + 12
        return b"\x0b" + start[1:] + head + body + table.astype("<u8").tobytes()
    for kind, form in ((bool, (1, "<B")), (float, (6, "<d")), (int, (3, "<I"))):
        if isinstance(value, kind):
            return bytes([form[0]]) + start[1:] + struct.pack(form[1], value)
    if isinstance(value, bytes):
        return b"\x09" + start[1:] + struct.pack("<Q", len(value)) + value
    return b"\x08" + start[1:] + f"{value}\0".encode("utf-16-le")


def chunk(name: bytes, data: bytes, align: int = 4096) -> bytes:
    """A chunk whose header and name fill ``align`` bytes less what the data need."""
    length = align - 24 if name.startswith(b"ImageDataSeq") else -(16 + len(data)) % align
    while length < len(name):
        length += align
    whole = struct.pack("<IIQ", _MAGIC, length, len(data)) + name.ljust(length, b"\0") + data
    return whole + bytes(-len(whole) % align)


def spectrum(nm: float) -> dict[str, Any]:
    point = {"eType": 2, "dWavelength": nm, "dTValue": 1.0}
    return {"uiCount": 1, "pPoint": {"Point0": point}, "bPoints": True}


def nikon(
    path: Path,
    frames: NDArray[Any],
    *,
    names: Sequence[str] = ("DAPI", "INS"),
    um: float | None = 0.5,
    positions: Sequence[str] = (),
    planes: int = 1,
    times: int = 1,
    samples: int = 1,
    left_out: Sequence[int] = (),
    **attributes: Any,
) -> Path:
    """Write frames (times x positions x planes, Y, X, channels x samples) as an ND2 file."""
    n, height, width, components = frames.shape
    bits = frames.dtype.itemsize * 8
    stored = {
        "uiWidth": width, "uiWidthBytes": width * components * bits // 8, "uiHeight": height,
        "uiComp": components, "uiBpcInMemory": bits, "uiBpcSignificant": min(bits, 12),
        "uiSequenceCount": n, "uiTileWidth": width, "uiTileHeight": height, "eCompression": 2,
        "dCompressionParam": 0.0, "ePixelType": 1, "uiVirtualComponents": components, **attributes,
    }  # fmt: skip
    channels, settings = {}, {}
    for i, name in enumerate(names):
        light = {"m_sName": name, "m_ExcitationSpectrum": spectrum(400.0 + 100 * i),
                 "m_EmissionSpectrum": spectrum(450.0 + 100 * i)}  # fmt: skip
        channels[f"a{i}"] = {"uiCompCount": samples, "uiSampleIndex": i, "uiModalityMask": 1,
                             "pFluorescentProbe": light, "sDescription": name,
                             "uiColor": 0xFF0000 if i == 0 else 0x00FF00}  # fmt: skip
        settings[f"a{i}"] = {"dExposureTime": 100.0 * (i + 1)}
    picture = {
        "dCalibration": um or -1.0, "bCalibrated": um is not None,
        "wsObjectiveName": "Plan Apo 20x", "dObjectiveMag": 20.0, "dObjectiveNA": 0.75,
        "sPicturePlanes": {"uiCount": len(names), "uiCompCount": components,
                           "sPlaneNew": channels, "sSampleSetting": settings},
    }  # fmt: skip
    loops: list[dict[str, Any]] = []
    if times > 1:
        pars = {"uiCount": times, "dStart": 0.0, "dPeriod": 0.0, "dDuration": 0.0}
        loops.append({"eType": 1, "uLoopPars": pars})
    if positions:
        points = [{"dPosX": 900.0 * i, "dPosY": 0.0, "dPosZ": 0.0, "dPFSOffset": 0.0,
                   "dPosName": name} for i, name in enumerate(positions)]  # fmt: skip
        pars = {"uiCount": len(points), "bUseZ": False, "bRelativeXY": False, "Points": points}
        loops.append({"eType": 2, "uLoopPars": pars, "pItemValid": b"\x01" * len(points)})
    if planes > 1:
        loops.append({"eType": 4, "uLoopPars": {"uiCount": planes, "dZStep": 0.5, "iType": 0}})
    chunks: list[tuple[bytes, bytes]] = [
        (f"ImageDataSeq|{i}!".encode(), struct.pack("<d", 10.0 * i) + frame.tobytes())
        for i, frame in enumerate(frames)
        if i not in left_out
    ]
    chunks += [
        (b"ImageMetadataSeqLV|0!", item("SLxPictureMetadata", picture)),
        (b"ImageAttributesLV!", item("SLxImageAttributes", stored)),
        (b"ImageTextInfoLV!", item("SLxImageTextInfo", {"TextInfoItem_5": "An islet"})),
    ]
    if loops:
        for outer, inner in itertools.pairwise(loops):
            outer |= {"uiNextLevelCount": 1, "ppNextLevelEx": [inner]}
        chunks.append((b"ImageMetadataLV!", item("SLxExperiment", loops[0])))
    out = struct.pack("<IIQ32s64s", _MAGIC, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0")
    out += bytes(-len(out) % 4096)
    table = b""
    for name, data in chunks:
        table += name + struct.pack("<QQ", len(out), len(data))
        out += chunk(name, data)
    table += _MAP + struct.pack("<Q", len(out))
    name = b"ND2 FILEMAP SIGNATURE NAME 0001!"
    out += struct.pack("<IIQ", _MAGIC, len(name), len(table)) + name + table
    path.write_bytes(out)
    return path
