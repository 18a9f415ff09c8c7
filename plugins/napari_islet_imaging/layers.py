"""Layers of stained images and of runs, with scale, units, names and colours.

The idea: one place makes all layers, so that every one carries the pixel size in um, raw pixels are
locked where napari can lock them, and an image of another pixel size in the same viewer lies right.
It fails to place an image whose pixel size nobody knows: that one is shown in pixels, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.colours import CATEGORIES, SELECTED, SELECTED_COLOUR, stain_colours

if TYPE_CHECKING:
    import napari
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.image import IsletImage
    from napari_islet_imaging.opened import OpenImage
    from napari_islet_imaging.session import ReviewSession

LayerData = tuple[Any, dict[str, Any], str]
KEY = "islet_imaging"


def placement(pixel_size_um: float | None) -> dict[str, Any]:
    """Scale, units and axes that every layer of an image shares."""
    size = pixel_size_um or 1.0
    unit = "um" if pixel_size_um else "pixel"
    return {"scale": (size, size), "units": (unit, unit), "axis_labels": ("y", "x")}


def contrast(pixels: NDArray[Any]) -> tuple[float, float]:
    """Limits that show background as black and the brightest cells short of white."""
    step = max(1, int(np.sqrt(pixels.size / 250_000)))
    sample = np.asarray(pixels[::step, ::step], np.float32)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = np.percentile(sample, [2.0, 99.7])
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def channel_layers(image: IsletImage, *, shown_name: str | None = None) -> list[LayerData]:
    """One image layer per channel."""
    name = image.name if shown_name is None else shown_name
    made: list[LayerData] = []
    for channel, colour in zip(
        image.channel_names, stain_colours(image.channel_names), strict=True
    ):
        pixels = np.asarray(image.channel(channel))
        limits = contrast(pixels)
        made.append(
            (
                pixels,
                {
                    "name": channel,
                    "colormap": colour,
                    "blending": "additive",
                    "contrast_limits": limits,
                    **placement(image.pixel_size_um),
                    "metadata": {
                        KEY: {
                            "image": name,
                            "channel": channel,
                            "contrast": limits,
                            "pixel_size_um": image.pixel_size_um,
                            # a path would name a blinded image
                            "paths": [str(p) for p in image.paths] if name == image.name else [],
                        }
                    },
                },
                "image",
            )
        )
    return made


def outline_options(colours: dict[int, str]) -> dict[str, Any]:
    """How an image of outlines is shown: a colour per value, 0 is seen through.

    It is no labels layer: there, napari's undo would take back what was drawn and its brush would
    paint over it, and a colormap of its own is compiled for seconds at its first use.
    """
    from napari.utils.colormaps import Colormap

    values = range(1, max(colours) + 1)
    shown = ["transparent", *(colours.get(v, "transparent") for v in values)]
    steps = np.linspace(0.0, 1.0, len(shown) + 1)
    return {
        "colormap": Colormap(shown, name="calls", controls=steps, interpolation="zero"),
        "contrast_limits": (0.0, float(len(values))),
        "interpolation2d": "nearest",
        "blending": "translucent",
        "opacity": 1.0,
    }


def call_colours() -> dict[int, str]:
    """Colour of each value in the image of the calls' outlines."""
    shown = {value: colour for value, (_, colour, _) in CATEGORIES.items()}
    return {**shown, SELECTED: SELECTED_COLOUR}


def features(table: pd.DataFrame) -> pd.DataFrame:
    """The cells table as features of a labels layer; ``index`` ties a row to its label."""
    shown = table.drop(columns=["image"], errors="ignore").copy()
    shown.insert(0, "index", shown["cell"].astype(int))
    return shown


def lock(layer: Any) -> None:
    """Lock a layer of raw pixels or of drawn calls, in versions of napari that can."""
    tag = tag_of(layer)
    raw = "channel" in tag or tag.get("role") in ("islets", "calls", "focus")
    if raw and hasattr(type(layer), "locked"):
        layer.locked = True


def run_layers(session: ReviewSession, opened: OpenImage | None = None) -> list[LayerData]:
    """Layers of an image of a run: channels, islets, nuclei, outlines of the calls.

    Parameters
    ----------
    session : ReviewSession
        The review.
    opened : OpenImage, optional
        By default the session's open image.
    """
    opened = session.open if opened is None else opened
    if opened is None:
        return []
    where = placement(opened.pixel_size_um)
    shown = session.shown_name(opened.name)
    tag = {"image": shown, "session": session}
    made = channel_layers(opened.image, shown_name=shown)
    sources = {c.name: c.source or c.name for c in session.run.protocol.channels}
    for _, options, _ in made:
        channel = options["metadata"][KEY]
        channel |= {"session": session, "source": sources.get(channel["channel"])}
    made.append(
        (
            _islet_rims(opened.islets, opened.pixel_size_um),
            {
                "name": "islets",
                **outline_options({1: "#d0d0d0"}),
                "opacity": 0.6,
                "metadata": {KEY: {**tag, "role": "islets"}},
                **where,
            },
            "image",
        )
    )
    made.append(
        (
            opened.labels,
            {
                "name": "nuclei",
                "opacity": 0.35,
                "visible": False,
                "features": features(session.tables[opened.name]),
                "metadata": {KEY: {**tag, "role": "nuclei"}},
                **where,
            },
            "labels",
        )
    )
    made.append(
        (
            opened.outlines,
            {
                "name": "calls",
                **outline_options(call_colours()),
                "metadata": {KEY: {**tag, "role": "calls"}},
                **where,
            },
            "image",
        )
    )
    return made


