"""What a model's representation knows: clusters, a linear probe, reconstruction, disentanglement."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, MinLen
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring, stop_together
from lightning_gen.callbacks.publishing import step_of
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.registry import quantity_of
from lightning_gen.options import Count
from lightning_gen.randomness import derived_seed, generator
from lightning_gen.representations import (
    beta_vae,
    clustering,
    dci,
    factor_vae,
    image_similarity,
    linear_probe,
    mig,
    modularity,
    sap,
)
from lightning_gen.representations.disentanglement import ACTIVE, BATCH, BINS, draw_factors
from lightning_gen.representations.encoders import Representation, representation_of
from lightning_gen.results.result import Name, Result

Metric = Literal["clustering", "probe", "reconstruction", "disentanglement"]


class Representations(Measuring):
    """<metric>/<representation>/<weights>: homogeneity, completeness, v_measure and probe_accuracy where the data have
    labels; mse, psnr and ssim where codes lead back to images; beta_vae_score, factor_vae_score, mig, sap, modularity
    and dci_* where the data know their factors.

    representation: null for the family's own. metrics: null for all that can be measured; one that is named and cannot
    be is refused. The probe learns from `n_train` training samples, all else is of `n` samples of a split (null = all);
    disentanglement is of all combinations of factors, by `train` and `evaluate` draws: the study's 10,000 and 5,000,
    at which DCI's trees take minutes.
    """

    key = "callbacks.representations"
    latent = False

    def __init__(
        self,
        representation: Representation | None = None,
        metrics: Annotated[Sequence[Metric], MinLen(1)] | None = None,
        n: Annotated[int, Ge(2)] | None = None,
        n_train: Annotated[int, Ge(2)] | None = 5000,
        split: Literal["val", "test"] = "test",
        batch: Count = 256,
        train: Annotated[int, Ge(2)] = 10_000,
        evaluate: Annotated[int, Ge(2)] = 5_000,
        **options: Any,
    ) -> None:
        super().__init__(n=n, split=split, **options)
        self.representation, self.metrics, self.n_train = representation, metrics, n_train
        self.batch, self.train, self.evaluate = batch, train, evaluate

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the representation and what can be measured of it, before any work."""
        super().setup(trainer, pl_module, stage)
        data = trainer.datamodule
        self.chosen = representation_of(pl_module.model) if self.representation is None else self.representation
        self.chosen.check(pl_module.model)
        missing = self.missing(pl_module, data)
        for name in self.metrics or ():
            if missing[name]:
                raise ValueError(f"callbacks.representations.metrics has {name}, but {missing[name]}: leave it out")
        self.measurable = [name for name in self.metrics or list(missing) if not missing[name]]
        if not self.measurable:
            raise ValueError(
                f"callbacks.representations can measure nothing: {'; '.join(filter(None, missing.values()))}"
            )
        if len(data.split(self.split)) < 2:
            raise ValueError(f"callbacks.representations needs 2 samples or more in the {self.split} split")

    def missing(self, module: Any, data: Any) -> dict[str, str | None]:
        """Why each metric cannot be measured; None where it can be."""
        unlabelled = None if data.classes else f"{data.name} has no labels"
        return {
            "clustering": unlabelled,
            "probe": unlabelled,
            "reconstruction": self.no_way_back(module),
            "disentanglement": None if hasattr(data, "factor_sizes") else f"{data.name} knows no factors: data=shapes",
        }

    def no_way_back(self, module: Any) -> str | None:
        """Why there is no reconstruction, if there is none."""
        if not self.chosen.reconstructs:
            return f"{self.chosen.name} codes lead back to no image"
        return None if len(module.shape) == 3 and module.value_range is not None else "there are no images"

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result] | None:
        """Encode on all ranks, measure on rank 0."""
        data = trainer.datamodule
        with self.model(trainer, module) as model:
            n = self.samples_of(data)[1]
            codes, images = self.encoded(trainer, module, model, self.split, n)
            count = min(self.n_train, len(data.split("train"))) if "probe" in self.measurable else 0
            train = self.encoded(trainer, module, model, "train", count)[0] if count else None
            return self.results(trainer, module, model, codes, images, train) if trainer.is_global_zero else None

    def rows(self, data: Any, name: str, count: int) -> Tensor:
        """Which samples of a split, (count,): all in order, or some at random."""
        size = len(data.split(name))
        if count == size:
            return torch.arange(size)
        return torch.randperm(size, generator=generator(self.seed, "subset", "representation", name))[:count]

    def encoded(self, trainer: Trainer, module: Any, model: Any, name: str, count: int) -> tuple[Tensor, Tensor | None]:
        """Codes (count, L) of a split on every rank, and reconstructed images or None; float32, on the CPU."""
        data, device, rank = trainer.datamodule, module.device, trainer.global_rank
        back = name == self.split and "reconstruction" in self.measurable
        rows = self.rows(data, name, count)
        starts = range(0, count, self.batch)[rank :: trainer.world_size]
        blocks: dict[int, tuple[Tensor, Tensor | None]] = {}
        with self.bar(trainer, f"{self.chosen.name} codes", len(starts), "batch") as progress:
            for start in starts:
                x = data.encode(data.split(name).take(rows[start : start + self.batch])).to(device, module.dtype)
                noise = generator(self.seed, "representation", name, start, device=device)
                codes = self.chosen.encode(model, x, noise)
                images = module.decode(self.chosen.reconstruct(model, codes, module.shape).float()) if back else None
                blocks[start] = (codes.float().cpu(), None if images is None else images.cpu())
                progress.update()
        finite = all(torch.isfinite(part).all() for pair in blocks.values() for part in pair if part is not None)
        problem = f"{self.chosen.name} codes are not finite on rank {rank} at step {step_of(trainer)}: "
        stop_together(trainer, None if finite else problem + "the model has diverged")
        ordered = [block for _, block in sorted(gathered(blocks, trainer.world_size).items())]
        images = torch.cat([image for _, image in ordered]) if back else None
        return torch.cat([codes for codes, _ in ordered]), images

    def results(
        self, trainer: Trainer, module: Any, model: Any, codes: Tensor, images: Tensor | None, train: Tensor | None
    ) -> list[Result]:
        data, split = trainer.datamodule, trainer.datamodule.split(self.split)
        rows = self.rows(data, self.split, len(codes))
        protocol = {
            **self.chosen.describe(),
            "split": self.split,
            "data": split.fingerprint(),
            "n": len(codes),
            "dimensions": codes.shape[1],
            "weights": self.measured(module),
            "seed": self.seed,
        }
        results: list[Result] = []

        def add(quantity: str, value: float, error: float | None = None, unit: str = "", **more: Any) -> None:
            name = Name(quantity, self.chosen.name, self.measured(module))
            results.append(Result(float(value), "estimate", error, unit, {**protocol, **more}, name=name))

        labels = None if data.classes is None else split.labels(rows).numpy()
        if "clustering" in self.measurable:
            clusters = clustering(codes.numpy(), labels, data.classes, self.seed)
            for name, value in clusters._asdict().items():
                add(name, value, clusters=data.classes, starts=10)
        if "probe" in self.measurable:
            known = data.split("train").labels(self.rows(data, "train", len(train))).numpy()
            probe = linear_probe(train.numpy(), known, codes.numpy(), labels)
            add("probe_accuracy", probe.accuracy, probe.error, n_train=len(train), converged=probe.converged)
        if images is not None:
            original = module.decode(data.encode(split.take(rows)).float())
            near = image_similarity(original.clamp(0, 1), images.clamp(0, 1))
            for name, values in near._asdict().items():
                if values is not None:
                    error = float(values.std()) / len(values) ** 0.5
                    add(name, values.mean(), error, quantity_of(name).unit, clamped="to [0, 1]")
        if "disentanglement" in self.measurable:
            self.disentangled(trainer, data, GridCodes(self, data, module, model), add)
        return results

    def disentangled(self, trainer: Trainer, data: Any, codes: "GridCodes", add: Callable) -> None:
        """All six measures, on the whole grid of factors."""
        sizes, names = data.factor_sizes, ", ".join(data.factor_names)
        shared = {"factors": names, "draws_train": self.train, "draws_evaluate": self.evaluate, "split": "all"}
        shared |= {"data": codes.fingerprint, "n": self.train}

        def random(purpose: str) -> np.random.Generator:
            return np.random.default_rng(derived_seed(self.seed, "factors", purpose))

        def binomial(share: float) -> float:
            return (share * (1 - share) / self.evaluate) ** 0.5

        with self.bar(trainer, "disentanglement", 6, "measure") as progress:
            options = {"batch": BATCH, "train": self.train, "evaluate": self.evaluate}
            score = beta_vae(codes, sizes, random("beta_vae"), **options)
            add("beta_vae_score", score, binomial(score), **shared, batch=BATCH)
            progress.update()
            score, active = factor_vae(codes, sizes, random("factor_vae"), **options)
            more = {"active_codes": active, "active_above": ACTIVE, "batch": BATCH}
            add("factor_vae_score", score, binomial(score), **shared, **more)
            progress.update()
            factors = draw_factors(sizes, self.train, random("train"))
            tests = draw_factors(sizes, self.evaluate, random("test"))
            z, z_test = codes(factors), codes(tests)
            for name, measure in (("mig", mig), ("modularity", modularity)):
                add(name, measure(z, factors), **shared, bins=BINS)
                progress.update()
            add("sap", sap(z, factors, z_test, tests), **shared)
            progress.update()
            for name, value in dci(z, factors, z_test, tests)._asdict().items():
                add(f"dci_{name}", value, **shared)
            progress.update()


