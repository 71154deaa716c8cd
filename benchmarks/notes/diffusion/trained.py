"""The chain of a trained network, from images to noise and back."""

from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml
from torch import Tensor

from benchmarks.notes.book import F64, Numbers, Section, mean, panels
from benchmarks.notes.recipes import as_images, text, trained
from lightning_gen.data import Digits
from lightning_gen.metrics import ClassifierFeatures, frechet_of_features, moments
from lightning_gen.metrics.distances import nearest
from lightning_gen.metrics.memorisation import memorised_distances
from lightning_gen.randomness import generator
from lightning_gen.samplers import Ancestral

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = text("experiment/ddpm_digits", "net/unet_digits", "data/digits")
TIMES = [0.0, 0.05, 0.1, 0.2, 0.4, 1.0]


def distances(x: Tensor, train: Tensor) -> Tensor:
    """The Euclidean distance of each image to the nearest training image, (n,)."""
    return nearest(x.flatten(1), train.flatten(1))[0][:, 0].sqrt()


def last_noise(alpha: float, x: Tensor, draws: int = 20) -> Numbers:
    """What tells x_T = alpha x_0 + sqrt(1 - alpha^2) z from N(0, I): mean and variance of a value, and the KL divergence."""
    z = torch.randn(draws, *x.shape, generator=generator(0, "last"), **F64)
    values = alpha * x + (1 - alpha**2) ** 0.5 * z
    kl = 0.5 * (alpha**2 * (x.flatten(1).square().sum(1) - x[0].numel()) - x[0].numel() * np.log1p(-(alpha**2)))
    return {"alpha": alpha, "mean": mean(values.flatten()), "variance": mean(values.flatten().square()), "kl": mean(kl)}


def trained_strips(
    steps: int = yaml.safe_load(RECIPE)["trainer"]["max_steps"],
    chain: int = 100,
    sets: int = 3,
    size: int = 360,
    shown: int = 4,
) -> Numbers:
    """A DDPM of the digits, trained by its recipe: the way to noise, and sets of samples on the way back."""
    data, features, noise = Digits(), ClassifierFeatures(), generator(0, "trained")
    data.setup()
    features.prepare(data)
    train, test = (data.encode(data.split(name).images(slice(None))) for name in ("train", "test"))
    module = trained("ddpm_digits", f"trainer.max_steps={steps}")
    model, process = module.averaged, module.averaged.process
    sampler = Ancestral("small", steps=chain, clip=(-1.0, 1.0))
    z = torch.randn(train[:shown].shape, generator=noise)
    forward = [process.perturb(train[:shown], torch.full((shown,), t), z) for t in TIMES]
    reference = moments(features.extract(data.split("train").images(slice(None)))[0])

    def fid(x: Tensor) -> float:
        return frechet_of_features(features.extract(as_images(module, x))[0], *reference)

    ends, back = [], []
    for i in range(sets):
        source = generator(i, "back")
        with torch.no_grad():
            states = list(sampler.trajectory(model, sampler.start(model, (size, 1, 8, 8), source), source))
            if i == 0:
                back = [states[round((1 - t) * chain)][:shown] for t in TIMES[::-1]]
                later = zip(back[:-1], TIMES[:0:-1], strict=True)
                means = [model.denoise(x, torch.full((shown,), t)).clamp(-1, 1) for x, t in later]
        ends.append(states[-1])
    held_out, near = distances(test, train), [distances(x, train) for x in ends]
    copied = memorised_distances(torch.cat(near), held_out, noise)
    return {
        "steps": steps,
        "parameters": sum(p.numel() for p in module.model.parameters()),
        "chain": chain,
        "whole": process.steps,
        "sets": sets,
        "size": size,
        "digits": len(train),
        "times": TIMES,
        "last": last_noise(float(process.alpha(torch.ones((), **F64))), train.double()),
        "fid": mean(torch.tensor([fid(x) for x in ends])),
        "fid_held_out": fid(test),
        "fid_noise": fid(torch.randn(size, 1, 8, 8, generator=noise)),
        "near": mean(torch.stack([each.median() for each in near])),
        "near_held_out": float(held_out.median()),
        "copied": {"value": copied.share, "error": copied.error},
        "share": 0.05,
        "range": [float(ends[0].min()), float(ends[0].max())],
        "forward": tenths(torch.stack(forward)),
        "backward": tenths(torch.stack(back)),
        "means": tenths(torch.stack([*means, back[-1]])),
    }


