"""Whether torch.compile writes code for the networks of a training on the CPU, as a few steps say."""

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Timer
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lightning_gen.callbacks.trial import Turns
from lightning_gen.check.roles import difference
from lightning_gen.errors import ConfigError, first_line
from lightning_gen.families.execution import InTraining, compile_training
from lightning_gen.stages.estimate import duration, rehearsal, rehearse
from lightning_gen.stages.session import Session, begins

LEAST_STEPS, LEAST_SECONDS = 1000, 1200.0  # of a training for which compilation is tried: 20 minutes
ROUNDING = 1e-3  # of the largest output: how far compiled code may be off in single precision; in a coarser one 4 units


def choose_compilation(session: Session) -> None:
    """Compile the networks where module.compile is null and a few steps say that it saves time.

    Tried in a new run of one process on the CPU which has LEAST_STEPS and takes LEAST_SECONDS, or more. The choice is
    kept in run.json, so that a resumed run takes the same: compiled sums are rounded otherwise. ConfigError where what
    is said, or what the run was begun with, does not work on this machine.
    """
    check_said(session)
    folder, trainer, module = session.folder, session.trainer, session.module
    device = trainer.strategy.root_device
    if not (session.fitting and device.type == "cpu" and module.compiled is None and module.model.networks()):
        return
    folder.compiled = folder.identity().get("compiled")
    long = trainer.max_steps < 0 or trainer.max_steps >= LEAST_STEPS
    if folder.compiled is None and begins(session) and long:
        folder.compiled = measured(session)
    elif folder.compiled:
        check_compiler(device)
    if folder.compiled:
        compile_training(module.model)


def check_said(session: Session) -> None:
    """ConfigError where module.compile is true, and torch.compile does not work on this machine."""
    if not session.theirs and session.module.compiled:
        check_compiler(session.trainer.strategy.root_device)


def check_compiler(device: torch.device) -> None:
    """ConfigError where torch.compile does not work on this machine, as without a C++ compiler."""
    torch.compiler.reset()  # of one class of networks it keeps 8 graphs, and a sweep has many in one process
    try:
        torch.compile(torch.sin)(torch.ones(1, device=device))
    except Exception as error:
        remedy = "this run uses it: write module.compile=false, or install what it lacks"
        raise ConfigError([f"torch.compile does not work here: {first_line(error)}; {remedy}"]) from error


def measured(session: Session) -> bool | None:
    """Whether compilation pays within the run, said with the seconds; None for a training too short to try it."""
    limit = session.config["trainer"].get("max_time")
    longest = math.inf if limit is None else Timer(limit).time_remaining()
    if longest < LEAST_SECONDS:
        return None
    torch.compiler.reset()
    with tempfile.TemporaryDirectory() as scratch:
        tried = rehearsal(session.config, Path(scratch), session.data)
        parts = compile_training(tried.module.model, Compared)
        watch = Turns((False, True), lambda fast: turn(parts, fast, watch), LEAST_SECONDS, seconds=10, pairs=5)
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
    if not any(part.equal for part in parts):
        return told(False, "the training calls none of the networks as a module, and nothing else is compiled")
    saved, cost = seconds[False] - seconds[True], watch.first[True]  # at most: it holds the comparison, too
    within = min(watch.steps, longest / seconds[False])
    steps = f"a step takes {seconds[True]:.3g} s compiled, {seconds[False]:.3g} s without"
    if saved > 0:
        steps += f", so that {duration(cost)} of compilation pay after {cost / saved:,.0f} of {watch.steps:,} steps"
    return told(saved * within > cost, steps)


class Unequal(Exception):
    """What a compiled network would change, in a sentence."""


class Compared(InTraining):
    """A forward that is compared, at the first compiled call, with the one that is not compiled."""

    on = False  # until the first compiled call, what the network has is its own
    equal = False

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The network's output; Unequal where a compiled one would differ by more than rounding."""
        if self.on and not self.equal:
            eager, again = (flat(self.eager(self.net, *args, **options)) for _ in range(2))
            if difference(again, eager):
                raise Unequal(
                    "two calls of the network differ (dropout, spectral norm), and compiled it would differ again"
                )
            change = difference(flat(super().__call__(*args, **options)), eager)
            if not change <= max(ROUNDING, 4 * unit(eager)):
                raise Unequal(f"compiled, the network's output differs by {change:.2g} of its largest value")
            self.equal = True
        return super().__call__(*args, **options)


def turn(parts: list[Compared], fast: bool, watch: Turns) -> None:
    """Take the next steps with compiled networks, or without."""
    if fast and True not in watch.first:
        print("compilation  torch.compile is tried, which takes a minute or two ...", flush=True)
    for part in parts:
        part.on = fast


def told(pays: bool, reason: str) -> bool:
    """Say the choice."""
    print(f"compilation  {'yes' if pays else 'no'}: {reason} (module.compile=true or false decides)", flush=True)
    return pays


def flat(outputs: Any) -> dict[str, Tensor]:
    """The tensors of a network's output, by their place in it."""
    leaves = enumerate(tree_leaves(outputs))
    return {str(place): value.detach() for place, value in leaves if isinstance(value, Tensor)}


def unit(outputs: dict[str, Tensor]) -> float:
    """The distance of 1 to the next number, of the coarsest type of float that a network computes in."""
    types = {value.dtype for value in outputs.values() if value.is_floating_point()}
    if torch.is_autocast_enabled("cpu"):
        types.add(torch.get_autocast_dtype("cpu"))
    return max((torch.finfo(each).eps for each in types), default=0)
