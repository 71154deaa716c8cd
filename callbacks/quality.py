"""How good a model's samples are, beside the same numbers for real held-out data."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen import __version__
from lightning_gen.bar import Counted, bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.neighbours import draw_neighbours
from lightning_gen.callbacks.progress import shows
from lightning_gen.callbacks.publish import publish, step_of
from lightning_gen.callbacks.undisturbed import timed, undisturbed
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.cache import cache_folder
from lightning_gen.metrics.features.base import FeatureExtractor
from lightning_gen.metrics.gather import gather_blocks, gather_problems
from lightning_gen.metrics.numbers import METRICS, Metric, Numbers, Options
from lightning_gen.metrics.reference import Reference, reference
from lightning_gen.randomness import generator
from lightning_gen.results.result import Result
from lightning_gen.samplers import Sampler


class Drawn(NamedTuple):
    """Features (n, d) and logits (n, K) or None of n samples, on every rank; network calls a sample; seconds that one
    device takes to draw 1,000, without their features, and the standard error over blocks, None where there is one; on
    rank 0 the images of the first block."""

    features: Tensor
    logits: Tensor | None
    evaluations: float
    seconds: float
    spread: float | None
    first: Tensor | None = None


class Quality(AtEpochs):
    """Numbers of exactly `n` samples, as `fid/<features>/<weights>`, from features that are computed once an image.

    fid, fid_inf (FID without the bias of n), kid, is (also as sharpness * diversity), precision, recall, density,
    coverage, memorised (the share of samples nearer to a training image than all but `alpha` of the held-out images
    are; with a picture, samples/neighbours-<step>.png). Each has an error over draws of the samples, a protocol, and
    flags in it where it is computed from too little.

    Samples are drawn in blocks dealt to the ranks, so any number of ranks measures the same n; images are rounded to
    uint8, as a file would hold them. The reference is a whole split, by the published protocol the training split.
    `fid/<features>/held-out` are real images of the test split against the same reference: what a perfect model would
    get. Most are biased at small N, so where these are fewer than n, a row `<weights>-n<N>` of the model's first
    N samples is the one to hold against them. Both are published by the full evaluation only.
    FID (Heusel et al., 2017), https://arxiv.org/abs/1706.08500; KID (Binkowski et al., 2018),
    https://arxiv.org/abs/1801.01401; IS (Salimans et al., 2016), https://arxiv.org/abs/1606.03498

    weights: ema falls back to raw, and is called so, where the module keeps no average. block: samples per draw.
    kid_pairs: `all` takes every pair of images instead of subsets. neighbours: k of precision and recall,
    density_neighbours of density and coverage, of at most `at_most` images each, equal numbers of both. resamples: of
    the bootstrap. batch: real images per extraction. cache: folder of the reference features, None for $XDG_CACHE_HOME
    or ~/.cache.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        n: int = 1500,
        metrics: Sequence[Metric] = ("fid", "kid", "is"),
        reference: Literal["train", "test"] = "train",
        weights: Literal["ema", "raw"] = "ema",
        block: int = 64,
        every_n_epochs: int = 0,
        kid_subsets: int = 100,
        kid_subset_size: int = 1000,
        kid_pairs: Literal["subsets", "all"] = "subsets",
        neighbours: int = 3,
        density_neighbours: int = 5,
        at_most: int = 10_000,
        alpha: float = 0.05,
        resamples: int = 50,
        batch: int = 256,
        seed: int = 0,
        held_out: bool = True,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(features, FeatureExtractor):
            raise TypeError(f"quality.features needs a feature extractor, got {type(features).__name__}")
        if isinstance(metrics, str) or not metrics or set(metrics) - set(METRICS):
            raise ValueError(f"quality.metrics needs a list of some of {', '.join(METRICS)}, got {metrics!r}")
        if reference not in ("train", "test") or weights not in ("ema", "raw"):
            raise ValueError(f"quality needs reference train or test, weights ema or raw, got {reference}, {weights}")
        if held_out and reference == "test":
            raise ValueError("quality.held_out needs reference train, got test: write quality.held_out=false")
        if kid_pairs not in ("subsets", "all") or not 0 < alpha < 1:
            raise ValueError(f"quality needs kid_pairs subsets or all, 0 < alpha < 1, got {kid_pairs}, {alpha}")
        self.options = Options(
            kid_subsets, kid_subset_size, kid_pairs, neighbours, density_neighbours, at_most, alpha, resamples
        )
        self.least = self.options.least(metrics)
        for key, value, least in (
            ("n", n, self.least),
            ("block", block, 1),
            ("every_n_epochs", every_n_epochs, 0),
            ("kid_subsets", kid_subsets, 1),
            ("kid_subset_size", kid_subset_size, 3),
            ("batch", batch, 1),
            ("neighbours", neighbours, 1),
            ("density_neighbours", density_neighbours, 1),
            ("at_most", at_most, self.least),
            ("resamples", resamples, 2),
        ):
            if value < least:
                raise ValueError(f"quality.{key} needs {least} or more with {', '.join(metrics)}, got {value}")
        self.features, self.n, self.metrics = features, n, tuple(metrics)
        self.reference, self.weights, self.block, self.every_n_epochs = reference, weights, block, every_n_epochs
        self.batch, self.seed, self.held_out, self.folder = batch, seed, held_out, cache_folder(cache)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be measured, and make the features ready, before any work."""
        data = trainer.datamodule
        if data is None:
            raise ValueError("quality needs a data module to compare with: pass datamodule to the trainer")
        self.features.check(data)
        if "is" in self.metrics and self.features.classes is None:
            raise ValueError(f"quality.metrics has is, but {self.features.name} has no logits: leave it out")
        needed = [(self.reference, "choose another quality.reference")]
        needed += [("test", "write quality.held_out=false")] if self.held_out else []
        if self.memorised:
            needed += [("train", "leave out memorised"), ("test", "leave out memorised")]
        for name, remedy in needed:
            if len(data.split(name)) < self.least:
                raise ValueError(
                    f"quality with {', '.join(self.metrics)} needs {self.least} samples or more in the {name} split,"
                    f" {data.name} has {len(data.split(name))}: {remedy}"
                )
        if stage == "test" or (stage == "fit" and self.every_n_epochs):
            self.features.prepare(data, trainer.global_rank, trainer.strategy.broadcast)

    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Draw, extract, gather; rank 0 computes, all ranks publish the same numbers."""
        self.features.prepare(trainer.datamodule, trainer.global_rank, trainer.strategy.broadcast)
        self.features.to(module.device)
        with undisturbed(module):
            drawn = self.drawn(trainer, module)
            results = self._results(trainer, module, drawn, final) if trainer.is_global_zero else None
            results = trainer.strategy.broadcast(results)
        self.features.to("cpu")
        publish(trainer, results, final)

    def drawn(
        self, trainer: Trainer, module: Any, sampler: Sampler | None = None, progress: Callable | None = None
    ) -> Drawn:
        """n samples of `sampler`, by default the module's; `progress` is called at each of its steps, or has a bar."""
        rank, world = trainer.global_rank, trainer.world_size
        counts, seconds = [], []
        rows, first, problem = self._rows(trainer, module, sampler, progress, counts, seconds)
        problem = gather_problems(problem, world)
        if problem is not None:
            raise NonFinite(problem)
        features, logits = (None if x is None else gather_blocks(x, self.n, self.block, rank, world) for x in rows)

        def total(*values: float) -> list[float]:
            mine = torch.tensor(values, dtype=torch.float32, device=module.device)
            return trainer.strategy.reduce(mine, reduce_op="sum").tolist()

        calls, taken, blocks = total(sum(counts), sum(seconds), len(seconds))
        (squares,) = total(sum((x - taken / blocks) ** 2 for x in seconds))
        spread = (squares / (blocks - 1) / blocks) ** 0.5 * 1000 / self.block if blocks > 1 else None
        return Drawn(features, logits, calls / blocks, taken / blocks * 1000 / self.block, spread, first)

    def _rows(
        self, trainer: Trainer, module: Any, sampler: Any, progress: Any, counts: list[int], seconds: list[float]
    ) -> tuple[tuple[Tensor, Tensor | None], Tensor | None, str | None]:
        """Features and logits of this rank's blocks in their order, its first images, and what was not finite."""
        rank, extractor, first = trainer.global_rank, self.features, None
        rows = [torch.empty(0, extractor.dim, dtype=torch.float32, device=module.device)]
        logits = [torch.empty(0, extractor.classes or 0, dtype=torch.float32, device=module.device)]
        place = f"at step {step_of(trainer)}, rank {rank}: the model has diverged"
        share = {"size": self.block, "rank": rank, "world": trainer.world_size}
        what, work = f"{self.n} samples for {', '.join(self.metrics)}", module.work(self.n, sampler, **share)
        with (
            trainer.precision_plugin.forward_context(),
            bar(what, work, "step", 0, progress is None and shows(trainer), False) as shown,
        ):
            share |= {"progress": progress or shown.update, "counts": counts}
            blocks = module.blocks(self.n, self.seed, sampler, weights=self.measured(module), **share)
            for start, x in timed(blocks, module.device, seconds):
                # Cast to uint8, NaN would become an image, and the metric a number.
                if not torch.isfinite(x).all():
                    return (rows[0], None), None, f"samples of block {start // self.block} are not finite {place}"
                try:
                    seen = self._seen(module, x)
                    found = extractor(seen)
                except NonFinite as error:
                    return (rows[0], None), None, f"{error}, block {start // self.block} {place}"
                first = seen if first is None else first
                rows.append(found[0])
                logits.append(found[1])
        return (torch.cat(rows), None if extractor.classes is None else torch.cat(logits)), first, None

    def _seen(self, module: Any, x: Tensor) -> Tensor:
        """Samples as the extractor takes them: uint8 images, or points as they are."""
        images = module.decode(x.float())
        if len(module.shape) != 3:
            return images
        return images.clamp(0, 1).mul(255).round().to(torch.uint8)

    def measured(self, module: Any) -> Literal["ema", "raw"]:
        """Which weights are measured."""
        return self.weights if module.ema is not None else "raw"

    def publishes(self, module: Any) -> set[str]:
        """The names of its numbers during training; those of held-out data and of fewer samples come at the end."""
        heads = [*self.metrics, *(("sharpness", "diversity") if "is" in self.metrics else ())]
        return {f"{head}/{self.features.name}/{self.measured(module)}" for head in heads}

    def protocol(self, data: Any, module: Any, sampler: Sampler | None = None) -> dict[str, Any]:
        """What fixes the numbers of this sampler's samples, but for their n."""
        return {
            **self._against(data),
            "sampler": (sampler or module.sampler).describe(),
            "guidance": module.guidance if module.classes is not None else "no labels",
            "weights": self.measured(module),
            "seed": self.seed,
            "block": self.block,
            "quantisation": "round(255 clamp(x, 0, 1))" if len(module.shape) == 3 else "none",
            "precision": str(module.trainer.precision),
            "device": module.device.type,
        }

    def _against(self, data: Any) -> dict[str, Any]:
        """What fixes features and reference."""
        split = data.split(self.reference)
        return {
            **self.features.identity(),
            "reference": self.reference,
            "reference_fingerprint": split.fingerprint(),
            "n_reference": len(split),
            "data": data.name,
            "torch": str(torch.__version__),
            "lightning_gen": __version__,
        }

    def _results(self, trainer: Trainer, module: Any, drawn: Drawn, final: bool) -> dict[str, Result]:
        """Every number by its name."""
        data, label, logits = trainer.datamodule, self.measured(module), drawn.logits
        real = self.real(data, self.reference, module)
        protocol = {"evaluations": drawn.evaluations, **self.protocol(data, module)}
        memory = tuple(self.real(data, name, module) for name in ("train", "test")) if self.memorised else None
        results = self.numbers(label, drawn.features, logits, real, protocol, memory)
        if memory and drawn.first is not None and len(module.shape) == 3:
            features = drawn.features[: len(drawn.first)]
            draw_neighbours(trainer, drawn.first, features, data.split("train"), memory[0])
        if final and self.held_out:
            results |= self.perfect(data, module, real)
            m = min(self.n, len(data.split("test")))
            if m < self.n:
                logits = None if logits is None else logits[:m]
                results |= self.numbers(f"{label}-n{m}", drawn.features[:m], logits, real, protocol)
        return results

    def perfect(self, data: Any, module: Any, real: Reference) -> dict[str, Result]:
        """The numbers of n real images of the test split, of all where they are fewer: <metric>/<features>/held-out."""
        test = self.real(data, "test", module)
        choice = torch.randperm(len(test.features), generator=generator(self.seed, "subset", "held-out"))[: self.n]
        chosen = [None if x is None else x[choice].to(module.device) for x in (test.features, test.logits)]
        shown = {"images": "test", "images_fingerprint": data.split("test").fingerprint()}
        return self.numbers("held-out", *chosen, real, {**self._against(data), **shown})

    @property
    def memorised(self) -> bool:
        """Whether samples are held against the training images."""
        return "memorised" in self.metrics

    def real(self, data: Any, name: str, module: Any) -> Reference:
        """A whole split's features, from the cache or extracted now."""
        split = data.split(name)
        with bar(f"features of the {name} split", len(split), "image", leave=False) as shown:
            return reference(Counted(split, shown.update), self.features, self.folder, self.batch, module.device)

    def numbers(
        self,
        label: str,
        features: Tensor,
        logits: Tensor | None,
        real: Reference,
        protocol: dict[str, Any],
        memory: tuple[Reference, Reference] | None = None,
    ) -> dict[str, Result]:
        """The metrics of one set of features against the reference: <metric>/<features>/<label>."""
        numbers = Numbers(self.metrics, self.options, self.seed, {"n": len(features), **protocol})
        found = numbers(features, logits, real, memory)
        return {f"{name}/{self.features.name}/{label}": result for name, result in found.items()}
