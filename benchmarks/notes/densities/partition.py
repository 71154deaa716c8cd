"""Integrals of densities: what makes one of a function, and what a grid of d dimensions costs."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, panels
from lightning_gen.likelihood import Partition, annealing_path, log_weights, partition, temperatures, tuned_steps
from lightning_gen.models import SmoothEnergy
from lightning_gen.process import Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.samplers import round_ticks
from lightning_gen.samplers import MALA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = {
    "square": lambda f: f.square().log(),
    "modulus": lambda f: f.abs().log(),
    "exponential": lambda f: f,
}
CONFINE = 2.0  # standard deviation of the Gaussian factor


def function(x: Tensor) -> Tensor:
    """f(x) = (3x - x^3) e^(-x^2 / 4), which has both signs and vanishes far away."""
    return (3 * x - x**3) * (-(x**2) / 4).exp()


class Shaped(SmoothEnergy):
    """E = -sum_i log g(f(x_i)), with Gaussian factors N(0, confine^2) where it is given, x (B, d)."""

    def __init__(self, form: str, confine: float | None = None) -> None:
        super().__init__(Clean())
        self.form, self.confine = form, confine

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        energy = -FORMS[self.form](function(x))
        return (energy if self.confine is None else energy + 0.5 * (x / self.confine).square()).sum(1)


def volume(model: Shaped, half: float, points: int) -> float:
    """The integral of exp(-E) over [-half, half] by the midpoint rule."""
    x = half * (2 * (torch.arange(points, dtype=torch.float64) + 0.5) / points - 1)
    return float((-model.energy(x[:, None])).exp().sum() * 2 * half / points)


def annealed(model: SmoothEnergy, d: int, variance: float, chains: int, steps: int) -> Partition:
    """log Z of a density of d values by chains of MALA from N(0, variance)."""
    noise, betas = generator(0, "partition"), temperatures(steps)
    path = annealing_path(model, torch.zeros(d).double(), torch.full((d,), variance).double(), MALA(1, 0.1))
    path.tune(tuned_steps(path, betas, 200, noise))
    return partition(path, log_weights(path, betas, path.start(chains, noise), noise))


def normalising(points: int = 200_000, chains: int = 2000, steps: int = 200) -> Numbers:
    """Z on growing intervals; of the confined exponential, which is a density, also by annealed importance sampling."""
    halves = [2.0, 4.0, 8.0, 16.0, 32.0]
    models = {form: Shaped(form) for form in FORMS} | {"confined": Shaped("exponential", CONFINE)}
    numbers = {"halves": halves, "confine": CONFINE, "chains": chains, "steps": steps}
    numbers["volumes"] = {name: [volume(model, half, points) for half in halves] for name, model in models.items()}
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    curves = {name: (-model.energy(x[:, None])).exp() / volume(model, 6.0, points) for name, model in models.items()}
    numbers |= {"x": x, "curves": curves}
    found = annealed(models["confined"], 1, CONFINE**2, chains, steps)
    truth = torch.tensor(numbers["volumes"]["confined"][-1]).log()
    return numbers | {"log_z": {"value": found.log_z, "error": found.error}, "truth": float(truth)}


def draw_normalising(figure: "Figure", numbers: Numbers) -> None:
    """The four densities on [-6, 6], and the integrals over growing intervals."""
    above, below = panels(figure, 2)
    for (name, curve), style in zip(numbers["curves"].items(), ("-", "--", ":", "-."), strict=True):
        label = {"square": "f²", "modulus": "|f|", "exponential": "exp f", "confined": "exp f, confined"}[name]
        above.plot(numbers["x"], curve, style, label=label)
        below.plot(numbers["halves"], numbers["volumes"][name], style, marker="o", label=label)
    above.set(xlabel="x", ylabel="g / its integral on the plot")
    above.set_ylim(0, 0.7)
    above.legend(ncols=2)
    below.set(xlabel="integrated from −L to L, L", ylabel="integral of g", xscale="log", yscale="log")
    below.set_xticks(numbers["halves"], [f"{half:g}" for half in numbers["halves"]])
    below.minorticks_off()
    round_ticks(below.yaxis, 5, 70, "{x:g}")


def normalising_proof(numbers: Numbers) -> bool:
    """Three integrals stop growing, one does not, and the estimate agrees with quadrature."""
    stops = {name: abs(each[-1] / each[-2] - 1) < 1e-6 for name, each in numbers["volumes"].items()}
    log_z = numbers["log_z"]
    agrees = abs(log_z["value"] - numbers["truth"]) < 4 * log_z["error"] < 0.05
    return agrees and stops == {"square": True, "modulus": True, "exponential": False, "confined": True}


NORMALISING = Section(
    name="normalising",
    title="A density from any function",
    claim="take any function f, make it non-negative by a square, a modulus or an exponential, and divide by its integral.",
    text="""
One f that has both signs and vanishes far away, `f(x) = (3x − x³) exp(−x²/4)`, goes through all three. Its square has the integral {volumes[square][4]:.4f} and its
modulus {volumes[modulus][4]:.4f}, both the same on every longer interval. The exponential of f tends to one, not to zero, where f vanishes: its integral is
{volumes[exponential][2]:.1f} from −{halves[2]:g} to {halves[2]:g} and {volumes[exponential][4]:.1f} from −{halves[4]:g} to {halves[4]:g}, and grows without end. With a
Gaussian factor of standard deviation {confine:g}, which is what `confine` of `EnergyNetwork` adds, it is {volumes[confined][4]:.4f}.

