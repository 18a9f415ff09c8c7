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
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.session.layer_data import KEY
from napari_islet_imaging.viewer.layers import file_channel, tag_of

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession

#: units that are micrometres
_MICRON = ("um", "µm", "micrometer", "micron", "micrometre")
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
    tokens : sequence of str
        What the names of its files call the channels, where each has a file of its own.
    """

    name: str
    layers: list[Any]
    tokens: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Its files; none for layers from elsewhere."""
        found = [Path(p) for x in self.layers for p in tag_of(x).get("paths") or []]
        return list(dict.fromkeys(found))

    @property
    def n_planes(self) -> int:
        """Focal planes; 1 for a single plane."""
        return int(self.layers[0].data.shape[0]) if self.layers[0].ndim == 3 else 1

    @property
    def session(self) -> ReviewSession | None:
        """The run that the layers are of, if they are."""
        session: ReviewSession | None = tag_of(self.layers[0]).get("session")
        return session

    @property
    def shown(self) -> list[str]:
        """Names of its layers, which say more where a file of one channel does not name it."""
        return [_AGAIN.sub("", x.name) for x in self.layers]

    def is_same(self, other: StainedImage) -> bool:
        """Whether another grouping of the layers is the same image, whatever it is called."""
        return any(layer in other.layers for layer in self.layers)

    @property
    def opened(self) -> bool:
        """Whether it was opened or made as an image, not made of another layer by a tool."""
        first = self.layers[0]
        return self.session is None and (bool(tag_of(first)) or _file_of(first) is not None)

    @property
    def channels(self) -> list[str]:
        """Names of its channels, each once."""
        if self.tokens:
            return list(self.tokens)
        names = [_AGAIN.sub("", file_channel(x)) for x in self.layers]
        return names if len(set(names)) == len(names) else [file_channel(x) for x in self.layers]

    def name_channels(self) -> None:
        """Note on layers of a file each the names that the files differ in, as the run has them."""
        for layer, name in zip(self.layers, self.tokens, strict=False):
            layer.metadata[KEY] = {**tag_of(layer), "channel": name}

    @property
    def stem(self) -> str:
        """Its name without endings of files, fit for a folder's."""
        image = None if self.tokens else tag_of(self.layers[0]).get("image")
        name = Path(image or self.name).name
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
        parent = (paths[0] if session is None else session.run.path).absolute().parent
        first = parent / f"{self.stem}-scored"
        folder, k = first, 2
        while (held := files_of_run(folder)) is not None:
            # files of channels are put together into one
            own = paths if len(paths) == 1 else [input_folder(folder) / f"{self.stem}.ome.tif"]
            if held == _resolved(own):
                break
            folder, k = first.with_name(f"{first.name}-{k}"), k + 1
        return folder

    def mark(self) -> str:
        """Eight letters made of the pixels: the same for the same image, another for another."""
        mark = hashlib.sha256()
        for layer in self.layers:
            pixels = layer.data
            step = max(1, int(np.sqrt(np.prod(pixels.shape) / _SAMPLE)))
            mark.update(f"{pixels.shape} {pixels.dtype} ".encode())
            mark.update(np.ascontiguousarray(pixels[..., ::step, ::step]).tobytes())
        return mark.hexdigest()[:8]


def input_folder(out: Path) -> Path:
    """Where layers without a file are written to be scored: beside the run, not in it."""
    return out.with_name(f"{out.name}-input")


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
    for layers, head, tokens in _joined(list(groups.values())):
        name, k = head or _name_of(layers, files), 2
        unique = name
        while unique in found:
            unique, k = f"{name} ({k})", k + 1
        found[unique] = StainedImage(unique, layers, tokens)
    return found


def _joined(groups: list[list[Any]]) -> list[tuple[list[Any], str, tuple[str, ...]]]:
    """Images of one channel whose files' names differ in the channel only, put together."""
    from islet_imaging.reading.names import split_token

    single: dict[int, Path] = {}
    for k, layers in enumerate(groups):
        tag = tag_of(layers[0])
        if len(layers) == 1 and tag.get("session") is None and len(tag.get("paths") or ()) == 1:
            single[k] = Path(tag["paths"][0])
    stems = [path.name.split(".")[0] for path in single.values()]
    sets: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for k, path in single.items():
        split = split_token(path.name.split(".")[0], stems)
        if split is not None:
            key = (path.parent, split[0], *groups[k][0].data.shape)
            sets.setdefault(key, []).append((k, split[1]))
    members = {k: found for found in sets.values() if len(found) > 1 for k, _ in found}
    out: list[tuple[list[Any], str, tuple[str, ...]]] = []
    for k, layers in enumerate(groups):
        found = members.get(k)
        if found is None:
            out.append((layers, "", ()))
        elif found[0][0] == k:  # where the first of them is
            head = next(key[1] for key, held in sets.items() if held is found)
            tokens = tuple(token for _, token in found)
            out.append(([groups[m][0] for m, _ in found], head, tokens))
    return out


def is_stain(layer: Any) -> bool:
    """Whether a layer can be a channel: a plane or a z-stack of intensities, no outline of ours.

    Three axes in a layer from elsewhere may be channels as well: those are asked about.
    """
    if type(layer).__name__ != "Image" or getattr(layer, "rgb", False):
        return False
    axes = (2, 3) if "channel" in tag_of(layer) else (2,)
    return layer.ndim in axes and "role" not in tag_of(layer)


def split_colours(viewer: napari.Viewer, layer: Any) -> list[Any]:
    """Three stains of a picture of red, green and blue; the picture is hidden."""
    pixels = np.asarray(layer.data)
    made = [
        viewer.add_image(
            np.ascontiguousarray(pixels[..., k]),
            name=name,
            colormap=name,
            blending="additive",
            scale=layer.scale,
            units=layer.units,
            metadata={KEY: {"image": layer.name, "channel": name, "paths": [], "picture": layer}},
        )
        for k, name in enumerate(("red", "green", "blue"))
    ]
    layer.visible = False
    return made


def keep_colours(scored: StainedImage, layers: Iterable[Any]) -> None:
    """Give layers of a run the colours that the same channels had in the scored image."""
    known = {
        name.casefold(): layer.colormap
        for name, layer in zip(scored.channels, scored.layers, strict=True)
    }
    for layer in layers:
        colours = known.get(file_channel(layer).casefold()) if "channel" in tag_of(layer) else None
        if colours is not None and colours != layer.colormap:
            layer.colormap = colours


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


def pixel_size_of(layer: Any) -> float | None:
    """A layer's pixel size in um, None where it states none."""
    tag = tag_of(layer)
    if "pixel_size_um" in tag:
        size = tag["pixel_size_um"]
        return None if size is None else float(size)
    unit = str(layer.units[-1])
    return float(layer.scale[-1]) if unit in _MICRON else None
