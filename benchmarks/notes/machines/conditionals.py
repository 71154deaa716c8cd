"""One side of an RBM given the other: binary and Gaussian units, and the most probable ones."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import Numbers, Section, mean, panels
from lightning_gen.models import RBM, GaussianBernoulliRBM
from lightning_gen.models.rbm import states
from lightning_gen.questions import ConditionalModes, MostProbableHidden
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import plane
from lightning_gen.samplers import Gibbs, GibbsLangevin

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def machine(visible: int, hidden: int, std: float, seed: int = 0) -> RBM:
    """An RBM with random weights of that scale, in float64, without gradients.

    Its biases make it the same after a flip of all units, so that its modes come in pairs.
    """
    model, noise = RBM(visible, hidden).double().requires_grad_(False), generator(seed, "machine", visible, hidden)
    model.W.copy_(std * torch.randn(model.W.shape, generator=noise, dtype=torch.float64))
    model.b.copy_(-model.W.sum(1) / 2)
    model.c.copy_(-model.W.sum(0) / 2)
    return model


def products(p: Tensor, values: Tensor) -> Tensor:
    """prod_i p_i^x_i (1 - p_i)^(1 - x_i) for rows p (n, k) and binary x (m, k), (n, m)."""
    return (p.log() @ values.T + torch.log1p(-p) @ (1 - values).T).exp()


def sweep(model: RBM) -> tuple[Tensor, Tensor, Tensor]:
    """All v (V, D), the transition matrix of one block-Gibbs sweep over them (V, V), and p(v), (V,)."""
    v, h = states(len(model.b)), states(len(model.c))
    return (
        v,
        products(model.hidden(v), h) @ products(model.visible(h), v),
        (-model.energy(v) - model.exact_log_z()).exp(),
    )


def factorisation(visible: int = 6, hidden: int = 5) -> Numbers:
    """p(v_i = 1 | h) summed over all states, beside the formula and beside that with the notes' sign."""
    model = machine(visible, hidden, 1.0)
    v, h = states(visible), states(hidden)
    joint = torch.stack(
        [(-model.joint_energy(v, each.expand(len(v), -1))).softmax(0) for each in h]
    )  # p(v | h), (H, V)
    enumerated, formula = joint @ v, model.visible(h)
    together = products(formula, v)
    return {
        "visible": visible,
        "hidden": hidden,
        "enumerated": enumerated.flatten(),
        "formula": formula.flatten(),
        "off": float((enumerated - formula).abs().max()),
        "off_together": float((joint - together).abs().max()),
        "off_notes": float((enumerated - (1 - formula)).abs().max()),
    }


def draw_factorisation(figure: "Figure", numbers: Numbers) -> None:
    """Formula over enumeration, with both signs."""
    (axes,) = panels(figure)
    axes.plot(numbers["enumerated"], numbers["formula"], "o", markersize=4, label="with +")
    axes.plot(numbers["enumerated"], [1 - p for p in numbers["formula"]], "x", markersize=4, label="with the notes' −")
    axes.set(xlabel="p(v = 1 | h) of a unit, summed over all states", ylabel="by the formula")
    axes.legend(loc="center right")


FACTORISATION = Section(
    name="factorisation",
    title="One side of an RBM given the other",
    claim="given the hidden units the visible ones are independent, and each follows from one exponential of a + W h.",
    text="""
An RBM of {visible} visible and {hidden} hidden units has few enough states to sum over. For every h, the conditional law of all v together differs from the product
of the single laws of `RBM.visible` by at most {off_together:.1e}, and each single probability by at most {off:.1e}: rounding. With the minus that the notes write
before the exponent, the probability of one becomes that of zero, off by up to {off_notes:.3f}.
""",
    verdict="holds with a condition",
    why="The independence is exact; the sign in the exponent has to be a plus, for the energy has the minus already.",
    measure=factorisation,
    draw=draw_factorisation,
    proof=lambda numbers: max(numbers["off"], numbers["off_together"]) < 1e-12 and numbers["off_notes"] > 0.1,
    alt="Probabilities by the formula over enumerated ones: on the diagonal with a plus, on the other diagonal with a minus",
    erratum=True,
)


def modes(visible: int = 10, hidden: int = 8, machines: int = 40) -> Numbers:
    """The most probable h by the signs of the logits, and v by single changes, both beside all states."""
    equal, reached, count = [], [], []
    for seed in range(machines):
        model = machine(visible, hidden, 1.5, seed)
        v, h = states(visible), states(hidden)
        best = products(model.hidden(v), h).argmax(1)
        equal.append((MostProbableHidden()(model, v) == h[best]).all(1).double().mean())
        end, log_p = ConditionalModes()(model, v).x, -model.energy(v)
        reached.append((-model.energy(end) >= log_p.max() - 1e-9).double().mean())
        count.append(len(end.unique(dim=0)))
    return {
        "visible": visible,
        "hidden": hidden,
        "machines": machines,
        "states": 2**visible,
        "equal": float(torch.stack(equal).mean()),
        "reached": mean(torch.stack(reached)),
        "modes": mean(torch.tensor(count)),
        "counts": count,
        "shares": torch.stack(reached),
    }


def draw_modes(figure: "Figure", numbers: Numbers) -> None:
    """The share of starts that end at the best v, by the number of modes."""
    (axes,) = panels(figure)
    axes.plot(numbers["counts"], numbers["shares"], "o", alpha=0.6)
    axes.set(xlabel="modes of p(v), by changes of one unit", ylabel="starts that end at the best v", ylim=(0, 1.05))


