"""Distances of distributions."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, panels
from lightning_gen.metrics import frechet_distance, mmd2
from lightning_gen.randomness import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def normal(x: Tensor, mean: float, std: float) -> Tensor:
    """log N(x; mean, std^2), nats, like x."""
    return -0.5 * ((x - mean) / std).square() - math.log(std * math.sqrt(2 * math.pi))


def distances(points: int = 20_001, draws: int = 2000) -> Numbers:
    """Distances of N(m, 1/4) from N(0, 1) over m: by quadrature, in closed form, and MMD^2 of samples."""
    x = torch.linspace(-20, 26, points, **F64)
    width, shifts, std = float(x[1] - x[0]), [0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0], 0.5
    names = ("kl", "reverse", "js", "tv", "wasserstein", "fisher", "mmd2")
    found: dict[str, list[float]] = {name: [] for name in names}
    z = torch.randn(2, draws, 1, generator=generator(0, "distances"), **F64)
    for shift in shifts:
        log_p, log_q = normal(x, 0.0, 1.0), normal(x, shift, std)
        p, q = log_p.exp(), log_q.exp()
        middle = torch.logaddexp(log_p, log_q) - math.log(2)
        away = -x + (x - shift) / std**2
        rows = {
            "kl": p * (log_p - log_q),
            "reverse": q * (log_q - log_p),
            "js": (p * (log_p - middle) + q * (log_q - middle)) / 2,
            "tv": (p - q).abs() / 2,
            "fisher": p * away.square() / 2,
        }
        for name, row in rows.items():
            found[name].append(float(row.sum() * width))
        moments = torch.zeros(1), torch.ones(1, 1), torch.full((1,), shift), torch.full((1, 1), std**2)
        found["wasserstein"].append(math.sqrt(frechet_distance(*moments)))
        found["mmd2"].append(float(mmd2(z[0], shift + std * z[1])))
    closed = [(1 + shift**2) / (2 * std**2) - 0.5 + math.log(std) for shift in shifts]
    worst = max(abs(a - b) / b for a, b in zip(found["kl"], closed, strict=True))
    return {"shifts": shifts, "std": std, "draws": draws, "found": found, "worst": worst, "most": math.log(2)} | {
        "ratio": found["kl"][0] / found["reverse"][0]
    }


def draw_distances(figure: "Figure", numbers: Numbers) -> None:
    """All seven over the shift, each in units of its value at the largest shift but one."""
    (axes,) = panels(figure)
    labels = {"kl": "KL(p‖q)", "reverse": "KL(q‖p)", "js": "Jensen–Shannon", "tv": "total variation"}
    labels |= {"wasserstein": "Wasserstein", "fisher": "Fisher", "mmd2": "MMD² of samples"}
    for (name, label), style in zip(labels.items(), ("o-", "s-", "^-", "v-", "D-", "P-", "x-"), strict=True):
        values = numbers["found"][name]
        axes.plot(numbers["shifts"], [value / values[-1] for value in values], style, markersize=5, label=label)
    axes.set(xlabel="distance of the means", ylabel="share of the value at the end", ylim=(-0.03, 1.5))
    axes.legend(ncols=2, fontsize=9)


DISTANCES = Section(
    name="distances",
    title="Distances of distributions",
    claim="families of models minimise different distances: KL divergences, Jensen–Shannon and Wasserstein distances, the Fisher divergence.",
    text="""
From p = N(`0`, `1`) a second Gaussian q of standard deviation {std:g} moves away:

| distance of the means | KL(p‖q) | KL(q‖p) | Jensen–Shannon | total variation | Wasserstein | Fisher | MMD² of samples |
|---|---|---|---|---|---|---|---|
| {shifts[0]:g} | {found[kl][0]:.3f} | {found[reverse][0]:.3f} | {found[js][0]:.3f} | {found[tv][0]:.3f} | {found[wasserstein][0]:.3f} | {found[fisher][0]:.3f} | {found[mmd2][0]:.2f} |
| {shifts[2]:g} | {found[kl][2]:.3f} | {found[reverse][2]:.3f} | {found[js][2]:.3f} | {found[tv][2]:.3f} | {found[wasserstein][2]:.3f} | {found[fisher][2]:.3f} | {found[mmd2][2]:.2f} |
| {shifts[4]:g} | {found[kl][4]:.3f} | {found[reverse][4]:.3f} | {found[js][4]:.3f} | {found[tv][4]:.3f} | {found[wasserstein][4]:.3f} | {found[fisher][4]:.3f} | {found[mmd2][4]:.2f} |
| {shifts[6]:g} | {found[kl][6]:.2f} | {found[reverse][6]:.3f} | {found[js][6]:.3f} | {found[tv][6]:.3f} | {found[wasserstein][6]:.3f} | {found[fisher][6]:.2f} | {found[mmd2][6]:.0f} |

Jensen–Shannon and total variation reach their largest values, {most:.3f} and one, and say nothing more of the way; the Wasserstein distance goes on in proportion. The two
KL divergences differ by a factor of {ratio:.1f} where the means are equal.
""",
    verdict="holds",
    why="They do differ: by whether they saturate, by which of two distributions is punished for what the other lacks, and by what they need to know.",
    measure=distances,
    draw=draw_distances,
    proof=lambda n: n["worst"] < 1e-6 and n["found"]["js"][6] > 0.99 * n["most"] and n["found"]["tv"][6] > 0.99,
    alt="Seven distances over the distance of the means: two saturate, one grows in proportion, the others faster",
    tiny={"draws": 50},
)
