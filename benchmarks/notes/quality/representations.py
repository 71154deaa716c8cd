"""Latent codes: clusters, and rate and distortion."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.notes.book import Numbers, Section, panels
from benchmarks.rate_distortion import BETAS, curve, rate_and_distortion, trained
from lightning_gen.data import Digits
from lightning_gen.randomness import generator
from lightning_gen.representations.clustering import clustering, linear_probe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def clusters(starts: int = 3) -> Numbers:
    """K-means on digits: by pixels, by their principal components, and with labels at random."""
    data = Digits()
    data.setup()
    split = data.split("train")
    x = data.encode(split.images(slice(None))).flatten(1).double()
    labels = split.labels(slice(None)).numpy()
    rows = {"pixels": clustering(x.numpy(), labels, 10, starts=starts)}
    middle = x - x.mean(0)
    _, _, axes = torch.linalg.svd(middle, full_matrices=False)
    sizes = [2, 5, 10, 20]
    codes = {k: middle @ axes[:k].T for k in sizes}
    values = [clustering(codes[k].numpy(), labels, 10, starts=starts).v_measure for k in sizes]
    shuffled = labels[torch.randperm(len(labels), generator=generator(0, "labels")).numpy()]
    many = clustering(x.numpy(), labels, 30, starts=starts)
    return {
        "digits": len(x),
        "sizes": sizes,
        "values": values,
        "pixels": rows["pixels"]._asdict(),
        "many": many._asdict(),
        "shuffled": clustering(x.numpy(), shuffled, 10, starts=starts).v_measure,
        "points": codes[2][:600],
        "labels": labels[:600].tolist(),
    }


def draw_clusters(figure: "Figure", numbers: Numbers) -> None:
    """The digits in the plane of their first two components."""
    (axes,) = panels(figure)
    points, labels = np.array(numbers["points"]), np.array(numbers["labels"])
    for digit in range(10):
        axes.plot(*points[labels == digit].T, ".", color=f"C{digit}", label=str(digit))
    axes.set(xlabel="first component", ylabel="second component", xlim=(-5, 7.5))
    axes.legend(ncols=2, loc="center right", handletextpad=0.1)


CLUSTERS = Section(
    name="clusters",
    title="Clusters in a latent space",
    claim="codes that fall into clusters, one or several to a class, are useful, and labels are needed for the judgement alone.",
    text="""
K-means of {digits:,} digits without their labels. In the space of pixels ten clusters have a homogeneity of {pixels[homogeneity]:.3f}, a completeness of {pixels[completeness]:.3f} and a V-measure of
{pixels[v_measure]:.3f}; by labels at random it would be {shuffled:.3f}. Three clusters to a class are purer, {many[homogeneity]:.3f}, and less complete, {many[completeness]:.3f}. Of the first {sizes[0]}, {sizes[1]}, {sizes[2]}
and {sizes[3]} principal components the V-measure is {values[0]:.3f}, {values[1]:.3f}, {values[2]:.3f} and {values[3]:.3f}.
""",
    verdict="holds",
    why="A few components keep nearly all of the clusters that the pixels have; two do not.",
    measure=clusters,
    draw=draw_clusters,
    proof=lambda n: (
        n["pixels"]["v_measure"] > 0.5 > 0.05 > n["shuffled"]
        and n["many"]["homogeneity"] > n["pixels"]["homogeneity"]
        and n["many"]["completeness"] < n["pixels"]["completeness"]
        and n["values"][0] < 0.8 * n["pixels"]["v_measure"] < 0.9 * n["pixels"]["v_measure"] < n["values"][2]
    ),
    alt="Digits in the plane of their first two principal components, coloured by class: some lie apart, some overlap",
    tiny={"starts": 1},
)


def latents(steps: int = 800, starts: int = 3) -> Numbers:
    """Classes in the means of a trained VAE's encoder, in pixels, and in as many principal components."""
    data = Digits(binarise="fixed", value_range=(0.0, 1.0))
    data.setup()
    x, test = (data.encode(data.split(name).images(slice(None))) for name in ("train", "test"))
    labels, others = (data.split(name).labels(slice(None)).numpy() for name in ("train", "test"))
    middle = x.flatten(1).mean(0)
    _, _, axes = torch.linalg.svd(x.flatten(1) - middle, full_matrices=False)
    codes = {"pixels": (x.flatten(1), test.flatten(1))}
    for name, model in (("untrained", trained(x, 1.0, 0)), ("vae", trained(x, 1.0, steps))):
        codes[name] = tuple(model.posterior(each)[0].detach() for each in (x, test))
    size = codes["vae"][0].shape[1]
    codes["components"] = tuple((each.flatten(1) - middle) @ axes[:size].T for each in (x, test))
    found: Numbers = {}
    for name, pair in codes.items():
        own, new = (each.double().numpy() for each in pair)
        probe = linear_probe(own, labels, new, others)
        found[name] = clustering(own, labels, 10, starts=starts)._asdict()
        found[name]["probe"] = {"value": probe.accuracy, "error": probe.error}
    means = codes["vae"][0] - codes["vae"][0].mean(0)
    plane = means @ torch.linalg.svd(means, full_matrices=False)[2][:2].T
    return {"steps": steps, "latent": size, "digits": len(x), "found": found} | {
        "points": plane[:600],
        "labels": labels[:600].tolist(),
    }


