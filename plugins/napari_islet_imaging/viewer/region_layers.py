"""Regions in the viewer: shapes layers of what is islet and what is left out.

The idea: two shapes layers, *Islets* and *Left out*, are drawn or brought and become outlines in
pixels of their image, whatever a layer is scaled in; regions of a run come back as such layers,
with their names.  An outline with holes or further parts is one shape, as napari draws such (its
rings joined by seams without width), so that all of it is seen, moved and turned together.  What
was changed is in the journal before another image's take its place.
It fails for lines and paths, which enclose nothing, and says so; and a corner of a seam that is
dragged away leaves one outline along the seam, which encloses what is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from islet_imaging.errors import IsletImagingError
from islet_imaging.reading.annotations import Outline
from napari_islet_imaging.session.layer_data import KEY, placement
from napari_islet_imaging.viewer.layers import layers_of, session_layer, tag_of

if TYPE_CHECKING:
    import napari
    from numpy.typing import NDArray

    from napari_islet_imaging.session.review import ReviewSession
    from napari_islet_imaging.viewer.stained import StainedImage

#: role and name of the layer of each kind of region, and its colour
LAYERS = {
    "islet": ("drawn islets", "Islets", "#ffffff"),
    "left_out": ("drawn left out", "Left out", "#ff5c8a"),
}
#: an outline is so many times thinner than the image is wide: seen whole, no line falls between
#: the pixels of the screen
_LINES = 300.0
#: corners that an ellipse becomes
_CORNERS = 64


def kind_of(layer: Any) -> str | None:
    """What regions a layer holds, by its role or its name; None for other layers."""
    if type(layer).__name__ != "Shapes":
        return None
    for kind, (role, name, _) in LAYERS.items():
        if tag_of(layer).get("role") == role or layer.name.casefold().startswith(name.casefold()):
            return kind
    return None


def layers_for(viewer: napari.Viewer, image: StainedImage) -> list[tuple[str, Any]]:
    """Kind and layer of the regions that belong to an image."""
    found = []
    for layer in viewer.layers:
        kind, tag = kind_of(layer), tag_of(layer)
        if kind is None or tag.get("session") not in (None, image.session):
            continue
        if tag.get("session") is None and tag.get("for") not in (None, image.name):
            continue
        found.append((kind, layer))
    return found


def layer_for(viewer: napari.Viewer, image: StainedImage, kind: str) -> Any:
    """The layer to draw regions of a kind in; made where there is none."""
    there = [layer for held, layer in layers_for(viewer, image) if held == kind]
    if there:
        return there[0]
    stain = image.layers[0]
    return _add(
        viewer,
        kind,
        {"scale": tuple(stain.scale)[-2:], "units": tuple(stain.units)[-2:]},
        stain.data.shape[-2:],
        {"for": image.name, "session": image.session},
    )


def _add(
    viewer: napari.Viewer,
    kind: str,
    placed: dict[str, Any],
    shape: Sequence[int],
    tag: dict[str, Any],
) -> Any:
    import pandas as pd

    role, name, colour = LAYERS[kind]
    layer = viewer.add_shapes(
        name=name,
        ndim=2,
        face_color="transparent",
        edge_color=colour,
        edge_width=max(1.0, max(shape) / _LINES),
        features=pd.DataFrame({"name": pd.Series([], dtype=object)}),
        text={"string": "{name}", "color": colour, "size": 9},
        metadata={KEY: {**tag, "role": role}},
        **placed,
    )
    layer.feature_defaults = {"name": ""}
    return layer


def outlines_in(viewer: napari.Viewer, image: StainedImage) -> list[Outline] | None:
    """The regions of an image as drawn, in its pixels; None where there is no layer for any.

    Raises
    ------
    IsletImagingError
        If something encloses nothing, or lies outside the image.
    """
    from islet_imaging.reading.annotations.regions import checked_regions

    layers = layers_for(viewer, image)
    if not layers:
        return None
    stain = image.layers[0]
    found = [one for kind, layer in layers for one in _outlines(layer, stain, kind)]
    shape = (int(stain.data.shape[-2]), int(stain.data.shape[-1]))
    return checked_regions(found, shape)


def _outlines(layer: Any, stain: Any, kind: str) -> list[Outline]:
    names = list(layer.features["name"]) if "name" in layer.features else []
    found = []
    for number, (shape, corners) in enumerate(zip(layer.shape_type, layer.data, strict=True)):
        if shape in ("line", "path"):
            raise IsletImagingError(
                f"Shape {number + 1} of the layer '{layer.name}' is a {shape}, which encloses "
                "nothing: draw a polygon, an ellipse or a rectangle around what is meant."
            )
        points = np.asarray(corners, float)[:, -2:]
        if shape == "ellipse":
            points = _ellipse(points)
        rings = [np.array([_in_pixels(layer, stain, p) for p in ring]) for ring in parted(points)]
        name = str(names[number]) if number < len(names) and names[number] == names[number] else ""
        found.append(Outline(tuple(rings), "" if name == "None" else name, kind))
    return found


def _ellipse(corners: Any) -> Any:
    """Points of the ellipse in a box of four corners."""
    middle = corners.mean(axis=0)
    one, two = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    angle = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)[:, None]
    return middle + one * np.cos(angle) + two * np.sin(angle)


def _in_pixels(layer: Any, stain: Any, point: Any) -> Any:
    """A point of a layer in pixels of a stain, whatever the two are scaled in."""
    inside = np.zeros(layer.ndim)
    inside[-2:] = point
    world = np.zeros(stain.ndim)
    world[-2:] = np.asarray(layer.data_to_world(inside))[-2:]
    return np.asarray(stain.world_to_data(world))[-2:]


def bring(viewer: napari.Viewer, image: StainedImage, path: Path) -> None:
    """Put the regions of a file into the layers of an image.

    Raises
    ------
    IsletImagingError
        If the file cannot be used.
    """
    from islet_imaging.reading.annotations import read_regions

    stain = image.layers[0]
    shape = (int(stain.data.shape[-2]), int(stain.data.shape[-1]))
    outlines = read_regions(path, shape)
    for kind in LAYERS:
        own = [o for o in outlines if o.kind == kind]
        if own:
            _fill(layer_for(viewer, image, kind), own)


def _fill(layer: Any, outlines: Sequence[Outline]) -> None:
    """Show these outlines in a layer, instead of what it held."""
    import pandas as pd

    layer.selected_data = set()
    layer.data = []
    if outlines:
        layer.add([joined(o.rings) for o in outlines], shape_type="polygon")
    layer.features = pd.DataFrame({"name": [o.name for o in outlines]}, dtype=object)
    layer.feature_defaults = {"name": ""}
    layer.refresh()


def show(viewer: napari.Viewer, session: ReviewSession) -> None:
    """Show what is drawn in the session's open image, as its run holds it."""
    opened = session.open
    if opened is None:
        return
    active = viewer.layers.selection.active
    outlines = session.run.regions().get(opened.name, [])
    for kind, (role, _, _) in LAYERS.items():
        own = [o for o in outlines if o.kind == kind]
        layer = session_layer(viewer, session, role) or _waiting(viewer, session, role)
        if layer is None and not own:
            continue
        if layer is None:
            placed = placement_of(opened.pixel_size_um)
            layer = _add(viewer, kind, placed, opened.labels.shape, {"session": session})
        placed = placement_of(opened.pixel_size_um)
        layer.scale, layer.units = placed["scale"], placed["units"]
        _fill(layer, own)
        tag = {**tag_of(layer), "role": role, "session": session, "of": opened.name}
        layer.metadata[KEY] = {**tag, "held": _state(layer)}
    if active is not None and active in viewer.layers:  # clicks go on to the layer they went to
        viewer.layers.selection.active = active


