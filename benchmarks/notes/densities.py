"""Parameterizing probability distributions."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import Chapter, Numbers, Section, mean, panels
from lightning_gen.likelihood import (
    Partition,
    annealing_path,
    kernel_density,
    log_weights,
    partition,
    temperatures,
    tuned_steps,
)
from lightning_gen.losses import NCE, ExactScoreMatching, Loss, NegativeLogLikelihood
from lightning_gen.models import (
    Beta,
    Dirichlet,
    Energy,
    Exponential,
    Gamma,
    Gaussian,
    Normalised,
    Poisson,
    SmoothEnergy,
)
from lightning_gen.models.closed_form import ClosedForm
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
F64 = {"dtype": torch.float64}


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
    agrees = abs(log_z["value"] - numbers["truth"]) < 4 * log_z["error"]
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

LAWS: dict[str, Callable[[], ClosedForm]] = {
    "Gaussian": lambda: Gaussian([0.5], [1.5]),
    "exponential": lambda: Exponential([0.6]),
    "Gamma": lambda: Gamma([3.0], [2.0]),
    "Beta": lambda: Beta([2.0], [3.5]),
    "Dirichlet": lambda: Dirichlet([1.5, 2.0, 3.5]),
    "Poisson": lambda: Poisson([4.0]),
}


def own(model: ClosedForm) -> Tensor:
    """The parameters in their own units: means as they are, of positive ones the exponential of what is stored."""
    return torch.cat([p.exp() if name.startswith("log_") else p for name, p in model.named_parameters()]).detach()


def minimised(model: Energy, loss: Loss, x: Tensor, seed: int = 0) -> Energy:
    """The model whose mean loss of x is least, its noise being the same in each step."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-10, tolerance_change=1e-13, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(model, x, generator(seed, "loss")).mean()
        value.backward()
        return value

    optimizer.step(closure)
    return model


def estimators(name: str, x: Tensor) -> list[float]:
    """The most likely parameters without this package: by a formula, or where there is none by scipy's roots."""
    from scipy import optimize, special, stats

    rows = x.numpy()
    match name:
        case "Gaussian":
            return [rows.mean(), rows.std()]
        case "exponential":
            return [1 / rows.mean()]
        case "Poisson":
            return [rows.mean()]
        case "Gamma":
            shape, _, scale = stats.gamma.fit(rows, floc=0)
            return [shape, 1 / scale]
        case "Beta":
            return list(stats.beta.fit(rows, floc=0, fscale=1)[:2])
    logs = np.log(rows).mean(0)
    return list(optimize.root(lambda a: special.digamma(a) - special.digamma(a.sum()) - logs, np.ones(3), tol=1e-12).x)


def mass(name: str, model: ClosedForm, cells: int) -> float:
    """The sum of p over counts, or its integral by the midpoint rule over all values but those that others decide."""
    middles = (torch.arange(cells, **F64) + 0.5) / cells
    match name:
        case "Poisson":
            x, weight = torch.arange(cells, **F64)[:, None], 1.0
        case "Dirichlet":
            square = torch.cartesian_prod(*[(torch.arange(800, **F64) + 0.5) / 800] * 2)
            x = torch.cat([square, 1 - square.sum(1, keepdim=True)], 1)
            x, weight = x[x[:, 2] > 0], 1 / len(square)
        case _:
            low, high = {"Gaussian": (-12.0, 13.0), "Beta": (0.0, 1.0)}.get(name, (0.0, 60.0))
            x, weight = low + (high - low) * middles[:, None], (high - low) / cells
    return float(model.log_prob(x).detach().exp().sum() * weight)


def first_value(name: str, model: ClosedForm) -> ClosedForm:
    """The law of the first value: of a Dirichlet density's first share that is a Beta law."""
    if name != "Dirichlet":
        return model
    a = own(model).tolist()
    return Beta(a[:1], [sum(a[1:])]).double()


