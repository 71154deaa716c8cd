"""Networks f(x, t) that are known, without weights."""

import torch

from lightning_gen.models.denoiser import PARAMETRIZATIONS
from lightning_gen.process import expand


class Identity(torch.nn.Module):
    """x, by no operation."""

    def forward(self, x, t):
        return x


class Curved(torch.nn.Module):
    """Something nonlinear of an image that depends on the time."""

    def forward(self, x, t):
        return torch.tanh(x + torch.sin(t / 100).reshape(-1, 1, 1, 1)) + 0.3 * x.roll(1, -1)


class Exact(torch.nn.Module):
    """A network that answers with the exact target of a parametrization, from its input."""

    def __init__(self, truth, name):
        super().__init__()
        self.truth, self.name = truth, name

    def forward(self, scaled, c_noise):
        t = self.t
        process = self.truth.process
        c_skip, c_out, c_in, _ = PARAMETRIZATIONS[self.name](process, t)
        x = scaled / expand(c_in, scaled)
        clean, noise = self.truth.denoise(x, t), self.truth.noise(x, t)
        alpha, sigma = expand(process.alpha(t), x), expand(process.sigma(t), x)
        return {
            "noise": noise,
            "clean": clean,
            "velocity": alpha * noise - sigma * clean,
            "edm": (clean - expand(c_skip, x) * x) / expand(c_out, x),
            "ve": -noise,
        }[self.name]
