"""Laws of sample metrics: functions of an Evaluation that lightning_gen.metrics.registry.metric registers."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from lightning_gen.check.law import Broken, Laws, Skipped, decided
from lightning_gen.metrics.evaluation import Evaluation, Options
from lightning_gen.metrics.frechet import moments
from lightning_gen.metrics.reference import Reference
from lightning_gen.metrics.registry import Measured, Metric, metrics

D, CLASSES, N = 4, 3, 400  # dimensions of features, logits, and samples
SHARPNESS = 6.0  # factor of the logits: most samples belong to one class
STRENGTHS = (0.0, 0.5, 1.0)  # of a degradation
LAWS = Laws()
Answer = Callable[[Measured], float]


def cloud(n: int, seed: int) -> Tensor:
    """Features of the law of the real ones, (n, D)."""
    draw = torch.Generator().manual_seed(seed)
    mix = torch.eye(D, dtype=torch.float64) + 0.3 * torch.ones(D, D, dtype=torch.float64)
    return torch.randn(n, D, generator=draw, dtype=torch.float64) @ mix


def logits_of(features: Tensor) -> Tensor:
    """Logits of a linear classifier of the first features, (n, CLASSES)."""
    return SHARPNESS * features[:, :CLASSES]


def referred(features: Tensor, logits: Tensor | None = None) -> Reference:
    """A reference of these features."""
    mean, cov = moments(features)
    return Reference(mean, cov, features, logits_of(features) if logits is None else logits)


@cache
def real() -> tuple[Reference, Reference, Reference]:
    """Reference, training and held-out images."""
    return referred(cloud(1000, 1)), referred(cloud(1000, 2)), referred(cloud(500, 3))


def evaluation(features: Tensor, logits: Tensor | None = None, seed: int = 0) -> Evaluation:
    """An evaluation of samples."""
    reference, train, held_out = real()
    logits = logits_of(features) if logits is None else logits
    options = Options(kid_subsets=20, kid_subset_size=200)
    return Evaluation(features, logits, reference, (train, held_out), options, seed)


def shifted(strength: float) -> Evaluation:
    """Samples of another mean, most in the first dimension, so that they fall into its class."""
    return evaluation(cloud(N, 4) + 4 * strength / 2 ** torch.arange(D, dtype=torch.float64))


def narrow(strength: float) -> Evaluation:
    """Samples that are drawn together, nearly to one point."""
    return evaluation(cloud(N, 4) * (1 - 0.95 * strength))


def unsure(strength: float) -> Evaluation:
    """Samples whose class nobody could tell."""
    x = cloud(N, 4)
    return evaluation(x, logits_of(x) * (1 - 0.95 * strength))


def copied(strength: float) -> Evaluation:
    """Samples of which a share are training images."""
    x, train = cloud(N, 4), real()[1].features
    k = int(strength * N)
    return evaluation(torch.cat([train[:k], x[k:]]))


DEGRADATIONS = {"shifted": shifted, "drawn together": narrow, "of no class": unsure, "training images": copied}


def _balanced() -> Evaluation:
    """Samples that are sure of their class, each class as often."""
    labels = torch.arange(300) % CLASSES
    return evaluation(cloud(300, 4), 100.0 * torch.eye(CLASSES, dtype=torch.float64)[labels])


def _moved(by: float) -> Evaluation:
    """The reference's own images, moved in the first dimension."""
    x = real()[0].features.clone()
    x[:, 0] += by
    return evaluation(x)


# Samples for metrics of ours, the number that they have by its definition, and how far it may be off.
ANSWERS: dict[str, tuple[Callable[[], Evaluation], float, float]] = {
    "fid": (lambda: _moved(2.0), 4.0, 1e-6),
    "is": (_balanced, float(CLASSES), 0.2),  # of splits of 30 samples, whose classes are not as often
    "sharpness": (_balanced, 1.0, 1e-6),
    "diversity": (_balanced, float(CLASSES), 1e-6),
    "precision": (lambda: _moved(0.0), 1.0, 1e-12),
    "recall": (lambda: _moved(0.0), 1.0, 1e-12),
    "density": (lambda: _moved(0.0), 1.0, 1e-12),
    "coverage": (lambda: _moved(0.0), 1.0, 1e-12),
    "memorised": (lambda: evaluation(real()[1].features[:N]), 1.0, 1e-12),
    "class_distance": (lambda: _moved(0.0), 0.0, 1e-12),
}


class Subject:
    """A registered metric, and the quantities that its function gives.

    Args:
        function: of an Evaluation.
    """

    def __init__(self, function: Callable) -> None:
        self.own = [metric for metric in metrics().values() if metric.function is function]
        self.function = function

    def said(self) -> str:
        """What is looked at, in words."""
        return f"the metric {', '.join(metric.quantity.name for metric in self.own)}"

    def value(self, given: Evaluation) -> dict[str, Measured]:
        """What the function measures, by name."""
        found = self.function(given)
        return found if isinstance(found, dict) else {self.own[0].quantity.name: found}

    def names(self) -> Iterator[tuple[str, Metric]]:
        """Each quantity that has a direction, with its metric."""
        for metric in self.own:
            if metric.quantity.better is not None:
                yield metric.quantity.name, metric