def gathered(blocks: dict[int, Any], world: int) -> dict[int, Any]:
    """The blocks of all ranks."""
    if world == 1:
        return blocks
    parts: list[Any] = [None] * world
    torch.distributed.all_gather_object(parts, blocks)
    return {start: block for part in parts for start, block in part.items()}


class GridCodes:
    """Codes of combinations of factors, each block of the grid encoded once, when it is first asked for."""

    def __init__(self, callback: Representations, data: Any, module: Any, model: Any) -> None:
        self.callback, self.data, self.module, self.model = callback, data, module, model
        self.images = data.all_images()
        self.known = np.zeros(-(-len(self.images) // callback.batch), dtype=bool)
        self.table: np.ndarray | None = None
        self.fingerprint = type(data.split("train"))(self.images).fingerprint()

    def __call__(self, factors: np.ndarray) -> np.ndarray:
        """(n, L), float64, of factors (n, F)."""
        rows = self.data.combinations(torch.from_numpy(factors)).numpy()
        for block in np.unique(rows // self.callback.batch):
            if not self.known[block]:
                self.encode(int(block))
        return self.table[rows].astype(np.float64)

    def encode(self, block: int) -> None:
        """One block, with noise of its own address."""
        size, device = self.callback.batch, self.module.device
        x = self.data.encode(self.images[block * size : (block + 1) * size]).to(device, self.module.dtype)
        noise = generator(self.callback.seed, "representation", "grid", block, device=device)
        codes = self.callback.chosen.encode(self.model, x, noise).float().cpu().numpy()
        if not np.isfinite(codes).all():
            raise NonFinite("codes of the grid of factors are not finite: the model has diverged")
        if self.table is None:
            self.table = np.zeros((len(self.images), codes.shape[1]), dtype=np.float32)
        self.table[block * size : (block + 1) * size] = codes
        self.known[block] = True
