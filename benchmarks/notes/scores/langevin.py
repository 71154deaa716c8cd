"""Langevin dynamics by a learned score: where they end, and annealed ones."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from benchmarks.notes.scores.denoising import nearest
from lightning_gen.check.known import Gaussian, Mixture
from lightning_gen.process import VE
from lightning_gen.randomness import generator
from lightning_gen.samplers import AnnealedLangevin, Langevin

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def limit(chains: int = 20_000, sigma: float = 0.5, variance: float = 1.0) -> Numbers:
    """The variance of Langevin chains by the score at one noise level, and after Tweedie's formula."""
    model = Gaussian(VE(sigma, sigma), torch.zeros(1), torch.full((1, 1), variance))
    etas = [0.4, 0.2, 0.1, 0.05]
    ends, cleaned = [], []
    for eta in etas:
        x = Langevin(int(10 / eta), eta).draw(model, (chains, 1), generator(0, "limit"))
        ends.append(mean(x.double().square().flatten()))
        cleaned.append(mean(model.denoise(x, torch.zeros(())).square().flatten()))
    total = variance + sigma**2
    return {"chains": chains, "sigma": sigma, "variance": variance, "etas": etas, "ends": ends, "cleaned": cleaned} | {
        "noisy": total,
        "tweedie": variance**2 / total,
    }


def draw_limit(figure: "Figure", numbers: Numbers) -> None:
    """Variances over the step size, with the three candidates for their limit."""
    (axes,) = panels(figure)
    for key, label, mark in (("ends", "chains", "o"), ("cleaned", "after Tweedie", "s")):
        bars = [3 * each["error"] for each in numbers[key]]
        axes.errorbar(numbers["etas"], [each["value"] for each in numbers[key]], bars, fmt=mark, capsize=3, label=label)
    for key, label, style in (
        ("noisy", "noised data", "-"),
        ("variance", "data", "--"),
        ("tweedie", "conditional means", ":"),
    ):
        axes.axhline(numbers[key], color="0.4", linestyle=style, label=label)
    axes.set(xlabel="step size η", ylabel="variance", ylim=(0.6, 1.75), xlim=(0, 0.45))
    axes.legend(ncols=2)


LIMIT = Section(
    name="langevin-limit",
    title="Where Langevin dynamics end",
    claim="as the step goes to zero and their number to infinity, the chain reaches the density of the data.",
    text="""
Data of variance {variance:g}, the exact score at the noise level {sigma:g}, {chains:,} chains. At the step {etas[3]:g} their variance is {ends[3]}: that of the noised data,
{noisy:g}, not of the data. After Tweedie's formula it is {cleaned[3]}, near {tweedie:g}: less than the data's, for the formula gives the mean of the clean points, not one of them.
""",
    verdict="fails",
    why="The limit is the noised density, since its score was learned; one denoising step brings it near the data if the noise is small.",
    measure=limit,
    draw=draw_limit,
    proof=lambda n: (
        abs(n["ends"][3]["value"] - n["noisy"]) < 0.06
        and n["ends"][3]["value"] - n["variance"] > 10 * n["ends"][3]["error"]
        and abs(n["cleaned"][3]["value"] - n["tweedie"]) < 0.04
    ),
    alt="Variance of Langevin chains over the step size: it tends to that of the noised data, and after denoising to less than the data's",
    erratum=True,
    tiny={"chains": 100},
)


def annealed(chains: int = 3000, count: int = 12, each: int = 30) -> Numbers:
    """Shares of the three clusters by plain and by annealed Langevin dynamics of the exact score, and a strip of it."""
    process = VE(0.05, 4.0)
    truth, noise = Mixture(process), generator(0, "annealed")
    far = 3.0  # the clusters three times as far apart, in units of which the plane is read
    truth.means = far * truth.means
    sampler = AnnealedLangevin(count, each, epsilon=3e-4)
    x = sampler.start(truth, (chains, 2), noise).double()
    states = list(sampler.trajectory(truth, x, noise))
    plain = Langevin(count * each, 0.02, spread=1.0).draw(truth, (chains, 2), noise).double()
    at = [0, each, 3 * each, 5 * each, 8 * each, len(states) - 1]
    levels_at = process.sigma(1 - torch.tensor(at[:-1], **F64).div(each).floor().clamp(max=count - 1) / (count - 1))
    return {
        "chains": chains,
        "count": count,
        "each": each,
        "weights": truth.weights,
        "annealed": shares(states[-1], truth.means),
        "plain": shares(plain, truth.means),
        "strip": [states[i][:150] for i in at],
        "levels": levels_at,
    }


def shares(x: Tensor, means: Tensor) -> list[float]:
    """The share of points nearest to each mean."""
    return (nearest(x, means).bincount(minlength=3) / len(x)).tolist()


def draw_annealed(figure: "Figure", numbers: Numbers) -> None:
    """The chains at six moments."""
    titles = ["start", *(f"σ = {level:.2g}" for level in numbers["levels"][1:]), "the end"]
    for axes, x, title in zip(panels(figure, 2, 3), numbers["strip"], titles, strict=True):
        axes.plot(*zip(*x, strict=True), ".", markersize=3)
        axes.set(xlim=(-8, 8), ylim=(-8, 8), aspect="equal", title=title, xticks=[-5, 0, 5], yticks=[-5, 0, 5])


ANNEALED = Section(
    name="annealed",
    title="Annealed Langevin dynamics",
    claim="chains that start at the most perturbed density and go on level by level reach the data's.",
    text="""
Three clusters that lie far apart have the weights {weights[0]:g}, {weights[1]:g} and {weights[2]:g}, and the score is exact at every level. {chains:,} chains of {each} steps at each of {count} levels end with
the shares {annealed[0]:.3f}, {annealed[1]:.3f} and {annealed[2]:.3f}. As many steps of plain Langevin dynamics at the smallest level, from a normal start, end with {plain[0]:.3f}, {plain[1]:.3f} and
{plain[2]:.3f}: which cluster a chain falls into is decided by where it starts.
""",
    verdict="holds",
    why="At high levels chains still cross between clusters, and take their right shares along. Score and step: the network is the gradient, and the notes' step is twice the other convention's.",
    measure=annealed,
    draw=draw_annealed,
    proof=lambda n: (
        max(abs(a - w) for a, w in zip(n["annealed"], n["weights"], strict=True))
        < 0.05
        < max(abs(a - w) for a, w in zip(n["plain"], n["weights"], strict=True))
    ),
    alt="Six moments of annealed Langevin chains, from a wide cloud to three small clusters",
    height=4.0,
    erratum=True,
    tiny={"chains": 200, "each": 9},
)
