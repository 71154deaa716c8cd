"""The numbers of one set of features against a reference, each with error, protocol, and flags where in doubt."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from lightning_gen.metrics.bootstrap import frechet_bootstrap, inception_bootstrap
from lightning_gen.metrics.extrapolation import frechet_infinity
from lightning_gen.metrics.frechet import frechet_of_features
from lightning_gen.metrics.inception_score import inception_score
from lightning_gen.metrics.kernel import kernel_distance, kernel_distance_all
from lightning_gen.metrics.manifold import HALVES, manifold
from lightning_gen.metrics.memorisation import memorised
from lightning_gen.metrics.reference import Reference
from lightning_gen.randomness import generator
from lightning_gen.results.result import Result

Metric = Literal["fid", "fid_inf", "kid", "is", "precision", "recall", "density", "coverage", "memorised"]
METRICS = get_args(Metric)
MANIFOLD = ("precision", "recall", "density", "coverage")
IS_SPLITS = 10


class Options(NamedTuple):
    """What the metrics can be told; see Quality."""

    kid_subsets: int = 100
    kid_subset_size: int = 1000
    kid_pairs: Literal["subsets", "all"] = "subsets"
    neighbours: int = 3
    density_neighbours: int = 5
    at_most: int = 10_000
    alpha: float = 0.05
    resamples: int = 50

    def least(self, metrics: Sequence[str]) -> int:
        """The fewest images that these metrics take."""
        table = {"fid": 2, "fid_inf": 20, "kid": 3, "is": IS_SPLITS, "memorised": 2}
        return max(table.get(name, max(self.neighbours, self.density_neighbours) + 1) for name in metrics)


class Numbers:
    """metric -> Result, of features (n, d) and logits (n, K) against a reference; draws depend on the seed alone."""

    def __init__(self, metrics: Sequence[str], options: Options, seed: int, protocol: dict[str, Any]) -> None:
        self.metrics, self.options, self.seed, self.protocol = metrics, options, seed, protocol

    def __call__(
        self,
        features: Tensor,
        logits: Tensor | None,
        real: Reference,
        memory: tuple[Reference, Reference] | None = None,
    ) -> dict[str, Result]:
        """All of them; `memory` are the features of the training and of the held-out images."""
        found: dict[str, Result] = {}
        if "fid" in self.metrics:
            found["fid"] = self.fid(features, real)
        if "fid_inf" in self.metrics:
            found["fid_inf"] = self.fid_inf(features, real)
        if "kid" in self.metrics:
            found["kid"] = self.kid(features, real)
        if "is" in self.metrics and logits is not None:
            found |= self.inception(logits)
        if set(MANIFOLD) & set(self.metrics):
            found |= self.manifold(features, real)
        if "memorised" in self.metrics and memory is not None:
            found["memorised"] = self.memorised(features, *memory)
        return found

    def result(
        self, value: float, error: float | None, flags: Sequence[str] = (), observed: Any = None, **more: Any
    ) -> Result:
        """An estimate with what is its own in the protocol."""
        told = {**self.protocol, **more} | ({"flags": list(flags)} if flags else {})
        return Result(value, "estimate", error, "", told, observed or {})

    def draw(self, *place: str) -> torch.Generator:
        """The generator of a place."""
        return generator(self.seed, "subset", *place)

    def fid(self, features: Tensor, real: Reference) -> Result:
        """The Frechet distance."""
        draw, resamples = self.draw("fid", "bootstrap"), self.options.resamples
        error, method = frechet_bootstrap(features, real.mean, real.cov, draw, resamples)
        value, flags = frechet_of_features(features, real.mean, real.cov), few(features, real)
        return self.result(value, error, flags, bias="upwards at small n", error_by=method)

    def fid_inf(self, features: Tensor, real: Reference) -> Result:
        """The Frechet distance at infinitely many samples."""
        found = frechet_infinity(features, real.mean, real.cov, self.draw("fid_inf"))
        flags = few(features, real)
        if found.sizes[0] <= features.shape[1] < len(features):
            flags.append(f"not linear in 1/N: subsets from {found.sizes[0]} images in {features.shape[1]} dimensions")
        if found.value < 0:
            flags.append("below 0, which the distance cannot be: no difference is seen")
        observed = {"bias_of_n_images": found.slope / len(features)}
        bias, method = "the reference's own at its n", "delta method and the fit's residuals"
        sizes = {"subset_sizes": [found.sizes[0], found.sizes[-1]], "subsets": len(found.sizes)}
        return self.result(found.value, found.error, flags, observed, bias=bias, error_by=method, **sizes)

    def kid(self, features: Tensor, real: Reference) -> Result:
        """The kernel distance."""
        y, options = real.features.to(features.device), self.options
        if options.kid_pairs == "all":
            found = kernel_distance_all(features, y)
            return self.result(found.value, found.error, bias="none", error_by="jackknife", kid_pairs="all")
        found = kernel_distance(features, y, self.draw("kid"), options.kid_subsets, options.kid_subset_size)
        shown, flags = {"kid_subsets": found.subsets, "kid_subset_size": found.size}, []
        if found.size < options.kid_subset_size:
            shown["kid_subset_size_asked"] = options.kid_subset_size
            flags.append(f"KID's subsets hold {found.size} images, {options.kid_subset_size} were asked for")
        observed = {"std_over_subsets": found.std}
        return self.result(found.value, found.error, flags, observed, bias="none", error_by="jackknife", **shown)

    def inception(self, logits: Tensor) -> dict[str, Result]:
        """The Inception Score and its two factors."""
        resamples, per_split = self.options.resamples, len(logits) // IS_SPLITS
        score = inception_score(logits, self.draw("is"), IS_SPLITS)
        errors = inception_bootstrap(logits, self.draw("is", "bootstrap"), resamples)
        method = {"error_by": f"bootstrap, {resamples} resamples"}
        flags = []
        if per_split < logits.shape[1]:
            flags.append(f"{per_split} images a split for {logits.shape[1]} classes")
        shown = {"splits": IS_SPLITS, "bias": "downwards at small n", **method}
        found = {"is": self.result(score.value, errors.value, flags, {"std_over_splits": score.std}, **shown)}
        biases = {"sharpness": "none of first order", "diversity": "downwards at small n"}
        for name, bias in biases.items():
            found[name] = self.result(getattr(score, name), getattr(errors, name), bias=bias, **method)
        return found

    def manifold(self, features: Tensor, real: Reference) -> dict[str, Result]:
        """Those of precision, recall, density and coverage that are asked for, of equal numbers of images."""
        m = min(len(features), len(real.features), self.options.at_most)
        choice = torch.randperm(len(real.features), generator=self.draw("manifold"))[:m]
        k, k_density = self.options.neighbours, self.options.density_neighbours
        found = manifold(features[:m], real.features[choice].to(features.device), k, k_density)
        shown = {"images_each": m, "error_by": f"jackknife, {HALVES} halves"}
        biases = {
            "precision": ("upwards at small n", k),
            "recall": ("upwards at small n", k),
            "density": ("none where both laws are equal", k_density),
            "coverage": ("depends on n: compare equal images_each", k_density),
        }
        return {
            name: self.result(getattr(found, name), error, bias=bias, neighbours=near, **shown)
            for (name, (bias, near)), error in zip(biases.items(), found.errors, strict=True)
            if name in self.metrics
        }

    def memorised(self, features: Tensor, train: Reference, held_out: Reference) -> Result:
        """The share of samples that are nearer to a training image than nearly all held-out images are."""
        alpha, at_most = self.options.alpha, self.options.at_most
        m = min(len(held_out.features), at_most)
        sets = (x.features.to(features.device) for x in (train, held_out))
        train_features, test = next(sets), next(sets)[:m]
        found = memorised(features[:at_most], train_features, test, self.draw("memorised"), alpha)
        flags = [f"{m} held-out images for a quantile of {alpha}"] if m * alpha < 1 else []
        shown = {"alpha": alpha, "expected": alpha, "n_train": len(train_features), "n_held_out": m}
        observed = {"threshold": found.threshold, "nearer_than_held_out": found.nearer, "c_t": found.c_t}
        shown |= {"images": min(len(features), at_most), "error_by": "bootstrap, 200 resamples", "bias": "none"}
        return self.result(found.share, found.error, flags, observed, **shown)


def few(features: Tensor, real: Reference) -> list[str]:
    """A flag for each covariance that has fewer images than dimensions."""
    counts, d = {"images": len(features), "reference images": len(real.features)}, features.shape[1]
    return [f"fewer {name} ({count:,}) than dimensions ({d:,})" for name, count in counts.items() if count <= d]
