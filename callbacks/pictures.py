"""What the model draws: a grid of samples, the way from noise to data, and the samples themselves."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from callbacks.drawing import (
    beside,
    check_finite,
    grid,
    save_gif,
    save_png,
    save_samples,
    scatter,
    spaced,
    strip,
    to_uint8,
)
from callbacks.progress import counting, shows
from callbacks.record import log_image, step_of


class Pictures(Callback):
    """samples/grid-<step>.png, strip-<step>.png and, at the test stage, samples-<step>.npz; sent to the loggers too.

    The same seed at every step: pictures of one run differ by the weights alone. Data of shape (2,) are drawn as
    `points` points beside the data. Rank 0 draws; it adds no collective.
    """

    def __init__(
        self,
        n: int = 64,
        strip: int = 8,
        columns: int | None = None,
        times: int = 11,
        every_n_epochs: int = 0,
        gif: bool = False,
        weights: Literal["ema", "raw"] = "ema",
        seed: int = 0,
        scale: int | None = None,
        points: int = 2000,
    ) -> None:
        super().__init__()
        for name, value, least in (("n", n, 1), ("strip", strip, 0), ("times", times, 2), ("points", points, 1)):
            if value < least:
                raise ValueError(f"pictures.{name} must be at least {least}, got {value}")
        for name, size in (("columns", columns), ("scale", scale)):
            if size is not None and size < 1:
                raise ValueError(f"pictures.{name} must be at least 1, or null for a fitting one, got {size}")
        if every_n_epochs < 0:
            raise ValueError(f"pictures.every_n_epochs must be 0 (only at the end) or more, got {every_n_epochs}")
        if weights not in ("ema", "raw"):
            raise ValueError(f"pictures.weights must be ema or raw, got {weights!r}")
        self.n, self.strip, self.columns, self.times = n, strip, columns, times
        self.every_n_epochs, self.gif, self.weights, self.seed = every_n_epochs, gif, weights, seed
        self.scale, self.points = scale, points

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse weights that the module does not keep, before the training and not after it."""
        if self.weights == "ema" and getattr(pl_module, "ema", None) is None:
            raise ValueError("pictures.weights is ema, but module.ema_decay is null: write pictures.weights=raw")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw when every_n_epochs divides the number of epochs done."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking:
            self._draw(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, and keep the samples as numbers."""
        self._draw(trainer, pl_module, final=True)

    def _draw(self, trainer: Trainer, module: Any, final: bool) -> None:
        if not trainer.is_global_zero:
            return
        folder, step = Path(trainer.default_root_dir), step_of(trainer)
        flat = tuple(module.shape) == (2,)
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            samples = self._samples(trainer, module, self.points if flat else self.n)
            tracked = min(self.points, 500) if flat else self.strip
            frames = self._frames(trainer, module, tracked) if self.strip else []
        data = _points(trainer, self.points) if flat else None
        name = f"{step:08d}"
        if final:
            told = str(module.sampler.describe()) if hasattr(module.sampler, "describe") else repr(module.sampler)
            kept = save_samples(
                folder, name, samples, self.seed, told, columns=self.columns, scale=self.scale, data=data
            )
            written = {"samples/grid": kept[0]}
        else:
            picture = beside(samples, data) if flat else grid(samples, self.columns, self.scale)
            written = {"samples/grid": save_png(folder / "samples" / f"grid-{name}.png", picture)}
        if frames:
            chosen = spaced(frames, self.times)
            picture = _cloud_strip(chosen) if flat else strip(np.stack(chosen, 1), self.scale)
            written["samples/strip"] = save_png(folder / "samples" / f"strip-{name}.png", picture)
        for label, path in written.items():
            log_image(trainer, label, path)
        if frames and self.gif:
            last = frames[-1]
            stills = [scatter([("", f)], reference=last) if flat else grid(f, scale=self.scale) for f in frames]
            save_gif(folder / "samples" / f"trajectory-{name}.gif", stills)

    def _samples(self, trainer: Trainer, module: Any, n: int) -> np.ndarray:
        """uint8 (n, H, W, C), or float (n, 2)."""
        watched = counting("samples", "block", shown=shows(trainer))
        blocks = [x for _, x in module.blocks(n, self.seed, weights=self.weights, progress=watched)]
        return _drawable(module, torch.cat(blocks), step_of(trainer))

    def _frames(self, trainer: Trainer, module: Any, n: int) -> list[np.ndarray]:
        """The trajectory of n samples, thinned to what the strip and the GIF show."""
        frames = counting("denoising strip", "step", shown=shows(trainer))(
            module.trajectory(n, self.seed, weights=self.weights)
        )
        return [_drawable(module, x, step_of(trainer)) for x in spaced(frames, 60 if self.gif else self.times)]


def _drawable(module: Any, x: Tensor, step: int) -> np.ndarray:
    check_finite(x, "samples", step)
    if tuple(module.shape) == (2,):
        return x.detach().float().cpu().numpy()
    return to_uint8(module.decode(x))


def _cloud_strip(frames: list[np.ndarray]) -> np.ndarray:
    names = ["noise", *(f"{i / (len(frames) - 1):.0%}" for i in range(1, len(frames) - 1)), "samples"]
    return scatter(list(zip(names[-len(frames) :], frames, strict=True)), columns=min(6, len(frames)))


def _points(trainer: Trainer, n: int) -> np.ndarray | None:
    """Points of the data, (n, 2), to stand beside the samples."""
    if getattr(trainer, "datamodule", None) is None:
        return None
    return trainer.datamodule.split("train").points(slice(0, n)).float().cpu().numpy()
