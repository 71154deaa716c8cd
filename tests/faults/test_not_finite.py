"""NaN and infinity anywhere: the run stops before the step on all ranks, says what, when and where, and saves none."""

import json
import math
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import run as entry
from lightning_gen.families import GenerativeModule
from lightning_gen.families.optimisation import Optimisation
from lightning_gen.metrics.features.base import PixelFeatures
from lightning_gen.runs import checkpoint_file, weights_file
from tests.faults.jobs import Job
from tests.faults.wholes import LONGEST, Whole

STEP = 5  # the step in whose update the value would be; it ends an epoch, and a validation would find the average's
VALUES = (math.nan, math.inf)


def replace(owner: type, name: str, change: Callable) -> None:
    """`owner.name` calls change(original, self, ...)."""
    original = getattr(owner, name)
    setattr(owner, name, lambda self, *args, **kwargs: change(original, self, *args, **kwargs))


def in_loss(value: float, rank: int) -> None:
    def change(original, self, *args, **kwargs):
        now = self.trainer.global_step + 1 == STEP and self.global_rank == rank
        return original(self, *args, **kwargs) * (value if now else 1.0)

    replace(GenerativeModule, "losses", change)


def in_gradient(value: float, rank: int) -> None:
    def change(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        module = self.module
        if module.trainer.global_step + 1 == STEP and module.global_rank == rank:
            next(p.grad for p in module.model.parameters() if p.grad is not None).flatten()[0] = value

    replace(Optimisation, "backward", change)


def in_average(value: float, rank: int) -> None:
    def change(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.module.trainer.global_step == STEP - 1 and self.module.global_rank == rank:
            next(self.module.ema.parameters()).data.flatten()[0] = value

    replace(Optimisation, "update", change)


def in_network(value: float, rank: int, testing: bool) -> None:
    def change(original, self, *args, **kwargs):
        def hook(part, inputs, output):
            trainer = self.trainer
            now = trainer.testing if testing else trainer.training and trainer.global_step + 1 == STEP
            return output * value if now and self.global_rank == rank and torch.is_tensor(output) else output

        for part in self.modules():
            if isinstance(part, torch.nn.Linear | torch.nn.Conv2d):
                part.register_forward_hook(hook)
        return original(self, *args, **kwargs)

    replace(GenerativeModule, "on_test_start" if testing else "on_train_start", change)


def in_energy(value: float, rank: int) -> None:
    in_network(value, rank, testing=False)


def in_sample(value: float, rank: int) -> None:
    in_network(value, rank, testing=True)


def in_feature(value: float, rank: int) -> None:
    def change(original, self, images):
        features, logits = original(self, images)
        return features * value, logits

    replace(PixelFeatures, "extract", change)


# Where the value is, family, ranks, the rank that has it, and what is said.
CASES = [
    (in_loss, "ddpm", 1, 0, ("training loss", f"{STEP}", "rank 0")),
    (in_loss, "vae", 2, 1, ("training loss", f"{STEP}", "rank 1")),
    (in_loss, "rbm", 1, 0, ("not finite", f"{STEP}")),
    (in_gradient, "vae", 1, 0, ("gradient", f"{STEP}")),
    (in_gradient, "ddpm", 2, 1, ("gradient", f"{STEP}")),
    (in_energy, "ebm", 1, 0, ("not finite", f"{STEP}")),
    (in_average, "vae", 1, 0, ("ema.", f"step {STEP - 1}", "rank 0")),
    (in_average, "vae", 2, 1, ("ema.", f"step {STEP - 1}", "rank 1")),
    (in_sample, "ddpm", 1, 0, ("samples", "step 16", "rank 0")),
    (in_sample, "ddpm", 2, 1, ("samples", "step 16", "rank 1")),
    (in_feature, "vae", 1, 0, ("features", "not finite")),
]


def trial(whole: Whole, folder, poison: Callable, value: float, rank: int, said: tuple[str, ...]) -> list[str]:
    """What is wrong with how a run ends; empty where nothing is."""
    folder.mkdir()
    words = [*whole.words, f"run={folder / 'run'}", "callbacks.checkpoints.every_n_steps=1", "quality.block=8"]
    job = Job(words, whole.world, folder / "log", lambda _: poison(value, rank))
    codes = job.wait(LONGEST)
    job.kill()
    log = job.log.read_text()
    lines = [line for line in log.splitlines() if line.startswith("error: ")]
    wrong = [] if set(codes) == {1} else [f"exit {codes}"]
    wrong += [] if lines and all(word in lines[0] for word in said) and "Traceback" not in log else [log[-1500:]]
    for path in (folder / "run" / "checkpoints").glob("*.ckpt"):
        state = checkpoint_file.read(path)
        finite = all(weight.isfinite().all() for weight in state["state_dict"].values())
        wrong += [] if finite else [f"{path.name} is not finite"]
        wrong += [] if poison in (in_sample, in_feature) or state["global_step"] <= STEP else ["a step was made"]
    return wrong + (["numbers were written"] if (folder / "run" / "metrics.json").exists() else [])


@pytest.mark.slow
def test_values_that_are_not_finite(wholes, tmp_path):
    failed, trials = {}, [(*case, value) for case in CASES for value in VALUES]
    for number, (poison, family, world, rank, said, value) in enumerate(trials):
        wrong = trial(wholes(family, world), tmp_path / str(number), poison, value, rank, said)
        failed |= {f"{value} {poison.__name__}, {family} on {world}": wrong} if wrong else {}
    print(f"\nnot finite: {len(trials) - len(failed)} of {len(trials)} stopped, named, and not saved")
    assert not failed, json.dumps(failed, indent=1)


@pytest.mark.parametrize("value", [math.nan, pytest.param(math.inf, marks=pytest.mark.slow)])
def test_weights_of_a_file_and_given_samples(value, wholes, tmp_path, capfd):
    shutil.copytree(wholes("vae", 1).path, folder := tmp_path / "run")
    assert entry.main(["stage=export", f"run={folder}"]) == 0
    file = folder / "export" / "model.safetensors"
    weights = load_file(file)
    next(iter(weights.values())).flatten()[0] = value
    weights_file.write(weights, file, step="16")
    np.savez(tmp_path / "given.npz", images=np.full((40, 8, 8, 1), value, dtype=np.float32))
    capfd.readouterr()
    for words in (
        ("stage=sample", "n=1", f"run={folder / 'export'}"),
        (*wholes("vae", 1).words, f"init={folder / 'export'}", f"run={tmp_path / 'new'}"),
        (
            "stage=evaluate",
            f"samples={tmp_path / 'given.npz'}",
            "quality=pixels",
            "logger=none",
            f"run={tmp_path / 's'}",
        ),
    ):
        assert entry.main(list(words)) == 2
        error = capfd.readouterr().err
        name = "given.npz" if "given" in " ".join(words) else str(folder / "export")
        assert name in error and error.count("error: ") == 1 and "Traceback" not in error, error
