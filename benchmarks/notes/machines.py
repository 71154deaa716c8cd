"""Energies with discrete latent variables: restricted Boltzmann machines."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import Chapter, Numbers, Section, mean, panels
from lightning_gen.losses import RBMContrastiveDivergence
from lightning_gen.models import RBM, GaussianBernoulliRBM
from lightning_gen.models.rbm import states
from lightning_gen.questions import ConditionalModes, MostProbableHidden
from lightning_gen.questions.conditioned import conditional
from lightning_gen.randomness import bernoulli, generator
from lightning_gen.results.pictures.fields import plane
from lightning_gen.results.pictures.samplers import round_ticks
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


def convergence(visible: int = 8, hidden: int = 6, sweeps: int = 200) -> Numbers:
    """Total variation between v after t sweeps from one state and p(v), by powers of the transition matrix."""
    scales, curves, rates = [0.5, 1.0, 2.0, 3.0], [], []
    for std in scales:
        _, step, p = sweep(machine(visible, hidden, std))
        now, curve = torch.zeros_like(p).index_fill(0, torch.tensor([0]), 1.0), []
        for _ in range(sweeps + 1):
            curve.append(float((now - p).abs().sum() / 2))
            now = now @ step
        curves.append(curve)
        rates.append(float(torch.linalg.eigvals(step).abs().sort(descending=True).values[1]))
    needed = [next((t for t, value in enumerate(curve) if value < 0.01), sweeps) for curve in curves]
    return {
        "visible": visible,
        "hidden": hidden,
        "sweeps": sweeps,
        "scales": scales,
        "curves": curves,
        "rates": rates,
        "needed": needed,
        "last": [curve[-1] for curve in curves],
    }


def draw_convergence(figure: "Figure", numbers: Numbers) -> None:
    """Total variation over sweeps, a line for each scale of the weights."""
    (axes,) = panels(figure)
    for scale, curve in zip(numbers["scales"], numbers["curves"], strict=True):
        axes.plot(range(len(curve)), [max(value, 1e-12) for value in curve], label=f"{scale:g}")
    axes.set(xlabel="sweeps", ylabel="total variation from p(v)", yscale="log", ylim=(1e-6, 1.5))
    axes.legend(title="scale of W")


CONVERGENCE = Section(
    name="convergence",
    title="The Gibbs sampler reaches the marginal",
    claim="after many sweeps the pair follows p(v, h), and so v alone follows p(v), which cannot be computed directly.",
    text="""
Of {visible} visible and {hidden} hidden units the law of v after each sweep is known exactly, by powers of the transition matrix; all chains start where every unit is off. The
distance from p(v) falls by a constant factor a sweep, the matrix's second eigenvalue: {rates[0]:.3f} with weights of scale {scales[0]:g}, {rates[1]:.3f} at {scales[1]:g},
{rates[2]:.3f} at {scales[2]:g} and {rates[3]:.4f} at {scales[3]:g}, where modes lie far apart. A total variation of a hundredth takes {needed[0]}, {needed[1]} and {needed[2]} sweeps
at the first three scales; at the last one {last[3]:.2f} is left after {sweeps}.
""",
    verdict="holds with a condition",
    why="How many sweeps are many depends on the weights: it grows quickly with their scale, and so during training.",
    measure=convergence,
    draw=draw_convergence,
    proof=lambda numbers: (
        numbers["needed"] == sorted(numbers["needed"]) and numbers["last"][0] < 1e-6 < numbers["last"][3]
    ),
    alt="Distance between the chain's law and the RBM's over sweeps, for four scales of the weights: larger weights mix more slowly",
)


def autocorrelation_time(series: Tensor) -> float:
    """Updates for one independent draw: their number over the effective sample size, of series (updates, chains)."""
    from arviz_stats.base import array_stats

    return series.numel() / float(array_stats.ess(series.T.numpy()))


def single_site(visible: int = 8, hidden: int = 6, sweeps: int = 1000, chains: int = 40) -> Numbers:
    """The autocorrelation time of the number of ones in v, in sweeps, of three Gibbs samplers from exact draws."""
    scales, names = [0.5, 1.0, 1.5], ("block", "in turn", "at random")
    times: dict[str, list[float]] = {name: [] for name in (*names, "exact")}
    for std in scales:
        model = machine(visible, hidden, std)
        v, step, p = sweep(model)
        for name in names:
            times[name].append(autocorrelation_time(series(name, model, sweeps, chains)))
        times["exact"].append(exact_time(step, p, v.sum(1)))
    products = {"block": 2, "in turn": 2 * visible}
    return {"visible": visible, "hidden": hidden, "sweeps": sweeps, "chains": chains, "scales": scales} | {
        "times": {name.replace(" ", "_"): each for name, each in times.items()},
        "products": {name.replace(" ", "_"): each for name, each in products.items()},
        "slower": sorted(random / own for random, own in zip(times["at random"], times["block"], strict=True)),
    }


def series(name: str, model: RBM, sweeps: int, chains: int) -> Tensor:
    """The ones in v after each sweep, (sweeps, chains): blocks; each v_i given the others; or single units of v and h at random."""
    noise, rows = generator(0, "site", name), []
    v = model.draw((chains, len(model.b)), noise)
    h, gibbs, units = model.sample_hidden(v, noise), Gibbs(1), len(model.b) + len(model.c)
    for _ in range(sweeps):
        if name == "block":
            v = gibbs(model, v, noise)
        elif name == "in turn":
            for i in range(len(model.b)):
                log_p, _ = conditional(model, v, i, v.shape)
                v[:, i] = bernoulli(log_p.softmax(1)[:, 1], noise)
        else:
            for i in torch.randint(units, (units,), generator=noise).tolist():
                if i < len(model.b):
                    v[:, i] = bernoulli(model.visible(h)[:, i], noise)
                else:
                    j = i - len(model.b)
                    h[:, j] = bernoulli(model.hidden(v)[:, j], noise)
        rows.append(v.sum(1))
    return torch.stack(rows)


def exact_time(step: Tensor, p: Tensor, f: Tensor) -> float:
    """1 + 2 sum_k corr(f(v_0), f(v_k)) of a stationary chain, from its matrix."""
    f = f - p @ f
    # sum over k >= 1 of T^k f, without the constant function, on which T is 1
    total = torch.linalg.solve(torch.eye(len(p), dtype=p.dtype) - step + p[None, :], step @ f)
    return float(1 + 2 * (p * f) @ total / ((p * f) @ f))


def draw_single_site(figure: "Figure", numbers: Numbers) -> None:
    """Autocorrelation times over the scale of the weights."""
    (axes,) = panels(figure)
    labels = {"block": "block", "in_turn": "single v, h summed out", "at_random": "single unit, at random"}
    for (name, label), style in zip(labels.items(), ("o-", "s-", "^-"), strict=True):
        axes.plot(numbers["scales"], numbers["times"][name], style, label=label)
    axes.plot(numbers["scales"], numbers["times"]["exact"], "x", color="0.2", markersize=9, label="block, exactly")
    axes.set(xlabel="scale of W", ylabel="autocorrelation time, sweeps", yscale="log", xticks=numbers["scales"])
    round_ticks(axes.yaxis, 1, 10, "{x:g}")
    axes.legend()


SINGLE_SITE = Section(
    name="single-site",
    title="Block Gibbs against single sites",
    claim="an RBM is sampled by whole blocks, all hidden units and then all visible ones, in place of one unit after the other.",
    text="""
