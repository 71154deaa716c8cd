"""Autoregressive models as a recipe: what they refuse, and that training raises log p."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_gen.data import Digits
from lightning_gen.families import Autoregressive
from lightning_gen.nets import MADE, CausalTransformer, PixelCNN
from lightning_gen.samplers import Sequential
from tests.data.sets import ready

ADAM = partial(torch.optim.Adam, lr=3e-3)
BITS = {"binarise": "fixed", "value_range": (0.0, 1.0)}
GREY = {"value_range": (0.0, 16.0)}
NETS = {
    "made": lambda levels: MADE((1, 8, 8), levels, width=64),
    "made of orderings": lambda levels: MADE((1, 8, 8), levels, width=64, orderings=4),
    "pixelcnn of logistics": lambda levels: PixelCNN((1, 8, 8), levels, 3, 8, 2, 3, 3, 16),
    "transformer": lambda levels: CausalTransformer((1, 8, 8), levels, None, 16, 1, 2),
}


def family(net, **options):
    return Autoregressive(net, ADAM, shape=(1, 8, 8), sampler=Sequential(), **options)


def fit(module, data, epochs, folder):
    quiet = ("enable_checkpointing", "enable_model_summary", "enable_progress_bar", "logger")
    options = dict.fromkeys(quiet, False) | {"default_root_dir": str(folder)}
    Trainer(accelerator="cpu", devices=1, max_epochs=epochs, **options).fit(module, datamodule=data)


def independent_nats(x, levels):
    """-log p of test digits x under independent pixels of x's own frequencies, with one count more for each level."""
    counts = torch.stack([(x == k).sum(0) for k in range(levels)]) + 1.0
    p = counts / counts.sum(0)
    return -p.log().gather(0, x.long()).flatten(1).sum(1).mean()


SLOW = ("pixelcnn of logistics", "transformer")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in NETS]
)
def test_training_raises_log_p_above_that_of_independent_pixels(name, tmp_path):
    torch.manual_seed(0)
    data = Digits(batch_size=50, **GREY)
    module = family(NETS[name](17))
    fit(module, data, 15 if name in SLOW else 8, tmp_path)
    x = data.encode(data.split("test").take(slice(None)))
    with torch.no_grad():
        nats = -module.model.log_prob(x).mean()
    assert nats < independent_nats(x, 17)
    assert torch.equal(module.sample(70, seed=1)[:64], module.sample(64, seed=1))
    drawn = 16 * module.sample(8, seed=2)
    torch.testing.assert_close(drawn, drawn.round(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, BITS, {"value_range": (0.0, 1.0)}, {"value_range": (0.0, 255.0)}])
def test_levels_want_their_whole_numbers(options):
    module = family(MADE((1, 8, 8), 17))
    module._trainer = SimpleNamespace(datamodule=Digits(**options))
    with pytest.raises(ValueError, match=r"data.value_range.*digits.*\[0, 16\]"):
        module.setup("fit")
    module._trainer = SimpleNamespace(datamodule=Digits(**GREY))
    module.setup("fit")


def test_data_in_the_range_of_their_levels_are_whole_numbers():
    data = ready(Digits(**GREY))
    x = data.encode(data.split("train").take(slice(None)))
    assert torch.equal(x, x.round()) and x.unique().tolist() == list(range(17)) and data.levels == 17
    images = data.split("train").take(slice(None))
    torch.testing.assert_close(data.decode(x) * 255, images.float(), rtol=0, atol=0.51)
    assert ready(Digits(**BITS)).levels == 2


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: PixelCNN((3, 4, 4), 256), "net.logistics.*null.*3 channels"),
        (lambda: PixelCNN((1, 4, 4), 2, kernel=4), "net.kernel.*4.*odd"),
        (lambda: PixelCNN((4,), 2), "PixelCNN.shape.*4.*images"),
        (lambda: CausalTransformer((1, 4, 4), channels=10, heads=4), "net.heads.*4.*10"),
        (lambda: MADE((4,), 1), "levels.*1"),
        (lambda: family(MADE((1, 8, 8)), classes=10), "module.classes.*10.*net.classes.*None"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
