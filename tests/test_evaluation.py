"""Measuring does not move training: with every callback at every epoch, and with none at all, the same weights."""

import pytest
import torch

import run as entry
from tests.callbacks.test_monitor import RUNS
from tests.test_experiments import composed
from tests.test_run import losses

PICTURES = ("callbacks.pictures.n=4", "callbacks.pictures.strip=2")
ENERGIES = (
    "callbacks.health.every_n_steps=2",
    "callbacks.health.chains=4",
    "callbacks.health.length=4",
    "callbacks.health.long=2",
)


def trained(folder, *words):
    """The losses by step, and the last checkpoint's weights and moments."""
    assert entry.main([*words, f"run={folder}"]) == 0
    kept = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return losses(folder), kept["state_dict"], kept["optimizer_states"], kept["global_step"]


def equal(a, b):
    """Whether two trees of containers and tensors are the same to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return len(a) == len(b) and all(map(equal, a, b)) if isinstance(a, list | tuple) else a == b


# Of the RBM's callbacks, tests/callbacks/test_chain_health.py says the same.
@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "ddpm_digits" else pytest.mark.slow) for n in RUNS])
def test_training_is_the_same_to_the_bit_with_every_callback_and_with_none(name, tmp_path, monkeypatch):
    monkeypatch.setattr("run.Session.evaluate", lambda self: None)
    callbacks = composed(f"experiment={name}")["callbacks"]
    shared = [w for w in RUNS[name] if not w.startswith(("callbacks.", "quality."))]
    shared += ["trainer=cpu", "trainer.log_every_n_steps=1", "trainer.max_steps=6", "trainer.check_val_every_n_epoch=1"]
    shared += ["data.batch_size=16" if "rings" in name else "data.batch_size=433"]
    watched = [w for w in RUNS[name] if w.startswith(("callbacks.", "quality.")) and "=null" not in w]
    watched += [
        f"callbacks.{key}.every_n_epochs=1"
        for key in callbacks
        if key in ("pictures", "likelihood", "curves", "energies")
    ]
    watched += [w for w in PICTURES if w.split(".")[1] in callbacks] + ["quality.every_n_epochs=1"]
    watched += ENERGIES if "health" in callbacks else ()
    watched += ["callbacks.throughput.every_n_steps=1", "callbacks.checkpoints.every_n_steps=1"]
    bare = [f"callbacks.{key}=null" for key in callbacks if key != "checkpoints"] + [
        "quality=none",
        "trainer.limit_val_batches=0",
    ]
    if callbacks.get("likelihood") is None:
        watched = [w for w in watched if "likelihood" not in w]
    if "rings" in name:
        watched = [w for w in watched if not w.startswith("callbacks.pictures.n")] + ["callbacks.pictures.points=20"]
    with_all = trained(tmp_path / "watched", *(f"experiment={name}", *shared, *watched))
    with_none = trained(tmp_path / "bare", *(f"experiment={name}", *shared, *bare))
    assert with_all[-1] == 6 and equal(with_all, with_none)
    assert len(with_all[0]) == 6
    written = {path.name.split("-")[0] for path in (tmp_path / "watched" / "samples").iterdir()}
    assert written >= ({"grid", "field"} if "rings" in name else {"grid"}), "nothing was drawn, so nothing was tried"
    record = (tmp_path / "watched" / "record.jsonl").read_text()
    assert '"fid/' in record and ("rings" in name or any(f'"{head}/' in record for head in ("vlb", "ode", "ais")))