KINDS = {"pixels": "pixels", "components": "components", "untrained": "VAE, untrained", "vae": "VAE, trained"}


def draw_latents(figure: "Figure", numbers: Numbers) -> None:
    """The means of digits in the plane where they spread most; V-measure and accuracy of four codes."""
    plane, bars = panels(figure, 2)
    points, labels = np.array(numbers["points"]), np.array(numbers["labels"])
    for digit in range(10):
        plane.plot(*points[labels == digit].T, ".", color=f"C{digit}", label=str(digit))
    plane.set(xlabel="first component of the means", ylabel="second", xlim=(None, 2.1 * points[:, 0].max()))
    plane.legend(ncols=2, loc="center right", handletextpad=0.1)
    rows = [numbers["found"][name] for name in KINDS]
    bars.barh([i - 0.2 for i in range(4)], [row["v_measure"] for row in rows], 0.38, label="V-measure")
    bars.barh([i + 0.2 for i in range(4)], [row["probe"]["value"] for row in rows], 0.38, label="linear accuracy")
    bars.set_yticks(range(4), list(KINDS.values()))
    bars.invert_yaxis()
    bars.set(xlim=(0, 1.6))
    bars.legend(loc="center right")


LATENTS = Section(
    name="latent-clusters",
    title="Clusters of a model's codes",
    claim="a model of digits that was trained without labels puts them into clusters by what they show.",
    text="""
A VAE of {latent} latent variables learns {digits:,} binarised digits in {steps} steps, without labels. Classes in the means of its encoder, by k-means of ten clusters and by a linear classifier that is
judged on held-out digits:

| codes | homogeneity | completeness | V-measure | linear accuracy |
|---|---|---|---|---|
| pixels | {found[pixels][homogeneity]:.3f} | {found[pixels][completeness]:.3f} | {found[pixels][v_measure]:.3f} | {found[pixels][probe]:.3f} |
| {latent} principal components | {found[components][homogeneity]:.3f} | {found[components][completeness]:.3f} | {found[components][v_measure]:.3f} | {found[components][probe]:.3f} |
| VAE before training | {found[untrained][homogeneity]:.3f} | {found[untrained][completeness]:.3f} | {found[untrained][v_measure]:.3f} | {found[untrained][probe]:.3f} |
| VAE | {found[vae][homogeneity]:.3f} | {found[vae][completeness]:.3f} | {found[vae][v_measure]:.3f} | {found[vae][probe]:.3f} |
""",
    verdict="holds with a condition",
    why="Training brings the classes out of the codes, but the same clusters are in the pixels already, and in as many principal components: the model has found them, not made them.",
    measure=latents,
    draw=draw_latents,
    proof=lambda n: (
        n["found"]["vae"]["v_measure"] > max(0.5, n["found"]["untrained"]["v_measure"] + 0.2)
        and all(
            abs(n["found"][name]["v_measure"] - n["found"]["vae"]["v_measure"]) < 0.05
            for name in ("pixels", "components")
        )
    ),
    alt="Means of digits in the plane where a VAE's codes spread most, coloured by class, and V-measure and accuracy of four codes",
    height=6.0,
    tiny={"steps": 2, "starts": 1},
)


