"""Find, check, load and export trained networks.

The idea: a network is a folder in BioImage.IO form.  ``weights.onnx`` runs everywhere,
``weights.safetensors`` holds the same numbers for torch, and ``weights_int8.onnx``, where it is
there, integers made from them for processors; none can carry code.  The sha256 of
all must stand in ``bioimageio.yaml`` and is checked on every load, and what is run are the very
bytes that were checked, so a damaged or exchanged file is an error and never a wrong count.
The description's own sha256 thereby stands for the whole network (`Model.package_sha256`).
Shipped folders are found beside the package in a checkout
(``models/``) and inside it in a wheel, fine-tuned ones in the user's own folder (`user_folder`).

It fails with `ModelError`, which names the file, when something is missing or was changed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from islet_imaging.errors import ModelError, ProtocolError
from islet_imaging.protocol.plain import build, load_yaml, shown

if TYPE_CHECKING:
    from torch import nn

    from islet_imaging.network.architecture import UNet

log = logging.getLogger(__name__)

SETTINGS_KEY = "islet_imaging"
"""Where our own settings stand in the description's ``config``."""

#: files that a network consists of; each must be in the description's list of hashes
WEIGHTS = ("weights.safetensors", "weights.onnx")

INTEGERS = "weights_int8.onnx"
"""Integer weights for processors; a network may have none."""


#: a file that changed less long ago may change again with no other time on it, ns
SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class _Architecture:
    """What `UNetConfig` needs, checked without torch."""

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A network's folder, checked.

    Attributes
    ----------
    name : str
        As in the description.
    folder : Path
        Where it is.
    description : dict
        All of ``bioimageio.yaml``.
    package_sha256 : str
        Hash of the description, which holds the hashes of all weights and every setting: two
        networks with the same one give the same numbers.
    """

    name: str
    folder: Path
    description: dict[str, Any]
    package_sha256: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """Our own settings: architecture, post-processing, hashes, version."""
        settings: dict[str, Any] = self.description.get("config", {}).get(SETTINGS_KEY, {})
        return settings

    @property
    def version(self) -> str:
        """Version of the weights."""
        return str(self.description.get("version", "0"))

    @property
    def sha256(self) -> str:
        """Hash of the safetensors file: the identity of the weights, for provenance."""
        return str(self.settings["sha256"]["weights.safetensors"])

    @property
    def processor_weights(self) -> str:
        """The file that runs on a processor: integers where the network has them."""
        return INTEGERS if INTEGERS in self.settings["sha256"] else "weights.onnx"

    @property
    def onnx_path(self) -> Path:
        """The checked ONNX file, float32."""
        return self.folder / "weights.onnx"

    def weights(self, file: str) -> bytes:
        """The bytes of a weights file, checked: what is to be run is what was hashed.

        Raises
        ------
        ModelError
            If the file is gone or its sha256 is not the stated one.
        """
        path = self.folder / file
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ModelError(
                f"{path}: missing; reinstall islet-imaging or export the network again"
            ) from None
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
        if hashlib.sha256(data).hexdigest() != self.settings["sha256"][file]:
            raise ModelError(
                f"{path}: its sha256 differs from the one in bioimageio.yaml: the file is damaged "
                "or of another network; reinstall islet-imaging or export the network again"
            )
        return data

    def torch_module(self) -> nn.Module:
        """Build the network in torch from the safetensors file (needs the extra ``train``)."""
        try:
            from safetensors.torch import load

            from islet_imaging.network.architecture import UNet, UNetConfig, fold_batch_norm
        except ImportError as error:
            raise ModelError(
                "running a network in torch needs the extra: pip install 'islet-imaging[train]'"
            ) from error
        net = fold_batch_norm(UNet(UNetConfig.from_dict(self.settings["architecture"])))
        net.load_state_dict(load(self.weights("weights.safetensors")))
        return net.eval()


def user_folder() -> Path:
    """Where networks that were fine-tuned and kept lie.

    ``ISLET_IMAGING_MODELS`` in the environment, or ``.islet-imaging/models`` in the user's home.
    """
    stated = os.environ.get("ISLET_IMAGING_MODELS")
    return Path(stated) if stated else Path.home() / ".islet-imaging" / "models"


def model_folders() -> list[Path]:
    """Places where networks are looked for, in order: shipped ones first."""
    package = Path(__file__).resolve().parents[1]
    return [package / "models", package.parent / "models", user_folder()]


def model_names() -> list[str]:
    """Names of the networks that are there, shipped and kept."""
    return sorted({p.parent.name for f in model_folders() for p in f.glob("*/bioimageio.yaml")})


def model_hashes(names: Iterable[str]) -> dict[str, str]:
    """What provenance says of networks: the stated sha256 of each one's weights."""
    return {name: load_model(name).sha256 for name in sorted(set(names))}


