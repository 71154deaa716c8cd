"""The Inception path, with seeded random weights in a file: the real ones cannot be had without a network."""

import io
import pickle
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from lightning_gen.metrics import InceptionFeatures
from lightning_gen.metrics.cache import file_digest
from lightning_gen.metrics.features.inception import SHA256, _interpolation, downloaded
from lightning_gen.metrics.fetch import fetch_inception, main

DATA = SimpleNamespace(name="patches", shape=(3, 32, 32), value_range=(-1.0, 1.0), classes=None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, *_):
            return None

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Untrained("inception", ["2048"], nothing).state_dict()
    # torch's default initial weights halve the signal at every layer; sqrt(6) keeps it
    torch.save({name: x * 6**0.5 if "conv.weight" in name else x for name, x in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def inception(weights):
    features = InceptionFeatures(str(weights), file_digest(weights))
    features.prepare(DATA)
    return features


def _images(channels: int = 3, side: int = 32) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(256, (2, channels, side, side), generator=draw, dtype=torch.uint8)


def test_equals_torch_fidelitys_own_extractor(weights, inception):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    theirs = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(weights))
    features, logits = inception(_images())
    assert features.shape == (2, 2048) and logits.shape == (2, 1008) and features.std() > 1e-3
    for ours, reference in zip((features, logits), theirs(_images()), strict=True):
        assert (ours - reference).norm() < 1e-6 * reference.norm()  # another memory layout rounds otherwise
    grey = _images(1)
    assert torch.equal(inception(grey)[0], inception(grey.repeat(1, 3, 1, 1))[0])
    assert inception.identity()["features_sha256"] == file_digest(weights)


def test_resize_is_tensorflow_1s_and_another_is_another_metric(inception):
    images = _images()
    step = torch.arange(299) * (32 / 299)  # no half-pixel offset
    low, share = step.long(), step - step.long()
    high = (low + 1).clamp_max(31)
    x = images.float()
    rows = x[..., low, :] * (1 - share)[:, None] + x[..., high, :] * share[:, None]
    tf1 = rows[..., low] * (1 - share) + rows[..., high] * share
    smooth = F.interpolate(x, (299, 299), mode="bilinear", antialias=True)
    assert (tf1 - smooth).abs().mean() > 5  # of 255
    features = inception(images)[0]

    def at_full_size(big):  # 299 x 299 passes the resize unchanged
        return inception(big.round().clamp(0, 255).to(torch.uint8))[0]

    # what remains of the first is the rounding to uint8
    assert (at_full_size(tf1) - features).norm() < 0.1 * (at_full_size(smooth) - features).norm()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 45), (1, 7), (300, 512), (299, 299)])
def test_two_products_resize_as_torch_fidelity_does(height, width):
    x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    ours = _interpolation(height) @ x @ _interpolation(width).mT
    theirs = interpolate_bilinear_2d_like_tensorflow1x(x, size=(299, 299), align_corners=False)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_eval_mode_and_float32_whatever_happens_around(inception):
    expected = inception(_images())[0]
    nn.ModuleList([inception]).train()
    assert not any(part.training for part in inception.modules())
    matmul = torch.get_float32_matmul_precision()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        found = inception(_images())[0]
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert torch.get_float32_matmul_precision() == matmul


def test_loading_moves_no_generator_and_works_in_inference_mode(weights):
    before = torch.get_rng_state()
    features = InceptionFeatures(str(weights), file_digest(weights))
    with torch.inference_mode():
        features.prepare(DATA)
    assert torch.equal(before, torch.get_rng_state())
    assert not any(p.is_inference() or p.requires_grad for p in features.parameters())


def test_missing_weights_name_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"lightning_gen\.metrics\.fetch") as error:
        InceptionFeatures().check(DATA)
    assert str(downloaded()) in str(error.value)
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    assert URL_INCEPTION_V3.endswith(downloaded().name)  # torch-fidelity would look for the same file


def test_wrong_weights_are_refused(weights, tmp_path):
    with pytest.raises(ValueError, match=SHA256):
        InceptionFeatures(str(weights)).check(DATA)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        InceptionFeatures(str(weights), "6726825d")
    code = tmp_path / "code.pth"
    code.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(ValueError, match="tensors"):
        InceptionFeatures(str(code), file_digest(code)).prepare(DATA)
    with pytest.raises(ValueError, match="1 or 3 channels"):
        InceptionFeatures(str(weights)).check(SimpleNamespace(name="moons", shape=(2,)))


def test_fetch_checks_what_it_downloads(tmp_path, monkeypatch, capsys):
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    sha = file_digest(source)
    there = fetch_inception(tmp_path / "deep" / "copy", source.as_uri(), sha)
    assert there.read_bytes() == b"weights"
    with pytest.raises(RuntimeError, match="hash"):
        fetch_inception(tmp_path / "other", source.as_uri(), "0" * 64)
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="0000"):
        fetch_inception(there, source.as_uri(), "0" * 64)
    monkeypatch.setattr("lightning_gen.metrics.fetch.fetch_inception", lambda to: to)
    main(["--to", str(there)])
    assert capsys.readouterr().out == f"{there}\nSHA-256 {sha}\n"


def test_a_fetch_that_fails_is_one_sentence(tmp_path, monkeypatch, capsys):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(SystemExit) as stop:
        main(["--to", str(tmp_path / "nowhere")])
    assert stop.value.code == 1
    assert capsys.readouterr().err.endswith("no route to host\n")
