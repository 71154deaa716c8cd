"""Evaluating generative models: the quality of samples, and of latent representations."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.notes.book import Chapter, Numbers, Section, mean, panels
from lightning_gen.data import Digits
from lightning_gen.families.cost import Products
from lightning_gen.metrics import frechet_of_features, inception_score, kernel_distance, kernel_distance_all, moments
from lightning_gen.randomness import generator
from lightning_gen.representations.clustering import clustering
from lightning_gen.representations.disentanglement import beta_vae, dci, draw_factors, factor_vae, mig, modularity, sap
from lightning_gen.results.pictures.samplers import round_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

F64 = {"dtype": torch.float64}


def inception(images: int = 2000, classes: int = 10) -> Numbers:
    """The two factors of the score, by how many classes there are and how sure the classifier is."""
    noise, covered = generator(0, "inception"), list(range(1, classes + 1))
    rows: dict[str, list[float]] = {"sharpness": [], "diversity": [], "score": [], "notes": []}
    for count in covered:
        label = torch.randint(count, (images,), generator=noise)
        logits = 6.0 * torch.nn.functional.one_hot(label, classes) + torch.randn(images, classes, generator=noise)
        found = inception_score(logits, splits=1)
        rows["sharpness"].append(found.sharpness)
        rows["diversity"].append(found.diversity)
        rows["score"].append(found.value)
        rows["notes"].append(found.sharpness / found.diversity)
    unsure = inception_score(torch.randn(images, classes, generator=noise), splits=1)
    return {"images": images, "classes": classes, "covered": covered, "rows": rows} | {
        "unsure": {"sharpness": unsure.sharpness, "diversity": unsure.diversity, "score": unsure.value}
    }


def draw_inception(figure: "Figure", numbers: Numbers) -> None:
    """The factors over the number of classes."""
    (axes,) = panels(figure)
    labels = {
        "sharpness": "sharpness",
        "diversity": "diversity",
        "score": "their product",
        "notes": "with the notes' sign",
    }
    for (name, label), style in zip(labels.items(), ("o-", "s-", "^-", "x--"), strict=True):
        axes.plot(numbers["covered"], numbers["rows"][name], style, label=label)
    axes.set(xlabel="classes among the samples", ylabel="score")
    axes.legend()


INCEPTION = Section(
    name="inception-score",
    title="Sharpness and diversity",
    claim="the Inception Score is sharpness times diversity: a sure classifier, and many classes.",
    text="""
{images:,} simulated answers of a classifier of {classes} classes. With one class among the samples the score is {rows[score][0]:.2f}, with all {rows[score][9]:.2f}, the sharpness being
{rows[sharpness][9]:.3f} and the diversity {rows[diversity][9]:.2f}; of a classifier that guesses, with all classes, it is {unsure[score]:.2f}. As the notes write diversity, without the minus in the
exponent, the product falls from {rows[notes][0]:.2f} to {rows[notes][9]:.3f} as classes are added.
""",
    verdict="holds with a condition",
    why="With a minus in the exponent of diversity, which the notes leave out. Neither factor looks at the data: a repeated image of each class has the best score.",
    measure=inception,
    draw=draw_inception,
    proof=lambda n: n["rows"]["score"] == sorted(n["rows"]["score"]) and n["rows"]["notes"][9] < n["rows"]["notes"][0],
    alt="Sharpness, diversity and their product over the number of classes; with the notes' sign the product falls",
    erratum=True,
)


def biases(d: int = 32, rounds: int = 20) -> Numbers:
    """FID and KID of two sets of draws of one law, by their number."""
    counts = [32, 64, 128, 256, 512, 1024, 2048]
    fids, kids = [], []
    for n in counts:
        noise = generator(0, "bias", n)
        pairs = [torch.randn(2, n, d, generator=noise, **F64) for _ in range(rounds)]
        fids.append(mean(torch.tensor([frechet_of_features(x, *moments(y)) for x, y in pairs])))
        few = pairs if n <= 512 else pairs[:5]
        kids.append(mean(torch.tensor([1000 * kernel_distance_all(x, y).value for x, y in few])))
    slope = np.polyfit(np.log(counts), np.log([each["value"] for each in fids]), 1)[0]
    return {"d": d, "rounds": rounds, "counts": counts, "fids": fids, "kids": kids, "slope": float(slope)}


def draw_biases(figure: "Figure", numbers: Numbers) -> None:
    """FID and KID over the number of samples."""
    left, right = panels(figure, 2)
    for axes, key, name in ((left, "fids", "FID"), (right, "kids", "KID, in thousandths")):
        bars = [2 * each["error"] for each in numbers[key]]
        axes.errorbar(numbers["counts"], [each["value"] for each in numbers[key]], bars, fmt="o-", capsize=3)
        axes.set(xscale="log", ylabel=name)
        round_ticks(axes.xaxis, numbers["counts"][0], numbers["counts"][-1], "{x:g}")
    left.set(yscale="log")
    right.axhline(0, color="0.4", linestyle="--")
    right.set(xlabel="samples of each side")


BIASES = Section(
    name="fid-bias",
    title="The bias of FID, and KID without one",
    claim="FID cannot be negative and is biased; KID is unbiased.",
    text="""
