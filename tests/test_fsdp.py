"""Weights in shards over two processes: the same training, checkpoints and measurements as with whole ones."""

import json

import pytest
import torch

import run as entry
from lightning_gen.results.store import read_record
from tests.processes import two
from tests.test_run import BARE

WORDS = (
    *(*BARE, "data.batch_size=32", "trainer.limit_train_batches=3", "trainer.check_val_every_n_epoch=1"),
    *("trainer.limit_val_batches=3", "trainer.gradient_clip_val=0.05"),
)


def tensors(checkpoint, path=""):
    """Path -> tensor of all that a checkpoint holds."""
    if isinstance(checkpoint, torch.Tensor):
        return {path: checkpoint}
    items = checkpoint.items() if isinstance(checkpoint, dict) else enumerate(checkpoint)
    kinds = (dict, list, torch.Tensor)
    return {k: v for key, part in items if isinstance(part, kinds) for k, v in tensors(part, f"{path}/{key}").items()}


def last(folder):
    """The tensors of a run's last checkpoint."""
    return tensors(torch.load(folder / "checkpoints/last.ckpt", weights_only=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of six steps, two epochs: by FSDP, by DDP, and resumed after four steps by the same or the other."""
    folder = tmp_path_factory.mktemp("fsdp")

    def fit(name, trainer, steps=6, *words):
        return [*WORDS, *words, f"trainer={trainer}_cpu", f"trainer.max_steps={steps}", f"run={folder / name}"]

    drawn = ["callbacks.pictures={_target_: lightning_gen.callbacks.Pictures, n: 4, strip: 2, every_n_epochs: 1}"]
    commands = [fit("fsdp", "fsdp", 6, *drawn), fit("ddp", "ddp", 6, *drawn)]
    for first in ("fsdp", "ddp"):
        for second in ("fsdp", "ddp")[: 2 if first == "fsdp" else 1]:
            commands += [fit(f"{first}-{second}", first, 4), fit(f"{first}-{second}", second)]
    (folder / "commands.json").write_text(json.dumps(commands))
    two("-m", "tests.shards", str(folder))
    return folder


def test_x(runs):
    print(runs)
