"""Score fields, and denoising score matching."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from lightning_gen.check.known import Gaussian, Mixture
from lightning_gen.losses import DenoisingScoreMatching, constant
from lightning_gen.process import VE, Clean
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.fields import plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        all(n["losses"][2]["value"] < n["losses"][i]["value"] - 4 * n["losses"][i]["error"] for i in (0, 1, 3, 4))
        and abs(n["of_the_class"]["value"] - n["losses"][2]["value"]) < 6 * n["of_the_class"]["error"]
        and n["of_clean"]["value"] > 2 * n["losses"][2]["value"]
        and n["error_denoised"]["value"] < 0.6 * n["error_noisy"]["value"]
    ),
    alt="The loss over a factor of the noised data's score: least at one",
    erratum=True,
    tiny={"draws": 500},
)
