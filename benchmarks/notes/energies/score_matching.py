"""Score matching: the two scores, integration by parts, and what a trace costs."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.notes.book import Numbers, Section, mean, panels
from benchmarks.notes.energies.langevin import plain
from lightning_gen.check.known import Gaussian
from lightning_gen.families.cost import Products
from lightning_gen.losses import DenoisingScoreMatching, ExactScoreMatching, Loss, SlicedScoreMatching, constant
from lightning_gen.models import ScoreNetwork
from lightning_gen.nets import MLP
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.samplers import round_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LogProb(nn.Module):
    """log p(x) of a density as the call of a module, so that it is a function of its parameters."""

    def __init__(self, model: Gaussian) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """log p(x), nats, (B,)."""
        return self.model.log_prob(x)


def two_scores(draws: int = 20_000, variance: float = 0.5) -> Numbers:
    """Means and second moments of both gradients of log p, of N(1, variance), at its own draws."""
    model = plain(mean=1.0, variance=variance)
    x = model.clean(draws, generator(0, "scores"))
    log_p = LogProb(model)
    parameters = {name: p.detach() for name, p in log_p.named_parameters()}

    def of_one(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(log_p, parameters, (row[None],)).squeeze()

    by_parameter = torch.func.vmap(torch.func.grad(of_one), (None, 0))(parameters, x)
    of_mean, of_variance = (by_parameter[f"model.{name}"].flatten() for name in ("mean", "cov"))
    of_x = model.score(x, torch.zeros(())).flatten()
    s, t = of_mean[:500], of_variance[:500]
    return {
        "draws": draws,
        "variance": variance,
        "mean_x": mean(of_x),
        "mean_mean": mean(of_mean),
        "mean_variance": mean(of_variance),
        "information_x": mean(of_x.square()),
        "information_mean": mean(of_mean.square()),
        "information_variance": mean(of_variance.square()),
        "cross": mean(of_mean * of_variance),
        "exact_mean": 1 / variance,
        "exact_variance": 1 / (2 * variance**2),
        "opposite": float((of_x + of_mean).abs().max()),
        "points": [s, t],
    }


def draw_two_scores(figure: "Figure", numbers: Numbers) -> None:
    """Both parameter scores of each draw."""
    (axes,) = panels(figure)
    axes.plot(*numbers["points"], ".", color="C0", alpha=0.5)
    axes.plot(0, 0, "P", color="C3", markersize=10, label="their mean")
    axes.set(xlabel="gradient in the mean, of one draw", ylabel="gradient in the variance")
    axes.legend(loc="upper center")


TWO_SCORES = Section(
    name="two-scores",
    title="The two scores",
    claim="beside the gradient of log p in x there is another one, in the parameters.",
    text="""
Of a Gaussian with variance {variance:g}, at {draws:,} draws of its own, both gradients have the mean zero: {mean_x} in x, {mean_mean} in the mean, {mean_variance} in the
variance. Their second moments are numbers of information. That of the gradient in the mean is {information_mean}, where Fisher's information is one over the variance, {exact_mean:g};
that in the variance is {information_variance}, beside {exact_variance:g}; the mixed one is {cross}, beside zero. The two scores meet where the mean shifts x: the gradient in
the mean is minus that in x (their largest sum is {opposite:g}), so both have the same information.
""",
    verdict="holds",
    why="One is a field over the data, which sampling follows; the other is Fisher's score, whose covariance is the information.",
    measure=two_scores,
    draw=draw_two_scores,
    proof=lambda n: (
        abs(n["information_mean"]["value"] - n["exact_mean"]) < 4 * n["information_mean"]["error"]
        and abs(n["information_variance"]["value"] - n["exact_variance"]) < 4 * n["information_variance"]["error"]
        and all(abs(n[key]["value"]) < 4 * n[key]["error"] for key in ("mean_x", "mean_mean", "mean_variance", "cross"))
        and n["opposite"] < 1e-12
    ),
    alt="Gradients of log p in the mean and in the variance, a parabola of points about their mean at the origin",
    erratum=True,
    tiny={"draws": 500},
)


def by_parts(draws: int = 50_000) -> Numbers:
    """Both forms of the Fisher divergence of N(0, v) from N(0, 1), on the same draws of the latter."""
    data, variances = plain(), [0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2]
    x, now, losses, divergences = data.clean(draws, generator(0, "parts")), torch.zeros(()), [], []
    for variance in variances:
        model = plain(variance=variance)
        with torch.no_grad():
            losses.append(mean(ExactScoreMatching()(model, x, generator(0, "none"))))
        away = 0.5 * (model.score(x, now) - data.score(x, now)).square().sum(1)
        divergences.append(mean(away))
    gaps = torch.tensor([d["value"] - j["value"] for d, j in zip(divergences, losses, strict=True)])
    return {
        "draws": draws,
        "variances": variances,
        "losses": losses,
        "divergences": divergences,
        "constant": 0.5,
        "gap": {"value": float(gaps.mean()), "error": float(gaps.std())},
        "best": variances[min(range(len(variances)), key=lambda i: losses[i]["value"])],
    }


def draw_by_parts(figure: "Figure", numbers: Numbers) -> None:
    """Both forms over the model's variance."""
    (axes,) = panels(figure)
    for key, label, style in (("divergences", "Fisher divergence", "o-"), ("losses", "without the data's score", "s-")):
        axes.plot(numbers["variances"], [each["value"] for each in numbers[key]], style, label=label)
    axes.axvline(1, color="0.6", linestyle="--", label="the data's variance")
    axes.set(xlabel="variance of the model", ylabel="divergence and loss")
    axes.legend()