def tenths(images: Tensor) -> list:
    """Grey values of a figure, (times, n, 1, 8, 8), to a hundredth, which no eye tells apart."""
    return (images[:, :, 0].double() * 100).round().div(100).tolist()


def draw_trained_strips(figure: "Figure", numbers: Numbers) -> None:
    """Three blocks of digits over time, in one grey scale."""
    titles = {"forward": "forward: x at time t", "backward": "back: x at time t", "means": "back: E[x at 0 | x at t]"}
    axes = panels(figure, 3)
    for each, (key, title) in zip(axes, titles.items(), strict=True):
        tiles = np.array(numbers[key])[:, :3]
        tiles = np.pad(tiles, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        picture = np.concatenate([np.concatenate(list(column), 0) for column in tiles], 1)
        shown = each.imshow(picture, cmap="gray", vmin=-1.5, vmax=1.5)
        times = numbers["times"] if key == "forward" else numbers["times"][::-1]
        each.set_xticks([10 * i + 4.5 for i in range(len(times))], [f"{t:g}" for t in times])
        each.set(title=title, yticks=[])
        each.grid(False)
    figure.colorbar(shown, ax=axes, orientation="horizontal", shrink=0.6, pad=0.06)


TRAINED_STRIPS = Section(
    name="trained-strips",
    title="From images to noise and back, by a trained network",
    claim="images become noise of a normal law step by step, and a trained reverse process takes draws of that law to new images.",
    text="""
`python run.py experiment=ddpm_digits` trains a U-Net of {parameters:,} parameters for {steps:,} steps on {digits:,} digits, on a chain of {whole:,} steps. Above: digits at growing times t, in units of the chain. Below:
samples of `Ancestral` on their way back, in {chain} steps, and under them what the network takes for their end at each time, clipped to the range of the data, all in one grey scale. At the start that says nothing: the network's
error is divided by the factor of the image, {last[alpha]:.4f}, and the clipping makes black and white of it.

The end of the way to noise can hardly be told from its law. The mean of a value is {last[mean]} and its mean square {last[variance]}; the Kullback–Leibler divergence of an image's end from N(`0`, I) is {last[kl]} nats in all
its values. So the way back may begin at draws of N(`0`, I). Its ends, {sets} sets of {size} samples:

| images | FID, of a classifier's features | median distance to the nearest training digit |
|---|---|---|
| samples | {fid} | {near} |
| {size} held-out digits | {fid_held_out:.2f} | {near_held_out:.2f} |
| noise | {fid_noise:.0f} | |

Of the samples {copied:.1%} are nearer to a training digit than all but the nearest {share:.0%} of the held-out digits are.
""",
    verdict="holds",
    why="The samples are digits, near to those of the training set, and they are new: they keep the distance that held-out digits have, where the exact chain of the section before ends in copies.",
    measure=trained_strips,
    draw=draw_trained_strips,
    proof=lambda n: (
        n["last"]["kl"]["value"] < 0.01
        and abs(n["last"]["mean"]["value"]) < 0.01
        and abs(n["last"]["variance"]["value"] - 1) < 0.01
        and n["fid"]["value"] < 3 * n["fid_held_out"] < 0.05 * n["fid_noise"]
        and abs(n["near"]["value"] / n["near_held_out"] - 1) < 0.1
        and n["copied"]["value"] - n["share"] < 4 * n["copied"]["error"] < n["share"]
    ),
    alt="Three digits that dissolve into noise, three samples that appear out of noise, and the digits that the network expects of them at each time",
    height=7.4,
    erratum=True,
    tiny={"steps": 2, "chain": 20, "sets": 2, "size": 12},
    minutes=5,
)
