"""Stochastic differential equations."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from lightning_gen.models import SmoothEnergy
from lightning_gen.process import VE, VP, Clean
from lightning_gen.randomness import generator
from lightning_gen.samplers import Langevin

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def brownian(paths: int = 5000, steps: int = 1000) -> Numbers:
    """Moments of sums of independent normal increments, and their squares summed along a path."""
    z = torch.randn(paths, steps, generator=generator(0, "brownian"), **F64) / steps**0.5
    w = z.cumsum(1)
    half = steps // 2
    parts = [2**k for k in range(1, 11) if 2**k <= steps]
    squares = {n: torch.stack([part.sum(1) for part in z.tensor_split(n, 1)], 1).square().sum(1) for n in parts}
    return {
        "paths": paths,
        "steps": steps,
        "variance": mean(w[:, -1].square()),
        "covariance": mean(w[:, half - 1] * w[:, -1]),
        "parts": parts,
        "quadratic": [float(each.std()) for each in squares.values()],
        "quadratic_mean": mean(squares[parts[-1]]),
        "law": [math.sqrt(2 / n) for n in parts],
        "lines": w[:8, :: steps // 100],
    }


def draw_brownian(figure: "Figure", numbers: Numbers) -> None:
    """Some paths, with two standard deviations."""
    (axes,) = panels(figure)
    t = np.linspace(0, 1, len(numbers["lines"][0]))
    for line in numbers["lines"]:
        axes.plot(t, line, linewidth=1)
    axes.plot(t, 2 * np.sqrt(t), "--", color="0.3")
    axes.plot(t, -2 * np.sqrt(t), "--", color="0.3", label="two standard deviations")
    axes.set(xlabel="t", ylabel="w(t)")
    axes.legend(loc="upper left")


BROWNIAN = Section(
    name="brownian",
    title="Brownian motion",
    claim="the noise of a stochastic differential equation is a Brownian motion.",
    text="""
Of {paths:,} paths with {steps:,} independent increments up to the time one, the variance at the end is {variance}, and the covariance of the middle with the end {covariance}, the
smaller of the two times. Squares of increments, summed along a path, have the mean {quadratic_mean} and scatter less the finer the parts: {quadratic[0]:.3f} with {parts[0]} parts and
{quadratic[8]:.3f} with {parts[8]}, where the law says {law[0]:.3f} and {law[8]:.3f}. That is why the square of dw counts as dt.
""",
    verdict="holds",
    why="Steps of a chain with noise of variance dt add up to it.",
    measure=brownian,
    draw=draw_brownian,
    proof=lambda n: (
        abs(n["variance"]["value"] - 1) < 4 * n["variance"]["error"]
        and abs(n["covariance"]["value"] - 0.5) < 4 * n["covariance"]["error"]
        and abs(n["quadratic_mean"]["value"] - 1) < 4 * n["quadratic_mean"]["error"]
        and all(abs(found / law - 1) < 0.1 for found, law in zip(n["quadratic"], n["law"], strict=True))
    ),
    alt="Eight Brownian paths between the curves of two standard deviations",
    tiny={"paths": 100},
)


class DoubleWell(SmoothEnergy):
    """E = 3 (x^2 - 1)^2 / 2, whose Langevin diffusion has a drift that is not linear."""

    def __init__(self) -> None:
        super().__init__(Clean())

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return 1.5 * (x.square() - 1).square().sum(1)


def fokker_planck(paths: int = 20_000, cells: int = 200, step: float = 0.002) -> Numbers:
    """The density of a diffusion by its Fokker-Planck equation, beside simulated paths."""
    from scipy.linalg import expm

    model, half = DoubleWell(), 2.5
    width = 2 * half / cells
    x = torch.linspace(-half + width / 2, half - width / 2, cells, **F64)
    energy = model.energy(x[:, None]).detach()
    # Rates between neighbours that leave exp(-E) in balance, and tend to the equation as the cells shrink.
    up = ((energy[:-1] - energy[1:]) / 2).exp() / width**2
    down = ((energy[1:] - energy[:-1]) / 2).exp() / width**2
    rates = torch.diag(up, -1) + torch.diag(down, 1)
    rates -= torch.diag(rates.sum(0))
    start = (-0.5 * ((x + 1) / 0.2).square()).softmax(0)
    times, now = [0.1, 0.5, 2.0], 0.0
    points = -1 + 0.2 * torch.randn(paths, 1, generator=generator(0, "start"), **F64)
    densities, histograms, apart = [], [], []
    edges = torch.linspace(-half, half, cells // 5 + 1, **F64)
    for time in times:
        points = Langevin(round((time - now) / step), step)(model, points, generator(0, "paths", str(time)))
        now = time
        p = torch.from_numpy(expm(time * rates.numpy())) @ start
        counted = torch.histogram(points.flatten(), edges).hist / paths
        coarse = p.view(-1, 5).sum(1)
        apart.append(float((coarse - counted).abs().sum() / 2))
        densities.append(p / width)
        histograms.append(counted / (5 * width))
    rest = (-energy).softmax(0)
    return {
        "paths": paths,
        "step": step,
        "times": times,
        "x": x,
        "middles": (edges[:-1] + edges[1:]) / 2,
        "densities": densities,
        "histograms": histograms,
        "apart": apart,
        "noise": float((2 * rest.view(-1, 5).sum(1) / (math.pi * paths)).sqrt().sum() / 2),
        "crossed": [float((each * width)[x > 0].sum()) for each in densities],
        "left": float((densities[-1] * width - rest).abs().sum() / 2),
    }


def draw_fokker_planck(figure: "Figure", numbers: Numbers) -> None:
    """Densities as lines, histograms as points."""
    (axes,) = panels(figure)
    for i, time in enumerate(numbers["times"]):
        axes.plot(numbers["x"], numbers["densities"][i], color=f"C{i}", label=f"t = {time:g}")
        axes.plot(numbers["middles"], numbers["histograms"][i], ".", color=f"C{i}")
    axes.set(xlabel="x", ylabel="density; points: paths")
    axes.legend()


FOKKER_PLANCK = Section(
    name="fokker-planck",
    title="The density of a diffusion",
    claim="mean and covariance follow from the Fokker–Planck equation, but depend on an expectation that is not known.",
    text="""
