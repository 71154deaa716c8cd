"""Laws of samplers, on models that are known exactly."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lightning_gen.check.cases import Case, cases, like
from lightning_gen.check.law import FITS, Broken, Laws, Skipped, decided, no_more
from lightning_gen.models import Denoiser, Scored, has
from lightning_gen.process import VE, VP, double
from lightning_gen.randomness import UNIT, Numbered
from lightning_gen.samplers import Denoising, Sampler

N, EXACT = 3000, 30_000  # samples that are drawn, and exact ones that they are compared with
LIMIT = 4.5  # of |z|: 2 in 10,000 correct samplers have a statistic above it
STEPS = 2000  # at most, where more of them are tried
LAWS = Laws([FITS])


class Subject:
    """A sampler, and the first of the known models that it accepts.

    Args:
        make: builds the sampler.
    """

    def __init__(self, make: Callable[..., Sampler]) -> None:
        self.component = make()
        self.refusals: list[str] = []

    def said(self) -> str:
        """What is looked at, in words."""
        return f"the sampler {type(self.component).__name__}"

    @cached_property
    def case(self) -> Case | None:
        """The model; None where it accepts none of them."""
        for case in cases():
            try:
                self.component.check(case.model)
                self.component.plan(case.model, (1, 2))
                return case
            except (TypeError, ValueError) as refusal:
                self.refusals.append(str(refusal))
        return None

    def tried(self) -> str:
        """What it is tried on, in words."""
        return "none that is known exactly" if self.case is None else f"tried on samples {self.case.title}"

    def known(self) -> Case:
        """The model; Skipped without one."""
        if self.case is None:
            raise Skipped(f"it accepts no model that is known exactly ({self.refusals[0]})")
        return self.case

    def shape(self) -> tuple[int, ...]:
        """The shape of one x of the known model."""
        case = self.known()
        if case.exact is None:
            return (2,)
        return tuple(case.exact(1, torch.Generator().manual_seed(0)).shape[1:])

    def one_level(self, case: Case) -> float | None:
        """The time of the density that a Markov chain leaves as it is; None for a sampler that goes through several."""
        moves = [
            step for step in self.component.plan(case.model, (1, *self.shape())) if not isinstance(step, Denoising)
        ]
        times = {time for step in moves for time in (step.t, step.s)}
        return times.pop() if len(times) == 1 and case.invariant else None


def walk(sampler: Sampler, model: Any, x: Tensor, source: Any) -> tuple[list[Tensor], int | None]:
    """All states, and the number of evaluations that the trajectory returns."""
    states, way = [], sampler.trajectory(model, x, source)
    while True:
        try:
            states.append(next(way))
        except StopIteration as end:
            return states, end.value


@torch.no_grad()
def drawn(sampler: Sampler, case: Case, n: int, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    """n samples from the sampler's own start, (n, ...)."""
    source = torch.Generator().manual_seed(seed)
    x = sampler.start(case.model, (n, *shape), source)
    return sampler(case.model, x.to(like(case.model)), source)


