"""Whether the chains of contrastive divergence follow the energy: gap, mixing, and where short chains drift to."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import cycle, islice
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring, unlabelled
from lightning_gen.callbacks.publishing import save_picture, step_of
from lightning_gen.families.by_hand import data_of
from lightning_gen.models import Energy
from lightning_gen.options import Natural
from lightning_gen.randomness import generator
from lightning_gen.results.drawing import check_finite, grid, scatter, side_by_side, to_uint8
from lightning_gen.results.pictures.energies import histogram
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import Sampler

IMAGES = 64  # of each side of the picture


class ChainHealth(Measuring):
    """Energies of the last training batch, and `chains` fresh chains of the loss's sampler, run on beyond its steps.

    Every `every_n_steps` optimizer steps (0: only at the test stage): energy/data, energy/chains and energy/gap =
    chains - data, means in nats of the batch under the raw weights, and health/acceptance, health/step_size where the
    sampler has them. Then, of fresh chains under `weights`, from their start: energy/short after `length` transitions,
    energy/long after length * long, health/drift = long - short; and of the energies in between health/r_hat, split and
    rank-normalised, and health/ess, bulk, which are left out where all are alike. A drift far from 0 says that samples
    of `length` transitions are not the model's; an r_hat above 1.01 that the chains have not mixed.
    samples/energies-<step>.png: histograms; samples/long-<step>.png: short runs on the left, on the right long ones.
    At the test stage acceptance is the fresh chains', and the data are of the test split. Rank 0 works alone.
    Rank-normalization, folding, and localization (Vehtari et al., 2021), https://arxiv.org/abs/1903.08008
    On learning non-convergent non-persistent short-run MCMC (Nijkamp et al., 2019), https://arxiv.org/abs/1904.09770
    """

    key = "callbacks.health"
    needs = (Energy,)
    alone = autocast = True

    def __init__(
        self,
        every_n_steps: Natural = 500,
        chains: Annotated[int, Ge(2)] = 64,
        length: Annotated[int, Ge(4)] = 200,
        long: Annotated[int, Ge(2)] = 10,
        weights: Literal["ema", "raw"] = "ema",
        seed: Natural = 0,
    ) -> None:
        super().__init__(weights=weights, seed=seed)
        self.every_n_steps, self.chains, self.length, self.long = every_n_steps, chains, length, long

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what trains without chains, before any work."""
        super().setup(trainer, pl_module, stage)
        if pl_module.loss is None or pl_module.loss.sampler is None:
            raise ValueError(
                f"callbacks.health watches the chains of a loss, and {type(pl_module.loss).__name__} draws none: write "
                "callbacks.health=null"
            )

    def publishes(self, module: Any) -> set[Name]:
        """Nothing after epochs: it measures after steps."""
        return set()

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        """The numbers of the last batch, in training, and of fresh chains; and their pictures."""
        step, sampler = step_of(trainer), module.loss.sampler
        data = data_of(trainer) if final else None
        with (
            self.model(trainer, module) as model,
            self.bar(trainer, "chains", self.length * self.long, "transition") as progress,
        ):
            energies: dict[str, Tensor] = {}
            if data is not None:
                x = data.encode(data.split("test").take(slice(0, 500))).to(module.device, module.dtype)
                energies["data"] = unlabelled(module, model, len(x)).energy(x).double().cpu()
            noise = generator(self.seed, "health", device=module.device)
            fresh = unlabelled(module, model, self.chains)
            x = sampler.start(fresh, (self.chains, *module.shape), noise).to(module.dtype)
            path, short, long, acceptance = run_on(fresh, sampler, x, self.length, self.long, noise, progress.update)
        results = step_size(sampler)
        if not final:
            batch, energies = of_batch(module.loss.last_batch, step)
            results |= batch
        elif acceptance is not None:
            results["health/acceptance"] = Result.of_mean(acceptance.double(), "estimate")
        check_finite(path.T, "energies of fresh chains", step)
        for name, x in (("short", short), ("long", long)):
            check_finite(x, f"fresh chains after a {name} run", step)
        ends = {"short": path[self.length - 1], "long": path[-1]}
        results |= {f"energy/{name}": Result.of_mean(values, "estimate", "nats") for name, values in ends.items()}
        results["health/drift"] = Result.of_mean(ends["long"] - ends["short"], "estimate", "nats")
        results |= mixing(path[self.length :])
        after = [f"after {n} transitions" for n in (self.length, self.length * self.long)]
        save_picture(trainer, "energies", histogram(energies | dict(zip(after, ends.values(), strict=True))))
        self.draw_chains(trainer, module, dict(zip(after, (short, long), strict=True)))
        protocol = {"chains": self.chains, "length": self.length, "long": self.long}
        protocol |= {"weights": self.measured(module), "seed": self.seed, "sampler": sampler.describe()}
        return [replace(r, name=Name(name), protocol=protocol | r.protocol) for name, r in results.items()]

    def draw_chains(self, trainer: Trainer, module: Any, chains: Mapping[str, Tensor]) -> None:
        """Where short and long runs end, of points and of images."""
        if tuple(module.shape) == (2,):
            clouds = {name: x.float().cpu().numpy() for name, x in chains.items()}
            save_picture(trainer, "long", scatter([*clouds.items()], reference=np.concatenate([*clouds.values()])))
        elif len(module.shape) == 3:
            grids = [grid(to_uint8(module.decode(x[:IMAGES]))) for x in chains.values()]
            save_picture(trainer, "long", side_by_side(*grids))


