"""What an energy has learned, to look at: filters and reconstructions of hidden units, the landscape in the plane."""

from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring, unlabelled
from lightning_gen.callbacks.publishing import save_picture, step_of
from lightning_gen.models import REAL, Energy, HiddenUnits, has
from lightning_gen.options import Count
from lightning_gen.results.drawing import check_finite, strip, to_uint8
from lightning_gen.results.pictures.energies import filters, relief
from lightning_gen.results.result import Name

SIDE = 200  # points of the plane each way
COLUMNS = 16  # test images of a row, each above its reconstruction


class EnergyPictures(Measuring):
    """At the end, and every n epochs: pictures of the energy by its averaged weights, unless they are asked raw.

    Of hidden units that see images: samples/filters-<step>.png, the n columns of W of largest norm, each
    scaled such that its largest weight is black or white and 0 is grey; samples/reconstructions-<step>.png, n test
    images, each above E[v | h = p(h|v)], values outside [0, 1] cut. Of data of shape (2,):
    samples/landscape-<step>.png, the energy over the plane above its lowest, nats, with contours, and `points` data
    and samples. Rank 0 draws.
    A practical guide to training RBMs (Hinton, 2012), https://doi.org/10.1007/978-3-642-35289-8_32, section 15
    """

    key = "callbacks.energies"
    needs = (Energy,)
    alone = autocast = True

    def __init__(self, n: Count = 64, points: Count = 500, **options: Any) -> None:
        super().__init__(n=n, split=None, **options)
        self.points = points

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has neither filters nor a landscape, before any work."""
        super().setup(trainer, pl_module, stage)
        self.data(trainer)
        model, shape = pl_module.model, tuple(pl_module.shape)
        if not (flat(model, shape) or pictured(model, shape)):
            raise ValueError(
                "callbacks.energies draws filters of hidden units that see images, or an energy in the plane, and "
                f"{type(model).__name__} of shape {shape} has neither: write callbacks.energies=null"
            )

    def publishes(self, module: Any) -> set[Name]:
        return set()

    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        with self.model(trainer, module) as model:
            if flat(model, tuple(module.shape)):
                pictures = {"landscape": self.landscape(trainer, module, model)}
            else:
                pictures = {"filters": filters(model.W, tuple(module.shape), self.n, step_of(trainer))}
                pictures["reconstructions"] = self.reconstructions(trainer, module, model)
        for name, picture in pictures.items():
            save_picture(trainer, name, picture)

    def reconstructions(self, trainer: Trainer, module: Any, model: HiddenUnits) -> np.ndarray:
        """Rows of test images, a row of what the model makes of them under each -> uint8 (H, W, C)."""
        v = test(trainer, self.n).to(module.device, module.dtype)
        columns = min(COLUMNS, len(v))
        v = v[: len(v) - len(v) % columns]
        restored = model.visible(model.hidden(v))
        check_finite(restored, "reconstructions", step_of(trainer))
        pairs = [to_uint8(module.decode(x)) for x in (v, restored)]
        tiles = np.stack([images.reshape(-1, columns, *images.shape[1:]) for images in pairs], axis=1)
        return strip(tiles.reshape(-1, columns, *tiles.shape[3:]))

    def landscape(self, trainer: Trainer, module: Any, model: Energy) -> np.ndarray:
        """The energy over the plane around the data, data and samples -> uint8 (H, W, 3)."""
        step, clouds = step_of(trainer), {"data": test(trainer, self.points)}
        if module.sampler is not None:
            with self.drawing(trainer, module, "landscape", self.points) as blocks:
                clouds["samples"] = torch.cat([block["x"] for _, block in blocks])
            check_finite(clouds["samples"], "samples", step)
        half = 1.25 * float(clouds["data"].abs().max())
        energies = plane_energies(module, model, half)
        check_finite(energies, "rows of the landscape", step)
        return relief(energies, half, {name: x.float().cpu().numpy() for name, x in clouds.items()})


def flat(model: Energy, shape: tuple[int, ...]) -> bool:
    """Whether there is an energy over the plane."""
    return shape == (2,) and model.support == REAL


def pictured(model: Energy, shape: tuple[int, ...]) -> bool:
    """Whether hidden units see images."""
    return has(model, HiddenUnits) and len(shape) == 3 and shape[0] in (1, 3)


def test(trainer: Trainer, n: int) -> Tensor:
    """The first n of the test split in model space, (n, *shape), on the CPU."""
    data = trainer.datamodule
    return data.encode(data.split("test").take(slice(0, n)))


def plane_energies(module: Any, model: Energy, half: float) -> Tensor:
    """E over [-half, half]^2, nats, (SIDE, SIDE) float64 on the CPU, row by row from below."""
    y, x = torch.meshgrid(*[torch.linspace(-half, half, SIDE)] * 2, indexing="ij")
    energies = []
    for points in torch.stack([x.flatten(), y.flatten()], dim=1).to(module.device, module.dtype).split(4096):
        energies.append(unlabelled(module, model, len(points)).energy(points).double().cpu())
    return torch.cat(energies).view(SIDE, SIDE)
