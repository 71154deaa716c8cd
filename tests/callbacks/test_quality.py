"""Quality: the numbers are those of exactly these n images, whoever draws them, and training does not notice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_gen.callbacks.quality import Quality
from lightning_gen.data import Digits, Moons, Split
from lightning_gen.errors import NonFinite
from lightning_gen.metrics import (
    ClassifierFeatures,
    InceptionFeatures,
    PixelFeatures,
    frechet_distance,
    inception_score,
    kernel_distance,
    moments,
)
from lightning_gen.randomness import generator
from tests.callbacks.quality_parts import Noisy, Projection, measure
from tests.callbacks.trainers import trainer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process's numbers."""
    folder = tmp_path_factory.mktemp("alone")
    measure(folder, 150)
    measure(folder, 50)
    return folder


def _metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def _by_hand(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features = Projection()
    features.prepare(None)
    return features(images)


def _drawn(n: int) -> torch.Tensor:
    x = torch.cat([Noisy().draw(block, 64) for block in range(-(-n // 64))])[:n]
    assert x.abs().max() > 1  # so that clamping matters: uint8 would wrap
    return ((x + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8)


def test_the_numbers_are_those_of_exactly_n_images(alone, digits):
    found = _metrics(alone / "150")
    features, logits = _by_hand(_drawn(150))
    real = _by_hand(digits.split("train").images(slice(None)))[0]
    fid = frechet_distance(*moments(features), *moments(real))
    kid = kernel_distance(features, real, generator(0, "subset", "kid"), 5, 40)
    score = inception_score(logits, generator(0, "subset", "is"))
    expected = {"fid": fid, "kid": kid.value, "is": score.value}
    expected |= {"sharpness": score.sharpness, "diversity": score.diversity}
    for name, value in expected.items():
        assert found[f"{name}/projection/ema"]["value"] == pytest.approx(value, rel=1e-6)
    assert found["kid/projection/ema"]["error"] == pytest.approx(kid.error, rel=1e-6)
    floored = _by_hand((_drawn(150).int() - 1).clamp_min(0).to(torch.uint8))[0]  # the quantisation can be seen
    assert frechet_distance(*moments(floored), *moments(real)) != pytest.approx(fid, rel=1e-6)


def test_held_out_images_are_measured_and_the_model_at_their_number(alone, tmp_path, digits):
    measure(tmp_path, 360)
    found = _metrics(tmp_path / "360")
    train, test = (_by_hand(digits.split(name).images(slice(None)))[0] for name in ("train", "test"))
    exact = frechet_distance(*moments(test), *moments(train))
    assert found["fid/projection/held-out"]["value"] == pytest.approx(exact, rel=1e-6)
    assert found["fid/projection/held-out"]["protocol"]["n"] == len(test) == 360
    assert not [name for name in found if "-n" in name]  # 360 against 360: nothing to match
    fewer = _metrics(alone / "50")
    assert fewer["fid/projection/held-out"]["protocol"]["n"] == 50  # of 360, drawn by the seed


def test_a_recipe_is_chosen_against_the_validation_split(tmp_path, digits):
    measure(tmp_path, 50, reference="val")
    entry, real = _metrics(tmp_path / "50")["fid/projection/ema"], _by_hand(digits.split("val").images(slice(None)))[0]
    exact = frechet_distance(*moments(_by_hand(_drawn(50))[0]), *moments(real))
    assert entry["value"] == pytest.approx(exact, rel=1e-6)
    assert (entry["protocol"]["reference"], entry["protocol"]["n_reference"]) == ("val", 137)


def test_more_samples_than_held_out_images_get_a_row_at_their_number(tmp_path, digits):
    measure(tmp_path, 380)
    found, train = _metrics(tmp_path / "380"), _by_hand(digits.split("train").images(slice(None)))[0]
    first = _by_hand(_drawn(380)[:360])[0]
    matched = found["fid/projection/ema-n360"]
    assert matched["value"] == pytest.approx(frechet_distance(*moments(first), *moments(train)), rel=1e-6)
    assert matched["protocol"]["n"] == 360 and found["fid/projection/ema"]["protocol"]["n"] == 380


def test_every_number_carries_its_protocol(alone, digits):
    entry = _metrics(alone / "150")["kid/projection/ema"]
    expected = {
        "n": 150,
        "features": "projection",
        "reference": "train",
        "reference_fingerprint": digits.split("train").fingerprint(),
        "n_reference": 1300,
        "sampler": {"name": "noise"},
        "evaluations": 2.0,  # 1, 2 and 3 for the three blocks
        "guidance": "no labels",
        "weights": "ema",
        "seed": 0,
        "block": 64,
        "kid_subset_size": 40,
        "torch": str(torch.__version__),
    }
    assert {key: entry["protocol"][key] for key in expected} == expected
    assert entry["kind"] == "estimate"


@pytest.mark.slow  # tests/callbacks/test_quality_ranks.py has the sums of any number of ranks
def test_two_ranks_find_what_one_finds_and_stop_together(alone, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "tests.callbacks.quality_parts", "quality", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for n in ("150", "50"):
        one, two = (_metrics(folder / n) for folder in (alone, tmp_path))
        assert one.keys() == two.keys()
        for name, entry in one.items():
            assert two[name]["value"] == pytest.approx(entry["value"], rel=1e-6), name
            assert two[name]["protocol"] == entry["protocol"]
    messages = {(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)}
    assert messages == {"samples of block 1 are not finite at step 0, rank 1: the model has diverged"}
    assert not (tmp_path / "nan" / "metrics.json").exists()


def test_seconds_are_those_of_drawing_alone(tmp_path, digits, monkeypatch):
    """By a clock that drawing block b moves by b + 1 seconds, and features by 100."""
    clock = [0.0]
    draw, extract = Noisy.draw, Projection.extract
    monkeypatch.setattr("lightning_gen.callbacks.measuring.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(Noisy, "draw", lambda s, b, n: (clock.__setitem__(0, clock[0] + b + 1), draw(s, b, n))[1])
    monkeypatch.setattr(Projection, "extract", lambda s, x: (clock.__setitem__(0, clock[0] + 100), extract(s, x))[1])
    quality = Quality(Projection(), n=150, kid_subsets=2, cache=str(tmp_path))
    runner, module = trainer(tmp_path, quality), Noisy()
    runner.test(module, datamodule=digits, verbose=False)
    drawn = quality.drawn(runner, module)
    assert drawn.seconds == pytest.approx(6 * 1000 / 150) and drawn.evaluations == 2
    assert drawn.spread == pytest.approx((1 / 3) ** 0.5 * 3 * 1000 / 150)
    quality.n = 64
    assert quality.drawn(runner, module).spread is None  # of one block


def test_features_are_extracted_in_batches_of_images(tmp_path, digits):
    """Blocks of 64 samples, 20 images at a time."""
    quality = Quality(Projection(), n=150, kid_subsets=2, cache=str(tmp_path), batch=20)
    runner, module = trainer(tmp_path, quality), Noisy()
    runner.test(module, datamodule=digits, verbose=False)
    quality.features.seen.clear()
    found = quality.drawn(runner, module)
    assert [len(images) for images in quality.features.seen] == [20, 20, 20, 4, 20, 20, 20, 4, 20, 2]
    quality.batch = 64
    whole = quality.drawn(runner, module)
    torch.testing.assert_close(found.features, whole.features)
    torch.testing.assert_close(found.logits, whole.logits)


def test_samples_that_are_not_finite_give_no_number(tmp_path):
    quality = Quality(Projection(), n=100, cache=str(tmp_path))
    with pytest.raises(NonFinite, match="block 1 .*step 0.*rank 0"):
        trainer(tmp_path, quality).test(Noisy(bad_block=1), datamodule=Digits(), verbose=False)
    assert not (tmp_path / "metrics.json").exists()


def test_features_that_are_not_finite_give_no_number(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Projection, "extract", lambda self, x: (x.float().flatten(1)[:, :6] / 0, x.float()[:, 0, 0, :4])
    )
    quality = Quality(Projection(), n=100, cache=str(tmp_path))
    with pytest.raises(NonFinite, match="projection.*not finite.*block 0 .*step 0.*rank 0"):
        trainer(tmp_path, quality).test(Noisy(), datamodule=Digits(), verbose=False)


def test_global_generator_and_mode_are_left_alone(tmp_path, digits):
    module, quality = Noisy(), Quality(Projection(), n=100, kid_subsets=3, cache=str(tmp_path))
    runner = trainer(tmp_path, quality)
    runner.test(module, datamodule=digits, verbose=False)
    module.eval()
    module.ema.train()
    before = torch.get_rng_state()
    quality.run(runner, module, final=False)
    assert torch.equal(before, torch.get_rng_state())
    assert not module.training and module.ema.training


def _fitted(folder: Path, quality: Quality | None) -> tuple[Noisy, object]:
    torch.manual_seed(3)
    module, runner = Noisy(), trainer(folder, quality, max_epochs=3, num_sanity_val_steps=1, limit_train_batches=3)
    runner.fit(module, datamodule=Digits())
    return module, runner


def test_measuring_does_not_move_training(tmp_path):
    quality = Quality(Projection(), n=64, kid_subsets=3, every_n_epochs=2, cache=str(tmp_path))
    watched, runner = _fitted(tmp_path / "watched", quality)
    plain, _ = _fitted(tmp_path / "plain", None)
    assert torch.equal(watched.weight, plain.weight) and watched.weight.abs().sum() > 0
    assert len(watched.asked) == 1  # in the second epoch, not in the sanity check
    assert runner.callback_metrics["fid/projection/ema"] > 0
    assert "fid/projection/held-out" not in runner.callback_metrics
    assert not (tmp_path / "watched" / "metrics.json").exists()
    silent = Quality(Projection(), n=64, cache=str(tmp_path))
    assert not _fitted(tmp_path / "silent", silent)[0].asked


def test_it_samples_in_the_trainers_precision_and_measures_in_float32(tmp_path):
    module, features = Noisy(), Projection()
    quality = Quality(features, n=20, kid_subsets=2, cache=str(tmp_path))
    trainer(tmp_path, quality, precision="bf16-mixed").test(module, datamodule=Digits(), verbose=False)
    assert module.autocast == [True]
    assert features(features.seen[0])[0].dtype == torch.float32


def test_raw_is_measured_and_named_where_asked_or_where_there_is_no_average(tmp_path):
    for label, module in (("asked", Noisy()), ("no average", Noisy(ema=False))):
        weights = "raw" if label == "asked" else "ema"
        quality = Quality(Projection(), n=20, kid_subsets=2, weights=weights, seed=7, block=16, cache=str(tmp_path))
        trainer(tmp_path / label, quality).test(module, datamodule=Digits(), verbose=False)
        assert module.asked == [(20, 7, "raw", 16)]
        assert "fid/projection/raw" in _metrics(tmp_path / label)
        assert "fid/projection/ema" not in _metrics(tmp_path / label)


def test_reference_features_are_made_once(tmp_path):
    for seen in (1300 + 360 + 20, 20):
        features = Projection()
        quality = Quality(features, n=20, kid_subsets=2, cache=str(tmp_path))
        trainer(tmp_path, quality).test(Noisy(), datamodule=Digits(), verbose=False)
        assert sum(map(len, features.seen)) == seen


def test_points_are_measured_as_they_are(tmp_path):
    class Plane(Noisy):
        shape, value_range = (2,), None

        def decode(self, x):
            return x

    data = Moons(n=500, test_size=100)
    quality = Quality(PixelFeatures(), n=300, metrics=["fid", "kid"], kid_subsets=2, cache=str(tmp_path))
    trainer(tmp_path, quality).test(Plane(), datamodule=data, verbose=False)
    x = torch.cat([Plane().draw(block, 64) for block in range(5)])[:300]
    exact = frechet_distance(*moments(x), *moments(data.split("train").points(slice(None))))
    assert _metrics(tmp_path)["fid/points/ema"]["value"] == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 1, "metrics": ["fid"]}, "quality.n is 1: fid need 2"),
        ({"n": 9}, "quality.n is 9: fid, kid, is need 10"),
        ({"block": 0}, "block is .?0"),
        ({"metrics": ["fid", "psnr"]}, "metrics has .psnr., which is no metric: choose one of .*fid_inf"),
        ({"metrics": ["fidd"]}, "metrics has .fidd., which is no metric: did you mean fid\\?"),
        ({"metrics": "fid"}, "metrics is .?fid.*list"),
        ({"metrics": []}, "metrics.*fid_inf"),
        ({"reference": "test"}, "quality.held_out=false"),
        ({"weights": "best"}, "weights is .?best"),
        ({"kid_subset_size": 2}, "kid_subset_size is 2"),
    ],
)
def test_impossible_settings_are_one_sentence(options, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence) as error:
        Quality(Projection(), **options)
    assert "\n" not in str(error.value)


class Short(Digits):
    """Digits with a test split of 4."""

    def load(self):
        splits = dict(super().load())
        splits["test"] = Split(splits["test"].images(slice(4)), splits["test"].labels(slice(4)))
        return splits


@pytest.mark.parametrize(
    ("features", "data", "options", "error", "sentence"),
    [
        (PixelFeatures, Digits, {}, ValueError, "pixels.*logits"),
        (
            Projection,
            Short,
            {},
            ValueError,
            "10 .*digits.*4.*quality.held_out",
        ),
        (ClassifierFeatures, Moons, {}, ValueError, "quality=pixels"),
        (lambda: InceptionFeatures("/nowhere.pth"), Digits, {}, FileNotFoundError, "fetch.*quality=efficientnet"),
    ],
)
def test_what_cannot_be_measured_stops_before_training(tmp_path, features, data, options, error, sentence):
    module, quality = Noisy(), Quality(features(), cache=str(tmp_path), **options)
    with pytest.raises(error, match=sentence):
        trainer(tmp_path, quality, max_epochs=1).fit(module, datamodule=data())
    assert not module.weight.any()


def test_no_extractor_is_a_type_error():
    with pytest.raises(TypeError, match="features is"):
        Quality("inception")
