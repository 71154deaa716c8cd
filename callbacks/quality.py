"""FID, KID and IS of a model's samples, beside the same numbers for real held-out data."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.epochs import AtEpochs
from callbacks.progress import Counted, bar, shows
from callbacks.record import publish, step_of
from lightning_gen.metrics.cache import cache_folder
from lightning_gen.metrics.features import FeatureExtractor
from lightning_gen.metrics.frechet import frechet_distance, moments
from lightning_gen.metrics.gather import gather_blocks, gather_problems
from lightning_gen.metrics.inception_score import inception_score
from lightning_gen.metrics.kernel import kernel_distance
from lightning_gen.metrics.reference import Reference, reference
from lightning_gen.randomness import generator
from lightning_gen.result import NonFinite, Result
from lightning_gen.samplers import Sampler

IS_SPLITS = 10
Metric = Literal["fid", "kid", "is"]


class Drawn(NamedTuple):
    """Features (n, d) and logits (n, K) or None of n samples, on every rank; network calls a sample; seconds that one
    device takes to draw 1,000, without their features, and the standard error over blocks, None where there is one."""

    features: Tensor
    logits: Tensor | None
    evaluations: float
    seconds: float
    spread: float | None


class Quality(AtEpochs):
    """FID, KID and IS of exactly `n` samples, as `fid/<features>/<weights>`; IS also as sharpness * diversity.

    Samples are drawn in blocks dealt to the ranks, so any number of ranks measures the same n; images are rounded to
    uint8, as a file would hold them. The reference is a whole split, by the published protocol the training split.
    `fid/<features>/held-out` are real images of the test split against the same reference: what a perfect model would
    get. FID and IS are biased at small N, so where these are fewer than n, a row `<weights>-n<N>` of the model's first
    N samples is the one to hold against them. Both are published by the full evaluation only.
    FID (Heusel et al., 2017), https://arxiv.org/abs/1706.08500; KID (Binkowski et al., 2018),
    https://arxiv.org/abs/1801.01401; IS (Salimans et al., 2016), https://arxiv.org/abs/1606.03498

    weights: ema falls back to raw, and is called so, where the module keeps no average. block: samples per draw.
    batch: real images per extraction. cache: folder of the reference features, None for $XDG_CACHE_HOME or ~/.cache.
    """

    def __init__(
        self,
        features: FeatureExtractor,
        n: int = 1500,
        metrics: Sequence[Literal["fid", "kid", "is"]] = ("fid", "kid", "is"),
        reference: Literal["train", "test"] = "train",
        weights: Literal["ema", "raw"] = "ema",
        block: int = 64,
        every_n_epochs: int = 0,
        kid_subsets: int = 100,
        kid_subset_size: int = 1000,
        batch: int = 256,
        seed: int = 0,
        held_out: bool = True,
        cache: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(features, FeatureExtractor):
            raise TypeError(f"quality.features needs a feature extractor, got {type(features).__name__}")
        if isinstance(metrics, str) or not metrics or set(metrics) - {"fid", "kid", "is"}:
            raise ValueError(f"quality.metrics needs a list of some of fid, kid, is, got {metrics!r}")
        if reference not in ("train", "test") or weights not in ("ema", "raw"):
            raise ValueError(f"quality needs reference train or test, weights ema or raw, got {reference}, {weights}")
        if held_out and reference == "test":
            raise ValueError("quality.held_out needs reference train, got test: write quality.held_out=false")
        self.least = max({"fid": 2, "kid": 3, "is": IS_SPLITS}[metric] for metric in metrics)
        for key, value, least in (
            ("n", n, self.least),
            ("block", block, 1),
            ("every_n_epochs", every_n_epochs, 0),
            ("kid_subsets", kid_subsets, 1),
            ("kid_subset_size", kid_subset_size, 3),
            ("batch", batch, 1),
        ):
            if value < least:
                raise ValueError(f"quality.{key} needs {least} or more with {', '.join(metrics)}, got {value}")
        self.features, self.n, self.metrics = features, n, tuple(metrics)
        self.reference, self.weights, self.block, self.every_n_epochs = reference, weights, block, every_n_epochs
        self.kid_subsets, self.kid_subset_size, self.batch = kid_subsets, kid_subset_size, batch
        self.seed, self.held_out, self.folder = seed, held_out, cache_folder(cache)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be measured, and make the features ready, before any work."""
        data = trainer.datamodule
        if data is None:
            raise ValueError("quality needs a data module to compare with: pass datamodule to the trainer")
        self.features.check(data)
        if "is" in self.metrics and self.features.classes is None:
            raise ValueError(f"quality.metrics has is, but {self.features.name} has no logits: write [fid, kid]")
        needed = [(self.reference, "choose another quality.reference")]
        needed += [("test", "write quality.held_out=false")] if self.held_out else []
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
        rows, problem = self._rows(trainer, module, sampler, progress, counts, seconds)
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
        return Drawn(features, logits, calls / blocks, taken / blocks * 1000 / self.block, spread)

    def _rows(
        self, trainer: Trainer, module: Any, sampler: Any, progress: Any, counts: list[int], seconds: list[float]
    ) -> tuple[tuple[Tensor, Tensor | None], str | None]:
        """Features and logits of this rank's blocks in their order, and what was not finite, if anything."""
        rank, extractor = trainer.global_rank, self.features
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
                    return (rows[0], None), f"samples of block {start // self.block} are not finite {place}"
                try:
                    found = extractor(self._seen(module, x))
                except NonFinite as error:
                    return (rows[0], None), f"{error}, block {start // self.block} {place}"
                rows.append(found[0])
                logits.append(found[1])
        return (torch.cat(rows), None if extractor.classes is None else torch.cat(logits)), None

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
        }

    def _results(self, trainer: Trainer, module: Any, drawn: Drawn, final: bool) -> dict[str, Result]:
        """Every number by its name."""
        data, label, logits = trainer.datamodule, self.measured(module), drawn.logits
        real = self.real(data, self.reference, module)
        protocol = {**self.protocol(data, module), "evaluations": drawn.evaluations}
        results = self.numbers(label, drawn.features, logits, real, protocol)
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

    def real(self, data: Any, name: str, module: Any) -> Reference:
        """A whole split's features, from the cache or extracted now."""
        split = data.split(name)
        with bar(f"features of the {name} split", len(split), "image", leave=False) as shown:
            return reference(Counted(split, shown.update), self.features, self.folder, self.batch, module.device)

    def numbers(
        self, label: str, features: Tensor, logits: Tensor | None, real: Reference, protocol: dict[str, Any]
    ) -> dict[str, Result]:
        """The metrics of one set of features against the reference: <metric>/<features>/<label>."""
        place, protocol = f"{self.features.name}/{label}", {"n": len(features), **protocol}
        results = {}
        if "fid" in self.metrics:
            value = frechet_distance(*moments(features), real.mean, real.cov)
            results[f"fid/{place}"] = Result(value, "estimate", protocol={**protocol, "bias": "upwards at small n"})
        if "kid" in self.metrics:
            draw = generator(self.seed, "subset", "kid")
            kid = kernel_distance(
                features, real.features.to(features.device), draw, self.kid_subsets, self.kid_subset_size
            )
            shown = {"kid_subsets": kid.subsets, "kid_subset_size": kid.size, "std_over_subsets": kid.std}
            if kid.size < self.kid_subset_size:
                shown["kid_subset_size_asked"] = self.kid_subset_size
            results[f"kid/{place}"] = Result(kid.value, "estimate", kid.error, protocol={**protocol, **shown})
        if "is" in self.metrics:
            score = inception_score(logits, generator(self.seed, "subset", "is"), IS_SPLITS)
            shown = {**protocol, "splits": IS_SPLITS, "std_over_splits": score.std, "bias": "downwards at small n"}
            error = score.std / (IS_SPLITS - 1) ** 0.5
            results[f"is/{place}"] = Result(score.value, "estimate", error, protocol=shown)
            for factor in ("sharpness", "diversity"):
                results[f"{factor}/{place}"] = Result(getattr(score, factor), "estimate", protocol=protocol)
        return results


def timed(blocks: Iterator[Any], device: torch.device, seconds: list[float]) -> Iterator[Any]:
    """The same blocks; `seconds` grows by what each took, until its work on the device is done."""
    while True:
        begun = time.perf_counter()
        block = next(blocks, None)
        if block is None:
            return
        if device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - begun)
        yield block


@contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Training mode and global generators are afterwards what they were: measuring does not move training."""
    modes = {part: part.training for part in module.modules()}
    devices = [module.device] if module.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
