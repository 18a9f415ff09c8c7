"""A smaller network that begins as a part of a larger one and learns its fields."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from islet_imaging.errors import ModelError  # noqa: E402
from islet_imaging.network.architecture import UNet, UNetConfig, fold_batch_norm  # noqa: E402
from islet_imaging.network.training import distillation  # noqa: E402
from islet_imaging.network.training.distillation import (  # noqa: E402
    TAUGHT,
    TaughtCrops,
    distillation_loss,
    part_of,
)
from islet_imaging.network.training.export_model import (  # noqa: E402
    export_checkpoint,
    export_model,
    nuclei_settings,
)
from islet_imaging.network.training.model_cards import NUCLEI  # noqa: E402
from islet_imaging.network.training.nuclei_data import CropSource, make_sample  # noqa: E402
from islet_imaging.network.training.nuclei_training import (  # noqa: E402
    NucleiTrainingConfig,
    train_nuclei,
)
from islet_imaging.network.weights import load_model  # noqa: E402
from tests.network.test_nuclei import picture  # noqa: E402

LARGE, SMALL = UNetConfig(1, 8, (10, 12, 8)), UNetConfig(1, 8, (8, 10, 8))


def teacher():
    torch.manual_seed(1)
    net = fold_batch_norm(UNet(LARGE).eval())
    for name, weight in net.named_parameters():
        torch.nn.init.normal_(weight, std=0.3 if name.startswith("head") else 0.15)
    return net


def crops():
    dna, truth = picture((160, 200))
    sample = make_sample(dna, truth, name="a", group="a")
    return CropSource({"cultures": [sample]}, {"cultures": 1.0}, size_px=64)


def images(first, n):
    return torch.from_numpy(np.stack([crops().crop(i)["image"] for i in range(first, first + n)]))


def test_the_whole_is_a_part_of_itself():
    large = teacher()
    seen = images(0, 4)
    with torch.no_grad():
        assert torch.allclose(part_of(large, LARGE, seen)(seen), large(seen), atol=1e-4)


def test_fitted_layers_say_what_the_teacher_says(monkeypatch):
    large, seen, new = teacher(), images(0, 24), images(100, 4)

    def error():
        with torch.no_grad():
            wanted = large(new)
            given = part_of(large, SMALL, seen)(new)
            return float((given - wanted).var() / wanted.var(dim=(0, 2, 3)).mean())

    fitted = error()
    monkeypatch.setattr(distillation, "_least_squares", lambda *a, **k: None)
    assert fitted < 0.2 * error()


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(1, 8, (12, 12, 8)),
        UNetConfig(1, 8, (8, 12)),
        UNetConfig(3, 8, (8, 12, 8)),
    ],
)
def test_what_is_no_part_is_an_error(config):
    with pytest.raises(ModelError, match="no part of its teacher"):
        part_of(teacher(), config, images(0, 1))


def test_teachers_own_fields_lose_nothing_beside_it():
    fields = 3 * torch.randn(2, 8, 32, 32)
    items = [crops().crop(i) for i in range(2)]
    target = {k: torch.from_numpy(np.stack([i[k] for i in items])) for k in items[0]}
    target[TAUGHT] = fields
    assert float(distillation_loss(fields, target)["taught"]) == pytest.approx(0, abs=1e-6)
    for k in range(8):
        off = fields.clone()
        off[:, k] += 1
        assert distillation_loss(off, target)["taught"] > 0.01


def test_a_taught_network_is_trained_stopped_and_exported(tmp_path):
    folder = tmp_path / "large"
    export_model(teacher(), folder, NUCLEI, version="1", settings=nuclei_settings())
    config = NucleiTrainingConfig(
        widths=SMALL.widths, steps=2, batch_size=2, crop_px=64, workers=0,
        threads=1, validate_every=100, teacher=str(folder),
    )  # fmt: skip
    sources = crops().sources
    out = tmp_path / "out"
    train_nuclei(config, out, sources=sources)
    log = (out / "log.csv").read_text("utf-8").splitlines()
    assert "taught" in log[0].split(",")
    # the same call finds all steps made
    again = train_nuclei(config, out, sources=sources)
    export_checkpoint(out / "checkpoint.pt", tmp_path / "small", version="1")
    kept = load_model(tmp_path / "small")
    assert tuple(kept.settings["architecture"]["widths"]) == SMALL.widths
    seen = images(0, 1)
    with torch.no_grad():
        assert torch.allclose(kept.torch_module()(seen), again(seen), atol=1e-5)


def test_crops_hold_what_the_teacher_says():
    item = TaughtCrops(crops(), "islet-nuclei").crop(3)
    assert item[TAUGHT].shape == (8, 32, 32)
    assert np.array_equal(item["image"], crops().crop(3)["image"])
