"""Score-based models: fields, noise levels, annealed Langevin dynamics."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import Chapter, Numbers, Section, mean, panels
from lightning_gen.check.known import Gaussian, Mixture
from lightning_gen.data import Digits, Gaussians
from lightning_gen.families.ncsn import largest_distance, number_of_levels, overlap_of
from lightning_gen.losses import DenoisingScoreMatching, constant, levels
from lightning_gen.models import Denoiser
from lightning_gen.nets import MLP
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import plane
from lightning_gen.results.pictures.samplers import round_ticks
from lightning_gen.samplers import AnnealedLangevin, Langevin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

F64 = {"dtype": torch.float64}


def field(points: int = 20_000, grid: int = 15) -> Numbers:
    """The cosine between the score and the way to the nearest mean: round, long and several peaks."""
    noise, now = generator(0, "field"), torch.zeros(())
    round_, long = (Gaussian(Clean(), torch.zeros(2), torch.diag(torch.tensor(v))) for v in ([1.0, 1.0], [1.0, 0.04]))
    mixture, cosines = Mixture(Clean()), {}
    for name, model, means in (
        ("round", round_, torch.zeros(1, 2)),
        ("long", long, torch.zeros(1, 2)),
        ("mixture", mixture, mixture.means),
    ):
        x = model.clean(points, noise)
        cosines[name] = mean(torch.cosine_similarity(model.score(x, now), means.to(x)[nearest(x, means)] - x, 1))
    at = plane(2.0, grid)
    return {
        "points": points,
        "cosines": cosines,
        "at": at,
        "arrows": {"long": long.score(at, now), "mixture": mixture.score(at, now)},
        "means": mixture.means,
    }


def nearest(x: Tensor, means: Tensor) -> Tensor:
    """The index of the nearest mean of each x, (n,)."""
    return torch.cdist(x, means.to(x)).argmin(1)


def draw_field(figure: "Figure", numbers: Numbers) -> None:
    """Two score fields, their arrows of equal length."""
    for axes, (name, arrows), title in zip(
        panels(figure, 1, 2), numbers["arrows"].items(), ("a long peak", "three peaks"), strict=True
    ):
        arrows = torch.tensor(arrows)
        arrows = arrows / arrows.norm(dim=1, keepdim=True).clamp(min=1e-9)
        axes.quiver(*torch.tensor(numbers["at"]).T, *arrows.T, angles="xy", scale=18, width=0.006, color="C0")
        axes.plot(
            *zip(*(numbers["means"] if name == "mixture" else [(0, 0)]), strict=True), "P", color="C3", markersize=9
        )
        axes.set(aspect="equal", title=title)


FIELD = Section(
    name="score-field",
    title="Where the score points",
    claim="the score is the gradient of log p, and its direction is the way to the mode.",
    text="""
At {points:,} draws each, the mean cosine between the score and the way to the nearest mean: {cosines[round]:.3f} for a round Gaussian, {cosines[mixture]:.3f} for a mixture of
three round ones, {cosines[long]:.3f} for one Gaussian that is five times longer than wide. There the score goes up the steep side first.
""",
    verdict="holds with a condition",
    why="The score is the direction of steepest ascent; it is the way to the mode only where the density is round.",
    measure=field,
    draw=draw_field,
    proof=lambda n: n["cosines"]["round"]["value"] > 0.999 and n["cosines"]["long"]["value"] < 0.8,
    alt="Score fields of a long Gaussian, whose arrows do not point at its mode, and of a mixture of three, whose arrows part between the peaks",
    height=3.0,
    tiny={"points": 500},
)


def noised(draws: int = 200_000, sigma: float = 0.5) -> Numbers:
    """The loss of denoising score matching of s times the true score of the noised data, and of the clean data's."""
    process, now = VE(sigma, sigma), torch.zeros(())
    truth, noise = Mixture(process), generator(0, "noised")
    x = truth.clean(draws, noise)
    y = x + sigma * torch.randn(draws, 2, generator=noise, **F64)
    target, score, clean = (x - y) / sigma**2, truth.score(y, now), Mixture(Clean()).score(y, now)
    factors = [0.6, 0.8, 1.0, 1.2, 1.4]
    losses = [mean(0.5 * (factor * score - target).square().sum(1)) for factor in factors]
    loss = DenoisingScoreMatching(constant(0.0), "score", "sum")(truth, x, noise)
    return {
        "draws": draws,
        "sigma": sigma,
        "factors": factors,
        "losses": losses,
        "of_the_class": mean(loss),
        "of_clean": mean(0.5 * (clean - target).square().sum(1)),
        "error_noisy": mean((y - x).square().sum(1)),
        "error_denoised": mean((truth.denoise(y, now) - x).square().sum(1)),
    }


