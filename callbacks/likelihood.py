"""The variational bound of a discrete diffusion on the data, in bits/dim."""

from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.progress import bar
from callbacks.record import publish
from lightning_gen.likelihood.bound import variational_bound
from lightning_gen.randomness import generator
from lightning_gen.result import NonFinite, Result


class Likelihood(Callback):
    """Upper bound on -log2 p(x) / dim over `n` images of a split (null = all), with its three parts.

    vlb/bits_per_dim = prior L_T + diffusion sum L_{k-1} + decoder L_0; its error is the standard error over images.
    8-bit images are scored as they are: no dequantisation, no clipping. DDPM (Ho et al., 2020, section 4.3).
    """

    def __init__(
        self,
        n: int | None = None,
        split: Literal["train", "val", "test"] = "test",
        variance: Literal["small", "large"] = "large",
        weights: Literal["ema", "raw"] = "ema",
        batch: int = 256,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        if n is not None and n < 2:
            raise ValueError(f"callbacks.likelihood.n is {n}: give at least 2, or null for the whole split")
        if split not in ("train", "val", "test") or variance not in ("small", "large") or weights not in ("ema", "raw"):
            raise ValueError(
                f"callbacks.likelihood needs split train, val or test, variance small or large, weights ema or raw; "
                f"got {split}, {variance}, {weights}"
            )
        self.n, self.split, self.variance, self.weights = n, split, variance, weights
        self.batch, self.seed, self.every_n_epochs = batch, seed, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has no such bound before any work."""
        if pl_module.model.process.steps is None:
            raise ValueError(
                f"callbacks.likelihood needs a discrete process, got {type(pl_module.model.process).__name__}: "
                "write callbacks.likelihood=null"
            )
        if pl_module.value_range is None:
            raise ValueError("callbacks.likelihood scores 8-bit images, got data without a range: write null for it")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure when every_n_epochs divides the number of epochs done."""
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and not trainer.sanity_checking:
            self.measure(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure by the full protocol."""
        self.measure(trainer, pl_module, final=True)

    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Bound every image once, dealt to the ranks in blocks whose noise depends on (seed, block) alone."""
        data, device = trainer.datamodule, module.device
        split = data.split(self.split)
        n = len(split) if self.n is None else min(self.n, len(split))
        if n < 2:
            raise ValueError(f"callbacks.likelihood.split {self.split} has {n} images: choose another split")
        model = module.weights(self.weights if module.ema is not None else "raw")
        starts = range(trainer.global_rank * self.batch, n, trainer.world_size * self.batch)
        terms = torch.zeros(n, 3, dtype=torch.float64, device=device)
        training = model.training
        model.eval()
        work, shown = len(starts) * model.process.steps, trainer.is_global_zero
        with trainer.precision_plugin.forward_context(), bar("bits/dim", work, "term", 0, shown, False) as progress:
            for start in starts:
                indices = torch.arange(start, min(start + self.batch, n))
                x = data.encode(split.images(indices)).to(device)
                noise = generator(self.seed, "bound", start, device=device)
                bits = variational_bound(model, x, noise, module.value_range, self.variance, progress.update)
                parts = torch.stack([bits[:, 0], bits[:, 1:-1].sum(1), bits[:, -1]], dim=1)
                terms[start : start + len(x)] = parts.double()
        model.train(training)
        terms = trainer.strategy.reduce(terms, reduce_op="sum")
        if not torch.isfinite(terms).all():
            raise NonFinite(f"bits/dim is not finite at step {trainer.global_step}: the model's output is not finite")
        publish(trainer, self.results(module, terms.cpu(), n, split.fingerprint()), final)

    def results(self, module: Any, terms: torch.Tensor, n: int, fingerprint: str) -> dict[str, Result]:
        """The bound and its parts from per-image terms (n, 3): decoder, diffusion, prior."""
        measured = self.weights if module.ema is not None else "raw"
        protocol = {
            "split": self.split,
            "data": fingerprint,
            "n": n,
            "terms": module.model.process.steps + 1,
            "variance": self.variance,
            "weights": measured,
            "levels": 256,
            "dequantisation": "none",
            "seed": self.seed,
            "block": self.batch,
        }

        def result(values: torch.Tensor) -> Result:
            return Result(values.mean().item(), "upper bound", values.std().item() / n**0.5, "bits/dim", protocol)

        names = {"decoder": terms[:, 0], "diffusion": terms[:, 1], "prior": terms[:, 2]}
        parts = {f"vlb/{name}/{measured}": result(values) for name, values in names.items()}
        return {f"vlb/bits_per_dim/{measured}": result(terms.sum(1)), **parts}
