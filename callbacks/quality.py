"""How good a model's samples are, beside the same numbers for real held-out data."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen import __version__
from lightning_gen.bar import Counted
from lightning_gen.caching import cache_folder
from lightning_gen.callbacks.measuring import MeasuringSamples, stop_together
from lightning_gen.callbacks.publishing import save_picture, step_of
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.evaluation import Evaluation, Options
from lightning_gen.metrics.features.base import FeatureExtractor
from lightning_gen.metrics.gather import gather_blocks
from lightning_gen.metrics.reference import Reference, reference
from lightning_gen.metrics.registry import metrics as registered
from lightning_gen.options import Count, OpenUnitInterval, choose
from lightning_gen.randomness import generator
from lightning_gen.results.pictures.neighbours import nearest_neighbours
from lightning_gen.results.result import HELD_OUT, Name, Result
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


class Quality(MeasuringSamples):
    """Numbers of exactly `n` samples, as `fid/<features>/<weights>`, from features that are computed once an image.

    fid, fid_inf (FID without the bias of n), kid, is (also as sharpness * diversity), precision, recall, density,
    coverage, memorised (the share of samples nearer to a training image than all but `alpha` of the held-out images
    are; with a picture, samples/neighbours-<step>.png). Each has an error over draws of the samples, a protocol, and
    flags in it where it is computed from too little.

    Samples are drawn in blocks dealt to the ranks, so any number of ranks measures the same n; images are rounded to
    uint8, as a file would hold them. The reference is a whole split: the training split by the published protocol, val
    for choosing a recipe.
    `fid/<features>/held-out` are real images of the test split against the same reference: what a perfect model would
    get. Most are biased at small N, so where these are fewer than n, a row `<weights>-n<N>` of the model's first
    N samples is the one to hold against them. Both are published by the full evaluation only.
    FID (Heusel et al., 2017), https://arxiv.org/abs/1706.08500; KID (Binkowski et al., 2018),
    https://arxiv.org/abs/1801.01401; IS (Salimans et al., 2016), https://arxiv.org/abs/1606.03498

    weights: ema falls back to raw, and is called so, where the module keeps no average. block: samples per draw, null
    for as many as fill the device.
    kid_pairs: `all` takes every pair of images instead of subsets. neighbours: k of precision and recall,
    density_neighbours of density and coverage, of at most `at_most` images each, equal numbers of both. resamples: of
    the bootstrap. batch: images per extraction. held_out: whether held-out images are measured, too; auto where
    the test split has as many as the metrics need, and else says that it has not. cache: folder of the reference
    features, null for $XDG_CACHE_HOME or ~/.cache.
    """

    key = "quality"

    def __init__(
        self,
        features: FeatureExtractor,
        n: Count = 1500,
        metrics: Sequence[str] = ("fid", "kid", "is"),
        reference: Literal["train", "val", "test"] = "train",
        block: Count | None = None,
        kid_subsets: Count = 100,
        kid_subset_size: Annotated[int, Ge(3)] = 1000,
        kid_pairs: Literal["subsets", "all"] = "subsets",
        neighbours: Count = 3,
        density_neighbours: Count = 5,
        at_most: Count = 10_000,
        alpha: OpenUnitInterval = 0.05,
        resamples: Annotated[int, Ge(2)] = 50,
        batch: Count = 256,
        held_out: bool | Literal["auto"] = True,
        cache: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(n=n, block=block, split=None, **options)
        if not metrics:
            expected = f"a list of some of {', '.join(registered())}"
            raise ValueError(f"quality.metrics is {metrics!r}, expected {expected}: write quality.metrics=[fid,kid]")
        for name in metrics:
            if name not in registered():
                raise ValueError(f"quality.metrics has {name!r}, which is no metric: {choose(name, [*registered()])}")
        if held_out and reference == "test":
            raise ValueError("quality.held_out needs reference train or val, got test: write quality.held_out=false")
        self.options = Options(
            kid_subsets, kid_subset_size, kid_pairs, neighbours, density_neighbours, at_most, alpha, resamples
        )
        self.least = self.options.least(metrics)
        for name, value in (("n", n), ("at_most", at_most)):
            if value < self.least:
                raise ValueError(f"quality.{name} is {value}: {', '.join(metrics)} need {self.least} or more")
        self.features, self.metrics = features, tuple(metrics)
        self.reference, self.batch = reference, batch
        self.held_out, self.folder = held_out, cache_folder(cache)

    def check_files(self) -> None:
        """Raise what a look at the files of weights tells, before any data are read."""
        self.features.check_files()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be measured, and make the features ready, before any work."""
        data = self.data(trainer)
        self.features.check(data)
        for name in self.metrics:
            if registered()[name].needs == "logits" and self.features.classes is None:
                raise ValueError(f"quality.metrics has {name}, but {self.features.name} has no logits: leave it out")
        self.check_data(data)
        if stage == "test" or (stage == "fit" and self.every_n_epochs):
            self.features.prepare(data, trainer.global_rank, trainer.strategy.broadcast)

    def check_data(self, data: Any) -> None:
        """Decide held_out where it is auto; ValueError for a split with fewer samples than the metrics need."""
        if self.held_out == "auto":
            self.held_out, count = len(data.split("test")) >= self.least, len(data.split("test"))
            if not self.held_out:
                self.left_out = (
                    f"quality.held_out=false: the test split has {count} images, and held-out numbers need {self.least}"
                )
        needed = [(self.reference, "choose another quality.reference, or write quality=none")]
        needed += [("test", "write quality.held_out=false")] if self.held_out else []
        for name in self.memory:
            needed += [("train", f"leave out {name}"), ("test", f"leave out {name}")]
        for name, remedy in needed:
            if len(data.split(name)) < self.least:
                raise ValueError(
                    f"quality with {', '.join(self.metrics)} needs {self.least} samples or more in the {name} split,"
                    f" {data.name} has {len(data.split(name))}: {remedy}"
                )

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result] | None:
        """Draw, extract, gather; rank 0 computes."""
        self.features.prepare(trainer.datamodule, trainer.global_rank, trainer.strategy.broadcast)
        self.features.to(module.device)
        drawn = self.drawn(trainer, module)
        results = self.results(trainer, module, drawn, final) if trainer.is_global_zero else None
        self.features.to("cpu")
        return results

    def drawn(
        self, trainer: Trainer, module: Any, sampler: Sampler | None = None, progress: Callable | None = None
    ) -> Drawn:
        """n samples of `sampler`, by default the module's; `progress` is called at each of its steps, or has a bar."""
        rank, world, size = trainer.global_rank, trainer.world_size, self.size(module, sampler)
        blocks, problem = self._extracted(trainer, module, sampler, progress)
        stop_together(trainer, problem)
        rows = (self._rows(module, blocks, "features", self.features.dim),)
        rows += (
            None if self.features.classes is None else self._rows(module, blocks, "logits", self.features.classes),
        )
        features, logits = (None if x is None else gather_blocks(x, self.n, size, rank, world) for x in rows)

        def total(*values: float) -> list[float]:
            mine = torch.tensor(values, dtype=torch.float32, device=module.device)
            return trainer.strategy.reduce(mine, reduce_op="sum").tolist()

        seconds = [block["seconds"] for block in blocks]
        calls, taken, count = total(sum(block["calls"] for block in blocks), sum(seconds), len(blocks))
        (squares,) = total(sum((x - taken / count) ** 2 for x in seconds))
        spread = (squares / (count - 1) / count) ** 0.5 * count / self.n * 1000 if count > 1 else None
        first = blocks[0]["images"] if blocks else None
        return Drawn(features, logits, calls / count, taken / self.n * 1000, spread, first)

    def _extracted(
        self, trainer: Trainer, module: Any, sampler: Sampler | None, progress: Callable | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """This rank's blocks in their order: features, logits, images of the first; and what was not finite."""
        blocks: list[dict[str, Any]] = []
        size = self.size(module, sampler)

        def made(start: int, x: Tensor) -> dict[str, Any]:
            # Cast to uint8, NaN would become an image, and the metric a number.
            if not torch.isfinite(x).all():
                raise NonFinite(f"samples of block {start // size} are not finite")
            images = self._quantised(module, x)
            try:
                parts = [self.features(part) for part in images.split(self.batch)]
            except NonFinite as error:
                raise NonFinite(f"{error}, block {start // size}") from error
            features, logits = (torch.cat(own) if own[0] is not None else None for own in zip(*parts, strict=True))
            return {"features": features, "logits": logits, "images": None if start else images}

        what = f"{self.n:,} samples for quality"
        try:
            with self.drawing(trainer, module, what, self.n, size, sampler, progress, made) as drawn:
                blocks += [block for _, block in drawn]
        except NonFinite as error:
            return blocks, f"{error} at step {step_of(trainer)}, rank {trainer.global_rank}: the model has diverged"
        return blocks, None

    def _rows(self, module: Any, blocks: list[dict[str, Any]], name: str, width: int) -> Tensor:
        empty = torch.empty(0, width, dtype=torch.float32, device=module.device)
        return torch.cat([empty, *(block[name] for block in blocks)])

    def _quantised(self, module: Any, x: Tensor) -> Tensor:
        """Samples as the extractor takes them: uint8 images, or points as they are."""
        images = module.decode(x.float())
        if len(module.shape) != 3:
            return images
        return images.clamp(0, 1).mul(255).round().to(torch.uint8)

    def publishes(self, module: Any) -> set[Name]:
        """The names of its numbers during training; those of held-out data and of fewer samples come at the end."""
        quantities = [quantity for name in self.metrics for quantity in registered()[name].gives]
        return {Name(quantity, self.features.name, self.measured(module)) for quantity in quantities}

    def protocol(self, data: Any, module: Any, sampler: Sampler | None = None) -> dict[str, Any]:
        """What fixes the numbers of this sampler's samples, but for their n."""
        return {
            **self._against(data),
            "sampler": (sampler or module.sampler).describe(),
            "guidance": module.guidance if module.classes is not None else "no labels",
            "weights": self.measured(module),
            "seed": self.seed,
            "block": self.size(module, sampler),
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

    def results(self, trainer: Trainer, module: Any, drawn: Drawn, final: bool) -> list[Result]:
        data, label = trainer.datamodule, self.measured(module)
        real = self.real(trainer, self.reference)
        protocol = {"evaluations": drawn.evaluations, **self.protocol(data, module)}
        memory = (self.real(trainer, "train"), self.real(trainer, "test")) if self.memory else None
        samples = Evaluation(drawn.features, drawn.logits, real, memory, self.options, self.seed)
        results = self.numbers(label, samples, protocol)
        if memory and drawn.first is not None and len(module.shape) == 3:
            features = drawn.features[: len(drawn.first)]
            picture = nearest_neighbours(drawn.first, features, data.split("train"), memory[0])
            save_picture(trainer, "neighbours", picture)
        if final and self.held_out:
            results += self.held_out_numbers(trainer, real)
            m = min(self.n, len(data.split("test")))
            if m < self.n:
                logits = None if drawn.logits is None else drawn.logits[:m]
                first = Evaluation(drawn.features[:m], logits, real, None, self.options, self.seed)
                results += self.numbers(label, first, protocol, m)
        return results

    def held_out_numbers(self, trainer: Trainer, real: Reference) -> list[Result]:
        """The numbers of n real images of the test split, of all where they are fewer: <metric>/<features>/held-out."""
        data, device = trainer.datamodule, trainer.lightning_module.device
        test = self.real(trainer, "test")
        choice = torch.randperm(len(test.features), generator=generator(self.seed, "subset", "held-out"))[: self.n]
        features, logits = (None if x is None else x[choice].to(device) for x in (test.features, test.logits))
        own = {"images": "test", "images_fingerprint": data.split("test").fingerprint()}
        samples = Evaluation(features, logits, real, None, self.options, self.seed)
        return self.numbers(HELD_OUT, samples, {**self._against(data), **own})

    @property
    def memory(self) -> list[str]:
        """The metrics that hold samples against the training images."""
        return [name for name in self.metrics if registered()[name].needs == "memory"]

    def real(self, trainer: Trainer, name: str) -> Reference:
        """A whole split's features, from the cache or extracted now."""
        split, device = trainer.datamodule.split(name), trainer.lightning_module.device
        with self.bar(trainer, f"features of the {name} split", len(split), "image") as progress:
            return reference(Counted(split, progress.update), self.features, self.folder, self.batch, device)

    def numbers(self, label: str, samples: Evaluation, protocol: dict[str, Any], n: int | None = None) -> list[Result]:
        """The metrics of one set of features against the reference: <metric>/<features>/<label>, -n<n> where given."""
        results, count = [], len(samples.features)
        for quantity, measured in samples.measure(self.metrics).items():
            own = {"n": count, **protocol, **measured.protocol}
            own |= {"flags": list(measured.flags)} if measured.flags else {}
            name = Name(quantity, self.features.name, label, n=n)
            observed = dict(measured.observed)
            results.append(Result(measured.value, "estimate", measured.error, "", own, observed, name))
        return results
