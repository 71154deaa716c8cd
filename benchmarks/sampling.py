"""A sampler's step beyond the network, against diffusers' schedulers: python benchmarks/sampling.py

Both draw the same samples with a network of no work, F(x, t) = x: what is left is the sampler. A round is a whole
trajectory of each, one after the other, its plan or set_timesteps included, in CPU time on one thread; ratios are of
the medians over the rounds. Equal samples for equal random numbers are checked first. Operators are counted exactly, as
PyTorch's dispatcher sees them: those of a step, of them those whose result has as many elements as x, and those of
the plan, which a trajectory makes once.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler  # noqa: E402
from energies import keep_memory, timed  # noqa: E402

from lightning_gen.models import Denoiser  # noqa: E402
from lightning_gen.process import DiscreteVP, linear_betas  # noqa: E402
from lightning_gen.samplers import DDIM, Ancestral, DPMSolver, Sampler  # noqa: E402
from lightning_gen.stages.quiet import quieten  # noqa: E402

LEVELS = 1000
SHAPES = ((8, 1, 16, 16), (64, 3, 32, 32))
Draw = Callable[[Tensor, torch.Generator], Tensor]  # (x at t = 1, random numbers) -> samples


class Identity(nn.Module):
    """F(x, t) = x: the network of no work."""

    def forward(self, x: Tensor, t: Any) -> Tensor:
        """x itself."""
        return x


class Operators(TorchDispatchMode):
    """Counts operators, and those whose result has `size` elements."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.all, self.large = size, 0, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operator's result."""
        result = function(*args, **(kwargs or {}))
        self.all += 1
        self.large += torch.is_tensor(result) and result.numel() == self.size
        return result


def cases(steps: int) -> list[tuple[str, Sampler, Any, dict[str, Any]]]:
    """Name, our sampler, diffusers' scheduler, and the options of its step."""
    options = {"num_train_timesteps": LEVELS, "beta_schedule": "linear"}
    rows: list[tuple[str, Sampler, Any, dict[str, Any]]] = []
    for clip in (None, (-1.0, 1.0)):
        clipped = {"clip_sample": clip is not None}
        suffix = "" if clip is None else ", x_0 clipped"
        ddim = DDIMScheduler(timestep_spacing="trailing", **clipped, **options)
        ddpm = DDPMScheduler(variance_type="fixed_large", timestep_spacing="leading", **clipped, **options)
        rows.append((f"DDIM{suffix}", DDIM(steps, 0.0, clip), ddim, {"use_clipped_model_output": True}))
        rows.append((f"ancestral{suffix}", Ancestral("large", steps, clip, "leading"), ddpm, {}))
    solver = DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_type="midpoint", final_sigmas_type="zero", timestep_spacing="trailing",
        **options,
    )  # fmt: skip
    solver.set_timesteps(steps)
    rows.append(("DPM-Solver++ (2M)", DPMSolver([int(t) + 1 for t in solver.timesteps.flip(0)]), solver, {}))
    return rows


def loop(scheduler: Any, steps: int, options: dict[str, Any]) -> Draw:
    """diffusers' loop, as its pipelines write it."""
    net = Identity()

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t), t, x, generator=generator, **options).prev_sample
        return x

    return draw


def count(call: Callable[[], object], size: int) -> Operators:
    """The operators of a call, and those whose result has `size` elements."""
    with Operators(size) as operators:
        call()
    return operators


def counts(draw: Draw, plan: Callable[[], object], x: Tensor, steps: int) -> str:
    """Operators of a step, of them large ones, and those of the plan: three columns of the table."""
    whole, planned = count(lambda: draw(x, torch.Generator().manual_seed(0)), x.numel()), count(plan, x.numel())
    return f"{(whole.all - planned.all) / steps:.1f} | {whole.large / steps:.1f} | {planned.all:,}"


def row(name: str, ours: Draw, theirs: Draw, x: Tensor, steps: int, rounds: int) -> str:
    """Check that both draw the same samples from x, then time both: a line of the table."""
    samples = [draw(x, torch.Generator().manual_seed(0)) for draw in (ours, theirs)]
    error = float((samples[0] - samples[1]).abs().max() / samples[1].abs().max())
    if not error < 1e-3:
        raise ValueError(f"{name}: our samples and diffusers' differ by {error:.2g} of the largest: nothing to compare")
    generator = torch.Generator().manual_seed(0)
    pairs = [[timed(lambda: draw(x, generator), 1) / steps for draw in (ours, theirs)] for _ in range(rounds)]  # noqa: B023
    a, b = (1e6 * statistics.median(column) for column in zip(*pairs, strict=True))
    low, high = min(p / q for p, q in pairs), max(p / q for p, q in pairs)
    size = "x".join(map(str, x.shape))
    return f"| {name}, {size} | {a:.0f} | {b:.0f} | {a / b:.2f} | {low:.2f} to {high:.2f} |"


def main() -> None:
    """All rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=21, help="trajectories of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, help="steps of a trajectory (%(default)s)")
    options = parser.parse_args()
    keep_memory()
    quieten()
    torch.set_num_threads(1)
    model = Denoiser(Identity(), DiscreteVP(linear_betas(LEVELS))).eval()
    print("| | ours, us a step | diffusers, us | ratio | rounds |\n|---|---|---|---|---|")
    tables: list[str] = []
    steps = options.steps
    with torch.no_grad():
        for shape in SHAPES:
            x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
            for name, sampler, scheduler, extra in cases(steps):
                ours, theirs = partial(sampler, model), loop(scheduler, steps, extra)
                print(row(name, ours, theirs, x, steps, options.rounds), flush=True)
                if shape == SHAPES[0]:
                    mine = counts(ours, lambda: sampler.plan(model, shape), x, steps)  # noqa: B023
                    peer = counts(theirs, lambda: scheduler.set_timesteps(steps), x, steps)  # noqa: B023
                    tables.append(f"| {name} | {mine} | {peer} |")
    print("\n| operators | ours, a step | as large as x | plan | diffusers, a step | as large as x | plan |")
    print("|---|---|---|---|---|---|---|", *tables, sep="\n")


if __name__ == "__main__":
    main()
