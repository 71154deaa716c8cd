"""The LightningModule of every family: model, loss, optimizer, the averaged model, addressed noise, finite checks."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lightning_gen.errors import NonFinite
from lightning_gen.families.health import Health
from lightning_gen.families.sampling import Sampling
from lightning_gen.losses import Loss
from lightning_gen.models import Model
from lightning_gen.models.requirements import declared
from lightning_gen.randomness import generator, reseed
from lightning_gen.samplers import Sampler


class GenerativeModule(Sampling, LightningModule):
    """Trains `model` by `loss`; `ema` is a second model, ema <- d ema + (1 - d) model after each optimizer step.

    With ema_warmup the decay is min(ema_decay, (1 + n) / (10 + n)) at the n-th step, for short runs.
    optimizer: parameters -> Optimizer; scheduler: Optimizer -> a schedule that is stepped once per optimizer step.

    With `classes` the model is conditional: it sees each sample's label, or with probability label_dropout the label
    `classes`, which stands for none, and is sampled with `guidance` (1: conditional, 0: not, above 1: guided).
    Classifier-free diffusion guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Callable[[Iterable], torch.optim.Optimizer],
        scheduler: Callable | None = None,
        ema_decay: float | None = None,
        ema_warmup: bool = False,
        sampler: Sampler | None = None,
        shape: Sequence[int] | None = None,
        value_range: Sequence[float] | None = None,
        seed: int = 0,
        compile: bool = False,
        channels_last: bool = False,
        classes: int | None = None,
        label_dropout: float = 0.1,
        guidance: float = 1.0,
    ) -> None:
        super().__init__()
        known = next((declared(net, "classes") for net in model.networks()), None)
        if known != (None if classes is None else classes + 1):
            raise ValueError(
                f"module.classes is {classes}, net.classes is {known}: write net.classes = module.classes + 1"
                " (the last is the label for none), or null for both"
            )
        if not 0 <= label_dropout < 1 or (classes is None and guidance != 1) or guidance < 0:
            raise ValueError(
                f"module.label_dropout is {label_dropout}, guidance {guidance}, classes {classes}: give a dropout"
                " in [0, 1), a guidance >= 0, and classes where the guidance is not 1"
            )
        self.classes, self.label_dropout, self.guidance = classes, label_dropout, guidance
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"module.ema_decay is {ema_decay}: give a number in [0, 1), or null for no average")
        self.value_range = None if value_range is None else tuple(value_range)
        self.shape = None if shape is None else tuple(shape)
        self.model, self.loss, self.sampler = model, loss, sampler
        loss.check(model)
        if sampler is not None:
            self.check(sampler)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.ema = None if ema_decay is None else copy.deepcopy(model).requires_grad_(False).eval()
        self.ema_decay, self.ema_warmup, self.seed = ema_decay, ema_warmup, seed
        self.compiled, self.channels_last = compile, channels_last
        self.last_loss: float | None = None  # host copy for the progress bar, renewed at the logging interval
        self.health = Health()

    @classmethod
    def fitted(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """What the family reads off the training data where its config has null: those keys, for run.py to store."""
        return {}

    def check(self, sampler: Sampler) -> None:
        """Raise TypeError or ValueError, one sentence, for a sampler that does not fit this model or its data."""
        sampler.check(self.model)
        sampler.plan(self.model, (1, *(self.shape or ())))
        if sampler.clip is not None and tuple(sampler.clip) != self.value_range:
            raise ValueError(
                f"sampler.clip is {list(sampler.clip)}, the data's range is {self.value_range}: write the range or null"
            )

    # Training

    def configure_model(self) -> None:
        """Compile networks and choose their memory format, once, before the optimizer sees the parameters."""
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        for model in {self.model, self.averaged} if self.compiled else ():
            for net in model.networks():
                net.compile()
        self.compiled = False  # Lightning calls this before every stage

    def configure_optimizers(self) -> Any:
        """The optimizer over the raw model, and its schedule by steps."""
        optimizer = self.make_optimizer(self.model.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Count from where the run stands, new or resumed."""
        self.health.reset(self.trainer.global_step)
        # Walking the modules for their tensors at each step would take longer than the average itself.
        models = () if self.ema is None else (self.ema, self.model)
        self.averages, self.copies = [list(m.parameters()) for m in models], [list(m.buffers()) for m in models]

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean loss of the batch; its noise depends on (seed, epoch, batch, rank) alone."""
        place = (self.current_epoch, batch_idx, self.global_rank)
        reseed(self.seed, "train", *place)
        model = self.labelled(self.model, batch, place)
        loss = self.loss(model, batch["x"], generator(self.seed, "noise", *place, device=self.device)).mean()
        self.health.loss(loss)
        return loss

    def labelled(self, model: Model, batch: dict[str, Tensor], place: tuple[int, ...] | None = None) -> Model:
        """The model with the batch's labels bound to it, if it is conditional; in training some stand for none."""
        if self.classes is None:
            return model
        if "label" not in batch:
            raise ValueError(
                "module.classes is given, but the data have no labels: write null for it and for net.classes"
            )
        label = batch["label"]
        if place is not None and self.label_dropout:
            draw = torch.rand(len(label), generator=generator(self.seed, "label", *place)).to(label.device)
            label = torch.where(draw < self.label_dropout, self.classes, label)
        return model.with_label(label)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip, and hold the update back on the device where loss or gradient is not finite."""
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters])
        if gradient_clip_val and gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        elif gradient_clip_val:
            torch.nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, norm)
        self.health.gradient(norm, self.trainer)
        if self.device.type != "cpu" and getattr(optimizer, "_step_supports_amp_scaling", False):
            # A fused optimizer leaves weights and moments alone where found_inf is 1: no host sync.
            optimizer.grad_scale, optimizer.found_inf = None, self.health.bad
        else:
            self.health.stop(self.trainer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """One step, then the average's, then every log_every_n_steps what the host wants to know."""
        super().optimizer_step(*args, **kwargs)
        step = self.trainer.global_step + 1  # Lightning counts this step after the hook
        if self.ema is not None:
            decay = min(self.ema_decay, (1 + step) / (10 + step)) if self.ema_warmup else self.ema_decay
            with torch.no_grad():
                get_ema_multi_avg_fn(decay)(*self.averages, step)
                for kept, current in zip(*self.copies, strict=True):
                    kept.copy_(current)
        if step % self.trainer.log_every_n_steps == 0:
            self.health.stop(self.trainer)
            values = self.health.read(step)
            self.last_loss = values["train/loss"]
            self.record({**values, "train/lr": self.optimizers(use_pl_optimizer=False).param_groups[0]["lr"]}, step)

    def record(self, values: dict[str, float], step: int) -> None:
        """Hand values to every logger at the count of optimizer steps, the one axis of all curves and pictures."""
        for logger in self.trainer.loggers:
            logger.log_metrics({**values, "epoch": self.current_epoch}, step=step)

    # Validation and test

    def on_validation_epoch_start(self) -> None:
        """Start the sums of the loss."""
        self.sums = torch.zeros(2, dtype=torch.float64)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Add the averaged model's loss; the noise depends on (seed, first sample's index)."""
        place = generator(self.seed, "val", int(batch["index"][0]), device=self.device)
        loss = self.loss(self.labelled(self.averaged, batch), batch["x"], place)
        if not torch.isfinite(loss).all():
            raise NonFinite(
                f"validation loss is not finite at step {self.trainer.global_step}, rank {self.global_rank}"
            )
        self.sums += torch.tensor([loss.double().sum().item(), len(loss)], dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:
        """Record the mean over all samples of all ranks, named for the weights that it measured."""
        if self.trainer.sanity_checking:
            return
        total, count = self.trainer.strategy.reduce(self.sums.to(self.device, torch.float32), reduce_op="sum")
        name = "val/loss/raw" if self.ema is None else "val/loss/ema"
        if count > 0:
            self.trainer.callback_metrics[name] = total / count
            self.record({name: float(total / count)}, self.trainer.global_step)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Nothing: the test loop is where the evaluation callbacks work."""
