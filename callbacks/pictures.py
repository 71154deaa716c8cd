"""What the model draws: a grid of samples, the way from noise to data, and the samples themselves."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring
from lightning_gen.callbacks.publishing import log_image, log_samples, save_picture, step_of
from lightning_gen.options import Count, Natural
from lightning_gen.results.drawing import (
    beside,
    check_finite,
    cloud_strip,
    grid,
    save_gif,
    save_samples,
    scatter,
    spaced,
    strip,
    to_uint8,
)
from lightning_gen.results.result import Name


class Pictures(Measuring):
    """samples/grid-<step>.png, strip-<step>.png and, at the test stage, samples-<step>.npz; sent to the loggers too.

    Of the averaged model unless weights is raw or the module keeps no average.
    The same seed at every step: pictures of one run differ by the weights alone. Data of shape (2,) are drawn as
    `points` points beside the data. Rank 0 draws; it adds no collective.
    """

    key = "pictures"
    alone = True

    def __init__(
        self,
        n: Count = 64,
        strip: Natural = 8,
        columns: Count | None = None,
        times: Annotated[int, Ge(2)] = 11,
        gif: bool = False,
        scale: Count | None = None,
        points: Count = 2000,
        **options: Any,
    ) -> None:
        super().__init__(n=n, split=None, **options)
        self.strip, self.columns, self.times = strip, columns, times
        self.gif, self.scale, self.points = gif, scale, points

    def publishes(self, module: Any) -> set[Name]:
        return set()

    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        folder, step, plane = Path(trainer.default_root_dir), step_of(trainer), tuple(module.shape) == (2,)
        samples, frames = self.sampled(trainer, module, plane)
        data = _points(trainer, self.points) if plane else None
        if final:
            sampler = str(module.sampler.describe())
            options = {"columns": self.columns, "scale": self.scale, "data": data}
            path = save_samples(folder, f"{step:08d}", samples, self.seed, sampler, **options)[0]
            log_image(trainer, "samples/grid", path)
            log_samples(trainer, "samples/table", samples)
        else:
            save_picture(trainer, "grid", beside(samples, data) if plane else grid(samples, self.columns, self.scale))
        if not frames:
            return
        chosen = spaced(frames, self.times)
        way = cloud_strip(chosen, data) if plane else strip(np.stack([x for _, x in chosen], 1), self.scale)
        save_picture(trainer, "strip", way)
        if self.gif:
            last = frames[-1][1]
            stills = [scatter([("", f)], reference=last) if plane else grid(f, scale=self.scale) for _, f in frames]
            save_gif(folder / "samples" / f"trajectory-{step:08d}.gif", stills)

    def sampled(self, trainer: Trainer, module: Any, plane: bool) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
        """Samples, and frames of trajectories with their numbers, as they are drawn."""
        n, tracked = (self.points, min(self.points, 500)) if plane else (self.n, self.strip)
        work, step = module.work(n) + (module.work(1) if self.strip else 0), step_of(trainer)
        with self.bar(trainer, "pictures", work) as progress:
            with self.drawing(trainer, module, "samples", n, 64, progress=progress.update) as blocks:
                drawn = [block["x"] for _, block in blocks]
            frames = []
            if self.strip:
                with trainer.precision_plugin.forward_context():
                    way = module.trajectory(tracked, self.seed, weights=self.measured(module))
                    # numbered: of a long chain the chosen frames lie only about where the labels would have them
                    chosen = spaced(enumerate(_counted(way, progress.update)), 60 if self.gif else self.times)
                frames = [(number, _drawable(module, x, step)) for number, x in chosen]
        return _drawable(module, torch.cat(drawn), step), frames


def _counted(frames: Iterable[Tensor], progress: Callable[[], Any]) -> Iterator[Tensor]:
    for x in frames:
        yield x
        progress()


def _drawable(module: Any, x: Tensor, step: int) -> np.ndarray:
    check_finite(x, "samples", step)
    if tuple(module.shape) == (2,):
        return x.detach().float().cpu().numpy()
    return to_uint8(module.decode(x))


def _points(trainer: Trainer, n: int) -> np.ndarray | None:
    """Points of the data, (n, 2), to stand beside the samples."""
    if getattr(trainer, "datamodule", None) is None:
        return None
    return trainer.datamodule.split("train").points(slice(0, n)).float().cpu().numpy()
