"""What the model draws: a grid of samples, the way from noise to data, and the samples themselves."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring
from lightning_gen.callbacks.publishing import log_image, log_samples, save_picture, step_of
from lightning_gen.families.by_hand import data_of
from lightning_gen.options import Count, Natural
from lightning_gen.results.drawing import (
    beside,
    check_finite,
    cloud_strip,
    even_frames,
    grid,
    save_gif,
    save_samples,
    scatter,
    strip,
    to_uint8,
)
from lightning_gen.results.result import Name

FILM = 60  # frames of a film


class Pictures(Measuring):
    """samples/grid-<step>.png, strip-<step>.png and, at the test stage, samples-<step>.npz; sent to the loggers too.

    Of the averaged model unless weights is raw or the module keeps no average.
    The same seed at every step: pictures of one run differ by the weights alone. Data of shape (2,) are drawn as
    `points` points beside the data. Rank 0 draws; it adds no collective.

    Args:
        n: images of the grid
        strip: rows of the strip, 0 for none
        columns: of the grid, null for nearly square
        times: frames of the strip, from noise to samples and even in log SNR
        gif: whether to write trajectory-<step>.gif too
        scale: pixels of the picture for one of an image, null for enough to be seen
        points: number of points drawn, of data in the plane
        options: those of Measuring
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
        samples, levels, frames = self.sampled(trainer, module, plane)
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
        chosen = even_frames(levels, self.times)
        if plane:
            way = cloud_strip([(_title(i, levels), frames[i]) for i in chosen], data)
        else:
            way = strip(np.stack([frames[i] for i in chosen], 1), self.scale)
        save_picture(trainer, "strip", way)
        if self.gif:
            film = [frames[i] for i in even_frames(levels, FILM)]
            stills = [scatter([("", f)], reference=film[-1]) if plane else grid(f, scale=self.scale) for f in film]
            save_gif(folder / "samples" / f"trajectory-{step:08d}.gif", stills)

    def sampled(
        self, trainer: Trainer, module: Any, plane: bool
    ) -> tuple[np.ndarray, list[float], dict[int, np.ndarray]]:
        """Samples, the log SNR along a trajectory, and by their numbers the frames of it that are drawn."""
        n, tracked = (self.points, min(self.points, 500)) if plane else (self.n, self.strip)
        work, step = module.work(n) + (module.work(1) if self.strip else 0), step_of(trainer)
        with self.bar(trainer, "pictures", work) as progress:
            with self.drawing(trainer, module, "samples", n, progress=progress.update) as blocks:
                drawn = [block["x"] for _, block in blocks]
            levels, frames = [], {}
            if self.strip:
                levels = module.log_snr(tracked)
                kept = {*even_frames(levels, self.times), *(even_frames(levels, FILM) if self.gif else ())}
                with trainer.precision_plugin.forward_context():
                    for i, x in enumerate(module.trajectory(tracked, self.seed, weights=self.measured(module))):
                        if i in kept:
                            frames[i] = _drawable(module, x, step)
                        progress.update(bool(i))
        return _drawable(module, torch.cat(drawn), step), levels, frames


def _title(i: int, log_snr: list[float]) -> str:
    """What a frame is called: by its log SNR, or, where that is constant, by how much of the trajectory is done."""
    return f"log SNR {log_snr[i]:.1f}" if len({*log_snr}) > 1 else f"{i / max(len(log_snr) - 1, 1):.0%}"


def _drawable(module: Any, x: Tensor, step: int) -> np.ndarray:
    check_finite(x, "samples", step)
    if tuple(module.shape) == (2,):
        return x.detach().float().cpu().numpy()
    return to_uint8(module.decode(x))


def _points(trainer: Trainer, n: int) -> np.ndarray | None:
    """Points of the data, (n, 2), to stand beside the samples."""
    data = data_of(trainer)
    return None if data is None else data.split("train").points(slice(0, n)).float().cpu().numpy()
