"""The collapse alarm: what it counts as collapse, that a planted one is heard at the next evaluation; modes found."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lightning_gen.callbacks.collapse import CollapseAlarm
from lightning_gen.callbacks.modes import Modes
from lightning_gen.callbacks.quality import Quality
from lightning_gen.data import Gaussians, Rings
from lightning_gen.errors import Diverged
from lightning_gen.families import GAN
from lightning_gen.losses import NonSaturating
from lightning_gen.metrics import PixelFeatures
from lightning_gen.metrics.class_distance import histogram, total_variation
from lightning_gen.nets import MLPAdversaries
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import Latent
from tests.callbacks.trainers import trainer as make_trainer


def result(quantity, value, error=0.01, weights="ema", n=None):
    return Result(value, "estimate", error, name=Name(quantity, "points", weights, n=n))


class Alerts:
    def __init__(self):
        self.said, self.values = [], []

    def alert(self, title, text):
        self.said.append(text)

    def log_metrics(self, values, step):
        self.values.append(values)


def hear(*results, fn="fit", **options):
    logger = Alerts()
    trainer = SimpleNamespace(global_step=7, loggers=[logger], is_global_zero=True, state=SimpleNamespace(fn=fn))
    CollapseAlarm(**options).published(trainer, results)
    return logger


LOW, SOUND = result("recall", 0.0), result("recall", 0.6)
CASES = [  # results, and whether they are a collapse
    ((LOW, result("coverage", 0.0)), True),
    ((LOW,), True),
    ((LOW, result("coverage", 0.4)), False),
    ((SOUND, result("coverage", 0.0)), False),
    ((result("recall", 0.04, 0.01),), False),  # within three errors
    ((SOUND, result("class_distance", 0.9)), True),
    ((SOUND, result("memorised", 0.9)), True),
    ((SOUND, result("memorised", 0.52, 0.01)), False),
    ((result("recall", 0.0, None),), True),
    ((result("recall", 0.0, weights="held-out"), SOUND), False),
    ((result("recall", 0.0, n=10), SOUND), False),
    ((LOW, result("recall", 0.6, weights="raw")), True),  # each set of samples is judged by itself
    ((result("recall", 0.6, weights="raw"), LOW), True),
    (
        (LOW, result("coverage", 0.0, weights="raw"), result("coverage", 0.6), result("recall", 0.6, weights="raw")),
        False,
    ),
]


@pytest.mark.parametrize(("results", "collapsed"), CASES)
def test_numbers_beyond_their_bounds_by_more_than_their_errors_are_a_collapse(results, collapsed, capsys):
    logger = hear(*results)
    assert bool(logger.said) == collapsed and logger.values == [{"collapse": float(collapsed)}]
    err = capsys.readouterr().err
    assert ("collapsed at step 7" in err and err.count("\n") == 1) if collapsed else not err


def test_it_stops_the_run_only_where_it_is_asked_to():
    with pytest.raises(Diverged, match="recall.*step 7|step 7.*recall"):
        hear(LOW, stop=True)
    assert hear(LOW, stop=True, fn="test").values, "a finished run keeps its numbers"
    assert hear(result("fid", 900.0)).values == [], "nothing that it judges was measured"


class Deaf(MLPAdversaries):
    """A generator whose latent variables are multiplied by 0."""

    def __init__(self, *args):
        super().__init__(*args)
        self.generator.register_forward_pre_hook(lambda module, inputs: (0 * inputs[0], *inputs[1:]))


def trained(folder, net, rate):
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9))
    critic = partial(torch.optim.Adam, lr=2e-3 * rate, betas=(0.0, 0.9))
    module = GAN(net((2,), 2, 32, 2), adam, NonSaturating(), critic_optimizer=critic, sampler=Latent(), shape=(2,))
    quality = Quality(PixelFeatures(), 200, ["recall", "coverage"], every_n_epochs=2, cache=str(folder / "cache"))
    modes = Modes(n=200, block=100, every_n_epochs=2)
    trainer = make_trainer(folder, [CollapseAlarm(), quality, modes], max_epochs=2)
    trainer.fit(module, datamodule=Gaussians(batch_size=32, n=640, val_size=64, test_size=300))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_planted_collapse_is_heard_at_the_next_evaluation_and_a_sound_run_is_not(tmp_path, capsys):
    sound = trained(tmp_path / "sound", MLPAdversaries, 1)
    assert "collapsed" not in capsys.readouterr().err
    collapsed = trained(tmp_path / "collapsed", Deaf, 50)
    assert capsys.readouterr().err.count("the samples have collapsed at step 40") == 1
    assert collapsed["recall/points/raw"] == 0 < sound["recall/points/raw"]
    assert collapsed["modes/found/raw"] <= 1 <= sound["modes/found/raw"]


class Given:
    """Samples in the place of a model."""

    model, classes, ema, device = None, None, None, torch.device("cpu")
    sampler = SimpleNamespace(describe=lambda: {})

    def __init__(self, x):
        self.x = x


def test_modes_are_those_with_a_sample_near_and_the_share_is_of_all(monkeypatch):
    data = Gaussians(noise=0.1)
    centres = data.means(torch.arange(8), None)
    x = torch.cat([centres[:3], centres[:3] + torch.tensor([0.39, 0.0]), centres[:2] * 0.5, torch.zeros(2, 2)])
    callback, module = Modes(n=10, block=10), Given(x)

    class Drawing:
        def __enter__(self):
            return iter([(0, {"x": x})])

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(callback, "drawing", lambda *_: Drawing())
    trainer = SimpleNamespace(datamodule=data, global_rank=0, world_size=1)
    found, share = callback.measure(trainer, module, True)
    assert (found.value, share.value) == (3, 0.6)
    assert share.error == pytest.approx((8 / 14 * 6 / 14 / 14) ** 0.5)
    assert json.dumps(share.as_dict())


def test_modes_of_other_data_are_refused():
    with pytest.raises(ValueError, match="rings.*callbacks.modes"):
        Modes().setup(SimpleNamespace(datamodule=Rings()), None, "fit")


def test_the_class_distance_is_the_total_variation_of_the_histograms():
    logits = torch.eye(4)[torch.tensor([0, 0, 0, 1])]
    assert histogram(logits).tolist() == [0.75, 0.25, 0, 0]
    assert float(total_variation(histogram(logits), torch.full((4,), 0.25).double())) == 0.5