def rates(steps: int = 1200) -> Numbers:
    """Rate, distortion and wrong pixels of held-out digits, of a VAE for each beta."""
    data = Digits(binarise="fixed", value_range=(0.0, 1.0))
    data.setup()
    x, held_out = (data.encode(data.split(name).images(slice(None))) for name in ("train", "test"))
    found: Numbers = {"rate": [], "distortion": [], "sum": [], "wrong": []}
    for beta in BETAS:
        model = trained(x, beta, steps)
        rate, distortion = rate_and_distortion(model, held_out)
        with torch.no_grad():
            again = model.visible(model.posterior(held_out)[0]) > 0.5
        for name, value in zip(
            found, (rate, distortion, rate + distortion, float((again != held_out).double().mean())), strict=True
        ):
            found[name].append(value)
    least = int(np.argmin(found["sum"]))
    return {"steps": steps, "betas": list(BETAS), "least": BETAS[least], "latent": model.latent} | found


def draw_rates(figure: "Figure", numbers: Numbers) -> None:
    """Distortion over rate, and wrong pixels over rate."""
    above, below = panels(figure, 2)
    curve(above, dict(zip(numbers["betas"], zip(numbers["rate"], numbers["distortion"], strict=True), strict=True)))
    below.plot(numbers["rate"], [100 * each for each in numbers["wrong"]], "o-")
    below.set(xlabel="rate R, nats an image", ylabel="wrong pixels, %", ylim=(0, None))
    below.set_xlim(above.get_xlim())


RATES = Section(
    name="rate-distortion",
    title="Rate and distortion",
    claim="codes are judged by how far they compress before the reconstruction suffers.",
    text="""
A VAE of {latent} latent variables for each β, {steps:,} steps on binarised digits, measured on held-out ones. The rate R is what a code of z takes, the distortion D what x takes when z is known:

| β | R, nats | D, nats | R + D | wrong pixels |
|---|---|---|---|---|
| {betas[0]:g} | {rate[0]:.2f} | {distortion[0]:.2f} | {sum[0]:.2f} | {wrong[0]:.1%} |
| {betas[1]:g} | {rate[1]:.2f} | {distortion[1]:.2f} | {sum[1]:.2f} | {wrong[1]:.1%} |
| {betas[2]:g} | {rate[2]:.2f} | {distortion[2]:.2f} | {sum[2]:.2f} | {wrong[2]:.1%} |
| {betas[3]:g} | {rate[3]:.2f} | {distortion[3]:.2f} | {sum[3]:.2f} | {wrong[3]:.1%} |
| {betas[4]:g} | {rate[4]:.2f} | {distortion[4]:.2f} | {sum[4]:.2f} | {wrong[4]:.1%} |
| {betas[5]:g} | {rate[5]:.2f} | {distortion[5]:.2f} | {sum[5]:.2f} | {wrong[5]:.1%} |

From the first β to the third the code loses more than half of its length and the images hardly anything; from there on they suffer. R + D, minus the ELBO, is least at β = {least:g}, where it
is what is trained.
""",
    verdict="holds",
    why="There is such a compression, and a knee after it. But the best model of the data, by R + D, is one that has lost details of the image: the two ends differ.",
    measure=rates,
    draw=draw_rates,
    proof=lambda n: (
        n["rate"] == sorted(n["rate"], reverse=True)
        and n["distortion"] == sorted(n["distortion"])
        and n["rate"][2] < n["rate"][0] / 2
        and n["wrong"][2] - n["wrong"][0] < 0.005
        and n["wrong"][3] > n["wrong"][2] + 0.02
        and n["least"] == 1
    ),
    alt="Distortion over rate for six betas, a falling curve above the line of the least sum, and the share of wrong pixels over the rate",
    height=6.4,
    tiny={"steps": 2},
    minutes=2,
)
