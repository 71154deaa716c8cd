"""The discrete chain from images to noise and back."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, panels
from lightning_gen.data import Digits
from lightning_gen.models import Scored
from lightning_gen.process import VP, DiscreteVP, Process, linear_betas
from lightning_gen.randomness import generator
from lightning_gen.samplers import Ancestral

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Empirical(Scored):
    """The exact model of finitely many points x (N, ...): E[x_0 | x_t] is a weighted mean of them."""

    def __init__(self, process: Process, x: Tensor) -> None:
        super().__init__(process)
        self.x = x.double()

    def denoise(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t = x], (B, ...), at one time for all."""
        alpha, variance = (each(t.flatten()[0].double()) for each in (self.process.alpha, self.process.variance))
        squares = torch.cdist(x.double().flatten(1), alpha * self.x.flatten(1)).square()
        return ((-squares / (2 * variance)).softmax(1) @ self.x.flatten(1)).view_as(x)


def digits() -> Tensor:
    """The training digits of scikit-learn, in [-1, 1], (N, 1, 8, 8)."""
    data = Digits()
    data.setup()
    return data.encode(data.split("train").images(slice(None))).double()


def strips(images: int = 3, steps: int = 100) -> Numbers:
    """Digits on their way to noise, and back by the exact reverse chain of the training digits."""
    process, x, noise = DiscreteVP(linear_betas(1000)), digits(), generator(0, "strips")
    times = [0.0, 0.05, 0.1, 0.2, 0.4, 1.0]
    start, z = x[:images], torch.randn(x[:images].shape, generator=noise, **F64)
    forward = [process.perturb(start, torch.full((images,), t, **F64), z) for t in times]
    model = Empirical(process, x)
    states = list(Ancestral(steps=steps).trajectory(model, torch.randn(64, 1, 8, 8, generator=noise, **F64), noise))
    ends = states[-1]
    apart = torch.cdist(ends.flatten(1), x.flatten(1)).min(1).values
    between = torch.cdist(x[:200].flatten(1), x[200:].flatten(1)).min(1).values
    return {
        "digits": len(x),
        "steps": steps,
        "times": times,
        "alphas": process.alpha(torch.tensor(times, **F64)),
        "forward": torch.stack([each[:images, 0] for each in forward]),
        "backward": torch.stack([states[round((1 - t) * steps)][:images, 0] for t in times[::-1]]),
        "apart": float(apart.max()),
        "between": float(between.mean()),
        "different": len({int(i) for i in torch.cdist(ends.flatten(1), x.flatten(1)).argmin(1)}),
        "drawn": len(ends),
    }


def draw_strips(figure: "Figure", numbers: Numbers) -> None:
    """Rows of digits over time, forward and back."""
    titles = ("forward, from digits to noise", "back, from noise to digits")
    for axes, key, title in zip(panels(figure, 2), ("forward", "backward"), titles, strict=True):
        tiles = np.pad(np.array(numbers[key]), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        picture = np.concatenate([np.concatenate(list(column), 0) for column in tiles], 1)
        axes.imshow(picture, cmap="gray", vmin=-1.5, vmax=1.5)
        axes.set_title(title)
        axes.axis("off")


STRIPS = Section(
    name="strips",
    title="From images to noise and back",
    claim="noise is added to an image step by step until nothing else is left, and the reverse process makes images of noise.",
    text="""
Above: digits at growing times; the factor of the image falls from one to {alphas[1]:.3f}, {alphas[2]:.3f}, {alphas[3]:.3f}, {alphas[4]:.3f} and {alphas[5]:.4f}. Below: the way back. The reverse chain has the exact denoiser of the {digits:,}
training digits, a weighted mean of them, and no network: {steps} steps of `Ancestral` take {drawn} draws of noise to digits, {different} different ones. Each is a training digit to
{apart:.1e}, where digits are {between:.2f} apart from the nearest other.
""",
    verdict="holds with a condition",
    why="The exact reverse process of finitely many images makes these images again. New ones come from what a network cannot learn exactly. The notes leave the reverse process out.",
    measure=strips,
    draw=draw_strips,
    proof=lambda n: n["apart"] < 0.1 * n["between"] and n["different"] > n["drawn"] / 2,
    alt="Three digits that dissolve into noise, and three that appear out of noise",
    height=5.4,
    erratum=True,
    tiny={"images": 1, "steps": 10},
)


def schedules() -> Numbers:
    """What is left of the data after T steps of the same betas, by T."""
    curves, ends = {}, []
    for steps in (1000, 2000):
        process = DiscreteVP(linear_betas(steps))
        t = torch.linspace(0, 1, 101, **F64)
        curves[str(steps)] = process.alpha(t).square().clamp(min=1e-12)
        ends.append(float(process.alpha(t[-1]).square()))
    continuous = VP(0.2, 40.0).alpha(torch.ones((), **F64)).square()
    return {
        "t": [i / 100 for i in range(101)],
        "steps": [1000, 2000],
        "curves": curves,
        "ends": ends,
        "betas": [1e-4, 0.02],
        "limits": [0.2, 40.0],
        "continuous": float(continuous),
        "mean": [math.sqrt(each) for each in ends],
    }


def draw_schedules(figure: "Figure", numbers: Numbers) -> None:
    """The squared factor over time."""
    (axes,) = panels(figure)
    for (steps, curve), style in zip(numbers["curves"].items(), ("-", "--"), strict=True):
        axes.plot(numbers["t"], curve, style, label=f"T = {steps}")
    axes.set(xlabel="t, in units of T", ylabel="share of the data's variance", yscale="log")
    axes.legend()


SCHEDULES = Section(
    name="schedule",
    title="The length of the chain",
    claim="the steps' variances grow linearly over a chain of two thousand steps.",
    text="""
With variances from {betas[0]:g} to {betas[1]:g} the share of the data's variance that is left at the end is {ends[0]:.2e} after {steps[0]} steps and {ends[1]:.1e} after {steps[1]}. The longer
chain is another process: in continuous time it runs from {limits[0]:g} to {limits[1]:g}, where {continuous:.1e} is left, twice the integral of the other one.
""",
    verdict="fails",
    why="DDPM has {steps[0]} steps. With {steps[1]} of the same variances the data are gone long before the end, and a part of the steps is spent on noise alone.",
    measure=schedules,
    draw=draw_schedules,
    proof=lambda n: abs(n["ends"][0] / 4.04e-5 - 1) < 0.01 and n["ends"][1] < 1e-8,
    alt="Share of the data's variance over time, for chains of one and two thousand steps: the longer one has lost the data at half of its time",
    erratum=True,
)
