"""ScoreField: no error for the truth, the known error of a wrong score, one row a time, refusals before any work."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from lightning_gen.callbacks import score_field
from lightning_gen.callbacks.loggers.record import RecordLogger
from lightning_gen.callbacks.score_field import ScoreField, law, ratio
from lightning_gen.data import Checkerboard, Digits, Rings
from lightning_gen.errors import NonFinite
from lightning_gen.models import Scored
from lightning_gen.process import VE, VP, Clean
from lightning_gen.results.pictures.fields import Field, plane, score_fields
from lightning_gen.results.store import read_record
from lightning_gen.runs.metrics_file import read_metrics


class Truth(Scored):
    """`factor` times the exact score; with labels, only the one for none is answered."""

    def __init__(self, data, process, factor=1.0, classes=None):
        super().__init__(process)
        self.data, self.factor, self.classes, self.asked = data, factor, classes, []

    def score(self, x, t):
        """The data's own, at the process's alpha and sigma^2."""
        self.asked.append(self.training)
        assert (self.label is None) == (self.classes is None)
        assert self.label is None or (self.label == self.classes).all()
        return self.factor * self.data.score(x, self.process.variance(t), self.process.alpha(t)).to(x)


class Noiseless(Scored):
    """Predicts noise: its score divides by sigma."""

    def noise(self, x, t):
        """0."""
        return torch.zeros_like(x)


@pytest.fixture
def run(tmp_path, known, make_trainer):
    """The test stage, or a fit, of a module with this model, on 300 test points."""

    def start(callback, data, model, raw=None, classes=None, fit=False):
        module = known((2,))
        module.model, module.classes, module.trained_steps = raw or model, classes, 12
        module.weights = lambda which: module.model if which == "raw" else model
        trainer = make_trainer(callback, loggers=[RecordLogger(tmp_path)], max_epochs=4, limit_train_batches=2)
        if fit:
            trainer.fit(module, datamodule=data)
            return read_record(tmp_path / "record.jsonl")
        trainer.test(module, datamodule=data, verbose=False)
        return read_metrics(tmp_path / "metrics.json")

    return start


@pytest.fixture
def undrawn(monkeypatch):
    """A picture of nothing, where only the figure matters."""
    monkeypatch.setattr(ScoreField, "field", lambda *_: None)
    monkeypatch.setattr(score_field, "score_fields", lambda *_: np.zeros((4, 4, 3), np.uint8))


def rings() -> Rings:
    return Rings(n=256, val_size=10, test_size=300, batch_size=128)


@pytest.mark.parametrize("process", [Clean(), VE(0.01, 2.0), VP()], ids=lambda p: type(p).__name__)
def test_the_truth_has_no_error_and_a_scaled_one_the_square_of_what_is_missing(process, run, undrawn):
    """s = (1 + c) s*: the ratio is c^2 at every point, so its standard error is 0."""
    data = rings()
    t = 0.0 if type(process) is Clean else [0.05, 0.6]
    for factor, expected in ((1.0, 0.0), (0.7, 0.09), (-1.0, 4.0)):
        found = run(ScoreField(t=t, grid=5), data, Truth(data, process, factor))
        names = ["ema"] if t == 0 else ["t=0.05/ema", "t=0.6/ema"]
        assert set(found) == {f"score/relative_error/{name}" for name in names}
        for result in found.values():
            assert result["value"] == pytest.approx(expected, rel=1e-5, abs=1e-10)
            assert result["error"] == pytest.approx(0, abs=1e-6)
            assert (result["kind"], result["step"], result["protocol"]["n"]) == ("estimate", 12, 300)


def test_points_are_noised_as_the_process_says(run, undrawn, monkeypatch):
    """Where the score is asked, E|x|^2 = alpha^2 E|x_0|^2 + 2 sigma^2."""
    data, process, seen = rings(), VP(), []
    model = Truth(data, process)
    score = model.score
    monkeypatch.setattr(model, "score", lambda x, t: (seen.append(x), score(x, t))[1])
    protocol = run(ScoreField(t=[0.3], grid=5), data, model)["score/relative_error/t=0.3/ema"]["protocol"]
    alpha, variance = law(model, 0.3)
    assert (protocol["alpha"], protocol["variance"]) == (alpha, variance)
    clean = data.split("test").points(slice(None)).double()
    excess = seen[0].double().square().sum(1) - alpha**2 * clean.square().sum(1)
    assert abs(float(excess.mean()) - 2 * variance) < 4 * float(excess.std()) / len(excess) ** 0.5
    assert float(excess.mean()) > variance


def test_the_ratio_of_means_and_its_error():
    """Over 4000 repetitions the values scatter by the error that each one names."""
    draw = torch.randn(4000, 200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    b = draw[..., 0]
    a = 0.1 * draw[..., 1] + 0.3 * b
    found = torch.tensor([ratio(*pair) for pair in zip(a, b, strict=True)], dtype=torch.float64)
    assert float(found[:, 0].mean()) == pytest.approx(0.4, abs=0.003)
    assert float(found[:, 0].std()) == pytest.approx(float(found[:, 1].mean()), rel=0.06)


def test_the_picture_shows_both_fields_and_the_error_a_row_a_time(run, tmp_path, monkeypatch):
    """Arrows as long as the root of the score, on the same grid and scale; the error's length, to the truth's scale."""
    arrows, shown = [], []
    quiver, imshow = Axes.quiver, Axes.imshow
    monkeypatch.setattr(Axes, "quiver", lambda self, *a, **b: (arrows.append(a), quiver(self, *a, **b))[1])
    monkeypatch.setattr(Axes, "imshow", lambda self, a, **b: (shown.append(a), imshow(self, a, **b))[1])
    data, sizes = rings(), []
    for times in ([0.2], [0.2, 0.7]):
        run(ScoreField(t=times, grid=5), data, Truth(data, VP(), 0.5))
        sizes.append(Image.open(tmp_path / "samples" / "field-00000012.png").size)
    assert sizes[1] == (sizes[0][0], 2 * sizes[0][1]) and sizes[0][0] >= 600
    assert (len(arrows), len(shown)) == (6, 9)
    for row, t in ((1, 0.2), (2, 0.7)):
        alpha, variance = law(Truth(data, VP()), t)
        true, learned = (np.stack(a) for a in arrows[2 * row : 2 * row + 2])
        place = torch.from_numpy(true[:2].T)
        expected = data.score(place, variance, alpha).numpy()
        drawn, norm = np.linalg.norm(true[2:], axis=0) ** 2, np.linalg.norm(expected, axis=1)
        np.testing.assert_allclose(drawn, norm * (drawn[0] / norm[0]), rtol=1e-6, atol=1e-8)
        assert (true[2:] * expected.T >= 0).all()
        np.testing.assert_allclose(learned, true * np.array([[1], [1], [0.5**0.5], [0.5**0.5]]), rtol=1e-4, atol=1e-6)
        shade = plane(float(place.abs().max()), 200)
        length = data.score(shade, variance, alpha).norm(dim=1).view(200, 200).numpy()
        np.testing.assert_allclose(shown[3 * row + 2], 0.5 * length, rtol=1e-3, atol=1e-4 * length.max())
        density = data.log_density(shade, variance, alpha).exp().view(200, 200).numpy()
        for panel in shown[3 * row : 3 * row + 2]:
            np.testing.assert_allclose(panel**2, density, rtol=1e-9)


def test_the_grid_is_row_by_row_from_below():
    points = plane(2.0, 3)
    assert points[:4].tolist() == [[-2, -2], [0, -2], [2, -2], [-2, 0]] and points[-1].tolist() == [2, 2]


def test_it_measures_the_asked_weights_at_rest_and_without_a_label(run, undrawn):
    """The average is exact and the raw model is not; both are given back in the mode in which they came."""
    data = rings()
    average, raw = Truth(data, VP(), classes=4), Truth(data, VP(), 0.5, classes=4)
    average.train()
    found = run(ScoreField(t=0.4, grid=5), data, average, raw, classes=4)
    assert found["score/relative_error/ema"]["value"] < 1e-9
    assert average.training and not any(average.asked)
    found = run(ScoreField(t=0.4, grid=5, weights="raw"), data, average, raw, classes=4)
    assert found["score/relative_error/raw"]["value"] == pytest.approx(0.25)


def test_it_comes_at_the_asked_epochs(run, undrawn, tmp_path):
    data = rings()
    lines = run(ScoreField(t=0.4, grid=5, every_n_epochs=2), data, Truth(data, VP(), 0.5), fit=True)
    assert [line["step"] for line in lines if line["name"] == "score/relative_error/ema"] == [4, 8]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["field-00000004.png", "field-00000008.png"]
    assert not (tmp_path / "metrics.json").exists()


def test_a_score_that_is_not_finite_stops_the_run(run, tmp_path):
    data = rings()
    with pytest.raises(NonFinite, match="score at t = 0.4 .* step 12"):
        run(ScoreField(t=0.4, grid=5), data, Truth(data, VP(), float("nan")))
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize(
    ("data", "model", "t", "words"),
    [
        (Digits, lambda data: Noiseless(VP()), 0.5, "digits.*callbacks.field=null"),
        (Checkerboard, lambda data: Truth(data, Clean()), 0.0, "checkerboard"),
        (rings, lambda data: Noiseless(VP()), 0.0, "callbacks.field.t.*0"),
        (lambda: Rings(test_size=1), lambda data: Truth(data, Clean()), 0.0, "2 .*test"),
    ],
)
def test_what_has_no_score_is_refused_before_any_work(data, model, t, words, run, tmp_path):
    data = data()
    with pytest.raises(ValueError, match=words):
        run(ScoreField(t=t), data, model(data))
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    "options", [{"t": -0.1}, {"t": [0.5, 2]}, {"t": []}, {"t": [0.5, 0.5]}, {"n": 1}, {"grid": 1}, {"weights": "both"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        ScoreField(**options)


def test_arrows_that_are_cut_are_red():
    points = plane(1.0, 4)
    true = points.clone()

    def reds(learned):
        picture = score_fields([Field("", 1.0, np.ones((8, 8)), np.ones((8, 8)), points, true, learned, 0.0)], 4)
        r, g, b = picture.astype(int).transpose(2, 0, 1)
        return int(((r > 200) & (g < 60) & (b < 60)).sum())

    assert reds(true) == 0
    longer = true.clone()
    longer[0] *= -1e20
    assert reds(longer) > 20
