"""Rendered runs, crops, loss and training of the positivity network, on tiny ones."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install .[train]")

from islet_imaging.errors import ProtocolError  # noqa: E402
from islet_imaging.network.architecture import UNet, UNetConfig  # noqa: E402
from islet_imaging.network.engine import TorchEngine  # noqa: E402
from islet_imaging.network.stain import curve  # noqa: E402
from islet_imaging.network.training.positivity_data import (  # noqa: E402
    StainCropSource,
    image_samples,
    make_stained_sample,
    sticky_light,
    vary,
)
from islet_imaging.network.training.positivity_evaluation import answers, judge  # noqa: E402
from islet_imaging.network.training.positivity_loss import cell_means, positivity_loss  # noqa: E402
from islet_imaging.network.training.positivity_phantoms import MARKERS, staining_run  # noqa: E402
from islet_imaging.network.training.positivity_training import (  # noqa: E402
    PositivityTrainingConfig,
    train_positivity,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cache = tmp_path_factory.mktemp("runs")
    for number in range(20):
        images = staining_run(number, cache, side_px=96)
        if all(len(i.cells) > 5 for i in images[:3]):
            return number, cache, images
    raise AssertionError("no run of 20 shows cells")


def test_a_run_is_read_back_as_it_was_rendered(run, tmp_path):
    number, _, images = run
    again = staining_run(number, tmp_path, side_px=96)
    for a, b in zip(images, again, strict=True):
        assert np.array_equal(a.channels, b.channels)
        assert np.array_equal(a.own, b.own, equal_nan=True)
    assert [i.role for i in images[:3]] == ["sample"] * 3
    assert all(i.role in ("secondary_only", "no_insulin") for i in images[3:])
    assert not np.concatenate([i.expressed[0] for i in images[3:]]).any()


def test_cells_of_the_truth_are_in_the_picture(run):
    for image in run[2]:
        assert np.isin(image.cells, image.nuclei).all()
        assert image.expressed.shape == image.own.shape == (len(MARKERS), len(image.cells))


def test_crops_are_functions_of_seed_and_number(run):
    samples = [s for i in run[2] for s in image_samples(i)]
    source = StainCropSource(samples, size_px=96, seed=1)
    a, b = source.crop(4), StainCropSource(samples, size_px=96, seed=1).crop(4)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    for k in range(12):
        crop = source.crop(k)
        n = int((crop["weight"] > 0).sum())
        assert crop["cell"].max() <= n
        assert all(np.isfinite(v).all() for v in crop.values())


def test_plain_crops_show_the_image_as_it_is(run):
    """Own light of a plain crop is the sample's: nothing was multiplied or bent."""
    samples = [s for i in run[2][:1] for s in image_samples(i)][:1]
    truth = curve(samples[0].own[np.isfinite(samples[0].own)])
    plain = StainCropSource(samples, size_px=96, seed=1, plain_share=1.0)
    varied = StainCropSource(samples, size_px=96, seed=1)
    for k in range(5):
        crop = plain.crop(k)
        assert np.isin(crop["own"][crop["own_known"] > 0], truth).all()
        assert not np.array_equal(crop["image"], varied.crop(k)["image"])


def test_sticky_light_lies_on_cells_alone():
    nuclei = np.zeros((60, 80), np.int64)
    nuclei[25:35, 10:20], nuclei[25:35, 50:60] = 1, -1
    for seed in range(8):
        light = sticky_light(nuclei, np.random.default_rng(seed))
        assert light.min() >= 0
        assert light[28:32, 12:18].min() > 0
        assert light[28:32, 52:58].min() > 0
        assert light[:4].max() == 0
        assert light[:, 34:36].max() == 0


def test_own_light_is_scaled_with_its_picture():
    """Without any change but gain and shift, own light must grow as the marker does."""
    rng = np.random.default_rng(5)
    dna = np.zeros((64, 64), np.float32)
    marker = np.full((64, 64), 0.5, np.float32)
    marker[20:40, 20:40] = 2.0
    seen = 0
    for _ in range(60):
        _, changed, factor = vary(dna, marker, rng)
        inside, outside = changed[25:35, 25:35], changed[5:15, 50:60]
        if np.isfinite(factor) and changed.std() > 0:
            step = float(np.median(inside) - np.median(outside))
            seen += abs(step / (1.5 * factor) - 1) < 0.35
    assert seen > 30


def test_means_are_those_of_numpy():
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(2, 3, 6, 5)).astype(np.float32)
    cell = rng.integers(0, 4, (2, 6, 5))
    means = cell_means(torch.from_numpy(fields), torch.from_numpy(cell), 4).numpy()
    for n in range(2):
        for k in range(1, 5):
            here = cell[n] == k
            wanted = fields[n][:, here].mean(1) if here.any() else np.zeros(3)
            assert np.allclose(means[n, k - 1], wanted, atol=1e-5)


