"""Three ways to read the output of a network as an energy."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from lightning_gen.data import Rings
from lightning_gen.families.cost import Activations, Products
from lightning_gen.losses import DenoisingScoreMatching, constant
from lightning_gen.models import EnergyNetwork, ScoreNetwork, SmoothEnergy
from lightning_gen.models.energy import READOUTS
from lightning_gen.nets import MLP, UNet
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {"product": "x · f", "reconstruction": "‖x − f‖² / 2", "norm": "‖f‖² / 2"}
SIGMA = 0.2  # of the noise on the rings


class Written(SmoothEnergy):
    """A readout of an f that is written down, so that the energy is that of the rings with noise, up to a constant.

    For the norm f has the one value sqrt(2 (E - least)); for the reconstruction it is x minus that; for the product it
    is the integral of grad E from 0 to x over |x|, the mean of grad E(s x) over s in [0, 1].
    """

    def __init__(self, data: Rings, readout: str, least: float = -3.0, nodes: int = 200) -> None:
        super().__init__(Clean())
        self.data, self.readout, self.least = data, readout, least
        self.nodes = [torch.from_numpy(each).double() for each in np.polynomial.legendre.leggauss(nodes)]

    def energy(self, x: Tensor) -> Tensor:
        """E(x), nats, (B,)."""
        if self.readout == "product":
            at, weights = (self.nodes[0] + 1) / 2, self.nodes[1] / 2
            f = -sum(w * self.data.score(s * x, SIGMA**2) for s, w in zip(at, weights, strict=True))
        else:
            root = (2 * (-self.data.log_density(x, SIGMA**2) - self.least)).sqrt()
            f = torch.stack([root, torch.zeros_like(root)], 1)
            f = f if self.readout == "norm" else x - f
        return READOUTS[self.readout](x, f)


def fitted(model: EnergyNetwork | ScoreNetwork, x: Tensor, steps: int, seed: int) -> None:
    """Train a model of points x by denoising score matching."""
    loss, optimizer = DenoisingScoreMatching(constant(0.0), "simple", "sum"), torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        noise = generator(seed, "train", step)
        optimizer.zero_grad()
        loss(model, x[torch.randint(len(x), (128,), generator=noise)], noise).mean().backward()
        optimizer.step()
        schedule.step()


def readouts(steps: int = 500, seeds: int = 3, width: int = 64) -> Numbers:
    """Errors of the scores of three readouts and of a score network, of the rings with noise."""
    data = Rings()
    data.setup()
    x, test = (data.split(name).take(slice(None)) for name in ("train", "test"))
    near = test.double() + SIGMA * torch.randn(test.shape, generator=generator(0, "test"), **F64)
    box, grid, now = plane(3.0, 31), plane(2.6, 13), torch.zeros(1)
    places = {"near": near, "far": box[box.norm(dim=1) > 2.6]}
    true = {place: data.score(at, SIGMA**2) for place, at in places.items()}
    found: Numbers = {name: {place: [] for place in places} for name in (*NAMES, "score")}
    energies = {"true": -data.log_density(box, SIGMA**2) + data.log_density(near, SIGMA**2).mean()}
    arrows = {"true": data.score(grid, SIGMA**2)}
    for name, row in found.items():
        for seed in range(seeds):
            torch.manual_seed(seed)
            net, process = MLP((2,), width, 3, scale=4.0), VE(SIGMA, SIGMA)
            scale = SIGMA**-2  # the largest curvature of a density with this noise
            model = ScoreNetwork(net, process) if name == "score" else EnergyNetwork(net, process, name, scale=scale)
            fitted(model, x, steps, seed)
            for place, at in places.items():
                away = model.score(at.float(), now).detach().double() - true[place]
                row[place].append(float(away.square().sum() / true[place].square().sum()))
            if name != "score" and seed == 0:
                energies[name] = model.energy(box.float()).detach() - model.energy(near.float()).detach().mean()
                arrows[name] = model.score(grid.float(), now).detach()
    some = near[:200]
    written = [(Written(data, name).score(some, now).detach() - true["near"][:200]).norm() for name in NAMES]
    return {
        "steps": steps,
        "seeds": seeds,
        "sigma": SIGMA,
        "written": float(torch.stack(written).max() / true["near"][:200].norm()),
        "errors": {name: {place: mean(torch.tensor(row[place])) for place in places} for name, row in found.items()},
        "side": 31,
        "energies": {name: tenths(each) for name, each in energies.items()},
        "at": grid,
        "arrows": {name: tenths(each) for name, each in arrows.items()},
    }


def tenths(values: Tensor) -> list:
    """Values of a figure, to a tenth."""
    return (values.double() * 10).round().div(10).tolist()


def draw_readouts(figure: "Figure", numbers: Numbers) -> None:
    """The energies in the plane, with the directions of their scores."""
    side, at = numbers["side"], torch.tensor(numbers["at"])
    axes = panels(figure, 2, 2)
    for each, (name, title) in zip(axes, (NAMES | {"true": "the density's own"}).items(), strict=True):
        image, arrows = torch.tensor(numbers["energies"][name]).view(side, side), torch.tensor(numbers["arrows"][name])
        shown = each.imshow(image, origin="lower", extent=(-3, 3, -3, 3), vmin=-1.5, vmax=6, cmap="viridis")
        arrows = arrows / arrows.norm(dim=1, keepdim=True).clamp(min=1e-9)
        each.quiver(*at.T, *arrows.T, angles="xy", scale=22, width=0.006, color="white")
        each.set(title=title, xticks=[-2, 0, 2], yticks=[-2, 0, 2])
        each.grid(False)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="energy, nats")


def below(a: Numbers, b: Numbers) -> bool:
    """Whether a value is below another by three standard errors of their difference."""
    return b["value"] - a["value"] > 3 * (a["error"] ** 2 + b["error"] ** 2) ** 0.5


PLANE_READOUTS = Section(
    name="readouts",
    title="A scalar from the output of a network",
    claim="an energy is read off a network f with as many outputs as inputs: the product of x and f(x), the square of x − f(x), or the square of f(x); the first is found to be the best.",
    text="""