BY_PARTS = Section(
    name="by-parts",
    title="Score matching without the data's score",
    claim="integration by parts replaces the unknown score of the data by the trace of the model's second derivatives, up to a constant.",
    text="""
For models N(`0`, v) of data N(`0`, `1`), both forms on the same {draws:,} draws: their difference over seven variances is {gap}, the deviation being that over the variances, and half
the mean square of the data's own score is {constant:g}. Both are least at the variance {best:g}, the data's.
""",
    verdict="holds",
    why="The divergence is taken from the data to the model, under the data's expectation: the notes name its arguments in the other order once.",
    measure=by_parts,
    draw=draw_by_parts,
    proof=lambda n: abs(n["gap"]["value"] - n["constant"]) < 0.02 and n["gap"]["error"] < 0.02 and n["best"] == 1,
    alt="Fisher divergence and score-matching loss over the model's variance: two curves of one shape, a constant apart",
    erratum=True,
    tiny={"draws": 200},
)


def cost(batch: int = 4, width: int = 32) -> Numbers:
    """Multiplications and additions of one gradient of each loss, by the dimension of x."""
    dimensions = [2, 4, 8, 16, 32, 64, 128]
    losses: dict[str, tuple[Loss, VE | Clean]] = {
        "exact": (ExactScoreMatching(), Clean()),
        "sliced": (SlicedScoreMatching(), Clean()),
        "denoising": (DenoisingScoreMatching(constant(0.0)), VE(0.1, 0.1)),
    }
    found: dict[str, list[int]] = {name: [] for name in losses}
    forward = []
    for d in dimensions:
        for name, (loss, process) in losses.items():
            model = ScoreNetwork(MLP((d,), width, 1), process)
            x = torch.randn(batch, d, generator=generator(0, "cost"))
            with Products() as products:
                loss(model, x, generator(0, "noise")).mean().backward()
            found[name].append(products.total // batch)
        with Products() as products, torch.no_grad():
            model.score(x, torch.zeros(()))
        forward.append(products.total // batch)
    ratios = {name: [each / one for each, one in zip(counts, forward, strict=True)] for name, counts in found.items()}
    return {"dimensions": dimensions, "width": width, "ratios": ratios}


def draw_cost(figure: "Figure", numbers: Numbers) -> None:
    """Operations in units of one evaluation of the network, over the dimension."""
    (axes,) = panels(figure)
    for (name, ratios), style in zip(numbers["ratios"].items(), ("o-", "s-", "^-"), strict=True):
        axes.plot(numbers["dimensions"], ratios, style, label=name)
    axes.set(xlabel="dimension d", ylabel="operations, in evaluations", xscale="log", yscale="log")
    axes.set_xticks(numbers["dimensions"], [str(d) for d in numbers["dimensions"]])
    axes.minorticks_off()
    round_ticks(axes.yaxis, 2, 1000, "{x:g}")
    axes.legend()


COST = Section(
    name="matching-cost",
    title="What the trace costs",
    claim="a trace is as many backward passes as x has values, and so expensive; denoising needs none.",
    text="""
Multiplications and additions of one training gradient, counted, in units of one evaluation of the same network (a perceptron of width {width}):

| d | exact | sliced, one direction | denoising |
|---|---|---|---|
| {dimensions[0]} | {ratios[exact][0]:.1f} | {ratios[sliced][0]:.1f} | {ratios[denoising][0]:.1f} |
| {dimensions[3]} | {ratios[exact][3]:.1f} | {ratios[sliced][3]:.1f} | {ratios[denoising][3]:.1f} |
| {dimensions[6]} | {ratios[exact][6]:.1f} | {ratios[sliced][6]:.1f} | {ratios[denoising][6]:.1f} |
""",
    verdict="holds",
    why="The exact trace costs a multiple of d evaluations; a random direction and denoising cost the same number of them in every dimension.",
    measure=cost,
    draw=draw_cost,
    proof=lambda n: (
        n["ratios"]["exact"][6] > 20 * n["ratios"]["exact"][0]
        and n["ratios"]["sliced"][6] < 2 * n["ratios"]["sliced"][0]
        and n["ratios"]["denoising"][6] < 4
    ),
    alt="Operations of one gradient over the dimension: exact score matching grows in proportion, sliced and denoising stay flat",
)