def statistics(x: Tensor) -> Tensor:
    """Values, products, sines and cosines of projections, (n, k): their means tell laws apart."""
    x = x.double().flatten(1)
    d = x.shape[1]
    i, j = torch.triu_indices(d, d)
    w = torch.randn(d, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w[:, 6:] *= 4  # periods of the order of a mode's width
    return torch.cat([x, x[:, i] * x[:, j], (x @ w).cos(), (x @ w).sin()], dim=1)


def largest_z(x: Tensor, exact: Tensor) -> float:
    """The largest |z| of the means of the statistics of samples against those of exact ones; infinite for no number."""
    if not x.isfinite().all():
        return math.inf
    ours, theirs = statistics(x), statistics(exact)
    spread = (theirs.var(0) * (1 / len(x) + 1 / len(exact))).clamp(min=1e-12).sqrt()
    return float(((ours.mean(0) - theirs.mean(0)) / spread).abs().max())


def reproduced(subject: Subject, case: Case) -> str:
    """Whether samples have the law of the case, with as many steps as that takes."""
    if case.exact is None:
        raise Skipped(f"the samples {case.title} are not known")
    told, z = [], math.inf
    for factor in (1, 4, 16):
        sampler = refined(subject.component, factor)
        if sampler is None:
            break
        z = distance(subject, sampler, case)
        told.append(f"{z:.3g}" + (f" at {sampler.steps} steps" if isinstance(sampler.steps, int) else ""))
        if z <= LIMIT:
            break
    k = statistics(case.exact(2, torch.Generator())).shape[1]
    text = f"{case.title}, {N:,} samples, the largest |z| of {k} statistics is {', '.join(told)}, at most {LIMIT}"
    no_more(z, LIMIT, f"{text} expected")
    return text


def refined(sampler: Sampler, factor: int) -> Sampler | None:
    """The sampler with `factor` times as many steps, of a chain as much smaller ones; None where it has no number."""
    if factor == 1:
        return sampler
    if not isinstance(sampler.steps, int) or sampler.steps * factor > STEPS:
        return None
    finer = sampler.with_steps(sampler.steps * factor)
    return finer if sampler.step_size is None else finer.with_options(step_size=sampler.step_size / factor)


@torch.no_grad()
def distance(subject: Subject, sampler: Sampler, case: Case) -> float:
    """|z| of samples from the sampler's start, of a Markov chain from exact ones, which it must leave as they are."""
    shape, level, source = subject.shape(), subject.one_level(case), torch.Generator().manual_seed(1)
    exact = case.exact(EXACT, torch.Generator().manual_seed(2))
    if level is None:
        return largest_z(drawn(sampler, case, N, shape), exact)
    if any(isinstance(step, Denoising) for step in sampler.plan(case.model, (1, *shape))):
        raise Skipped("its last step removes noise, after which the law is another")
    x = case.exact(N, source)
    if has(case.model, Scored):
        process, time = case.model.process, torch.full((EXACT,), level, dtype=torch.float64)
        exact = process.perturb(exact, time, torch.randn(exact.shape, generator=source, dtype=exact.dtype))
        x = process.perturb(x, time[:N], torch.randn(x.shape, generator=source, dtype=x.dtype))
    end = sampler(case.model, x, source)
    if torch.equal(end, x):
        raise Broken("samples end where they began")
    return largest_z(end, exact)


@LAWS.law(
    "gaussian",
    "exact samples of a Gaussian, or of the model that it accepts; chains leave them as they are",
    "it draws from another density than the model's",
)
def look_gaussian(subject: Subject) -> str:
    """Samples of the known model."""
    return reproduced(subject, subject.known())


@LAWS.law("mixture", "exact samples of a mixture", "modes get other shares or widths than the model's")
def look_mixture(subject: Subject) -> str:
    """Samples of a mixture."""
    case = subject.known().mixture
    if case is None:
        raise Skipped(f"the model that it accepts is {subject.known().title}")
    return reproduced(subject, case)


@LAWS.law("generator", "one generator decides all", "a seed would not give the same samples again")
def look_generator(subject: Subject) -> str:
    """The same samples whatever the global generators are, which it leaves alone."""
    case, shape = subject.known(), subject.shape()
    samples = decided(lambda: drawn(subject.component, case, 8, shape), "samples")
    if torch.equal(samples, drawn(subject.component, case, 8, shape, seed=2)):
        raise Broken("two generators give the same samples")
    return "the same samples with one generator, whatever the global seed; others with another"


@LAWS.law(
    "evaluations", "calls of the model as planned and returned", "comparisons at equal cost would compare unequal ones"
)
def look_evaluations(subject: Subject) -> str:
    """Evaluations as they are planned, returned and counted; a state for each transition."""
    case, shape = subject.known(), subject.shape()
    sampler, source = subject.component, torch.Generator().manual_seed(1)
    planned = sampler.evaluations(case.model, (3, *shape))
    plan = list(sampler.plan(case.model, (3, *shape)))
    with torch.no_grad():
        x = sampler.start(case.model, (3, *shape), source).to(like(case.model))
        calls = case.counted()
        states, returned = walk(sampler, case.model, x, source)
    if len(states) != len(plan) + 1:
        raise Broken(f"{len(states)} states of {len(plan)} transitions, expected one more")
    if returned != len(calls) or planned not in (None, len(calls)):
        raise Broken(f"{len(calls)} calls of the model, {returned} returned and {planned} planned")
    return f"{len(calls)} calls of the model as planned and returned, {len(states)} states"


class Smooth(nn.Module):
    """tanh x, for x of any shape."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Like x."""
        return torch.tanh(x)


@LAWS.law("shape", "states like x", "images and half-precision models would fail")
def look_shape(subject: Subject) -> str:
    """States like x, for images as for points, in single and double precision."""
    for process in (VP(), VE(0.1, 50.0, levels=10)):
        model = Denoiser(Smooth(), process)
        try:
            subject.component.check(model)
            subject.component.plan(model, (1, 2))
            break
        except (TypeError, ValueError):
            continue
    else:
        raise Skipped("it accepts no network of noised images")
    for dtype in (torch.float32, torch.float64):
        x = 0.1 * torch.ones(2, 3, 4, 4, dtype=dtype)
        with torch.no_grad():
            states, _ = walk(subject.component, model, x, torch.Generator().manual_seed(1))
        for state in states:
            if state.shape != x.shape or state.dtype != dtype:
                raise Broken(f"a state is {state.dtype} {tuple(state.shape)} of x {dtype} {tuple(x.shape)}")
    return f"{len(states)} states (2, 3, 4, 4) in float32 and in float64, as x"


@LAWS.law("first", "a sample does not depend on those drawn with it", "n=10 and n=20 would share none")
def look_first(subject: Subject) -> str:
    """Some samples of a block alone, where `independent` promises them."""
    sampler, case, shape = subject.component, subject.known(), subject.shape()
    if not sampler.independent:
        raise Skipped("independent is False: whole blocks are drawn")
    with torch.no_grad():
        whole, part = (numbered(sampler, case, shape, *which) for which in ((0, 8), (2, 3)))
    no_more(float((double(whole[2:5]) - double(part)).abs().max()), 1e-5, "3 of 8 samples differ alone")
    return "3 of 8 samples are the same alone"


def numbered(sampler: Sampler, case: Case, shape: tuple[int, ...], start: int, count: int) -> Tensor:
    """Samples start, ..., start + count - 1, (count, *shape), by their own noise."""
    noise = Numbered(1, "sample", start, count)
    x = noise.draw(lambda each: sampler.start(case.model, (UNIT, *shape), each)).to(like(case.model))
    return sampler(case.model, x, noise)