def _waiting(viewer: napari.Viewer, session: ReviewSession, role: str) -> Any:
    """A layer that was drawn before its run was there."""
    run = str(session.run.path)
    found = (x for x in viewer.layers if tag_of(x).get("run") == run)
    return next((x for x in found if tag_of(x).get("role") == role), None)


def placement_of(pixel_size_um: float | None) -> dict[str, Any]:
    """Scale and units of a layer of shapes."""
    placed = placement(pixel_size_um)
    return {"scale": placed["scale"], "units": placed["units"]}


def keep_changed(viewer: napari.Viewer, session: ReviewSession) -> bool:
    """Write regions that were changed into the journal; whether there were any.

    Raises
    ------
    IsletImagingError
        If a shape encloses nothing or lies outside the image.
    """
    from islet_imaging.reading.annotations.regions import checked_regions
    from islet_imaging.review.journal import Journal
    from islet_imaging.review.regions import region_edit, regions_digest

    own = [(kind, layer) for kind, (role, _, _) in LAYERS.items()
           if (layer := session_layer(viewer, session, role)) is not None]  # fmt: skip
    names = {str(tag_of(layer)["of"]) for _, layer in own if tag_of(layer).get("of")}
    if session.open is not None and not names:
        names = {session.open.name}
    stains = [x for x in layers_of(viewer, session) if "channel" in tag_of(x)]
    if len(names) != 1 or not stains or all(_unchanged(layer) for _, layer in own):
        return False
    (name,) = names
    held = session.run.regions().get(name, [])
    found = [one for kind, layer in own for one in _outlines(layer, stains[0], kind)]
    drawn = checked_regions(found, (int(stains[0].data.shape[-2]), int(stains[0].data.shape[-1])))
    for _, layer in own:
        tag_of(layer)["held"] = _state(layer)
    if regions_digest(drawn) == regions_digest(held):
        return False
    Journal(session.run.corrections).append(region_edit(session.reviewer, name, drawn))
    return True


