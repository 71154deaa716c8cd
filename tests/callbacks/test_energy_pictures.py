"""EnergyPictures: filters, reconstructions, landscapes of known energies, pixel by pixel; refusals before any work."""

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image

from lightning_gen import families
from lightning_gen.callbacks import publishing
from lightning_gen.callbacks.energy_pictures import EnergyPictures
from lightning_gen.data import Digits, Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families import EBM, GenerativeModule
from lightning_gen.losses import ContrastiveDivergence, ExactScoreMatching
from lightning_gen.nets import MLP, ResNetEnergy
from lightning_gen.results.drawing import grid, strip
from lightning_gen.results.pictures.energies import filters
from lightning_gen.samplers import MALA
from tests.callbacks.trainers import Alone
from tests.energies import Quadratic

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.0)  # noqa: E731
SHAPE = (1, 8, 8)
NAMES = ["filters-00000012.png", "reconstructions-00000012.png"]


def digits(**options):
    return Digits(**{"batch_size": 100, "value_range": (0.0, 1.0), "binarise": "threshold", **options})


def rings():
    return Rings(n=64, val_size=8, test_size=40, batch_size=16)


def rbm_module(kind="RBM", hidden=64, **options):
    module = getattr(families, kind)(SGD, SHAPE, hidden, **options)
    module.trained_steps = 12
    module.refuse = module.begin = lambda data: None
    return module


def valley(sampler=None, **options):
    model, loss = Quadratic([1.0, 4.0], [1.0, 0.0], 7.0, learned=True), ContrastiveDivergence(MALA(1))
    module = GenerativeModule(model, loss, SGD, shape=(2,), sampler=sampler, **options)
    module.trained_steps = 12
    return module


@pytest.fixture
def drawn(tmp_path, make_trainer):
    """The pictures of the test stage by name, read back."""

    def start(module, data, fit=False, **options):
        trainer = make_trainer(EnergyPictures(**options), max_epochs=4, limit_train_batches=1)
        trainer.fit(module, datamodule=data) if fit else trainer.test(module, datamodule=data, verbose=False)
        return {path.name: np.asarray(Image.open(path)) for path in sorted((tmp_path / "samples").iterdir())}

    return start


def test_filters_are_scaled_about_grey_and_the_largest_come_first(drawn):
    """Of weights of any size the largest is black or white; columns without weights are grey throughout."""
    module = rbm_module(hidden=3)
    with torch.no_grad():
        module.model.W.zero_()
        module.model.W[5, 0], module.model.W[6, 0] = 1e-4, -0.5e-4
        module.model.W[9, 2] = -30.0
    found = drawn(module, digits())
    assert list(found) == NAMES
    expected = np.full((3, 64), 128, np.uint8)
    expected[0, 9], expected[1, 5], expected[1, 6] = 0, 255, 64
    images = expected.reshape(3, 8, 8, 1)
    assert (found["filters-00000012.png"] == grid(images)[..., 0]).all()
    assert (filters(module.model.W, SHAPE, 2) == grid(images[:2])).all()
    assert filters(torch.eye(12), (3, 2, 2), 9).shape[-1] == 3


def test_an_rbm_that_knows_the_left_half_alone_restores_it(drawn):
    """Left: h = v, and v = h. Right: no weights and b = 0, so that each pixel is 1/2."""
    module, data = rbm_module(), digits()
    left = torch.zeros(8, 8)
    left[:, :4] = 1
    with torch.no_grad():
        module.model.W.copy_(40 * torch.diag(left.flatten()))
        module.model.c.fill_(-20)
        module.model.b.copy_(-20 * left.flatten())
    found = drawn(module, data, n=37)["reconstructions-00000012.png"]
    images = data.split("test").images(slice(0, 32)).numpy().reshape(2, 16, 8, 8, 1)
    restored = np.where(left.numpy().astype(bool)[..., None], images, 128).astype(np.uint8)
    rows = np.stack([images[0], restored[0], images[1], restored[1]])
    assert (found == strip(rows)[..., 0]).all()
    few = drawn(module, data, n=5)["reconstructions-00000012.png"]
    assert (few == strip(np.stack([images[0, :5], restored[0, :5]]))[..., 0]).all()


def test_images_of_a_gaussian_rbm_go_through_its_range_and_are_cut(drawn):
    """Without weights E[v|h] = mu: below the range, in its middle, above it."""
    module = rbm_module("GaussianBernoulliRBM", 4, value_range=(-1.0, 3.0))
    with torch.no_grad():
        module.model.W.zero_()
        module.model.mu.copy_(torch.tensor([-9.0, 1.0, 2.0, 5.0]).repeat_interleave(16))
    data = digits(value_range=(-1.0, 3.0), binarise=None)
    found = drawn(module, data, n=3)["reconstructions-00000012.png"]
    images = data.split("test").images(slice(0, 3)).numpy().reshape(1, 3, 8, 8, 1)
    restored = np.repeat(np.array([0, 128, 191, 255], np.uint8), 16).reshape(8, 8, 1)
    assert (found == strip(np.concatenate([images, np.broadcast_to(restored, images.shape)]))[..., 0]).all()


