"""Methods that do without the integral, on laws whose integral is known."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from benchmarks.notes.densities.closed_forms import LAWS, minimised, own
from benchmarks.notes.densities.partition import annealed
from lightning_gen.likelihood import kernel_density
from lightning_gen.losses import NCE, ExactScoreMatching
from lightning_gen.models import Energy, Exponential, Gaussian, Normalised, SmoothEnergy
from lightning_gen.process import Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.samplers import round_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def oracles(rounds: int = 30, draws: int = 2000, chains: int = 2000, repeats: int = 8) -> Numbers:
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
    counts, gaps = [50, 200, 800], {}
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
        and all(abs(each["value"]) < 4 * each["error"] < 0.05 for each in n["annealing"])
        and n["annealing"][3]["error"] < n["annealing"][0]["error"] / 2
        and n["gaps"]["Gaussian"][0]["value"] > 2 * n["gaps"]["Gaussian"][2]["value"] > 0
        and n["gaps"]["exponential"][0]["value"] - n["gaps"]["Gaussian"][0]["value"]
        > 4 * n["gaps"]["exponential"][0]["error"]
    ),
    alt="Learned constants about zero, score-matching losses over a rate with and without the boundary's term, log Z by annealing, the gap of kernel densities over samples",
    height=5.6,
    tiny={"rounds": 2, "draws": 50, "chains": 50, "repeats": 2},
)
