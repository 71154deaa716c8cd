"""Log-likelihoods of energies: log Z by annealed importance sampling from both sides, and exactly where it can be."""

import math
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.epochs import AtEpochs
from lightning_gen.callbacks.publish import publish
from lightning_gen.errors import NonFinite
from lightning_gen.families.rbm import means
from lightning_gen.likelihood import (
    SETTLE,
    EnergyPath,
    GaussianPath,
    Partition,
    RBMPath,
    bits_per_dim,
    dequantised,
    floored,
    log_weights,
    partition,
    temperatures,
    tuned_steps,
)
from lightning_gen.models import RBM, Energy, GaussianBernoulliRBM, HiddenUnits
from lightning_gen.randomness import generator
from lightning_gen.results.result import Result
from lightning_gen.samplers import HMC, MALA, Gibbs

BLOCK = 50  # chains that share a generator; ranks take blocks in turn


class AnnealedImportance(AtEpochs):
    """ais/log_z/<side> and ais/log_likelihood/<side>, nats, of `n` samples of a split (null = all), by `chains` chains.

    forward starts at independent units with the data's marginals: in expectation log Z is bounded from below and so the
    log-likelihood from above. reverse starts at exact samples where one side has at most 20 units, and then bounds from
    the other side; else at the ends of `burn` transitions from training data: an estimate, no bound. There, log Z is
    also listed exactly: exact/log_likelihood. schedule: `salakhutdinov`, or a number of equal steps. transition: of an
    energy without hidden units, MALA or HMC; with `tune` a pilot run finds its step size for each temperature.
    8-bit images that are not binarised are dequantised, and ais/bits_per_dim stands beside the nats of model space.
    The error has both parts: the weights' and the standard error over samples.
    Salakhutdinov & Murray (2008), https://doi.org/10.1145/1390156.1390266
    """

    def __init__(
        self,
        chains: int = 100,
        schedule: Literal["salakhutdinov"] | int = "salakhutdinov",
        reverse: bool = True,
        burn: int = 1000,
        n: int | None = None,
        split: Literal["train", "val", "test"] = "test",
        weights: Literal["ema", "raw"] = "ema",
        transition: MALA | HMC | None = None,
        tune: bool = True,
        seed: int = 0,
        every_n_epochs: int = 0,
    ) -> None:
        super().__init__()
        if chains < 2 or burn < 1 or (n is not None and n < 2) or every_n_epochs < 0:
            raise ValueError(
                f"callbacks.likelihood needs chains >= 2, burn >= 1, n >= 2 or null, every_n_epochs >= 0, "
                f"got {chains}, {burn}, {n}, {every_n_epochs}"
            )
        if split not in ("train", "val", "test") or weights not in ("ema", "raw"):
            raise ValueError(
                f"callbacks.likelihood needs split train, val or test and weights ema or raw, got {split}, {weights}"
            )
        self.betas, self.schedule = temperatures(schedule), schedule
        self.chains, self.reverse, self.burn, self.n, self.split = chains, reverse, burn, n, split
        self.weights, self.seed, self.every_n_epochs = weights, seed, every_n_epochs
        self.transition, self.tune = MALA(1, 1e-2) if transition is None else transition, tune

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what has no likelihood, before any work."""
        model = pl_module.model
        if not isinstance(model, Energy):
            raise ValueError(
                f"callbacks.likelihood anneals an energy, got {type(model).__name__}: write "
                "callbacks.likelihood=null, or callbacks.likelihood._target_=callbacks.FlowLikelihood"
            )
        if why := model.why_unnormalisable():
            raise ValueError(f"exp(-E) has no likelihood: {why}; or write callbacks.likelihood=null")
        samplers = {
            "module.sampler": pl_module.sampler,
            "module.loss.sampler": getattr(pl_module.loss, "sampler", None),
        }
        for name, sampler in {**samplers, "callbacks.likelihood.transition": self.transition}.items():
            heat = getattr(sampler, "temperature", 1.0)
            if heat != 1:
                raise ValueError(
                    f"{name}.temperature is {heat}: a likelihood is that of temperature 1; set it, or write "
                    "callbacks.likelihood=null"
                )

    def publishes(self, module: Any) -> set[str]:
        """log Z and likelihoods, by each side and exactly."""
        which = self.weights if module.ema is not None else "raw"
        model = module.weights(which)
        tails = [("ais", f"forward/{which}"), *([("ais", f"reverse/{which}")] if self.reverse else [])]
        tails += [("exact", which)] if model.tractable() else []
        spread = not isinstance(model, RBM) and module.value_range is not None
        names = ("log_z", "log_likelihood", *(["bits_per_dim"] if spread else []))
        return {f"{head}/{name}/{tail}" for head, tail in tails for name in names}

    @torch.inference_mode(False)
    @torch.no_grad()
    def measure(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Publish log Z and the log-likelihood by each side, and exactly where that can be."""
        which = self.weights if module.ema is not None else "raw"
        model, data = module.weights(which), trainer.datamodule
        training = model.training
        model.eval()
        nats, protocol = self.unnormalised(module, model, data, which)
        found: dict[str, tuple[Partition, str, dict]] = {}
        if model.tractable():
            exact = Partition(float(model.exact_log_z()), 0.0, math.inf)
            found["exact"] = exact, "exact", {}
        path = self.path(model, data, module)
        if self.tune and isinstance(path, EnergyPath) and len(self.betas) > 2:
            path.sizes = self.tuned(trainer, path)
        sides = ("forward", "reverse") if self.reverse else ("forward",)
        for side in sides:
            weights, how = self.side(trainer, model, data, path, side == "reverse")
            if not torch.isfinite(weights).all():
                raise NonFinite(f"AIS weights ({side}) are not finite at step {trainer.global_step}: E is not finite")
            sure = side == "forward" or model.tractable()
            kind = ("lower bound" if side == "forward" else "upper bound") if sure else "estimate"
            found[f"ais/{side}"] = partition(path, weights, side == "reverse"), kind, how
        model.train(training)
        publish(trainer, self.results(module, nats, found, protocol, which), final)

    def unnormalised(self, module: Any, model: Energy, data: Any, which: str) -> tuple[Tensor, dict[str, Any]]:
        """-E(x) of every measured sample, float64 on the CPU, and what the protocol says of them."""
        split = data.split(self.split)
        n = len(split) if self.n is None else min(self.n, len(split))
        if n < 2:
            raise ValueError(f"callbacks.likelihood.split {self.split} has {n} samples: choose another split")
        discrete, parts = isinstance(model, RBM), []
        spread = not discrete and module.value_range is not None
        for start in range(0, n, 500):
            x = data.encode(split.take(slice(start, min(start + 500, n)))).to(module.device)
            if spread:
                noise = generator(self.seed, "dequantise", start, device=module.device)
                x = dequantised(x, module.value_range, noise)
            parts.append(-model.energy(x).double().cpu())
        return torch.cat(parts), {
            "split": self.split,
            "data": split.fingerprint(),
            "n": n,
            "weights": which,
            "seed": self.seed,
            "binarisation": getattr(data, "binarise", None) or "none",
            "dequantisation": "uniform" if spread else "none",
            "sigma": model.noise_level(),
        }

    def path(self, model: Energy, data: Any, module: Any) -> RBMPath | GaussianPath | EnergyPath:
        """From the marginals of the training data."""
        mean, variance = (value.to(module.device) for value in means(data))
        if isinstance(model, RBM):
            return RBMPath(model, torch.logit(mean.clamp(0.01, 0.99)))
        variance = floored(variance)
        if isinstance(model, GaussianBernoulliRBM):
            return GaussianPath(model, mean, variance)
        shape = module.shape
        return EnergyPath(model, mean.float().view(shape), variance.float().view(shape), self.transition)

    def tuned(self, trainer: Trainer, path: EnergyPath) -> dict[float, float]:
        """Step sizes by a pilot run of one block of chains, rank 0's on every rank."""
        place = generator(self.seed, "ais", "pilot", device=trainer.lightning_module.device)
        with bar("AIS step sizes", len(self.betas) - 2 + SETTLE, "move", 0, trainer.is_global_zero, False) as shown:
            found = tuned_steps(path, self.betas, BLOCK, place, shown.update)
        return trainer.strategy.broadcast(found)

    def side(self, trainer: Trainer, model: Energy, data: Any, path: Any, reverse: bool) -> tuple[Tensor, dict]:
        """log w of all chains, and how they were made."""
        device, side = trainer.lightning_module.device, "reverse" if reverse else "forward"
        weights = torch.zeros(self.chains, dtype=torch.float64, device=device)
        blocks = range(trainer.global_rank, -(-self.chains // BLOCK), trainer.world_size)
        how = {"transition": "Gibbs" if isinstance(model, HiddenUnits) else self.transition.describe()}
        if isinstance(path, EnergyPath):
            path.forget()
            if path.sizes:
                how["step_sizes"] = [size for _, size in sorted(path.sizes.items())][:: len(path.sizes) - 1 or 1]
        exact = model.tractable()
        if reverse:
            how["started"] = "exact samples" if exact else f"after {self.burn} steps from training data"
        work = len(blocks) * (len(self.betas) - 1)
        with bar(f"AIS {side}", work, "temperature", 0, trainer.is_global_zero, False) as shown:
            for block in blocks:
                place = generator(self.seed, "ais", side, block, device=device)
                n = min(BLOCK, self.chains - block * BLOCK)
                if not reverse:
                    v = path.start(n, place)
                elif exact:
                    v = model.draw((n, *trainer.lightning_module.shape), place)
                else:
                    v = self.burned(model, path, data, block * BLOCK, n, place)
                log_w = log_weights(path, self.betas, v, place, reverse, shown.update)
                weights[block * BLOCK : block * BLOCK + n] = log_w
        if path.acceptance() is not None:
            how["acceptance"] = path.acceptance()
        return trainer.strategy.reduce(weights, reduce_op="sum").cpu(), how

    def burned(self, model: Energy, path: Any, data: Any, first: int, n: int, place: torch.Generator) -> Tensor:
        """Ends of `burn` transitions from training data, (n, ...); where sizes were found, of the last one."""
        split = data.split("train")
        rows = torch.arange(first, first + n) % len(split)
        v = data.encode(split.take(rows)).to(place.device)
        sampler, carry = Gibbs(1) if isinstance(model, HiddenUnits) else self.transition, None
        transition = sampler.plan(model, tuple(v.shape))[-1]
        if isinstance(path, EnergyPath):
            transition = sampler.proposal(path.sizes.get(self.betas[-2], sampler.step_size))
        for _ in range(self.burn):
            v, carry = sampler.step(model, v, transition, carry, place)
        return v

    def results(self, module: Any, nats: Tensor, found: dict, protocol: dict, which: str) -> dict[str, Result]:
        """log Z and mean log-likelihood of each way, typed."""
        opposite = {"lower bound": "upper bound", "upper bound": "lower bound"}
        results, n = {}, len(nats)
        for name, (z, kind, how) in found.items():
            head, *side = name.split("/")
            tail = "/".join([*side, which])
            more = {**protocol, **how}
            if kind != "exact":
                more |= {
                    "chains": self.chains,
                    "temperatures": len(self.betas) - 1,
                    "schedule": str(self.schedule),
                    "ess": z.ess,
                    "bounds": "in expectation over the chains" if kind != "estimate" else "nothing",
                }
            results[f"{head}/log_z/{tail}"] = Result(z.log_z, kind, z.error or None, "nats", more)
            values = nats - z.log_z
            error = math.hypot(float(values.std()) / n**0.5, z.error)
            turned = opposite.get(kind, kind)
            results[f"{head}/log_likelihood/{tail}"] = Result(float(values.mean()), turned, error, "nats", more)
            if protocol["dequantisation"] == "uniform":
                d = math.prod(module.shape)
                bits = bits_per_dim(values, d, module.value_range)
                # Jensen's bound is from above, and so is the two together only where log Z is.
                bits_kind = "upper bound" if kind == "upper bound" else "estimate"
                results[f"{head}/bits_per_dim/{tail}"] = Result(
                    float(bits.mean()), bits_kind, error / d / math.log(2), "bits/dim", {**more, "levels": 256}
                )
        return results
