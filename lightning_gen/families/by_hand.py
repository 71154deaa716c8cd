"""What a family is in the hands of a person with a trainer, a loader and a checkpoint of their own."""

from collections.abc import Mapping
from typing import Any, Self

from torch import Tensor

from lightning_gen.data import GenerativeData
from lightning_gen.errors import first_line
from lightning_gen.models import Scored, has
from lightning_gen.models.support import Support
from lightning_gen.options import ARGUMENTS

PLAIN = (str, bool, int, float, type(None))


class ByHand:
    """Mixin of GenerativeModule: batches of any loader, module(x, t), and Lightning's load_from_checkpoint."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """E[noise | x_t = x] by the averaged weights, like x; TypeError for a model without a process of noise.

        Args:
            x: noised data in model space, (B, ...).
            t: times in [0, 1], (B,) or (); k / T for step k of a discrete process.
            label: classes of a conditional model, (B,).
        """
        model = self.averaged
        if not has(model, Scored) or not model.process.prior_sigma > 0:
            raise TypeError(
                f"module(x, t) is given with the model {type(model).__name__}, expected one that predicts noise: ask "
                "lightning_gen.ask(module) for what this one can answer"
            )
        if not t.is_floating_point() or not ((t >= 0) & (t <= 1)).all():
            raise ValueError(f"t is {t.dtype} from {t.min()} to {t.max()}, expected times in [0, 1]: write k / T")
        return (model if label is None else model.with_label(label)).noise(x, t)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch of a data set of ours as it is; of any other loader x and, for a conditional model, the label."""
        if isinstance(batch, Mapping) and "index" in batch:
            return batch
        x, label = parts(batch)
        check_x(x, self.shape, self.value_range, self.model.support)
        batch = {"x": x.to(self.dtype)}
        return batch if self.classes is None else batch | {"label": checked_label(label, len(x), self.classes)}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **options: Any) -> Self:
        """A module with a checkpoint's weights, numbers and texts; what is an object has to be given again, by name.

        Only plain tensors and values are read (weights_only=True), from a local file.
        """
        if "://" in str(checkpoint_path):
            raise ValueError(f"checkpoint_path is {checkpoint_path}, expected a local file: download it first")
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **{"weights_only": True} | options)
        except TypeError as error:
            raise TypeError(
                f"{first_line(error)}: a checkpoint holds weights, numbers and texts, so write {cls.__name__}"
                ".load_from_checkpoint(path, net=..., optimizer=...), or lightning_gen.load(run)"
            ) from error


def plain_arguments(module: Any) -> dict[str, Any]:
    """The arguments that a checkpoint can hold: numbers and texts, without which weights mean something else."""
    return {name: value for name, value in vars(module)[ARGUMENTS].items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold a value: a number, a text, or a list of such."""
    return type(value) in PLAIN or (type(value) in (list, tuple) and all(map(is_plain, value)))


def parts(batch: Any) -> tuple[Tensor, Any]:
    """x and what comes with it, or None, of a tensor, (x,), (x, y) or {"x": x, "label": y}; TypeError for others."""
    if isinstance(batch, Mapping):
        found = [batch.get("x"), batch.get("label")]
    else:
        found = [batch] if isinstance(batch, Tensor) else [*batch] if isinstance(batch, list | tuple) else []
    if not found or not isinstance(found[0], Tensor):
        raise TypeError(
            f"a batch is a {type(batch).__name__}, expected a tensor x, a pair (x, y), or a mapping with x: let the "
            "loader's collate_fn make one"
        )
    return found[0], found[1] if len(found) > 1 else None


def data_of(trainer: Any) -> GenerativeData | None:
    """The trainer's data, where they have our splits; None for loaders, and others' data."""
    data = getattr(trainer, "datamodule", None)
    return data if isinstance(data, GenerativeData) else None


def check_x(x: Tensor, shape: Any, value_range: Any, support: Support) -> None:
    """ValueError for data that are not in model space."""
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"x of a batch has the shape {tuple(x.shape)}, expected (B, {', '.join(map(str, shape))})")
    if not x.is_floating_point():
        raise ValueError(f"x of a batch is {x.dtype}, expected floats in model space: scale images to [-1, 1] first")
    low, high = x.min(), x.max()
    if value_range is not None and (low < value_range[0] - 1e-3 or high > value_range[1] + 1e-3):
        raise ValueError(
            f"x of a batch is from {low:.4g} to {high:.4g}, expected module.value_range, {list(value_range)}: scale it"
        )
    if not support.contains(x).all():
        raise ValueError(f"x of a batch is from {low:.4g} to {high:.4g}, expected {support}: encode it so")


def checked_label(label: Any, n: int, classes: int) -> Tensor:
    """The classes of a batch; ValueError for none, or for others than 0 to classes - 1."""
    whole = isinstance(label, Tensor) and not label.is_floating_point() and label.shape == (n,)
    if not whole or not ((label >= 0) & (label < classes)).all():
        found = f"{label.dtype} of shape {tuple(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
        raise ValueError(
            f"module.classes is {classes}, and y of a batch is {found}, expected whole numbers from 0 to "
            f"{classes - 1}, ({n},): let the loader give pairs (x, y), or write classes=None"
        )
    return label.long()
