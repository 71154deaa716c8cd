"""Diffusion recovery likelihood as a recipe: two steps, samples, and the same samples from its folder."""

import torch

import run as entry
from lightning_gen import load

SMALL = ["experiment=drl_digits", "net.width=16", "module.noise_levels=2", "module.chain.steps=2"]
SMALL += [
    "sampler.steps=2",
    "data.batch_size=8",
    "quality=none",
    "logger=none",
    "callbacks.pictures=null",
    "callbacks.curves=null",
]


def test_a_run_trains_and_draws(tmp_path):
    assert entry.main([*SMALL, "trainer.max_steps=2", f"run={tmp_path / 'r'}"]) == 0
    module = load(tmp_path / "r")
    x = module.sample(3)
    assert x.shape == (3, 1, 8, 8) and torch.equal(load(tmp_path / "r").sample(3), x)
    assert module.model.levels == 2


def test_a_readout_that_the_network_does_not_fit_is_refused(tmp_path, capsys):
    assert entry.main([*SMALL, "module.readout=scalar", "trainer.max_steps=2", f"run={tmp_path / 'r'}"]) == 2
    assert "module.readout is scalar" in capsys.readouterr().err
