"""Checkpoints: last is the newest whatever a metric does, best is the best, and writing is all or nothing."""

import os
from functools import partial

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from lightning_gen.callbacks.checkpoints import Checkpoints, final_step
from lightning_gen.runs import checkpoint_file
from lightning_gen.runs.checkpoint_file import read
from lightning_gen.runs.disk import copies
from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO
from tests.callbacks.trainers import trainer
from tests.families.test_base import digits_module, fit


class Worse(Callback):
    """A metric that gets worse all the time."""

    def on_validation_end(self, trainer, module):
        trainer.callback_metrics["fid"] = torch.tensor(float(trainer.global_step))


def steps(folder):
    return {
        path.name: torch.load(path, weights_only=True)["global_step"]
        for path in (folder / "checkpoints").glob("*.ckpt")
    }


def test_last_is_the_newest_step_though_the_metric_gets_worse(tmp_path):
    saving = Checkpoints(every_n_steps=2, monitor="fid", keep_every_n_steps=4)
    fit(digits_module(), tmp_path, Worse(), saving, max_steps=9, val_check_interval=3, plugins=[AtomicCheckpointIO()])
    assert steps(tmp_path) == {
        "last.ckpt": 9,
        "last-1.ckpt": 8,
        "best.ckpt": 3,
        "step-00000004.ckpt": 4,
        "step-00000008.ckpt": 8,
    }


@pytest.mark.parametrize("plugins", [[], [AtomicCheckpointIO()]])
def test_the_one_before_is_another_file_whoever_writes(plugins, tmp_path, monkeypatch):
    """Lightning's own CheckpointIO copies into the old file where $TMPDIR is elsewhere."""
    elsewhere = "/dev/shm" if os.path.isdir("/dev/shm") else str(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", elsewhere)
    fit(digits_module(), tmp_path, Checkpoints(every_n_steps=2), max_steps=4, plugins=plugins)
    assert steps(tmp_path) == {"last.ckpt": 4, "last-1.ckpt": 2}


def test_a_kill_in_the_middle_of_a_save_leaves_the_old_file(tmp_path, monkeypatch):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"global_step": 1}, path)
    real = torch.save

    def torn(value, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(KeyboardInterrupt):
        io.save_checkpoint({"global_step": 2}, path)
    assert read(path)["global_step"] == 1
    monkeypatch.setattr(torch, "save", real)
    io.save_checkpoint({"global_step": 3}, path)
    assert read(path)["global_step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_save_reads_what_it_wrote_and_the_file_before_only_where_somebody_wrote_to_it(tmp_path, monkeypatch):
    path, older, read_files, digest = tmp_path / "last.ckpt", tmp_path / "last-1.ckpt", [], checkpoint_file._digest
    monkeypatch.setattr(
        checkpoint_file, "_digest", lambda file, size: read_files.append(file.name) or digest(file, size)
    )

    def save(step):
        read_files.clear()
        with checkpoint_file.keeping(path, 2):
            checkpoint_file.write({"global_step": step}, path)
        return [os.path.basename(name) for name in read_files]

    assert save(1) == save(2) == ["last.ckpt.part"]
    assert read(older)["global_step"] == 1
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert save(3) == ["last.ckpt", "last.ckpt.part"]
    assert read(older)["global_step"] == 1, "a damaged file takes the place of no good one"
    os.utime(path)
    assert save(4) == ["last.ckpt", "last.ckpt.part"]
    assert read(older)["global_step"] == 3


@pytest.mark.parametrize(
    ("optimizer", "count"),
    [
        *((torch.optim.Adam, 2), (torch.optim.AdamW, 2), (torch.optim.SGD, 0)),
        (partial(torch.optim.SGD, momentum=0.9), 1),
        (torch.optim.LBFGS, 2),  # takes no step without a closure
    ],
)
def test_what_an_optimizer_keeps_is_known_before_its_first_step(optimizer, count):
    weight = nn.Parameter(torch.ones(2, 3))
    optimizer = optimizer([weight], lr=0.1)
    assert copies(optimizer) == count
    assert not optimizer.state and weight.eq(1).all() and optimizer.param_groups[0]["params"] == [weight]


@pytest.mark.parametrize(
    ("options", "last"),
    [({"max_epochs": 2}, 4), ({"max_steps": 3}, 3), ({"max_steps": 3, "max_epochs": 1}, 2), ({"max_epochs": -1}, None)],
)
def test_the_final_step_is_known_from_steps_or_epochs(options, last, digits, tmp_path):
    made = trainer(tmp_path, limit_train_batches=3, accumulate_grad_batches=2, **options)
    made.datamodule = digits
    assert final_step(made) == last


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="[Ww]eights"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt")


@pytest.mark.parametrize("patience", [0, 1])
def test_early_stopping_ends_a_run_after_a_worse_validation_and_not_before_it_begins(patience, tmp_path):
    callbacks = (Worse(), EarlyStopping("fid", patience=patience), Checkpoints())
    fit(digits_module(), tmp_path, *callbacks, max_steps=9, val_check_interval=2, plugins=[AtomicCheckpointIO()])
    assert steps(tmp_path) == {"last.ckpt": 4}


def test_a_missing_metric_is_named(tmp_path):
    with pytest.raises(ValueError, match="monitor.*fdi.*fid"):
        fit(
            digits_module(),
            tmp_path,
            Worse(),
            Checkpoints(monitor="fdi", mode="min"),
            max_steps=3,
            val_check_interval=3,
        )


@pytest.mark.parametrize("options", [{"every_n_steps": 0}, {"keep_every_n_steps": -1}, {"mode": "best"}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        Checkpoints(**options)


def test_a_checkpoint_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("sync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("name"), replace(a, b)))
    AtomicCheckpointIO().save_checkpoint({"global_step": 1}, tmp_path / "last.ckpt")
    assert calls == ["sync", "name", "sync"]
