"""Export a trained nuclei network as a folder in BioImage.IO form.

The idea: everything that is needed to run and to repeat a network is written by one function from
one checkpoint: weights in two formats, test tensors, the network's source, the description with
hashes and the settings of the post-processing.  The card (``README.md``) is written by hand from
the benchmark's tables and is only checked to be there.

It fails when the exported ONNX network and the torch network disagree: then nothing is written to
the description.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from islet_imaging.errors import ModelError

from .data import WORKING_DIAMETER_PX
from .engine import OnnxEngine
from .postprocess import PostprocessConfig
from .weights import SETTINGS_KEY, export_weights, file_sha256

if TYPE_CHECKING:
    from .architecture import UNet

CITATIONS = [
    {
        "text": "Caicedo et al., Nucleus segmentation across imaging experiments: the 2018 Data "
        "Science Bowl, Nat Methods 16:1247 (2019)",
        "doi": "10.1038/s41592-019-0612-7",
    },
    {
        "text": "Mahbod et al., Investigating the impact of the bit depth of fluorescence-stained "
        "images on the performance of deep learning-based nuclei instance segmentation, "
        "Diagnostics 11:967 (2021)",
        "doi": "10.3390/diagnostics11060967",
    },
]


def example_image(side_px: int = 128, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw a normalised picture of blurred discs, (1, 1, Y, X): the model's test input."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((side_px, side_px), dtype=np.float32)
    image = np.zeros((side_px, side_px), np.float32)
    for cy, cx in rng.uniform(8, side_px - 8, (25, 2)):
        distance = np.hypot(y - cy, (x - cx) * rng.uniform(0.8, 1.2))
        image += np.float32(rng.uniform(0.4, 1.0)) / (1 + np.exp(distance - rng.uniform(6, 9)))
    image += rng.normal(0, 0.02, image.shape).astype(np.float32)
    return image[None, None].astype(np.float32)


def export_nuclei_model(
    net: UNet,
    folder: Path,
    *,
    version: str,
    postprocess: PostprocessConfig,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write a trained nuclei network as a model folder.

    Parameters
    ----------
    net : UNet
        Trained, with batch norms.
    folder : Path
        Existing files of the same names are replaced; a ``README.md`` is kept.
    version : str
        Of the weights, for example ``"1.0.0"``.
    postprocess : PostprocessConfig
        Stored beside the weights and used by inference.
    training : dict, optional
        How the weights were made (configuration, steps, data), stored in the description.

    Returns
    -------
    Path
        Of ``bioimageio.yaml``.

    Raises
    ------
    ModelError
        When the exported network gives another output than the trained one.
    """
    import torch

    from . import architecture

    hashes = export_weights(net, folder)
    image = example_image()
    engine = OnnxEngine(folder / "weights.onnx")
    output = engine.run(image)
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(image)).numpy()
    if not np.allclose(output, expected, atol=1e-3):
        raise ModelError(f"{folder / 'weights.onnx'}: differs from the trained network")
    np.save(folder / "test_input.npy", image)
    np.save(folder / "test_output.npy", output)
    source = folder / "architecture.py"
    shutil.copyfile(Path(architecture.__file__), source)
    settings = {
        "architecture": net.config.to_dict(),
        "working_diameter_px": WORKING_DIAMETER_PX,
        "postprocess": asdict(postprocess),
        "sha256": hashes,
        "training": training or {},
    }
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text("# islet-nuclei\n\n## Validation\n\nNot yet measured.\n")
    description = _description(folder, version, settings, hashes, source)
    path = folder / "bioimageio.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100))
    return path


def export_checkpoint(checkpoint: Path, folder: Path, *, version: str) -> Path:
    """Export the averaged weights of a training's checkpoint as a model folder.

    Parameters
    ----------
    checkpoint : Path
        ``checkpoint.pt`` of a training; its ``run.json`` is stored in the description.
    folder : Path
        See `export_nuclei_model`.
    version : str
        Of the weights.

    Returns
    -------
    Path
        Of ``bioimageio.yaml``.
    """
    import torch

    from .architecture import UNet, UNetConfig
    from .targets import N_FIELDS
    from .training import averaged_weights

    about: dict[str, Any] = json.loads((checkpoint.parent / "run.json").read_text())
    widths = about.get("config", {}).get("widths", UNetConfig().widths)
    net = UNet(UNetConfig(1, N_FIELDS, tuple(widths)))
    net.load_state_dict(averaged_weights(checkpoint))
    about["step"] = int(torch.load(checkpoint, weights_only=True)["step"])
    return export_nuclei_model(
        net.eval(), folder, version=version, postprocess=PostprocessConfig(), training=about
    )


def _description(
    folder: Path, version: str, settings: dict[str, Any], hashes: dict[str, str], source: Path
) -> dict[str, Any]:
    def tensor(name: str) -> dict[str, Any]:
        return {"source": name, "sha256": file_sha256(folder / name)}

    space = {"type": "space", "size": {"min": 16, "step": 16}}
    return {
        "type": "model",
        "format_version": "0.5.5",
        "name": "islet-nuclei",
        "description": "Nuclei instances in fluorescence images of DNA, dense tissue included: "
        "foreground, offset to the centre, centre and distance at half resolution.",
        "version": version,
        "license": "BSD-3-Clause",
        "authors": [{"name": "islet-imaging developers"}],
        "cite": CITATIONS,
        "tags": ["nuclei", "segmentation", "fluorescence", "dapi", "tissue", "islet", "2d"],
        "documentation": "README.md",
        "inputs": [
            {
                "id": "image",
                "description": "DNA, nuclei 16 px across; percentiles 0.5 and 99.5 of the image "
                "to 0 and 1, then asinh(4 x) / asinh(4).",
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": ["dna"]},
                    {**space, "id": "y"},
                    {**space, "id": "x"},
                ],
                "data": {"type": "float32"},
                "test_tensor": tensor("test_input.npy"),
            }
        ],
        "outputs": [
            {
                "id": "fields",
                "description": "Foreground logits of 2x2 px; offset to centre and distance to edge "
                "in units of 8 px; centre logit.",
                "axes": [
                    {"type": "batch"},
                    {
                        "type": "channel",
                        "channel_names": [
                            "foreground00",
                            "foreground01",
                            "foreground10",
                            "foreground11",
                            "offset_y",
                            "offset_x",
                            "centre",
                            "distance",
                        ],
                    },
                    *(
                        {
                            "type": "space",
                            "id": axis,
                            "scale": 2.0,
                            "size": {"tensor_id": "image", "axis_id": axis},
                        }
                        for axis in ("y", "x")
                    ),
                ],
                "data": {"type": "float32"},
                "test_tensor": tensor("test_output.npy"),
            }
        ],
        "weights": {
            "onnx": {
                "source": "weights.onnx",
                "sha256": hashes["weights.onnx"],
                "opset_version": 17,
            }
        },
        "attachments": [
            {"source": "weights.safetensors", "sha256": hashes["weights.safetensors"]},
            {"source": source.name, "sha256": file_sha256(source)},
        ],
        "config": {SETTINGS_KEY: settings},
    }