In a double well the drift is not linear, and no formula gives the density; the Fokker–Planck equation does, on a grid. {paths:,} paths by `Langevin` with steps of {step:g}, all from the left
well, have its density: their histograms differ in total variation by {apart[0]:.3f}, {apart[1]:.3f} and {apart[2]:.3f} at the times {times[0]:g}, {times[1]:g} and {times[2]:g}, where counting alone
gives about {noise:.3f}. By then {crossed[0]:.3f}, {crossed[1]:.3f} and {crossed[2]:.3f} have crossed, and the last density is {left:.2f} away from the stationary one.
""",
    verdict="holds with a condition",
    why="The moments are unknown for a drift that is not linear. VP and VE have linear ones, and their moments are closed formulas.",
    measure=fokker_planck,
    draw=draw_fokker_planck,
    proof=lambda n: max(n["apart"]) < 2.5 * n["noise"] and n["crossed"] == sorted(n["crossed"]),
    alt="The density of a diffusion in a double well at three times, with the histograms of simulated paths on its lines",
    erratum=True,
    tiny={"paths": 200, "step": 0.02},
)


def euler(drift: Callable, diffusion: Callable, x: Tensor, increments: Tensor, dt: float) -> Tensor:
    """The end of Euler-Maruyama from x, (n,), by the increments of w, (steps, n)."""
    for dw in increments:
        x = x + drift(x) * dt + diffusion(x) * dw
    return x


def orders(paths: int = 100_000, finest: int = 128) -> Numbers:
    """Strong and weak errors of Euler-Maruyama on an equation with a known solution, x = sinh(arsinh x_0 + t + w)."""
    start = 0.5
    z = torch.randn(finest, paths, generator=generator(0, "orders"), **F64) / finest**0.5
    exact = torch.sinh(math.asinh(start) + 1 + z.sum(0))
    steps = [n for n in (4, 8, 16, 32, 64, 128) if n <= finest]
    strong, weak = [], []
    for n in steps:
        x = euler(
            lambda x: (1 + x * x).sqrt() + x / 2,
            lambda x: (1 + x * x).sqrt(),
            torch.full((paths,), start, **F64),
            z.view(n, finest // n, paths).sum(1),
            1 / n,
        )
        strong.append(mean((x - exact).abs()))
        weak.append(mean(torch.asinh(x) - torch.asinh(exact)))
    slopes = [
        float(np.polyfit(np.log(steps), np.log([abs(e["value"]) for e in each]), 1)[0]) for each in (strong, weak)
    ]
    return {"paths": paths, "steps": steps, "strong": strong, "weak": weak, "orders": [-slope for slope in slopes]} | {
        "law": [0.5, 1.0]
    }


def draw_orders(figure: "Figure", numbers: Numbers) -> None:
    """Both errors over the number of steps."""
    (axes,) = panels(figure)
    for key, style in (("strong", "o-"), ("weak", "s-")):
        axes.plot(numbers["steps"], [abs(each["value"]) for each in numbers[key]], style, label=key)
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="error at t = 1")
    axes.set_xticks(numbers["steps"], [str(n) for n in numbers["steps"]])
    axes.minorticks_off()
    axes.legend()


ORDERS = Section(
    name="euler-maruyama",
    title="The order of Euler–Maruyama",
    claim="an equation is turned into an algorithm by steps of finite size.",
    text="""
