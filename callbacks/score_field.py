"""A learned score field in the plane beside the true one, and how far apart they are."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring, unlabelled
from lightning_gen.callbacks.publishing import save_picture, step_of
from lightning_gen.errors import NonFinite
from lightning_gen.models import Scored
from lightning_gen.process import instant
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import Field, plane, score_fields
from lightning_gen.results.result import Name, Result

FINE = 200  # points of the density each way


class ScoreField(Measuring):
    """samples/field-<step>.png, and score/relative_error = E||s - s*||^2 / E||s*||^2 over n points of the test split.

    s* is the exact score of the data set's density noised to time t of the model's process, at points noised alike; no
    square root is taken, and the error is that of a ratio of means (delta method). Of several times each has a row of
    the picture, and the figure score/relative_error/t=<t>. A conditional model is asked without a label. For data of
    shape (2,) whose density is known.
    """

    key = "callbacks.field"
    needs = (Scored,)

    def __init__(
        self,
        t: float | Sequence[float] = 0.0,
        n: Annotated[int, Ge(2)] = 2000,
        grid: Annotated[int, Ge(2)] = 25,
        **options: Any,
    ) -> None:
        super().__init__(n=n, split="test", **options)
        self.single = isinstance(t, int | float)
        times = [t] if self.single else list(t)
        if not times or len(set(times)) < len(times) or not all(0 <= t <= 1 for t in times):
            raise ValueError(f"callbacks.field.t is {t}: give a time in [0, 1], or a list of different ones")
        self.times, self.grid = [float(t) for t in times], grid

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data of unknown score, and times at which it or the model's does not exist, before any work."""
        super().setup(trainer, pl_module, stage)
        data, model = trainer.datamodule, pl_module.model
        if not hasattr(data, "score"):
            raise ValueError(
                f"callbacks.field compares with the data's true score, which {data.name} has "
                "not: write callbacks.field=null"
            )
        if len(data.split("test")) < 2:
            raise ValueError("callbacks.field needs at least 2 points of the test split: set data.test_size higher")
        for t in self.times:
            alpha, variance = law(model, t)
            data.score(torch.zeros(1, 2), variance, alpha)
            if variance == 0 and model.defined() != "score":
                raise ValueError(
                    f"callbacks.field.t is {t:g}, where sigma is 0 and this model, which predicts noise or clean data, "
                    "has no score: give a time above 0"
                )

    def name(self, module: Any, t: float) -> Name:
        side = None if self.single else f"t={t:g}"
        return Name("score/relative_error", None, self.measured(module), side)

    def publishes(self, module: Any) -> set[Name]:
        return {self.name(module, t) for t in self.times}

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        """The error at each time; every rank computes the same, rank 0 draws."""
        data, split = trainer.datamodule, trainer.datamodule.split("test")
        points = split.points(slice(0, self.n)).double()
        noise = torch.randn(points.shape, generator=generator(self.seed, "field"), dtype=torch.float64)
        results, fields = [], []
        with self.model(trainer, module) as model:
            for t in self.times:
                alpha, variance = law(model, t)
                x = alpha * points + variance**0.5 * noise
                true, score = data.score(x, variance, alpha), learned(module, model, x, t)
                if not torch.isfinite(score).all():
                    raise NonFinite(
                        f"the score at t = {t:g} is not finite at step {step_of(trainer)}: the model has diverged"
                    )
                value, error = ratio((score - true).square().sum(1), true.square().sum(1))
                protocol = {"n": len(x), "t": t, "alpha": alpha, "variance": variance, "split": "test"}
                protocol |= {"data": split.fingerprint(), "weights": self.measured(module), "seed": self.seed}
                results.append(Result(value, "estimate", error, "", protocol, name=self.name(module, t)))
                if trainer.is_global_zero:
                    half = float(x.abs().max()) * 1.05
                    fields.append(self.field(data, module, model, t, half, value))
        if trainer.is_global_zero:
            save_picture(trainer, "field", score_fields(fields, self.grid))
        return results

    def field(self, data: Any, module: Any, model: Any, t: float, half: float, error: float) -> Field:
        """Both fields at a time, over a square of that half side."""
        alpha, variance = law(model, t)
        fine, coarse = plane(half, FINE), plane(half, self.grid)
        density = data.log_density(fine, variance, alpha).exp().view(FINE, FINE).numpy()
        miss = (learned(module, model, fine, t) - data.score(fine, variance, alpha)).norm(dim=1)
        true, score = data.score(coarse, variance, alpha), learned(module, model, coarse, t)
        title = "" if self.single else f", t = {t:g}"
        return Field(title, half, density, miss.view(FINE, FINE).numpy(), coarse, true, score, error)


def law(model: Any, t: float) -> tuple[float, float]:
    """alpha_t and sigma_t^2 of the model's process."""
    time = torch.tensor(t, dtype=torch.float64)
    return float(model.process.alpha(time)), float(model.process.variance(time))


def learned(module: Any, model: Any, x: Tensor, t: float) -> Tensor:
    """The model's score, (n, 2), float64 on the CPU; a conditional one's without a label."""
    points = x.to(module.device, module.dtype)
    return unlabelled(module, model, len(x)).score(points, instant(t, points)).double().cpu()


def ratio(a: Tensor, b: Tensor) -> tuple[float, float]:
    """mean(a) / mean(b) of pairs, and its standard error by the delta method."""
    value = float(a.mean() / b.mean())
    return value, float((a - value * b).std() / b.mean() / len(a) ** 0.5)
