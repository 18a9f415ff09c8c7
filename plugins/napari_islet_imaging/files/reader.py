"""Readers: stained images as named, coloured, scaled layers, and run folders.

The idea: `islet_imaging.read_image` and `Run.open` do the reading; here their results become
layers.  A file that is no stained image is left to other readers.
It fails, with the library's own message, for a file whose channels or axes cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from islet_imaging.errors import ImageReadError
from islet_imaging.reading.multifile import SUFFIXES

LayerData = tuple[Any, dict[str, Any], str]
#: pictures for the eye (png, jpg) are left to napari's own reader
_ENDINGS = tuple(e for e in SUFFIXES if e not in (".png", ".jpg", ".jpeg"))


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader for a path, or None (npe2's rule)."""
    paths = [Path(p) for p in ([path] if isinstance(path, str | Path) else path)]
    if len(paths) == 1 and paths[0].is_dir():
        return read_run if (paths[0] / "provenance.json").is_file() else None
    if all(p.suffix.lower() in _ENDINGS for p in paths):
        return read_stained
    return None


def read_stained(path: str | Sequence[str]) -> list[LayerData]:
    """A stained image; several files are its channels, a z-stack keeps its planes.

    A TIFF whose axes cannot be told is opened as it lies, to be split by hand.
    """
    from islet_imaging.reading import read_image
    from islet_imaging.reading.read import open_source
    from napari_islet_imaging.session.garbage import leave_modules_out
    from napari_islet_imaging.session.layer_data import channel_layers, stack_layers

    leave_modules_out()
    one = path if isinstance(path, str | Path) else path[0] if len(path) == 1 else None
    try:
        planes = 1 if one is None else open_source(Path(one)).n_planes
        if one is None or planes < 2:
            made = channel_layers(read_image(path))
            return made if one is None else _by_file_name(Path(one), made)
        return stack_layers(
            [read_image(one, projection="plane", plane=plane) for plane in range(planes)]
        )
    except ImageReadError as error:
        if one is None or Path(one).suffix.lower() not in (".tif", ".tiff"):
            raise
        return _as_it_lies(Path(one), error)


def _by_file_name(path: Path, made: list[LayerData]) -> list[LayerData]:
    """A file of one channel that it does not name is shown by what its own name calls it."""
    from islet_imaging.reading.names import known_stain, split_token
    from napari_islet_imaging.session.colours import stain_colours

    found = split_token(path.name.split(".")[0])
    if len(made) != 1 or found is None or made[0][1]["name"] != "channel 1":
        return made
    token = found[1]
    stain = known_stain(token)
    pixels, options, kind = made[0]
    colour = stain_colours([stain[0] if stain else token])[0]
    return [(pixels, {**options, "name": token, "colormap": colour}, kind)]


def _as_it_lies(path: Path, error: Exception) -> list[LayerData]:
    """The pixels of a TIFF that does not say what its axes are, with what is missing said."""
    import tifffile
    from napari.utils.notifications import show_warning

    try:
        pixels = tifffile.imread(path)
    except (OSError, ValueError):
        raise error from None
    show_warning(f"Opened as it lies in the file. {error}")
    return [(pixels, {"name": path.stem}, "image")]


def read_run(path: str | Sequence[str]) -> list[LayerData]:
    """A run folder: the image most worth a look, ready for review."""
    from islet_imaging.run.folder import Run
    from napari_islet_imaging.session.drawing import draw_calls
    from napari_islet_imaging.session.layer_data import run_layers
    from napari_islet_imaging.session.review import ReviewSession

    folder = path if isinstance(path, str | Path) else path[0]
    session = ReviewSession(Run.open(folder))
    names = session.image_names
    if names:
        draw_calls(session, session.open_image(names[0]))
    return run_layers(session)
