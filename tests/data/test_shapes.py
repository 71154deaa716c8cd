"""Pictures of shapes: their factors are in the picture, no two pictures agree, and the file's order is checked."""

import math

import numpy
import pytest
import torch

from lightning_gen.data import DSprites, Shapes
from tests.data.sets import ready


@pytest.fixture(scope="module")
def shapes():
    return ready(Shapes())


@pytest.fixture(scope="module")
def grid(shapes):
    """(shape, scale, rotation, x, y, H, W), in [0, 1]."""
    return shapes.all_images().view(3, 4, 8, 8, 8, 32, 32).double() / 255


def moments(images):
    """Mass, centre (x, y) and covariance of pictures (..., H, W), y pointing up, in pixels."""
    place = torch.arange(32, dtype=torch.float64) - 15.5
    mass = images.sum((-2, -1))
    x, y = (images.sum(-2) @ place) / mass, -(images.sum(-1) @ place) / mass
    u, v = place - x[..., None], -place - y[..., None]
    share = images / mass[..., None, None]
    xx, yy = (share.sum(-2) * u**2).sum(-1), (share.sum(-1) * v**2).sum(-1)
    xy = (share * v[..., :, None] * u[..., None, :]).sum((-2, -1))
    return mass, x, y, xx, yy, xy


def test_no_two_pictures_agree_and_none_touches_the_border(shapes):
    images = shapes.all_images()
    assert images.shape == (6144, 1, 32, 32) == (math.prod(shapes.factor_sizes), *shapes.shape)
    assert len(torch.unique(images.flatten(1), dim=0)) == 6144
    border = [images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1]]
    assert max(int(side.max()) for side in border) == 0


def test_the_factors_are_in_the_picture(grid):
    mass, x, y, *_ = moments(grid)
    places = 0.2 * 32 * torch.linspace(-1, 1, 8).double()
    # A heart's centre of mass is not that about which it turns: shapes' own offsets are the same at every place.
    for found, axis in ((x, 3), (y, 4)):
        ends = found.movedim(axis, -1)
        torch.testing.assert_close(
            ends - ends.mean(-1, keepdim=True), places.expand_as(ends), atol=0.13, rtol=0
        )  # whole samples, a quarter of a pixel
        assert (ends.diff(dim=-1) > 0.5).all()
    radius = 16 * torch.tensor([0.2, 0.3, 0.4, 0.5]).double()
    area = {0: (1.4 * radius) ** 2, 1: math.pi * 0.95 * 0.5 * radius**2}
    for kind, expected in area.items():
        found = mass[kind].mean((1, 2, 3))
        torch.testing.assert_close(found, expected, rtol=0.04, atol=0)
    assert (mass.diff(dim=1) > 3).all()


def test_an_ellipse_turns_by_a_sixteenth_of_a_half_turn(grid):
    _, _, _, xx, yy, xy = moments(grid[1, 3])
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)
    expected = torch.arange(8).double() * math.pi / 16
    torch.testing.assert_close(angle, expected[:, None, None].expand_as(angle), atol=0.02, rtol=0)


