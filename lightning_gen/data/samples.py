"""Samples from outside: a folder of images, or the one array of a file that has the data's shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.data.files import read_arrays, reading
from lightning_gen.data.image_files import LOSSY, image_files, open_image

ROUNDED = "round(255 clamp(x, 0, 1))"  # the quantisation of a model's own samples
AS_GIVEN, COMPRESSED = "8 bits, as given", "8 bits, as given, some compressed with loss"
HALF = 0.5 / 255  # of a grey level: what lies beyond black or white by less is rounded to it


class Samples(NamedTuple):
    """Samples as they are measured.

    Args:
        rows: uint8 images (N, C, H, W), or float points (N, D), in order.
        quantisation: of the images, as a protocol stores it.
        sampler: that the file names, or unknown.
        understood: one sentence that says how the file was read.
    """

    rows: Tensor
    quantisation: str
    sampler: str
    understood: str


def read_samples(path: Path, shape: tuple[int, ...], name: str) -> Samples:
    """The samples of a folder, .npz, .npy, .pt or .pth for data of this shape and name.

    Images are N×C×H×W, N×H×W×C or, if grey, N×H×W, uint8 or floats in [0, 1] or [-1, 1]; points are floats.
    ValueError or TypeError, in one sentence, for anything else and for what can be read in two ways.
    """
    if path.is_dir():
        return _folder(path, shape, name)
    arrays = _arrays(path)
    sampler = str(arrays.pop("sampler", "unknown"))
    key, rows, layout = _chosen(arrays, path, shape, name)
    what = f"{path}: {key or 'its array'}"
    if not np.issubdtype(rows.dtype, np.number) or np.iscomplexobj(rows):
        raise TypeError(f"{what} is {rows.dtype}, expected numbers: write uint8 images")
    if not np.isfinite(rows).all():
        bad = int((~np.isfinite(rows)).reshape(len(rows), -1).any(1).sum())
        raise ValueError(f"{what} has {bad} of {len(rows)} samples that are not finite: draw them again")
    span = f" from {rows.min():.4g} to {rows.max():.4g}" if rows.size else ""
    found = f"{what}, {rows.dtype} {rows.shape}{span}"
    if len(shape) == 1:
        if not np.issubdtype(rows.dtype, np.floating):
            raise TypeError(f"{what} is {rows.dtype}, points of {name} are floats: write float32")
        return Samples(torch.from_numpy(rows).float(), "none", sampler, f"{found}: points")
    images, value_range = _eight_bits(rows, found)
    own = key == "images" and sampler != "unknown"
    return Samples(
        _channels_first(images, layout),
        AS_GIVEN if value_range == "0 to 255" and not own else ROUNDED,
        sampler,
        f"{found}: images {layout} in {value_range}",
    )


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of a file by their names, "" of a file with one; Unreadable for a damaged file."""
    if path.suffix == ".npz":
        return read_arrays(path, None, "write it anew with numpy.savez")[0]
    if path.suffix == ".npy":
        # Pickled objects inside could run code.
        with reading(path, "write it anew with numpy.save", " as an .npy"):
            return {"": np.load(path, allow_pickle=False)}
    with reading(path, "write it anew with torch.save, a tensor alone", " as a tensor"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    named = content if isinstance(content, Mapping) else {"": content}
    tensors = {str(key): value.detach() for key, value in named.items() if isinstance(value, Tensor)}
    # NumPy has no bfloat16.
    return {key: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for key, value in tensors.items()}


def _chosen(arrays: dict[str, Any], path: Path, shape: tuple[int, ...], name: str) -> tuple[str, np.ndarray, str]:
    """Name, array and layout of the one array that has the data's shape; ValueError for none, several or two layouts.

    The layout is N×C×H×W, N×H×W×C or N×H×W, of points N×D.
    """
    layouts = {"N×D": shape}
    if len(shape) == 3:
        layouts = {"N×C×H×W": shape, "N×H×W×C": (*shape[1:], shape[0])}
        layouts |= {"N×H×W": shape[1:]} if shape[0] == 1 else {}
    fitting = {key: rows for key, rows in arrays.items() if rows.shape[1:] in layouts.values() and rows.ndim > 1}
    if len(fitting) > 1:
        raise ValueError(
            f"{path} holds {len(fitting)} arrays of the shape of {name}, {', '.join(fitting)}: write a file with the "
            "one that is to be measured"
        )
    if not fitting:
        found = ", ".join(f"{key} {rows.dtype} {rows.shape}".strip() for key, rows in arrays.items()) or "no array"
        needed = " or ".join(f"(N, {', '.join(map(str, one))})" for one in layouts.values())
        raise ValueError(f"{path} holds {found}, {name} needs numbers of shape {needed}: give samples of that shape")
    [(key, rows)] = fitting.items()
    known = [layout for layout, one in layouts.items() if rows.shape[1:] == one]
    if len(known) > 1 and rows[0].size > 1:
        raise ValueError(
            f"{path}: {rows.shape} is {' or '.join(known)} for {name}, whose sides and channels are equal: give a "
            "folder of PNG"
        )
    return key, rows, known[0]


def _eight_bits(rows: np.ndarray, found: str) -> tuple[np.ndarray, str]:
    """uint8 of the same shape, and the range that the values were understood to have.

    ValueError for a range that is none of them or could be two, TypeError for another dtype.
    """
    low, high = (float(rows.min()), float(rows.max())) if rows.size else (0.0, 1.0)
    if rows.dtype == np.uint8:
        if high == 1 and rows.size:
            raise ValueError(f"{found} is nearly black, or black and white: write 0 and 255, or floats from 0 to 1")
        return rows, "0 to 255"
    if not np.issubdtype(rows.dtype, np.floating):
        raise TypeError(f"{found}: expected uint8 from 0 to 255, or floats in [0, 1] or [-1, 1]: cast it")
    if low >= -HALF and high <= 1 + HALF:
        return _rounded(rows), "[0, 1]"
    if low < -1 - 2 * HALF or high > 1 + 2 * HALF:
        raise ValueError(f"{found}: expected uint8 from 0 to 255, or floats in [0, 1] or [-1, 1]: scale and clip it")
    if low > -0.5:
        raise ValueError(
            f"{found} may be in [0, 1], with values below it, or in [-1, 1], without dark ones: clip it, or write uint8"
        )
    return _rounded((rows.astype(np.float32) + 1) / 2), "[-1, 1]"


def _rounded(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as uint8, as a model's own samples are rounded."""
    return np.rint(255 * images.astype(np.float32)).clip(0, 255).astype(np.uint8)


def _folder(path: Path, shape: tuple[int, ...], name: str) -> Samples:
    """Every image below a folder, in the order of their names."""
    files = image_files(path)
    if not files:
        raise ValueError(f"{path} holds no PNG, JPEG or WebP image: name a folder that does, or a file with an array")
    if len(shape) != 3:
        raise ValueError(f"{path} holds images, {name} has samples of shape {shape}: give an .npz with points")
    rows = np.empty((len(files), shape[1], shape[2], shape[0]), np.uint8)
    with bar("reading samples", len(files), leave=False) as progress:
        for index, file in enumerate(files):
            rows[index] = _image(file, shape, name)
            progress.update()
    lossy = any(file.suffix.lower() in LOSSY for file in files)
    quantisation = COMPRESSED if lossy else AS_GIVEN
    return Samples(_channels_first(rows, "N×H×W×C"), quantisation, "unknown", f"{path}: {len(files)} image files")


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


def _channels_first(rows: np.ndarray, layout: str) -> Tensor:
    """(N, C, H, W), contiguous: with one channel a view would count as channels_last, and a network's sums would have
    another order."""
    images = torch.from_numpy(rows)
    if layout != "N×C×H×W":
        images = images.movedim(-1, 1) if layout == "N×H×W×C" else images.unsqueeze(1)
    return torch.empty(images.shape, dtype=images.dtype).copy_(images)
