"""Samples from outside: a folder of images, or an .npz."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.data.files import read_arrays
from lightning_gen.data.image_files import LOSSY, image_files, open_image

KEYS = ("images", "points", "arr_0")  # this package's images and points, guided-diffusion's images
ROUNDED = "round(255 clamp(x, 0, 1))"  # the quantisation of a model's own samples
AS_GIVEN, COMPRESSED = "8 bits, as given", "8 bits, as given, some compressed with loss"


def read_samples(path: Path, shape: tuple[int, ...], name: str) -> tuple[Tensor, str, str]:
    """Samples (n, *shape) in order, uint8 images or float points, their quantisation, and the sampler or "unknown".

    `name` is the data set's. Nothing is converted: ValueError for another shape, TypeError for another dtype.
    """
    if path.is_dir():
        return *_folder(path, shape, name), "unknown"
    return _archive(path, shape, name)


def _folder(path: Path, shape: tuple[int, ...], name: str) -> tuple[Tensor, str]:
    """uint8 (n, C, H, W) of every image below a folder, in the order of their names, and their quantisation."""
    files = image_files(path)
    if not files:
        raise ValueError(f"{path} holds no PNG, JPEG or WebP image: name a folder that does, or an .npz file itself")
    if len(shape) != 3:
        raise ValueError(f"{path} holds images, {name} has samples of shape {shape}: give an .npz with points")
    rows = np.empty((len(files), shape[1], shape[2], shape[0]), np.uint8)
    with bar(f"reading {path.name}", len(files), leave=False) as progress:
        for index, file in enumerate(files):
            rows[index] = _image(file, shape, name)
            progress.update()
    lossy = any(file.suffix.lower() in LOSSY for file in files)
    return _channels_first(rows), COMPRESSED if lossy else AS_GIVEN


def _image(path: Path, shape: tuple[int, ...], name: str) -> np.ndarray:
    """uint8 (H, W, C), as in the file; ValueError for another size or mode."""
    image = open_image(path)
    mode = {1: "L", 3: "RGB"}[shape[0]]
    if (image.mode, image.height, image.width) != (mode, shape[1], shape[2]):
        raise ValueError(
            f"{path} is {image.width}x{image.height} in mode {image.mode}, {name} has {shape[2]}x{shape[1]} in {mode}: "
            "give images of the data's size and channels"
        )
    return np.asarray(image).reshape(shape[1], shape[2], shape[0])


def _archive(path: Path, shape: tuple[int, ...], name: str) -> tuple[Tensor, str, str]:
    """Samples of an .npz, their quantisation, and the sampler that it names."""
    key, rows, sampler = _loaded(path)
    what = f"{path}: {key}"
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise TypeError(f"{what} is {rows.dtype}, expected numbers: write uint8 images")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).reshape(len(rows), -1).any(1).sum())
        raise ValueError(f"{what} has {bad} of {len(rows)} samples that are not finite: draw them again")
    if len(shape) == 1:
        return _points(what, rows, shape, name), "none", sampler
    stored = ROUNDED if key == "images" and sampler != "unknown" else AS_GIVEN
    return _images(what, rows, shape, name), stored, sampler


def _loaded(path: Path) -> tuple[str, np.ndarray, str]:
    """The key of the samples, the samples, and the sampler that the file names; ValueError for another archive."""
    arrays, names = read_arrays(path, (*KEYS, "sampler"), "write it anew with numpy.savez")
    key = next((key for key in KEYS if key in arrays), None)
    if key is None:
        raise ValueError(f"{path} holds {', '.join(names) or 'nothing'}: it needs one of {', '.join(KEYS)}")
    return key, arrays[key], str(arrays.get("sampler", "unknown"))


def _points(what: str, rows: np.ndarray, shape: tuple[int, ...], name: str) -> Tensor:
    """Float points (N, *shape); ValueError or TypeError for others."""
    if rows.shape[1:] != shape:
        needed = f"(N, {', '.join(map(str, shape))})"
        raise ValueError(f"{what} has shape {rows.shape}, {name} needs {needed}: give samples of the data's shape")
    if not np.issubdtype(rows.dtype, np.floating):
        raise TypeError(f"{what} is {rows.dtype}, points of {name} are floats: write float32")
    return torch.from_numpy(rows).float()


def _images(what: str, rows: np.ndarray, shape: tuple[int, ...], name: str) -> Tensor:
    """uint8 images (N, C, H, W) from (N, H, W, C) or, if grey, (N, H, W); ValueError or TypeError for others."""
    expected = (shape[1], shape[2], shape[0])
    grey = shape[0] == 1 and rows.shape[1:] == expected[:2]
    if rows.shape[1:] != expected and not grey:
        raise ValueError(
            f"{what} has shape {rows.shape}, {name} needs (N, {', '.join(map(str, expected))}): "
            "give samples of the data's shape, channels last"
        )
    if rows.dtype != np.uint8:
        span = f" from {rows.min():.4g} to {rows.max():.4g}" if rows.size else ""
        raise TypeError(f"{what} is {rows.dtype}{span}, expected uint8 from 0 to 255: scale, round and cast it")
    return _channels_first(rows.reshape(len(rows), *expected))


def _channels_first(rows: np.ndarray) -> Tensor:
    """(N, H, W, C) -> (N, C, H, W), contiguous: with one channel a view would count as channels_last, and a network's
    sums would have another order."""
    images = torch.from_numpy(rows).permute(0, 3, 1, 2)
    return torch.empty(images.shape, dtype=images.dtype).copy_(images)
