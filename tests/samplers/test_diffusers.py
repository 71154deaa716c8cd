"""The same weights and the same noise give diffusers' DDPM and DDIM trajectories, to 1e-5."""

import pytest
import torch

from lightning_gen.models import Denoiser
from lightning_gen.nets import UNet
from lightning_gen.process import DiscreteVP, cosine_betas, linear_betas
from lightning_gen.samplers import DDIM, Ancestral
from tests.nets.diffusers_map import from_diffusers
from tests.networks import Curved

schedulers = pytest.importorskip("diffusers", reason="the test extra installs diffusers").schedulers


def walk(scheduler, betas, steps, noise_of, x, net=None, **options):
    """diffusers' loop with the noise that our sampler draws, its tables in float64 as ours are."""
    scheduler.betas = torch.tensor(betas, dtype=torch.float64)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.set_timesteps(steps)
    net, path = net or Curved(), [x]
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
    model, x, g = Denoiser(Curved(), DiscreteVP(betas)), start(), torch.Generator().manual_seed(2)
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
    model, x, g = Denoiser(Curved(), DiscreteVP(linear_betas(100))), start(), torch.Generator().manual_seed(3)
    ours = list(DDIM(20, eta, clip, spacing).trajectory(model, x, torch.Generator().manual_seed(3)))
    theirs = walk(
        scheduler, linear_betas(100), 20, lambda t: {"generator": g}, x, eta=eta, use_clipped_model_output=True
    )
    # diffusers adds noise with the last step too, where its variance is zero to rounding.
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


class Single(torch.nn.Module):
    """A single-precision network in a double-precision walk, so that rounding is the network's alone."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, t):
        output = self.net(x.float(), t.float())
        return getattr(output, "sample", output).double()


@pytest.mark.parametrize("sampler", [Ancestral("large", clip=(-1, 1)), DDIM(5, 0.0, (-1, 1)), DDIM(5, 1.0, (-1, 1))])
def test_the_same_unet_weights_walk_diffusers_path(sampler):
    """UNet2DModel under diffusers' schedulers against our U-Net under our samplers, every state to 1e-5."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    theirs = UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=[16, 32],
        layers_per_block=1,
        down_block_types=["DownBlock2D", "AttnDownBlock2D"],
        up_block_types=["AttnUpBlock2D", "UpBlock2D"],
        norm_num_groups=8,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
        attention_head_dim=None,
    ).eval()
    ours = UNet((3, 8, 8), channels=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.0, groups=8).eval()
    ours.load_state_dict(from_diffusers(theirs.state_dict()))
    betas, x, g = linear_betas(20, 1e-3, 0.2), torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.Generator()
    model = Denoiser(Single(ours), DiscreteVP(betas))
    ancestral = sampler.steps is None
    options = {"num_train_timesteps": 20, "clip_sample": True}
    if ancestral:
        scheduler, steps, extra = schedulers.DDPMScheduler(variance_type="fixed_large", **options), 20, {}
    else:
        scheduler = schedulers.DDIMScheduler(timestep_spacing="trailing", **options)
        steps, extra = 5, {"eta": sampler.eta, "use_clipped_model_output": True}
    with torch.no_grad():
        path = list(sampler.trajectory(model, x, g.manual_seed(3)))
        g.manual_seed(3)
        expected = walk(scheduler, betas, steps, lambda t: {"generator": g}, x, Single(theirs), **extra)
    for a, b in zip(path, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