def keep_or_tell(viewer: napari.Viewer, session: ReviewSession) -> None:
    """As `keep_changed`; what cannot be kept is told in the window."""
    from napari.utils.notifications import show_warning

    try:
        keep_changed(viewer, session)
    except IsletImagingError as error:
        show_warning(f"Regions were not kept: {error}")


def _unchanged(layer: Any) -> bool:
    return bool(tag_of(layer).get("held") == _state(layer))


def hand_over(viewer: napari.Viewer, image: StainedImage, run: Path) -> None:
    """Say which run the layers of an image's regions belong to from now on."""
    for kind, layer in layers_for(viewer, image):
        layer.metadata[KEY] = {**tag_of(layer), "role": LAYERS[kind][0], "run": str(run)}


def joined(rings: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One path around all rings of an outline, there and back between them along seams.

    Parameters
    ----------
    rings : sequence of ndarray, each shape (n, 2)
        As of an `Outline`.

    Returns
    -------
    ndarray of float64, shape (m, 2)
        Seams are passed twice, so that the same pixels lie inside by the even-odd rule.

    Examples
    --------
    >>> square = np.array([[0.0, 0.0], [0.0, 9.0], [9.0, 9.0], [9.0, 0.0]])
    >>> path = joined([square, square / 3 + 3])
    >>> len(path), [ring.tolist() for ring in parted(path)][1][0]
    (10, [3.0, 3.0])
    """
    start = rings[0][:1]
    path = [rings[0]]
    for ring in rings[1:]:
        path += [start, ring, ring[:1]]
    return np.concatenate(path)


def parted(path: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The rings that `joined` made a path of; a path without seams is one ring.

    Parameters
    ----------
    path : ndarray of float64, shape (m, 2)
        Of a polygon in the viewer, moved or turned or not.
    """
    near = 1e-6 * max(1.0, float(np.ptp(path, axis=0).max()))

    def same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
        return bool(np.abs(one - other).max() <= near)

    turns = [k for k in range(len(path)) if same(path[k], path[0])]
    ends = [*turns[1:], len(path)]
    rings = [path[: ends[0]]]
    for begin, end in zip(turns[1:], ends[1:], strict=True):
        ring = path[begin + 1 : end]
        if len(ring) < 4 or not same(ring[0], ring[-1]):
            return [path]  # a corner at a seam was moved alone: what is seen is one outline
        rings.append(ring[:-1])
    return rings


def _state(layer: Any) -> list[Any]:
    """What tells whether a layer's shapes were changed."""
    names = list(layer.features["name"]) if "name" in layer.features else []
    return [[np.round(d, 3).tobytes() for d in layer.data], list(layer.shape_type), names]
