"""Data distributions with known scores at every noise level: N(mean, cov), and a mixture of Gaussians."""

from lightning_gen.check.known import Gaussian, Mixture, example
from lightning_gen.process import VE, VP, DiscreteVP, SubVP, cosine_betas, linear_betas

__all__ = ["PROCESSES", "QUANTITIES", "Gaussian", "Mixture", "example"]

PROCESSES = {
    "vp": VP,
    "subvp": SubVP,
    "ve": VE,
    "ve from zero": lambda: VE(start="zero"),
    "discrete linear": lambda: DiscreteVP(linear_betas(1000)),
    "discrete cosine": lambda: DiscreteVP(cosine_betas(100)),
}

QUANTITIES = {
    "score": lambda model, x, t: model.score(x, t),
    "noise": lambda model, x, t: model.noise(x, t),
    "denoise": lambda model, x, t: model.denoise(x, t),
}
