"""Whether torch.compile writes code for the networks of a training on the CPU, as a few steps say."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lightning_gen.callbacks.trial import Turns
from lightning_gen.errors import first_line
from lightning_gen.families.execution import InTraining, compile_training
from lightning_gen.stages.estimate import duration, rehearsal, rehearse
from lightning_gen.stages.session import Session, begins

LEAST_STEPS, LEAST_SECONDS = 1000, 1200.0  # of a training for which compilation is tried
ROUNDING = 1e-3  # between the outputs of a network with and without compilation, of the largest; 4 units of bfloat16


def choose_compilation(session: Session) -> None:
    """Compile the networks where module.compile is null and a few steps say that it saves time.

    Tried in a new run of one process on the CPU which takes 20 minutes or more. The choice is kept in run.json, so that
    a resumed run takes the same: compiled sums are rounded otherwise.
    """
    folder, trainer, module = session.folder, session.trainer, session.module
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if not (session.fitting and on_cpu and module.compiled is None and module.model.networks()):
        return
    folder.compiled = folder.identity().get("compiled")
    long = trainer.max_steps < 0 or trainer.max_steps >= LEAST_STEPS
    if folder.compiled is None and begins(session) and long:
        folder.compiled = measured(session)
    if folder.compiled:
        compile_training(module.model)


def measured(session: Session) -> bool | None:
    """Whether compilation pays within the run, said with the seconds; None for a training too short to try it."""
    with tempfile.TemporaryDirectory() as scratch:
        tried = rehearsal(session.config, Path(scratch), session.data)
        parts = compile_training(tried.module.model, Compared)
        watch = Turns((False, True), lambda fast: turn(parts, fast), LEAST_SECONDS, seconds=10, pairs=5)
        try:
            rehearse(tried, watch)
        except Unequal as error:
            return told(False, str(error))
        except Exception as error:
            if not any(part.on for part in parts):
                raise
            return told(False, f"torch.compile fails on this training: {first_line(error)}")
    if not (seconds := watch.medians):
        return None
    saved, cost = seconds[False] - seconds[True], watch.first[True]
    steps = f"a step takes {seconds[True]:.3g} s compiled, {seconds[False]:.3g} s without"
    if saved > 0:
        steps += f", so that {duration(cost)} of compilation pay after {cost / saved:,.0f} of {watch.steps:,} steps"
    return told(saved * watch.steps > cost, steps)


class Unequal(Exception):
    """What a compiled network would change, in a sentence."""


class Compared(InTraining):
    """A forward that is compared, at the first compiled call, with the one that is not compiled."""

    on = False  # until the first compiled call, what the network has is its own
    equal = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The network's output; Unequal where a compiled one would differ by more than rounding."""
        if self.on and not self.equal:
            eager = [flat(self.eager(self.net, *args, **options)) for _ in range(2)]
            if difference(*eager):
                raise Unequal("the network draws random numbers itself (dropout), and compiled it would draw others")
            change = difference(flat(super().__call__(*args, **options)), eager[0])
            if not change <= max(ROUNDING, 4 * unit(eager[0])):
                raise Unequal(f"compiled, the network's output differs by {change:.2g} of its largest value")
            self.equal = True
        return super().__call__(*args, **options)


def turn(parts: list[Compared], fast: bool) -> None:
    """Take the next steps with compiled networks, or without."""
    if fast and not parts[0].on and not parts[0].equal:
        print("compilation  torch.compile is tried, which takes a minute or two ...", flush=True)
    for part in parts:
        part.on = fast


def told(pays: bool, reason: str) -> bool:
    """Say the choice."""
    print(f"compilation  {'yes' if pays else 'no'}: {reason} (module.compile=true or false decides)", flush=True)
    return pays


def flat(outputs: Any) -> list[Tensor]:
    """The tensors of a network's output."""
    return [value.detach() for value in tree_leaves(outputs) if isinstance(value, Tensor)]


def unit(outputs: list[Tensor]) -> float:
    """The distance of 1 to the next number, of the coarsest type of float that a network computes in."""
    types = {value.dtype for value in outputs if value.is_floating_point()}
    if torch.is_autocast_enabled("cpu"):
        types.add(torch.get_autocast_dtype("cpu"))
    return max((torch.finfo(each).eps for each in types), default=0)


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest value."""
    changes = (float((x - y).abs().max() / y.abs().max().clamp(min=1e-6)) for x, y in zip(a, b, strict=True))
    return max(changes, default=0)