def registered(function: Any) -> bool:
    """Whether a function is one of a registered metric."""
    return callable(function) and any(metric.function is function for metric in metrics().values())


@LAWS.law("measured", "a Measured for each name", "tables and protocols are made of it", first=True)
def look_measured(subject: Subject) -> str:
    """A Measured with finite numbers for each name that it gives."""
    found = subject.value(evaluation(cloud(N, 4)))
    for name in dict.fromkeys(name for metric in subject.own for name in metric.gives):
        measured = found.get(name)
        if not isinstance(measured, Measured):
            raise Broken(f"{name} is {type(measured).__name__}, expected a Measured")
        if not torch.tensor(float(measured.value)).isfinite():
            raise Broken(f"{name} is {measured.value}, expected a finite number")
        if measured.error is not None and not 0 <= measured.error < torch.inf:
            raise Broken(f"the error of {name} is {measured.error}, expected a finite one >= 0, or None")
    values = [
        f"{name} {each.value:.4g} ± {each.error:.1g}" if each.error else f"{name} {each.value:.4g}"
        for name, each in found.items()
    ]
    return f"{', '.join(values)} of {N} samples of the reference's law"


@LAWS.law("known", "known answers", "it measures something else than it is named for")
def look_known(subject: Subject) -> str:
    """The numbers of samples for which the definition says them; of others, the reference itself is the best."""
    told = []
    for metric in subject.own:
        name = metric.quantity.name
        if name in ANSWERS:
            make, expected, within = ANSWERS[name]
            value = subject.value(make())[name].value
            if not abs(value - expected) <= within:
                raise Broken(f"{name} is {value:.6g}, by its definition {expected:g}")
            told.append(f"{name} {value:.4g}")
        elif metric.quantity.better is not None and metric.needs == "features":
            sign = metric.quantity.sign
            best, fresh = (subject.value(each)[name] for each in (_moved(0.0), evaluation(cloud(N, 4))))
            slack = 3 * (fresh.error or 0.0) + 3 * (best.error or 0.0) + 1e-9
            if sign * (fresh.value - best.value) > slack:
                raise Broken(f"{name} of the reference's own images is {best.value:.4g}, of others {fresh.value:.4g}")
            told.append(f"{name} {best.value:.4g} of the reference's own images")
    if not told:
        raise Skipped("no answer is known by its definition")
    return f"as the definition says: {', '.join(told)}"


@LAWS.law("direction", "better for better samples", "rankings and best.ckpt would choose the worst")
def look_direction(subject: Subject) -> str:
    """Worse where samples get worse in the way that it measures."""
    told = []
    for name, metric in subject.names():
        falls = []
        for title, degrade in DEGRADATIONS.items():
            found = [subject.value(degrade(strength))[name] for strength in STRENGTHS]
            gains = [metric.quantity.sign * (b.value - a.value) for a, b in zip(found, found[1:], strict=False)]
            clear = abs(found[-1].value - found[0].value) > 3 * (found[0].error or 0.0)
            if all(gain <= 1e-9 for gain in gains) and sum(gains) < 0 and clear:
                falls.append(f"{title} {found[0].value:.3g} to {found[-1].value:.3g}")
        if not falls:
            raise Broken(f"{name}, better {metric.quantity.better}, gets worse for none of: {', '.join(DEGRADATIONS)}")
        told.append(f"{name} (better {metric.quantity.better}) of samples {falls[0]}")
    if not told:
        raise Skipped("better is None: it says neither more nor less is better")
    return "; ".join(told)


@LAWS.law("few", "a number of as few samples as it says", "an evaluation would end after its samples are drawn")
def look_few(subject: Subject) -> str:
    """A number of the fewest samples that it says it takes."""
    least = max(metric.least(Options()) for metric in subject.own)
    for name, measured in subject.value(evaluation(cloud(least, 4))).items():
        if not torch.tensor(float(measured.value)).isfinite():
            raise Broken(f"{name} of {least} samples, the fewest that it takes, is {measured.value}")
    return f"a number of {least} samples, the fewest that it takes"


@LAWS.law(
    "repeated",
    "the same number again",
    "two evaluations of one run would differ; evaluation.draw('name') is a generator of its own",
)
def look_repeated(subject: Subject) -> str:
    """The same number again, whatever the global generators are, and features as they were."""
    given = evaluation(cloud(N, 4))
    before = given.features.clone()
    decided(
        lambda: torch.tensor([each.value for each in subject.value(given).values()], dtype=torch.float64), "numbers"
    )
    if not torch.equal(before, given.features):
        raise Broken("it changes the features, which other metrics are given next")
    return "the same number twice, whatever the global seed"
