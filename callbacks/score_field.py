"""A learned score field in the plane beside the true one, and how far apart they are."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.publish import log_image, publish, step_of
from lightning_gen.errors import NonFinite
from lightning_gen.models import Scored
from lightning_gen.process import instant
from lightning_gen.randomness import generator
from lightning_gen.results.drawing import save_png
from lightning_gen.results.result import Result


class ScoreField(AtEpochs):
    """samples/field-<step>.png, and score/relative_error = E||s - s*||^2 / E||s*||^2 over n points of the test split.

    s* is the exact score of the data set's density noised to time t of the model's process, at points noised alike; no
    square root is taken, and the error is that of a ratio of means (delta method). Of several times each has a row of
    the picture, and the figure score/relative_error/t=<t>. A conditional model is asked without a label. For data of
    shape (2,) whose density is known.
    """

    def __init__(
        self,
        t: float | Sequence[float] = 0.0,
        n: int = 2000,
        grid: int = 25,
        weights: Literal["ema", "raw"] = "ema",
        every_n_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.alone = isinstance(t, int | float)
        times = [t] if self.alone else list(t)
        fit = times and len(set(times)) == len(times) and all(0 <= t <= 1 for t in times)
        if not fit or n < 2 or grid < 2 or weights not in ("ema", "raw") or every_n_epochs < 0:
            raise ValueError(
                f"callbacks.field needs t in [0, 1], or a list of different ones, n >= 2, grid >= 2, weights ema or "
                f"raw, every_n_epochs >= 0, got {t}, {n}, {grid}, {weights}, {every_n_epochs}"
            )
        self.times, self.n, self.grid, self.weights = [float(t) for t in times], n, grid, weights
        self.every_n_epochs, self.seed = every_n_epochs, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data of unknown score, and times at which it or the model's does not exist, before any work."""
        data, model = trainer.datamodule, pl_module.model
        if not hasattr(data, "score"):
            raise ValueError(
                f"callbacks.field compares with the data's true score, which {getattr(data, 'name', 'no data set')} "
                "has not: write callbacks.field=null"
            )
        if len(data.split("test")) < 2:
            raise ValueError("callbacks.field needs at least 2 points of the test split: set data.test_size higher")
        for t in self.times:
            alpha, variance = law(model, t)
            data.score(torch.zeros(1, 2), variance, alpha)
            if variance == 0 and type(model).score is Scored.score:
                raise ValueError(
                    f"callbacks.field.t is {t:g}, where sigma is 0 and this model, which predicts noise or clean data, "
                    "has no score: give a time above 0"
                )

    def publishes(self, module: Any) -> set[str]:
        """The error at each time."""
        which = self.weights if module.ema is not None else "raw"
        return {f"score/relative_error{'' if self.alone else f'/t={t:g}'}/{which}" for t in self.times}

    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Publish the error and draw; every rank computes the same, rank 0 draws."""
        data, which = trainer.datamodule, self.weights if module.ema is not None else "raw"
        model, split = module.weights(which), data.split("test")
        points = split.points(slice(0, self.n)).double()
        noise = torch.randn(points.shape, generator=generator(self.seed, "field"), dtype=torch.float64)
        training = model.training
        model.eval()
        results, rows = {}, []
        for t in self.times:
            alpha, variance = law(model, t)
            x = alpha * points + variance**0.5 * noise
            true, found = data.score(x, variance, alpha), learned(module, model, x, t)
            if not torch.isfinite(found).all():
                raise NonFinite(
                    f"the score at t = {t:g} is not finite at step {step_of(trainer)}: the model has diverged"
                )
            value, error = ratio((found - true).square().sum(1), true.square().sum(1))
            protocol = {
                "n": len(x),
                "t": t,
                "alpha": alpha,
                "variance": variance,
                "split": "test",
                "data": split.fingerprint(),
                "weights": which,
                "seed": self.seed,
            }
            name = "score/relative_error" if self.alone else f"score/relative_error/t={t:g}"
            results[f"{name}/{which}"] = Result(value, "estimate", error, "", protocol)
            rows.append((t, x, value))
        publish(trainer, results, final)
        if trainer.is_global_zero:
            picture = self.picture(data, lambda x, t: learned(module, model, x, t), model, rows)
            path = Path(trainer.default_root_dir) / "samples" / f"field-{step_of(trainer):08d}.png"
            log_image(trainer, "samples/field", save_png(path, picture))
        model.train(training)

    def picture(self, data: Any, score: Callable, model: Any, rows: list[tuple[float, Tensor, float]]) -> np.ndarray:
        """A row for each (t, points, relative error): both fields over the density, the error -> uint8 (H, W, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 4.5 * len(rows)), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        for panels, (t, x, value) in zip(figure.subplots(len(rows), 3, squeeze=False), rows, strict=True):
            alpha, variance = law(model, t)
            half = float(x.abs().max()) * 1.05
            shade, place = plane(half, 200), plane(half, self.grid)
            density = data.log_density(shade, variance, alpha).exp().view(200, 200).numpy()
            miss = (score(shade, t) - data.score(shade, variance, alpha)).norm(dim=1).view(200, 200).numpy()
            true, found = data.score(place, variance, alpha), score(place, t)
            longest, at = float(true.norm(dim=1).quantile(0.98)), "" if self.alone else f", t = {t:g}"
            box = {"extent": (-half, half, -half, half), "origin": "lower"}
            for axes, title, field in ((panels[0], "true score", true), (panels[1], "learned score", found)):
                axes.imshow(density**0.5, cmap="Blues", alpha=0.8, **box)
                # square roots of the lengths, so that the small ones can be seen
                arrows = field / field.norm(dim=1, keepdim=True).clamp(min=1e-9).sqrt() / longest**0.5
                style = {"angles": "xy", "scale": self.grid * 0.75, "width": 0.0035, "color": "0.15"}
                axes.quiver(*place.T.numpy(), *arrows.T.numpy(), **style)
                axes.set_title(title + at)
            largest = max(float(np.quantile(miss, 0.995)), 1e-9)
            shown = panels[2].imshow(miss, cmap="magma", norm="log", clim=(largest / 1000, largest), **box)
            panels[2].contour(density, levels=[0.2 * density.max()], colors="white", linewidths=0.6, **box)
            panels[2].set_title(f"length of the error{at}; relative error {value:.3g}")
            figure.colorbar(shown, ax=panels[2], shrink=0.85, extend="both")
            for axes in panels:
                axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
                axes.tick_params(labelsize=7)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def law(model: Any, t: float) -> tuple[float, float]:
    """alpha_t and sigma_t^2 of the model's process."""
    time = torch.tensor(t, dtype=torch.float64)
    return float(model.process.alpha(time)), float(model.process.variance(time))


def learned(module: Any, model: Any, x: Tensor, t: float) -> Tensor:
    """The model's score, (n, 2), float64 on the CPU; a conditional one's without a label."""
    place = x.float().to(module.device)
    if module.classes is not None:
        model = model.with_label(torch.full((len(place),), module.classes, device=place.device))
    return model.score(place, instant(t, place)).double().cpu()


def plane(half: float, n: int) -> Tensor:
    """An n x n grid of points in [-half, half]^2, row by row from below, float64, (n^2, 2)."""
    side = torch.linspace(-half, half, n, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def ratio(a: Tensor, b: Tensor) -> tuple[float, float]:
    """mean(a) / mean(b) of pairs, and its standard error by the delta method."""
    value = float(a.mean() / b.mean())
    return value, float((a - value * b).std() / b.mean() / len(a) ** 0.5)
