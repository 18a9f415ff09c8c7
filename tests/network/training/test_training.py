"""Crops, targets, the training loop and fine-tuning, on tiny runs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install .[train]")
tifffile = pytest.importorskip("tifffile")

from islet_imaging.errors import Cancelled, ImageReadError, ProtocolError  # noqa: E402
from islet_imaging.network.architecture import (  # noqa: E402
    UNet,
    UNetConfig,
    count_parameters,
    fold_batch_norm,
)
from islet_imaging.network.normalise import compress  # noqa: E402
from islet_imaging.network.targets import make_targets  # noqa: E402
from islet_imaging.network.training.augmentation import IGNORED, augment, overlay  # noqa: E402
from islet_imaging.network.training.loop import LoopConfig, averaged_weights, one_cycle, train  # noqa: E402
from islet_imaging.network.training.nuclei_data import CropSource, make_sample  # noqa: E402
from islet_imaging.network.training.nuclei_loss import nuclei_loss  # noqa: E402
from islet_imaging.network.training.nuclei_training import NucleiTrainingConfig  # noqa: E402
from tests.network.test_nuclei import picture  # noqa: E402

TINY = UNetConfig(1, 8, (4, 6, 8, 8))


def source(**options):
    dna, truth = picture((160, 200))
    sample = make_sample(dna, truth, name="a", group="a")
    return CropSource({"cultures": [sample]}, {"cultures": 1.0}, size_px=64, **options)


def loop(**options):
    return LoopConfig(steps=6, batch_size=2, workers=0, checkpoint_every=3, **options)


def test_crops_are_functions_of_seed_and_number():
    a, b = source(seed=3).crop(5), source(seed=3).crop(5)
    c = source(seed=4).crop(5)
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["image"], c["image"])


def test_crops_are_finite_and_aligned():
    crops = source()
    for i in range(30):
        crop = crops.crop(i)
        assert crop["image"].shape == (1, 64, 64)
        assert all(np.isfinite(v).all() for v in crop.values())
        assert set(np.unique(crop["foreground"])) <= {0.0, 1.0}
        # offsets point at a place inside the crop's nuclei, so they are short
        assert np.abs(crop["offset"]).max() < 6


def test_nuclei_are_brighter_than_what_is_around():
    crops = source(empty_share=0.0)
    better = 0
    for i in range(20):
        crop = crops.crop(i)
        inside = crop["foreground"] > 0
        if inside.any() and not inside.all():
            better += crop["image"][0][inside].mean() > crop["image"][0][~inside].mean()
    assert better >= 18


def test_plain_crops_show_the_image_as_it_is():
    plain = source(empty_share=0.0, plain_share=1.0)
    limits = plain.sources["cultures"][0].levels[0][0]
    for i in range(10):
        crop = plain.crop(i)
        # linear interpolation invents no grey value
        assert crop["image"].max() <= compress(limits.max()) + 1e-6
        assert crop["image"].min() >= compress(np.float32(-0.1)) - 1e-6
    assert not np.array_equal(plain.crop(0)["image"], source(empty_share=0.0).crop(0)["image"])


def test_what_is_left_of_a_covered_nucleus_is_neither_right_nor_wrong():
    labels = np.zeros((32, 32), np.int32)
    labels[4:16, 4:16], labels[20:30, 20:30] = 1, 2
    upper = np.zeros_like(labels)
    upper[4:16, 7:20] = 1
    grey = np.where(labels > 0, 1.0, 0.1).astype(np.float32)
    rng = np.random.default_rng(0)
    _, mixed = overlay(grey, labels, np.where(upper > 0, 1.0, 0.1).astype(np.float32), upper, rng)
    assert (mixed[4:16, 4:7] == IGNORED).all()
    assert (mixed[upper > 0] == 3).all()
    assert (mixed[20:30, 20:30] == 2).all()
    _, changed = augment(grey, mixed, rng)
    assert np.array_equal(changed, mixed)


def test_ignored_pixels_have_no_weight():
    dna, truth = picture((96, 96))
    truth[truth == 1] = IGNORED
    sample = make_sample(dna, truth, name="a", group="a", diameter_px=16)
    crops = CropSource({"p": [sample]}, {"p": 1.0}, size_px=96, empty_share=0.0)
    assert any((crops.crop(i)["weight"] == 0).sum() > 50 for i in range(10))


def test_offsets_lead_to_the_centre():
    labels = np.zeros((32, 32), np.int32)
    labels[4:16, 6:20] = 3
    t = make_targets(labels)
    y, x = np.nonzero(t["inside"])
    ends = np.stack([2 * y + 0.5, 2 * x + 0.5]) + 8 * t["offset"][:, y, x]
    assert np.allclose(ends[0], 9.5)
    assert np.allclose(ends[1], 12.5)


def test_network_is_small_and_folding_changes_nothing():
    assert count_parameters(UNet(UNetConfig())) < 2_000_000
    net = UNet(TINY)
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            net(image)
        net.eval()
        assert torch.allclose(net(image), fold_batch_norm(net)(image), atol=1e-5)
        folded = fold_batch_norm(net)
        assert torch.equal(folded(image), fold_batch_norm(folded)(image))


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(tmp_path):
    torch.manual_seed(0)
    first = UNet(TINY)
    start = {k: v.clone() for k, v in first.state_dict().items()}
    whole = train(first, source(), nuclei_loss, loop(), tmp_path / "whole")
    calls = iter([False, False, False, True])
    second = UNet(TINY)
    second.load_state_dict(start)
    with pytest.raises(Cancelled, match="step 3"):
        train(
            second, source(), nuclei_loss, loop(), tmp_path / "cut", cancelled=lambda: next(calls)
        )
    resumed = train(UNet(TINY), source(), nuclei_loss, loop(), tmp_path / "cut")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-6)
    stored = averaged_weights(tmp_path / "cut" / "checkpoint.pt")
    assert torch.equal(stored["head.weight"], resumed.state_dict()["head.weight"])


def test_training_leaves_torch_threads_alone(tmp_path):
    before = torch.get_num_threads()
    train(UNet(TINY), source(), nuclei_loss, loop(threads=1), tmp_path)
    assert torch.get_num_threads() == before


def test_loss_falls(tmp_path):
    torch.manual_seed(0)
    config = LoopConfig(steps=50, batch_size=4, workers=0, learning_rate=3e-3)
    net = UNet(TINY)
    batch = {k: torch.from_numpy(v)[None] for k, v in source().crop(100_000).items()}
    with torch.no_grad():
        before = nuclei_loss(net.eval()(batch["image"]), batch)["total"]
    net = train(net, source(), nuclei_loss, config, tmp_path)
    with torch.no_grad():
        after = nuclei_loss(net(batch["image"]), batch)["total"]
    assert after < 0.95 * before
    assert (tmp_path / "log.csv").exists()


def test_one_cycle_rises_then_falls():
    config = LoopConfig(steps=100)
    rates = [one_cycle(i, config) for i in range(101)]
    top = int(np.argmax(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] < 0.02 * max(rates)


def test_config_refuses_unknown_keys(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("stepz: 3\n")
    with pytest.raises(ProtocolError, match="stepz"):
        NucleiTrainingConfig.from_yaml(path)
    path.write_text("steps: 3\nleft_out_organs: [bone]\n")
    assert NucleiTrainingConfig.from_yaml(path).left_out_organs == ("bone",)


def test_image_and_mask_must_fit():
    with pytest.raises(ImageReadError, match="differ"):
        make_sample(np.zeros((4, 4)), np.zeros((4, 5), int), name="x.tif", group="")


@pytest.mark.slow
def test_finetuning_compares_before_it_replaces(tmp_path):
    from islet_imaging.network.training.nuclei_finetune import finetune_nuclei
    from islet_imaging.network.weights import load_model

    for part in ("images", "masks"):
        (tmp_path / "data" / part).mkdir(parents=True)
    for i in range(3):
        dna, truth = picture((128, 128), seed=i)
        tifffile.imwrite(tmp_path / "data" / "images" / f"{i}.tif", dna)
        tifffile.imwrite(tmp_path / "data" / "masks" / f"{i}.tif", truth.astype(np.uint16))
    shipped = load_model("islet-nuclei").sha256
    result = finetune_nuclei(
        tmp_path / "data", tmp_path / "out", steps=4, batch_size=2, phantom_images=2
    )
    assert load_model("islet-nuclei").sha256 == shipped
    assert load_model(result.model).sha256 != shipped
    assert len(result.held_out) == 1
    assert result.after["f1"] > 0.5
    assert result.after["f1"] >= result.after_float32["f1"] - 0.005
    assert "weights" in result.weights
    assert (tmp_path / "out" / "comparison.json").exists()