`dx = (√(1 + x²) + x/2) dt + √(1 + x²) dw` is not linear, and its solution is known for each path of w. Over {paths:,} paths, the distance of the steps' end from the solution's falls
from {strong[0]} with {steps[0]} steps to {strong[5]} with {steps[5]}, by the order {orders[0]:.2f}; the error of a mean (of arsinh x) from {weak[0]} to {weak[5]}, by the order {orders[1]:.2f}.
""",
    verdict="holds",
    why="Paths converge with the root of the step, laws in proportion to it: the orders one half and one. Samples need the law alone.",
    measure=orders,
    draw=draw_orders,
    proof=lambda n: all(abs(found - law) < 0.15 for found, law in zip(n["orders"], n["law"], strict=True)),
    alt="Strong and weak error over the number of steps, two lines of slopes one half and one",
    tiny={"paths": 500},
)


def marginals(paths: int = 20_000, steps: int = 500) -> Numbers:
    """Mean and variance of simulated VP and VE equations, from data of variance 4, beside the formulas."""
    vp, ve = VP(0.1, 8.0), VE(0.1, 5.0, start="zero")
    first, times = [1.5, 4.0], [0.25, 0.5, 0.75, 1.0]
    numbers: Numbers = {"paths": paths, "steps": steps, "first": first, "times": times}
    for name, process in (("vp", vp), ("ve", ve)):
        noise = generator(0, "moments", name)
        x = first[0] + first[1] ** 0.5 * torch.randn(paths, generator=noise, **F64)
        middles = (torch.arange(steps, **F64) + 0.5) / steps
        drift, diffusion = (each.tolist() for each in process.sde(middles))
        found: dict[str, list] = {"means": [], "variances": []}
        for i in range(steps):
            z = torch.randn(paths, generator=noise, **F64)
            x = x + drift[i] * x / steps + (diffusion[i] / steps) ** 0.5 * z
            if (i + 1) / steps in times:
                found["means"].append(mean(x))
                found["variances"].append(mean((x - x.mean()).square()))
        t = torch.tensor(times, **F64)
        alpha, variance = process.alpha(t), process.variance(t)
        numbers[name] = found | {"mean": alpha * first[0], "variance": alpha.square() * first[1] + variance}
    numbers["notes"] = {"vp": 1 - vp.alpha(torch.tensor(times, **F64)), "ve": ve.variance(torch.tensor(times, **F64))}
    return numbers


def draw_marginals(figure: "Figure", numbers: Numbers) -> None:
    """Variances over time, simulated, by the formula, and by the notes'."""
    for axes, name in zip(panels(figure, 1, 2), ("vp", "ve"), strict=True):
        own = numbers[name]
        axes.plot(numbers["times"], own["variance"], "-", color="0.4", label="formula")
        axes.plot(numbers["times"], [each["value"] for each in own["variances"]], "o", label="paths")
        axes.plot(numbers["times"], numbers["notes"][name], "x--", color="C3", label="the notes")
        axes.set(xlabel="t", ylabel="variance" if name == "vp" else "", title=name.upper(), xticks=[0.25, 0.5, 0.75, 1])
    axes.legend()


MARGINALS = Section(
    name="moments",
    title="The moments of VP and VE",
    claim="the mean and the covariance of both equations are closed formulas, and VP's covariance is at most one.",
    text="""
{paths:,} paths of {steps} steps start at data of mean {first[0]:g} and variance {first[1]:g}. At the half of the time VP's paths have the mean {vp[means][1]} and the variance
{vp[variances][1]}, by the formulas {vp[mean][1]:.3f} and {vp[variance][1]:.3f}; the notes' variance is {notes[vp][1]:.3f}. VE's have {ve[means][1]} and {ve[variances][1]}, by the formulas
{ve[mean][1]:.3f} and {ve[variance][1]:.3f}, and the notes' is {notes[ve][1]:.3f}.
""",
    verdict="holds with a condition",
    why="The means are right. The variance needs the whole integral of β, and that of the data, which keeps VP above one where the data's is; VE's adds the data's and starts at zero.",
    measure=marginals,
    draw=draw_marginals,
    proof=lambda n: (
        all(
            abs(found["value"] - law) < 4 * found["error"] + 0.005 * law
            for name in ("vp", "ve")
            for found, law in (
                *zip(n[name]["means"], n[name]["mean"], strict=True),
                *zip(n[name]["variances"], n[name]["variance"], strict=True),
            )
        )
        and all(
            found["value"] - notes > 4 * found["error"]
            for name in ("vp", "ve")
            for found, notes in zip(n[name]["variances"], n["notes"][name], strict=True)
        )
    ),
    alt="Variance of simulated VP and VE paths over time on the lines of the formulas, and the notes' values below them",
    erratum=True,
    tiny={"paths": 200, "steps": 100},
)