def test_the_averaged_rbm_is_drawn_unless_the_raw_one_is_asked_for(drawn):
    module = rbm_module(hidden=2, ema_decay=0.9)
    with torch.no_grad():
        module.model.W.fill_(1.0)
        module.ema.W.fill_(-1.0)
    module.ema.train()
    white = {0, 255}
    for weights, expected in (("ema", 0), ("raw", 255)):
        found = drawn(module, digits(), weights=weights)["filters-00000012.png"]
        assert set(np.unique(found)) - {200} == {expected} <= white
    assert module.ema.training


def test_the_landscape_is_the_energy_above_its_lowest_with_data_and_samples(drawn, monkeypatch):
    shades, dots, lines = [], {}, []
    imshow, scatter, contour = Axes.imshow, Axes.scatter, Axes.contour

    def seen_imshow(self, a, **b):
        shades.append((a, b))
        return imshow(self, a, **b)

    def seen_scatter(self, x, y, **b):
        dots[b["label"]] = np.stack([x, y], 1)
        return scatter(self, x, y, **b)

    def seen_contour(self, *a, **b):
        lines.append((a[0], b["levels"], b["extent"]))
        return contour(self, *a, **b)

    for name, call in (("imshow", seen_imshow), ("scatter", seen_scatter), ("contour", seen_contour)):
        monkeypatch.setattr(Axes, name, call)
    data, module = rings(), valley(MALA(3, 0.1))
    found = drawn(module, data, points=30, seed=4)
    assert list(found) == ["landscape-00000012.png"] and found["landscape-00000012.png"].shape == (650, 750, 3)
    (height, box), points = shades[0], data.split("test").points(slice(0, 30)).numpy()
    half = 1.25 * np.abs(points).max()
    np.testing.assert_allclose(box["extent"], (-half, half, -half, half), rtol=1e-6)
    side = np.linspace(-half, half, 200)
    expected = 0.5 * (side[None, :] - 1) ** 2 + 2 * side[:, None] ** 2  # y up the rows, as origin says
    assert box["origin"] == "lower"
    np.testing.assert_allclose(height, expected - expected.min(), atol=1e-4)
    np.testing.assert_allclose(dots["data"], points)
    at = 0.5 * (points[:, 0] - 1) ** 2 + 2 * points[:, 1] ** 2 - expected.min()
    assert box["clim"][0] == 0 and box["clim"][1] == pytest.approx(2 * np.quantile(at, 0.9), rel=0.03)
    drawn_points = torch.cat([x for _, x in module.blocks(30, 4)]).numpy()
    np.testing.assert_array_equal(dots["samples"], drawn_points)
    assert lines[0][0] is height and lines[0][2] == box["extent"]
    np.testing.assert_allclose(lines[0][1], box["clim"][1] * np.arange(1, 11) / 10)


def test_an_energy_without_sampler_or_slope_has_a_landscape_too(drawn):
    module = valley()
    with torch.no_grad():
        module.model.precision.zero_()
    assert list(drawn(module, rings())) == ["landscape-00000012.png"]


def test_pictures_come_at_the_asked_epochs_and_are_sent(drawn, monkeypatch):
    sent = []
    monkeypatch.setattr(publishing, "log_image", lambda trainer, name, path: sent.append((name, path.name)))
    found = drawn(rbm_module(hidden=2), digits(), fit=True, every_n_epochs=2)
    assert sorted(found) == [f"{name}-{step:08d}.png" for name in ("filters", "reconstructions") for step in (2, 4)]
    assert sent == [
        (f"samples/{name}", f"{name}-{step:08d}.png") for step in (2, 4) for name in ("filters", "reconstructions")
    ]


def test_what_is_not_finite_stops_and_is_named(drawn, tmp_path):
    module, flat = rbm_module(hidden=2), valley()
    with torch.no_grad():
        module.model.W[3, 1] = torch.nan
        flat.model.constant.fill_(torch.nan)
    with pytest.raises(NonFinite, match="1 of 2 filters.*not finite.*step 12.*rank 0"):
        drawn(module, digits())
    with pytest.raises(NonFinite, match="200 of 200.*not finite.*step 12.*rank 0"):
        drawn(flat, rings())
    with torch.no_grad():
        module.model.W.zero_()
        module.model.b.fill_(torch.nan)
    with pytest.raises(NonFinite, match="64 of 64 reconstructions.*not finite.*step 12.*rank 0"):
        drawn(module, digits())
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (
            lambda: EBM(ResNetEnergy(SHAPE, 8, blocks=1), ContrastiveDivergence(MALA(1)), SGD, "scalar", shape=SHAPE),
            "EnergyNetwork",
        ),
        (lambda: families.RBM(SGD, (2,), 4), "RBM"),
    ],
)
def test_what_has_neither_filters_nor_a_landscape_is_refused(module, name, drawn):
    with pytest.raises(ValueError, match=f"{name}.*callbacks.energies=null"):
        drawn(module(), digits())


def test_rbms_in_the_plane_have_a_landscape():
    for module in (
        families.GaussianBernoulliRBM(SGD, (2,), 4),
        EBM(MLP((2,), 8, 1), ExactScoreMatching(), SGD, shape=(2,)),
    ):
        EnergyPictures().setup(Alone(rings()), module, "test")


@pytest.mark.parametrize("options", [{"every_n_epochs": -1}, {"n": 0}, {"points": 0}, {"weights": "both"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        EnergyPictures(**options)