Each readout can be any smooth energy that is bounded below, up to a constant. For four rings with noise of σ = {sigma:g}, whose score is known, such an f is written down for each: for the squares from the root of the energy, for the product from
the mean of ∇E on the way from the origin to x. By automatic differentiation their scores are the true one but for {written:.0e} of its length.

What a network learns is another matter. One perceptron, read in the three ways and, for comparison, as a score without an energy, learns these rings by denoising score matching, {steps:,} steps on each of {seeds} seeds. The
error's mean square over that of the score:

| f read as | among the noised data | outside of the rings |
|---|---|---|
| xᵀf | {errors[product][near]} | {errors[product][far]} |
| `‖x − f‖²/2` | {errors[reconstruction][near]} | {errors[reconstruction][far]} |
| `‖f‖²/2` | {errors[norm][near]} | {errors[norm][far]} |
| the score itself | {errors[score][near]} | {errors[score][far]} |

In so few steps none of them sees the single rings, which the noise has nearly filled; the product and the norm, whose scores are gradients, are no farther from the true score than a network without this constraint.
""",
    verdict="holds with a condition",
    why="The product learns better than the reconstruction, but not better than the norm, and no source ranks them. On images it is the same: [energies](../energies.md#three-readouts).",
    measure=readouts,
    draw=draw_readouts,
    proof=lambda n: (
        n["written"] < 1e-6
        and below(n["errors"]["product"]["near"], n["errors"]["reconstruction"]["near"])
        and below(n["errors"]["product"]["far"], n["errors"]["reconstruction"]["far"])
        and not below(n["errors"]["product"]["near"], n["errors"]["norm"]["near"])
        and not below(n["errors"]["product"]["far"], n["errors"]["norm"]["far"])
        and n["errors"]["product"]["near"]["value"] < n["errors"]["score"]["near"]["value"]
    ),
    alt="Learned energies of four rings by three readouts, with the directions of their scores, and the density's own",
    height=5.2,
    erratum=True,
    tiny={"steps": 2, "seeds": 2, "width": 8},
    minutes=1,
)


def prices(batch: int = 4, rays: int = 500, far: float = 1e3) -> Numbers:
    """What a score and a training gradient of a U-Net cost by each readout, and the readouts' signs far away."""
    process, x = VE(SIGMA, SIGMA), torch.randn(batch, 1, 8, 8, generator=generator(0, "images"))
    at = far * torch.randn(rays, 1, 8, 8, generator=generator(0, "rays"))
    torch.manual_seed(0)
    net = UNet((1, 8, 8), channels=16, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, groups=8)
    torch.nn.init.kaiming_normal_(net.last.weight)  # which is zero before the first step
    models = {name: EnergyNetwork(net, process, name) for name in NAMES} | {"score": ScoreNetwork(net, process)}
    with Products() as once, torch.no_grad():
        net(x, torch.zeros(batch))
    rows: Numbers = {}
    for name, model in models.items():
        with Products() as score, torch.no_grad():
            model.score(x, torch.zeros(batch))
        with Products() as gradient, Activations(list(net.parameters())) as kept:
            DenoisingScoreMatching(constant(0.0))(model, x, generator(0, "noise")).mean().backward()
        rows[name] = {"score": score.total / once.total, "gradient": gradient.total / once.total}
        rows[name]["kept"] = kept.peak / batch / 2**10
    with torch.no_grad():
        f = net(at, torch.zeros(rays))
        below = {name: float((READOUTS[name](at, f) < 0).double().mean()) for name in NAMES}
    return {"parameters": sum(p.numel() for p in net.parameters()), "rays": rays, "rows": rows, "below": below}


