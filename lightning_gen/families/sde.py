"""Score SDEs: a process in continuous time, a denoiser, and denoising score matching."""

from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.losses import DenoisingScoreMatching, uniform
from lightning_gen.models import Denoiser
from lightning_gen.options import OpenUnitInterval, Positive, Rate
from lightning_gen.process import VE, VP, SubVP


class ScoreSDE(GenerativeModule):
    """dx = f_t x dt + g_t dw in reverse time; the network learns E[noise | x_t] at t uniform on [t_min, 1].

    Score-based generative modeling through SDEs (Song et al., 2021), https://arxiv.org/abs/2011.13456

    Args:
        net: the network, (x, t) -> the parametrization's target, like x.
        sde: vp or subvp, with beta linear in t, or ve, with sigma geometric in t.
        beta_min: beta at t = 0 of vp and subvp, > 0.
        beta_max: beta at t = 1 of vp and subvp, > 0.
        sigma_min: sigma at t = 0 of ve, in units of the data, > 0.
        sigma_max: sigma at t = 1 of ve, in units of the data, > 0.
        parametrization: what the network predicts.
        weight: of the squared error of the noise: simple is lambda = sigma^2, likelihood is lambda = g^2
            (Song et al., 2021, https://arxiv.org/abs/2101.09258).
        t_min: smallest time in training, in (0, 1).
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        sde: Literal["vp", "subvp", "ve"] = "vp",
        beta_min: Positive = 0.1,
        beta_max: Positive = 20.0,
        sigma_min: Positive = 0.01,
        sigma_max: Positive = 50.0,
        parametrization: Literal["noise", "clean", "velocity", "edm", "ve"] = "noise",
        weight: Literal["simple", "clean", "velocity", "score", "likelihood"] = "simple",
        t_min: OpenUnitInterval = 1e-5,
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        processes = {
            "vp": lambda: VP(beta_min, beta_max),
            "subvp": lambda: SubVP(beta_min, beta_max),
            "ve": lambda: VE(sigma_min, sigma_max),
        }
        model = Denoiser(net, processes[sde](), parametrization)
        loss = DenoisingScoreMatching(uniform(t_min), weight, "mean")
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)
