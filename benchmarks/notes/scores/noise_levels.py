"""Several noise levels: why, with which factors, and how many."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, panels
from lightning_gen.check.known import Mixture
from lightning_gen.data import Digits, Gaussians
from lightning_gen.families.ncsn import largest_distance, number_of_levels, overlap_of
from lightning_gen.losses import DenoisingScoreMatching, constant, levels
from lightning_gen.models import Denoiser
from lightning_gen.nets import MLP
from lightning_gen.process import VE
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import plane
from lightning_gen.results.pictures.samplers import round_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fields_by_noise(steps: int = 1500, width: int = 128) -> Numbers:
    """The relative error of learned scores by region, of networks with a small noise, a large one, and several."""
    data = Gaussians()
    data.setup()
    x, test = (data.split(name).take(slice(None)) for name in ("train", "test"))
    low, high, count = 0.05, 1.5, 12
    kinds = {"small": VE(low, low), "large": VE(high, high), "several": VE(low, high, levels=count)}
    at = plane(2.5, 41)
    numbers: Numbers = {
        "steps": steps,
        "low": low,
        "high": high,
        "count": count,
        "side": 41,
        "density": data.log_density(at, low**2),
    }
    numbers |= {"dense": {}, "sparse": {}, "lengths": {}, "map": {}}
    box = at[torch.cdist(at, test.double()).min(1).values > 5 * data.noise]
    for name, process in kinds.items():
        torch.manual_seed(0)
        model = Denoiser(MLP((2,), width, 3, scale=4.0), process, "noise")
        loss = DenoisingScoreMatching(levels(count, first=0) if name == "several" else constant(0.0), "simple", "sum")
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for step in range(steps):
            noise = generator(0, "train", step)
            optimizer.zero_grad()
            loss(model, x[torch.randint(len(x), (256,), generator=noise)], noise).mean().backward()
            optimizer.step()
            schedule.step()
        level = high if name == "large" else low
        near = test + level * torch.randn(test.shape, generator=generator(0, "test"))
        numbers["dense"][name] = relative(model, data, near, level)
        numbers["sparse"][name] = relative(model, data, box.float(), level)
        numbers["lengths"][name] = [length(model, data, x, level) for x in (near, box.float())]
        numbers["map"][name] = (learned(model, at.float()) - data.score(at, level**2)).norm(dim=1)
        if name == "several":
            t = torch.linspace(0, 1, count)
            sigmas = process.sigma(t.double()).tolist()
            numbers["sigmas"] = sigmas
            numbers["by_level"] = [
                relative(model, data, box.float(), sigma, float(one)) for sigma, one in zip(sigmas, t, strict=True)
            ]
    clean = data.score(test, 0.0)
    numbers["blur"] = float((data.score(test, high**2) - clean).square().sum() / clean.square().sum())
    return numbers


def learned(model: Denoiser, x: Tensor, t: float = 0.0) -> Tensor:
    """The model's score, (n, 2), float64."""
    with torch.no_grad():
        return model.score(x, torch.full((len(x),), t)).double()


def length(model: Denoiser, data: Gaussians, x: Tensor, sigma: float) -> float:
    """The root mean square length of s - s* over the points, s* the score of the data with noise sigma."""
    return float((learned(model, x) - data.score(x, sigma**2)).square().sum(1).mean().sqrt())


def relative(model: Denoiser, data: Gaussians, x: Tensor, sigma: float, t: float = 0.0) -> float:
    """E||s - s*||^2 / E||s*||^2 over the points, s* the score of the data with noise sigma."""
    true = data.score(x, sigma**2)
    return float((learned(model, x, t) - true).square().sum() / true.square().sum())


