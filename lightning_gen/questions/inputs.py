"""What a question takes: tensors, arrays or lists of real numbers, and answers to that very question."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_gen.models import Requires
from lightning_gen.options import choose, value_and_type


def numbers(value: Any, name: str) -> Tensor:
    """A tensor (B, ...) of `value`; TypeError for what holds no real numbers, ValueError for no samples."""
    try:
        x = torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} is {value_and_type(value)}, expected a tensor or an array of real numbers: convert it"
        ) from error
    if x.is_complex():
        raise TypeError(f"{name} is a tensor of {x.dtype}, expected real numbers: take its real part")
    if x.layout != torch.strided:
        raise TypeError(f"{name} is a tensor of the layout {x.layout}, expected a dense one: write to_dense()")
    if x.is_meta:
        raise ValueError(f"{name} is on the device meta, expected one where tensors have values: make it on cpu")
    if x.ndim == 0 or not len(x):
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected (B, ...), one sample or more: reshape it")
    return x


def check_answer(verb: str, by: Any, answers: Mapping[str, Sequence[Requires]]) -> None:
    """TypeError for what is no answer, or one to another question."""

    def known(verb: str) -> tuple[type, ...]:
        return tuple(type(each) for each in answers[verb])

    if by in known(verb):
        raise TypeError(f"by is the class {by.__name__}, expected an answer to {verb}: write {by.__name__}()")
    others = tuple(kind for other in answers for kind in known(other))
    answer = isinstance(by, Requires) and by.role in ("answer", "representation")
    if not answer or (isinstance(by, others) and not isinstance(by, known(verb))):
        names = " or ".join(kind.__name__ for kind in known(verb))
        raise TypeError(f"by is {value_and_type(by)}, expected an answer to {verb}: pass {names}, or leave it out")


def check_verb(verb: Any, verbs: Sequence[str]) -> None:
    """ValueError for the name of no question."""
    if verb not in verbs:
        raise ValueError(f"{value_and_type(verb)} is no question: {choose(str(verb), verbs)}")
