"""What callbacks that measure share: when, of which weights, by which seed, how, and what becomes of the numbers."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from tqdm import tqdm

from lightning_gen.bar import bar
from lightning_gen.callbacks.evaluation import Pieces, drawing_time, pieces_of, spend
from lightning_gen.callbacks.progress import shows
from lightning_gen.callbacks.publishing import publish
from lightning_gen.data import GenerativeData
from lightning_gen.errors import NonFinite
from lightning_gen.families.by_hand import data_of
from lightning_gen.metrics.gather import gather_problems
from lightning_gen.models import Model, Requires, why_unfit
from lightning_gen.options import Checked, Count, Natural
from lightning_gen.results.result import Name, Result

Weights = Literal["ema", "raw"]
Split = Literal["train", "val", "test"]
FEW = 32  # samples of a fast_dev_run, which tries everything and keeps nothing


class Measuring(Checked, Requires, Callback, ABC):
    """Measures after each `every_n_epochs`-th epoch, each `every_n_steps`-th optimizer step, and at the test stage.

    Of the averaged weights, or of the raw ones where these are asked for or no average is kept. Training is afterwards
    what it was: modes, global generators. A new one writes `measure`, which returns the numbers, and `publishes`.

    Args:
        n: samples of the split, null for all of it
        split: whose samples
        weights: ema or raw
        seed: of every draw
        every_n_epochs: epochs between two measurements in training, 0 for none
    """

    role = "callback"
    key = ""  # in the config, for messages
    alone = False  # rank 0 measures without the others, which neither wait nor publish
    autocast = False  # the model is called in the trainer's precision, not in that of its weights
    every_n_steps = 0
    least = 1  # samples that it needs
    left_out = ""  # what is not measured, and why, where the data have decided it
    latent = True  # may measure a model of latent variables; False where the data are given to the model
    _step = 0  # the last optimizer step, behind which no batch has ended where gradients are accumulated

    def __init__(
        self,
        n: Count | None = None,
        split: Split | None = None,
        weights: Weights = "ema",
        seed: Natural = 0,
        every_n_epochs: Natural = 0,
    ) -> None:
        super().__init__()
        self.n, self.split, self.weights, self.seed, self.every_n_epochs = n, split, weights, seed, every_n_epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a model without what is needed, before any work: TypeError."""
        if self.needs and (reason := why_unfit(type(self), pl_module.model)):
            raise TypeError(f"{reason}; or write {self.key}=null")
        if not self.latent and getattr(pl_module, "autoencoder", None) is not None:
            raise ValueError(
                f"{self.key} is {type(self).__name__}, which gives images to the model, and that one is of latent "
                f"variables, expected null, or for a likelihood LatentLikelihood: write {self.key}=null"
            )
        if self.split is not None:
            self.check_data(self.data(trainer))

    def data(self, trainer: Trainer) -> GenerativeData:
        """The trainer's data; TypeError for loaders, and for a data module that is not ours."""
        if (data := data_of(trainer)) is None:
            other = getattr(trainer, "datamodule", None)
            raise TypeError(
                f"{self.key} measures splits of the data, and the trainer has "
                f"{'loaders' if other is None else f'a {type(other).__name__}'}, expected a "
                f"lightning_gen.data.GenerativeData: derive the data from it, or leave {type(self).__name__} out"
            )
        return data

    def check_data(self, data: Any) -> None:
        """ValueError for data that are too few to be measured."""
        if self.split is not None:
            self.samples_of(data)

    @abstractmethod
    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result] | None:
        """The numbers, each with its name, on rank 0 at least; final: by the full protocol."""

    def publishes(self, module: Any) -> set[Name] | None:
        """The names of the numbers that it publishes after epochs; None where it does not say."""
        return None

    @torch.inference_mode(False)  # a trainer of one's own tests in inference mode, where nothing has a derivative in x
    @torch.no_grad()
    def run(self, trainer: Trainer, module: Any, final: bool) -> None:
        """Measure, and publish on all ranks what rank 0 has found."""
        if trainer.fast_dev_run:
            self.n = min(self.n or FEW, max(FEW, self.least))
        begun, before = time.perf_counter(), drawing_time(trainer)
        with whole_weights(trainer):
            if self.alone and not trainer.is_global_zero:
                return
            with undisturbed(module):
                results = self.measure(trainer, module, final)
                if not self.alone:
                    results = trainer.strategy.broadcast(results)
        spend(trainer, self.key.rpartition(".")[2], time.perf_counter() - begun - (drawing_time(trainer) - before))
        if results:
            publish(trainer, results, final)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Measure when every_n_steps divides the number of optimizer steps, once."""
        step, last = trainer.global_step, self._step
        self._step = step
        if step != last and self.every_n_steps and step % self.every_n_steps == 0:
            self.run(trainer, pl_module, final=False)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if due and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.run(trainer, pl_module, final=False)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.run(trainer, pl_module, final=True)

    def measured(self, module: Any) -> Weights:
        """Which weights are measured."""
        return measured_weights(module, self.weights)

    @contextmanager
    def model(self, trainer: Trainer, module: Any) -> Iterator[Any]:
        """The model with the measured weights in evaluation mode, and the precision in which it is to be called."""
        model = module.weights(self.measured(module))
        with _modes(model), trainer.precision_plugin.forward_context() if self.autocast else nullcontext():
            yield model.eval()

    @contextmanager
    def drawing(
        self,
        trainer: Trainer,
        module: Any,
        what: str,
        n: int,
        size: int | None = None,
        sampler: Any = None,
        progress: Callable | None = None,
        made: Callable[[int, Tensor], dict[str, Any]] = lambda start, x: {"x": x},
    ) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
        """This rank's blocks of n samples, (start, what is `made` of start and x), in the trainer's precision.

        `progress` is called at each step of the sampler, or there is a bar. Each block has its network `calls`, and the
        `seconds` that drawing it took. An evaluation that was stopped begins with the blocks that it has kept.
        """
        rank, world = (0, 1) if self.alone else (trainer.global_rank, trainer.world_size)
        size = size or module.block_size(n, sampler)
        share = {"size": size, "rank": rank, "world": world}
        work = module.work(n, sampler, **share)
        with (
            trainer.precision_plugin.forward_context(),
            self.bar(trainer, what, work, visible=progress is None) as own,
        ):
            share |= {"progress": progress or own.update}
            kept = pieces_of(trainer, self, what, n, size, None if sampler is None else sampler.describe())
            yield self._blocks(trainer, module, n, sampler, share, made, kept)

    def _blocks(
        self,
        trainer: Trainer,
        module: Any,
        n: int,
        sampler: Any,
        share: dict[str, Any],
        made: Callable,
        pieces: Pieces | None,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        size, device, world = share["size"], module.device, share["world"]
        while pieces and share["rank"] * size < n and (piece := pieces.load(share["rank"], device)) is not None:
            yield share["rank"] * size, piece
            for _ in range(module.work(n, sampler, size, share["rank"], -(-n // size))):
                share["progress"]()
            share["rank"] += world  # the same blocks but for the first
        counts: list[int] = []
        blocks = module.blocks(n, self.seed, sampler, weights=self.measured(module), **share, counts=counts)
        while True:
            begun = time.perf_counter()
            block = next(blocks, None)
            if block is None:
                return
            if device.type != "cpu":
                torch.accelerator.synchronize()
            drawn, (start, x) = time.perf_counter(), block
            piece = made(start, x) | {"calls": counts[-1] if counts else 0, "seconds": drawn - begun}
            spend(trainer, "sampling", drawn - begun)
            spend(trainer, "features", time.perf_counter() - drawn)
            if pieces:
                pieces.store(start // size, piece)
            yield start, piece

    def bar(self, trainer: Trainer, what: str, total: int, unit: str = "step", visible: bool = True) -> tqdm:
        """A progress bar, where the run shows any."""
        return bar(what, total, unit, 0, visible and shows(trainer), False)

    def samples_of(self, data: Any) -> tuple[Any, int]:
        """The split, and how many of its samples are measured."""
        split = data.split(self.split)
        n = len(split) if self.n is None else min(self.n, len(split))
        if n < 2:
            raise ValueError(
                f"{self.key} has {n} of the {len(split)} samples of the {self.split} split to measure, expected 2 or "
                f"more: raise {self.key}.n or data.{self.split}_size, choose another {self.key}.split, or write "
                f"{self.key}=null"
            )
        return split, n


class MeasuringSamples(Measuring):
    """Measures n samples of the model, drawn in blocks that are dealt to the ranks.

    Args:
        n: samples
        block: samples per draw, null for as many as fill the device
        options: those of Measuring
    """

    def __init__(self, n: Count, block: Count | None = None, **options: Any) -> None:
        super().__init__(n=n, **options)
        self.block = block

    def size(self, module: Any, sampler: Any = None) -> int:
        """Samples per draw."""
        return self.block or module.block_size(self.n, sampler)


def measuring(callbacks: Iterable[Callback]) -> list[Measuring]:
    """Those of a trainer's callbacks that measure; Lightning's and a user's own are among the others."""
    return [callback for callback in callbacks if isinstance(callback, Measuring)]


def unlabelled(module: Any, model: Model, n: int) -> Model:
    """The model for n samples; a conditional one with the label for none."""
    if module.classes is None:
        return model
    return model.with_label(torch.full((n,), module.classes, device=module.device))


def measured_weights(module: Any, asked: str = "ema") -> Weights:
    """Which weights are measured: those that are asked for, raw where the module keeps no average."""
    return asked if module.ema is not None else "raw"


def stop_together(trainer: Trainer, problem: str | None) -> None:
    """Raise NonFinite on all ranks where one has a problem, so that none waits for one that has stopped."""
    problem = gather_problems(problem, trainer.world_size)
    if problem is not None:
        raise NonFinite(problem)


def whole_weights(trainer: Trainer) -> AbstractContextManager:
    """A context, entered by all ranks, in which weights that a strategy keeps in shards are whole."""
    return getattr(trainer.strategy, "whole_weights", nullcontext)()


@contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Training mode and global generators are afterwards what they were: measuring does not move training."""
    devices = [module.device] if module.device.type == "cuda" else []
    with _modes(module), torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def _modes(module: torch.nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
