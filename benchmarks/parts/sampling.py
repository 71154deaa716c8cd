"""Sampling: a sampler's step beyond the network, F(x, t) = x, in whole trajectories, plan included; and end to end."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from benchmarks.counting import operators
from benchmarks.table import Row, at_most, counted
from benchmarks.timing import ROOT, Run, cpu, row, same
from lightning_gen.config.instantiate import build
from lightning_gen.families import DDPM
from lightning_gen.models import Denoiser
from lightning_gen.process import DiscreteVP, linear_betas
from lightning_gen.samplers import DDIM, Ancestral, DPMSolver, Sampler

LEVELS = 1000
Draw = Callable[[Tensor, torch.Generator], Tensor]  # (x at t = 1, random numbers) -> samples


class Identity(nn.Module):
    """F(x, t) = x: the network of no work."""

    def forward(self, x: Tensor, t: Any) -> Tensor:
        """x itself."""
        return x


def cases(steps: int) -> list[tuple[str, Sampler, Any, dict[str, Any]]]:
    """Name, our sampler, diffusers' scheduler, and the options of its step."""
    from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler

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


def diffusers_loop(scheduler: Any, steps: int, options: dict[str, Any], net: nn.Module) -> Draw:
    """diffusers' loop, as its pipelines write it."""

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t.expand(len(x))), t, x, generator=generator, **options).prev_sample
        return x

    return draw


def azula_ddim(steps: int) -> Draw:
    """azula's DDIM of the same process."""
    from azula.denoise import Denoiser as Theirs
    from azula.denoise import DiracPosterior
    from azula.noise import Schedule
    from azula.sample import DDIMSampler

    kept = torch.cat([torch.ones(1), torch.cumprod(1 - torch.as_tensor(linear_betas(LEVELS)).double(), 0)])
    alpha, sigma = kept.sqrt().float(), (1 - kept).sqrt().float()

    class Discrete(Schedule):
        """DDPM's levels."""

        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            """alpha and sigma at t."""
            level = (t * LEVELS).round().long()
            return alpha[level], sigma[level]

    class Noise(Theirs):
        """E[x_0 given x_t] from a network that predicts the noise."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule, self.net = Discrete(), Identity()

        def forward(self, x_t: Tensor, t: Tensor) -> DiracPosterior:
            """As a point."""
            a, s = self.schedule(t)
            return DiracPosterior((x_t - s * self.net(x_t, t)) / a)

    sampler = DDIMSampler(Noise(), steps=steps, silent=True)
    return lambda x, _: sampler(x)


@torch.no_grad()
def without_network(run: Run, shape: tuple[int, ...]) -> Iterator[Row]:
    """Rows of every sampler at one shape."""
    model = Denoiser(Identity(), DiscreteVP(linear_betas(LEVELS))).eval()
    steps, x = run.pick(50, 4), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for name, sampler, scheduler, extra in cases(steps):
        ours: Draw = partial(sampler, model)
        peers = {"diffusers": diffusers_loop(scheduler, steps, extra, Identity())}
        if name == "DDIM":
            peers["azula"] = azula_ddim(steps)
        mine = ours(x, torch.Generator().manual_seed(0))
        for peer in peers.values():
            same(name, mine, peer(x, torch.Generator().manual_seed(0)), 1e-3)
        generator, noise = torch.Generator().manual_seed(0), "ancestral" in name

        def alone(noise: bool = noise, x: Tensor = x) -> None:
            for _ in range(steps):
                x = torch.add(x, torch.randn(x.shape) if noise else x, alpha=0.5)

        yield run.row(
            f"{name}, a step of {'x'.join(map(str, shape))}",
            partial(ours, x, generator),
            {key: partial(peer, x, generator) for key, peer in peers.items()},
            (f"one sum{' and its noise' * noise}", alone),
            at_most(0.7),
            "us",
            steps,
        )


def small(run: Run) -> Iterator[Row]:
    """A sampler's step without the network, against diffusers' schedulers, at 8x1x16x16."""
    yield from without_network(run, (8, 1, 16, 16))


def large(run: Run) -> Iterator[Row]:
    """The same at 64x3x32x32."""
    yield from without_network(run, (run.pick(64, 2), 3, 32, 32))


@torch.no_grad()
def counts(run: Run) -> Iterator[Row]:
    """Operators and host syncs of a step without the network, a trajectory's mean, its plan left out."""
    model, generator = Denoiser(Identity(), DiscreteVP(linear_betas(LEVELS))).eval(), torch.Generator().manual_seed(0)
    steps, x = run.pick(50, 4), torch.randn(8, 1, 16, 16)
    for name, sampler, scheduler, extra in cases(steps):
        theirs = diffusers_loop(scheduler, steps, extra, Identity())
        mine, once = (operators(call) for call in (
            lambda: sampler(model, x, generator),  # noqa: B023
            lambda: (sampler.check(model), sampler.plan(model, tuple(x.shape))),  # noqa: B023
        ))  # fmt: skip
        peer, planned = operators(lambda: theirs(x, generator)), operators(lambda: scheduler.set_timesteps(steps))  # noqa: B023
        step, others = (mine.total - once.total) / steps, (peer.total - planned.total) / steps
        most = at_most(12 if "Solver" in name else 8, "ours")
        yield counted(f"{name}, operators of a step", step, peers={"diffusers": others}, goal=most, reason=mine.most())
        waits = {"diffusers": (peer.syncs - planned.syncs) / steps}
        yield counted(
            f"{name}, host syncs of a step", (mine.syncs - once.syncs) / steps, peers=waits, goal=at_most(0, "ours")
        )


