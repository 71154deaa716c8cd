"""Recipes of papers against their authors' code: what a config says, and what follows from it."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch

from lightning_gen import samplers
from lightning_gen.config.instantiate import build
from lightning_gen.process import VE, VP, DiscreteVP, linear_betas
from tests.gaussian import Gaussian
from tests.samplers.test_propagated import moments
from tests.test_experiments import CONFIGS, EXPERIMENTS, composed

F64 = {"dtype": torch.float64}
D = 3 * 32 * 32


@cache
def recipe(name):
    """The composed config of an experiment."""
    return composed(f"experiment={name}")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_names_its_differences_from_its_paper(name):
    lines = Path(CONFIGS, "experiment", f"{name}.yaml").read_text().splitlines()
    head = " ".join(line.removeprefix("# ") for line in lines[: lines.index("defaults:")])
    assert "Difference from the paper: " in head or "Differences from the paper" in head


def test_ncsnv2_leaves_the_codes_variance(monkeypatch):
    """Data of CIFAR-10's width in [0, 1], s = .25: all 1,160 steps and the denoising one leave 1.137 of their variance.

    With the step of the first paper's algorithm 1, half as long, the same chain leaves 1.313.
    """
    config = recipe("ncsnv2_cifar")
    module, sampler = config["module"], build(config["sampler"])
    process = VE(module["sigma_min"], module["sigma_max"], levels=module["noise_levels"])
    model = Gaussian(process, torch.full((1,), 0.5), torch.full((1, 1), 0.25**2))
    start = (torch.zeros(1, **F64), process.prior_sigma**2 * torch.eye(1, **F64))
    mean, cov = moments(sampler, model, monkeypatch, *start)
    assert float(mean) == pytest.approx(0.5, abs=1e-3) and float(cov) / 0.25**2 == pytest.approx(1.137, abs=5e-4)
    half = sampler.with_options(step_rule="v1")
    assert float(moments(half, model, monkeypatch, *start)[1]) / 0.25**2 == pytest.approx(1.313, abs=6e-4)


@pytest.mark.parametrize(("name", "scale", "clip"), [("sde_ve_cifar", D / 2, 1.0), ("edm_cifar", D, None)])
def test_our_mean_takes_the_steps_of_the_authors_sum(name, scale, clip):
    """The loss of these two papers' code is `scale` times ours, clipped at `clip`, and Adam's eps is 1e-8."""
    config = recipe(name)
    adam, ours = config["module"]["optimizer"], config["trainer"]["gradient_clip_val"]
    assert (ours is None) == (clip is None) and (clip is None or ours == pytest.approx(clip / scale, rel=1e-4))
    torch.manual_seed(0)
    net = torch.nn.Conv2d(3, 3, 1).double()
    theirs = copy.deepcopy(net)
    optimizers = build(adam, params=list(net.parameters())), torch.optim.Adam(theirs.parameters(), adam["lr"], eps=1e-8)
    g = torch.Generator().manual_seed(1)
    for step in range(6):  # from gradients far above the clip to some of the size of eps
        x, y = torch.randn(2, 4, 3, 32, 32, generator=g, **F64)
        for model, optimizer, factor, limit in ((net, optimizers[0], 1, ours), (theirs, optimizers[1], scale, clip)):
            optimizer.zero_grad()
            (factor * 10.0 ** (-3 * step) * (model(x) - y).square().flatten(1).mean(1).mean()).backward()
            if limit is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
    for a, b in zip(net.parameters(), theirs.parameters(), strict=True):
        # Torch clips to clip / (norm + 1e-6) of the gradient, which is .15 % less at a norm of 6.5e-4.
        torch.testing.assert_close(a, b, rtol=0, atol=5e-3 * adam["lr"])


def test_edms_network_is_the_authors():
    """SongUNet without the 9 x 128 weights that read the labels of the augmentation."""
    config = recipe("edm_cifar")
    with torch.device("meta"):
        network = build(config["net"], shape=[3, 32, 32])
    assert sum(p.numel() for p in network.parameters()) == 55_732_739 == 55_733_891 - 9 * 128
    assert (config["net"]["multipliers"], config["net"]["dropout"]) == ([2, 2, 2], 0.13)
    assert config["trainer"]["gradient_clip_val"] is None


def test_the_vp_is_sampled_by_euler_maruyama_without_a_corrector():
    """1,000 steps of 1/1000 from t = 1 to 1e-3, where the last takes the noise out."""
    config = recipe("sde_vp_cifar")
    sampler = build(config["sampler"])
    assert type(sampler) is samplers.EulerMaruyama
    times = [(step.t, step.s) for step in sampler.transitions(VP())]
    assert len(times) == 1000 and times[-1] == pytest.approx((1e-3, 0))
    assert [t for t, _ in times] == pytest.approx(torch.linspace(1, 1e-3, 1000, **F64).tolist())
    assert config["callbacks"]["likelihood"]["bins"] == "within" and config["data"]["value_range"] == [-1, 1]


def test_the_ves_predictor_is_reverse_diffusion():
    """x + (sigma_i^2 - sigma_(i-1)^2) s + sqrt(sigma_i^2 - sigma_(i-1)^2) z, of Song et al. (2021), eq. 46."""
    sampler = build(recipe("sde_ve_cifar")["sampler"])
    assert (type(sampler), sampler.corrections, sampler.snr) == (samplers.PredictorCorrector, 1, 0.16)
    process = VE(0.01, 50.0)
    squares = [(0.01 * 5000 ** (i / 999)) ** 2 for i in reversed(range(1000))]
    steps = sampler.predictor.transitions(process)
    assert len(steps) == 1000
    for step, now, after in zip(steps[:-1], squares[:-1], squares[1:], strict=True):
        keep, pull, noise = step.coefficients  # of x and of x_0 = x + sigma^2 s
        assert (keep + pull, pull * now, noise**2) == pytest.approx((1, now - after, now - after), rel=1e-6)
    assert steps[-1].coefficients == pytest.approx((0, 1, 0))


def test_ddpms_bound_is_computed_as_the_published_one():
    config = recipe("ddpm_cifar")
    callback = build(config["callbacks"]["likelihood"])
    assert (callback.variance, callback.convention, config["sampler"]["variance"]) == ("large", "code", "large")
    assert config["sampler"]["clip"] == config["data"]["value_range"] == [-1, 1]
    assert DiscreteVP(linear_betas(config["module"]["steps"])).steps == 1000