Three samplers of the same RBM ({visible} visible, {hidden} hidden units) start at exact draws; a sweep touches every unit once, or as many single units as there
are. Autocorrelation times of the number of ones in v, in sweeps, {chains} chains of {sweeps:,}:

| scale of W | block | exact value of it | one v at a time, h summed out | one unit of v or h at random |
|---|---|---|---|---|
| {scales[0]:g} | {times[block][0]:.2f} | {times[exact][0]:.2f} | {times[in_turn][0]:.2f} | {times[at_random][0]:.2f} |
| {scales[1]:g} | {times[block][1]:.2f} | {times[exact][1]:.2f} | {times[in_turn][1]:.2f} | {times[at_random][1]:.2f} |
| {scales[2]:g} | {times[block][2]:.2f} | {times[exact][2]:.2f} | {times[in_turn][2]:.2f} | {times[at_random][2]:.2f} |

Single units at random need {slower[0]:.1f} to {slower[2]:.1f} times the sweeps of the blocks. Taken in order, hidden units first, single units are the same chain as the blocks, for no unit of
a block depends on another of it. Summing h out and changing one v at a time mixes in fewer sweeps, but evaluates the energy {products[in_turn]} times where a block
takes {products[block]} products of matrices, and nothing of it runs in parallel.
""",
    verdict="holds",
    why="The blocks lose nothing to single units and take all of a block at once.",
    measure=single_site,
    draw=draw_single_site,
    proof=lambda numbers: all(
        own < random and abs(own / exact - 1) < 0.25
        for own, random, exact in zip(
            numbers["times"]["block"], numbers["times"]["at_random"], numbers["times"]["exact"], strict=True
        )
    ),
    alt="Autocorrelation time of three Gibbs samplers over the scale of the weights",
    tiny={"sweeps": 50, "chains": 4},
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
        all(off[0] > off[-1] for off in numbers["off"]) and numbers["off"][2][0] > 0.2 and 0.7 < numbers["z"] < 1.3
    ),
    alt="Relative error of the gradient of contrastive divergence over k, for three scales of the weights",
    erratum=True,
    tiny={"batches": 5},
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
    return {
        "draws": draws,
        "sweeps": sweeps,
        "components": len(means),
        "off": float((mixture - density).abs().max()),
        "off_visible": float((model.visible(h) - (model.mu + h @ model.W.T)).abs().max()),
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
{off:.0e} over the plane, so the energy and the conditionals belong together. {draws:,} chains of {sweeps} sweeps by `Gibbs` have a mean {apart[gibbs]:.4f} away from the exact one, those by
`GibbsLangevin` {apart[langevin]:.4f}, where the standard error of a mean is {noise:.4f}.
""",
    verdict="holds",
    why="The notes' convention, W in units of v, agrees with itself once v is transposed in the energy; that of Krizhevsky divides W by σ, and `hinton` converts.",
    measure=gaussian_machine,
    draw=draw_gaussian_machine,
    proof=lambda n: n["off"] < 1e-8 and n["apart"]["gibbs"] < 4 * n["noise"],
    alt="The density of a Gaussian RBM in the plane, one large peak and faint ones beside it, with draws of a sampler upon them",
    height=4.2,
    erratum=True,
    tiny={"draws": 50, "sweeps": 5},
)

MACHINES = Chapter(
    name="machines",
    title="Restricted Boltzmann machines",
    intro="Energies of visible and binary hidden units, small enough here to sum over all of their states.",
    sections=(FACTORISATION, CONVERGENCE, SINGLE_SITE, MODES, CONTRASTIVE, GAUSSIAN),
)