def run_on(
    model: Energy,
    sampler: Sampler,
    x: Tensor,
    length: int,
    long: int,
    noise: torch.Generator,
    progress: Callable[[], Any] = lambda: None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """length * long transitions, of the sampler's plan over and over, from x (B, ...).

    Returns E after each, nats, (length * long, B) float64 on the CPU; x after `length` of them and at the end; the
    share of accepted proposals of each chain, (B,), where the sampler counts it.
    """
    energies, short, carry = [], x, None
    for i, transition in enumerate(islice(cycle(sampler.plan(model, tuple(x.shape))), length * long)):
        x, carry = sampler.step(model, x, transition, carry, noise)
        if isinstance(carry, tuple):
            energies.append(carry[0])
        else:
            energies.append(model.free_energy(x, carry) if sampler.carries_logits else model.energy(x))
        short = x if i == length - 1 else short
        progress()
    share = carry[2].cpu() if isinstance(carry, tuple) else None
    return torch.stack(energies).double().cpu(), short, x, share


def of_batch(batch: Mapping[str, Tensor], step: int) -> tuple[dict[str, Result], dict[str, Tensor]]:
    """Results of the last training batch, and its energies by name, (B,) float64 on the CPU."""
    data, chains = (batch[name].double().cpu() for name in ("data", "chains"))
    for what, x in (("energies of data", data), ("energies of training chains", chains)):
        check_finite(x[:, None], what, step)
    check_finite(batch["reached"], "training chains", step)
    energies = {"energy/data": data, "energy/chains": chains}
    results = {name: Result.of_mean(values, "estimate", "nats") for name, values in energies.items()}
    up, down = results["energy/chains"], results["energy/data"]
    results["energy/gap"] = Result(up.value - down.value, "estimate", math.hypot(up.error, down.error), "nats")
    if "acceptance" in batch:
        results["health/acceptance"] = Result.of_mean(batch["acceptance"].double().cpu(), "estimate")
    return results, {"data": data, "training chains": chains}


def step_size(sampler: Sampler) -> dict[str, Result]:
    """The sampler's step size, in its own convention, where it has one."""
    size = sampler.step_size
    return {} if size is None else {"health/step_size": Result(float(size), "exact")}


def mixing(energies: Tensor) -> dict[str, Result]:
    """r_hat and bulk ess of E along the chains, (draws, B); none of energies that are all alike."""
    if not (energies != energies[0, 0]).any():
        return {}
    from arviz_stats.base import array_stats

    draws = energies.T.numpy()
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that do not move, or between two energies
        r_hat, ess = float(array_stats.rhat(draws)), float(array_stats.ess(draws))
    return {
        "health/r_hat": Result(r_hat, "estimate"),
        "health/ess": Result(ess, "estimate", None, "draws", {"draws": draws.size}),
    }
