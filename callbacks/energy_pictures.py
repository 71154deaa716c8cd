"""What an energy has learned, to look at: a machine's filters and reconstructions, and the landscape in the plane."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.progress import shows
from lightning_gen.callbacks.publish import log_image, step_of
from lightning_gen.models import Energy, HiddenUnits
from lightning_gen.results.drawing import check_finite, grid, save_png, strip, to_uint8

SIDE = 200  # points of the plane each way
COLUMNS = 16  # test images of a row, each above its reconstruction


class EnergyPictures(AtEpochs):
    """At the end, and every n epochs: pictures of the energy by its averaged weights, unless they are asked raw.

    Of machines with hidden units and images: samples/filters-<step>.png, the n columns of W of largest norm, each
    scaled such that its largest weight is black or white and 0 is grey; samples/reconstructions-<step>.png, n test
    images, each above E[v | h = p(h|v)], values outside [0, 1] cut. Of data of shape (2,):
    samples/landscape-<step>.png, the energy over the plane above its lowest, nats, with contours, and `points` data
    and samples. Rank 0 draws.
    A practical guide to training RBMs (Hinton, 2012), https://doi.org/10.1007/978-3-642-35289-8_32, section 15
    """

    def __init__(
        self,
        every_n_epochs: int = 0,
        n: int = 64,
        weights: Literal["ema", "raw"] = "ema",
        seed: int = 0,
        points: int = 500,
    ) -> None:
        super().__init__()
        if every_n_epochs < 0 or n < 1 or points < 1 or weights not in ("ema", "raw"):
            raise ValueError(
                f"callbacks.energies needs every_n_epochs >= 0, n >= 1, points >= 1, weights ema or raw, "
                f"got {every_n_epochs}, {n}, {points}, {weights}"
            )
        self.every_n_epochs, self.n, self.weights, self.seed, self.points = every_n_epochs, n, weights, seed, points

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has neither filters nor a landscape, before any work."""
        model, shape = pl_module.model, tuple(pl_module.shape)
        if not isinstance(model, Energy) or not (flat(model, shape) or pictured(model, shape)):
            raise ValueError(
                "callbacks.energies draws filters of hidden units that see images, or an energy in the plane, and "
                f"{type(model).__name__} of shape {shape} has neither: write callbacks.energies=null"
            )

    def publishes(self, module: Any) -> set[str]:
        """No number."""
        return set()

    @torch.inference_mode(False)
    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Write what there is to see, and send it to the loggers."""
        if not trainer.is_global_zero:
            return
        which = self.weights if module.ema is not None else "raw"
        model, shape, step = module.weights(which), tuple(module.shape), step_of(trainer)
        training = model.training
        model.eval()
        with trainer.precision_plugin.forward_context():
            if flat(model, shape):
                pictures = {"landscape": self.landscape(trainer, module, model, which)}
            else:
                pictures = {"filters": filters(model.W, shape, self.n, step)}
                pictures["reconstructions"] = self.reconstructions(trainer, module, model)
        model.train(training)
        for name, picture in pictures.items():
            path = Path(trainer.default_root_dir) / "samples" / f"{name}-{step:08d}.png"
            log_image(trainer, f"samples/{name}", save_png(path, picture))

    def reconstructions(self, trainer: Trainer, module: Any, model: HiddenUnits) -> np.ndarray:
        """Rows of test images, a row of what the machine makes of them under each -> uint8 (H, W, C)."""
        v = test(trainer, self.n).to(module.device)
        columns = min(COLUMNS, len(v))
        v = v[: len(v) - len(v) % columns]
        found = model.visible(model.hidden(v))
        check_finite(found, "reconstructions", step_of(trainer))
        pairs = [to_uint8(module.decode(x)) for x in (v, found)]
        tiles = np.stack([images.reshape(-1, columns, *images.shape[1:]) for images in pairs], axis=1)
        return strip(tiles.reshape(-1, columns, *tiles.shape[3:]))

    def landscape(self, trainer: Trainer, module: Any, model: Energy, which: str) -> np.ndarray:
        """The energy over the plane around the data, data and samples -> uint8 (H, W, 3)."""
        step, clouds = step_of(trainer), {"data": test(trainer, self.points)}
        if module.sampler is not None:
            with bar("landscape", module.work(self.points), "step", 0, shows(trainer), False) as shown:
                blocks = module.blocks(self.points, self.seed, weights=which, progress=shown.update)
                drawn = torch.cat([x for _, x in blocks])
            check_finite(drawn, "samples", step)
            clouds["samples"] = drawn
        half = 1.25 * float(clouds["data"].abs().max())
        energies = plane_energies(module, model, half)
        check_finite(energies, "rows of the landscape", step)
        return relief(energies, half, {name: x.float().cpu().numpy() for name, x in clouds.items()})


def flat(model: Energy, shape: tuple[int, ...]) -> bool:
    """Whether there is an energy over the plane."""
    return shape == (2,) and not getattr(model, "binary", False)


def pictured(model: Energy, shape: tuple[int, ...]) -> bool:
    """Whether hidden units see images."""
    return isinstance(model, HiddenUnits) and len(shape) == 3 and shape[0] in (1, 3)


def test(trainer: Trainer, n: int) -> Tensor:
    """The first n of the test split in model space, (n, *shape), on the CPU."""
    data = trainer.datamodule
    return data.encode(data.split("test").take(slice(0, n)))


def filters(W: Tensor, shape: tuple[int, ...], n: int, step: int = 0) -> np.ndarray:
    """The n columns of W (D, H) of largest norm, in falling order, as images about grey -> uint8 (H', W', C)."""
    check_finite(W.T, "filters", step)
    chosen = W.norm(dim=0).argsort(descending=True)[:n]
    columns = W.T[chosen].float()
    scaled = columns / columns.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return grid(to_uint8(0.5 + 0.5 * scaled.view(-1, *shape)))


def plane_energies(module: Any, model: Energy, half: float) -> Tensor:
    """E over [-half, half]^2, nats, (SIDE, SIDE) float64 on the CPU, row by row from below."""
    y, x = torch.meshgrid(*[torch.linspace(-half, half, SIDE)] * 2, indexing="ij")
    found = []
    for place in torch.stack([x.flatten(), y.flatten()], dim=1).to(module.device, module.dtype).split(4096):
        label = None if module.classes is None else torch.full((len(place),), module.classes, device=place.device)
        found.append((model if label is None else model.with_label(label)).energy(place).double().cpu())
    return torch.cat(found).view(SIDE, SIDE)


def relief(energies: Tensor, half: float, clouds: dict[str, np.ndarray]) -> np.ndarray:
    """Energies (SIDE, SIDE) above their lowest as shades and contours, clouds (n, 2) as dots -> uint8 (H, W, 3).

    The shades end at twice the height below which 9 of 10 data lie: walls of any height would leave the valleys flat.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = (energies - energies.min()).numpy()
    places = np.clip(((clouds["data"] / half + 1) / 2 * (SIDE - 1)).round().astype(int), 0, SIDE - 1)
    top = max(2 * float(np.quantile(height[places[:, 1], places[:, 0]], 0.9)), 1e-6)
    figure = Figure(figsize=(7.5, 6.5), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    box = {"extent": (-half, half, -half, half), "origin": "lower"}
    shown = axes.imshow(height, cmap="viridis_r", clim=(0, top), **box)
    if height.max() > 0:
        axes.contour(height, levels=np.linspace(0, top, 11)[1:], colors="0.3", linewidths=0.5, **box)
    for (name, points), colour in zip(clouds.items(), ("tab:orange", "tab:red"), strict=False):
        axes.scatter(*points.T, s=6, color=colour, linewidths=0, alpha=0.8, label=name)
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    axes.legend(fontsize=8, loc="upper right")
    figure.colorbar(shown, ax=axes, shrink=0.85, extend="max", label="energy above its lowest, nats")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