def closed_forms(draws: int = 4000, cells: int = 20_000) -> Numbers:
    """The mass of six laws; and their parameters by descent of the likelihood, beside estimators of others."""
    found: dict[str, Numbers] = {}
    for name, make in LAWS.items():
        truth = make().double()
        d = 3 if name == "Dirichlet" else 1
        x = truth.draw((draws, d), generator(0, "closed", name))
        model = make().double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5).add_(0.2)
        fitted, by_others = own(minimised(model, NegativeLogLikelihood(), x)), torch.tensor(estimators(name, x))
        bins = torch.linspace(float(x[:, 0].min()), float(x[:, 0].quantile(0.995)), 26, **F64)
        if name == "Poisson":
            bins = torch.arange(12, **F64) - 0.5
        middles, counts = (bins[1:] + bins[:-1]) / 2, torch.histogram(x[:, 0].contiguous(), bins).hist
        found[name] = {
            "mass": mass(name, truth, cells),
            "truth": own(truth),
            "fitted": fitted,
            "apart": float((fitted / by_others - 1).abs().max()),
            "x": middles,
            "histogram": counts / draws / (bins[1] - bins[0]),
            "curve": first_value(name, model).log_prob(middles[:, None]).detach().exp(),
        }
    return {
        "draws": draws,
        "found": found,
        "worst": max(row["apart"] for row in found.values()),
        "mass": max(abs(row["mass"] - 1) for row in found.values()),
    }


def draw_closed_forms(figure: "Figure", numbers: Numbers) -> None:
    """Histograms of the draws as points, the fitted densities as lines."""
    for axes, (name, row) in zip(panels(figure, 3, 2), numbers["found"].items(), strict=True):
        axes.plot(row["x"], row["curve"], "o-" if name == "Poisson" else "-", color="0.6", markersize=8)
        axes.plot(row["x"], row["histogram"], ".", color="C0")
        axes.set(title=name + (", first share" if name == "Dirichlet" else ""), ylim=(0, None))


CLOSED_FORMS = Section(
    name="closed-forms",
    title="Laws whose integral is known",
    claim="of some functions the integral is known as a formula: Gaussian, exponential, Beta, Gamma, Poisson and Dirichlet laws.",
    text="""
Each law of `models/closed_form.py` is a model: a log-density, draws, and parameters. Numerical integrals or sums of the six densities are one to within {mass:.1e}. From
{draws:,} draws of each, descent of the negative log-likelihood, begun elsewhere, ends at these parameters:

| law | true | fitted |
|---|---|---|
| Gaussian, mean and deviation | {found[Gaussian][truth][0]:.3g}, {found[Gaussian][truth][1]:.3g} | {found[Gaussian][fitted][0]:.3f}, {found[Gaussian][fitted][1]:.3f} |
| exponential, rate | {found[exponential][truth][0]:.3g} | {found[exponential][fitted][0]:.3f} |
| Gamma, shape and rate | {found[Gamma][truth][0]:.3g}, {found[Gamma][truth][1]:.3g} | {found[Gamma][fitted][0]:.3f}, {found[Gamma][fitted][1]:.3f} |
| Beta, a and b | {found[Beta][truth][0]:.3g}, {found[Beta][truth][1]:.3g} | {found[Beta][fitted][0]:.3f}, {found[Beta][fitted][1]:.3f} |
| Dirichlet, concentrations | {found[Dirichlet][truth][0]:.3g}, {found[Dirichlet][truth][1]:.3g}, {found[Dirichlet][truth][2]:.3g} | {found[Dirichlet][fitted][0]:.3f}, {found[Dirichlet][fitted][1]:.3f}, {found[Dirichlet][fitted][2]:.3f} |
| Poisson, rate | {found[Poisson][truth][0]:.3g} | {found[Poisson][fitted][0]:.3f} |

They differ from estimators of other origin by {worst:.1e} of their value at most: the sample's mean and standard deviation, one over its mean, its mean, and scipy's solutions for the other three.
""",
    verdict="holds",
    why="With Z known the likelihood is exact, and any optimizer fits it. The integral is a formula for all six; the best parameters are one only for the Gaussian, the exponential and the Poisson law.",
    measure=closed_forms,
    draw=draw_closed_forms,
    proof=lambda n: (
        n["mass"] < 1e-4
        and n["worst"] < 1e-3
        and all(
            abs(a / b - 1) < 0.1
            for row in n["found"].values()
            for a, b in zip(row["fitted"], row["truth"], strict=True)
        )
    ),
    alt="Histograms of draws of six laws, as points on the lines of the fitted densities",
    height=6.0,
    tiny={"draws": 200, "cells": 1000},
)


class WithConstant(Energy):
    """-log p + c: the energy of a normalised density whose constant is learned too, and is zero if it is right."""

    def __init__(self, model: Normalised) -> None:
        super().__init__()
        self.support, self.model = model.support, model
        self.constant = torch.nn.Parameter(torch.ones((), **F64))

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return self.constant - self.model.log_prob(x)


class OnAllNumbers(SmoothEnergy):
    """A density of a part of the real numbers, said to be one of all: what score matching would have to take."""

    def __init__(self, model: Energy) -> None:
        super().__init__(Clean())
        self.model = model

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        return self.model.energy(x)


