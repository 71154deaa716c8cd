"""What a model's representation knows: clusters, a linear probe, reconstruction, disentanglement."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.publish import publish, step_of
from lightning_gen.callbacks.undisturbed import undisturbed
from lightning_gen.errors import NonFinite
from lightning_gen.metrics.gather import gather_problems
from lightning_gen.randomness import address, generator
from lightning_gen.representations import (
    beta_vae,
    closeness,
    clustering,
    dci,
    factor_vae,
    linear_probe,
    mig,
    modularity,
    sap,
)
from lightning_gen.representations.disentanglement import ACTIVE, BATCH, BINS, draw
from lightning_gen.representations.encoders import Representation, representation_of
from lightning_gen.results.result import Result

Metric = Literal["clustering", "probe", "reconstruction", "disentanglement"]
METRICS = ("clustering", "probe", "reconstruction", "disentanglement")


class Representations(AtEpochs):
    """<metric>/<representation>/<weights>: homogeneity, completeness, v_measure and probe_accuracy where the data have
    labels; mse, psnr and ssim where codes lead back to images; beta_vae_score, factor_vae_score, mig, sap, modularity
    and dci_* where the data know their factors.

    representation: null for the family's own. metrics: null for all that can be measured; one that is named and cannot
    be is refused. The probe learns from `n_train` training samples, all else is of `n` samples of a split (null = all);
    disentanglement is of all combinations of factors, by `train` and `evaluate` draws: the study's 10,000 and 5,000,
    at which DCI's trees take minutes.
    """

    def __init__(
        self,
        representation: Representation | None = None,
        metrics: Sequence[Metric] | None = None,
        n: int | None = None,
        n_train: int = 5000,
        split: Literal["val", "test"] = "test",
        weights: Literal["ema", "raw"] = "ema",
        batch: int = 256,
        train: int = 10_000,
        evaluate: int = 5_000,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        super().__init__()
        if metrics is not None and (isinstance(metrics, str) or not metrics or set(metrics) - set(METRICS)):
            raise ValueError(f"callbacks.representations.metrics needs some of {', '.join(METRICS)}, got {metrics!r}")
        if split not in ("val", "test") or weights not in ("ema", "raw"):
            raise ValueError(
                f"callbacks.representations needs split val or test, weights ema or raw, got {split}, {weights}"
            )
        least = {"n": (n, 2), "n_train": (n_train, 2), "batch": (batch, 1), "train": (train, 2)}
        for key, (value, bound) in {**least, "evaluate": (evaluate, 2), "every_n_epochs": (every_n_epochs, 0)}.items():
            if value is not None and value < bound:
                raise ValueError(f"callbacks.representations.{key} needs {bound} or more, got {value}")
        self.representation, self.metrics, self.n, self.n_train = representation, metrics, n, n_train
        self.split, self.weights, self.batch, self.seed = split, weights, batch, seed
        self.train, self.evaluate, self.every_n_epochs = train, evaluate, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the representation and what can be measured of it, before any work."""
        data = trainer.datamodule
        self.chosen = representation_of(pl_module.model) if self.representation is None else self.representation
        self.chosen.check(pl_module.model)
        wanting = {
            "clustering": None if data.classes else f"{data.name} has no labels",
            "probe": None if data.classes else f"{data.name} has no labels",
            "reconstruction": self.no_way_back(pl_module),
            "disentanglement": None if hasattr(data, "factor_sizes") else f"{data.name} knows no factors: data=shapes",
        }
        for name in self.metrics or ():
            if wanting[name]:
                raise ValueError(f"callbacks.representations.metrics has {name}, but {wanting[name]}: leave it out")
        self.measurable = [name for name in self.metrics or METRICS if not wanting[name]]
        if not self.measurable:
            raise ValueError(
                f"callbacks.representations can measure nothing: {'; '.join(filter(None, wanting.values()))}"
            )
        if len(data.split(self.split)) < 2:
            raise ValueError(f"callbacks.representations needs 2 samples or more in the {self.split} split")

    def no_way_back(self, module: Any) -> str | None:
        """Why there is no reconstruction, if there is none."""
        if not self.chosen.reconstructs:
            return f"{self.chosen.name} codes lead back to no image"
        return None if len(module.shape) == 3 and module.value_range is not None else "there are no images"

    @torch.inference_mode(False)
    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Encode on all ranks, measure on rank 0."""
        data, model = trainer.datamodule, module.weights(self.measured(module))
        with undisturbed(module):
            model.eval()
            n = len(data.split(self.split)) if self.n is None else min(self.n, len(data.split(self.split)))
            codes, others = self.encoded(trainer, module, model, self.split, n)
            count = min(self.n_train, len(data.split("train"))) if "probe" in self.measurable else 0
            train = self.encoded(trainer, module, model, "train", count)[0] if count else None
            results = self.results(trainer, module, model, codes, others, train) if trainer.is_global_zero else None
            results = trainer.strategy.broadcast(results)
        publish(trainer, results, final)

    def measured(self, module: Any) -> Literal["ema", "raw"]:
        """Which weights are measured."""
        return self.weights if module.ema is not None else "raw"

    def rows(self, data: Any, name: str, count: int) -> Tensor:
        """Which samples of a split, (count,): all in order, or some at random."""
        size = len(data.split(name))
        if count == size:
            return torch.arange(size)
        return torch.randperm(size, generator=generator(self.seed, "subset", "representation", name))[:count]

    def encoded(self, trainer: Trainer, module: Any, model: Any, name: str, count: int) -> tuple[Tensor, Tensor | None]:
        """Codes (count, L) of a split on every rank, and reconstructed images or None; float32, on the CPU."""
        data, device = trainer.datamodule, module.device
        back = name == self.split and "reconstruction" in self.measurable
        rows, blocks = self.rows(data, name, count), range(0, count, self.batch)
        mine = blocks[trainer.global_rank :: trainer.world_size]
        found: dict[int, tuple[Tensor, Tensor | None]] = {}
        with bar(f"{self.chosen.name} codes", len(mine), "batch", 0, trainer.is_global_zero, False) as shown:
            for start in mine:
                x = data.encode(data.split(name).take(rows[start : start + self.batch])).to(device)
                noise = generator(self.seed, "representation", name, start, device=device)
                codes = self.chosen.encode(model, x, noise)
                others = self.chosen.reconstruct(model, codes, module.shape) if back else None
                images = None if others is None else module.decode(others.float())
                found[start] = (codes.float().cpu(), None if images is None else images.cpu())
                shown.update()
        fine = all(torch.isfinite(part).all() for parts in found.values() for part in parts if part is not None)
        problem = None if fine else f"{self.chosen.name} codes are not finite on rank {trainer.global_rank}"
        problem = gather_problems(problem, trainer.world_size)
        if problem is not None:
            raise NonFinite(f"{problem} at step {step_of(trainer)}: the model has diverged")
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, found)
            found = {start: value for part in parts for start, value in part.items()}
        ordered = [found[start] for start in sorted(found)]
        images = torch.cat([image for _, image in ordered]) if back else None
        return torch.cat([codes for codes, _ in ordered]), images

    def results(
        self, trainer: Trainer, module: Any, model: Any, codes: Tensor, others: Tensor | None, train: Tensor | None
    ) -> dict[str, Result]:
        """Every number by its name."""
        data, which = trainer.datamodule, self.measured(module)
        split, place = data.split(self.split), f"{self.chosen.name}/{which}"
        rows = self.rows(data, self.split, len(codes))
        protocol = {
            **self.chosen.describe(),
            "split": self.split,
            "data": split.fingerprint(),
            "n": len(codes),
            "dimensions": codes.shape[1],
            "weights": which,
            "seed": self.seed,
        }
        found: dict[str, Result] = {}

        def add(name: str, value: float, error: float | None = None, unit: str = "", **more: Any) -> None:
            found[f"{name}/{place}"] = Result(float(value), "estimate", error, unit, {**protocol, **more})

        labels = None if data.classes is None else split.labels(rows).numpy()
        if "clustering" in self.measurable:
            clusters = clustering(codes.numpy(), labels, data.classes, self.seed)
            for name, value in clusters._asdict().items():
                add(name, value, clusters=data.classes, starts=10)
        if "probe" in self.measurable:
            known = data.split("train").labels(self.rows(data, "train", len(train))).numpy()
            probe = linear_probe(train.numpy(), known, codes.numpy(), labels)
            add("probe_accuracy", probe.accuracy, probe.error, n_train=len(train), converged=probe.converged)
        if others is not None:
            images = module.decode(data.encode(split.take(rows)).float())
            near = closeness(images.clamp(0, 1), others.clamp(0, 1))
            for name, values in near._asdict().items():
                if values is not None:
                    error = float(values.std()) / len(values) ** 0.5
                    add(name, values.mean(), error, "dB" if name == "psnr" else "", clamped="to [0, 1]")
        if "disentanglement" in self.measurable:
            self.disentangled(data, GridCodes(self, data, module, model), add)
        return found

    def disentangled(self, data: Any, codes: "GridCodes", add: Callable) -> None:
        """All six measures, on the whole grid of factors."""
        sizes, names = data.factor_sizes, ", ".join(data.factor_names)
        shared = {"factors": names, "draws_train": self.train, "draws_evaluate": self.evaluate, "split": "all"}
        shared |= {"data": codes.fingerprint, "n": self.train}

        def random(purpose: str) -> np.random.Generator:
            return np.random.default_rng(address(self.seed, "factors", purpose))

        def binomial(share: float) -> float:
            return (share * (1 - share) / self.evaluate) ** 0.5

        with bar("disentanglement", 6, "measure", 0, True, False) as shown:
            options = {"batch": BATCH, "train": self.train, "evaluate": self.evaluate}
            score = beta_vae(codes, sizes, random("beta_vae"), **options)
            add("beta_vae_score", score, binomial(score), **shared, batch=BATCH)
            shown.update()
            score, active = factor_vae(codes, sizes, random("factor_vae"), **options)
            more = {"active_codes": active, "active_above": ACTIVE, "batch": BATCH}
            add("factor_vae_score", score, binomial(score), **shared, **more)
            shown.update()
            factors, tests = draw(sizes, self.train, random("train")), draw(sizes, self.evaluate, random("test"))
            z, z_test = codes(factors), codes(tests)
            for name, measure in (("mig", mig), ("modularity", modularity)):
                add(name, measure(z, factors), **shared, bins=BINS)
                shown.update()
            add("sap", sap(z, factors, z_test, tests), **shared)
            shown.update()
            for name, value in dci(z, factors, z_test, tests)._asdict().items():
                add(f"dci_{name}", value, **shared)
            shown.update()


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
        x = self.data.encode(self.images[block * size : (block + 1) * size]).to(device)
        noise = generator(self.callback.seed, "representation", "grid", block, device=device)
        codes = self.callback.chosen.encode(self.model, x, noise).float().cpu().numpy()
        if not np.isfinite(codes).all():
            raise NonFinite("codes of the grid of factors are not finite: the model has diverged")
        if self.table is None:
            self.table = np.zeros((len(self.images), codes.shape[1]), dtype=np.float32)
        self.table[block * size : (block + 1) * size] = codes
        self.known[block] = True
