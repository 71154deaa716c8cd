"""A family with a trainer, a loader and a checkpoint of one's own."""

from functools import partial

import pytest
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import EarlyStopping
from torch.utils.data import DataLoader, TensorDataset

from lightning_gen.callbacks.checkpoints import Checkpoints
from lightning_gen.families import DDPM, RBM
from lightning_gen.nets import MLP
from lightning_gen.samplers import DDIM
from tests.callbacks.trainers import trainer

ADAM = partial(torch.optim.Adam, lr=1e-2)
X, Y = torch.randn(32, 2, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 3


def net(classes=None):
    torch.manual_seed(0)
    return MLP((2,), width=8, depth=1, classes=classes)


def module(classes=None, **options):
    options = {"steps": 5, "sampler": DDIM(5), "shape": (2,), "classes": classes} | options
    return DDPM(net(None if classes is None else classes + 1), ADAM, **options)


def fit(model, data, folder, **options):
    """Two epochs of four batches, with validation."""
    by_hand = trainer(folder, max_epochs=2, **options)
    by_hand.fit(model, DataLoader(data, batch_size=8), DataLoader(data, batch_size=8))
    return by_hand


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A conditional model, its trainer, and a checkpoint of Lightning's own."""
    folder = tmp_path_factory.mktemp("by-hand")
    model = module(classes=3)
    by_hand = fit(model, TensorDataset(X, Y), folder)
    by_hand.save_checkpoint(folder / "a.ckpt")
    return model, by_hand, folder / "a.ckpt"


def test_tensors_pairs_and_mappings_are_one_batch(tmp_path):
    mappings = [{"x": x, "label": y} for x, y in zip(X, Y, strict=True)]
    weights = []
    for data in (X, TensorDataset(X), TensorDataset(X, Y), mappings, TensorDataset(X.double())):
        model = module()
        assert fit(model, data, tmp_path, limit_val_batches=0).global_step == 8
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert all(torch.equal(weights[0], other) for other in weights[1:])


class Theirs(LightningDataModule):
    """A data module that knows nothing of splits."""

    batch_size = 8

    def train_dataloader(self):
        return DataLoader(X, batch_size=8)

    def val_dataloader(self):
        return DataLoader(X, batch_size=8)


class Unvalidated(Theirs):
    """Without validation."""

    val_dataloader = LightningDataModule.val_dataloader


def test_others_data_modules_are_as_their_loaders(tmp_path):
    """Checkpoints of the best validation and early stopping know that there is one, or that there is none."""
    loaders = module()
    fit(loaders, X, tmp_path / "loaders")
    for number, data in enumerate((Theirs(), Unvalidated())):
        saving, stopping = Checkpoints(monitor="val/loss/ema"), EarlyStopping("val/loss/ema", patience=9)
        options = {"max_epochs": 2, "enable_checkpointing": True}
        by_hand, model = trainer(tmp_path / str(number), [saving, stopping], **options), module()
        if number:
            with pytest.raises(ValueError, match="EarlyStopping.monitor is val/loss/ema, but the run measures train"):
                by_hand.fit(model, datamodule=data)
            continue
        by_hand.fit(model, datamodule=data)
        assert by_hand.global_step == 8 and (tmp_path / "0/checkpoints/best.ckpt").is_file()
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), loaders.parameters(), strict=True))


def test_train_loss_is_there_for_callbacks_and_lightnings_bar(trained):
    """After 8 steps, long before the first record: the mean of the last epoch's four."""
    _, by_hand, _ = trained
    assert by_hand.log_every_n_steps == 50
    assert float(by_hand.callback_metrics["train/loss"]) == by_hand.progress_bar_metrics["train/loss"] > 0
    assert torch.isfinite(by_hand.callback_metrics["val/loss/ema"])


def test_a_checkpoint_of_lightnings_gives_the_model_back(trained):
    """Its numbers too: another T would be another process, to which the weights fit as well."""
    model, _, path = trained
    again = DDPM.load_from_checkpoint(path, net=net(4), optimizer=ADAM, sampler=DDIM(5))
    assert again.model.process.steps == 5 and again.classes == 3 and again.shape == (2,)
    assert torch.equal(again.sample(4, seed=1), model.sample(4, seed=1))
    with pytest.raises(TypeError, match="'net' and 'optimizer'.*load_from_checkpoint.*lightning_gen.load"):
        DDPM.load_from_checkpoint(path)
    with pytest.raises(ValueError, match="https://x/a.ckpt.*local file"):
        DDPM.load_from_checkpoint("https://x/a.ckpt", net=net(4), optimizer=ADAM)


def test_called_it_predicts_the_noise_of_the_averaged_model(trained):
    model, t = trained[0], torch.linspace(0.2, 1, 32)
    expected = model.ema.with_label(Y).noise(X, t)
    assert torch.equal(model(X, t, Y), expected) and expected.shape == X.shape
    with pytest.raises(ValueError, match="t is torch.int64 from 1 to 5.*k / T"):
        model(X, torch.arange(1, 6), Y)
    with pytest.raises(TypeError, match="RBM.*lightning_gen.ask"):
        RBM(ADAM, (4,), hidden=2)(X, t)


@pytest.mark.parametrize(
    ("model", "batch", "error", "said"),
    [
        (module(), X.long(), ValueError, "x of a batch is torch.int64"),
        (module(), torch.zeros(3, 4), ValueError, r"\(3, 4\), expected \(B, 2\)"),
        (module(), [1, 2], TypeError, "a batch is a list"),
        (module(), {"images": X}, TypeError, "a batch is a dict"),
        (module(value_range=(-1, 1), sampler=None), X * 255, ValueError, r"value_range, \[-1, 1\]"),
        (module(3), X, ValueError, "module.classes is 3, and y of a batch is NoneType"),
        (module(3), (X, Y + 1), ValueError, "whole numbers from 0 to 2"),
        (module(3), (X, Y.float()), ValueError, "y of a batch is torch.float32"),
        (RBM(ADAM, (2,), hidden=2), X, ValueError, "expected binary values"),
    ],
)
def test_a_batch_that_is_not_in_model_space_is_refused(model, batch, error, said):
    with pytest.raises(error, match=said):
        model.on_before_batch_transfer(batch, 0)
