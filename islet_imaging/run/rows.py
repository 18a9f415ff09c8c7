"""What a run's provenance says of each image.

The idea: one record per image, plain enough for JSON: who it is, how it fared, and the hashes that
tie it to its files, its pixels and its measurements.  What takes room (numbers of the picture,
facts of the microscope) stays with the measurements.
It fails for the provenance of version 0.1.0, which has no hashes: such rows have an empty key, and
nothing measured is believed for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import IsletImagingError

if TYPE_CHECKING:
    from islet_imaging.quality import Flag


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageRow:
    """What the run knows of one image beside its cells.

    Parameters
    ----------
    image : str
        Path relative to the scored folder.
    condition, batch, role : str
        As in the sample sheet.
    status : {"scored", "failed", "skipped"}
        How it fared.
    message : str
        Why it is not scored.
    flags : tuple of Flag
        What was noticed in it.
    extra : mapping
        Further columns of the sample sheet.
    files : tuple of str
        Its files, absolute.
    inputs : tuple of str
        SHA-256 of each.
    given : mapping
        Files of nuclei, cells and regions that were given with it, ``{what: {file, sha256}}``.
    key : str
        Hash of everything that its measurements depend on; empty where there are none.
    regions : str
        Hash of the regions that were drawn in it and lie over its measurements; "" for none.
    pixels : tuple of str
        Short hashes of its channels' pixels, which corrections speak of.
    pixel_size_um : float or None
        Edge of a pixel, um.
    shape_px : tuple of int
        Height and width.
    scale : mapping
        What nuclei were searched with and how large they were seen (`FoundScale.to_dict`).
    """

    image: str
    condition: str = ""
    batch: str = ""
    role: str = "sample"
    status: str = "scored"
    message: str = ""
    flags: tuple[Flag, ...] = ()
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    given: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    key: str = ""
    regions: str = ""
    pixels: tuple[str, ...] = ()
    pixel_size_um: float | None = None
    shape_px: tuple[int, ...] = ()
    scale: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def staining(self) -> str:
        """What was stained together with the image: the sheet's ``staining``, else its batch."""
        return str(self.extra.get("staining") or self.batch)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is empty is left out."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["flags"] = [flag.to_dict() for flag in self.flags]
        kept = {"flags", "files", "image", "condition", "batch", "role", "status", "message"}
        return {k: v for k, v in plain.items() if k in kept or v not in ("", (), {}, None)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ImageRow:
        """The row that `to_dict` wrote; what a later or earlier version added is left out."""
        from islet_imaging.quality import Flag

        known = {f.name for f in dataclasses.fields(cls)}
        given = {k: v for k, v in data.items() if k in known}
        given["flags"] = tuple(Flag.from_dict(f) for f in data.get("flags", ()))
        for name in ("files", "inputs", "pixels", "shape_px"):
            given[name] = tuple(data.get(name, ()))
        for name in ("image", "condition", "batch", "role", "status", "message", "key", "regions"):
            if not isinstance(given.get(name, ""), str):
                raise TypeError(f"{name} is {given[name]!r:.80}")
        for name in ("extra", "given", "scale"):
            if not isinstance(given.get(name, {}), Mapping):
                raise TypeError(f"{name} is no mapping")
        for name in ("files", "inputs", "pixels"):
            if not all(isinstance(v, str) for v in given[name]):
                raise TypeError(f"{name} holds something else than text")
        size = given.get("pixel_size_um")
        if size is not None and not (isinstance(size, int | float) and size > 0):
            raise TypeError(f"pixel_size_um is {size!r:.80}")
        return cls(**given)


def rows_of(provenance: Mapping[str, Any]) -> list[ImageRow]:
    """The image rows a provenance holds."""
    return [ImageRow.from_dict(row) for row in provenance["images"]]


def row_of(provenance: Mapping[str, Any], image: str) -> ImageRow:
    """The row of one image.

    Raises
    ------
    IsletImagingError
        If the run has no such image.
    """
    for row in provenance["images"]:
        if row["image"] == image:
            return ImageRow.from_dict(row)
    raise IsletImagingError(f"this run has no image {image!r}")
