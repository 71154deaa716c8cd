"""Pictures as arrays: pure functions from uint8 images to one uint8 (H, W, C) picture, and to files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.results.pictures.figures import new_figure, pixels
from lightning_gen.results.store import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

GAP = 200  # light grey: neither the black nor the white ground of common data sets
WIDTH = 600  # a picture narrower than this is enlarged
VISIBLE = (-6.0, 8.0)  # log SNR: below it a picture is all noise to the eye, above it clean


def to_uint8(images: Tensor) -> np.ndarray:
    """Images in [0, 1], (N, C, H, W), rounded to uint8 (N, H, W, C); values outside are drawn as black or white."""
    check_finite(images, "images")
    levels = images.detach().float().mul(255).round_().clamp_(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def check_finite(x: Tensor, what: str, step: int = 0, rank: int = 0) -> None:
    """Raise NonFinite when x holds a NaN or an infinity: cast to uint8 it would look like an image."""
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum()) if x.numel() else 0
    if bad:
        raise NonFinite(f"{bad} of {len(x)} {what} are not finite at step {step}, rank {rank}: the model has diverged")


def grid(
    images: np.ndarray, columns: int | None = None, scale: int | None = None, gap: int | None = None
) -> np.ndarray:
    """uint8 (N, H, W, C) -> one uint8 (H', W', C): row by row, each pixel `scale` wide and high, `gap` pixels between.

    By default nearly square, and enlarged to at least 600 pixels, so that a person sees 8x8 digits.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise TypeError(f"grid takes uint8 (N, H, W, C) with N > 0, got {images.dtype} {images.shape}; see to_uint8")
    n, height, width, channels = images.shape
    columns = min(n, columns or _across(n))
    rows = -(-n // columns)
    scale = scale or max(1, -(-WIDTH // (columns * width)))
    gap = max(1, scale // 2) if gap is None else gap
    tile = images.repeat(scale, 1).repeat(scale, 2)
    h, w = height * scale + gap, width * scale + gap
    picture = np.full((rows * h + gap, columns * w + gap, channels), GAP, np.uint8)
    for i in range(n):
        top, left = gap + i // columns * h, gap + i % columns * w
        picture[top : top + h - gap, left : left + w - gap] = tile[i]
    return picture


def _across(n: int) -> int:
    """Columns for n tiles: nearly square, without an empty place where that can be."""
    side = int(np.ceil(np.sqrt(n)))
    return next((columns for columns in range(side, 2 * side) if n % columns == 0), side)


def strip(frames: np.ndarray, scale: int | None = None, gap: int | None = None) -> np.ndarray:
    """uint8 (rows, times, H, W, C) -> one uint8 (H', W', C): a row per sample, from noise on the left to data."""
    rows, times = frames.shape[:2]
    return grid(frames.reshape(rows * times, *frames.shape[2:]), times, scale, gap)


def side_by_side(left: np.ndarray, right: np.ndarray, gap: int | None = None) -> np.ndarray:
    """Two pictures of one height, uint8 (H, W, C), `gap` pixels between: by default more than between tiles."""
    width = max(8, left.shape[1] // 20) if gap is None else gap
    between = np.full((len(left), width, left.shape[2]), GAP, np.uint8)
    return np.concatenate([left, between, right], axis=1)


def even_frames(log_snr: Sequence[float], count: int) -> list[int]:
    """Of the frames of a trajectory the first, the last, and those between that are even in log SNR, `count` in all.

    Even over VISIBLE, or what the trajectory has of it. Frames of a Markov chain, whose noise is constant, are even in
    number.
    """
    levels, last = np.asarray(log_snr, dtype=float), len(log_snr) - 1
    if count > last:
        return [*range(last + 1)]
    within = np.clip(levels, *VISIBLE)
    low, high = np.min(within), np.max(within)
    if low == high:
        return np.linspace(0, last, count).round().astype(int).tolist()
    chosen = [0]
    for i, level in enumerate(np.linspace(low, high, count)[1:-1], start=1):
        # Each later than the one before, and early enough for those that are still to come.
        first, end = chosen[-1] + 1, last - (count - 1 - i)
        distance = np.abs(levels[first : end + 1] - level)
        chosen.append(end - int(np.argmin(distance[::-1])))  # of several steps at one level the last
    return [*chosen, last]


def scatter(
    panels: Sequence[tuple[str, np.ndarray]],
    columns: int | None = None,
    reference: np.ndarray | None = None,
    coloured: bool = False,
) -> np.ndarray:
    """Named point clouds (N, 2), a panel each -> uint8 (H, W, 3); all framed by `reference`, by default the last.

    `coloured` gives each point a colour, the same in every panel. Points that are not finite are left out.
    """
    columns = min(len(panels), columns or len(panels))
    rows = -(-len(panels) // columns)
    size = max(2.2, WIDTH / 100 / columns)
    figure = new_figure(size * columns, size * rows)
    reference = np.asarray(panels[-1][1] if reference is None else reference, dtype=float)  # float32 would overflow
    finite = np.isfinite(reference).all(1)
    reference = reference[finite] if finite.any() else np.zeros((1, 2))
    middle = (reference.max(0) + reference.min(0)) / 2
    half = 0.6 * max(float(np.ptp(reference, 0).max()), 1e-6 * max(1.0, float(np.abs(middle).max())))
    for index, (name, points) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        style = {"s": max(0.5, min(12.0, 6000 / len(points))), "linewidths": 0, "alpha": 0.6}
        if coloured:
            style |= {"s": 20, "alpha": 1, "c": np.arange(len(points)), "cmap": "turbo"}
        axes.scatter(points[:, 0], points[:, 1], **style)
        axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half), aspect="equal")
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return pixels(figure)


def beside(samples: np.ndarray, data: np.ndarray | None) -> np.ndarray:
    """Sampled points (N, 2), and those of the data where there are some -> uint8 (H, W, 3)."""
    return scatter([("samples", samples)] + ([] if data is None else [("data", data)]))


def cloud_strip(frames: Sequence[tuple[str, np.ndarray]], data: np.ndarray | None) -> np.ndarray:
    """Named point clouds (N, 2) of a trajectory, then the data where there are some -> uint8 (H, W, 3)."""
    last = frames[-1][1]
    panels = [("start", frames[0][1]), *frames[1:-1], ("samples", last)]
    panels += [] if data is None else [("data", data[: len(last)])]
    return scatter(panels, columns=min(6, len(panels)), reference=last)


def picture_png(picture: np.ndarray) -> bytes:
    """uint8 (H, W, C) as a PNG."""
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, picture: np.ndarray) -> Path:
    """uint8 (H, W, C) as a PNG, put in place as a whole."""
    return write_atomically(path, picture_png(picture))


def save_gif(path: Path, pictures: list[np.ndarray], seconds: float = 4.0) -> Path:
    """uint8 (H, W, C) pictures as an endless GIF that rests on the last one."""
    frames = [to_pil(picture) for picture in pictures]
    each = max(20, round(1000 * seconds / len(frames)))
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format="GIF", save_all=True, append_images=frames[1:], loop=0,
        duration=[each] * (len(frames) - 1) + [1500],
    )  # fmt: skip
    return write_atomically(path, buffer.getvalue())


def save_samples(
    folder: str | Path,
    name: str,
    samples: np.ndarray,
    seed: int,
    sampler: str,
    labels: np.ndarray | None = None,
    columns: int | None = None,
    scale: int | None = None,
    data: np.ndarray | None = None,
    keep: bool = False,
) -> list[Path]:
    """Write <folder>/samples/samples-<name>.npz and grid-<name>.png; uint8 images (N, H, W, C), or points (N, 2).

    With keep, other samples of that name stay, and these are <name>-2, -3, ...
    """
    folder = Path(folder) / "samples"
    flat = samples.ndim == 2
    arrays = {"points" if flat else "images": samples} | ({} if labels is None else {"labels": labels})
    arrays |= {"seed": np.int64(seed), "sampler": np.str_(sampler)}
    archive = save_arrays(folder / f"samples-{name}.npz", arrays, keep)
    picture = beside(samples, data) if flat else grid(samples, columns, scale)
    return [save_png(folder / f"grid-{archive.stem.removeprefix('samples-')}.png", picture), archive]


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], keep: bool) -> Path:
    """Write an .npz as a whole; its path. With keep, one of other content stays, and this is <name>-2.npz, -3, ..."""
    buffer, free, number = io.BytesIO(), path, 1
    np.savez_compressed(buffer, **arrays)
    while keep and free.is_file() and free.read_bytes() != buffer.getvalue():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return write_atomically(free, buffer.getvalue())


def to_pil(picture: np.ndarray) -> "Image":
    """uint8 (H, W, C), C 1 or 3, as a PIL image."""
    from PIL import Image

    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def draw_given(folder: Path, rows: Tensor, data: Any) -> Path:
    """samples/grid-given.png: the first of somebody else's images (N, C, H, W), or points (N, 2) beside the data's."""
    path = folder / "samples" / "grid-given.png"
    if rows.ndim == 4:
        return save_png(path, grid(rows[:64].permute(0, 2, 3, 1).numpy()))
    return save_png(path, beside(rows[:2000].numpy(), data.split("train").points(slice(0, 2000)).numpy()))
