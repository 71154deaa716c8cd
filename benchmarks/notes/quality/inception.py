"""The Inception Score, and what its classifier sees."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from benchmarks.notes.book import Numbers, Section, panels
from lightning_gen.data import Digits
from lightning_gen.metrics import ClassifierFeatures, inception_score
from lightning_gen.randomness import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def tiles(images: Tensor, columns: int) -> np.ndarray:
    """Images (n, H, W) side by side, with a white line between them."""
    padded = torch.nn.functional.pad(images.double(), (1, 1, 1, 1), value=float("nan")).numpy()
    return np.concatenate([np.concatenate(list(row), 1) for row in np.split(padded, len(padded) // columns)], 0)


def pictures(columns: int = 10, noise: float = 80.0) -> Numbers:
    """Sharpness and diversity of held-out digits, of one class of them, and of noised ones; the surest and the least sure."""
    data, features = Digits(), ClassifierFeatures()
    data.setup()
    features.prepare(data)
    split, draws = data.split("test"), generator(0, "pictures")
    digits, labels = split.images(slice(None)), split.labels(slice(None))
    noised = (digits + noise * torch.randn(digits.shape, generator=draws)).round().clamp(0, 255).byte()
    pure = torch.randint(256, digits.shape, generator=draws).byte()
    sets = {"digits": digits, "one": digits[labels == labels[0]], "noised": noised, "pure": pure}
    found: Numbers = {}
    for name, images in sets.items():
        logits = features.extract(images)[1]
        score, sure = inception_score(logits, splits=1), logits.softmax(1).amax(1)
        order = sure.argsort(descending=True, stable=True)
        found[name] = {
            "images": len(images),
            "sharpness": score.sharpness,
            "diversity": score.diversity,
            "score": score.value,
            "sure": float(sure.mean()),
            "counts": logits.argmax(1).bincount(minlength=10) / len(images),
            "surest": images[order[:columns], 0],
            "least": images[order[-columns:], 0],
        }
        if name == "digits":
            right, half = (logits.argmax(1) == labels)[order].double(), len(images) // 2
    return {
        "columns": columns,
        "noise": noise,
        "found": found,
        "digit": int(labels[0]),
        "right": {"surest": float(right[:half].mean()), "least": float(right[-columns:].mean())},
    }


SETS = {"digits": "digits", "one": "one digit", "noised": "noised", "pure": "noise"}


def draw_pictures(figure: "Figure", numbers: Numbers) -> None:
    """The surest and the least sure images of three sets, and the share of each class."""
    axes = panels(figure, 4, 2)
    for (name, title), left, right in zip(SETS.items(), axes[::2], axes[1::2], strict=True):
        row = numbers["found"][name]
        images = torch.tensor([*row["surest"], *row["least"]])
        left.imshow(tiles(images, numbers["columns"] // 2), cmap="gray", vmin=0, vmax=255)
        left.axis("off")
        left.set_title(f"{title}: surest, least sure")
        right.bar(range(10), row["counts"])
        right.set(ylim=(0, 1), title=f"S = {row['sharpness']:.2f}, D = {row['diversity']:.2f}")
        right.set_xticks(range(10))
    axes[-1].set_xlabel("class of the classifier")


PICTURES = Section(
    name="pictures",
    title="Sharp and diverse, as pictures",
    claim="samples are sharp if the classifier is sure of each one, and diverse if it finds all classes equally often.",
    text="""
A classifier that was trained on other digits looks at four sets. The figure has of each the {columns} images of which it is surest, below them the {columns} of which it is least sure,
and how often it says each class.

| images | sharpness | diversity | score |
|---|---|---|---|
| {found[digits][images]} digits | {found[digits][sharpness]:.3f} | {found[digits][diversity]:.2f} | {found[digits][score]:.2f} |
| the {found[one][images]} among them that are a {digit} | {found[one][sharpness]:.3f} | {found[one][diversity]:.2f} | {found[one][score]:.2f} |
| all with noise of {noise:g} grey levels | {found[noised][sharpness]:.3f} | {found[noised][diversity]:.2f} | {found[noised][score]:.2f} |
| noise alone | {found[pure][sharpness]:.3f} | {found[pure][diversity]:.2f} | {found[pure][score]:.2f} |

Of the digits that it is surest of, the first half, it names {right[surest]:.1%} rightly, of the {columns} that it is least sure of {right[least]:.0%}. Pure noise it takes for one of few classes, with a mean
certainty of {found[pure][sure]:.2f}.
""",
    verdict="holds with a condition",
    why="One class alone has lost diversity and nothing else, noised digits have lost sharpness most. But a classifier is surer of noise than it should be, as it has never seen any: sharpness says that it is sure, not that the image is sharp.",
    measure=pictures,
    draw=draw_pictures,
    proof=lambda n: (
        n["found"]["one"]["sharpness"] > 0.9 * n["found"]["digits"]["sharpness"]
        and n["found"]["one"]["diversity"] < 2 < 9 < n["found"]["digits"]["diversity"]
        and n["found"]["noised"]["sharpness"] < 0.8 * n["found"]["digits"]["sharpness"]
        and n["found"]["pure"]["sure"] > 0.5
        and n["right"]["least"] < n["right"]["surest"]
    ),
    alt="The surest and the least sure images of four sets, and how often the classifier says each class: one bar for one class, all for digits",
    height=7.0,
)
