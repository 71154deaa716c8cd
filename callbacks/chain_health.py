"""Whether the chains of contrastive divergence follow the energy: gap, mixing, and where short chains drift to."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_gen.bar import bar
from lightning_gen.callbacks.progress import shows
from lightning_gen.callbacks.publish import log_image, publish, step_of
from lightning_gen.losses import ContrastiveDivergence
from lightning_gen.models import Energy
from lightning_gen.randomness import generator
from lightning_gen.results.drawing import GAP, check_finite, grid, save_png, scatter, to_uint8
from lightning_gen.results.result import Result
from lightning_gen.samplers import Sampler

SHOWN = 64  # images of each side of the picture


class ChainHealth(Callback):
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

    def __init__(
        self,
        every_n_steps: int = 500,
        chains: int = 64,
        length: int = 200,
        long: int = 10,
        weights: Literal["ema", "raw"] = "ema",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if every_n_steps < 0 or chains < 2 or length < 4 or long < 2 or weights not in ("ema", "raw"):
            raise ValueError(
                f"callbacks.health needs every_n_steps >= 0, chains >= 2, length >= 4, long >= 2, weights ema or raw, "
                f"got {every_n_steps}, {chains}, {length}, {long}, {weights}"
            )
        self.every_n_steps, self.chains, self.length, self.long = every_n_steps, chains, length, long
        self.weights, self.seed = weights, seed
        self.last = 0  # the step behind which no batch has ended yet, where gradients are accumulated

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what trains without chains, before any work."""
        if not isinstance(pl_module.loss, ContrastiveDivergence):
            raise ValueError(
                "callbacks.health watches chains, of which only ContrastiveDivergence has any, and the loss is "
                f"{type(pl_module.loss).__name__}: write callbacks.health=null"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from where the run stands, new or resumed."""
        self.last = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look when every_n_steps divides the number of optimizer steps, once."""
        step, last = trainer.global_step, self.last
        self.last = step
        if step != last and self.every_n_steps and step % self.every_n_steps == 0:
            self.look(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the fresh chains."""
        self.look(trainer, pl_module, final=True)

    @torch.inference_mode(False)
    @torch.no_grad()
    def look(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Record or publish the numbers, and draw, on rank 0."""
        if not trainer.is_global_zero:
            return
        step, sampler = step_of(trainer), module.loss.sampler
        which = self.weights if module.ema is not None else "raw"
        model, shown = module.weights(which), {}
        protocol = {"chains": self.chains, "length": self.length, "long": self.long, "weights": which}
        protocol |= {"seed": self.seed, "sampler": sampler.describe()}
        training = model.training
        model.eval()
        work = self.length * self.long
        with (
            trainer.precision_plugin.forward_context(),
            bar("chains", work, "transition", 0, shows(trainer), False) as progress,
        ):
            if final and trainer.datamodule is not None:
                x = trainer.datamodule.encode(trainer.datamodule.split("test").take(slice(0, 500))).to(module.device)
                shown["data"] = unlabelled(module, model, len(x)).energy(x).double().cpu()
            noise = generator(self.seed, "health", device=module.device)
            fresh = unlabelled(module, model, self.chains)
            x = sampler.start(fresh, (self.chains, *module.shape), noise).to(module.dtype)
            energies, short, long, acceptance = run_on(
                fresh, sampler, x, self.length, self.long, noise, progress.update
            )
        model.train(training)
        results = step_size(sampler)
        if not final:
            found, shown = of_batch(module.loss.last_batch, step)
            results |= found
        elif acceptance is not None:
            results["health/acceptance"] = mean(acceptance)
        check_finite(energies.T, "energies of fresh chains", step)
        for name, x in (("short", short), ("long", long)):
            check_finite(x, f"fresh chains after a {name} run", step)
        ends = {"short": energies[self.length - 1], "long": energies[-1]}
        results |= {f"energy/{name}": mean(values, "nats") for name, values in ends.items()}
        results["health/drift"] = mean(ends["long"] - ends["short"], "nats")
        results |= mixing(energies[self.length :])
        if final:
            publish(trainer, {k: replace(r, protocol=protocol | r.protocol) for k, r in results.items()}, final=True)
        else:
            values = {name: result.value for name, result in results.items()}
            errors = {f"{name}/error": result.error for name, result in results.items() if result.error is not None}
            module.record(values | errors, step)
        after = [f"after {n} transitions" for n in (self.length, self.length * self.long)]
        pictures = {"energies": histogram(shown | dict(zip(after, ends.values(), strict=True)))}
        if tuple(module.shape) == (2,):
            clouds = [x.float().cpu().numpy() for x in (short, long)]
            pictures["long"] = scatter(list(zip(after, clouds, strict=True)), reference=np.concatenate(clouds))
        elif len(module.shape) == 3:
            pictures["long"] = side_by_side(*(grid(to_uint8(module.decode(x[:SHOWN]))) for x in (short, long)))
        for name, picture in pictures.items():
            path = Path(trainer.default_root_dir) / "samples" / f"{name}-{step:08d}.png"
            log_image(trainer, f"samples/{name}", save_png(path, picture))


def unlabelled(module: Any, model: Energy, n: int) -> Energy:
    """The model as it is asked for n samples; a conditional one with the label for none."""
    if module.classes is None:
        return model
    return model.with_label(torch.full((n,), module.classes, device=module.device))


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
        else:  # the carry of machines with hidden units is their field at x
            energies.append(model.free_energy(x, carry) if torch.is_tensor(carry) else model.energy(x))
        short = x if i == length - 1 else short
        progress()
    share = carry[2].cpu() if isinstance(carry, tuple) else None
    return torch.stack(energies).double().cpu(), short, x, share


def of_batch(seen: Mapping[str, Tensor], step: int) -> tuple[dict[str, Result], dict[str, Tensor]]:
    """Results of the last training batch, and its energies by name, (B,) float64 on the CPU."""
    data, chains = (seen[name].double().cpu() for name in ("data", "chains"))
    for what, x in (("energies of data", data), ("energies of training chains", chains)):
        check_finite(x[:, None], what, step)
    check_finite(seen["reached"], "training chains", step)
    results = {"energy/data": mean(data, "nats"), "energy/chains": mean(chains, "nats")}
    up, down = results["energy/chains"], results["energy/data"]
    results["energy/gap"] = Result(up.value - down.value, "estimate", math.hypot(up.error, down.error), "nats")
    if "acceptance" in seen:
        results["health/acceptance"] = mean(seen["acceptance"].cpu())
    return results, {"data": data, "training chains": chains}


def step_size(sampler: Sampler) -> dict[str, Result]:
    """The sampler's step size, in its own convention, where it has one."""
    size = getattr(sampler, "step_size", None)
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


def mean(values: Tensor, unit: str = "") -> Result:
    """The mean of (B,), and its standard error over the chains."""
    values = values.double()
    error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Result(float(values.mean()), "estimate", error, unit)


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of one size, uint8 (H, W, C), with a wide gap between them."""
    gap = np.full((len(left), max(8, left.shape[1] // 20), left.shape[2]), GAP, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def histogram(series: Mapping[str, Tensor], bins: int = 30) -> np.ndarray:
    """Densities of named energies, (B,) each, over the same bins -> uint8 (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    low, high = (float(end) for end in torch.cat(list(series.values())).aminmax())
    room = max(0.02 * (high - low), 1e-6 * max(1.0, abs(high)))  # numpy refuses bins that the numbers cannot tell apart
    edges = np.linspace(low - room, high + room, bins + 1)
    for name, values in series.items():
        axes.hist(values.numpy(), edges, density=True, histtype="stepfilled", alpha=0.45, label=name)
    axes.set(xlabel="energy, nats", ylabel="density")
    axes.legend(fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