def test_a_heart_points_down(grid):
    upright = grid[2, 3, 0, 4, 4]
    widths = (upright > 0.5).sum(1)
    widths = widths[widths > 0]
    assert widths[: len(widths) // 2].max() > 1.5 * widths[-3:].max()
    torch.testing.assert_close(upright.sum(0)[upright.sum(0) > 0], upright.sum(0)[upright.sum(0) > 0].flip(0))


def test_combinations_and_factors_undo_each_other(shapes):
    every = torch.arange(6144)
    factors = shapes.factors(every)
    assert torch.equal(shapes.combinations(factors), every)
    assert factors.max(0).values.tolist() == [size - 1 for size in shapes.factor_sizes]
    assert factors[1].tolist() == [0, 0, 0, 0, 1] and factors[8].tolist() == [0, 0, 0, 1, 0]
    assert factors[-1].tolist() == [2, 3, 7, 7, 7]


def test_splits_are_disjoint_labelled_by_shape_and_do_not_move_with_the_seed(shapes):
    assert [len(shapes.split(name)) for name in ("train", "val", "test")] == [4608, 512, 1024]
    rows = torch.cat([shapes.split(name).take(slice(None)).flatten(1) for name in ("train", "val", "test")])
    assert len(torch.unique(rows, dim=0)) == 6144
    number = {tuple(image.tolist()): i for i, image in enumerate(shapes.all_images().flatten(1)[:, ::3])}
    test = shapes.split("test").take(slice(0, 50)).flatten(1)[:, ::3]
    labels = shapes.split("test").labels(slice(0, 50)).tolist()
    found = [number[tuple(image.tolist())] // 2048 for image in test]
    assert len(number) > 6000 and sum(a == b for a, b in zip(found, labels, strict=True)) >= 49
    # equal on every machine: no comparison is a matter of rounding
    assert shapes.split("test").fingerprint() == "181c6fb069c69e2b"


def test_binarised_pictures_are_so_everywhere():
    data = ready(Shapes(size=16, binarise="threshold", value_range=(0.0, 1.0), seed=3))
    for images in (data.all_images(), data.split("test").take(slice(None))):
        assert set(images.unique().tolist()) == {0, 255}
    assert data.shape == (1, 16, 16)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Shapes(binarise="stochastic"), "binarise is 'stochastic'"),
        (lambda: Shapes(size=8), "size is 8"),
        (lambda: DSprites("x", every=[1, 1, 1]), r"every is \[1, 1, 1\]"),
        (lambda: DSprites("x", every=[3, 1, 1, 1, 1]), r"every is \[3, 1, 1, 1, 1\]"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()


@pytest.fixture
def sprites(tmp_path, monkeypatch):
    """A file in dSprites' layout of 96 pictures, number i of which has i at its first pixels."""
    monkeypatch.setattr(DSprites, "whole_sizes", (3, 2, 4, 2, 2))

    def write(order=None, **changes):
        index = numpy.arange(96) if order is None else order
        bits = (index[:, None] >> numpy.arange(7)) & 1
        images = numpy.zeros((96, 64, 64), dtype=numpy.uint8)
        images[:, 0, :7] = bits
        classes = numpy.stack([0 * index, *numpy.unravel_index(index, (3, 2, 4, 2, 2))], 1)
        arrays = {"imgs": images, "latents_classes": classes} | changes
        path = tmp_path / "dsprites.npz"
        numpy.savez(path, **{key: value for key, value in arrays.items() if value is not None})
        return str(path)

    return write


def numbers(images):
    return ((images[:, 0, 0, :7] // 255).long() * 2 ** torch.arange(7)).sum(1)


def test_dsprites_are_read_in_their_order(sprites):
    data = ready(DSprites(sprites(), val_size=10, test_size=20))
    assert torch.equal(numbers(data.all_images()), torch.arange(96))
    assert data.all_images().max() == 255 and data.shape == (1, 64, 64)
    assert torch.equal(data.split("test").labels(slice(None)), numbers(data.split("test").take(slice(None))) // 32)


def test_every_kth_value_of_dsprites_is_a_grid_again(sprites):
    data = DSprites(sprites(), every=[2, 1, 2, 1, 1], val_size=2, test_size=2)
    found = numbers(data.all_images())
    assert data.factor_sizes == (2, 2, 2, 2, 2) and len(found) == 32
    whole = numpy.stack(numpy.unravel_index(found.numpy(), (3, 2, 4, 2, 2)), 1)
    assert (whole == data.factors(torch.arange(32)).numpy() * [2, 1, 2, 1, 1]).all()


def test_another_file_is_refused(sprites, tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.npz is not a file: set data.path to dsprites"):
        DSprites(str(tmp_path / "nothing.npz")).setup()
    with pytest.raises(ValueError, match="dSprites has imgs and latents_classes"):
        DSprites(sprites(latents_classes=None), val_size=2, test_size=2).setup()
    with pytest.raises(ValueError, match="imgs needs uint8"):
        DSprites(sprites(imgs=numpy.zeros((96, 32, 32), numpy.uint8)), val_size=2, test_size=2).setup()
    with pytest.raises(ValueError, match="not in dSprites' order"):
        DSprites(sprites(order=numpy.arange(96)[::-1].copy()), val_size=2, test_size=2).setup()
