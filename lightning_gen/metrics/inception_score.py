"""The Inception Score and its two factors."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.options import Count, checked


class InceptionScore(NamedTuple):
    """Mean of the score over splits and its standard deviation (ddof 0, as torch-fidelity); torchmetrics has ddof 1.

    sharpness and diversity are of all images together, so sharpness * diversity is the score with one split.
    """

    value: float
    std: float
    sharpness: float
    diversity: float


@checked
def inception_score(logits: Tensor, generator: torch.Generator | None = None, splits: Count = 10) -> InceptionScore:
    """IS of logits (N, K), in [1, K]; float64. A generator shuffles the images first, None keeps their order.

    IS = exp E KL(c || cbar) = S D, sharpness S = exp(E sum c log c) in [1/K, 1], diversity D = exp(-sum cbar log cbar)
    in [1, K], c = softmax(logits), cbar = E c.
    "Improved techniques for training GANs" (Salimans et al., 2016), https://arxiv.org/abs/1606.03498
    """
    if len(logits) < splits:
        raise ValueError(f"inception_score.splits is {splits}, expected at most the {len(logits)} images: give more")
    if not torch.isfinite(logits).all():
        raise NonFinite("logits are not finite: the Inception Score would be meaningless")
    if generator is not None:
        logits = logits[torch.randperm(len(logits), generator=generator, device=generator.device).to(logits.device)]
    log_c = logits.detach().double().log_softmax(1)
    bounds = [i * len(log_c) // splits for i in range(splits + 1)]
    scores = torch.stack([sum(_factors(log_c[a:b])).exp() for a, b in zip(bounds, bounds[1:], strict=False)])
    sharpness, diversity = _factors(log_c)
    return InceptionScore(
        float(scores.mean()), float(scores.std(correction=0)), float(sharpness.exp()), float(diversity.exp())
    )


def _factors(log_c: Tensor) -> tuple[Tensor, Tensor]:
    """log S = E sum c log c, log D = -sum cbar log cbar."""
    # entr is -c log c with its limit 0 at c = 0: a class that nobody holds adds nothing
    c = log_c.exp()
    return -torch.special.entr(c).sum(1).mean(), torch.special.entr(c.mean(0)).sum()
