"""The LightningModule of every family: training and validation of model, loss and averaged model."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from torch import Tensor

from lightning_gen.errors import first_line
from lightning_gen.families.average import Average
from lightning_gen.families.by_hand import ByHand, data_of, plain_arguments
from lightning_gen.families.execution import prepare
from lightning_gen.families.latent import Latent
from lightning_gen.families.optimisation import Optimisation, restore_step_count
from lightning_gen.families.players import Batch, Player
from lightning_gen.families.sampling import Sampling
from lightning_gen.families.validation import Validation
from lightning_gen.losses import Loss
from lightning_gen.models import Encoded, Model
from lightning_gen.models.base import declared
from lightning_gen.options import Checked, Count, NonNegative, Rate, Shape, ValueRange
from lightning_gen.randomness import generator, reseed
from lightning_gen.samplers import Sampler

# Hooks of Lightning that a family may not define; it may define those under "may override".
OWN = (
    *("training_step", "configure_optimizers", "optimizer_step", "configure_gradient_clipping", "lr_scheduler_step"),
    *("on_before_optimizer_step", "configure_callbacks", "configure_model", "on_save_checkpoint", "on_load_checkpoint"),
    *("on_train_start", "on_train_batch_start", "on_train_end", "automatic_optimization", "on_before_batch_transfer"),
    "on_train_epoch_end",
)
FORMATS = (torch.contiguous_format, torch.channels_last)  # by whether it is channels_last


class GenerativeModule(Checked, ByHand, Latent, Sampling, Validation, LightningModule):
    """Trains a model by a loss, and keeps an averaged model: ema <- d ema + (1 - d) model after each optimizer step.

    A family overrides `objective`, or `players` if it trains several. With `classes` the model is conditional:
    classifier-free diffusion guidance (Ho & Salimans, 2022), https://arxiv.org/abs/2207.12598

    Args:
        model: the model.
        loss: (model, x, generator) -> (B,); None for a family with objectives of its own.
        optimizer: parameters -> Optimizer.
        scheduler: Optimizer -> schedule, stepped once per optimizer step, or ReduceLROnPlateau, stepped by each
            validation loss; null for a constant rate.
        ema_decay: d, in [0, 1); null for no averaged model.
        ema_warmup: whether d is min(ema_decay, (1 + n) / (10 + n)) at step n, for short runs.
        sampler: the default sampler; null for none.
        shape: shape of a sample, without the batch.
        value_range: lowest and highest value of images in model space; null for points.
        seed: of all noise in training, validation and sampling.
        compile: whether to compile the networks; null: in training alone, where the command finds that it pays.
        channels_last: whether convolutions have the channels-last memory format, faster on CPUs and CUDA devices;
            without effect on Apple's GPUs and with weights in shards.
        checkpointing: whether to keep the inputs of the networks' blocks alone for the backward pass.
        classes: number of classes of a conditional model; null for an unconditional one.
        label_dropout: probability in training that a label becomes `classes`, the label for none, in [0, 1).
        guidance: weight of guidance in sampling, >= 0: 0 unconditional, 1 conditional, above 1 guided.
        autoencoder: a trained one, for a diffusion of its latent variables; data=latent gives it.
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
        compile: bool | None = None,
        channels_last: bool = True,
        checkpointing: bool = False,
        classes: Count | None = None,
        label_dropout: Rate = 0.1,
        guidance: NonNegative = 1.0,
        autoencoder: Encoded | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(plain_arguments(self), logger=False)
        net_classes = next((declared(net, "classes") for net in model.networks()), None)
        if net_classes != (None if classes is None else classes + 1):
            raise ValueError(
                f"module.classes is {classes} with net.classes {net_classes}, expected module.classes + 1 (the last is "
                "the label for none), or null for both: change net.classes"
            )
        if classes is None and guidance != 1:
            raise ValueError(
                f"module.guidance is {guidance} with module.classes null, expected 1: write 1, or the number of classes"
            )
        self.classes, self.label_dropout, self.guidance = classes, label_dropout, guidance
        self.value_range = None if value_range is None else tuple(value_range)
        self.shape = None if shape is None else tuple(shape)
        self.model, self.loss, self.sampler = model, loss, sampler
        self.autoencoder = self.freeze(autoencoder)
        if loss is not None:  # a family of several players has objectives of its own
            loss.check(model)
        if sampler is not None:
            self.check(sampler)
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        self.ema = None if ema_decay is None else copy.deepcopy(model).requires_grad_(False).eval()
        self.ema_decay, self.ema_warmup, self.seed = ema_decay, ema_warmup, seed
        self.compiled, self.checkpointing, self.memory_format = compile, checkpointing, FORMATS[channels_last]
        self.to(memory_format=self.memory_format)
        self.last_loss: float | None = None  # on the host, for the progress bar, of the last record
        self.started_from: str | None = None  # the run that the initial weights are from (init)
        self.resumed: dict[str, Any] | None = None  # the players' state in a checkpoint, until the players exist

    def __init_subclass__(cls, **options: Any) -> None:
        """TypeError for a family that defines a hook of OWN."""
        super().__init_subclass__(**options)
        for name in OWN:
            if getattr(cls, name) is not getattr(GenerativeModule, name):
                raise TypeError(
                    f"{cls.__name__} defines {name}, which only GenerativeModule may: override objective, or players"
                )

    @classmethod
    def fitted(cls, config: dict[str, Any], data: Any) -> dict[str, Any]:
        """Values from the training data of config keys that are null."""
        return {}

    # Training: what a family may override

    def check_data(self, data: Any) -> None:
        """ValueError for data that do not fit the model."""
        self.model.check_data(data)

    def initialise(self, data: Any) -> None:
        """Set initial weights that depend on the training data, before the first step of a new run."""

    def initial(self, origin: str) -> list[Model]:
        """The models whose weights a new run takes from `init`, a run of the family with this class name.

        ValueError where such a run cannot give them.
        """
        return [self.model] if self.ema is None else [self.model, self.ema]

    def objective(self, model: Model, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses (B,) of a batch: in training of the raw model, in validation of the averaged one.

        Random numbers come from `noise` or torch's global generators, which are reseeded; step: optimizer steps so far.
        """
        return self.loss(model, batch["x"], noise)

    def players(self) -> list[Player]:
        """Players in the order of their updates, the main one last; here one, with the parameters of model and loss."""
        return [
            Player(
                "model",
                [*self.model.parameters(), *self.loss.parameters()],
                self.objective,
                self.make_optimizer,
                self.make_scheduler,
            )
        ]

    def training_state(self) -> dict[str, Any]:
        """Further entries of a checkpoint, under keys of the family; called on all ranks."""
        return {}

    def load_training_state(self, checkpoint: dict[str, Any]) -> None:
        """Restore the entries of `training_state`."""

    def watch(self, step: int) -> None:
        """Raise Diverged if training diverges; called on all ranks every log_every_n_steps optimizer steps."""

    # Training: what the base owns

    def setup(self, stage: str) -> None:
        """Check the data, and initialise a new run from them; of others' data each batch is checked."""
        if (data := data_of(self.trainer)) is None:
            return
        self.check_data(data)
        self.take_autoencoder(data, stage)
        if stage == "fit" and self.started_from is None:
            self.initialise(data)
            if self.ema is not None:
                self.ema.load_state_dict(self.model.state_dict())

    def configure_callbacks(self) -> list:
        """ValueError for a GradientAccumulationScheduler; Lightning checks clipping and accumulation next."""
        if any(isinstance(callback, GradientAccumulationScheduler) for callback in self.trainer.callbacks):
            raise ValueError(
                "callbacks contain GradientAccumulationScheduler, which needs automatic optimisation: remove it, and "
                "write trainer.accumulate_grad_batches"
            )
        # Lightning refuses both trainer keys in manual optimisation, but Optimisation implements them.
        self.automatic_optimization = True
        return []

    def configure_model(self) -> None:
        """Prepare the networks, once, before the optimizers are made."""
        self.automatic_optimization = False
        prepare(self)

    def configure_optimizers(self) -> list[dict[str, Any]]:
        """Optimizers and schedules of the players."""
        self.optimisation = Optimisation(
            self,
            self.players(),
            None if self.ema is None else Average(self.ema, self.model, self.ema_decay, self.ema_warmup),
        )
        state, self.resumed = self.resumed, None
        if state is not None:
            self.optimisation.load_state(state)
        return self.optimisation.build()

    def on_train_start(self) -> None:
        """Start the statistics at the current step."""
        self.optimisation.start()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Synchronise buffers over ranks."""
        self.optimisation.share_buffers(batch_idx)

    def on_train_end(self) -> None:
        """NonFinite where a loss or gradient after the last record was not finite."""
        self.optimisation.finish()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Update the players due on this batch; the loss of the last one, ()."""
        self.trained_epoch = self.current_epoch
        return self.optimisation.step(batch, batch_idx)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip, and prevent updates that are not finite; Lightning calls this after unscaling, before the update."""
        self.optimisation.check()

    def losses(self, player: Player, batch: Batch, batch_idx: int, main: bool = True) -> Tensor:
        """A player's losses of a batch; the noise is a function of (seed, epoch, batch, rank) and the player."""
        position = (self.current_epoch, batch_idx, self.global_rank)
        address = position if main else (*position, player.name)
        reseed(self.seed, "train", *address)
        noise = generator(self.seed, "noise", *address, device=self.device)
        return player.objective(
            self.labelled(self.model, batch, position), self.encoded(batch, noise), noise, player.updates
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the players' counts and the family's state."""
        checkpoint |= self.optimisation.state() | self.training_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore both."""
        restore_step_count(checkpoint)
        self.trained_epoch = checkpoint["epoch"]
        self.resumed = {key: checkpoint[key] for key in ("updates", "unread") if key in checkpoint}
        self.load_training_state(checkpoint)

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load weights: ValueError unless model.*, ema.* and autoencoder.* fit; others (a critic's) may be absent."""
        try:
            result = self.load_state_dict(state, strict=False)
        except RuntimeError as error:  # of tensors with other shapes
            raise ValueError(
                f"the weights do not fit the model ({first_line(error)}): load them with the config of their run"
            ) from error
        missing, unknown = ([k for k in keys if k.startswith(("model.", "ema.", "autoencoder."))] for keys in result)
        if missing or unknown:
            raise ValueError(
                f"the weights do not fit the model: {', '.join([*missing][:3]) or 'none'} missing, "
                f"{', '.join([*unknown][:3]) or 'none'} unknown: load them with the config of their run"
            )

    def labelled(self, model: Model, batch: dict[str, Tensor], position: tuple[int, ...] | None = None) -> Model:
        """The model with the batch's labels, if conditional; in training, at a `position`, with label dropout."""
        if self.classes is None:
            return model
        if "label" not in batch:
            raise ValueError(
                f"module.classes is {self.classes}, but the data have no labels: write null for it and for net.classes"
            )
        label = batch["label"]
        if position is not None and self.label_dropout:
            draw = torch.rand(len(label), generator=generator(self.seed, "label", *position)).to(label.device)
            label = torch.where(draw < self.label_dropout, self.classes, label)
        return model.with_label(label)