def draw_fields_by_noise(figure: "Figure", numbers: Numbers) -> None:
    """The length of the error of each network in the plane; the errors far from the data by noise level."""
    from matplotlib.colors import LogNorm

    *maps, last = panels(figure, 2, 2)
    titles = {"small": "small noise", "large": "large noise", "several": "several, at the smallest"}
    for axes, (name, miss) in zip(maps, numbers["map"].items(), strict=True):
        image = torch.tensor(miss).view(numbers["side"], numbers["side"])
        shown = axes.imshow(image, origin="lower", extent=(-2.5, 2.5, -2.5, 2.5), norm=LogNorm(0.05, 500), cmap="magma")
        axes.set_title(titles[name])
        axes.grid(False)
    figure.colorbar(shown, ax=axes, label="length of the error")
    last.plot(numbers["sigmas"], numbers["by_level"], "o-")
    last.set(xscale="log", yscale="log", xlabel="noise level σ", title="far from data")
    round_ticks(last.xaxis, 0.05, 1.5, "{x:g}")


FIELDS = Section(
    name="noise-levels",
    title="Low density, noise, and several noises",
    claim="where there are few data a score is learned badly; more noise mends that but blurs the data; so all levels are learned together.",
    text="""
Three networks of one shape, one of each, learn the scores of eight clusters, {steps:,} steps each: with noise of σ = {low:g}, of {high:g}, and of {count} levels from one to the other. The root mean square length
of the score's error, and its mean square over that of the true score of the data with the same noise:

| trained with | length, among the data | far from them | relative, among the data | far from them |
|---|---|---|---|---|
| σ = {low:g} | {lengths[small][0]:.3g} | {lengths[small][1]:.3g} | {dense[small]:.3f} | {sparse[small]:.2f} |
| σ = {high:g} | {lengths[large][0]:.2g} | {lengths[large][1]:.2g} | {dense[large]:.4f} | {sparse[large]:.4f} |
| {count} levels, read at the smallest | {lengths[several][0]:.3g} | {lengths[several][1]:.3g} | {dense[several]:.3f} | {sparse[several]:.2f} |

Among the data, too, the small noise is learned better together with the others. The large noise's score is learned well everywhere, but it is not that of the data: from theirs, at test points, it differs by {blur:.2f} by the relative measure. Of the network with several levels
the error far from the data is {by_level[11]:.4f} at the largest level, {by_level[6]:.3f} in the middle and {by_level[0]:.2f} at the smallest: a chain that comes down through the levels uses
each where it is good.
""",
    verdict="holds",
    why="Noise turns a wrong score of the data into a right one of blurred data, and the levels together lead from one to the other.",
    measure=fields_by_noise,
    draw=draw_fields_by_noise,
    proof=lambda n: (
        n["lengths"]["small"][1] > 5 * n["lengths"]["small"][0]
        and n["sparse"]["small"] > 10 * n["sparse"]["large"]
        and max(n["dense"]["large"], n["sparse"]["large"]) < 0.01
        and n["dense"]["several"] < 0.5 * n["dense"]["small"]
        and n["by_level"][11] < 0.1 * n["by_level"][0]
        and n["blur"] > 0.5
    ),
    alt="Error of three learned score fields in the plane, and of one of them far from the data by its noise level: the more noise, the smaller",
    height=5.0,
    tiny={"steps": 3, "width": 16},
    minutes=2,
)


def weights(draws: int = 20_000, count: int = 10) -> Numbers:
    """What each noise level adds to the loss of the exact score, by the factor lambda."""
    process = VE(0.01, 5.0)
    truth, noise = Mixture(process), generator(0, "weights")
    times = torch.linspace(0, 1, count, **F64)
    sigmas, x = process.sigma(times).tolist(), truth.clean(draws, noise)
    rows: dict[str, list[float]] = {}
    for name, weight in (("one", "score"), ("square", "simple")):
        rows[name] = [
            float(DenoisingScoreMatching(constant(float(t)), weight, "sum")(truth, x, noise).mean()) for t in times
        ]
    rows["root"] = [sigma * each for sigma, each in zip(sigmas, rows["one"], strict=True)]
    spread = {name: max(each) / min(each) for name, each in rows.items()}
    return {"draws": draws, "count": count, "sigmas": sigmas, "rows": rows, "spread": spread}


def draw_weights(figure: "Figure", numbers: Numbers) -> None:
    """The loss at each level for three factors."""
    (axes,) = panels(figure)
    for (name, label), style in zip(
        {"one": "λ = 1", "root": "λ = σ", "square": "λ = σ²"}.items(), ("o-", "s-", "^-"), strict=True
    ):
        axes.plot(numbers["sigmas"], numbers["rows"][name], style, label=label)
    axes.set(xscale="log", yscale="log", xlabel="noise level σ", ylabel="least loss of the level")
    axes.legend()


