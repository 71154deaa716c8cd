"""Somebody else's samples, a folder of images or an .npz, measured as a model's own would be."""

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.quality import Quality
from lightning_gen.data.image_files import LOSSY, OTHER, READ, open_image
from lightning_gen.results.drawing import beside, grid, save_png
from lightning_gen.runs.folder import no_samples

KEYS = ("images", "points", "arr_0")  # ours, ours in the plane, guided-diffusion's
ROUNDED = "round(255 clamp(x, 0, 1))"  # what Quality does to a model's own
AS_GIVEN, COMPRESSED = "8 bits, as given", "8 bits, as given, some compressed with loss"


class GivenSamples(LightningModule):
    """Stands where a trained module would: its samples are those of `path`, in their order, and it has no weights.

    `shape` is the data's: images are uint8 of that shape, points float. What is not is refused, nothing is converted.
    """

    ema, classes, trained_steps = None, None, 0

    def __init__(self, path: str, shape: Sequence[int], name: str = "the data") -> None:
        super().__init__()
        self.shape, self.path = tuple(shape), Path(path)
        if wrong := no_samples(self.path):
            raise FileNotFoundError(wrong)
        if self.path.is_dir():
            self.rows, self.quantisation = _folder(self.path, self.shape, name)
            self.sampler = "unknown"
        else:
            self.rows, self.quantisation, self.sampler = _archive(self.path, self.shape, name)
        if len(self.rows) < 2:
            raise ValueError(f"{path} holds {len(self.rows)} sample, a measurement needs at least 2: give more")
        self.model = torch.nn.Module()

    def about(self) -> dict[str, Any]:
        """What is known of where the samples come from."""
        digest = hashlib.sha256(f"{tuple(self.rows.shape)} {self.rows.dtype}".encode())
        for part in self.rows.split(1024):
            digest.update(part.contiguous().numpy().tobytes())
        return {
            "source": f"somebody else's: {self.path}",
            "images_fingerprint": digest.hexdigest()[:16],
            "given": len(self.rows),
            "sampler": self.sampler,
            "weights": "unknown",
            "guidance": "unknown",
            "quantisation": self.quantisation,
        }

    def work(self, n: int, sampler: Any = None, size: int = 64, rank: int = 0, world: int = 1) -> int:
        """Blocks of this rank."""
        return len(range(rank, -(-n // size), world))

    def blocks(
        self,
        n: int,
        seed: int = 0,
        sampler: Any = None,
        weights: Any = None,
        size: int = 64,
        rank: int = 0,
        world: int = 1,
        progress: Callable[[], Any] | None = None,
        counts: list[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """(start, samples as they were given) of this rank's blocks of the first n."""
        for index in range(rank, -(-n // size), world):
            yield index * size, self.rows[index * size : min(index * size + size, n)].to(self.device)
            if progress is not None:
                progress()
            if counts is not None:
                counts.append(0)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the callbacks measure."""

    def draw(self, folder: Path, data: Any) -> Path:
        """The first samples as samples/grid-given.png in the run folder."""
        path = folder / "samples" / "grid-given.png"
        if len(self.shape) == 3:
            return save_png(path, grid(self.rows[:64].permute(0, 2, 3, 1).numpy()))
        return save_png(path, beside(self.rows[:2000].numpy(), data.split("train").points(slice(0, 2000)).numpy()))


class GivenQuality(Quality):
    """Quality of the first n of somebody else's samples, as `fid/<features>/samples`; sampler and weights unknown."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse fewer samples than are asked for, before any work."""
        super().setup(trainer, pl_module, stage)
        if len(pl_module.rows) < self.n:
            raise ValueError(
                f"{pl_module.path} holds {len(pl_module.rows)} samples, quality.n is {self.n}: "
                f"write quality.n={len(pl_module.rows)}"
            )

    def measured(self, module: Any) -> str:
        """The label of every number."""
        return "samples"

    def protocol(self, data: Any, module: Any, sampler: Any = None) -> dict[str, Any]:
        """What fixes the numbers, and what is unknown of the samples, as how often a network was called."""
        about = {**module.about(), "evaluations": "unknown"}
        return {**self._against(data), **about, "seed": self.seed, "block": self.block}

    def _seen(self, module: Any, x: Tensor) -> Tensor:
        return x


def _folder(path: Path, shape: tuple[int, ...], name: str) -> tuple[Tensor, str]:
    """uint8 (n, C, H, W) of every image below a folder, in the order of their names, and how they were stored."""
    found = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    other = [file for file in found if file.suffix.lower() in OTHER]
    if other:
        raise ValueError(f"{other[0]} is not PNG, JPEG or WebP: convert it, or take it out")
    files = [file for file in found if file.suffix.lower() in READ]
    if not files:
        raise ValueError(f"{path} holds no PNG, JPEG or WebP image: name a folder that does, or an .npz file itself")
    if len(shape) != 3:
        raise ValueError(f"{path} holds images, {name} has samples of shape {shape}: give an .npz with points")
    rows = np.empty((len(files), shape[1], shape[2], shape[0]), np.uint8)
    with bar(f"reading {path.name}", len(files), leave=False) as shown:
        for place, file in enumerate(files):
            rows[place] = _image(file, shape, name)
            shown.update()
    lossy = any(file.suffix.lower() in LOSSY for file in files)
    return _channels_first(rows), COMPRESSED if lossy else AS_GIVEN


def _image(path: Path, shape: tuple[int, ...], name: str) -> np.ndarray:
    """uint8 (H, W, C), as the file holds it."""
    image = open_image(path)
    mode = {1: "L", 3: "RGB"}[shape[0]]
    if (image.mode, image.height, image.width) != (mode, shape[1], shape[2]):
        raise ValueError(
            f"{path} is {image.width}x{image.height} in mode {image.mode}, {name} has {shape[2]}x{shape[1]} in {mode}: "
            "give images of the data's size and channels"
        )
    return np.asarray(image).reshape(shape[1], shape[2], shape[0])


def _archive(path: Path, shape: tuple[int, ...], name: str) -> tuple[Tensor, str, str]:
    """Rows of an .npz, how they were stored, and what it says of the sampler."""
    try:
        # Pickled objects inside an archive could run code.
        with np.load(path, allow_pickle=False) as arrays:
            key = next((key for key in KEYS if key in arrays), None)
            if key is None:
                raise KeyError(
                    f"{path} holds {', '.join(arrays.files) or 'nothing'}: it needs one of {', '.join(KEYS)}"
                )
            rows = arrays[key]
            sampler = str(arrays["sampler"]) if "sampler" in arrays else "unknown"
    except KeyError as error:
        raise ValueError(str(error.args[0])) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as an .npz ({error}): write it anew with numpy.savez") from error
    what = f"{path}: {key}"
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise TypeError(f"{what} is {rows.dtype}, expected numbers: write uint8 images")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).reshape(len(rows), -1).any(1).sum())
        raise ValueError(f"{what} has {bad} of {len(rows)} samples that are not finite: draw them again")
    flat = len(shape) == 1
    expected = shape if flat else (shape[1], shape[2], shape[0])
    grey = not flat and shape[0] == 1 and rows.shape[1:] == expected[:2]
    if rows.shape[1:] != expected and not grey:
        raise ValueError(
            f"{what} has shape {rows.shape}, {name} needs (N, {', '.join(map(str, expected))}): "
            "give samples of the data's shape" + ("" if flat else ", channels last")
        )
    if flat and not np.issubdtype(rows.dtype, np.floating):
        raise TypeError(f"{what} is {rows.dtype}, points of {name} are floats: write float32")
    if not flat and rows.dtype != np.uint8:
        span = f" from {rows.min():.4g} to {rows.max():.4g}" if rows.size else ""
        raise TypeError(f"{what} is {rows.dtype}{span}, expected uint8 from 0 to 255: scale, round and cast it")
    if flat:
        return torch.from_numpy(rows).float(), "none", sampler
    images = _channels_first(rows.reshape(len(rows), *expected))
    return images, ROUNDED if key == "images" and sampler != "unknown" else AS_GIVEN, sampler


def _channels_first(rows: np.ndarray) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), laid out as samples are: of one channel a view would pass for channels-last, and a
    network's sums would have another order."""
    images = torch.from_numpy(rows).permute(0, 3, 1, 2)
    return torch.empty(images.shape, dtype=images.dtype).copy_(images)
