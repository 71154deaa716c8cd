"""Kernel densities."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from benchmarks.notes.estimates.distances import normal
from lightning_gen.likelihood import kernel_density
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.samplers import round_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bandwidths(samples: int = 500, points: int = 2000) -> Numbers:
    """Held-out log-density by the bandwidth, for three kernels; and the integral of the notes' formula in d dimensions."""
    from sklearn.neighbors import KernelDensity

    def draw(n: int, name: str) -> Tensor:
        noise = generator(0, "kde", name)
        side = torch.randint(2, (n, 1), generator=noise) * 3.0 - 1.5
        return (side + 0.5 * torch.randn(n, 1, generator=noise)).double()

    x, test = draw(samples, "train").numpy(), draw(points, "test").numpy()
    truth = torch.logaddexp(*(normal(torch.from_numpy(test), m, 0.5) for m in (-1.5, 1.5))) - math.log(2)
    grid, widths = torch.linspace(-4, 4, 200, **F64)[:, None].numpy(), [0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    rows: dict[str, list[float]] = {}
    lost: dict[str, list[float]] = {}
    for kernel in ("gaussian", "epanechnikov", "tophat"):
        found = [KernelDensity(kernel=kernel, bandwidth=width).fit(x).score_samples(test) for width in widths]
        # A kernel that ends gives a point without a near sample no density: log p is then -inf.
        rows[kernel] = [max(float(torch.from_numpy(each).mean()), -9.0) for each in found]
        lost[kernel] = [float((each == -math.inf).mean()) for each in found]
    own = kernel_density(x, test)
    chosen = {"under": 0.02, "chosen": own.bandwidth, "over": 1.6}
    curves = {
        name: torch.from_numpy(KernelDensity(bandwidth=w).fit(x).score_samples(grid)).exp()
        for name, w in chosen.items()
    }
    d, sigma = 5, 0.5
    return {
        "samples": samples,
        "widths": widths,
        "rows": rows,
        "lost": lost,
        "truth": float(truth.mean()),
        "own": float(own.nats.mean()),
        "bandwidth": own.bandwidth,
        "x": grid[:, 0],
        "curves": curves,
        "floor": -9.0,
        "d": d,
        "sigma": sigma,
        "notes": sigma**d * (2 * math.pi) ** ((d - 1) / 2),
    }


def draw_bandwidths(figure: "Figure", numbers: Numbers) -> None:
    """Three densities, and the held-out values over the bandwidth."""
    above, below = panels(figure, 2)
    titles = {"under": "undersmoothed", "chosen": "chosen", "over": "oversmoothed"}
    for (name, curve), style in zip(numbers["curves"].items(), ("-", "-", "--"), strict=True):
        above.plot(numbers["x"], curve, style, linewidth=1 if name == "under" else 2, label=titles[name])
    above.set(xlabel="x", ylabel="density")
    above.legend()
    for (kernel, row), style in zip(numbers["rows"].items(), ("o-", "s-", "^-"), strict=True):
        below.plot(numbers["widths"], row, style, label=kernel)
    below.axhline(numbers["truth"], color="0.4", linestyle="--", label="the density itself")
    below.set(xlabel="bandwidth", ylabel="held-out nats", xscale="log", ylim=(-4, -1))
    round_ticks(below.xaxis, 0.02, 1.6, "{x:g}")
    below.legend()


BANDWIDTHS = Section(
    name="bandwidth",
    title="The bandwidth of a kernel density",
    claim="a small bandwidth undersmooths, a large one oversmooths, and cross-validation chooses between them.",
    text="""
{samples} draws of two peaks, and held-out points under their kernel density. With Gaussian kernels of width {widths[0]:g} these have {rows[gaussian][0]:.3f} nats, with {widths[6]:g}
{rows[gaussian][6]:.3f}; `kernel_density` chooses {bandwidth:.3f} by cross-validation and gives {own:.3f}, where the density itself has {truth:.3f}. Kernels that end, Epanechnikov's and the top hat,
give a point without a near sample no density at all, and one such point makes the mean minus infinity: {lost[tophat][0]:.0%} of the held-out points at the width {widths[0]:g}, still
{lost[tophat][4]:.2%} at {widths[4]:g}.

The notes' formula divides by neither the bandwidth's power nor the constant of d dimensions: at d = {d} and a width of {sigma:g} its density has the integral {notes:.3f}.
""",
    verdict="holds with a condition",
    why="So it is with a kernel that has no end and a sum divided by the d-th power of the bandwidth, without which nothing integrates to one.",
    measure=bandwidths,
    draw=draw_bandwidths,
    proof=lambda n: (
        n["truth"] > n["own"] > max(n["rows"]["gaussian"][0], n["rows"]["gaussian"][6])
        and n["rows"]["tophat"][0] == n["floor"]
        and n["truth"] - n["own"] < 0.1
    ),
    alt="An undersmoothed, a chosen and an oversmoothed density, and held-out nats over the bandwidth for three kernels",
    height=5.4,
    erratum=True,
    tiny={"samples": 50, "points": 20},
)


def kde_dimensions(samples: int = 2000, points: int = 500) -> Numbers:
    """How far the kernel density of draws of N(0, I) is from its log-density, by the dimension."""
    dimensions, gaps, chosen = [1, 2, 4, 8, 16, 32], [], []
    for d in dimensions:
        noise = generator(0, "kde", d)
        x, test = (torch.randn(n, d, generator=noise, **F64) for n in (samples, points))
        found = kernel_density(x.numpy(), test.numpy())
        gaps.append(mean(normal(test, 0.0, 1.0).sum(1) - torch.from_numpy(found.nats)))
        chosen.append(found.bandwidth)
    return {"samples": samples, "points": points, "dimensions": dimensions, "gaps": gaps, "chosen": chosen}


def draw_kde_dimensions(figure: "Figure", numbers: Numbers) -> None:
    """The missing nats over the dimension."""
    (axes,) = panels(figure)
    axes.errorbar(
        numbers["dimensions"],
        [each["value"] for each in numbers["gaps"]],
        [2 * each["error"] for each in numbers["gaps"]],
        fmt="o-",
        capsize=3,
    )
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set(xscale="log", xlabel="dimension", ylabel="nats below the truth")
    axes.set_xticks(numbers["dimensions"], [str(d) for d in numbers["dimensions"]])
    axes.minorticks_off()


KDE_DIMENSIONS = Section(
    name="kde-dimension",
    title="Kernel densities in many dimensions",
    claim="beyond a few dimensions a kernel density is not to be relied upon.",
    text="""
{samples:,} draws of a standard normal law, the bandwidth by cross-validation, {points} held-out points: the estimate is {gaps[0]} nats below the true log-density in one dimension,
{gaps[2]} in {dimensions[2]}, {gaps[3]} in {dimensions[3]} and {gaps[5]} in {dimensions[5]}. The standard errors do not hint at it: the error is bias.
""",
    verdict="holds",
    why="A bandwidth that reaches the neighbours is by then as wide as the data: {chosen[5]:.2f} standard deviations in the last case.",
    measure=kde_dimensions,
    draw=draw_kde_dimensions,
    proof=lambda n: n["gaps"][5]["value"] > 4 > 0.1 > n["gaps"][0]["value"],
    alt="Nats by which a kernel density falls short of the truth, over the dimension: from nothing to several",
    tiny={"samples": 60, "points": 10},
)
