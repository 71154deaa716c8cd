"""Modes of a mixture in the plane that samples find, and the share of samples near one."""

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_gen.callbacks.measuring import Measuring, stop_together
from lightning_gen.data.toys import Gaussians
from lightning_gen.metrics.gather import gather_blocks
from lightning_gen.options import Count, Positive
from lightning_gen.results.result import Name, Result


class Modes(Measuring):
    """modes/found, the modes with a sample within `deviations` of them, and modes/share, of the samples there.

    Both are of n samples; the share's error is that of a binomial share (k + 2) / (n + 4), as Agresti & Coull's.
    VEEGAN (Srivastava et al., 2017, section 4.1), https://arxiv.org/abs/1705.07761, there within 3 deviations

    Args:
        n: samples.
        deviations: radius of a mode, in its standard deviations; 4 hold 99.97 % of a Gaussian in the plane.
        block: samples per draw.
        options: those of Measuring.
    """

    key = "callbacks.modes"

    def __init__(self, n: Count = 2500, deviations: Positive = 4.0, block: Count = 500, **options: Any) -> None:
        super().__init__(n=n, split=None, **options)
        self.deviations, self.block = deviations, block

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse data without known modes, before any work."""
        data = trainer.datamodule
        if not isinstance(data, Gaussians):
            raise ValueError(
                f"callbacks.modes counts the modes of a Gaussian mixture, and {getattr(data, 'name', 'no data set')} "
                "is none: write callbacks.modes=null, or data=gaussians"
            )

    def publishes(self, module: Any) -> set[Name]:
        """The two names."""
        return {Name(f"modes/{what}", weights=self.measured(module)) for what in ("found", "share")}

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result] | None:
        """Distances of n samples to the modes."""
        data, rank, world = trainer.datamodule, trainer.global_rank, trainer.world_size
        with self.drawing(trainer, module, f"{self.n:,} samples for modes", self.n, self.block) as blocks:
            drawn = [block["x"] for _, block in blocks]
        empty = torch.empty(0, 2, device=module.device)
        x = gather_blocks(torch.cat([empty, *drawn]), self.n, self.block, rank, world)
        stop_together(trainer, None if torch.isfinite(x).all() else "samples for modes are not finite")
        centres = data.means(torch.arange(data.classes), None).to(x)
        distances = torch.cdist(x.double(), centres.double()) / data.noise
        near = distances <= self.deviations
        inside = int(near.any(1).sum())
        smoothed = (inside + 2) / (self.n + 4)
        values = {
            "found": (int(near.any(0).sum()), None),
            "share": (inside / self.n, (smoothed * (1 - smoothed) / (self.n + 4)) ** 0.5),
        }
        protocol = {"n": self.n, "deviations": self.deviations, "modes": data.classes, "data": data.name}
        protocol |= {"seed": self.seed, "sampler": module.sampler.describe(), "weights": self.measured(module)}
        return [
            Result(value, "estimate", error, "", protocol, name=Name(f"modes/{what}", weights=self.measured(module)))
            for what, (value, error) in values.items()
        ]
