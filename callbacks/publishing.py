"""The one way in which callbacks publish numbers and pictures."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

from lightning_gen.callbacks.evaluation import evaluation_of, write_metrics
from lightning_gen.data.image_files import FORMATS
from lightning_gen.results.drawing import save_png, to_pil
from lightning_gen.results.result import Result, error_of
from lightning_gen.results.store import METRICS
from lightning_gen.runs.metrics_file import read_metrics


def step_of(trainer: Trainer) -> int:
    """Optimizer steps behind the weights: the trainer's, or, when it only evaluates, the module's `trained_steps`."""
    return int(trainer.global_step or getattr(trainer.lightning_module, "trained_steps", 0))


def epoch_of(trainer: Trainer) -> int:
    """Epoch of the weights' last optimizer step, from 0."""
    return (
        trainer.current_epoch
        if trainer.training or trainer.validating
        else getattr(trainer.lightning_module, "trained_epoch", 0)
    )


def publish(trainer: Trainer, results: Iterable[Result], final: bool) -> None:
    """Log each value, and its error as <name>/error, to loggers and callback_metrics; when final, to metrics.json too,
    or to the Evaluation that will write it; then call `published` of the callbacks that have it."""
    step, results = step_of(trainer), {str(result.name): result for result in results}
    values = {name: float(result.value) for name, result in results.items()}
    errors = {error_of(name): float(r.error) for name, r in results.items() if r.error is not None}
    for name, value in values.items():
        trainer.callback_metrics[name] = torch.tensor(value)
    for logger in trainer.loggers:
        logger.log_metrics({"epoch": epoch_of(trainer), **values, **errors}, step)
    if final and trainer.is_global_zero:
        fresh = {name: result.as_dict() | {"step": step} for name, result in results.items()}
        if (evaluation := evaluation_of(trainer)) is not None:
            evaluation.numbers |= fresh
        else:
            path = Path(trainer.default_root_dir) / METRICS
            write_metrics(path, (read_metrics(path) if path.exists() else {}) | fresh)
    for callback in trainer.callbacks:
        if (hear := getattr(callback, "published", None)) is not None:
            hear(trainer, [*results.values()])


def log_image(trainer: Trainer, name: str, picture: str | Path | np.ndarray) -> None:
    """Send a picture, a file or uint8 (H, W, C), to every logger that takes pictures, at the step of the weights."""
    if isinstance(picture, np.ndarray) and (picture.dtype != np.uint8 or picture.ndim != 3):
        # W&B casts floats to uint8 without scaling: the picture would be black
        raise TypeError(
            f"log_image takes a file or uint8 (H, W, C), got {picture.dtype} {picture.shape}; scale to 0..255 and round"
        )
    if not trainer.is_global_zero:
        return
    takers = [x for x in trainer.loggers if hasattr(x, "log_image") or isinstance(x, TensorBoardLogger)]
    if not takers:
        return
    from PIL import Image

    image = Image.open(picture, formats=FORMATS) if isinstance(picture, str | Path) else to_pil(picture)
    for logger in takers:
        if isinstance(logger, TensorBoardLogger):
            pixels = np.asarray(image.convert("RGB"))
            logger.experiment.add_image(name, pixels, step_of(trainer), dataformats="HWC")
        else:
            logger.log_image(name, [image], step=step_of(trainer))


def log_samples(trainer: Trainer, name: str, samples: np.ndarray) -> None:
    """Send uint8 images (N, H, W, C) or points (N, 2), each for itself, to every logger that takes them."""
    for logger in trainer.loggers:
        if (take := getattr(logger, "log_samples", None)) is not None:
            take(name, samples, step=step_of(trainer))


def save_picture(trainer: Trainer, name: str, picture: np.ndarray) -> Path:
    """Write uint8 (H, W, C) to samples/<name>-<step>.png in the run folder, and send it to the loggers."""
    path = Path(trainer.default_root_dir) / "samples" / f"{name}-{step_of(trainer):08d}.png"
    log_image(trainer, f"samples/{name}", save_png(path, picture))
    return path
