"""Layers in a viewer: made, locked, found again, and given another image's data.

The idea: what belongs to a run is known by a tag in the layer's metadata, so that layers can be
renamed, moved and removed by hand and are found all the same; raw pixels are locked where napari
can lock them.
It fails for a layer whose tag was taken away: it counts as one of the user's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from napari_islet_imaging.session.layer_data import KEY, LayerData

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.review import ReviewSession


def lock(layer: Any) -> None:
    """Lock a layer of raw pixels or of drawn calls, in versions of napari that can."""
    tag = tag_of(layer)
    raw = "channel" in tag or tag.get("role") in ("islets", "calls", "focus")
    if raw and hasattr(type(layer), "locked"):
        layer.locked = True


def create(made: LayerData) -> Any:
    """A layer of what was made here; not yet in a viewer, so any thread may do it."""
    from napari.layers import Layer

    data, options, kind = made
    return Layer.create(data, options, kind)


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


def reusable_layers(
    session: ReviewSession, layers: Iterable[Any]
) -> list[tuple[Any, dict[str, Any]]]:
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
