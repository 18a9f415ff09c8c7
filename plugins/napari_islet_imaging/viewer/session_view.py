"""Keeping a viewer's layers in step with a review session.

The idea: the session says what changed; this puts exactly that into the layers: the outlines of an
edited cell, a ring around the cell in focus, another image's pixels.  Opening an image is read and
drawn in a thread, and its layers come one in a turn of the event loop, so that the window goes on
listening.
It fails quietly where the user removed a layer: what is not there is not updated, and comes back
with the next image.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.session import layer_data
from napari_islet_imaging.session.drawing import CallOutlines, draw_calls
from napari_islet_imaging.viewer import layers, region_layers
from napari_islet_imaging.viewer.one_channel import OneChannel
from napari_islet_imaging.viewer.picking import pick_with_clicks
from napari_islet_imaging.viewer.turns import TURN_MS, in_thread

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session.opened import OpenImage
    from napari_islet_imaging.session.outlines import Region
    from napari_islet_imaging.session.review import ReviewSession

#: the layer's features follow this long after the last edit, ms
_FEATURES_AFTER_MS = 700
#: how often the journal is asked for edits of other windows, ms
_OTHERS_EVERY_MS = 2000
FOCUS = "cell in focus"


def view_of(viewer: napari.Viewer, session: ReviewSession) -> SessionView:
    """The one view of a session, made where there is none yet; a session is in one viewer."""
    if not isinstance(session.view, SessionView):
        session.view = SessionView(viewer, session)
    return session.view


def prepare(
    session: ReviewSession, name: str, there: list[dict[str, Any]]
) -> tuple[OpenImage, list[Any]]:
    """Read and draw an image and make the layers that it needs; any thread may do it.

    Parameters
    ----------
    session : ReviewSession
        Nobody may edit it meanwhile.
    name : str
        The image.
    there : list of dict
        Tags of the layers that are there; for those that can take the image's data none is made.

    Returns
    -------
    (OpenImage, list)
        The image, and a layer or what an existing layer is given.
    """
    opened = draw_calls(session, session.load(name))
    made = layer_data.run_layers(session, opened)
    return opened, [
        one if any(layers.same_place(tag, one) for tag in there) else layers.create(one)
        for one in made
    ]


class SessionView:
    """One session shown in one viewer; it lives as long as the session.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    session : ReviewSession
        What to show.
    """

    def __init__(self, viewer: napari.Viewer, session: ReviewSession) -> None:
        self.viewer = viewer
        self.session = session
        session.image_opened.connect(self._on_image)
        #: what is drawn of the open image
        self.outlines = CallOutlines(session)
        self.outlines.changed.connect(self._on_outlines)
        session.cells_changed.connect(self._on_cells)
        session.focus_changed.connect(self._on_focus)
        session.settings_changed.connect(self.rename)
        session.display_changed.connect(self.update_features)
        self._alone = OneChannel()
        #: the image that is being opened, empty if none
        self.opening = ""
        self._prepared: list[Any] | None = None
        self._steps: list[Callable[[], object]] = []
        self._then: Callable[[], object] | None = None
        self._begun = False
        self._features = QTimer()
        self._features.setSingleShot(True)
        self._features.setInterval(_FEATURES_AFTER_MS)
        self._features.timeout.connect(self.update_features)
        # what another window writes into the journal is seen here as well
        self._others = QTimer()
        self._others.setInterval(_OTHERS_EVERY_MS)
        self._others.timeout.connect(self._catch_up)
        self._others.start()
        pick_with_clicks(viewer, session, self._is_seen)
        for layer in self._own_layers():  # those that a reader made
            layers.lock(layer)

    # ------------------------------------------------------------ layers

    def layer(self, role: str) -> Any:
        """A layer of the session, or None."""
        return layers.session_layer(self.viewer, self.session, role)

    def restore(self, role: str) -> Any:
        """A layer of the open image, put back where it was removed; None without an image."""
        layer = self.layer(role)
        if layer is None and self.session.open is not None:
            for made in layer_data.run_layers(self.session):
                if made[1]["metadata"][layer_data.KEY].get("role") == role:
                    self._placing(made)()
            self._raise_outlines()
            layer = self.layer(role)
        return layer

    def show(self) -> None:
        """Put the open image into the viewer, unless it is there already."""
        if self.session.open is not None and self.layer("calls") is None and not self.opening:
            self._on_image(self.session.open.name)

    def open(self, name: str, then: Callable[[], object], failed: Callable[[str], object]) -> None:
        """Open an image without holding up the window.

        Parameters
        ----------
        name : str
            The image.
        then : callable
            Called when its layers are there.
        failed : callable
            Gets the message of what went wrong; the image before stays open.
        """
        if self.opening:
            return
        self.opening = name

        def stop(message: str) -> None:
            self.opening = ""
            failed(message)

        there = [layers.tag_of(layer) for layer in self.viewer.layers]
        in_thread(
            lambda: prepare(self.session, name, there),
            lambda found: self.show_prepared(found[0], found[1], then),
            stop,
        )

    def show_prepared(
        self, opened: OpenImage, prepared: list[Any], then: Callable[[], object] | None = None
    ) -> None:
        """Open a prepared image, a layer in a turn of the event loop."""
        self.opening = opened.name
        self._prepared, self._then = prepared, then
        self.session.set_open(opened)

    def _on_image(self, name: str) -> None:
        region_layers.keep_or_tell(self.viewer, self.session)
        made, self._prepared = self._prepared, None
        first = self.layer("calls") is None
        in_turns = made is not None
        if made is None:
            made = list(layer_data.run_layers(self.session))
        self._steps = [
            self._hide_focus,
            *(self._placing(one) for one in made),
            self._drop_others,
            self._raise_outlines,
        ]
        if first:
            for layer in self.viewer.layers:  # two images would shine through each other
                if layers.tag_of(layer).get("session") not in (None, self.session):
                    layer.visible = False
            self._steps += [
                lambda: layers.show_scale_bar(self.viewer),
                lambda: self._focus_layer(create=True),
                self._select_calls,
            ]
        self._steps += [self._reset_view, lambda: region_layers.show(self.viewer, self.session)]
        if in_turns:
            if first:
                # Python walks all its objects sooner or later, a fifth of a second beside napari:
                # in a turn of its own it does not come on top of a layer that is added
                self._steps.insert(0, gc.collect)
            self._begun = bool(self._own_layers())
            QTimer.singleShot(TURN_MS, self._step)
            return
        while self._steps:
            self._steps.pop(0)()

    def _step(self) -> None:
        if self._begun and not self._own_layers():
            self._steps.clear()  # the layers were taken away, or the window is closing
            self.opening = ""
        elif self._steps:
            self._steps.pop(0)()
            self._begun = bool(self._own_layers())
            QTimer.singleShot(TURN_MS, self._step)
        else:
            self.opening = ""
            then, self._then = self._then, None
            if then is not None:
                then()

    def _own_layers(self) -> list[Any]:
        return layers.layers_of(self.viewer, self.session)

    def turn_grey(self) -> None:
        """Show only the channel of the marker under review, in grey; or all colours again."""
        if self._alone.on:
            self._alone.restore()
        else:
            marker = self.session.marker or self.session.protocol.dna
            self._alone.show(self._own_layers(), marker)

    def image_hidden(self) -> bool:
        """Whether all stains of the open image are hidden, as beside an image of another run."""
        stains = [x for x in self._own_layers() if "channel" in layers.tag_of(x)]
        return bool(stains) and not any(x.visible for x in stains)

    def _catch_up(self) -> None:
        if not self._own_layers() or self.opening:
            return
        nuclei = self.layer("nuclei")
        if nuclei is not None and str(nuclei.mode) != "pan_zoom":
            return  # not under the brush
        with contextlib.suppress(IsletImagingError):  # a torn line, or a disk that is gone
            self.session.catch_up()

    def _is_seen(self) -> bool:
        return bool(self._own_layers()) and not self.image_hidden()

    def _placing(self, made: Any) -> Callable[[], None]:
        """Put a layer, or what one is made of, into the viewer."""

        def place() -> None:
            if isinstance(made, tuple):
                for layer in self.viewer.layers:
                    if layers.same_place(layers.tag_of(layer), made):
                        layers.renew(layer, made)
                        return
            layer = layers.create(made) if isinstance(made, tuple) else made
            self.viewer.add_layer(layer)
            layers.lock(layer)

        return place

    def _drop_others(self) -> None:
        """Take away channels that the open image lacks."""
        opened = self.session.open
        there = {*opened.image.channel_names, None} if opened is not None else set()
        for layer in self._own_layers():
            if layer.metadata[layer_data.KEY].get("channel") not in there:
                self.viewer.layers.remove(layer)

    def _raise_outlines(self) -> None:
        """Lay outlines over the stains, where layers of another order became those of the run."""
        shown = self.viewer.layers
        stains = [k for k, x in enumerate(shown) if "channel" in layers.tag_of(x)]
        for role in ("islets", "nuclei", "calls", "focus"):
            layer = self.layer(role)
            if layer is not None and stains and shown.index(layer) < stains[-1]:
                shown.move(shown.index(layer), len(shown))
                stains = [k for k, x in enumerate(shown) if "channel" in layers.tag_of(x)]

    def _select_calls(self) -> None:
        self.viewer.layers.selection.active = self.layer("calls")

    def rename(self) -> None:
        """Show the image's name, or hide it, as the session does now."""
        if self.session.open is not None:
            shown = self.session.shown_name(self.session.open.name)
            for layer in self._own_layers():
                if "image" in layer.metadata[layer_data.KEY]:
                    layer.metadata[layer_data.KEY]["image"] = shown

    def _reset_view(self) -> None:
        opened = self.session.open
        if opened is None:
            return
        size = opened.pixel_size_um or 1.0
        camera = layers.camera_of(self.viewer)
        height, width = (n * size for n in opened.labels.shape)
        camera.center = (height / 2, width / 2)

    def _on_outlines(self, region: Region) -> None:
        calls, opened = self.layer("calls"), self.session.open
        if calls is not None and opened is not None and calls.data is opened.outlines:
            # drawn in place: the layer only has to look again
            calls.refresh(thumbnail=False, highlight=False, extent=False)

    def _on_cells(self, cells: list[int]) -> None:
        nuclei = self.layer("nuclei")
        if nuclei is not None and nuclei.visible:
            nuclei.refresh()
        self._features.start()

    def update_features(self) -> None:
        """Give the nuclei layer the table as it is now; not between two keys, it takes a while."""
        nuclei = self.layer("nuclei")
        if nuclei is not None and self.session.open is not None:
            nuclei.features = layer_data.features(self.session.table, blinded=self.session.hidden)

    # ------------------------------------------------------------ focus

    def _on_focus(self, cell: int) -> None:
        opened = self.session.open
        row = self.session.row(cell) if cell else None
        ring = self._focus_layer(create=row is not None)
        if ring is None:
            return
        if row is None or opened is None:
            if ring.visible:
                ring.visible = False
            return
        size = opened.pixel_size_um or 1.0
        diameter = 2 * np.sqrt(max(float(row["nucleus_area_um2"]), 1.0) / np.pi) / size
        wanted = 2.3 * diameter + 6
        # each change of a layer costs a round through napari: only what must change is changed
        if not 0.8 < float(ring.size[0]) / wanted < 1.25:
            ring.size = wanted
        # the ring stays within the image: nothing but itself has to hear that it moved
        with ring.events.data.blocker(), ring.events.thumbnail.blocker():
            ring.data = np.array([[float(row["y_px"]), float(row["x_px"])]])
        if not ring.visible:
            ring.visible = True

    def centre_on_focus(self) -> None:
        """Move the view to the cell in focus; the zoom is the user's, unless far too small."""
        opened = self.session.open
        row = self.session.row(self.session.focus) if self.session.focus else None
        if opened is None or row is None:
            return
        size = opened.pixel_size_um or 1.0
        camera = layers.camera_of(self.viewer)
        camera.center = (float(row["y_px"]) * size, float(row["x_px"]) * size)
        # a nucleus of 7 um on at least 40 screen pixels
        camera.zoom = max(float(camera.zoom), 40 / 7)

    def _hide_focus(self) -> None:
        ring, opened = self._focus_layer(create=False), self.session.open
        if ring is not None and opened is not None:
            ring.visible = False
            where = layer_data.placement(opened.pixel_size_um)
            if tuple(ring.scale) != where["scale"]:
                ring.scale, ring.units = where["scale"], where["units"]

    def _focus_layer(self, *, create: bool) -> Any:
        ring = self.layer("focus")
        opened = self.session.open
        if ring is not None:
            return ring
        if not create or opened is None:
            return None
        from napari.layers import Points

        active = self.viewer.layers.selection.active
        ring = Points(
            np.zeros((1, 2)),
            name=FOCUS,
            size=20,
            visible=False,
            face_color="transparent",
            border_color="#ff4fd8",
            border_width=0.07,
            symbol="disc",
            metadata={layer_data.KEY: {"session": self.session, "role": "focus"}},
            **layer_data.placement(opened.pixel_size_um),
        )
        self.viewer.add_layer(ring)
        layers.lock(ring)
        self.viewer.layers.selection.active = active
        return ring