def draw_prices(figure: "Figure", numbers: Numbers) -> None:
    """Operations of a score and of a training gradient, as groups of bars."""
    (axes,) = panels(figure)
    for k, (key, label) in enumerate((("score", "a score"), ("gradient", "a training gradient"))):
        values = [row[key] for row in numbers["rows"].values()]
        axes.barh([i + 0.4 * k - 0.2 for i in range(len(values))], values, 0.38, label=label)
    axes.set_yticks(range(len(numbers["rows"])), [*NAMES.values(), "f is the score"])
    axes.invert_yaxis()
    axes.set(xlabel="operations, in evaluations of f", xlim=(0, 9))
    axes.legend(loc="lower right")


PRICES = Section(
    name="readout-cost",
    title="What an energy costs",
    claim="any function makes an energy, whose score is a gradient: a U-Net needs a readout alone.",
    text="""
A U-Net of {parameters:,} parameters on images of `8 × 8`, with weights at random. Products, counted, in evaluations of it, and the memory that a training gradient keeps for its backward passes:

| f read as | a score | a gradient of denoising score matching | kept an image, KiB |
|---|---|---|---|
| xᵀf | {rows[product][score]:.2f} | {rows[product][gradient]:.2f} | {rows[product][kept]:.0f} |
| `‖x − f‖²/2` | {rows[reconstruction][score]:.2f} | {rows[reconstruction][gradient]:.2f} | {rows[reconstruction][kept]:.0f} |
| `‖f‖²/2` | {rows[norm][score]:.2f} | {rows[norm][gradient]:.2f} | {rows[norm][kept]:.0f} |
| the score itself | {rows[score][score]:.2f} | {rows[score][gradient]:.2f} | {rows[score][kept]:.0f} |

Far from the origin, in {rays} directions at random, xᵀf is negative in {below[product]:.0%}, the squares in {below[norm]:.0%}. As f is bounded (`UNet` ends in a normalisation and a convolution), such an energy falls in proportion to the distance, and
its density has no integral until a Gaussian factor is added: `confine`, without which `EnergyNetwork` refuses a likelihood.
""",
    verdict="holds with a condition",
    why="The readout itself is free, and all three cost the same: twice the operations of a network that is the score, in sampling and in training. But the product alone need not be a density.",
    measure=prices,
    draw=draw_prices,
    proof=lambda n: (
        all(
            abs(n["rows"][name][key] / n["rows"]["score"][key] - 2) < 0.1
            for name in NAMES
            for key in ("score", "gradient")
        )
        and n["rows"]["product"]["kept"] > n["rows"]["score"]["kept"]
        and n["below"]["product"] > 0.1 > 0 == n["below"]["norm"] == n["below"]["reconstruction"]
    ),
    alt="Operations of a score and of a training gradient for three readouts and for a network that is the score: half of theirs",
    erratum=True,
)