def constants(rounds: int, draws: int) -> Numbers:
    """The learned log Z of each law by noise-contrastive estimation, over independent samples."""
    found: Numbers = {}
    for name, noise in (("Gaussian", NCE(2.5, mean=0.5)), ("exponential", NCE(2.5, mean=0.5))):
        ends = []
        for i in range(rounds):
            x = LAWS[name]().double().draw((draws, 1), generator(i, "contrast", name))
            ends.append(float(minimised(WithConstant(LAWS[name]().double()), noise, x, seed=i).constant.detach()))
        found[name] = {"ends": ends, "mean": mean(torch.tensor(ends))}
    return found


def oracles(rounds: int = 30, draws: int = 2000, chains: int = 2000) -> Numbers:
    """Four methods that do without Z, on densities whose Z is one."""
    normal, half = LAWS["Gaussian"]().double(), LAWS["exponential"]().double()
    x, y = (law.draw((draws, 1), generator(0, "oracle", str(i))) for i, law in enumerate((normal, half)))
    fitted = own(minimised(Gaussian([0.0], [1.0]).double(), ExactScoreMatching(), x))
    rates, loss = torch.linspace(0.05, 1.6, 32, **F64).tolist(), ExactScoreMatching()
    wrong = [float(loss(OnAllNumbers(Exponential([r]).double()), y, None).mean().detach()) for r in rates]
    rate = float(own(half)[0])
    right = [value - rate * r for value, r in zip(wrong, rates, strict=True)]  # the boundary's term p(0) s(0)
    steps = [10, 30, 100, 300]
    annealing = [annealed(normal, 1, 1.0, chains, k) for k in steps]
    counts, gaps, repeats = [50, 200, 800], {}, 8
    for name, law in (("Gaussian", normal), ("exponential", half)):
        points = law.draw((draws, 1), generator(0, "points", name))
        exact, gaps[name] = float(law.log_prob(points).detach().mean()), []
        for n in counts:
            samples = law.draw((repeats * n, 1), generator(0, "kernels", name, n)).numpy().reshape(repeats, n, 1)
            nats = [kernel_density(sample, points.numpy()).nats.mean() for sample in samples]
            gaps[name].append(mean(exact - torch.tensor(nats)))
    return {
        "rounds": rounds,
        "draws": draws,
        "chains": chains,
        "nce": constants(rounds, draws),
        "moments": float((fitted - torch.tensor([float(x.mean()), float(x.std(correction=0))])).abs().max()),
        "rates": rates,
        "rate": rate,
        "wrong": wrong,
        "right": right,
        "least_wrong": rates[int(np.argmin(wrong))],
        "least_right": rates[int(np.argmin(right))],
        "steps": steps,
        "annealing": [{"value": each.log_z, "error": each.error} for each in annealing],
        "counts": counts,
        "repeats": repeats,
        "gaps": gaps,
    }


def draw_oracles(figure: "Figure", numbers: Numbers) -> None:
    """Learned constants, losses over the rate, log Z by annealing, and the gap of kernel densities."""
    nce, matching, annealing, kernels = panels(figure, 2, 2)
    for i, row in enumerate(numbers["nce"].values()):
        nce.plot(row["ends"], np.linspace(i - 0.2, i + 0.2, len(row["ends"])), ".", color=f"C{i}")
    nce.axvline(0, color="0.4", linestyle="--")
    nce.set(title="NCE", xlabel="learned log Z", ylim=(-0.7, 1.7))
    nce.set_xticks([-0.03, 0, 0.03])
    nce.set_yticks([0, 1], ["normal", "exp."], rotation=90, va="center")
    matching.plot(numbers["rates"], numbers["wrong"], label="as it is")
    matching.plot(numbers["rates"], numbers["right"], label="with p(0)s(0)")
    matching.axvline(numbers["rate"], ymax=0.7, color="0.4", linestyle="--")
    matching.set(title="score matching", xlabel="rate of the model", ylabel="loss")
    matching.legend(fontsize=8)
    bars = [2 * each["error"] for each in numbers["annealing"]]
    annealing.errorbar(numbers["steps"], [each["value"] for each in numbers["annealing"]], bars, fmt="o", capsize=3)
    annealing.axhline(0, color="0.4", linestyle="--")
    annealing.set(title="annealing", xlabel="temperatures", ylabel="log Z", xscale="log", xlim=(7, 450))
    annealing.set_xticks(numbers["steps"], [str(k) for k in numbers["steps"]])
    for (name, row), style in zip(numbers["gaps"].items(), ("o-", "s-"), strict=True):
        kernels.plot(numbers["counts"], [each["value"] for each in row], style, label=name)
    kernels.set(title="kernel density", xlabel="samples", ylabel="nats below", xscale="log", yscale="log")
    kernels.set_xticks(numbers["counts"], [str(n) for n in numbers["counts"]])
    for axes in (annealing, kernels):
        axes.xaxis.minorticks_off()
    round_ticks(kernels.yaxis, 0.005, 0.5, "{x:g}")
    kernels.legend(fontsize=8)