def test_loss_is_least_for_the_truth_and_deaf_to_empty_batches():
    cell = torch.zeros(1, 4, 4, dtype=torch.int64)
    cell[0, 1:3, 1:3] = 1
    target = {
        "cell": cell,
        "weight": torch.tensor([[1.0, 0.0]]),
        "expressed": torch.tensor([[1.0, 0.0]]),
        "own": torch.tensor([[0.7, 0.0]]),
        "own_known": torch.tensor([[1.0, 0.0]]),
    }
    right = torch.full((1, 4, 4, 4), 0.7)
    right[:, 3] = 8.0
    wrong = torch.full((1, 4, 4, 4), 0.1)
    assert positivity_loss(right, target)["total"] < 0.01 < positivity_loss(wrong, target)["total"]
    target["weight"] = torch.zeros(1, 2)
    assert float(positivity_loss(wrong, target)["total"]) == 0.0


def test_labels_without_truth_count_for_nothing():
    nuclei = np.zeros((60, 60), np.int32)
    nuclei[5:20, 5:20], nuclei[30:45, 30:45] = 7, 9
    made = make_stained_sample(
        "x", nuclei * 1.0, nuclei * 2.0, nuclei,
        pixel_size_um=0.5, cells=np.array([9]), expressed=np.array([True]),
    )  # fmt: skip
    assert set(np.unique(made.nuclei)) == {-1, 0, 1}
    net = UNet(UNetConfig(3, 4, (4, 6, 8, 8))).eval()
    assert answers(TorchEngine(net, "cpu"), made).shape == (1, 4)
    nothing = make_stained_sample(
        "x", nuclei * 1.0, nuclei * 2.0, nuclei,
        pixel_size_um=0.5, cells=np.zeros(0, int), expressed=np.zeros(0, bool),
    )  # fmt: skip
    assert nothing is None


def test_training_learns_and_says_what_it_learned(tmp_path, monkeypatch, run):
    number, cache, _ = run
    monkeypatch.setattr(
        "islet_imaging.network.training.positivity_data.staining_run",
        lambda _, folder, **options: staining_run(number, cache, side_px=96),
    )
    config = PositivityTrainingConfig(
        runs=1, validation_runs=1, crop_px=96, widths=(8, 8, 8, 8), steps=60, batch_size=4,
        workers=0, validate_every=60,
    )  # fmt: skip
    net = train_positivity(config, tmp_path)
    log = (tmp_path / "log.csv").read_text().splitlines()
    first, last = (float(row.split(",")[1]) for row in (log[1], log[-1]))
    assert last < first
    samples = [s for i in staining_run(number, cache, side_px=96) for s in image_samples(i)]
    assert judge(TorchEngine(net, "cpu"), samples)["n"] > 10
    assert "auc" in (tmp_path / "validation.csv").read_text()


def test_patterns_are_runs_beside_the_plain_ones(run, tmp_path):
    """A run with a pattern has the same cells; the plain one of its number stays what it was."""
    number, _, plain = run
    patterned = staining_run(number, tmp_path, side_px=96, pattern_share=1.0)
    again = staining_run(number, tmp_path, side_px=96, pattern_share=0.0)
    assert len(list(tmp_path.glob("*.npz"))) == 2
    for a, b, c in zip(plain, patterned, again, strict=True):
        assert np.array_equal(a.nuclei, b.nuclei)
        assert np.array_equal(a.channels, c.channels)
        assert np.array_equal(a.channels[1:], b.channels[1:]) or a.expressed.any()
    changed = [
        not np.array_equal(a.channels, b.channels) for a, b in zip(plain, patterned, strict=True)
    ]
    assert any(changed[:3])


def test_training_goes_on_from_released_weights(tmp_path, monkeypatch, run):
    """Released weights hold no batch norms; what goes on from them is exported all the same."""
    from islet_imaging.network.training.export_model import export_checkpoint
    from islet_imaging.network.weights import load_model

    images = run[2]
    monkeypatch.setattr(
        "islet_imaging.network.training.positivity_training.run_samples",
        lambda numbers, cache, pattern_share=0.0: [s for i in images for s in image_samples(i)],
    )
    config = PositivityTrainingConfig(
        runs=1, validation_runs=1, crop_px=64, steps=2, batch_size=2, threads=1, workers=0,
        learning_rate=1e-5, validate_every=2, start_from="islet-positivity",
    )  # fmt: skip
    train_positivity(config, tmp_path / "out")
    export_checkpoint(tmp_path / "out" / "checkpoint.pt", tmp_path / "model", version="9.0.0")
    old, new = load_model("islet-positivity"), load_model(tmp_path / "model")
    one, two = old.torch_module().state_dict(), new.torch_module().state_dict()
    assert one.keys() == two.keys()
    assert all(abs(one[k] - two[k]).max() < 1e-2 for k in one)
    assert any((one[k] != two[k]).any() for k in one)


def test_config_refuses_unknown_keys(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("run: 3\n")
    with pytest.raises(ProtocolError, match="run"):
        PositivityTrainingConfig.from_yaml(path)