WEIGHTS = Section(
    name="level-weights",
    title="The factor of each level",
    claim="with the square of the noise level as its factor, no level outweighs the others in the sum.",
    text="""
The exact score of a mixture has the least loss that a network could reach. Over {count} levels from {sigmas[0]:g} to {sigmas[9]:g} the largest term of the sum is {spread[one]:.0f} times the
smallest without a factor, {spread[root]:.0f} times with σ, and {spread[square]:.1f} times with σ², where it falls at the large levels only, whose noise can be told from the data.
""",
    verdict="holds",
    why="A power other than the second leaves the sum to one end of the levels. In the notes' formula the sum runs over l and its terms over i: one index is meant.",
    measure=weights,
    draw=draw_weights,
    proof=lambda n: (
        n["spread"]["square"] < 50 < 1000 < n["spread"]["root"] < n["spread"]["one"]
        and max(n["rows"]["square"][:4]) < 1.1 * min(n["rows"]["square"][:4])
        and n["rows"]["square"][9] == min(n["rows"]["square"])
    ),
    alt="The least loss of each noise level for three factors: with the square of the level it is nearly flat",
    erratum=True,
    tiny={"draws": 200},
)


def overlaps() -> Numbers:
    """The overlap of neighbours for published levels, and the levels that an overlap of one half needs."""
    data = Digits()
    data.setup()
    x = data.encode(data.split("train").images(slice(None)))
    farthest, _ = largest_distance(x.flatten(1))
    counts = [5, 10, 20, 50, 100, 200, 500, 1000]
    curves = {str(d): [overlap_of((50 / 0.01) ** (1 / (n - 1)), d) for n in counts] for d in (2, 64, 784, 3072)}
    return {
        "counts": counts,
        "curves": curves,
        "first": overlap_of((1 / 0.01) ** (1 / 9), 3072),
        "second": overlap_of((50 / 0.01) ** (1 / 231), 3072),
        "levels": [10, 232],
        "farthest": farthest,
        "dimension": x[0].numel(),
        "needed": number_of_levels(0.01, farthest, x[0].numel()),
        "needed_plane": number_of_levels(0.01, farthest, 2),
        "needed_cifar": number_of_levels(0.01, 50.0, 3072),
        "target": 0.5,
    }


def draw_overlaps(figure: "Figure", numbers: Numbers) -> None:
    """The overlap over the number of levels, by dimension."""
    (axes,) = panels(figure)
    for d, curve in numbers["curves"].items():
        axes.plot(numbers["counts"], curve, "o-", markersize=4, label=f"d = {d}")
    axes.axhline(numbers["target"], color="0.4", linestyle="--")
    axes.set(xscale="log", xlabel="levels from 50 to 0.01", ylabel="overlap of neighbours")
    round_ticks(axes.xaxis, 5, 1000, "{x:g}")
    axes.legend()


OVERLAPS = Section(
    name="level-overlap",
    title="How many levels",
    claim="the largest level is the largest distance between data, neighbours in a geometric sequence overlap, and so chains pass from one to the next.",
    text="""
The largest distance between two of scikit-learn's digits ({dimension} values) is {farthest:.2f}. How much neighbours overlap depends on the dimension as much as on the ratio: the
{levels[0]} levels of the first NCSN, a geometric sequence, overlap by {first:.4f} in the dimension of CIFAR's images, the {levels[1]} of the second by {second:.3f}. For an overlap of a half the
digits need {needed} levels, the same range in the plane {needed_plane}, and CIFAR's images {needed_cifar}.
""",
    verdict="holds with a condition",
    why="A geometric sequence is not enough: the number of levels has to grow with the root of the dimension.",
    measure=overlaps,
    draw=draw_overlaps,
    proof=lambda n: n["first"] < 1e-4 < n["second"] and n["needed_plane"] < n["needed"] < n["needed_cifar"],
    alt="Overlap of neighbouring noise levels over their number: the more dimensions, the more levels it takes",
    erratum=True,
)
