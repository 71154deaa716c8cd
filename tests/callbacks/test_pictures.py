"""Pictures draws what the module samples, as numbers and as pixels, at the right moment and by rank 0 alone."""

import numpy as np
import pytest
from PIL import Image

from lightning_gen.callbacks import Pictures, RecordLogger
from lightning_gen.data import Rings
from lightning_gen.errors import NonFinite
from lightning_gen.results import drawing
from lightning_gen.results.drawing import grid, strip, to_uint8


def test_the_files_hold_the_samples_themselves(tmp_path, known, rows, make_trainer):
    module = known((3, 4, 4))
    module.trained_steps = 40
    make_trainer(Pictures(n=70, strip=2, times=3, seed=5, gif=True)).test(module, rows(), verbose=False)
    expected = to_uint8(module.decode(module.target(70, 5)))
    with np.load(tmp_path / "samples" / "samples-00000040.npz") as held:
        assert held["images"].shape == (70, 4, 4, 3) and (held["images"] == expected).all()
        assert held["seed"] == 5 and "Fixed" in str(held["sampler"])
    picture = np.asarray(Image.open(tmp_path / "samples" / "grid-00000040.png"))
    assert (picture == grid(expected)).all()
    way = [to_uint8(module.decode(k * module.target(2, 5))) for k in (0.0, 0.5, 1.0)]
    assert (np.asarray(Image.open(tmp_path / "samples" / "strip-00000040.png")) == strip(np.stack(way, 1))).all()
    with Image.open(tmp_path / "samples" / "trajectory-00000040.gif") as film:
        assert film.n_frames > 3


def test_pictures_come_at_the_asked_epochs_at_the_losses_step(tmp_path, known, rows, make_trainer):
    callback = Pictures(n=4, strip=0, every_n_epochs=2)
    make_trainer(callback, loggers=[RecordLogger(tmp_path)], max_epochs=5).fit(known(), rows(), rows())
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["grid-00000008.png", "grid-00000016.png"]


def test_points_are_drawn_and_saved_as_points(tmp_path, known, rows, make_trainer):
    module = known((2,))
    make_trainer(Pictures(points=100, strip=1)).test(module, rows(), verbose=False)
    with np.load(tmp_path / "samples" / "samples-00000000.npz") as held:
        assert np.allclose(held["points"], module.target(100, 0).numpy())
    assert Image.open(tmp_path / "samples" / "strip-00000000.png").width >= 600


def test_a_long_chain_of_points_is_drawn_at_even_times_beside_the_data(known, make_trainer, monkeypatch):
    """From the start to the samples, and as many points of the data: no place of the last row is empty."""
    module, seen = known((2,), length=500), []
    draw = drawing.scatter
    monkeypatch.setattr(
        drawing, "scatter", lambda panels, **options: (seen.append((panels, options)), draw(panels, **options))[1]
    )
    make_trainer(Pictures(points=50, strip=1)).test(module, datamodule=Rings(n=64, test_size=8), verbose=False)
    panels, options = seen[-1]
    names = [name for name, _ in panels]
    assert (names[0], *names[-2:]) == ("start", "samples", "data") and len(names) % options["columns"] == 0
    shares = [0.0, *(float(name[:-1]) / 100 for name in names[1:-2]), 1.0]
    np.testing.assert_allclose(shares, np.linspace(0, 1, 11), atol=0.05)
    for share, (_, points) in zip(shares, panels, strict=False):
        np.testing.assert_allclose(points, share * module.target(50, 0), atol=0.0051)
    assert len(panels[-1][1]) == 50 and np.linalg.norm(panels[-1][1], axis=1).max() > 1.7


def test_samples_that_are_not_finite_stop_the_run(tmp_path, known, rows, make_trainer):
    with pytest.raises(NonFinite, match="samples"):
        make_trainer(Pictures(n=4, strip=0)).test(known(spoil=True), rows(), verbose=False)
    assert not (tmp_path / "samples").exists()


def test_the_raw_weights_are_drawn_where_there_is_no_average(known, rows, make_trainer):
    averaged, raw = known(), known()
    raw.ema = None
    for module in (averaged, raw):
        make_trainer(Pictures(n=4, strip=0)).test(module, rows(), verbose=False)
    assert (averaged.asked, raw.asked) == (["ema"], ["raw"])


@pytest.mark.parametrize("wrong", [{"n": 0}, {"times": 1}, {"scale": 0}, {"weights": "best"}, {"every_n_epochs": -1}])
def test_wrong_options_are_named(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is"):
        Pictures(**wrong)
