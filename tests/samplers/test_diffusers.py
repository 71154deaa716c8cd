"""The same weights and the same noise give diffusers' DDPM and DDIM trajectories, to 1e-5."""

import pytest
import torch

from lightning_gen.models import Denoiser
from lightning_gen.process import DiscreteVP, cosine_betas, linear_betas
from lightning_gen.samplers import DDIM, Ancestral

schedulers = pytest.importorskip("diffusers", reason="the test extra installs diffusers").schedulers


class Net(torch.nn.Module):
    """Something nonlinear that knows its time."""

    def forward(self, x, t):
        return torch.tanh(x + torch.sin(t / 100).reshape(-1, 1, 1, 1)) + 0.3 * x.roll(1, -1)


def walk(scheduler, betas, steps, noise_of, x, **options):
    """diffusers' loop with the noise that our sampler draws, its tables in float64 as ours are."""
    scheduler.betas = torch.tensor(betas, dtype=torch.float64)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.set_timesteps(steps)
    net, path = Net(), [x]
    for t in scheduler.timesteps:
        output = net(x, t.double().expand(len(x)))
        x = scheduler.step(output, t, x, **options, **noise_of(t)).prev_sample
        path.append(x)
    return path


def start():
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_ancestral_is_diffusers_ddpm(schedule, variance, clip):
    betas = linear_betas(50) if schedule == "linear" else cosine_betas(50)
    scheduler = schedulers.DDPMScheduler(
        num_train_timesteps=50, beta_schedule=schedule, variance_type=f"fixed_{variance}", clip_sample=clip is not None
    )
    model, x, g = Denoiser(Net(), DiscreteVP(betas)), start(), torch.Generator().manual_seed(2)
    ours = list(Ancestral(variance, clip=clip).trajectory(model, x, torch.Generator().manual_seed(2)))
    theirs = walk(scheduler, betas, 50, lambda t: {"generator": g}, x)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_is_diffusers_ddim(spacing, eta, clip):
    scheduler = schedulers.DDIMScheduler(
        num_train_timesteps=100, clip_sample=clip is not None, timestep_spacing=spacing, set_alpha_to_one=True
    )
    model, x, g = Denoiser(Net(), DiscreteVP(linear_betas(100))), start(), torch.Generator().manual_seed(3)
    ours = list(DDIM(20, eta, clip, spacing).trajectory(model, x, torch.Generator().manual_seed(3)))
    theirs = walk(
        scheduler, linear_betas(100), 20, lambda t: {"generator": g}, x, eta=eta, use_clipped_model_output=True
    )
    # diffusers adds noise with the last step too, where its variance is zero to rounding.
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
