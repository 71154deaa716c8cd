"""The classifier's features: good, deterministic, kept, and out of everybody's way; and the pixel features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lightning_gen.data import Moons, Split
from lightning_gen.metrics import ClassifierFeatures, PixelFeatures, reference
from lightning_gen.metrics.cache import digest
from lightning_gen.metrics.features import classifier
from tests.data.sets import ready


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(digits, cache):
    before = torch.get_rng_state()
    features = ClassifierFeatures(cache=str(cache))
    with torch.inference_mode():  # as in the trainer's evaluation
        features.prepare(digits)
    assert torch.equal(before, torch.get_rng_state())
    return features


def _few(digits, n: int = 48, labels: bool = True) -> SimpleNamespace:
    """A data module of n training digits."""
    whole = digits.split("train")
    rows = torch.arange(n)
    split = Split(whole.images(rows), whole.labels(rows) if labels else None)
    return SimpleNamespace(
        name="few", shape=(1, 8, 8), classes=10 if labels else None, value_range=(-1, 1), split=lambda name: split
    )


def test_it_is_a_good_classifier_and_says_how_good(digits, trained):
    test = digits.split("test")
    logits = trained(test.images(slice(None)))[1]
    accuracy = float((logits.argmax(1) == test.labels(slice(None))).double().mean())
    assert accuracy >= 0.98
    described = trained.identity()
    assert (
        described["features_accuracy"] == pytest.approx(accuracy) and described["features_accuracy_on"] == "test (360)"
    )
    assert described["features_sha256"] == digest(trained.net.state_dict())
    assert (trained.name, trained.dim, trained.classes) == ("digits", 64, 10)


def test_the_logits_are_a_linear_map_of_the_features(digits, trained):
    features, logits = trained(digits.split("test").images(slice(0, 40)))
    assert features.shape == (40, 64) and features.dtype == torch.float32
    torch.testing.assert_close(trained.net.head(features), logits)


def test_a_trained_classifier_is_read_from_the_cache(digits, cache, trained, monkeypatch):
    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "train", never)
    again = ClassifierFeatures(cache=str(cache))
    again.prepare(digits)
    assert again.identity() == trained.identity()
    assert not list(cache.rglob("*.part"))
    with pytest.raises(AssertionError, match="trained again"):  # another seed, or other images, are others
        ClassifierFeatures(seed=1, cache=str(cache)).prepare(digits)
    with pytest.raises(AssertionError, match="trained again"):
        ClassifierFeatures(cache=str(cache)).prepare(_few(digits))


def test_the_seed_alone_decides(digits):
    few = _few(digits, 12)
    first = digest(classifier.train(few, 0, 16).state_dict())
    with torch.random.fork_rng():
        torch.manual_seed(123)
        assert digest(classifier.train(few, 0, 16).state_dict()) == first
    assert digest(classifier.train(few, 1, 16).state_dict()) != first


def test_one_process_trains_and_the_others_receive(digits, cache, trained, tmp_path):
    sent = []
    ClassifierFeatures(cache=str(cache)).prepare(digits, 0, lambda content: sent.append(content) or content)
    other = ClassifierFeatures(cache=str(tmp_path))
    other.prepare(digits, 1, lambda content: sent[0] if content is None else pytest.fail("rank 1 made its own"))
    assert other.identity() == trained.identity() and not list(tmp_path.rglob("*"))


def test_it_stays_in_eval_mode_and_in_float32(digits, trained):
    images = digits.split("test").images(slice(0, 20))
    expected = trained(images)[0]
    nn.ModuleList([trained]).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = trained(images)[0]
    assert torch.equal(found, expected)
    assert not any(p.is_inference() or p.requires_grad for p in trained.parameters())


def test_a_damaged_file_is_named(digits, cache, trained, tmp_path):
    (path,) = (cache / "classifiers").glob("digits-*-seed0.pt")
    (tmp_path / "classifiers").mkdir()
    copy = tmp_path / "classifiers" / path.name
    copy.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(ValueError, match=f"{copy}.*delete"):
        ClassifierFeatures(cache=str(tmp_path)).prepare(digits)
    content = torch.load(path, weights_only=True)
    content["weights"]["head.bias"] += 1
    torch.save(content, copy)
    with pytest.raises(ValueError, match=f"{copy}.*delete"):
        ClassifierFeatures(cache=str(tmp_path)).prepare(digits)


def test_default_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert ClassifierFeatures().folder == tmp_path / "lightning_gen" / "classifiers"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert ClassifierFeatures().folder == tmp_path / "home" / ".cache" / "lightning_gen" / "classifiers"


def test_data_without_labels_or_images_are_refused(digits):
    with pytest.raises(ValueError, match="2 classes"):
        ClassifierFeatures().check(_few(digits, labels=False))
    with pytest.raises(ValueError, match="images"):
        ClassifierFeatures().check(Moons())


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 48), (1, 5, 9)])
def test_any_size_of_image(shape):
    net = classifier.Classifier(shape, 7, 16).eval()
    features, logits = net(torch.zeros(2, *shape, dtype=torch.uint8))
    assert features.shape == (2, 16) and logits.shape == (2, 7)
    assert sum(p.numel() for p in net.parameters()) < 150_000


def test_pixels_and_points_are_themselves(digits):
    pixels, images = PixelFeatures(), digits.split("test").images(slice(0, 5))
    pixels.prepare(digits)
    found, logits = pixels(images)
    np.testing.assert_allclose(found.numpy(), images.numpy().reshape(5, 64) / 255, rtol=1e-6)
    assert logits is None and (pixels.name, pixels.dim) == ("pixels", 64)
    moons = ready(Moons(n=50))
    pixels.prepare(moons)
    points = moons.split("train").points(slice(None))
    assert torch.equal(pixels(points)[0], points) and (pixels.name, pixels.dim) == ("points", 2)


def test_the_reference_is_cached_by_content(digits, trained, tmp_path, monkeypatch):
    test = digits.split("test")
    first = reference(test, trained, tmp_path, batch=64)
    features, logits = trained(test.images(slice(None)))
    torch.testing.assert_close(first.features, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.logits, logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.cov, torch.cov(first.features.double().T))
    calls = []
    monkeypatch.setattr(trained, "extract", lambda images: calls.append(len(images)) or (images, images))
    again = reference(Split(test.images(slice(None)), test.labels(slice(None))), trained, tmp_path)
    assert not calls and torch.equal(again.features, first.features) and torch.equal(again.cov, first.cov)
    monkeypatch.undo()
    calls = []
    extract = type(trained).extract
    monkeypatch.setattr(type(trained), "extract", lambda self, x: calls.append(len(x)) or extract(self, x))
    reference(Split(255 - test.images(slice(None)), test.labels(slice(None))), trained, tmp_path)
    assert sum(calls) == 360
