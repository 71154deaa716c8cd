"""The Inception Score and its two factors."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.result import NonFinite


class InceptionScore(NamedTuple):
    """Mean of the score over splits and its standard deviation (ddof 0, as torch-fidelity); torchmetrics has ddof 1.

    sharpness and diversity are of all images together, so sharpness * diversity is the score with one split.
    """

    value: float
    std: float
    sharpness: float
    diversity: float


def inception_score(
    logits: Tensor, generator: torch.Generator | None = None, splits: int = 10
) -> InceptionScore:
    """IS of logits (N, K), in [1, K]; float64. A generator shuffles the images first, None keeps their order.

    IS = exp E KL(c || cbar) = S D, sharpness S = exp(E sum c log c) in [1/K, 1], diversity D = exp(-sum cbar log cbar)
    in [1, K], c = softmax(logits), cbar = E c.
    "Improved techniques for training GANs" (Salimans et al., 2016), https://arxiv.org/abs/1606.03498
    """
    if splits < 1 or len(logits) < splits:
        raise ValueError(f"inception_score needs 1 <= splits <= images, got {splits} splits of {len(logits)} images")
    if not torch.isfinite(logits).all():
        raise NonFinite("logits are not finite: the Inception Score would be meaningless")
    if generator is not None:
        logits = logits[torch.randperm(len(logits), generator=generator, device=generator.device).to(logits.device)]
    log_c = logits.detach().double().log_softmax(1)
    scores = torch.stack([torch.stack(_factors(part)).sum().exp() for part in log_c.tensor_split(splits)])
    sharpness, diversity = _factors(log_c)
    return InceptionScore(
        float(scores.mean()), float(scores.std(correction=0)), float(sharpness.exp()), float(diversity.exp())
    )


def _factors(log_c: Tensor) -> tuple[Tensor, Tensor]:
    """log S = E sum c log c, log D = -sum cbar log cbar."""
    c = log_c.exp()
    mean = c.mean(0)
    # exp(-inf) log(0) is 0 here, as its limit: a class that nobody holds adds nothing
    return torch.special.entr(c).sum(1).mean().neg(), torch.special.entr(mean).sum()
