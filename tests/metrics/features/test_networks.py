"""Features of a named network: what it says of an image, found at a layer, its weights checked, nothing else moved."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_gen.config.instantiate import build
from lightning_gen.config.signatures import check
from lightning_gen.errors import NonFinite
from lightning_gen.metrics import ClassifierFeatures, ModuleFeatures, PixelFeatures, TimmFeatures, quantised
from lightning_gen.metrics.cache import digest, file_digest
from lightning_gen.metrics.fetch import main

DATA = SimpleNamespace(name="grey", shape=(1, 8, 8), classes=None)
POINTS = SimpleNamespace(name="moons", shape=(2,), classes=None)


def _net(channels: int = 1) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
        )


def _images(n: int = 5, channels: int = 1) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, channels, 8, 8), generator=draw, dtype=torch.uint8)


def test_the_output_or_a_layer_with_the_output_as_logits():
    net, images = _net(), _images()
    whole, inside = ModuleFeatures(net, "own"), ModuleFeatures(net, "own", layer="2")
    for features in (whole, inside):
        features.prepare(DATA)
    expected = net.eval()(images / 255)
    assert (whole.dim, whole.classes, inside.dim, inside.classes) == (3, None, 16, 3)
    assert torch.equal(whole(images)[0], expected) and whole(images)[1] is None
    layer, logits = inside(images)
    assert torch.equal(layer, net[:3](images / 255).flatten(1)) and torch.equal(logits, expected)
    assert not net[2]._forward_hooks
    whole.train()
    assert not net[1].training  # its dropout stays asleep
    assert whole.identity()["features_sha256"] == digest(dict(net.state_dict()))


def test_images_are_resized_repeated_and_standardised():
    features = ModuleFeatures(nn.Identity(), "seen", resize=4, channels=3, mean=[0.5, 0.4, 0.3], std=[0.5, 0.2, 0.1])
    features.prepare(DATA)
    assert features.dim == 48
    flat = torch.full((2, 1, 8, 8), 51, dtype=torch.uint8)  # 0.2
    expected = torch.tensor([-0.6, -1.0, -1.0]).repeat_interleave(16)
    torch.testing.assert_close(features(flat)[0], expected.expand(2, -1))
    assert features.identity()["resize"] == "bilinear, antialiased, 4x4"
    plain = ModuleFeatures(nn.Identity(), "plain")
    plain.prepare(POINTS)
    assert torch.equal(plain(torch.ones(3, 2))[0], torch.ones(3, 2))


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_are_checked_and_loaded_without_moving_the_generator(tmp_path, ending):
    net, path = _net(), tmp_path / f"weights.{ending}"
    tensors = {name: x + 1 for name, x in net.state_dict().items()}
    save_file(tensors, path) if ending == "safetensors" else torch.save(tensors, path)
    features = ModuleFeatures(_net(), "own", str(path), file_digest(path))
    before = torch.get_rng_state()
    features.prepare(DATA)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(features.module[4].bias, net[4].bias + 1)
    assert features.identity()["features_sha256"] == digest(tensors)
    with pytest.raises(ValueError, match="expected 0000"):
        ModuleFeatures(_net(), "own", str(path), "0" * 64).check(DATA)
    with pytest.raises(FileNotFoundError, match="set quality.features.weights"):
        ModuleFeatures(_net(), "own", str(tmp_path / "none.pt"), "0" * 64).check(DATA)
    with pytest.raises(ValueError, match="does not fit Linear"):
        ModuleFeatures(nn.Linear(2, 2), "own", str(path), file_digest(path)).prepare(POINTS)


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_a_file_of_something_else_is_refused_with_the_way_to_write_it(tmp_path, ending):
    path = tmp_path / f"words.{ending}"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"words.* does not hold tensors alone .*write it anew.*save_file"):
        ModuleFeatures(_net(), "own", str(path), file_digest(path)).prepare(DATA)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"module": "resnet"}, TypeError, "module is 'resnet'"),
        ({"name": "a/b"}, ValueError, "without /"),
        ({"weights": "file"}, ValueError, "go together"),
        ({"layer": "head"}, ValueError, "choose among 0, 1, 2, 3, 4"),
        ({"mean": [0.5]}, ValueError, "go together"),
        ({"resize": 0}, ValueError, "resize is 0"),
        ({"weights": "f", "sha256": "12"}, ValueError, "64 hexadecimal"),
    ],
)
def test_impossible_settings_are_one_sentence(options, error, sentence):
    with pytest.raises(error, match=sentence):
        ModuleFeatures(**{"module": _net(), "name": "own", **options}).check(DATA)


def test_a_config_may_name_it():
    node = {
        "_target_": "lightning_gen.metrics.ModuleFeatures",
        "module": {"_target_": "torchvision.models.resnet18", "num_classes": 5},
        "name": "resnet18",
        "layer": "avgpool",
        "resize": 32,
        "channels": 3,
    }
    assert check(node) == []
    assert check(node | {"module": {**node["module"], "weights": "DEFAULT"}}) != []  # would be fetched
    features = build(node)
    features.prepare(DATA)
    assert (features.dim, features.classes) == (512, 5)
    assert features(_images())[0].shape == (5, 512)


def test_only_uint8_images_are_looked_at():
    features = PixelFeatures()
    features.prepare(DATA)
    with pytest.raises(TypeError, match="takes uint8 images, got torch.float32"):
        features(_images() / 255)
    x = torch.tensor([[[[0.0, 0.5, 1.0, 0.999]]]])
    assert quantised(x).flatten().tolist() == [0, 128, 255, 255]
    for low, high in ((-0.001, 1.0), (0.0, 1.001)):
        with pytest.raises(ValueError, match=r"in \[0, 1\], got"):
            quantised(torch.tensor([low, high]))
    with pytest.raises(NonFinite):
        quantised(torch.tensor([0.5, float("nan")]))
    with pytest.raises(TypeError, match="float images"):
        quantised(_images())
    with pytest.raises(ValueError, match="choose quality=pixels"):
        ClassifierFeatures().check(POINTS)


def _stand_in() -> ModuleType:
    """timm's interface, as far as it is used."""

    class Net(nn.Module):
        num_features, num_classes = 4, 3
        pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(192, 4), nn.Linear(4, 3)

        def forward_features(self, x):
            return self.body(x.flatten(1))

        def forward_head(self, x, pre_logits):
            return x if pre_logits else self.head(x)

    library = ModuleType("timm")
    library.__spec__, library.__version__ = importlib.util.spec_from_loader("timm", None), "0"
    library.list_pretrained = lambda: ["net.tag"]
    library.create_model = lambda name, pretrained: Net()
    return library