MODES = Section(
    name="modes",
    title="The most probable units",
    claim="inference is to find the most probable hidden units given the visible ones, and the marginal of the visible ones.",
    text="""
Given v the hidden units are independent, so the most probable h has a one wherever a logit is positive: `MostProbableHidden` equals the maximum over all h for
{equal:.0%} of the {states:,} states of v, in each of {machines} RBMs of {visible} and {hidden} units. The most probable v is another matter. `ConditionalModes` changes
one value at a time while p(v) grows, and so ends at a mode; an RBM has {modes} of them, and from a start at random {reached} of the ascents end at the best one.
""",
    verdict="holds with a condition",
    why="The notes call the posterior p(h|v) itself the MAP; the maximum is one line for h, and a search among many modes for v, which come in pairs here.",
    measure=modes,
    draw=draw_modes,
    proof=lambda numbers: numbers["equal"] == 1 and numbers["reached"]["value"] < 0.9,
    alt="Share of ascents that reach the most probable state over the number of modes, one point an RBM",
    erratum=True,
    tiny={"visible": 5, "hidden": 4, "machines": 3},
)


def gaussian_machine(draws: int = 20_000, sweeps: int = 100, grid: int = 61) -> Numbers:
    """p(v) of a Gaussian-Bernoulli RBM as a mixture and by its free energy, and draws of two samplers."""
    model = GaussianBernoulliRBM(2, 3, variance=0.5).double().requires_grad_(False)
    model.W.copy_(torch.tensor([[1.6, 0.0, -1.2], [0.0, 1.6, 1.0]], dtype=torch.float64))
    model.c.copy_(-(model.W.square().sum(0) / 2) / model.variance[0])
    log_weights, means, variance = model.mixture()
    at, noise = plane(4.0, grid), generator(0, "gaussian")
    away = (at[:, None] - means).square().sum(2) / (2 * variance[0])
    mixture = (log_weights - log_weights.logsumexp(0) - away - math.log(2 * math.pi * variance[0])).logsumexp(1)
    density = -model.energy(at) - model.exact_log_z()
    shares = log_weights.softmax(0)
    mean_v = shares @ means
    apart = {}
    for name, sampler in (("gibbs", Gibbs(sweeps)), ("langevin", GibbsLangevin(sweeps))):
        v = sampler.draw(model, (draws, 2), noise)
        apart[name] = float((v.mean(0) - mean_v).norm())
    h = states(3)
    joint = torch.stack([model.joint_energy(at, each.expand(len(at), -1)) for each in h], 1)
    squares = (at[:, None] - model.visible(h)).square().sum(2) / (2 * variance[0])
    return {
        "draws": draws,
        "sweeps": sweeps,
        "components": len(means),
        "off": float((mixture - density).abs().max()),
        # Of p(v | h) the energy has the squares of a Gaussian and no other term in v; p(h | v) by all eight h.
        "off_visible": float((joint - squares - (joint - squares).mean(0)).abs().max()),
        "off_hidden": float(((-joint).softmax(1) @ h - model.hidden(at)).abs().max()),
        "apart": apart,
        "noise": float(((shares @ means.square() - mean_v.square()).sum() + 2 * variance[0]).sqrt() / draws**0.5),
        "side": grid,
        "density": density.exp(),
        "points": v[:300],
    }


def draw_gaussian_machine(figure: "Figure", numbers: Numbers) -> None:
    """The density and draws."""
    (axes,) = panels(figure)
    image = torch.tensor(numbers["density"]).view(numbers["side"], numbers["side"])
    axes.imshow(image, origin="lower", extent=(-4, 4, -4, 4), cmap="Blues")
    axes.plot(*zip(*numbers["points"], strict=True), ".", color="C1", markersize=3)
    axes.set(xlabel="first value of v", ylabel="second value of v", xlim=(-4, 4), ylim=(-4, 4))


GAUSSIAN = Section(
    name="gaussian-rbm",
    title="Real visible units",
    claim="with Gaussian visible units the two sides keep their independence, and their conditionals are normal and sigmoid.",
    text="""
Of two real visible units and three hidden ones, p(v) is a mixture of {components} Gaussians with means `μ + W h`. Its logarithm differs from minus the free energy and log Z by at most
{off:.0e} over the plane. For each h the joint energy is that of a normal law of v about the mean of `visible` and a constant, to {off_visible:.0e}, and for each v the sigmoids of `hidden` are
the sums over all h, to {off_hidden:.0e}. {draws:,} chains of {sweeps} sweeps by `Gibbs` have a mean {apart[gibbs]:.4f} away from the exact one, those by
`GibbsLangevin` {apart[langevin]:.4f}, where the standard error of a mean is {noise:.4f}.
""",
    verdict="holds",
    why="The notes' convention, W in units of v, agrees with itself once v is transposed in the energy; that of Krizhevsky divides W by σ, and `hinton` converts.",
    measure=gaussian_machine,
    draw=draw_gaussian_machine,
    proof=lambda n: (
        max(n["off"], n["off_visible"], n["off_hidden"]) < 1e-8 and max(n["apart"].values()) < 3 * n["noise"]
    ),
    alt="The density of a Gaussian RBM in the plane, one large peak and faint ones beside it, with draws of a sampler upon them",
    height=4.2,
    erratum=True,
    tiny={"draws": 50, "sweeps": 5},
)
