"""Score: one image, from the layers in the viewer to called cells.

The idea: the form becomes a protocol, the image (with its controls) becomes a sample sheet, and the
library's folder runner makes a run folder of it in a process of its own, the same way as the shell;
so the numbers are the same, and there is a journal for corrections from the first moment.
It fails, before anything starts, when the pixel size is not known and was not given.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QMessageBox

from islet_imaging.errors import IsletImagingError
from napari_islet_imaging.session.layer_data import placement
from napari_islet_imaging.session.names import login_name
from napari_islet_imaging.viewer import region_layers, words
from napari_islet_imaging.viewer.jobs import Job
from napari_islet_imaging.viewer.layers import layers_of, show_scale_bar, tag_of
from napari_islet_imaging.viewer.loading import load_session
from napari_islet_imaging.viewer.protocols import (
    protocol_of_file,
    protocol_of_run,
    with_channels,
)
from napari_islet_imaging.viewer.put_away import PutAway, layers_of_all
from napari_islet_imaging.viewer.scoring_job import holds_another, lay_out
from napari_islet_imaging.viewer.stained import (
    StainedImage,
    images_in,
    input_folder,
    keep_colours,
    pixel_size_of,
    split_colours,
)
from napari_islet_imaging.viewer.turns import in_turns, while_there
from napari_islet_imaging.widgets.docking import dock_review, switch_session
from napari_islet_imaging.widgets.hand_over import open_report
from napari_islet_imaging.widgets.score_form import NUCLEUS, PICTURE, PLANES, ScoreForm
from napari_islet_imaging.widgets.shares import dock_shares

if TYPE_CHECKING:
    import napari

    from islet_imaging.protocol import Protocol
    from napari_islet_imaging.session.review import ReviewSession


class ScoreWidget(ScoreForm):
    """Score the image in the viewer."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        viewer = self.viewer
        self.job: Job | None = None
        self.protocol: Protocol | None = None
        self.controls: list[Path] = []
        self.session: ReviewSession | None = None
        self._images: dict[str, StainedImage] = {}
        self._put_away = PutAway(viewer)
        self._followed: ReviewSession | None = None
        #: what is being scored, whatever the form is about meanwhile
        self._scoring: StainedImage | None = None
        self._scored_size: float | None = None
        #: whether the layers of a result are coming one after another
        self._arriving = False
        self._connect()
        for signal in (viewer.layers.events.inserted, viewer.layers.events.removed):
            self.connections.add(signal, self.look_at_layers)
        self.connections.later(self.stop_now)
        self.look_at_layers()
        show_scale_bar(viewer)

    def _connect(self) -> None:
        self.image_box.currentTextChanged.connect(self._image_chosen)
        self.image_box.activated.connect(self._show_chosen)
        for pressed, does in (
            (self.split_button, self.split_colours),
            (self.protocol_button, self._choose_protocol),
            (self.controls_button, self._choose_controls),
            (self.score_button, self.score),
            (self.again_button, self.score),
            (self.cancel_button, self.cancel),
            (self.review_button, self.review),
            (self.table_button, self._open_table),
            (self.report_button, self._open_report),
            (self.own.use_button, self.use_regions),
        ):
            pressed.clicked.connect(does)
        for given in self.own.both:
            given.box.textActivated.connect(self._tell_controls)

    # ------------------------------------------------------------ what is in the viewer

    def look_at_layers(self, event: Any = None) -> None:
        """Group the viewer's image layers into images."""
        images = images_in(self.viewer)
        self.split_button.setVisible(self._picture() is not None)
        new = getattr(event, "value", None)
        if self.chosen is not None and new is self._picture() is not None:
            self._put_away.show_only([new], layers_of_all(self.viewer, images))
            self.status.setText(PICTURE)
        same = {k: [id(x) for x in v.layers] for k, v in images.items()} == {
            k: [id(x) for x in v.layers] for k, v in self._images.items()
        }
        if same and images:
            self._images = images
            self.own.look(self.chosen)
            self._show_result()
            return
        before = self.chosen  # it may have another name by now: blinded, or of a run
        held = next((n for n, i in images.items() if before and i.is_same(before)), "")
        fresh = [n for n, i in images.items() if n not in {*self._images, held} and i.opened]
        self._images = images
        self.image_box.blockSignals(True)
        self.image_box.clear()
        self.image_box.addItems(list(images))
        if held or fresh:
            self.image_box.setCurrentText(held or fresh[-1])
        self.image_box.blockSignals(False)
        # a form stays as it was filled in; the image's channels may come one after another
        if not held:
            self._image_chosen()
        else:
            self.channels.set_channels(images[held])
            if not self.out_edit.isModified():  # what was typed stays
                self.out_edit.setText(str(images[held].results_folder()))
            self._offer(fresh)
            self._show_result()
        self.own.look(self.chosen)

    def _offer(self, fresh: list[str]) -> None:
        """Turn to an image that was opened beside a scored one; else say that it is there."""
        if not fresh or self._running() or self._arriving:
            return
        if self.chosen is not None and self.chosen.session is not None:
            self.image_box.setCurrentText(fresh[-1])
            self._show_chosen()
        else:  # what was typed for the other image is not lost
            self.status.setText(f"'{fresh[-1]}' was opened as well: choose it above to score it.")

    def _show_chosen(self, *_: object) -> None:
        """Show the chosen image alone: two would shine through each other."""
        if self.chosen is not None:
            others = [*layers_of_all(self.viewer, self._images), self._picture()]
            self._put_away.show_only(layers_of_all(self.viewer, {"": self.chosen}), others)

    def _image_chosen(self, *_: object) -> None:
        chosen = self.chosen
        self.channels.set_channels(chosen)
        size = None if chosen is None else pixel_size_of(chosen.layers[0])
        self.size_edit.setText("" if size is None else f"{size:g}")
        self.out_edit.setText("" if chosen is None else str(chosen.results_folder()))
        # what was typed for another image is not meant for this one
        scored = None if chosen is None or chosen.session is None else chosen.session.protocol
        known = scored or self.protocol
        if known is not None:
            self.channels.set_protocol(known)
        nucleus = None if known is None else known.nuclei.diameter_um
        self.nucleus_edit.setText("" if nucleus is None else f"{nucleus:g}")
        self.score_button.setEnabled(chosen is not None and not self._running())
        for one in (self.planes_box, self.planes_label):
            one.setVisible(chosen is not None and chosen.n_planes > 1)
        self.split_button.setVisible(self._picture() is not None)
        self.own.look(chosen)
        self._show_result()
        if not self._running():
            self.status.setText("")
        if chosen is None and self._picture() is not None:
            self.status.setText(PICTURE)
        elif chosen is None:
            stacks = [x for x in self.viewer.layers if x.ndim > 2]
            self.status.setText(
                f"'{stacks[0].name}' holds channels or planes in one layer. Open its file again "
                "with the reader Islet imaging, or right-click the layer: Split Stack."
                if stacks
                else "Open a stained image first (File > Open, or a sample)."
            )

    def _picture(self) -> Any:
        """A picture of red, green and blue that is shown, None without one."""
        pictures = (x for x in self.viewer.layers if getattr(x, "rgb", False) and x.visible)
        return next(pictures, None)

    def split_colours(self, *_: object) -> None:
        """Make the colours of a picture layers of their own, to be named in the form."""
        picture = self._picture()
        if picture is not None:
            split_colours(self.viewer, picture)
            self.look_at_layers()
            self.image_box.setCurrentText(str(picture.name))
            self._show_chosen()
            self.status.setText(
                "Say in the table what each colour is and where it lies; one of them must be DNA. "
                "Pictures made for the eye (JPEG, screenshots) have no true intensities: calls may "
                "be wrong."
            )

    @property
    def chosen(self) -> StainedImage | None:
        """The image that the form is about."""
        return self._images.get(self.image_box.currentText())

    def _show_result(self, *_: object) -> None:
        """What scoring found in the chosen image, as it stands now; nothing for any other."""
        session = None if self.chosen is None else self.chosen.session
        there = session is not None and session.open is not None and not self._arriving
        for one in self.after:
            one.setVisible(there)
        self.again_button.setEnabled(there and not self._running())
        if session is None or session.open is None or self._arriving:
            self.result.setText("")
            self.notes.set_notes([])
            self.nucleus_edit.setPlaceholderText(NUCLEUS)
            return
        if session is not self._followed:
            self._followed = session
            for signal in (session.cells_changed, session.image_opened, session.trial_changed):
                self.connections.add(signal, self._show_result)
            self.connections.add(session.settings_changed, self.look_at_layers)  # blinded names
        self.result.setText(words.result(session))
        notes = words.notes(session)
        if not session.blinded:
            notes += words.of_run(session)
        self.notes.set_notes(notes)
        self.report_button.setEnabled(not session.blinded)
        scale = session.open.scale
        seen = None if scale is None else scale.seen_um
        self.nucleus_edit.setPlaceholderText(NUCLEUS if seen is None else f"{seen:.1f} seen")

    # ------------------------------------------------------------ choosing

    def _choose_protocol(self, *_: object) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "A protocol", "", "*.yaml *.yml")
        if path:
            self.use_protocol(Path(path))

    def use_protocol(self, path: Path) -> None:
        """Score with a protocol from a file; its channels fill the form."""
        try:
            protocol = protocol_of_file(path)
        except IsletImagingError as error:
            self.status.setText(str(error))
            return
        self.protocol = protocol
        self.protocol_button.setText(path.name)
        missing = self.channels.set_protocol(protocol)
        if protocol.reading.pixel_size_um is not None:
            self.size_edit.setText(f"{protocol.reading.pixel_size_um:g}")
        if protocol.nuclei.diameter_um is not None:
            self.nucleus_edit.setText(f"{protocol.nuclei.diameter_um:g}")
        self.status.setText(
            f"The image lacks {', '.join(missing)}, which the protocol wants." if missing else ""
        )

    def _choose_controls(self, *_: object) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Negative controls")
        self.use_controls([Path(p) for p in paths])

    def use_controls(self, paths: list[Path]) -> None:
        """Take these files as negative controls of the same staining run."""
        self.controls = paths
        names = ", ".join(p.name for p in paths)
        short = names if len(names) <= 24 else f"{len(paths)} files" if len(paths) > 1 else "1 file"
        self.controls_button.setText(short or "none (choose files…)")
        self.controls_button.setToolTip(names)
        self._tell_controls()

    def _tell_controls(self, *_: object) -> None:
        """Say whose nuclei the controls have, where the image's are not found here."""
        if told := self.own.of_controls(self.controls):
            self.status.setText(told)

    def current_protocol(self) -> Protocol:
        """The protocol that the form says.

        Raises
        ------
        IsletImagingError
            If the form does not make one, with what is missing.
        """
        import dataclasses

        from islet_imaging.protocol import Protocol

        size = self.typed_pixel_size()
        channels = self.channels.channels()
        if sum(c.role == "dna" for c in channels) != 1:
            raise IsletImagingError(
                "Say which one channel is the stain of DNA: choose 'dna' for it in the column 'is'."
            )
        session = None if self.chosen is None else self.chosen.session
        stated = self.protocol
        if stated is None:
            stated = Protocol(channels) if session is None else protocol_of_run(session)
        nuclei = self.with_typed_diameter(stated.nuclei)
        reading = dataclasses.replace(stated.reading, pixel_size_um=size)
        if self.chosen is not None and self.chosen.n_planes > 1:
            projection = PLANES[self.planes_box.currentText()]
            plane = int(self.viewer.dims.current_step[0]) if projection == "plane" else None
            reading = dataclasses.replace(reading, projection=projection, plane=plane)
        return with_channels(stated, channels).replace(reading=reading, nuclei=nuclei)

    # ------------------------------------------------------------ scoring

    def _running(self) -> bool:
        return self.job is not None and self.job.running

    def score(self, *_: object) -> None:
        """Start to score; returns at once."""
        chosen = self.chosen
        if self._running() or chosen is None:
            return
        try:
            protocol = self.current_protocol()
            out = self._free_folder(Path(self.out_edit.text()).expanduser(), chosen)
            if out is None:
                return
            self.out_edit.setText(str(out))
            job = lay_out(
                chosen,
                self.controls,
                out,
                protocol,
                given={
                    one.what: file
                    for one in self.own.both
                    if (file := one.path(chosen, input_folder(out))) is not None
                },
                of_controls={one.what: one.beside(self.controls) for one in self.own.both},
                regions=self.own.regions(chosen),
                who=login_name() if chosen.session is None else chosen.session.reviewer,
            )
        except (IsletImagingError, OSError) as error:
            self.status.setText(str(error))
            return
        self._start("score_folder", job, chosen, protocol.reading.pixel_size_um)

    def use_regions(self, *_: object) -> None:
        """Keep the regions of the chosen image as drawn now, and make its run's numbers again."""
        chosen = self.chosen
        session = None if chosen is None else chosen.session
        if self._running() or chosen is None or session is None:
            return
        try:
            self.own.regions(chosen)
            region_layers.keep_changed(self.viewer, session)
        except IsletImagingError as error:
            self.status.setText(str(error))
            return
        self.session = session
        size = None if session.open is None else session.open.pixel_size_um
        self._start("summarise", {"run": str(session.run.path)}, chosen, size)

    def _start(
        self, kind: str, job: dict[str, Any], chosen: StainedImage, size_um: float | None
    ) -> None:
        """Start the work on an image; what comes of it is shown when it is there."""
        self._scoring, self._scored_size = chosen, size_um
        self.job = Job(kind, job, self)
        self.job.progress.connect(self._progress)
        self.job.succeeded.connect(self._done)
        self.job.failed.connect(self._not_shown)
        self.job.cancelled.connect(lambda: self._not_shown("Stopped. Nothing was scored."))
        self.job.ended.connect(self._ended)
        self.progress.setVisible(True)
        self.progress.setRange(0, 0)  # busy until the first image is done
        self.score_button.setEnabled(False)
        self.again_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.status.setText("Scoring… the window stays yours.")
        self._arriving = True  # a number of before would be taken for the new one
        self._show_result()

    def _free_folder(self, out: Path, chosen: StainedImage) -> Path | None:
        """The folder, if no other image's results are in it; else what the user says."""
        if not holds_another(out, chosen):
            return out
        k = 2
        while holds_another(out.with_name(f"{out.name}-{k}"), chosen):
            k += 1
        fresh = out.with_name(f"{out.name}-{k}")
        answer = QMessageBox.question(
            self,
            "Results of another image",
            f"{out} holds the results, and perhaps corrections, of another image. "
            f"Put those of this one into {fresh.name} instead?",
            QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel,
        )
        return fresh if answer == QMessageBox.StandardButton.Yes else None

    def cancel(self, *_: object) -> None:
        """Stop scoring."""
        if self.job is not None:
            self.status.setText("Stopping…")
            self.job.cancel()

    def stop_now(self) -> None:
        """End the work at once, as when the widget closes."""
        if self.job is not None:
            self.job.stop_now()

    def _progress(self, done: int, total: int, what: str) -> None:
        self.progress.setRange(0, total if total > 1 else 0)
        self.progress.setValue(done)
        self.status.setText(f"{done} of {total}: {what}")

    def _ended(self) -> None:
        self.progress.setVisible(False)
        self.score_button.setEnabled(True)
        self._show_result()
        self.cancel_button.setEnabled(False)

    def _done(self, result: dict[str, Any]) -> None:
        self.status.setText("Scored; opening…")
        scored = [] if self._scoring is None else self._scoring.layers
        if self._scoring is not None:
            self._scoring.name_channels()
            region_layers.hand_over(self.viewer, self._scoring, Path(result["run"]))
        if self._scoring is not None and self._scoring.n_planes > 1:
            for layer in scored:  # the stack stays as it is, beside the plane that was scored
                layer.visible = False
            scored = []
        self._place(scored)
        before = layers_of(self.viewer, self.session)
        if self.session is not None and self.session.run.path != Path(result["run"]):
            before = []  # the image that was scored before keeps its layers and its run
        load_session(
            self.viewer,
            result["run"],
            while_there(self, lambda session: self._show(session, scored, before)),
            while_there(self, self._not_shown),
            instead=[*scored, *before],
        )

    def _place(self, layers: list[Any]) -> None:
        """Give layers in pixels the size that was typed: else the result lies small in a corner."""
        placed = placement(self._scored_size)
        # the picture that they were split from lies beside them
        pictures = [tag_of(x).get("picture") for x in layers]
        both = dict.fromkeys([*layers, *(p for p in pictures if p is not None)])
        lost = [x for x in both if x.ndim == 2 and tuple(x.scale) != placed["scale"]]
        for layer in lost:
            layer.scale, layer.units = placed["scale"], placed["units"]
        if lost:
            self.viewer.reset_view()

    def _show(self, session: ReviewSession, scored: list[Any], before: list[Any]) -> None:
        if self._scoring is not None:  # the colours that the user has given stay
            keep_colours(self._scoring, layers_of(self.viewer, session))
        for layer in scored:
            # those that did not become the run's own would shine through it
            if tag_of(layer).get("session") is not session:
                layer.visible = False
        if self.session is not None and self.session.run.path == session.run.path:
            switch_session(self.viewer, self.session, session)
        self.session = session
        self.out_edit.setText(str(session.run.path))
        left = [layer for layer in before if tag_of(layer).get("session") is not session]
        in_turns(
            [
                *(lambda layer=layer: self._remove(layer) for layer in left),
                while_there(self, self._arrived),
            ]
        )

    def _remove(self, layer: Any) -> None:
        if layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def _not_shown(self, message: str) -> None:
        self._arriving = False
        self.status.setText(message)
        self._show_result()

    def _arrived(self) -> None:
        self._arriving = False
        self.status.setText("")
        self.look_at_layers()
        for name in [n for n, i in self._images.items() if i.session is self.session][:1]:
            self.image_box.setCurrentText(name)
        self._show_result()

    def review(self, *_: object) -> None:
        """Open the review widget on the chosen image."""
        session = None if self.chosen is None else self.chosen.session
        if session is not None:
            dock_review(self.viewer, session)

    def _open_table(self, *_: object) -> None:
        session = None if self.chosen is None else self.chosen.session
        if session is not None:
            dock_shares(self.viewer, session)

    def _open_report(self, *_: object) -> None:
        session = None if self.chosen is None else self.chosen.session
        if session is not None:
            self.status.setText(open_report(session))