ORACLES = Section(
    name="oracles",
    title="Models that know what is estimated",
    claim="where Z is not known as a formula, models are trained and judged without it.",
    text="""
On a density whose Z is one, what methods say that do without Z can be checked.

- *Noise-contrastive estimation* learns log Z as a parameter of its own. Over {rounds} samples of {draws:,} draws it is {nce[Gaussian][mean]} for a Gaussian and {nce[exponential][mean]} for an exponential
  law; the truth is zero.
- *Exact score matching* finds mean and deviation of a Gaussian sample to {moments:.0e}, as the likelihood does. For an exponential law its loss is least at {least_wrong:.2f}, the smallest
  rate that was tried, whatever the data; with the term of the boundary, which integration by parts leaves at zero, at {least_right:.2f}, where {rate:g} is true.
- *Annealed importance sampling* with {chains:,} chains gives log Z = {annealing[0]} by {steps[0]} temperatures and {annealing[3]} by {steps[3]}; the truth is zero.
- *Kernel densities* of {counts[0]} samples are {gaps[Gaussian][0]} nats below a Gaussian's log-density, of {counts[2]} {gaps[Gaussian][2]}; below that of the exponential law, which jumps at zero and has a longer tail than
  a Gaussian kernel, {gaps[exponential][0]} and {gaps[exponential][2]} (over {repeats} sets of samples).
""",
    verdict="holds with a condition",
    why="Each has its own: the noise must cover the data, the score must be one of all real numbers, the chains must be long, the samples many and the density smooth with a short tail. `ExactScoreMatching` refuses the half line.",
    measure=oracles,
    draw=draw_oracles,
    proof=lambda n: (
        all(abs(row["mean"]["value"]) < 4 * row["mean"]["error"] < 0.1 for row in n["nce"].values())
        and n["moments"] < 1e-5
        and n["least_wrong"] == n["rates"][0]
        and abs(n["least_right"] - n["rate"]) < 0.06
        and all(abs(each["value"]) < 4 * each["error"] for each in n["annealing"])
        and n["gaps"]["Gaussian"][0]["value"] > 2 * n["gaps"]["Gaussian"][2]["value"] > 0
        and n["gaps"]["exponential"][2]["value"] > 5 * n["gaps"]["Gaussian"][2]["value"]
    ),
    alt="Learned constants about zero, score-matching losses over a rate with and without the boundary's term, log Z by annealing, the gap of kernel densities over samples",
    height=5.6,
    tiny={"rounds": 2, "draws": 300, "chains": 50},
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

that is, {factor:.1f} times as many for each dimension: for {many[5]} dimensions about {would:.0e}. Annealed importance sampling with {chains:,} chains of {steps} temperatures takes {costs[0]:,} evaluations for any d.
Its errors in nats are {annealing[0]} for d = {many[0]}, {annealing[3]} for {many[3]} and {annealing[5]} for {many[5]}.
""",
    verdict="holds",
    why="It is so for grids. Sampling has another price, an error that is random and not known before, and goes much farther.",
    measure=grid,
    draw=draw_grid,
    proof=lambda n: (
        n["factor"] > 5
        and n["points"] == [c**d for c, d in zip(n["cells"], n["dimensions"], strict=True)]
        and len(set(n["costs"])) == 1
        and all(abs(each["value"]) < 4 * each["error"] for each in n["annealing"])
        and n["annealing"][5]["error"] < 0.3
    ),
    alt="Evaluations of an energy over the dimension on a logarithmic axis: a grid's rise on a straight line, annealing's stay level",
    tiny={"chains": 20, "steps": 10, "tolerance": 2.5},
)


DENSITIES = Chapter(
    name="densities",
    title="Densities from functions",
    intro="What makes a function a probability density, and what it costs.",
    sections=(NORMALISING, CLOSED_FORMS, ORACLES, GRID),
)