def draw_noised(figure: "Figure", numbers: Numbers) -> None:
    """The loss over the factor."""
    (axes,) = panels(figure)
    axes.plot(numbers["factors"], [each["value"] for each in numbers["losses"]], "o-")
    axes.set(xlabel="factor of the noised data's score", ylabel="loss", xticks=numbers["factors"])


NOISED = Section(
    name="denoising",
    title="Denoising score matching",
    claim="matching the score of the added noise gives the score of the noised data, not of the clean ones, and Tweedie's formula removes the noise.",
    text="""
On {draws:,} draws of a mixture with noise of σ = {sigma:g}, the loss of a multiple of the noised data's score is least at the factor {factors[2]:g}: {losses[2]}, beside {losses[1]} at
{factors[1]:g} and {losses[3]} at {factors[3]:g}. `DenoisingScoreMatching` gives {of_the_class}. The clean data's own score has a loss of {of_clean}. One step of Tweedie's formula takes the mean
squared error of the noisy points from {error_noisy} to {error_denoised}.
""",
    verdict="holds",
    why="The minimum is the score of the noised density; the gradient on the right of the notes' formula is that in the noised point.",
    measure=noised,
    draw=draw_noised,
    proof=lambda n: (
        n["losses"][2]["value"] == min(each["value"] for each in n["losses"])
        and n["of_clean"]["value"] > n["losses"][2]["value"]
        and n["error_denoised"]["value"] < n["error_noisy"]["value"]
    ),
    alt="The loss over a factor of the noised data's score: least at one",
    erratum=True,
    tiny={"draws": 500},
)


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
    proof=lambda n: abs(n["ends"][3]["value"] - n["noisy"]) < 0.06 and n["cleaned"][3]["value"] < 0.9 * n["variance"],
    alt="Variance of Langevin chains over the step size: it tends to that of the noised data, and after denoising to less than the data's",
    erratum=True,
    tiny={"chains": 100},
)


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
    numbers |= {"dense": {}, "sparse": {}, "map": {}}
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
        numbers["map"][name] = (learned(model, at.float()) - data.score(at, level**2)).norm(dim=1)
        if name == "several":
            t = torch.linspace(0, 1, count)
            sigmas = process.sigma(t.double()).tolist()
            numbers["sigmas"] = sigmas
            numbers["by_level"] = [
                relative(model, data, box.float(), sigma, float(one)) for sigma, one in zip(sigmas, t, strict=True)
            ]
    clean = data.score(near, 0.0)
    numbers["blur"] = float((data.score(near, high**2) - clean).square().sum() / clean.square().sum())
    return numbers


def learned(model: Denoiser, x: Tensor, t: float = 0.0) -> Tensor:
    """The model's score, (n, 2), float64."""
    with torch.no_grad():
        return model.score(x, torch.full((len(x),), t)).double()


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
Three networks of one shape learn the scores of eight clusters, {steps:,} steps each: with noise of σ = {low:g}, of {high:g}, and of {count} levels from one to the other. Relative
errors of the score, its error's mean square over that of the true score of the data with the same noise:

| trained with | among the data | far from them |
|---|---|---|
| σ = {low:g} | {dense[small]:.3f} | {sparse[small]:.2f} |
| σ = {high:g} | {dense[large]:.4f} | {sparse[large]:.4f} |
| {count} levels, read at the smallest | {dense[several]:.3f} | {sparse[several]:.2f} |

Among the data, too, the small noise is learned better together with the others. The large noise's score is learned well everywhere, but it is not that of the data: from theirs it differs by {blur:.2f} by the same measure. Of the network with several levels
the error far from the data is {by_level[11]:.4f} at the largest level, {by_level[6]:.3f} in the middle and {by_level[0]:.2f} at the smallest: a chain that comes down through the levels uses
each where it is good.
""",
    verdict="holds",
    why="Noise turns a wrong score of the data into a right one of blurred data, and the levels together lead from one to the other.",
    measure=fields_by_noise,
    draw=draw_fields_by_noise,
    proof=lambda n: (
        n["sparse"]["small"] > 10 * n["sparse"]["large"]
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
    proof=lambda n: n["spread"]["square"] < 100 < n["spread"]["root"] < n["spread"]["one"],
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

SCORES = Chapter(
    name="scores",
    title="Score-based models",
    intro="Scores learned from noised data, and chains that follow them.",
    sections=(FIELD, NOISED, LIMIT, FIELDS, WEIGHTS, OVERLAPS, ANNEALED),
)