Both sides are draws of one law in {d} dimensions, so that the true distance is zero. Over {rounds} repetitions FID is {fids[0]} with {counts[0]} samples of each, {fids[3]} with {counts[3]} and
{fids[6]} with {counts[6]:,}: it falls like their number to the power {slope:.2f}. A thousand times KID is {kids[0]}, {kids[3]} and {kids[6]}.
""",
    verdict="holds",
    why="FID's bias is several of its errors and depends on the number of samples, so only equal numbers compare; KID scatters about zero and is negative half of the time. FID is the square of the Wasserstein distance, KID that of MMD.",
    measure=biases,
    draw=draw_biases,
    proof=lambda n: (
        all(abs(kid["value"]) < 4 * kid["error"] for kid in n["kids"])
        and n["fids"][6]["value"] > 10 * n["fids"][6]["error"]
        and -1.3 < n["slope"] < -0.8
    ),
    alt="FID and KID of equal laws over the number of samples: FID falls like its inverse, KID stays about zero",
    height=4.6,
    erratum=True,
    tiny={"d": 4, "rounds": 2},
)


def costs(d: int = 64) -> Numbers:
    """Multiplications and additions of FID, of KID over all pairs, and of KID by subsets, by the number of samples."""
    counts = [250, 500, 1000, 2000, 4000]
    rows: dict[str, list[float]] = {"fid": [], "pairs": [], "subsets": []}
    for n in counts:
        x, y = torch.randn(2, n, d, generator=generator(0, "cost", n), **F64)
        for name in rows:
            with Products() as products:
                if name == "fid":
                    frechet_of_features(x, *moments(y))
                elif name == "pairs":
                    kernel_distance_all(x, y)
                else:
                    kernel_distance(x, y, generator(0, "subsets"), subsets=n // 125, size=125)
            rows[name].append(products.total / 1e6)
    powers = {name: float(np.polyfit(np.log(counts), np.log(each), 1)[0]) for name, each in rows.items()}
    return {"d": d, "counts": counts, "rows": rows, "powers": powers, "size": 125}


def draw_costs(figure: "Figure", numbers: Numbers) -> None:
    """Operations over the number of samples."""
    (axes,) = panels(figure)
    labels = {"fid": "FID", "pairs": "KID, all pairs", "subsets": "KID, subsets"}
    for (name, label), style in zip(labels.items(), ("o-", "s-", "^-"), strict=True):
        axes.plot(numbers["counts"], numbers["rows"][name], style, label=label)
    axes.set(xscale="log", yscale="log", xlabel="samples", ylabel="million operations of products")
    axes.set_xticks(numbers["counts"], [str(n) for n in numbers["counts"]])
    axes.minorticks_off()
    axes.legend()


COSTS = Section(
    name="fid-cost",
    title="What FID and KID cost",
    claim="FID takes time in proportion to the number of samples, KID to its square.",
    text="""
