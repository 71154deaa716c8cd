"""A learned score field in the plane beside the true one, and how far apart they are."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.drawing import save_png
from callbacks.record import log_image, publish, step_of
from lightning_gen.models.score import instant
from lightning_gen.randomness import generator
from lightning_gen.result import NonFinite, Result


class ScoreField(Callback):
    """samples/field-<step>.png, and score/relative_error = E||s - s*||^2 / E||s*||^2 over n points of the noised test split.

    s* is the score of the data set's own density at time t of the model's process, in closed form; the error is that of
    a ratio of means (delta method). For data of shape (2,) whose density is known.
    """

    def __init__(
        self,
        t: float = 0.0,
        n: int = 2000,
        grid: int = 25,
        weights: Literal["ema", "raw"] = "ema",
        every_n_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= t <= 1 or n < 2 or grid < 2 or weights not in ("ema", "raw") or every_n_epochs < 0:
            raise ValueError(
                f"callbacks.field needs 0 <= t <= 1, n >= 2, grid >= 2, weights ema or raw, every_n_epochs >= 0, "
                f"got {t}, {n}, {grid}, {weights}, {every_n_epochs}"
            )
        self.t, self.n, self.grid, self.weights = t, n, grid, weights
        self.every_n_epochs, self.seed = every_n_epochs, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data whose score is not known before any work."""
        data = trainer.datamodule
        if not hasattr(data, "score"):
            raise ValueError(
                f"callbacks.field compares with the data's true score, which {data.name} has not: write callbacks.field=null"
            )
        alpha, variance = self.law(pl_module)
        data.score(torch.zeros(1, 2), variance, alpha)

    def law(self, module: Any) -> tuple[float, float]:
        """alpha_t and sigma_t^2 of the model's process."""
        t = torch.tensor(self.t, dtype=torch.float64)
        return float(module.model.process.alpha(t)), float(module.model.process.variance(t))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare when every_n_epochs divides the number of epochs done."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking:
            self.compare(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare at the end."""
        self.compare(trainer, pl_module, final=True)

    @torch.no_grad()
    def compare(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Publish the error and draw; every rank computes the same, rank 0 draws."""
        data, which = trainer.datamodule, self.weights if module.ema is not None else "raw"
        model, (alpha, variance) = module.weights(which), self.law(module)
        split = data.split("test")
        points = split.points(slice(0, self.n)).double()
        noise = torch.randn(points.shape, generator=generator(self.seed, "field"), dtype=torch.float64)
        x = alpha * points + variance**0.5 * noise
        training = model.training
        model.eval()

        def learned(x: Tensor) -> Tensor:
            place = x.float().to(module.device)
            return model.score(place, instant(self.t, place)).double().cpu()

        true, found = data.score(x, variance, alpha), learned(x)
        if not torch.isfinite(found).all():
            raise NonFinite(f"the score is not finite at step {step_of(trainer)}: the model has diverged")
        value, error = ratio((found - true).square().sum(1), true.square().sum(1))
        protocol = {
            "n": len(x),
            "t": self.t,
            "alpha": alpha,
            "variance": variance,
            "split": "test",
            "data": split.fingerprint(),
            "weights": which,
            "seed": self.seed,
        }
        publish(trainer, {f"score/relative_error/{which}": Result(value, "estimate", error, "", protocol)}, final)
        if trainer.is_global_zero:
            picture = self.picture(data, learned, x, alpha, variance, value)
            path = Path(trainer.default_root_dir) / "samples" / f"field-{step_of(trainer):08d}.png"
            log_image(trainer, "samples/field", save_png(path, picture))
        model.train(training)

    def picture(self, data: Any, learned: Any, x: Tensor, alpha: float, variance: float, value: float) -> np.ndarray:
        """True field, learned field, and the error's length, each over its density -> uint8 (H, W, 3)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        half = float(x.abs().max()) * 1.05
        shade = plane(half, 200)
        density = data.log_density(shade, variance, alpha).exp().view(200, 200).numpy()
        place = plane(half, self.grid)
        true, found = data.score(place, variance, alpha), learned(place)
        miss = (learned(shade) - data.score(shade, variance, alpha)).norm(dim=1).view(200, 200).numpy()
        figure = Figure(figsize=(13, 4.6), dpi=100, layout="constrained")
        canvas, longest = FigureCanvasAgg(figure), float(true.norm(dim=1).quantile(0.98))
        panels = figure.subplots(1, 3)
        box = {"extent": (-half, half, -half, half), "origin": "lower"}
        for axes, title, field in ((panels[0], "true score", true), (panels[1], "learned score", found)):
            axes.imshow(density, cmap="Blues", alpha=0.75, **box)
            # square roots of the lengths, so that the small ones can be seen
            arrows = field / field.norm(dim=1, keepdim=True).clamp(min=1e-9).sqrt() / longest**0.5
            axes.quiver(*place.T.numpy(), *arrows.T.numpy(), angles="xy", scale=self.grid * 0.75, width=0.0035, color="0.15")
            axes.set_title(title)
        shown = panels[2].imshow(miss, cmap="magma", vmin=0, vmax=float(np.quantile(miss, 0.98)), **box)
        panels[2].contour(density, levels=[0.2 * density.max()], colors="white", linewidths=0.6, **box)
        panels[2].set_title(f"length of the error; relative error {value:.3g}")
        figure.colorbar(shown, ax=panels[2], shrink=0.85)
        for axes in panels:
            axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
            axes.tick_params(labelsize=7)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def plane(half: float, n: int) -> Tensor:
    """An n x n grid of points in [-half, half]^2, row by row from below, float64, (n^2, 2)."""
    side = torch.linspace(-half, half, n, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def ratio(a: Tensor, b: Tensor) -> tuple[float, float]:
    """mean(a) / mean(b) of pairs, and its standard error by the delta method."""
    value = float(a.mean() / b.mean())
    return value, float((a - value * b).std() / b.mean() / len(a) ** 0.5)
