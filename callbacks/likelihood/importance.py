"""Lower bounds on log p(x) of latent-variable models, by importance sampling, in nats and in bits/dim."""

from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_gen.callbacks.likelihood.observed import ObservedLikelihood
from lightning_gen.likelihood import EncoderProposal, Proposal, bounds, dequantised
from lightning_gen.likelihood.importance import draws_per_pass, log_weights
from lightning_gen.models import LatentVariables
from lightning_gen.options import Count
from lightning_gen.randomness import generator
from lightning_gen.results.result import Name, Result

TOGETHER = 10_000  # latent vectors decoded at once


class ImportanceLikelihood(ObservedLikelihood):
    """iwae/log_likelihood by `samples` weights an image, and elbo/log_likelihood, nats, of `n` samples of a split.

    Both are lower bounds in expectation, the first the tighter one. The proposal is the encoder; with another one the
    first is likelihood_weighting/log_likelihood (the prior) or flow_proposal/log_likelihood (learned before the
    estimate), and there is no second. The protocol has the effective sample size of the weights: where it is near 1,
    more samples would still raise the bound. Errors are standard errors over the split.
    Images that are not binarised are dequantised: nats are of the density in model space, and bits_per_dim stand
    beside them, upper bounds on -log2 P(image) / dim; binarised images have bits_per_dim of their probability.
    Importance weighted autoencoders (Burda et al., 2016), https://arxiv.org/abs/1509.00519

    Args:
        samples: K, weights an image, >= 1.
        proposal: q(z|x): PriorProposal, EncoderProposal or FlowProposal; null for the encoder.
        deviation, options: those of ObservedLikelihood.
    """

    what = "importance weights"
    purpose = "importance"
    columns = 3

    def __init__(
        self, samples: Count = 500, batch: Count = 100, proposal: Proposal | None = None, **options: Any
    ) -> None:
        super().__init__(batch=batch, **options)
        self.samples, self.proposal = samples, EncoderProposal() if proposal is None else proposal

    def estimator(self) -> type[Proposal]:
        """The proposal."""
        return type(self.proposal)

    @property
    def methods(self) -> tuple[str, ...]:
        """What is published: the bound by the proposal, and the encoder's evidence lower bound."""
        return ("iwae", "elbo") if self.proposal.method == "iwae" else (self.proposal.method,)

    def publishes(self, module: Any) -> set[Name]:
        which = self.measured(module)
        return {Name(f"{method}/{name}", None, which) for method in self.methods for name in self.quantities(module)}

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        """The bounds, by a proposal that is first fitted, the same on every rank."""
        with self.model(trainer, module) as model, self.bar(trainer, "proposal", self.proposal.ticks()) as progress:
            noise = generator(self.seed, "proposal", device=module.device)
            self.fitted = self.proposal.fit(self.observed(model), noise, progress.update)
        return super().measure(trainer, module, final)

    def work(self, module: Any) -> int:
        return len(draws_per_pass(self.samples, self.batch, TOGETHER))

    def block(
        self, module: Any, model: LatentVariables, x: Tensor, noise: torch.Generator, progress: Callable
    ) -> Tensor:
        """The bound, the mean of log w, and the effective sample size, (m, 3)."""
        if self.spread(module):
            x = dequantised(x, module.value_range, noise)
        together = TOGETHER // self.batch * len(x) if self.batch <= TOGETHER else len(x)
        log_w = log_weights(self.observed(model), x, self.samples, noise, together, progress, self.fitted)
        bound = bounds(log_w)
        return torch.stack([bound.iwae, bound.elbo, bound.ess], dim=1)

    def results(self, module: Any, rows: Tensor, n: int, fingerprint: str) -> list[Result]:
        protocol = {
            **self.protocol(module, n, fingerprint),
            "samples": self.samples,
            "ess": rows[:, 2].mean().item(),
            "ess_least": rows[:, 2].min().item(),
            "proposal": self.proposal.describe(),
            "bounds": "in expectation over the draws",
        }
        results = []
        for column, method in enumerate(self.methods):
            results += self.both(module, rows[:, column], method, None, "lower bound", protocol)
        return results
