"""What an edit of data shows: a strip of images a row, or clouds of points side by side, and the values themselves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightning_gen.results.drawing import save_arrays, save_png, scatter, strip


def save_edit(
    folder: Path, name: str, titles: Sequence[str], frames: np.ndarray, how: str, more: Mapping[str, np.ndarray]
) -> list[Path]:
    """<folder>/edits/<name>.png and .npz of uint8 images (rows, columns, H, W, C) or points (rows, columns, 2).

    `titles` name the columns; points of one column are a panel, a colour each. `more` are arrays for the .npz.
    Another edit of that name stays, and this is <name>-2, -3, ...
    """
    folder = folder / "edits"
    flat = frames.ndim == 3
    if flat:
        panels = [(title, frames[:, k]) for k, title in enumerate(titles)]
        picture = scatter(panels, min(6, len(panels)), frames.reshape(-1, 2), coloured=True)
    else:
        picture = strip(frames)
    arrays = {"points" if flat else "images": frames, "titles": np.array(titles), "by": np.str_(how), **more}
    archive = save_arrays(folder / f"{name}.npz", arrays, keep=True)
    return [save_png(archive.with_suffix(".png"), picture), archive]
