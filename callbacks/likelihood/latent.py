"""Lower bounds on log p(x) of a diffusion in the latent space of an autoencoder."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.base import PerSample
from lightning_gen.likelihood import ODELikelihood, Variance, bits_per_dim, decoder_deviation, dequantised, latent_bound
from lightning_gen.likelihood.dequantise import bins_protocol
from lightning_gen.models import BINARY, Scored
from lightning_gen.options import Count
from lightning_gen.results.result import Name, Result


class LatentLikelihood(PerSample):
    """elbo/log_likelihood, nats, of `n` samples of a split (null = all), and its parts: reconstruction, entropy, prior.

    log p(x) >= E_q log p(x|z) - E_q log q(z|x) + E_q log p(z), in this order, z ~ q(z|x), `draws` times an x. For
    a discrete process, with `flow` null, log p(z) is bounded term by term (DDPM's variational bound, whose last term is
    a density): the sum is a lower bound in expectation. Else log p(z) is the probability-flow ODE's, and the sum an
    estimate of a lower bound: with the errors of solver and trace, and of z at t_start in the place of 0.
    Images that are not binarised are dequantised, as for the VAE alone: bits_per_dim stand beside the nats.
    Score-based generative modeling in latent space (Vahdat et al., 2021, eq. 1), https://arxiv.org/abs/2106.05931

    Args:
        draws: of z, and of the bound's or the trace's noise, >= 1.
        variance: of p(z_{k-1}|z_k) in the bound: large, beta; small, the posterior's.
        flow: the ODE's estimator; null for the bound of a discrete process, and for RK45 with the exact trace else.
        options: those of PerSample.
    """

    needs = (Scored,)
    supports = ("real",)
    what = "likelihood"
    purpose = "latent"
    columns = 3
    latent = True

    def __init__(
        self,
        draws: Count = 1,
        variance: Variance = "large",
        flow: ODELikelihood | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.draws, self.variance, self.flow = draws, variance, flow

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if pl_module.autoencoder is None:
            raise ValueError(
                "callbacks.likelihood is LatentLikelihood with module.autoencoder null, expected a model of latent "
                "variables: write data=latent, or callbacks.likelihood=null"
            )
        if self.flow is None and pl_module.model.process.steps is None:
            self.flow = ODELikelihood(trace="exact")
        if self.flow is None:
            decoder_deviation(pl_module.model.process, self.variance)  # refuses a process of one step
        else:
            self.flow.check(pl_module.model)
        if pl_module.value_range is None and len(pl_module.shape) == 3:
            raise ValueError("callbacks.likelihood dequantises images in data.value_range, got null: write the range")
        self.binarise = trainer.datamodule.binarise

    def publishes(self, module: Any) -> set[Name]:
        names = ("log_likelihood", "reconstruction", "entropy", "prior")
        names += () if module.value_range is None else ("bits_per_dim",)
        return {Name(f"elbo/{name}", None, self.measured(module)) for name in names}

    def spread(self, module: Any) -> bool:
        """Whether x is dequantised."""
        return module.autoencoder.support != BINARY and module.value_range is not None

    def work(self, module: Any) -> int:
        return self.draws * (module.model.process.steps if self.flow is None else self.flow.ticks)

    def block(self, module: Any, model: Scored, x: Tensor, noise: torch.Generator, progress: Callable) -> Tensor:
        """Reconstruction, entropy and prior, nats, the mean over the draws, (m, 3)."""
        total = torch.zeros(len(x), 3, dtype=torch.float64, device=x.device)
        for _ in range(self.draws):
            spread = dequantised(x, module.value_range, noise) if self.spread(module) else x
            coder = module.autoencoder.eval()
            total += latent_bound(coder, model, spread, noise, self.variance, self.flow, progress)
        return total / self.draws

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        d, spread, process, nats = math.prod(module.shape), self.spread(module), module.model.process, rows.sum(1)
        protocol = {
            **self.protocol(module, n, fingerprint),
            "draws": self.draws,
            "likelihood": module.autoencoder.likelihood,
            "binarisation": self.binarise or "none",
            "dequantisation": "uniform" if spread else "none",
            "bounds": "in expectation over the draws",
        }
        kinds = ("lower bound", "upper bound")
        if self.flow is None:
            protocol |= {"prior": "variational bound", "terms": process.steps + 1, "variance": self.variance}
        else:
            kinds = ("estimate", "estimate")
            about = {"of": "evidence lower bound", "prior": "probability-flow ODE"}
            protocol |= about | self.flow.describe(process, module.autoencoder.latent)
        names = ("reconstruction", "entropy", "prior")
        parts = dict(zip(names, rows.unbind(1), strict=True))

        def result(quantity: str, values: Tensor, kind: str, unit: str, **more: Any) -> Result:
            name = Name(f"elbo/{quantity}", None, self.measured(module))
            return Result.of_mean(values, kind, unit, {**protocol, **more}, name)

        results = [result("log_likelihood", nats, kinds[0], "nats")]
        if module.value_range is not None:
            bits = bits_per_dim(nats, d, module.value_range) if spread else -nats / d / math.log(2)
            bins = bins_protocol(module.value_range) if spread else {"levels": 2}
            results.append(result("bits_per_dim", bits, kinds[1], "bits/dim", **bins))
        estimated = {"prior": kinds[0]}
        return results + [result(name, part, estimated.get(name, "estimate"), "nats") for name, part in parts.items()]