Operations of products, counted, of features in {d} dimensions, grow with the number of samples to the power {powers[fid]:.2f} for FID, {powers[pairs]:.2f} for KID over all pairs, and
{powers[subsets]:.2f} for KID over subsets of {size}, as many as the samples allow. At {counts[4]:,} samples they are {rows[fid][4]:.0f}, {rows[pairs][4]:,.0f} and {rows[subsets][4]:.0f} million.
""",
    verdict="holds with a condition",
    why="KID as it is published takes subsets of a fixed size, and then grows in proportion as well; FID has a term of the cubed dimension besides.",
    measure=costs,
    draw=draw_costs,
    proof=lambda n: n["powers"]["pairs"] > 1.9 and n["powers"]["fid"] < 1.1 and n["powers"]["subsets"] < 1.1,
    alt="Operations over the number of samples: KID over all pairs grows with their square, the others in proportion",
    erratum=True,
)


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
        n["pixels"]["v_measure"] > 0.5 > 0.05 > n["shuffled"] and n["many"]["homogeneity"] > n["pixels"]["homogeneity"]
    ),
    alt="Digits in the plane of their first two principal components, coloured by class: some lie apart, some overlap",
    tiny={"starts": 1},
)


def disentanglement(means: int = 500, rows: int = 400) -> Numbers:
    """Six measures of codes that are the factors, the factors turned by 45 degrees, and noise."""
    sizes, random = (5, 5, 5), np.random.default_rng(0)
    turn, _ = np.linalg.qr(np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 0.3], [0.4, 1.0, -1.2]]))

    def perfect(factors: np.ndarray) -> np.ndarray:
        return (factors - 2.0) / np.sqrt(2)

    kinds = {
        "perfect": perfect,
        "rotated": lambda factors: perfect(factors) @ turn,
        "random": lambda factors: random.standard_normal((len(factors), 3)),
    }
    found = {}
    for name, codes in kinds.items():
        train, test = (draw_factors(sizes, rows, random) for _ in range(2))
        x, y = codes(train), codes(test)
        found[name] = {
            "beta_vae": beta_vae(codes, sizes, random, train=means, evaluate=means),
            "factor_vae": factor_vae(codes, sizes, random, train=means, evaluate=means)[0],
            "mig": mig(x, train),
            "modularity": modularity(x, train),
            "sap": sap(x, train, y, test),
            "dci": dci(x, train, y, test).disentanglement,
        }
    return {"means": means, "rows": rows, "factors": len(sizes), "found": found}


MEASURES = {
    "beta_vae": "β-VAE",
    "factor_vae": "FactorVAE",
    "mig": "MIG",
    "modularity": "modularity",
    "sap": "SAP",
    "dci": "DCI",
}


def draw_disentanglement(figure: "Figure", numbers: Numbers) -> None:
    """A group of bars for each measure."""
    (axes,) = panels(figure)
    for i, (name, row) in enumerate(numbers["found"].items()):
        axes.barh([k + 0.27 * (i - 1) for k in range(len(row))], [row[key] for key in MEASURES], 0.25, label=name)
    axes.set_yticks(range(len(MEASURES)), list(MEASURES.values()))
    axes.invert_yaxis()
    axes.set(xlabel="measure", xlim=(0, 1.35))
    axes.legend(loc="center right")


DISENTANGLEMENT = Section(
    name="disentanglement",
    title="Measures of disentanglement",
    claim="several measures say whether each code follows one factor: β-VAE's, FactorVAE's, MIG, SAP, DCI, modularity.",
    text="""
{factors} independent factors of five values, and codes that are the factors themselves, their rotation, and noise ({rows} rows, {means} means or votes):

| measure | perfect | rotated | random |
|---|---|---|---|
| β-VAE | {found[perfect][beta_vae]:.2f} | {found[rotated][beta_vae]:.2f} | {found[random][beta_vae]:.2f} |
| FactorVAE | {found[perfect][factor_vae]:.2f} | {found[rotated][factor_vae]:.2f} | {found[random][factor_vae]:.2f} |
| MIG | {found[perfect][mig]:.2f} | {found[rotated][mig]:.2f} | {found[random][mig]:.2f} |
| modularity | {found[perfect][modularity]:.2f} | {found[rotated][modularity]:.2f} | {found[random][modularity]:.2f} |
| SAP | {found[perfect][sap]:.2f} | {found[rotated][sap]:.2f} | {found[random][sap]:.2f} |
| DCI | {found[perfect][dci]:.2f} | {found[rotated][dci]:.2f} | {found[random][dci]:.2f} |
""",
    verdict="holds with a condition",
    why="Each is largest for perfect codes, all but SAP near one (its linear classifier of a single code misses middle values); but on rotated codes they disagree, and β-VAE's hardly tells them from perfect ones.",
    measure=disentanglement,
    draw=draw_disentanglement,
    proof=lambda n: (
        all(n["found"]["perfect"][key] > 0.7 for key in MEASURES if key != "sap")
        and all(n["found"]["random"][key] < n["found"]["perfect"][key] for key in MEASURES)
        and n["found"]["rotated"]["beta_vae"] > 0.9
        and n["found"]["rotated"]["mig"] < 0.5
    ),
    alt="Six measures of disentanglement for perfect, rotated and random codes",
    height=3.8,
    tiny={"means": 20, "rows": 60},
)

QUALITY = Chapter(
    name="quality",
    title="Evaluating: samples and representations",
    intro="What samples look like beside the data, and what latent codes are good for.",
    sections=(INCEPTION, BIASES, COSTS, CLUSTERS, DISENTANGLEMENT),
)
