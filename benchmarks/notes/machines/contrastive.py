"""Contrastive divergence."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import Numbers, Section, panels
from benchmarks.notes.machines.conditionals import machine, sweep
from lightning_gen.losses import RBMContrastiveDivergence
from lightning_gen.models import RBM
from lightning_gen.randomness import generator
from lightning_gen.samplers import Gibbs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def contrastive(visible: int = 8, hidden: int = 6, longest: int = 64, batches: int = 400) -> Numbers:
    """The expected gradient of CD-k beside that of the likelihood, both summed over all states; CD-1 also drawn."""
    ks, scales = [2**i for i in range(int(math.log2(longest)) + 1)], [1.0, 2.0, 3.0]
    cosines, lengths = [], []
    for std in scales:
        model = machine(visible, hidden, std)
        v, step, p = sweep(model)
        data, each = law_of_data(visible), []
        exact = gradient(model, v, data - p)
        for k in ks:
            each.append(gradient(model, v, data - data @ torch.linalg.matrix_power(step, k)))
        cosines.append([float(torch.cosine_similarity(one, exact, 0)) for one in each])
        lengths.append([float((one - exact).norm() / exact.norm()) for one in each])
    return {
        "visible": visible,
        "hidden": hidden,
        "ks": ks,
        "scales": scales,
        "cosines": cosines,
        "off": lengths,
    } | drawn(machine(visible, hidden, scales[0]), law_of_data(visible), batches)


def law_of_data(visible: int) -> Tensor:
    """p of data over all states: those of another RBM."""
    return sweep(machine(visible, 3, 2.0, seed=9))[2]


def gradient(model: RBM, v: Tensor, weight: Tensor) -> Tensor:
    """The sum over the states v of weight times dE/dtheta, as one vector."""
    return torch.cat([part.flatten() for part in model.gradient(v, model.logits(v), weight).values()])


def drawn(model: RBM, data: Tensor, batches: int) -> Numbers:
    """How far the mean gradient of the loss over batches is from CD-1's expectation, in standard errors."""
    v, step, _ = sweep(model)
    model.requires_grad_(True)
    loss, noise, found = RBMContrastiveDivergence(Gibbs(1)), generator(0, "batches"), []
    for _ in range(batches):
        x = v[torch.multinomial(data, 64, replacement=True, generator=noise)]
        parts = torch.autograd.grad(loss(model, x, noise).mean(), [model.W, model.b, model.c])
        found.append(torch.cat([part.flatten() for part in parts]))
    rows = torch.stack(found)
    z = (rows.mean(0) - gradient(model, v, data - data @ step)) / (rows.std(0) / math.sqrt(batches))
    return {"batches": batches, "parameters": len(z), "z": float(z.square().mean().sqrt())}


def draw_contrastive(figure: "Figure", numbers: Numbers) -> None:
    """The relative error of CD-k's gradient over k."""
    (axes,) = panels(figure)
    for scale, off in zip(numbers["scales"], numbers["off"], strict=True):
        axes.plot(numbers["ks"], off, "o-", label=f"{scale:g}")
    axes.set(xscale="log", yscale="log", xlabel="k, sweeps from the data", ylabel="relative error of the gradient")
    axes.set_xticks(numbers["ks"], [str(k) for k in numbers["ks"]])
    axes.minorticks_off()
    axes.legend(title="scale of W")


CONTRASTIVE = Section(
    name="contrastive",
    title="The bias of contrastive divergence",
    claim="a sampler of finitely many steps in place of the model's own expectation gives a usable gradient, without Z.",
    text="""
For {visible} visible and {hidden} hidden units both gradients are sums over all states: that of the likelihood, and what CD-k gives on average over the data and its chains,
which start at the data. Their relative distance, and the cosine between them:

| scale of W | CD-{ks[0]} | CD-{ks[3]} | CD-{ks[6]} | cosine, CD-{ks[0]} | cosine, CD-{ks[6]} |
|---|---|---|---|---|---|
| {scales[0]:g} | {off[0][0]:.3f} | {off[0][3]:.1e} | {off[0][6]:.1e} | {cosines[0][0]:.3f} | {cosines[0][6]:.4f} |
| {scales[1]:g} | {off[1][0]:.3f} | {off[1][3]:.3f} | {off[1][6]:.1e} | {cosines[1][0]:.3f} | {cosines[1][6]:.4f} |
| {scales[2]:g} | {off[2][0]:.3f} | {off[2][3]:.3f} | {off[2][6]:.1e} | {cosines[2][0]:.3f} | {cosines[2][6]:.4f} |

The loss that trains, `RBMContrastiveDivergence`, agrees with the sum: over {batches} batches its mean gradient is off that of CD-{ks[0]} by {z:.2f} standard errors, as a root mean
square over {parameters} parameters.
""",
    verdict="holds with a condition",
    why="The gradient of finite k is biased, by a large part of its length where the chain mixes slowly, and chains have to start at the data, or be kept.",
    measure=contrastive,
    draw=draw_contrastive,
    proof=lambda numbers: (
        all(off[-1] < 1e-6 < off[0] for off in numbers["off"])
        and numbers["off"][2][0] > 0.2
        and all(cosines[0] > 0.8 for cosines in numbers["cosines"])
        and 0.7 < numbers["z"] < 1.3
    ),
    alt="Relative error of the gradient of contrastive divergence over k, for three scales of the weights",
    erratum=True,
    tiny={"batches": 5},
)
