"""Log-likelihoods of energies: log Z by annealed importance sampling from both sides, and exactly where it can be."""

import math
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.evaluation import pieces_of
from lightning_gen.callbacks.measuring import Measuring, Split
from lightning_gen.callbacks.publishing import step_of
from lightning_gen.errors import NonFinite
from lightning_gen.families.rbm import data_moments
from lightning_gen.likelihood import (
    PILOT_BURN_IN,
    AnnealingPath,
    Partition,
    annealing_path,
    bits_per_dim,
    dequantised,
    log_weights,
    partition,
    path_class,
    temperatures,
    tuned_steps,
)
from lightning_gen.models import BINARY, Energy
from lightning_gen.options import Count
from lightning_gen.randomness import generator
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import HMC, MALA

BLOCK = 50  # chains that share a generator; ranks take blocks in turn


class AnnealedImportance(Measuring):
    """ais/log_z/<side> and ais/log_likelihood/<side>, nats, of `n` samples of a split (null = all), by `chains` chains.

    forward starts at independent units with the data's marginals: in expectation log Z is bounded from below and so the
    log-likelihood from above. reverse starts at exact samples where one side has at most 20 units, and then bounds from
    the other side; else at the ends of `burn` transitions from training data: an estimate, no bound. There, log Z is
    also listed exactly: exact/log_likelihood. schedule: `salakhutdinov`, or a number of equal steps. transition: of an
    energy without hidden units, MALA or HMC; with `tune` a pilot run finds its step size for each temperature.
    8-bit images that are not binarised are dequantised, and ais/bits_per_dim stands beside the nats of model space.
    The error has both parts: the weights' and the standard error over samples. A stopped evaluation keeps its step
    sizes and whole blocks of 50 chains.
    Salakhutdinov & Murray (2008), https://doi.org/10.1145/1390156.1390266
    """

    key = "callbacks.likelihood"
    role = "likelihood"
    needs = (Energy,)

    def __init__(
        self,
        chains: Annotated[int, Ge(2)] = 100,
        schedule: Literal["salakhutdinov"] | Count = "salakhutdinov",
        reverse: bool = True,
        burn: Count = 1000,
        n: Annotated[int, Ge(2)] | None = None,
        split: Split = "test",
        transition: MALA | HMC | None = None,
        tune: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(n=n, split=split, **options)
        self.betas, self.schedule = temperatures(schedule), schedule
        self.chains, self.reverse, self.burn = chains, reverse, burn
        self.transition, self.tune = MALA(1, 1e-2) if transition is None else transition, tune

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has no likelihood, before any work."""
        super().setup(trainer, pl_module, stage)
        model = pl_module.model
        path_class(model)
        if why := model.why_unnormalisable():
            raise ValueError(f"exp(-E) has no likelihood: {why}; or write callbacks.likelihood=null")
        samplers = {
            "module.sampler": pl_module.sampler,
            "module.loss.sampler": None if pl_module.loss is None else pl_module.loss.sampler,
            "callbacks.likelihood.transition": self.transition,
        }
        for name, sampler in samplers.items():
            if sampler is not None and sampler.temperature != 1:
                raise ValueError(
                    f"{name}.temperature is {sampler.temperature}, and a likelihood is that of temperature 1: "
                    "set it, or write callbacks.likelihood=null"
                )

    def publishes(self, module: Any) -> set[Name]:
        which = self.measured(module)
        model = module.weights(which)
        ways = [("ais", side) for side in self.sides] + ([("exact", None)] if model.tractable() else [])
        spread = model.support != BINARY and module.value_range is not None
        quantities = ("log_z", "log_likelihood", *(["bits_per_dim"] if spread else []))
        return {Name(f"{method}/{name}", None, which, side) for method, side in ways for name in quantities}

    @property
    def sides(self) -> tuple[str, ...]:
        """From which ends the path is taken."""
        return ("forward", "reverse") if self.reverse else ("forward",)

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        data = trainer.datamodule
        with self.model(trainer, module) as model:
            nats, protocol = self.unnormalised(module, model, data)
            results = []
            if model.tractable():
                exact = Partition(float(model.log_z()), 0.0, math.inf)
                results += self.results(module, nats, "exact", None, exact, "exact", protocol)
            mean, variance = (value.to(module.device, module.dtype).view(module.shape) for value in data_moments(data))
            path = annealing_path(model, mean, variance, self.transition)
            if self.tune and path.tunable and len(self.betas) > 2:
                path.tune(self.tuned(trainer, path))
            for side in self.sides:
                weights, how = self.side(trainer, model, path, side)
                if not torch.isfinite(weights).all():
                    raise NonFinite(f"AIS weights ({side}) are not finite at step {step_of(trainer)}: E is not finite")
                kind = {"forward": "lower bound", "reverse": "upper bound"}[side]
                kind = kind if side == "forward" or model.tractable() else "estimate"
                z = partition(path, weights, side == "reverse")
                results += self.results(module, nats, "ais", side, z, kind, protocol | how)
        return results

    def unnormalised(self, module: Any, model: Energy, data: Any) -> tuple[Tensor, dict[str, Any]]:
        """-E(x) of every measured sample, float64 on the CPU, and what the protocol says of them."""
        split, n = self.samples_of(data)
        parts, spread = [], model.support != BINARY and module.value_range is not None
        for start in range(0, n, 500):
            x = data.encode(split.take(slice(start, min(start + 500, n)))).to(module.device, module.dtype)
            if spread:
                noise = generator(self.seed, "dequantise", start, device=module.device)
                x = dequantised(x, module.value_range, noise)
            parts.append(-model.energy(x).double().cpu())
        return torch.cat(parts), {
            "split": self.split,
            "data": split.fingerprint(),
            "n": n,
            "weights": self.measured(module),
            "seed": self.seed,
            "binarisation": data.binarise or "none",
            "dequantisation": "uniform" if spread else "none",
            "sigma": model.noise_level(),
        }

    def tuned(self, trainer: Trainer, path: AnnealingPath) -> dict[float, float]:
        """Step sizes by a pilot run of one block of chains, rank 0's on every rank."""
        device, pieces = trainer.lightning_module.device, pieces_of(trainer, self, "step sizes")
        if kept := pieces and pieces.load(0, torch.device("cpu")):
            sizes = dict(zip(kept["betas"].tolist(), kept["sizes"].tolist(), strict=True))
        else:
            noise = generator(self.seed, "ais", "pilot", device=device)
            with self.bar(trainer, "AIS step sizes", len(self.betas) - 2 + PILOT_BURN_IN, "move") as progress:
                sizes = tuned_steps(path, self.betas, BLOCK, noise, progress.update)
        sizes = trainer.strategy.broadcast(sizes)
        if pieces and not kept and trainer.is_global_zero:
            values = {"betas": list(sizes), "sizes": list(sizes.values())}
            pieces.store(0, {name: torch.tensor(x, dtype=torch.float64) for name, x in values.items()})
        return sizes

    def side(self, trainer: Trainer, model: Energy, path: Any, side: str) -> tuple[Tensor, dict]:
        """log w of all chains from one end, and how they were made."""
        device, exact, reverse = trainer.lightning_module.device, model.tractable(), side == "reverse"
        weights, accepted = torch.zeros(self.chains, dtype=torch.float64, device=device), []
        blocks = range(trainer.global_rank, -(-self.chains // BLOCK), trainer.world_size)
        how, pieces = path.describe(), pieces_of(trainer, self, side)
        if reverse:
            how["started"] = "exact samples" if exact else f"after {self.burn} steps from training data"
        with self.bar(trainer, f"AIS {side}", len(blocks) * (len(self.betas) - 1), "temperature") as progress:
            for block in blocks:
                chains = torch.arange(block * BLOCK, min((block + 1) * BLOCK, self.chains))
                kept = pieces and pieces.load(block, device)
                if kept:
                    progress.update(len(self.betas) - 1)
                else:
                    noise = generator(self.seed, "ais", side, block, device=device)
                    v = self.starts(trainer, model, path, reverse, chains, noise)
                    path.reset_acceptance()
                    values = log_weights(path, self.betas, v, noise, reverse, progress.update)
                    kept = {"weights": values, "acceptance": path.acceptance()}
                    if pieces:
                        pieces.store(block, kept)
                weights[chains] = kept["weights"]
                accepted += [] if kept["acceptance"] is None else [kept["acceptance"]] * len(chains)
        if accepted:
            how["acceptance"] = sum(accepted) / len(accepted)
        return trainer.strategy.reduce(weights, reduce_op="sum").cpu(), how

    def starts(
        self, trainer: Trainer, model: Energy, path: Any, reverse: bool, chains: Tensor, noise: torch.Generator
    ) -> Tensor:
        """Where chains with these numbers start, of the shape of as many samples."""
        module, data = trainer.lightning_module, trainer.datamodule
        if not reverse:
            return path.start(len(chains), noise)
        if model.tractable():
            return model.draw((len(chains), *module.shape), noise)
        split = data.split("train")
        return path.burn_in(
            data.encode(split.take(chains % len(split))).to(module.device, module.dtype), self.burn, noise
        )

    def results(
        self, module: Any, nats: Tensor, method: str, side: str | None, z: Partition, kind: str, protocol: dict
    ) -> list[Result]:
        """log Z of one way and the mean log-likelihood of samples with unnormalised `nats`, (n,)."""
        opposite = {"lower bound": "upper bound", "upper bound": "lower bound"}
        if kind != "exact":
            protocol = protocol | {
                "chains": self.chains,
                "temperatures": len(self.betas) - 1,
                "schedule": str(self.schedule),
                "ess": z.ess,
                "bounds": "in expectation over the chains" if kind != "estimate" else "nothing",
            }

        def result(quantity: str, value: Any, kind: str, error: float | None, unit: str, **more: Any) -> Result:
            name = Name(f"{method}/{quantity}", None, self.measured(module), side)
            return Result(float(value), kind, error, unit, {**protocol, **more}, name=name)

        values = nats - z.log_z
        error = math.hypot(float(values.std()) / len(nats) ** 0.5, z.error)
        results = [result("log_z", z.log_z, kind, z.error or None, "nats")]
        results.append(result("log_likelihood", values.mean(), opposite.get(kind, kind), error, "nats"))
        if protocol["dequantisation"] == "uniform":
            d = math.prod(module.shape)
            bits = bits_per_dim(values, d, module.value_range).mean()
            # Jensen's bound is from above, and so is the two together only where log Z is.
            kind = "upper bound" if kind == "upper bound" else "estimate"
            results.append(result("bits_per_dim", bits, kind, error / d / math.log(2), "bits/dim", levels=256))
        return results