def test_timms_networks_from_a_checked_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", _stand_in())
    path = tmp_path / "net.safetensors"
    main(["--timm", "net.tag", "--to", str(path)])
    told = capsys.readouterr().out
    assert told == f"{path}\nSHA-256 {file_digest(path)}\n"
    before, x = torch.get_rng_state(), _images() / 127.5 - 1
    for projected, dim in ((False, 4), (True, 3)):
        features = TimmFeatures("net.tag", str(path), file_digest(path), projected)
        features.prepare(DATA)
        expected = features.net.body(x.expand(-1, 3, -1, -1).flatten(1))
        found = features(_images())[0]
        assert found.shape == (5, dim) and features.dim == dim and features.name == "net"
        torch.testing.assert_close(found, features.net.head(expected) if projected else expected)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(FileNotFoundError, match="metrics.fetch --timm net.tag --to FILE"):
        TimmFeatures("net.tag", "/nowhere.safetensors", "0" * 64).check(DATA)
    with pytest.raises(ValueError, match="expected 0000"):
        TimmFeatures("net.tag", str(path), "0" * 64).check(DATA)
    with pytest.raises(ValueError, match="timm has no weights"):
        TimmFeatures("net", str(path), "0" * 64).check(DATA)
    with pytest.raises(SystemExit):
        main(["--timm", "net.tag", "--to", str(tmp_path / "net.pt")])
    assert "ends in .safetensors" in capsys.readouterr().err


def test_without_timm_there_is_a_sentence(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "timm" else find(name, *a))
    with pytest.raises(ValueError, match=r"pip install 'lightning-gen\[timm\]'"):
        TimmFeatures("net.tag", "file", "0" * 64).check(DATA)


@pytest.mark.parametrize(
    ("model", "projected", "dim"),
    [
        pytest.param("vit_small_patch14_dinov2.lvd142m", False, 384, marks=pytest.mark.slow),
        ("vit_base_patch32_clip_224.openai", True, 512),
    ],
)
def test_dinov2_and_clip_are_timms_own(tmp_path, model, projected, dim):
    net = timm.create_model(model, pretrained=False).eval()
    path = tmp_path / "weights.safetensors"
    save_file(net.state_dict(), path)
    features = TimmFeatures(model, str(path), file_digest(path), projected)
    features.prepare(DATA)
    data = timm.data.resolve_data_config(pretrained_cfg=net.pretrained_cfg)
    x = nn.functional.interpolate(_images(1) / 255, data["input_size"][1:], mode="bicubic", antialias=True).clamp(0, 1)
    x = (x.expand(-1, 3, -1, -1) - torch.tensor(data["mean"]).view(3, 1, 1)) / torch.tensor(data["std"]).view(3, 1, 1)
    with torch.no_grad():
        expected = net(x)
    torch.testing.assert_close(features(_images(1))[0], expected, rtol=1e-4, atol=1e-5)
    assert features.dim == dim
