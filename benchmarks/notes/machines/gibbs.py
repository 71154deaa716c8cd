"""Gibbs sampling of an RBM, by blocks and by single units."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import Numbers, Section, mean, panels
from benchmarks.notes.machines.conditionals import machine, sweep
from lightning_gen.models import RBM
from lightning_gen.questions.conditioned import conditional
from lightning_gen.randomness import bernoulli, generator
from lightning_gen.results.pictures.samplers import round_ticks
from lightning_gen.samplers import Gibbs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        numbers["needed"] == sorted(set(numbers["needed"]))
        and numbers["last"][0] < 1e-6 < 0.1 < numbers["last"][3]
        and all(
            abs(curve[21] / curve[20] / rate - 1) < 1e-3
            for curve, rate in zip(numbers["curves"], numbers["rates"], strict=True)
        )
    ),
    alt="Distance between the chain's law and the RBM's over sweeps, for four scales of the weights: larger weights mix more slowly",
)


def autocorrelation_time(series: Tensor, groups: int = 8) -> Numbers:
    """Updates for one independent draw: their number over the effective sample size, of series (updates, chains).

    With the error of the mean over groups of chains.
    """
    from arviz_stats.base import array_stats

    parts = series.T.tensor_split(groups)
    return mean(torch.tensor([part.numel() / float(array_stats.ess(part.numpy())) for part in parts]))


def single_site(visible: int = 8, hidden: int = 6, sweeps: int = 1000, chains: int = 40) -> Numbers:
    """The autocorrelation time of the number of ones in v, in sweeps, of three Gibbs samplers from exact draws."""
    scales, names = [0.5, 1.0, 1.5], ("block", "in turn", "at random")
    times: dict[str, list] = {name: [] for name in (*names, "exact")}
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
        "slower": sorted(
            random["value"] / own["value"] for random, own in zip(times["at random"], times["block"], strict=True)
        ),
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
        axes.plot(numbers["scales"], [each["value"] for each in numbers["times"][name]], style, label=label)
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
| {scales[0]:g} | {times[block][0]} | {times[exact][0]:.3f} | {times[in_turn][0]} | {times[at_random][0]} |
| {scales[1]:g} | {times[block][1]} | {times[exact][1]:.3f} | {times[in_turn][1]} | {times[at_random][1]} |
| {scales[2]:g} | {times[block][2]} | {times[exact][2]:.3f} | {times[in_turn][2]} | {times[at_random][2]} |

Single units at random need {slower[0]:.1f} to {slower[2]:.1f} times the sweeps of the blocks. Taken in order, hidden units first, single units are the same chain as the blocks, for no unit of
a block depends on another of it. Summing h out and changing one v at a time mixes in fewer sweeps, but evaluates the energy {products[in_turn]} times where a block
takes {products[block]} products of matrices, and nothing of it runs in parallel.
""",
    verdict="holds",
    why="The blocks lose nothing to single units and take all of a block at once.",
    measure=single_site,
    draw=draw_single_site,
    proof=lambda numbers: all(
        in_turn["value"] < own["value"] < random["value"] - 4 * random["error"]
        and abs(own["value"] - exact) < 4 * own["error"] < 0.2 * exact
        for own, in_turn, random, exact in zip(*numbers["times"].values(), strict=True)
    ),
    alt="Autocorrelation time of three Gibbs samplers over the scale of the weights",
    tiny={"sweeps": 50, "chains": 16},
)
