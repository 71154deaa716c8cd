"""What the model draws: a grid of samples, the way from noise to data, and the samples themselves."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.progress import shows
from lightning_gen.callbacks.publish import log_image, step_of
from lightning_gen.results.drawing import (
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


class Pictures(AtEpochs):
    """samples/grid-<step>.png, strip-<step>.png and, at the test stage, samples-<step>.npz; sent to the loggers too.

    Of the averaged model unless weights is raw or the module keeps no average.
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

    def publishes(self, module: Any) -> set[str]:
        """No number."""
        return set()

    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        if not trainer.is_global_zero:
            return
        folder, step = Path(trainer.default_root_dir), step_of(trainer)
        flat = tuple(module.shape) == (2,)
        n, tracked = (self.points, min(self.points, 500)) if flat else (self.n, self.strip)
        weights = self.weights if module.ema is not None else "raw"
        work = module.work(n) + (module.work(1) if self.strip else 0)
        with (
            trainer.precision_plugin.forward_context(),
            torch.no_grad(),
            bar("pictures", work, "step", shown=shows(trainer), leave=False) as shown,
        ):
            drawn = [x for _, x in module.blocks(n, self.seed, weights=weights, progress=shown.update)]
            frames = []
            if self.strip:
                way = _counted(module.trajectory(tracked, self.seed, weights=weights), shown.update)
                # numbered: of a long chain the frames kept lie only about where the labels would have them
                kept = spaced(enumerate(way), 60 if self.gif else self.times)
                frames = [(place, _drawable(module, x, step)) for place, x in kept]
        samples = _drawable(module, torch.cat(drawn), step)
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
            picture = _cloud_strip(chosen, data) if flat else strip(np.stack([x for _, x in chosen], 1), self.scale)
            written["samples/strip"] = save_png(folder / "samples" / f"strip-{name}.png", picture)
        for label, path in written.items():
            log_image(trainer, label, path)
        if frames and self.gif:
            last = frames[-1][1]
            stills = [scatter([("", f)], reference=last) if flat else grid(f, scale=self.scale) for _, f in frames]
            save_gif(folder / "samples" / f"trajectory-{name}.gif", stills)


def _counted(frames: Iterable[Tensor], progress: Callable[[], Any]) -> Iterator[Tensor]:
    for x in frames:
        yield x
        progress()


def _drawable(module: Any, x: Tensor, step: int) -> np.ndarray:
    check_finite(x, "samples", step)
    if tuple(module.shape) == (2,):
        return x.detach().float().cpu().numpy()
    return to_uint8(module.decode(x))


def _cloud_strip(frames: list[tuple[int, np.ndarray]], data: np.ndarray | None) -> np.ndarray:
    length, last = frames[-1]
    panels = [(f"{place / max(length, 1):.0%}", x) for place, x in frames]
    panels[0], panels[-1] = ("start", panels[0][1]), ("samples", last)
    panels += [] if data is None else [("data", data[: len(last)])]
    return scatter(panels, columns=min(6, len(panels)), reference=last)


def _points(trainer: Trainer, n: int) -> np.ndarray | None:
    """Points of the data, (n, 2), to stand beside the samples."""
    if getattr(trainer, "datamodule", None) is None:
        return None
    return trainer.datamodule.split("train").points(slice(0, n)).float().cpu().numpy()
