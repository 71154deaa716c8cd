"""The Inception Score and its two factors."""

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.registry import Measured, Quantity, metric
from lightning_gen.options import Count, checked

SPLITS = 10
PARTS = (Quantity("sharpness", "sharpness", "higher"), Quantity("diversity", "diversity", "higher"))


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


class ScoreErrors(NamedTuple):
    """Standard errors of the Inception Score and its two factors."""

    value: float
    sharpness: float
    diversity: float


def inception_bootstrap(logits: Tensor, generator: torch.Generator, resamples: int = 50) -> ScoreErrors:
    """Standard deviations over bootstraps of logits (n, K), each scored as a whole."""
    n = len(logits)
    counts = torch.stack(
        [torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n) for _ in range(resamples)]
    )
    weights = counts.double().to(logits.device) / n
    sharp, middle = 0.0, 0.0
    for rows, share in zip(logits.detach().split(4096), weights.split(4096, 1), strict=True):
        c = rows.double().softmax(1)
        sharp = sharp - share @ torch.special.entr(c).sum(1)
        middle = middle + share @ c
    diverse = torch.special.entr(middle).sum(1)
    return ScoreErrors(*(float(x.exp().std()) for x in (sharp + diverse, sharp, diverse)))


@metric("is", "Inception Score", "higher", least=SPLITS, needs="logits", parts=PARTS)
def score_and_factors(evaluation: Evaluation) -> dict[str, Measured]:
    """The Inception Score and its two factors."""
    logits, resamples = evaluation.logits, evaluation.options.resamples
    score = inception_score(logits, evaluation.draw("is"), SPLITS)
    errors = inception_bootstrap(logits, evaluation.draw("is", "bootstrap"), resamples)
    per_split, method = len(logits) // SPLITS, {"error_by": f"bootstrap, {resamples} resamples"}
    few = per_split < logits.shape[1]
    flags = (f"{per_split} images a split for {logits.shape[1]} classes",) if few else ()
    protocol = {"splits": SPLITS, "bias": "downwards at small n", **method}
    measured = {"is": Measured(score.value, errors.value, flags, protocol, {"std_over_splits": score.std})}
    for name, bias in (("sharpness", "none of first order"), ("diversity", "downwards at small n")):
        measured[name] = Measured(getattr(score, name), getattr(errors, name), (), {"bias": bias, **method})
    return measured
