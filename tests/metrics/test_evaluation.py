"""The numbers of one set of features are their functions', by the seed, with error, protocol, flags and hash."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.callbacks.quality import Quality
from lightning_gen.data import Digits
from lightning_gen.metrics import (
    frechet_distance,
    kernel_distance_all,
    manifold,
    memorised,
    moments,
    nearest,
)
from lightning_gen.metrics.evaluation import Evaluation, Options
from lightning_gen.metrics.reference import Reference
from lightning_gen.metrics.registry import metrics as registered
from lightning_gen.randomness import generator
from lightning_gen.results.drawing import GAP
from lightning_gen.results.report import closing_table, write_report
from lightning_gen.results.result import Result, protocol_hash
from tests.callbacks.quality_parts import Noisy, Projection
from tests.callbacks.trainers import trainer
from tests.data.sets import ready


def _set(n: int, seed: int, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def _reference(n: int, seed: int) -> Reference:
    x = _set(n, seed)
    return Reference(*moments(x), x, 2 * _set(n, seed + 20, 5))


REAL, TEST = _reference(80, 1), _reference(40, 2)
X, LOGITS = 1.3 * _set(120, 3) + 0.2, 2 * _set(120, 4, 5)


METRICS = ("fid", "fid_inf", "kid", "is", "precision", "recall", "density", "coverage", "memorised")
METRICS += ("class_distance", "sliced_wasserstein")


def _numbers(x=X, logits=LOGITS, real=REAL, memory=(REAL, TEST), metrics=METRICS, seed=0, **options):
    return Evaluation(x, logits, real, memory, Options(**options), seed).measure(metrics)


def test_the_registry_has_every_metric():
    assert set(registered()) == set(METRICS)


def test_every_number_is_its_functions():
    found = _numbers(neighbours=2, density_neighbours=4, at_most=70, alpha=0.1, kid_pairs="all")
    assert set(found) == {*METRICS, "sharpness", "diversity"}
    assert found["fid"].value == pytest.approx(frechet_distance(*moments(X), REAL.mean, REAL.cov), rel=1e-9)
    assert found["kid"].value == pytest.approx(kernel_distance_all(X, REAL.features).value)
    choice = torch.randperm(80, generator=generator(0, "subset", "manifold"))[:70]
    expected = manifold(X[:70], REAL.features[choice], 2, 4)
    for i, name in enumerate(("precision", "recall", "density", "coverage")):
        assert (found[name].value, found[name].error) == (expected[i], expected.errors[i])
        assert found[name].protocol["images_each"] == 70
        assert found[name].protocol["neighbours"] == (2 if i < 2 else 4)
    own = memorised(X[:70], REAL.features, TEST.features, generator(0, "subset", "memorised"), 0.1)
    assert (found["memorised"].value, found["memorised"].error) == (own.share, own.error)
    assert found["memorised"].observed["c_t"] == own.c_t
    assert found["sharpness"].value * found["diversity"].value == pytest.approx(found["is"].value, rel=0.2)
    for name, result in found.items():
        assert result.error >= 0 and {"bias", "error_by"} <= set(result.protocol), name


def test_only_what_is_asked_for_and_possible_is_measured():
    assert set(_numbers(metrics=["recall"])) == {"recall"}
    assert set(_numbers(metrics=["is", "memorised"], memory=None)) == {"is", "sharpness", "diversity"}
    assert set(_numbers(metrics=["is", "kid"], logits=None)) == {"kid"}


def test_the_seed_alone_decides():
    first, again, other = (_numbers(kid_subset_size=30, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["kid"].value != other["kid"].value and first["fid"].error != other["fid"].error
    assert first["fid"].value == other["fid"].value


def test_what_is_computed_from_too_little_is_flagged():
    sound = _numbers(kid_subset_size=30)
    assert not [name for name, result in sound.items() if result.flags and name != "fid_inf"]
    few = _numbers(x=X[:24], logits=LOGITS[:24], memory=(REAL, Reference(*TEST[:2], TEST.features[:10], None)))
    told = {name: list(result.flags) for name, result in few.items()}
    assert told["kid"] == ["KID's subsets hold 24 images, 1000 were asked for"]
    assert told["fid_inf"] == ["not linear in 1/N: subsets from 2 images in 6 dimensions"]
    assert told["is"] == ["2 images a split for 5 classes"]
    assert told["memorised"] == ["10 held-out images for a quantile of 0.05"]
    assert _numbers(x=X[:6], metrics=["fid"])["fid"].flags == ("fewer images (6) than dimensions (6)",)
    small = Reference(*moments(REAL.features[:5]), REAL.features[:5], None)
    flags = _numbers(real=small, metrics=["fid"])["fid"].flags
    assert flags == ("fewer reference images (5) than dimensions (6)",)
    equal = [_numbers(x=_set(200, seed), metrics=["fid_inf"], real=_reference(4000, 9)) for seed in range(10, 20)]
    below = [found["fid_inf"] for found in equal if found["fid_inf"].value < 0]
    assert below, "of equal laws some are below 0"
    assert all("below 0, which" in result.flags[-1] for result in below)


def test_the_hash_is_of_the_protocol_and_nothing_else():
    first = Result(1.0, "estimate", 0.1, "", {"n": 3, "sampler": {"a": 1, "b": 2}}, {"std": 0.3}).as_dict()
    same = Result(2.0, "estimate", None, "", {"sampler": {"b": 2, "a": 1}, "n": 3, "flags": ["few"]}).as_dict()
    assert first["protocol_hash"] == same["protocol_hash"] and len(first["protocol_hash"]) == 16
    assert first["observed"] == {"std": 0.3} and "observed" not in same
    for other in ({"n": 4, "sampler": {"a": 1, "b": 2}}, {"n": 3, "sampler": {"a": 1, "b": 3}}, {}):
        assert protocol_hash(other) != first["protocol_hash"]
    # what is seen while measuring does not make another protocol of it
    own = [dict(_numbers(x=_set(60, seed), kid_subset_size=30)["kid"].protocol) for seed in (3, 4)]
    assert protocol_hash(own[0]) == protocol_hash(own[1])


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder, features = tmp_path_factory.mktemp("measured"), Projection()
    quality = Quality(features, 100, METRICS, kid_subsets=5, cache=str(folder / "cache"))
    trainer(folder, quality).test(Noisy(), datamodule=Digits(), verbose=False)
    return folder, features


def test_features_are_computed_once_an_image_for_all_metrics(measured):
    folder, features = measured
    assert sum(map(len, features.seen)) == 1300 + 360 + 100
    found = json.loads((folder / "metrics.json").read_text())
    assert {f"{name}/projection/ema" for name in METRICS} <= set(found)
    for entry in found.values():
        assert entry["kind"] == "estimate" and {"n", "bias", "error_by", "features"} <= set(entry["protocol"])
    assert "memorised/projection/held-out" not in found and "coverage/projection/held-out" in found
    protocol = found["memorised/projection/ema"]["protocol"]
    assert (protocol["n_train"], protocol["n_held_out"], protocol["precision"]) == (1300, 360, "32-true")


def test_samples_stand_beside_their_nearest_training_images(measured):
    folder, features = measured
    picture = np.asarray(Image.open(folder / "samples" / "neighbours-00000000.png"))
    data = ready(Digits())
    images = ((Noisy().draw(0, 64) + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8)
    train = data.split("train").images(slice(None))
    squares, index = nearest(features(images)[0], features(train)[0], 5)
    scale = -(-600 // (6 * 8))  # enlarged to 600 pixels, with half a pixel of an image between
    gap = scale // 2
    step, apart = 8 * scale + gap, gap + 4 * scale  # between sample and neighbours, more than between tiles
    assert picture.shape == (10 * step + gap, 6 * step + gap + apart)
    assert (picture[:, gap + 8 * scale : step + apart] == GAP).all()
    for row, i in enumerate(squares[:, 0].argsort(stable=True)[:10].tolist()):
        for column, expected in enumerate([images[i, 0], *train[index[i], 0]]):
            left = gap + column * step + apart * (column > 0)
            tile = picture[gap + row * step :, left:][: 8 * scale : scale, : 8 * scale : scale]
            assert (tile == expected.numpy()).all(), (row, column)
    page = write_report(folder).read_text()
    assert "the training images nearest to it (neighbours-00000000.png)" in page


def test_flags_stand_below_with_the_names_of_their_numbers():
    entry = Result(3.0, "estimate", 0.1, "", {"n": 9, "flags": ["fewer images (9) than dimensions (64)"]}).as_dict()
    assert "FID: fewer images (9) than dimensions (64)" in closing_table({"fid/digits/ema": entry}).splitlines()
    sound = Result(4.0, "estimate", 0.1, "", {"n": 9}).as_dict()
    lines = closing_table({"fid/digits/ema": sound, "fid/digits/held-out": entry}).splitlines()
    assert "FID of held-out data: fewer images (9) than dimensions (64)" in lines


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metrics": ["precision"], "n": 5}, "quality.n is 5: precision need 6"),
        ({"metrics": ["precision"], "density_neighbours": 9, "n": 9}, "quality.n is 9: precision need 10"),
        ({"metrics": ["fid_inf"], "n": 19}, "quality.n is 19: fid_inf need 20"),
        ({"kid_pairs": "some"}, "kid_pairs is .?some"),
        ({"alpha": 1.0}, "alpha is 1"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"resamples": 1}, "resamples is 1"),
        ({"at_most": 9}, "quality.at_most is 9"),
    ],
)
def test_impossible_settings_are_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Quality(Projection(), **options)


def test_memorisation_needs_images_that_were_held_out(tmp_path):
    class Untested(Digits):
        def load(self):
            splits = dict(super().load())
            return splits | {"test": splits["test"].__class__(splits["test"].images(slice(1)))}

    quality = Quality(Projection(), 20, ["memorised"], held_out=False, cache=str(tmp_path))
    with pytest.raises(ValueError, match="2 .*digits.*1.*memorised"):
        trainer(tmp_path, quality).test(Noisy(), datamodule=Untested(), verbose=False)
