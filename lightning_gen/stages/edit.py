"""stage=edit: test data with missing values drawn, with paths between them, or beside modes: a picture, an archive."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning_gen.bar import bar
from lightning_gen.config.instantiate import refusing
from lightning_gen.runs.folder import list_files

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lightning_gen.questions import Questions
    from lightning_gen.stages.session import Session

    Columns = tuple[dict[str, Tensor], dict[str, Tensor]]  # columns by title, and numbers of each row

DRAWS = 4  # of the missing values
POINTS = 9  # of a path


def edit(session: "Session") -> None:
    """Draw what `edit` names of n samples of the test split, a row each."""
    import numpy as np

    from lightning_gen.questions import Questions
    from lightning_gen.results.pictures.edits import save_edit

    config, module = session.config, session.module.to(session.trainer.strategy.root_device)
    verb, n, seed, label = (config[key] for key in ("edit", "n", "seed", "label"))
    x = refusing(rows, session, n)
    ask = refusing(Questions, module, seed, label)
    answer = refusing(ask.answer, verb)
    refusing(ask.bound, n)
    count, columns = COLUMNS[verb]
    with bar(verb, count, "draw") as shown:
        frames, beside = refusing(columns, ask, x, shown.update)
    for key, value in beside.items():
        print(f"{key}: {', '.join(f'{number:.3g}' for number in value.tolist())}")
    pictures = np.stack([drawable(module, frame) for frame in frames.values()], 1)
    name = f"{verb}-seed{seed}-n{n}" + ("" if label is None else f"-label{label}")
    arrays = {key: value.cpu().numpy() for key, value in beside.items()}
    list_files(save_edit(session.folder.path, name, [*frames], pictures, type(answer).__name__, arrays))


def rows(session: "Session", n: int) -> "Tensor":
    """n samples of the test split in model space; ValueError where there are fewer, or they cannot be drawn."""
    data, shape = session.data, tuple(session.module.shape)
    if len(shape) != 3 and shape != (2,):
        raise ValueError(f"stage is edit for data of shape {shape}, expected images or points in the plane: use Python")
    data.prepare_data()
    data.setup("test")
    split = data.split("test")
    if len(split) < n:
        raise ValueError(f"n is {n}, expected at most {len(split)}, the samples of the test split: write fewer")
    return data.encode(split.take(slice(0, n)))


def inpainted(ask: "Questions", x: "Tensor", drawn: Callable) -> "Columns":
    """The data, the data without their lower half (of points, the second coordinate), and draws of what is missing."""
    import torch

    known, axis = torch.zeros(x.shape[1:], dtype=torch.bool), 1 if x.ndim == 4 else 0  # rows, or coordinates
    known.narrow(axis, 0, known.shape[axis] // 2).fill_(True)
    frames = {"data": x, "known": torch.where(known, x, x.mean() if x.ndim == 4 else 0)}
    for number in range(DRAWS):
        frames[f"draw {number + 1}"] = ask.with_seed(ask.seed + number).inpaint(x, known)
        drawn()
    return frames, {}


def interpolated(ask: "Questions", x: "Tensor", drawn: Callable) -> "Columns":
    """The data, the steps from each sample to the next, the last to the first, and the next."""
    other = x.roll(-1, 0)
    path = ask.interpolate(x, other, POINTS)
    drawn()
    steps = {f"{number / (POINTS - 1):.0%}": step for number, step in enumerate(path)}
    return {"data": x, **steps, "next": other}, {}


def drawable(module: object, x: "Tensor") -> "np.ndarray":
    """uint8 images (n, H, W, C), or points (n, 2); NonFinite where a value is not finite."""
    from lightning_gen.results.drawing import check_finite, to_uint8

    check_finite(x, "edits")
    return x.float().cpu().numpy() if x.ndim == 2 else to_uint8(module.decode(x))


def modes(ask: "Questions", x: "Tensor", drawn: Callable) -> "Columns":
    """The data, and where an ascent from each ends; beside them the slope there, near 0 at a mode."""
    found = ask.mode(x)
    drawn()
    return {"data": x, "mode": found.x}, {"slope": found.slope}


COLUMNS = {"inpaint": (DRAWS, inpainted), "interpolate": (1, interpolated), "mode": (1, modes)}
