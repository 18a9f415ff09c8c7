"""What is shown of an image or a run, as plain tuples of data, options and kind of layer.

The idea: one place says how stains, nuclei and outlines look, so that every layer carries the pixel
size in um, names and colours, whoever makes it; napari's readers give these tuples as they are.
It fails to place an image whose pixel size nobody knows: that one is shown in pixels, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_islet_imaging.session.colours import (
    CATEGORIES,
    FILL,
    FILL_COLOUR,
    NEUTRAL,
    NEUTRAL_COLOUR,
    SELECTED,
    SELECTED_COLOUR,
    stain_colours,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from islet_imaging.image import IsletImage
    from napari_islet_imaging.session.opened import OpenImage
    from napari_islet_imaging.session.review import ReviewSession

LayerData = tuple[Any, dict[str, Any], str]
#: where a layer keeps what is known of it
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
    colours = stain_colours(image.channel_names, image.metadata.get("colour"))
    for channel, colour in zip(image.channel_names, colours, strict=True):
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


def stack_layers(planes: Sequence[IsletImage]) -> list[LayerData]:
    """One layer per channel with all planes of a z-stack, to look at and to choose from."""
    made = []
    for channels in zip(*(channel_layers(plane) for plane in planes), strict=True):
        pixels = np.stack([data for data, _, _ in channels])
        options = channels[len(channels) // 2][1]
        limits = contrast(pixels.max(axis=0))
        options |= {
            "scale": (1.0, *options["scale"]),
            "units": (options["units"][0], *options["units"]),
            "axis_labels": ("z", *options["axis_labels"]),
            "contrast_limits": limits,
        }
        made.append((pixels, options, "image"))
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
    return {**shown, SELECTED: SELECTED_COLOUR, NEUTRAL: NEUTRAL_COLOUR, FILL: FILL_COLOUR}


def features(table: pd.DataFrame, *, blinded: bool = False) -> pd.DataFrame:
    """The cells table as features of a labels layer; ``index`` ties a row to its label.

    napari shows them of the nucleus under the mouse: in a blinded review only its number.
    """
    shown = table[["cell"]] if blinded else table.drop(columns=["image"], errors="ignore")
    shown = shown.copy()
    shown.insert(0, "index", shown["cell"].astype(int))
    return shown


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
                "features": features(session.tables[opened.name], blinded=session.hidden),
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
    from napari_islet_imaging.session.outlines import draw_outlines, line_width_px

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
