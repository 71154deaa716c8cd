"""A run that was stopped and resumed sees what the uninterrupted run sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_gen.data import Digits

STEPS = 5  # batches of 300 in an epoch of 1,500


class Witness(LightningModule):
    """Writes down each batch: (epoch, batch number, indices, sum of x)."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []
        self.validated = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx, batch["index"].tolist(), batch["x"].flatten(2)[:, 0, 0].sum()))
        return self.weight * batch["x"].mean()

    def validation_step(self, batch, batch_idx):
        self.validated.append(batch["index"].tolist())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class EpochEnds(Callback):
    def __init__(self):
        self.count = 0

    def on_validation_epoch_end(self, trainer, pl_module):
        self.count += 1


def fit(folder: Path, callbacks=(), resume=None, val_size=137, **options) -> Witness:
    module = Witness()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        **options,
    )
    data = Digits(batch_size=260, seed=3, flip=True, val_size=val_size)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    return module


LIMITS = {
    "steps": {"max_steps": 14},
    "epochs": {"max_epochs": 3},
    "limited": {"max_steps": 14, "limit_train_batches": 4},
    "validating": {"max_epochs": 3, "val_check_interval": 2},
}


@pytest.fixture(scope="module", params=LIMITS)
def whole(request, tmp_path_factory):
    """An uninterrupted run that saves after every batch, and its limits."""
    folder = tmp_path_factory.mktemp(request.param)
    saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    options = LIMITS[request.param]
    return folder, options, fit(folder, [saving], **options).seen


@pytest.mark.parametrize("stop", [2, 4, 5, 7, 10])
def test_resuming_after_any_batch_equals_going_on(whole, stop):
    folder, options, seen = whole
    assert fit(folder, resume=folder / f"step={stop}.ckpt", **options).seen == seen[stop:]


@pytest.mark.parametrize("moment", ["train epoch", "validation"])
def test_resuming_from_the_end_of_an_epoch_equals_going_on(tmp_path, moment):
    saving = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, save_on_train_epoch_end=moment == "train epoch")
    seen = fit(tmp_path, [saving], max_epochs=3).seen
    for stop in (STEPS, 2 * STEPS):
        for options in ({"max_epochs": 3}, {"max_steps": 3 * STEPS}):
            assert fit(tmp_path, resume=tmp_path / f"step={stop}.ckpt", **options).seen == seen[stop:]


def test_an_epoch_of_a_trainer_is_the_whole_data_set_in_a_new_order(tmp_path):
    module = fit(tmp_path, max_epochs=2)
    first, second = (sum((batch[2] for batch in module.seen if batch[0] == epoch), []) for epoch in range(2))
    assert sorted(first) == sorted(second) == list(range(1300))
    assert first != second
    assert sum(module.validated, []) == [*range(137)] * 2


def test_without_a_validation_split_training_runs_and_no_validation_does(tmp_path):
    ends = EpochEnds()
    module = fit(tmp_path, [ends], val_size=0, max_epochs=1)
    assert len(module.seen) == 1437 // 260
    assert module.validated == [] and ends.count == 0


RANKS = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from test_resume import Witness
from lightning_gen.data import Digits
from pytorch_lightning import Trainer

class Ranks(Witness):
    def on_train_end(self):
        seen = [batch[2] for batch in self.seen]
        torch.save((seen, self.validated), f"{sys.argv[1]}/{self.global_rank}.pt")

trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=1, logger=False, num_sanity_val_steps=0,
                  enable_checkpointing=False, enable_progress_bar=False, use_distributed_sampler=False)
trainer.fit(Ranks(), datamodule=Digits(batch_size=136, seed=3, val_size=int(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("val_size", [1, 137])
def test_two_processes_share_the_batches_of_one(tmp_path, val_size):
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, str(tmp_path / "ranks.py"), str(tmp_path), str(Path(__file__).parent), str(val_size)]
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, timeout=240, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
    (left, first), (right, second) = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    data = Digits(batch_size=136, seed=3, val_size=val_size)
    data.setup()
    alone = [batch["index"].tolist() for batch in data.train_dataloader()]
    assert [a + b for a, b in zip(left, right, strict=True)] == alone
    assert len(first) != len(second)
    assert sorted(sum(first + second, [])) == list(range(val_size))
