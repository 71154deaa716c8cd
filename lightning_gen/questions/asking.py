"""The questions of a trained model, each answered by the first answer that fits it, or by one that is given."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from lightning_gen.models import Energy, Guided, Model, Scored, has
from lightning_gen.models.requirements import why_unfit
from lightning_gen.options import Checked, Count, Natural, Positive, UnitInterval, checked, choose, value_and_type
from lightning_gen.questions.base import first_fit
from lightning_gen.questions.densities import (
    AnnealedLogProb,
    EnergyRatio,
    EnumeratedLogProb,
    ImportanceLogProb,
    LineIntegral,
    LogProb,
    NormalisedLogProb,
    ODELogProb,
)
from lightning_gen.questions.inpainting import INPAINTERS
from lightning_gen.questions.inputs import check_answer, check_verb, numbers
from lightning_gen.questions.inverse import SOLVERS, linear_map
from lightning_gen.questions.latents import DECODERS, ENCODERS, SPHERICAL, between
from lightning_gen.questions.modes import Ascent, ConditionalModes, Mode, MostProbableHidden
from lightning_gen.questions.scores import DenoisedMean, ScoreAt
from lightning_gen.randomness import generator

Numbers = Any  # a tensor, an array or lists of numbers
ANSWERS: dict[str, tuple[Any, ...]] = {
    "log_prob": (NormalisedLogProb(), EnumeratedLogProb(), AnnealedLogProb(), ImportanceLogProb(), ODELogProb()),
    "log_ratio": (EnergyRatio(), LineIntegral()),
    "score": (ScoreAt(),),
    "denoise": (DenoisedMean(),),
    "encode": ENCODERS,
    "decode": DECODERS,
    "interpolate": ENCODERS,
    "inpaint": INPAINTERS,
    "posterior": SOLVERS,
    "mode": (ConditionalModes(), Ascent()),
    "hidden_mode": (MostProbableHidden(),),
}


class Questions(Checked):
    """What a trained model answers, for x (B, *shape) in model space, the space of its data.

    Where a model cannot answer, TypeError or ValueError says in one sentence what the question needs.

    Args:
        module: a trained family, as `lightning_gen.load` gives it.
        seed: of every draw, >= 0; each question has its own noise.
        label: the class that is asked about; null for none.
    """

    def __init__(self, module: Any, seed: Natural = 0, label: int | None = None) -> None:
        if not hasattr(module, "averaged"):
            found = f"module is {value_and_type(module)}, expected a trained family"
            raise TypeError(f"{found}: pass lightning_gen.load(the folder of its run)")
        self.module, self.seed, self.label, self.model = module, seed, label, module.averaged.eval()
        module.check_label(label)
        if module.autoencoder is not None:
            raise TypeError(
                "a diffusion of latent variables is asked, expected a model of the data themselves: ask the VAE whose "
                "latent variables they are"
            )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is no question: {choose(name, list(ANSWERS))}")

    def with_label(self, label: int | None) -> Self:
        """The questions about one class, or about none."""
        return type(self)(self.module, self.seed, label)

    def with_seed(self, seed: int) -> Self:
        """The questions with other draws."""
        return type(self)(self.module, seed, self.label)

    def answer(self, verb: str, by: Any = None) -> Any:
        """`by`, or the first answer to a question that fits; TypeError or ValueError where none does."""
        check_verb(verb, list(ANSWERS))
        if by is None:
            return first_fit(verb, ANSWERS[verb], self.model)
        check_answer(verb, by, ANSWERS)
        if reason := why_unfit(type(by), self.model, [type(each) for each in ANSWERS[verb]]):
            raise TypeError(reason)
        by.check(self.model)
        return by

    @torch.no_grad()
    @checked
    def log_prob(self, x: Numbers, by: Any = None) -> LogProb:
        """log p(x) of each x, nats, with kind and error.

        It is the density in model space; of whole levels the probability, where the model is one of whole levels, or
        dequantises them itself.
        """
        x = self.as_data(x)
        return self.answer("log_prob", by)(self.bound(len(x)), x, self.noise("log_prob"))

    @torch.no_grad()
    @checked
    def log_ratio(self, a: Numbers, b: Numbers, by: Any = None) -> LogProb:
        """log p(a) / p(b) of each pair, nats, with kind and error; no normalising constant is needed."""
        a, b = self.pair(a, b)
        return self.answer("log_ratio", by)(self.bound(len(a)), a, b)

    @torch.no_grad()
    @checked
    def score(self, x: Numbers, t: UnitInterval | None = None, by: Any = None) -> Tensor:
        """grad log p_t(x), (B, *shape), p_t the density with the noise of time t, in [0, 1].

        Without t, at the time whose score stands for the data's: 0, or the first with noise; of a velocity .02.
        """
        x = self.as_data(x)
        return self.answer("score", by)(self.bound(len(x)), x, t)

    @torch.no_grad()
    @checked
    def denoise(self, x: Numbers, sigma: Positive, by: Any = None) -> Tensor:
        """E[x_0 | x_0 + sigma noise = x], (B, *shape), sigma in units of the data, > 0."""
        x = self.as_data(x)
        return self.answer("denoise", by)(self.bound(len(x)), x, sigma)

    @torch.no_grad()
    @checked
    def encode(self, x: Numbers, by: Any = None) -> Tensor:
        """The code of each x, (B, L)."""
        x = self.as_data(x)
        return self.answer("encode", by).encode(self.bound(len(x)), x, self.noise("encode"))

    @torch.no_grad()
    @checked
    def decode(self, z: Numbers, by: Any = None) -> Tensor:
        """The x of each code, (B, *shape), z (B, L)."""
        z, answer = self.finite(z, "z"), self.answer("decode", by)
        size = answer.size(self.model, self.module.shape)
        if z.shape[1:] != (size,):
            raise ValueError(f"z has shape {tuple(z.shape)}, expected (B, {size}): reshape it")
        return answer.reconstruct(self.bound(len(z)), z, self.module.shape)

    @torch.no_grad()
    @checked
    def interpolate(self, a: Numbers, b: Numbers, points: Count = 8, by: Any = None) -> Tensor:
        """`points` steps from a to b by their codes, (points, B, *shape), on great circles where codes are Gaussian.

        The ends are the decoded codes of a and b: a and b themselves where the code is a bijection.
        """
        a, b = self.pair(a, b)
        code, model, noise = self.answer("interpolate", by), self.bound(len(a)), self.noise("interpolate")
        ends = [code.encode(model, x, noise) for x in (a, b)]
        path = between(*ends, points, isinstance(code, SPHERICAL))
        return torch.stack([code.reconstruct(model, codes, self.module.shape) for codes in path])

    @torch.no_grad()
    @checked
    def inpaint(self, x: Numbers, mask: Numbers, by: Any = None) -> Tensor:
        """x with the values where `mask` is false drawn given the others, (B, *shape), mask like x or one of them."""
        answer = self.answer("inpaint", by)
        x, mask, shape = self.shaped(x), numbers(mask, "mask"), tuple(self.module.shape)
        if mask.dtype != torch.bool or tuple(mask.shape) not in (shape, (1, *shape), (len(x), *shape)):
            found = f"mask is {mask.dtype} of shape {tuple(mask.shape)}"
            known = f"torch.bool of shape {(len(x), *shape)} or {shape}"
            raise ValueError(f"{found}, expected {known}: make it one that is true where x is known")
        known = mask.to(self.module.device).expand(len(x), *shape)
        x = self.as_data(torch.where(known, x.to(known.device), 0))
        return answer(self.bound(len(x)), x, known, self.noise("inpaint"))

    @torch.no_grad()
    @checked
    def posterior(self, y: Numbers, operator: Numbers | Callable, sigma: Positive, by: Any = None) -> Tensor:
        """x given y = A x + sigma noise, (B, *shape), y (B, m).

        A is a matrix (m, D) for flattened x, or a linear function of x (B, *shape) to (B, m); sigma > 0.
        """
        answer, y = self.answer("posterior", by), self.finite(y, "y")
        operator = operator if callable(operator) else self.finite(operator, "operator")
        apply, like = linear_map(operator, y, self.module.shape), y.new_zeros(len(y), *self.module.shape)
        return answer(self.bound(len(y)), like, y, apply, sigma, self.noise("posterior"))

    @torch.no_grad()
    @checked
    def mode(self, x: Numbers, by: Any = None) -> Mode:
        """The maximum of log p that an ascent from each x leads to, (B, *shape), and the slope that is left there.

        Of a model of noised data it is that of the density with the least noise.
        """
        x = self.as_data(x)
        return self.answer("mode", by)(self.bound(len(x)), x)

    @torch.no_grad()
    @checked
    def hidden_mode(self, v: Numbers, by: Any = None) -> Tensor:
        """The most probable hidden units of each v, (B, H)."""
        v = self.as_data(v, "v")
        return self.answer("hidden_mode", by)(self.bound(len(v)), v)

    def noise(self, verb: str) -> torch.Generator:
        """The generator of a question."""
        return generator(self.seed, "ask", verb, device=self.module.device)

    def bound(self, n: int) -> Model:
        """The model for n samples, with the label that is asked about; ValueError where it has not learnt of none."""
        module = self.module
        if module.classes is None:
            return self.model
        if self.label is None and module.label_dropout == 0:
            raise ValueError(
                f"label is null, expected 0 to {module.classes - 1}, for module.label_dropout is 0 and the model has "
                "not learnt the label for none: name one, by with_label"
            )
        label = torch.full((n,), module.classes if self.label is None else self.label, device=module.device)
        guided = self.label is not None and has(self.model, Scored)
        guided = guided and not (has(self.model, Energy) and module.guidance == 1)  # guided it would be a score alone
        return Guided(self.model, label, module.guidance, module.classes) if guided else self.model.with_label(label)

    def pair(self, a: Numbers, b: Numbers) -> tuple[Tensor, Tensor]:
        """Two batches as the model takes them; ValueError where their numbers differ."""
        a, b = self.as_data(a, "a"), self.as_data(b, "b")
        if len(a) != len(b):
            raise ValueError(f"a has {len(a)} samples and b {len(b)}, expected as many: pair them")
        return a, b

    def shaped(self, x: Numbers, name: str = "x") -> Tensor:
        """x as a tensor; ValueError for another shape than (B, *shape)."""
        x, shape = numbers(x, name), self.module.shape
        if shape is not None and tuple(x.shape[1:]) != tuple(shape):
            expected = f"(B, {', '.join(map(str, shape))})"
            raise ValueError(f"{name} has shape {tuple(x.shape)}, expected {expected}: reshape it")
        return x

    def finite(self, x: Numbers, name: str) -> Tensor:
        """x on the model's device, in its dtype; ValueError for NaN and infinity."""
        x = numbers(x, name).to(self.module.device, self.module.dtype)
        if not x.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity, expected finite values: remove them")
        return x

    def as_data(self, x: Numbers, name: str = "x") -> Tensor:
        """x as the model takes it, on its device; ValueError for another shape, or values that the data cannot have."""
        x, support = self.finite(self.shaped(x, name), name), self.model.support
        if not support.contains(x).all():
            raise ValueError(
                f"{name} has values from {x.min():g} to {x.max():g}, expected {support}: encode it as the data"
            )
        return x