def digits_module(sampler: Sampler) -> DDPM:
    """DDPM with the digits' network."""
    net = build({**yaml.safe_load((ROOT / "experiments/net/unet_digits.yaml").read_text()), "shape": [1, 8, 8]})
    optimizer = partial(torch.optim.Adam, lr=1e-4)  # never used
    return DDPM(net, optimizer, shape=(1, 8, 8), value_range=(-1.0, 1.0), sampler=sampler)


def forward_seconds(module: DDPM, call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of a call, and of them those inside the averaged network's forward."""
    net, inside = module.averaged.net, [0.0]
    forward = net.forward

    def timed(*arguments: Any, **options: Any) -> Any:
        out: list[Any] = []
        inside[0] += cpu(lambda: out.append(forward(*arguments, **options)))
        return out[0]

    net.forward = timed
    try:
        return cpu(call), inside[0]
    finally:
        net.forward = forward


def beside_forwards(net: nn.Module, call: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of a call, and of its forwards alone: each is run twice, and the first or the second counts, in turn.

    So both have the same inputs at the same moment, for a machine's speed drifts by more than what is looked for.
    """
    alone: list[float] = []
    forward = net.forward

    def twice(*arguments: Any, **options: Any) -> Any:
        out: list[Any] = []
        seconds = [cpu(lambda: out.append(forward(*arguments, **options))) for _ in range(2)]
        alone.append(seconds[len(alone) % 2])
        return out[0]

    net.forward = twice
    try:
        return cpu(call) - sum(alone), sum(alone)
    finally:
        net.forward = forward


@torch.no_grad()
def end_to_end(run: Run) -> Iterator[Row]:
    """1,024 digits in 50 steps over the forwards alone, with diffusers' loop around the same network."""
    n, steps = run.pick(1024, 8), run.pick(50, 2)
    name, ours, scheduler, extra = cases(steps)[2]
    module = digits_module(ours)
    module.sample(1)
    net, size, generator = module.averaged.net, module.block_size(n), torch.Generator().manual_seed(0)
    loop = diffusers_loop(scheduler, steps, extra, net)

    def theirs() -> None:
        for _ in range(0, n, size):
            loop(torch.randn(size, 1, 8, 8, generator=generator), generator)

    limit = f"forwards alone, in blocks of {size}"
    seconds: dict[str, list[float]] = {"": [], "diffusers": [], limit: []}
    for _ in range(run.least):
        total, alone = beside_forwards(net, lambda: module.sample(n))
        other, others = beside_forwards(net, theirs)
        found = (total, other * alone / others, alone)  # theirs beside its own forwards, of the same size
        for key, value in zip(seconds, found, strict=True):
            seconds[key].append(value)
    yield row(
        f"{n:,} digits, {steps} steps of {name}, an image",
        seconds,
        ["diffusers"],
        limit,
        at_most(1.02, "limit"),
        per=n,
        reason="the plan of each block and the arithmetic of each step",
    )
    few = min(n, 192)
    a, b = (torch.cat([x for _, x in module.blocks(few, 0, size=block)]) for block in (64, 128))
    error = float((a - b).abs().max() / a.abs().max())
    yield counted(
        "digits drawn in blocks of 64 and of 128, largest difference",
        error,
        "of the largest value",
        goal=at_most(1e-4, "ours"),
    )


CASES = (counts, small)
LONG = (large, end_to_end)
