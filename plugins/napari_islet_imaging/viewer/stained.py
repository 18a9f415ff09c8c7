"""Which layers of a viewer make one stained image, and where its results belong.

The idea: layers that a reader of ours made say which image they are of; layers from elsewhere
belong together if they come from one file, else if they are of one size, and where a channel's name
comes again another image begins.  Each image has a folder of results of its own: beside its file,
or under a name made of its pixels where it has none.
It fails to tell two images apart that are one size, come from no file and share no channel's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.viewer.layers import file_channel, tag_of

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: napari's mark of a name that was there already
_AGAIN = re.compile(r" \[\d+\]$")
#: of each channel so many values make the name of a folder
_SAMPLE = 1_000_000


@dataclass(frozen=True, eq=False)
class StainedImage:
    """Layers that are the channels of one image.

    Parameters
    ----------
    name : str
        As the form shows it; no two of a viewer are alike.
    layers : list of napari layers
        Its channels.
    """

    name: str
    layers: list[Any]

    @property
    def paths(self) -> list[Path]:
        """Its files; none for layers from elsewhere."""
        return [Path(p) for p in tag_of(self.layers[0]).get("paths") or []]

    @property
    def session(self) -> ReviewSession | None:
        """The run that the layers are of, if they are."""
        session: ReviewSession | None = tag_of(self.layers[0]).get("session")
        return session

    @property
    def channels(self) -> list[str]:
        """Names of its channels, each once."""
        names = [_AGAIN.sub("", file_channel(x)) for x in self.layers]
        return names if len(set(names)) == len(names) else [file_channel(x) for x in self.layers]

    @property
    def stem(self) -> str:
        """Its name without endings of files, fit for a folder's."""
        name = Path(tag_of(self.layers[0]).get("image") or self.name).name
        name = re.sub(r"(\.ome)?\.[A-Za-z][A-Za-z0-9]{1,6}$", "", name)
        return re.sub(r"[^\w.-]+", "_", name).strip("._") or "image"

    def results_folder(self) -> Path:
        """Where its results belong: a folder that no other image's results are in."""
        session, paths = self.session, self.paths
        if session is not None and len(session.facts.batches()) == 1:
            return session.run.path  # what was scored alone is scored again there
        if session is None and not paths:
            return Path.home() / "islet-imaging" / f"{self.stem}-{self.mark()}-scored"
        # an image of a run of many is scored beside that run, not into it
        parent = paths[0].parent if session is None else session.run.path.parent
        first = parent / f"{self.stem}-scored"
        folder, k = first, 2
        while (held := files_of_run(folder)) is not None and held != _resolved(paths):
            folder, k = first.with_name(f"{first.name}-{k}"), k + 1
        return folder

    def mark(self) -> str:
        """Eight letters made of the pixels: the same for the same image, another for another."""
        mark = hashlib.sha256()
        for layer in self.layers:
            pixels = layer.data
            step = max(1, int(np.sqrt(np.prod(pixels.shape) / _SAMPLE)))
            mark.update(f"{pixels.shape} {pixels.dtype} ".encode())
            mark.update(np.ascontiguousarray(pixels[::step, ::step]).tobytes())
        return mark.hexdigest()[:8]


def files_of_run(folder: Path) -> list[Path] | None:
    """Files of the first image of a finished run; None where there is no such run."""
    try:
        facts = json.loads((folder / "provenance.json").read_text("utf-8"))
        return _resolved([Path(p) for p in facts["images"][0]["files"]])
    except (OSError, ValueError, KeyError, IndexError):
        return None


def images_in(viewer: napari.Viewer) -> dict[str, StainedImage]:
    """Images whose channels are layers of a viewer, by name."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    plain = [x for x in viewer.layers if is_stain(x)]
    files = [_file_of(x) for x in plain if not tag_of(x)]
    seen: dict[tuple[Any, ...], int] = {}
    for layer in plain:
        tag = tag_of(layer)
        if tag:
            key: tuple[Any, ...] = (
                id(tag.get("session")),
                tag.get("image"),
                *(tag.get("paths") or ()),
            )
        else:
            # one file of many channels is an image; files of one channel each may make one together
            file = _file_of(layer)
            own = file if file is not None and files.count(file) > 1 else ""
            base = (own, *layer.data.shape)
            channel = (*base, _AGAIN.sub("", layer.name))
            seen[channel] = seen.get(channel, 0) + 1
            key = (*base, seen[channel])
        groups.setdefault(key, []).append(layer)
    found: dict[str, StainedImage] = {}
    for layers in groups.values():
        name, k = _name_of(layers, files), 2
        unique = name
        while unique in found:
            unique, k = f"{name} ({k})", k + 1
        found[unique] = StainedImage(unique, layers)
    return found


def is_stain(layer: Any) -> bool:
    """Whether a layer can be a channel: a plane of intensities that is no outline of ours."""
    if type(layer).__name__ != "Image" or getattr(layer, "rgb", False):
        return False
    return np.ndim(layer.data) == 2 and "role" not in tag_of(layer)


def _file_of(layer: Any) -> str | None:
    source = getattr(layer, "source", None)
    path = None if source is None else source.path
    return None if path is None else str(path)


def _name_of(layers: list[Any], files: list[str | None]) -> str:
    image = tag_of(layers[0]).get("image")
    if image:
        return str(image)
    file = _file_of(layers[0])
    if file is not None and files.count(file) > 1:
        return Path(file).name
    return f"layers of {' x '.join(str(n) for n in layers[0].data.shape)} px"


def _resolved(paths: list[Path]) -> list[Path]:
    return [p.resolve() for p in paths]