def weights_used(names: Iterable[str], device: str) -> dict[str, str]:
    """Which file of each network runs on a device, ``cpu`` or a graphics card.

    Examples
    --------
    >>> weights_used(["islet-nuclei"], "cpu"), weights_used(["islet-nuclei"], "cuda")
    ({'islet-nuclei': 'weights_int8.onnx'}, {'islet-nuclei': 'weights.safetensors'})
    """
    return {
        name: load_model(name).processor_weights if device == "cpu" else "weights.safetensors"
        for name in sorted(set(names))
    }


def package_hashes(names: Iterable[str]) -> dict[str, str]:
    """What a run's keys say of networks: weights and settings (`Model.package_sha256`)."""
    return {name: load_model(name).package_sha256 for name in sorted(set(names))}


def check_new_name(name: str) -> None:
    """Raise `ModelError` when a name cannot be given to a network that is to be kept."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ModelError(f"{name!r} cannot name a network; use letters, digits, - and _")
    if name in model_names():
        raise ModelError(f"there is a network called {name!r} already; choose another name")


def keep_model(folder: Path, name: str) -> Path:
    """Copy a fine-tuned network to the user's folder, so that protocols can name it.

    Parameters
    ----------
    folder : Path
        The new network.
    name : str
        Letters, digits, ``-`` and ``_``; not the name of a network that is there.

    Returns
    -------
    Path
        Where it lies now.

    Raises
    ------
    ModelError
        When the name cannot be used or the network is damaged.
    """
    load_model(folder)
    check_new_name(name)
    kept = user_folder() / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(folder, part)
    part.rename(kept)
    return kept


def is_model_name(name_or_path: str | Path) -> bool:
    """Whether text names a network rather than a folder: no ``/`` in it.

    Examples
    --------
    >>> is_model_name("islet-nuclei"), is_model_name("./islet-nuclei")
    (True, False)
    """
    text = name_or_path if isinstance(name_or_path, str) else ""
    return text not in ("", ".", "..") and not {"/", os.sep} & set(text)


def load_model(name_or_path: str | Path = "islet-nuclei") -> Model:
    """Find a network by name or folder and check its files.

    Parameters
    ----------
    name_or_path : str or Path
        ``islet-nuclei``, ``islet-positivity`` or a folder with a ``bioimageio.yaml``. Text without
        a ``/`` is a name first, whatever lies in the current folder: a shipped network, then a kept
        one, then a folder; ``./islet-nuclei``, or a `Path`, is the folder.

    Returns
    -------
    Model
        Checked; nothing heavy is loaded yet.

    Raises
    ------
    ModelError
        When the folder, the description or a weights file is missing, or a sha256 differs.

    Examples
    --------
    >>> load_model("islet-nuclei").name
    'islet-nuclei'
    """
    own = Path(name_or_path)
    kept = [f / own for f in model_folders()] if is_model_name(name_or_path) else []
    try:
        found = [c for c in (*kept, own) if (c / "bioimageio.yaml").is_file()]
    except (OSError, ValueError):  # a name that no file can have
        found = []
    folder = found[0] if found else None
    if own in found[1:]:
        log.warning(
            "network %s: the one of this name in %s is used, not the folder %s in the current "
            "folder; write ./%s for that", own, found[0].parent, own.absolute(), own,
        )  # fmt: skip
    if folder is None:
        known = model_names()
        raise ModelError(
            f"network {shown(str(name_or_path))} not found; there are "
            f"{', '.join(known) or 'none'}, or give a folder that holds a bioimageio.yaml"
        )
    path = folder / "bioimageio.yaml"
    # hashed before it is read: a file exchanged in between is found out by the weights
    identity = file_sha256(path)
    description: dict[str, Any] = json.loads(_description(path, identity))
    model = Model(str(description.get("name", folder.name)), folder, description, identity)
    for file, wanted in model.settings["sha256"].items():
        try:
            stat = (folder / file).stat()
        except OSError:
            model.weights(file)  # says what is wrong
            raise
        facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        if time.time_ns() - max(facts[1:3]) > SETTLED_NS:
            _checked(model.folder, file, wanted, facts)
        else:
            model.weights(file)
    return model


@lru_cache(maxsize=64)
def _checked(folder: Path, file: str, wanted: str, facts: tuple[int, ...]) -> None:  # noqa: ARG001
    """Check weights once for as long as the system says that nobody touched the file."""
    hashes = {SETTINGS_KEY: {"sha256": {file: wanted}}}
    Model("", folder, {"config": hashes}).weights(file)


@lru_cache(maxsize=16)
def _description(path: Path, identity: str) -> str:
    """A description, read once for each content: parsing takes longer than hashing the weights.

    As text, so that everybody gets one of their own: a deep copy takes five times as long.
    """
    description: dict[str, Any] = load_yaml(path, ModelError)
    _check_description(description, path)
    if file_sha256(path) != identity:
        raise ModelError(f"{path}: it was changed while it was read; try again")
    return json.dumps(description, default=str)


def _check_description(description: Any, path: Path) -> None:
    """Raise `ModelError` unless a description has what running its network needs."""
    from islet_imaging.network.postprocess import PostprocessConfig

    config = description.get("config") if isinstance(description, dict) else None
    settings = config.get(SETTINGS_KEY) if isinstance(config, dict) else None
    if not isinstance(settings, dict):
        raise ModelError(f"{path}: not a network of islet-imaging")
    hashes = settings.get("sha256")
    if not isinstance(hashes, dict):
        raise ModelError(f"{path}: config.{SETTINGS_KEY}.sha256 must list the weights' hashes")
    for file, wanted in hashes.items():
        # a plain name: nothing outside of the network's folder is read
        if not isinstance(file, str) or Path(file).name != file or "\\" in file:
            raise ModelError(f"{path}: sha256 of {shown(file)}: no file of this folder")
        if not isinstance(wanted, str) or not re.fullmatch("[0-9a-f]{64}", wanted):
            raise ModelError(f"{path}: the sha256 of {file} is {shown(wanted)}: 64 hex digits")
    unlisted = [file for file in WEIGHTS if file not in hashes]
    if unlisted:
        raise ModelError(
            f"{path}: {unlisted[0]} is not in the list of sha256, so nothing says that it is the "
            "file that was trained; export the network again"
        )
    try:
        build(_Architecture, settings.get("architecture"), "architecture")
        build(PostprocessConfig, settings.get("postprocess", {}), "postprocess")
    except ProtocolError as error:
        raise ModelError(f"{path}: config.{SETTINGS_KEY}: {error}") from None


def file_sha256(path: Path) -> str:
    """Sha256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export_weights(net: UNet, folder: Path) -> dict[str, str]:
    """Write ``weights.safetensors`` and ``weights.onnx`` with batch norms folded.

    Parameters
    ----------
    net : UNet
        A trained network.
    folder : Path
        Is made when missing.

    Returns
    -------
    dict
        sha256 of each file, as `load_model` wants it in the description.
    """
    import warnings

    import torch
    from safetensors.torch import save_file

    from islet_imaging.network.architecture import fold_batch_norm

    folder.mkdir(parents=True, exist_ok=True)
    folded = fold_batch_norm(net).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    tensors = {k: v.detach().contiguous().clone() for k, v in folded.state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")
    example = torch.zeros(1, net.config.in_channels, 128, 128)
    axes = {2: "height", 3: "width"}
    with warnings.catch_warnings():
        # the tracing exporter warns that a newer one exists; it writes the plainer graph
        warnings.simplefilter("ignore")
        torch.onnx.export(
            folded,
            (example,),
            str(folder / "weights.onnx"),
            input_names=["image"],
            output_names=["fields"],
            dynamic_axes={"image": axes, "fields": {2: "half_height", 3: "half_width"}},
            opset_version=17,
            dynamo=False,
        )
    return {f: file_sha256(folder / f) for f in ("weights.safetensors", "weights.onnx")}
