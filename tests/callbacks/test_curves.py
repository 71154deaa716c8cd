"""curves.png draws what the record holds."""

import numpy as np
import pytest
from PIL import Image

from lightning_gen.callbacks import Curves, RecordLogger
from lightning_gen.results.curves import COLOURS, draw_curves, logarithmic, series, smooth


def painted(path, colour: str) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((np.abs(pixels - wanted).max(axis=2) < 12).sum())


def test_lines_become_series_in_order_of_step():
    lines = [{"name": n, "step": s, "value": float(s)} for s in (1, 2, 5) for n in ("a", "b")]
    steps, values = series(lines)["b"]
    assert steps.tolist() == [1, 2, 5] and values.tolist() == [1.0, 2.0, 5.0]


def test_smoothing_keeps_a_constant_and_is_the_debiased_average():
    assert np.allclose(smooth(np.full(50, 3.0), 10), 3.0)
    values, decay = np.random.default_rng(0).normal(size=20), 1 - 1 / 4
    weights = decay ** np.arange(20)[::-1]
    assert np.isclose(smooth(values, 4)[-1], (weights * values).sum() / weights.sum())
    assert np.allclose(smooth(values, 1), values)
    values[5] = np.nan
    assert np.isfinite(smooth(values, 4)).all()


def test_every_curve_is_drawn(tmp_path):
    logger = RecordLogger(tmp_path)
    for step in range(1, 61):
        logger.log_metrics({"train/loss": 1 / step}, step)
        if step % 20 == 0:
            logger.log_metrics({"val/loss/ema": 1 / step}, step)
    path = draw_curves(tmp_path)
    one = painted(path, COLOURS[0])
    assert one > 100 and painted(path, COLOURS[1]) > 100
    for step in (20, 40, 60):
        logger.log_metrics({"fid/x/ema": 9.0 - step / 10, "fid/x/ema/error": 0.5, "fid/x/held-out": 2.0}, step)
    assert painted(draw_curves(tmp_path), COLOURS[0]) > one
    logger.log_metrics({"speed/step": float("nan"), "a": float("inf")}, 61)
    draw_curves(tmp_path)


@pytest.mark.parametrize(("panel", "values", "expected"), [
    ("train/loss", [0.9, 1.1], True), ("train/loss", [-0.1, 1.1], False), ("train/loss", [np.nan, 2.0], True),
    ("train/loss", [np.nan], False), ("fid/digits", [2.0, 3.0], False), ("fid/digits", [2.0, 300.0], True),
])  # fmt: skip
def test_a_loss_has_a_logarithmic_axis_and_other_numbers_over_decades(panel, values, expected):
    assert logarithmic(panel, np.array(values)) is expected


def test_speeds_that_differ_by_decades_are_drawn_from_zero(tmp_path, recwarn):
    logger = RecordLogger(tmp_path)
    for step, rate in enumerate([3.0, 400.0, 500.0], 1):
        logger.log_metrics({"speed/images_per_s": rate}, step)
    draw_curves(tmp_path)
    assert not [str(each.message) for each in recwarn if "ylim" in str(each.message)]


def test_nothing_recorded_draws_nothing(tmp_path):
    assert draw_curves(tmp_path) is None


def test_it_is_there_when_training_ends_and_drawn_and_sent_after_a_test(
    tmp_path, known, rows, make_trainer, monkeypatch
):
    sent = []
    monkeypatch.setattr("lightning_gen.callbacks.curves.log_image", lambda trainer, *what: sent.append(what))
    trainer = make_trainer(Curves(every_n_epochs=1), loggers=[RecordLogger(tmp_path)])
    module = known()
    trainer.fit(module, rows(), rows())
    path = tmp_path / "curves.png"
    before = path.stat().st_mtime_ns
    assert not sent, "loggers have the numbers themselves"
    trainer.test(module, rows(), verbose=False)
    assert path.stat().st_mtime_ns > before and sent == [("curves", path)]
