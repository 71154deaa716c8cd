"""Whether samples fall into the classes as often as the data do."""

import torch
from torch import Tensor

from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.registry import Measured, metric


def histogram(logits: Tensor) -> Tensor:
    """Share of the rows of logits (n, K) whose largest value is each class's, (K,), float64, on the CPU."""
    return torch.bincount(logits.argmax(1).cpu(), minlength=logits.shape[1]).double() / len(logits)


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """1/2 sum |p - q|, of the last axis."""
    return (p - q).abs().sum(-1) / 2


@metric("class_distance", "class distance", "lower", needs="logits")
def class_distance(evaluation: Evaluation) -> Measured:
    """Total variation between the class histograms of samples and reference, by the features' own classifier.

    0 where both are alike, 1 - p_k where all samples are of class k. Its error is over bootstraps of the samples, as a
    multinomial draw of their classes.
    """
    ours, real = histogram(evaluation.logits), histogram(evaluation.real.logits)
    n, resamples = len(evaluation.logits), evaluation.options.resamples
    chosen = torch.multinomial(ours.expand(resamples, -1), n, True, generator=evaluation.draw("classes"))
    counts = torch.zeros(resamples, len(ours), dtype=torch.float64).scatter_add_(
        1, chosen, torch.ones_like(chosen, dtype=torch.float64)
    )
    error = float(total_variation(counts / n, real).std())
    protocol = {"error_by": f"bootstrap, {resamples} resamples", "bias": "upwards at small n"}
    return Measured(float(total_variation(ours, real)), error, (), protocol, {"rarest": float(ours.min())})