Where f changes its sign, the square and the modulus are zero, and no chain of small steps crosses; the exponential is positive everywhere. The logarithm of the
confined one's integral is {truth:.4f} by quadrature and {log_z} by annealed importance sampling with {chains:,} chains of {steps} temperatures, which is still at
hand where quadrature is not.
""",
    verdict="holds with a condition",
    why="The integral must be finite, which non-negativity alone does not give: for exp f, f has to fall far away, or be confined.",
    measure=normalising,
    draw=draw_normalising,
    proof=normalising_proof,
    alt="Four densities from one function, and their integrals over longer and longer intervals: one of them grows without end",
    height=5.6,
    tiny={"points": 2000, "chains": 50, "steps": 10},
)


class Counted(Shaped):
    """The confined exponential, which counts the points at which it is evaluated."""

    def __init__(self) -> None:
        super().__init__("exponential", CONFINE)
        self.evaluations = 0

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        self.evaluations += len(x)
        return super().energy(x)


@torch.no_grad()
def log_volume(model: Shaped, d: int, half: float, cells: int) -> float:
    """log of the integral of exp(-E) over [-half, half]^d by the midpoint rule, slice by slice of the first value."""
    line = half * (2 * (torch.arange(cells, **F64) + 0.5) / cells - 1)
    rest = torch.cartesian_prod(*[line] * (d - 1)).view(-1, d - 1) if d > 1 else torch.zeros(1, 0, **F64)
    slices = [(-model.energy(torch.cat([first.expand(len(rest), 1), rest], 1))).logsumexp(0) for first in line]
    return float(torch.stack(slices).logsumexp(0)) + d * float(np.log(2 * half / cells))


def grid(most: int = 5, chains: int = 1000, steps: int = 200, tolerance: float = 0.1) -> Numbers:
    """Points of a grid for log Z to a tolerance, and the error of annealing at a fixed number of chains, over d."""
    one, half = float(np.log(volume(Shaped("exponential", CONFINE), 16.0, 20_000))), 8.0
    dimensions, cells, points = list(range(1, most + 1)), [], []
    size = 4
    for d in dimensions:
        while True:
            model = Counted()
            if abs(log_volume(model, d, half, size) - d * one) < tolerance:
                break
            size += 2
        cells.append(size)
        points.append(model.evaluations)
    # Of a product the error is d times that of one dimension, which more cells must not bring back.
    finer = [log_volume(Counted(), 1, half, size) - one for size in range(cells[0], 200, 2)]
    later = [d * max(map(abs, finer[(size - cells[0]) // 2 :])) for d, size in zip(dimensions, cells, strict=True)]
    slope = np.polyfit(dimensions, np.log(points), 1)[0]
    many, found, costs = [1, 2, 4, 8, 16, 32], [], []
    for d in many:
        model = Counted()
        estimate = annealed(model, d, CONFINE**2, chains, steps)
        found.append({"value": estimate.log_z - d * one, "error": estimate.error})
        costs.append(model.evaluations)
    return {
        "dimensions": dimensions,
        "cells": cells,
        "points": points,
        "factor": float(np.exp(slope)),
        "later": max(later),
        "tolerance": tolerance,
        "chains": chains,
        "steps": steps,
        "many": many,
        "annealing": found,
        "costs": costs,
        "would": float(points[-1] * np.exp(slope) ** (many[-1] - most)),
    }


def draw_grid(figure: "Figure", numbers: Numbers) -> None:
    """Evaluations over the dimension."""
    (axes,) = panels(figure)
    axes.plot(numbers["dimensions"], numbers["points"], "o-", label="grid")
    axes.plot(numbers["many"], numbers["costs"], "s-", label="annealing")
    axes.set(xlabel="dimension d", ylabel="evaluations of the energy", yscale="log", xlim=(0, 33))
    axes.legend(loc="lower right")


GRID = Section(
    name="grid",
    title="Z on a grid",
    claim="the cost of a numerical Z grows exponentially with the number of dimensions.",
    text="""
Product densities of d values, each with the confined exponential's density of the first section: log Z is known. A midpoint rule that is right to {tolerance:g} nats needs

| d | cells a dimension | evaluations of the energy |
|---|---|---|
| {dimensions[0]} | {cells[0]} | {points[0]:,} |
| {dimensions[1]} | {cells[1]} | {points[1]:,} |
| {dimensions[2]} | {cells[2]} | {points[2]:,} |
| {dimensions[3]} | {cells[3]} | {points[3]:,} |
| {dimensions[4]} | {cells[4]} | {points[4]:,} |

(no larger number of cells, up to two hundred, is off by more than {later:.2f}), that is, {factor:.1f} times as many for each dimension: for {many[5]} dimensions about {would:.0e}. Annealed importance sampling with {chains:,} chains of {steps} temperatures takes {costs[0]:,} evaluations for any d.
Its errors in nats are {annealing[0]} for d = {many[0]}, {annealing[3]} for {many[3]} and {annealing[5]} for {many[5]}.
""",
    verdict="holds",
    why="It is so for grids. Sampling has another price, an error that is random and not known before, and goes much farther.",
    measure=grid,
    draw=draw_grid,
    proof=lambda n: (
        n["factor"] > 5
        and n["later"] < n["tolerance"]
        and n["points"] == [c**d for c, d in zip(n["cells"], n["dimensions"], strict=True)]
        and len(set(n["costs"])) == 1
        and all(abs(each["value"]) < 4 * each["error"] for each in n["annealing"])
        and n["annealing"][5]["error"] < 0.3
    ),
    alt="Evaluations of an energy over the dimension on a logarithmic axis: a grid's rise on a straight line, annealing's stay level",
    tiny={"chains": 20, "steps": 10, "tolerance": 2.5},
)