def _islet_rims(islets: NDArray[np.int32], pixel_size_um: float | None) -> NDArray[np.uint8]:
    """Outer rim of each islet's smoothed shape, 1 px to 3 um wide."""
    from napari_islet_imaging.outlines import draw_outlines, line_width_px

    top = int(islets.max(initial=0))
    lookup = np.ones(top + 1, np.uint8)
    lookup[0] = 0
    drawn = draw_outlines(
        islets,
        lookup * 2,
        np.zeros((top + 1, 2), np.float32),
        width_px=line_width_px(pixel_size_um),
    )
    return (drawn > 0).astype(np.uint8)


def create(made: LayerData) -> Any:
    """A layer of what was made here; not yet in a viewer, so any thread may do it."""
    from napari.layers import Layer

    data, options, kind = made
    return Layer.create(data, options, kind)


def add_layers(viewer: napari.Viewer, made: list[LayerData]) -> None:
    """Add layers made here to a viewer."""
    for one in made:
        layer = create(one)
        viewer.add_layer(layer)
        lock(layer)


def renew(layer: Any, made: LayerData) -> None:
    """Show another image's data in a layer; what the user chose for the layer stays chosen."""
    data, options, _ = made
    before = tag_of(layer)
    if type(layer).__name__ == "Labels":
        # its undo belongs to the image before: napari forgets it with this
        layer.editable = False
        layer.editable = True
    if layer.data is not data:
        layer.data = data
    if tuple(layer.scale) != tuple(options["scale"]):
        layer.scale, layer.units = options["scale"], options["units"]
    tag = options["metadata"][KEY]
    layer.metadata[KEY] = tag
    if "features" in options:
        layer.features = options["features"]
    if "contrast" in tag:
        if tuple(layer.contrast_limits) == tuple(before.get("contrast", ())):
            layer.contrast_limits = tag["contrast"]
        else:
            tag["contrast"] = ()  # the user's own, kept from image to image


def same_place(tag: Mapping[str, Any], made: LayerData) -> bool:
    """Whether a layer of this tag shows what was made, of this or of another image of the run."""
    wanted = made[1]["metadata"][KEY]
    return all(tag.get(k) == wanted.get(k) for k in ("session", "role", "channel"))


def tag_of(layer: Any) -> dict[str, Any]:
    """What was noted on a layer that was made here; empty for others."""
    tag: dict[str, Any] = layer.metadata.get(KEY, {})
    return tag


def file_channel(layer: Any) -> str:
    """Name of a layer's channel in its file; the layer's own for layers not made here."""
    tag = tag_of(layer)
    return str(tag.get("source") or tag.get("channel") or layer.name)


def heirs(session: ReviewSession, layers: Iterable[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """Layers in which a new run of the same image can be shown, each with its tag in that run.

    Whenever a layer is removed, napari collects garbage and the window stands still for a third of
    a second; so what was scored is not replaced by the run's layers but becomes them.

    Parameters
    ----------
    session : ReviewSession
        The new run.
    layers : iterable of layers
        Those of what was scored, and of the run before; the first for a place has it.
    """
    names = {(c.source or c.name).casefold(): c.name for c in session.run.protocol.channels}
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for layer in layers:
        tag = {**tag_of(layer), "session": session}
        if "channel" in tag:
            tag["channel"] = names.get(file_channel(layer).casefold())
        place = tag.get("channel") or tag.get("role")
        if place:
            found.setdefault(place, (layer, tag))
    return list(found.values())


def show_scale_bar(viewer: napari.Viewer) -> None:
    """Show the scale bar, which reads the layers' units; its place in the API moved in 0.9."""
    canvas = getattr(viewer, "canvas", None)
    bar = canvas.overlays.scale_bar if canvas is not None else viewer.scale_bar
    bar.visible = True


def camera_of(viewer: napari.Viewer) -> Any:
    """The camera, whose place in the API moved in 0.9."""
    scene = getattr(viewer, "scene", None)
    return scene.camera if scene is not None else viewer.camera


def find_session(viewer: napari.Viewer) -> ReviewSession | None:
    """The session whose layers are in the viewer, the newest first."""
    for layer in reversed(viewer.layers):
        session = tag_of(layer).get("session")
        if session is not None:
            return session  # type: ignore[no-any-return]
    return None


def layers_of(viewer: napari.Viewer, session: ReviewSession | None) -> list[Any]:
    """A session's layers; none without a session."""
    return [x for x in viewer.layers if session is not None and tag_of(x).get("session") is session]


def session_layer(viewer: napari.Viewer, session: ReviewSession, role: str) -> Any:
    """A layer of the session by its role, None if it was removed."""
    found = (x for x in layers_of(viewer, session) if tag_of(x).get("role") == role)
    return next(found, None)
