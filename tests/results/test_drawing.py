"""Pictures show exactly the images' pixels at their places."""

import numpy as np
import pytest
import torch
from PIL import Image

from lightning_gen.errors import NonFinite
from lightning_gen.process import VE, VP, Clean, DiscreteVP, Interpolant, SubVP, cosine_betas, linear_betas
from lightning_gen.results.drawing import (
    GAP,
    VISIBLE,
    check_finite,
    cloud_strip,
    even_frames,
    grid,
    save_gif,
    save_png,
    save_samples,
    scatter,
    strip,
    to_uint8,
)


def images(n: int, h: int, w: int, c: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, h, w, c), dtype=np.uint8)


@pytest.mark.parametrize(("n", "h", "w", "c", "columns", "scale", "gap"), [
    (7, 8, 8, 1, 3, 4, 2), (4, 5, 3, 3, None, 1, 1), (64, 8, 8, 1, None, None, None), (2, 32, 32, 3, 9, None, 0),
])  # fmt: skip
def test_a_grid_holds_every_pixel_at_its_place_and_nothing_else(n, h, w, c, columns, scale, gap):
    x = images(n, h, w, c)
    picture = grid(x, columns, scale, gap)
    across = min(n, columns or int(np.ceil(np.sqrt(n))))
    scale = scale or max(1, -(-600 // (across * w)))
    gap = max(1, scale // 2) if gap is None else gap
    covered = np.zeros(picture.shape[:2], bool)
    for i in range(n):
        top = gap + (i // across) * (h * scale + gap)
        left = gap + (i % across) * (w * scale + gap)
        for dy in range(scale):
            for dx in range(scale):
                rows, cols = top + dy + scale * np.arange(h), left + dx + scale * np.arange(w)
                assert (picture[np.ix_(rows, cols)] == x[i]).all()
                covered[np.ix_(rows, cols)] = True
    assert covered.sum() == n * h * w * scale**2
    assert (picture[~covered] == GAP).all()
    assert picture.shape[2] == c


@pytest.mark.parametrize(("size", "n"), [(8, 64), (32, 64), (8, 9), (28, 64), (256, 16)])
def test_a_grid_is_wide_enough_for_a_person(size, n):
    assert grid(images(n, size, size, 1)).shape[1] >= 600


def test_a_strip_is_a_row_per_sample_and_a_column_per_time():
    x = images(6, 4, 4, 1).reshape(2, 3, 4, 4, 1)
    picture = strip(x, scale=1, gap=1)
    for row in range(2):
        for time in range(3):
            assert (picture[1 + 5 * row : 5 + 5 * row, 1 + 5 * time : 5 + 5 * time] == x[row, time]).all()


def test_floats_are_refused_by_the_grid():
    with pytest.raises(TypeError, match="uint8"):
        grid(np.zeros((2, 4, 4, 1), np.float32))


def test_to_uint8_rounds_and_neither_floors_nor_wraps():
    x = torch.tensor([0.0, 0.499 / 255, 0.501 / 255, 1.0, 1.01, -0.01, 254.6 / 255]).reshape(1, 1, 1, 7)
    assert to_uint8(x).reshape(-1).tolist() == [0, 0, 1, 255, 255, 0, 255]
    every = torch.arange(256).reshape(1, 1, 16, 16)
    assert (to_uint8(every / 255)[0, :, :, 0] == every[0, 0].numpy()).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_drawn(bad):
    x = torch.zeros(3, 1, 2, 2)
    x[1, 0, 0, 0] = bad
    with pytest.raises(NonFinite, match="1 of 3.*step 7.*rank 2"):
        check_finite(x, "samples", 7, 2)
    with pytest.raises(NonFinite):
        to_uint8(x)


@pytest.mark.parametrize("c", [1, 3])
def test_a_png_read_back_is_the_picture(tmp_path, c):
    picture = grid(images(5, 8, 6, c))
    back = np.asarray(Image.open(save_png(tmp_path / "a" / "b.png", picture)))
    assert (back.reshape(picture.shape) == picture).all()


PROCESSES = {
    "VP": VP(),
    "sub-VP": SubVP(),
    "VE": VE(0.01, 50.0),
    "VE from zero": VE(0.002, 80.0, start="zero"),
    "interpolant": Interpolant(),
    "discrete, linear": DiscreteVP(linear_betas()),
    "discrete, cosine": DiscreteVP(cosine_betas()),
    "no noise": Clean(),
}


@pytest.mark.parametrize("steps", [1, 5, 11, 50, 1000])
@pytest.mark.parametrize("count", [2, 11])
@pytest.mark.parametrize("process", PROCESSES)
def test_frames_are_even_in_log_snr(process, steps, count):
    """None other is nearer to its place, but for those that are taken."""
    levels = PROCESSES[process].snr(torch.linspace(1, 0, steps + 1, dtype=torch.float64)).log().numpy()
    chosen = even_frames(levels.tolist(), count)
    assert len(chosen) == min(count, steps + 1) and (chosen[0], chosen[-1]) == (0, steps)
    assert sorted({*chosen}) == chosen
    if process == "no noise":
        assert np.abs(np.diff(chosen) - steps / (len(chosen) - 1)).max() <= 1
        return
    within = np.clip(levels, *VISIBLE)
    places = np.linspace(within[0], within[-1], count)
    free = np.setdiff1d(np.arange(1, steps), chosen)
    for i, place in zip(chosen[1:-1], places[1:-1], strict=False):
        assert len(chosen) <= count and (not len(free) or abs(levels[i] - place) <= abs(levels[free] - place).min())
    if steps == 1000 and count == 11:
        assert np.abs(np.diff(within[chosen]) - (places[1] - places[0])).max() < 0.25 * (places[1] - places[0])


def test_of_a_chain_at_many_levels_each_frame_ends_a_level():
    levels = np.repeat([-6.0, -4.0, -2.0, 0.0, 2.0, 4.0], 100)
    assert even_frames(levels.tolist(), 6) == [0, 199, 299, 399, 499, 599]


def test_saved_samples_are_the_samples(tmp_path):
    x = images(9, 8, 8, 1)
    picture, archive = save_samples(tmp_path, "00000007", x, 3, "DDIM", labels=np.arange(9))
    with np.load(archive) as held:
        assert (held["images"] == x).all() and held["seed"] == 3 and str(held["sampler"]) == "DDIM"
        assert (held["labels"] == np.arange(9)).all()
    assert (picture.name, archive.name) == ("grid-00000007.png", "samples-00000007.npz")
    assert (np.asarray(Image.open(picture)) == grid(x)[:, :, 0]).all()


def test_clouds_are_drawn_where_they_lie():
    left, right = np.full((50, 2), (-1.0, 0.0)), np.full((50, 2), (1.0, 0.0))
    frame = np.array([[-1.0, -1.0], [1.0, 1.0]])

    def middle(points: np.ndarray) -> float:
        picture = scatter([("", points)], reference=frame).astype(int)
        blue = picture[:, :, 2] - picture[:, :, 0] > 60
        return np.nonzero(blue)[1].mean() / picture.shape[1]

    assert middle(left) < 0.35 < 0.65 < middle(right)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e12, 1e30, 3.4e38, np.nan, np.inf])
def test_clouds_are_drawn_whatever_their_values(scale):
    """Of a chain that diverges, of one that collapses far out, and where nothing is a number."""
    unit = np.float32([[-1, -1], [1, 1], [0.5, -0.5]])
    far, collapsed = unit * np.float32(scale), np.full((3, 2), np.float32(scale))
    for frames in ([far, unit, far], [unit, far, collapsed], [far, far, unit]):
        assert cloud_strip([(f"{i}", frame) for i, frame in enumerate(frames)], unit).dtype == np.uint8


def test_a_gif_has_its_frames_in_order(tmp_path):
    frames = [np.full((8, 8, 1), level, np.uint8) for level in (0, 120, 255)]
    with Image.open(save_gif(tmp_path / "a.gif", frames)) as film:
        seen = []
        for k in range(film.n_frames):
            film.seek(k)
            seen.append(int(np.asarray(film.convert("L")).mean()))
    assert seen == [0, 120, 255]
