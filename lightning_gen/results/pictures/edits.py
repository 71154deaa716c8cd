"""What an edit of data shows: a strip of images a row, or clouds of points side by side, and the values themselves."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lightning_gen.results.drawing import save_png, scatter, strip
from lightning_gen.results.store import write_atomically


def save_edit(
    folder: Path, name: str, titles: Sequence[str], frames: np.ndarray, how: str, more: Mapping[str, np.ndarray]
) -> list[Path]:
    """<folder>/edits/<name>.png and .npz of uint8 images (rows, columns, H, W, C) or points (rows, columns, 2).

    `titles` name the columns; points of one column are a panel, a colour each. `more` are arrays for the .npz.
    """
    folder = folder / "edits"
    flat = frames.ndim == 3
    if flat:
        panels = [(title, frames[:, k]) for k, title in enumerate(titles)]
        picture = scatter(panels, min(6, len(panels)), frames.reshape(-1, 2), coloured=True)
    else:
        picture = strip(frames)
    buffer = io.BytesIO()
    arrays = {"points" if flat else "images": frames, **more}
    np.savez_compressed(buffer, titles=np.array(titles), by=np.str_(how), **arrays)
    archive = write_atomically(folder / f"{name}.npz", buffer.getvalue())
    return [save_png(folder / f"{name}.png", picture), archive]
