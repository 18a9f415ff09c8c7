"""Export a trained network as a folder in BioImage.IO form.

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
from islet_imaging.network.engine import OnnxEngine
from islet_imaging.network.normalise import WORKING_DIAMETER_PX
from islet_imaging.network.postprocess import PostprocessConfig
from islet_imaging.network.stain import WORKING_PIXEL_UM
from islet_imaging.network.training.model_cards import NUCLEI, POSITIVITY, Described
from islet_imaging.network.weights import SETTINGS_KEY, export_weights, file_sha256

if TYPE_CHECKING:
    from islet_imaging.network.architecture import UNet


def example_image(
    channels: int = 1, side_px: int = 128, seed: int = 0
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw a normalised picture of blurred discs, (1, C, Y, X): the model's test input."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((side_px, side_px), dtype=np.float32)
    image = np.zeros((side_px, side_px), np.float32)
    for cy, cx in rng.uniform(8, side_px - 8, (25, 2)):
        distance = np.hypot(y - cy, (x - cx) * rng.uniform(0.8, 1.2))
        image += np.float32(rng.uniform(0.4, 1.0)) / (1 + np.exp(distance - rng.uniform(6, 9)))
    image += rng.normal(0, 0.02, image.shape).astype(np.float32)
    # further channels: the same discs, rolled, so that no two are alike
    planes = [np.roll(image, 5 * k, axis=0) for k in range(channels)]
    return np.stack(planes)[None].astype(np.float32)


def export_model(
    net: UNet,
    folder: Path,
    what: Described,
    *,
    version: str,
    settings: dict[str, Any],
    training: dict[str, Any] | None = None,
) -> Path:
    """Write a trained network as a model folder.

    Parameters
    ----------
    net : UNet
        Trained.
    folder : Path
        Existing files of the same names are replaced; a ``README.md`` is kept.
    what : Described
        Which network it is.
    version : str
        Of the weights, for example ``"1.0.0"``.
    settings : dict
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

    from islet_imaging.network import architecture

    hashes = export_weights(net, folder)
    image = example_image(net.config.in_channels)
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
    kept = {
        "architecture": net.config.to_dict(),
        **settings,
        "sha256": hashes,
        "training": training or {},
    }
    if not (folder / "README.md").exists():
        (folder / "README.md").write_text(f"# {what.name}\n\n## Validation\n\nNot yet measured.\n")
    description = _description(folder, what, version, kept, hashes, source)
    path = folder / "bioimageio.yaml"
    path.write_text(yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100))
    return path


def nuclei_settings(postprocess: PostprocessConfig | None = None) -> dict[str, Any]:
    """What inference of the nuclei network wants to know."""
    return {
        "working_diameter_px": WORKING_DIAMETER_PX,
        "postprocess": asdict(postprocess or PostprocessConfig()),
    }


def export_checkpoint(checkpoint: Path, folder: Path, *, version: str) -> Path:
    """Export the averaged weights of a training's checkpoint as a model folder.

    Parameters
    ----------
    checkpoint : Path
        ``checkpoint.pt`` of a training; its ``run.json`` says which network it is and is stored
        in the description.
    folder : Path
        See `export_model`.
    version : str
        Of the weights.

    Returns
    -------
    Path
        Of ``bioimageio.yaml``.
    """
    import torch

    from islet_imaging.network.architecture import UNet, UNetConfig, fold_batch_norm
    from islet_imaging.network.training.loop import averaged_weights

    about: dict[str, Any] = json.loads((checkpoint.parent / "run.json").read_text())
    positivity = about.get("network") == "positivity"
    what = POSITIVITY if positivity else NUCLEI
    widths = about.get("config", {}).get("widths", UNetConfig().widths)
    net = UNet(UNetConfig(len(what.inputs), len(what.outputs), tuple(widths)))
    weights = averaged_weights(checkpoint)
    if not any(name.endswith("running_mean") for name in weights):
        net = fold_batch_norm(net)  # trained on from released weights
    net.load_state_dict(weights)
    about["step"] = int(torch.load(checkpoint, weights_only=True)["step"])
    settings = {"working_pixel_um": WORKING_PIXEL_UM} if positivity else nuclei_settings()
    return export_model(
        net.eval(), folder, what, version=version, settings=settings, training=about
    )


def _description(
    folder: Path,
    what: Described,
    version: str,
    settings: dict[str, Any],
    hashes: dict[str, str],
    source: Path,
) -> dict[str, Any]:
    def tensor(name: str) -> dict[str, Any]:
        return {"source": name, "sha256": file_sha256(folder / name)}

    space = {"type": "space", "size": {"min": 16, "step": 16}}
    return {
        "type": "model",
        "format_version": "0.5.5",
        "name": what.name,
        "description": what.text,
        "version": version,
        "license": "BSD-3-Clause",
        "authors": [{"name": "islet-imaging developers"}],
        "cite": [dict(c) for c in what.cite],
        "tags": list(what.tags),
        "documentation": "README.md",
        "inputs": [
            {
                "id": "image",
                "description": what.input_text,
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": list(what.inputs)},
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
                "description": what.output_text,
                "axes": [
                    {"type": "batch"},
                    {"type": "channel", "channel_names": list(what.outputs)},
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
