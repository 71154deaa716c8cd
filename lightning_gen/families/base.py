"""The LightningModule of every family: model, loss, players, the averaged model, addressed noise, validation."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import Tensor

from lightning_gen.errors import NonFinite
from lightning_gen.families.average import Average
from lightning_gen.families.optimisation import Optimisation, counted
from lightning_gen.families.players import Batch, Player
from lightning_gen.families.sampling import Sampling
from lightning_gen.losses import Loss
from lightning_gen.models import BINARY, Model
from lightning_gen.models.requirements import declared
from lightning_gen.options import Checked, Count, NonNegative, Rate, Shape, ValueRange
from lightning_gen.randomness import generator, reseed
from lightning_gen.samplers import Sampler

# Lightning's hooks that hold what no family may lose; a family has the hooks listed under "may override".
OWN = (
    *("training_step", "configure_optimizers", "optimizer_step", "configure_gradient_clipping", "lr_scheduler_step"),
    *("on_before_optimizer_step", "configure_callbacks", "configure_model", "on_save_checkpoint", "on_load_checkpoint"),
    *("on_train_start", "on_train_batch_start", "on_train_end", "automatic_optimization"),
)


class GenerativeModule(Checked, Sampling, LightningModule):
    """Trains `model` by `loss`; `ema` is a second model, ema <- d ema + (1 - d) model after each optimizer step.

    A family overrides `objective`, or `players` where several are trained; the step itself is Optimisation's.
    With ema_warmup the decay is min(ema_decay, (1 + n) / (10 + n)) at the n-th step, for short runs.
    optimizer: parameters -> Optimizer; scheduler: Optimizer -> a schedule that is stepped once per optimizer step.

    With `classes` the model is conditional: it sees each sample's label, or with probability label_dropout the label
    `classes`, which stands for none, and is sampled with `guidance` (1: conditional, 0: not, above 1: guided).
    Classifier-free diffusion guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598
    """

    def __init__(
        self,
        model: Model,
        loss: Loss | None,
        optimizer: Callable[[Iterable], torch.optim.Optimizer],
        scheduler: Callable | None = None,
        ema_decay: Rate | None = None,
        ema_warmup: bool = False,
        sampler: Sampler | None = None,
        shape: Shape | None = None,
        value_range: ValueRange | None = None,
        seed: int = 0,
        compile: bool = False,
        channels_last: bool = False,
        classes: Count | None = None,
        label_dropout: Rate = 0.1,
        guidance: NonNegative = 1.0,
    ) -> None:
        super().__init__()
        known = next((declared(net, "classes") for net in model.networks()), None)
        if known != (None if classes is None else classes + 1):
            raise ValueError(
                f"module.classes is {classes}, net.classes is {known}: write net.classes = module.classes + 1"
                " (the last is the label for none), or null for both"
            )
        if classes is None and guidance != 1:
            raise ValueError(
                f"module.guidance is {guidance}, and module.classes null: write guidance 1, or the classes"
            )
        self.classes, self.label_dropout, self.guidance = classes, label_dropout, guidance
        self.value_range = None if value_range is None else tuple(value_range)
        self.shape = None if shape is None else tuple(shape)
        self.model, self.loss, self.sampler = model, loss, sampler
        if loss is not None:  # a family of several players has objectives of its own
            loss.check(model)
        if sampler is not None:
            self.check(sampler)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.ema = None if ema_decay is None else copy.deepcopy(model).requires_grad_(False).eval()
        self.ema_decay, self.ema_warmup, self.seed = ema_decay, ema_warmup, seed
        self.compiled, self.channels_last = compile, channels_last
        self.last_loss: float | None = None  # host copy for the progress bar, renewed at the logging interval
        self.started_from: str | None = None  # the run whose weights stand here already (init)
        self.resumed: dict[str, int] | None = None  # a checkpoint's counts, until there are players

    def __init_subclass__(cls, **options: Any) -> None:
        """TypeError for a family that defines what the base owns."""
        super().__init_subclass__(**options)
        for name in OWN:
            if getattr(cls, name) is not getattr(GenerativeModule, name):
                raise TypeError(
                    f"{cls.__name__} defines {name}, which is GenerativeModule's own: override objective, or players"
                )

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

    # Training: what a family may override

    def check_data(self, data: Any) -> None:
        """Raise ValueError, one sentence, for data that the model does not fit: binary models need binary data."""
        if self.model.support == BINARY and (data.binarise is None or data.value_range != (0.0, 1.0)):
            raise ValueError(
                f"{type(self).__name__} is a model of binary values, and {data.name} has values in {data.value_range} "
                "of 256 levels: set data.binarise to fixed, stochastic or threshold, and data.value_range to [0.0, 1.0]"
            )

    def initialise(self, data: Any) -> None:
        """Set, before the first step of a new run, what the training data say."""

    def objective(self, model: Model, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses (B,) of a batch, all random numbers from `noise` or torch's reseeded generators; training measures
        them of the raw model, validation of the averaged one. step: optimizer steps so far."""
        return self.loss(model, batch["x"], noise)

    def players(self) -> list[Player]:
        """Who is trained, in the order of play, the main one last: here one, the parameters of model and loss."""
        parameters = [*self.model.parameters(), *self.loss.parameters()]
        return [Player("model", parameters, self.objective, self.make_optimizer, self.make_scheduler)]

    def training_state(self) -> dict[str, Any]:
        """What a checkpoint has to hold besides weights and optimizers, by keys of its own; called on all ranks."""
        return {}

    def load_training_state(self, checkpoint: dict[str, Any]) -> None:
        """Go on from what `training_state` returned."""

    def watch(self, step: int) -> None:
        """Look at what else may go wrong, on all ranks, every log_every_n_steps optimizer steps."""

    # Training: what the base owns

    def setup(self, stage: str) -> None:
        """Look at the data, before any work; a new run starts from what they say."""
        data = self.trainer.datamodule
        if data is None:
            return
        self.check_data(data)
        if stage == "fit" and self.started_from is None:
            self.initialise(data)
            if self.ema is not None:
                self.ema.load_state_dict(self.model.state_dict())

    def configure_callbacks(self) -> list:
        """Refuse what cannot be done; Lightning checks next whether it could clip and accumulate."""
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in self.trainer.callbacks):
            raise ValueError(
                "callbacks hold a GradientAccumulationScheduler, which Lightning takes under automatic optimisation "
                "alone: remove it, and write trainer.accumulate_grad_batches"
            )
        # Lightning refuses both keys where a module optimises manually: here Optimisation does as they say.
        self.automatic_optimization = True
        return []

    def configure_model(self) -> None:
        """Compile networks and choose their memory format, once, before the optimizer sees the parameters."""
        self.automatic_optimization = False
        if self.channels_last:
            self.to(memory_format=torch.channels_last)
        for model in {self.model, self.averaged} if self.compiled else ():
            for net in model.networks():
                net.compile()
        self.compiled = False  # Lightning calls this before every stage

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """The players' optimizers over the raw weights, and their schedules by steps."""
        average = None if self.ema is None else Average(self.ema, self.model, self.ema_decay, self.ema_warmup)
        self.optimisation = Optimisation(self, self.players(), average)
        state, self.resumed = self.resumed, None
        if state is not None:
            self.optimisation.load_state(state)
        return self.optimisation.build()

    def on_train_start(self) -> None:
        """Count from where the run stands."""
        self.optimisation.start()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Several ranks begin with equal buffers."""
        self.optimisation.share_buffers(batch_idx)

    def on_train_end(self) -> None:
        """NonFinite where a loss or gradient after the last record was not finite."""
        self.optimisation.finish()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch for the players whose turn it is."""
        return self.optimisation.step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and stop what is not finite: Lightning calls this between unscaled gradient and update."""
        self.optimisation.check()

    def losses(self, player: Player, batch: Batch, batch_idx: int, main: bool = True) -> Tensor:
        """A player's losses of a batch; its noise depends on (seed, epoch, batch, rank) and the player alone."""
        place = (self.current_epoch, batch_idx, self.global_rank)
        address = place if main else (*place, player.name)
        reseed(self.seed, "train", *address)
        model = self.labelled(self.model, batch, place)
        noise = generator(self.seed, "noise", *address, device=self.device)
        return player.objective(model, batch, noise, player.updates)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the players' counts, and what the family keeps."""
        checkpoint |= {"updates": self.optimisation.state(), **self.training_state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take both back; the optimizers come later."""
        counted(checkpoint)
        self.resumed = checkpoint.get("updates")
        self.load_training_state(checkpoint)

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load models for use: every model.* and ema.* has to fit, what else was trained (a critic) may be absent."""
        found = self.load_state_dict(state, strict=False)
        models = ("model.", "ema.")
        missing, unknown = ([k for k in keys if k.startswith(models)] for keys in found)
        if missing or unknown:
            raise ValueError(
                f"the weights do not fit the model: {', '.join([*missing][:3]) or 'none'} missing, "
                f"{', '.join([*unknown][:3]) or 'none'} unknown: load them with the config that they were trained by"
            )

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
        loss = self.objective(self.labelled(self.averaged, batch), batch, place, self.trainer.global_step)
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
