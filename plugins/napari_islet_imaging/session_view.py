"""Keeping a viewer's layers in step with a review session.

The idea: the session says what changed; this puts exactly that into the layers: the few outline
pixels of an edited cell, a ring around the cell in focus, new layers for a new image.
It fails quietly where the user removed a layer: what is not there is not updated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_islet_imaging import layers as make

if TYPE_CHECKING:
    import napari

    from napari_islet_imaging.session import ReviewSession

Region = tuple[slice, slice]

#: outline changes up to this many pixels are put into the texture by themselves
_PATCH_PX = 250_000
#: the layer's features follow this long after the last edit, ms
_FEATURES_AFTER_MS = 700
FOCUS = "cell in focus"


def view_of(viewer: napari.Viewer, session: ReviewSession) -> SessionView:
    """The one view of a session, made where there is none yet; a session is in one viewer."""
    if not isinstance(session.view, SessionView):
        session.view = SessionView(viewer, session)
    return session.view


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
        session.outlines_changed.connect(self._on_outlines)
        session.cells_changed.connect(self._on_cells)
        session.focus_changed.connect(self._on_focus)
        self._features = QTimer()
        self._features.setSingleShot(True)
        self._features.setInterval(_FEATURES_AFTER_MS)
        self._features.timeout.connect(self.update_features)
        for layer in viewer.layers:  # those that a reader made
            if layer.metadata.get(make.KEY, {}).get("session") is session:
                make.lock(layer)

    # ------------------------------------------------------------ layers

    def layer(self, role: str) -> Any:
        """A layer of the session, or None."""
        return make.session_layer(self.viewer, self.session, role)

    def show(self) -> None:
        """Put the open image into the viewer, unless it is there already."""
        if self.session.open is not None and self.layer("calls") is None:
            self._on_image(self.session.open.name)

    def _on_image(self, name: str) -> None:
        first = self.layer("calls") is None
        hidden = {
            layer.name
            for layer in self.viewer.layers
            if layer.metadata.get(make.KEY, {}).get("session") is self.session and not layer.visible
        }
        make.remove_session_layers(self.viewer, self.session)
        make.add_layers(self.viewer, make.run_layers(self.session))
        if not first:  # what was hidden on the last image stays hidden on this one
            for layer in self.viewer.layers:
                if layer.metadata.get(make.KEY, {}).get("session") is self.session:
                    layer.visible = layer.name not in hidden
        make.show_scale_bar(self.viewer)
        calls = self.layer("calls")
        if calls is not None:
            self.viewer.layers.selection.active = calls
        self._reset_view()

    def _reset_view(self) -> None:
        opened = self.session.open
        if opened is None:
            return
        size = opened.pixel_size_um or 1.0
        camera = make.camera_of(self.viewer)
        height, width = (n * size for n in opened.labels.shape)
        camera.center = (height / 2, width / 2)

    def _on_outlines(self, region: Region) -> None:
        calls, opened = self.layer("calls"), self.session.open
        if calls is None or opened is None:
            return
        rows, columns = region
        if (rows.stop - rows.start) * (columns.stop - columns.start) > _PATCH_PX:
            calls.data[...] = opened.outlines
            calls.refresh(thumbnail=False, highlight=False, extent=False)
            return
        new = opened.outlines[region]
        ys, xs = np.nonzero(calls.data[region] != new)
        if len(ys):
            calls.data_setitem((ys + rows.start, xs + columns.start), new[ys, xs])

    def _on_cells(self, cells: list[int]) -> None:
        nuclei = self.layer("nuclei")
        if nuclei is not None and nuclei.visible:
            nuclei.refresh()
        self._features.start()

    def update_features(self) -> None:
        """Give the nuclei layer the table as it is now; not between two keys, it takes a while."""
        nuclei = self.layer("nuclei")
        if nuclei is not None and self.session.open is not None:
            nuclei.features = make.features(self.session.table)

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
        camera = make.camera_of(self.viewer)
        camera.center = (float(row["y_px"]) * size, float(row["x_px"]) * size)
        # a nucleus of 7 um on at least 40 screen pixels
        camera.zoom = max(float(camera.zoom), 40 / 7)

    def _focus_layer(self, *, create: bool) -> Any:
        for layer in self.viewer.layers:
            tag = layer.metadata.get(make.KEY, {})
            if tag.get("role") == "focus" and tag.get("session") is self.session:
                return layer
        opened = self.session.open
        if not create or opened is None:
            return None
        from napari.layers import Points

        active = self.viewer.layers.selection.active
        ring = Points(
            np.zeros((1, 2)),
            name=FOCUS,
            size=20,
            face_color="transparent",
            border_color="#ff4fd8",
            border_width=0.07,
            symbol="disc",
            metadata={make.KEY: {"session": self.session, "role": "focus"}},
            **make.placement(opened.pixel_size_um),
        )
        self.viewer.add_layer(ring)
        make.lock(ring)
        self.viewer.layers.selection.active = active
        return ring
