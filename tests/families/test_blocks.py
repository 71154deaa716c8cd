"""Samples do not depend on how many are drawn, and drawing few costs few."""

import pytest
import torch

from lightning_gen import samplers
from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, ExactScoreMatching, uniform
from lightning_gen.models import Denoiser, EnergyNetwork
from lightning_gen.nets import MLP
from lightning_gen.process import VE, VP

BY_ROW = {
    "ancestral": samplers.Ancestral("small", 8),
    "ddim": samplers.DDIM(8, 0.5),
    "euler-maruyama": samplers.EulerMaruyama(8),
    "heun": samplers.ProbabilityFlow(6),
    "dpm-solver": samplers.DPMSolver(6),
    "edm": samplers.EDMHeun(6, 2.0, s_max=5.0),
    "langevin": samplers.Langevin(6, 0.01, t=0.5),
    "annealed": samplers.AnnealedLangevin(4, 2),
    "mala": samplers.MALA(6, 0.1, jump=0.5),
    "hmc": samplers.HMC(3, 0.1, 2),
}
WHOLE = {
    "predictor-corrector": samplers.PredictorCorrector(samplers.Ancestral("small", 6)),
    "rk45": samplers.RK45(1e-3, 1e-3, 4),
}


def module(sampler, classes=None):
    """A module with random weights, of the kind that the sampler takes, and how many rows its network has evaluated."""
    torch.manual_seed(0)
    net, rows = MLP((2,), 16, 1, classes=None if classes is None else classes + 1), []
    net.register_forward_hook(lambda net, inputs, output: rows.append(len(inputs[0])))
    if isinstance(sampler, samplers.MALA | samplers.HMC):
        model, loss = EnergyNetwork(net, confine=1.0), ExactScoreMatching()
    else:
        process = VE(0.1, 5.0) if isinstance(sampler, samplers.AnnealedLangevin) else VP()
        model, loss = Denoiser(net, process), DenoisingScoreMatching(uniform())
    options = {} if classes is None else {"classes": classes, "guidance": 2.0}
    return GenerativeModule(model, loss, torch.optim.SGD, sampler=sampler, shape=(2,), **options), rows


@pytest.mark.parametrize("name", [*BY_ROW, *WHOLE])
def test_the_first_n_samples_are_the_same_for_any_n(name):
    made, _ = module((BY_ROW | WHOLE)[name])
    all_of_them = made.sample(70)
    for n in (1, 3, 64, 65):
        torch.testing.assert_close(made.sample(n), all_of_them[:n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BY_ROW)
def test_samples_are_the_same_whatever_the_size_of_blocks(name):
    """Sizes within a group of samples that share a generator, over its edge, and of several of them."""
    made, _ = module(BY_ROW[name])
    expected = made.sample(200, seed=3, size=64)
    for size in (10, 96, 128, 200, None):
        torch.testing.assert_close(made.sample(200, seed=3, size=size), expected, rtol=1e-4, atol=1e-5)
    assert len(expected.unique(dim=0)) == 200


def test_a_strip_shows_the_first_samples():
    made, _ = module(samplers.DDIM(4))
    *_, last = made.trajectory(5, 3)
    torch.testing.assert_close(last, made.sample(5, seed=3), rtol=1e-4, atol=1e-5)


def test_blocks_fill_the_device_and_share_the_work():
    made, rows = module(samplers.DDIM(4))
    assert made.block_size(10) == made.block_size(64 * 15) == 64
    assert made.block_size(64 * 24) == 192
    assert made.block_size(10**6) == 2**13 // 2
    assert made.block_size(10**6, WHOLE["rk45"]) == 64
    made.sample(64 * 16)
    assert set(rows) == {128}
    made.shape = None
    with pytest.raises(ValueError, match="module.shape is null, expected one"):
        made.sample(1)


@pytest.mark.parametrize("missing", ["sampler", "shape"])
def test_without_a_sampler_or_a_shape_samples_are_refused(missing):
    made, _ = module(samplers.DDIM(4))
    setattr(made, missing, None)
    for ask in (lambda: made.work(3), lambda: made.log_snr(3), lambda: made.sample(3)):
        with pytest.raises(ValueError, match=f"module.{missing} is null, expected one.*write it"):
            ask()


def test_labels_go_with_the_rows():
    made, rows = module(samplers.DDIM(4), classes=3)
    torch.testing.assert_close(made.sample(5), made.sample(70)[:5], rtol=1e-4, atol=1e-5)
    rows.clear()
    made.sample(5)
    assert set(rows) == {5}


@pytest.mark.parametrize("name", BY_ROW)
def test_the_network_evaluates_the_needed_rows_alone(name):
    made, rows = module(BY_ROW[name])
    made.sample(1)
    assert set(rows) == {1}
    rows.clear()
    made.sample(70)
    assert set(rows) == {64, 6}


@pytest.mark.parametrize("name", WHOLE)
def test_samplers_whose_rows_hang_together_draw_whole_blocks(name):
    made, rows = module(WHOLE[name])
    made.sample(1)
    assert set(rows) == {64}
