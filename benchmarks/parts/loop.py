"""The training loop as a run has it, with bar, callbacks and record, over a bare PyTorch loop of the same mathematics.

All of a step counts: fetching, hooks, addressed noise, loss, clipping, finite checks, Adam, the average, the record.
Lightning's smallest module of the same mathematics, without bar, callbacks and loggers, is what no loop can go below;
with Lightning's own bar, record and callbacks it is what a user of Lightning has.
"""

import contextlib
import copy
import io
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn

from benchmarks.table import Row, at_most
from benchmarks.timing import Run, row, same
from lightning_gen.config.command_line.words import CONFIGS
from lightning_gen.config.compose import launch
from lightning_gen.process import linear_betas
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.session import Session

LEVELS, DECAY, CLIP = 1000, 0.9999, 1.0
# A save is timed by itself (start); what a run does at validation and at its end is no part of a step.
STEPS_ALONE = [
    *("callbacks.pictures=null", "callbacks.likelihood=null", "quality=none", "logger=none"),
    *("trainer.max_steps=1000000", "trainer.limit_val_batches=0", "callbacks.checkpoints.every_n_steps=1000000"),
    *(f"module.ema_decay={DECAY}", "module.ema_warmup=false", "module.scheduler=null", "module.optimizer.lr=1e-4"),
]
MLP = ["data=rings", "net=mlp", "net.width=16", "net.depth=1", "sampler.clip=null"]
adam = partial(torch.optim.Adam, lr=1e-4, fused=True)


def composed(words: list[str]) -> dict[str, Any]:
    """The config that the command line composes of words."""
    found: list[dict[str, Any]] = []
    if code := launch(lambda config, path: found.append(config), CONFIGS, words):
        raise ValueError(f"the words {words} end with exit code {code}, expected a config")
    return found[0]


class Bare:
    """DDPM's loop as one writes it by hand: tables in single precision, one generator, nothing checked or logged."""

    def __init__(self, net: nn.Module, rows: Tensor, batch: int) -> None:
        self.net, self.rows, self.batch = net, rows, batch
        self.parameters = list(net.parameters())
        self.average = [p.detach().clone() for p in self.parameters]
        self.optimizer, self.generator = adam(self.parameters), torch.Generator().manual_seed(0)
        kept = torch.cumprod(1 - torch.tensor(linear_betas(LEVELS), dtype=torch.float64), 0)
        self.alpha, self.sigma = kept.sqrt().float(), (1 - kept).sqrt().float()
        self.batches = self.order()

    def order(self) -> Iterator[Tensor]:
        """Full batches of one epoch after another."""
        while True:
            order = torch.randperm(len(self.rows), generator=self.generator)
            for start in range(0, len(order) - self.batch + 1, self.batch):
                yield self.rows[order[start : start + self.batch]]

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """L_simple, ()."""
        k = torch.randint(1, LEVELS + 1, (len(x),), generator=generator) - 1
        noise = torch.randn(x.shape, generator=generator)
        one = (-1,) + (1,) * (x.ndim - 1)
        noised = self.alpha[k].view(one) * x + self.sigma[k].view(one) * noise
        return nn.functional.mse_loss(self.net(noised, k.float()), noise)

    def average_weights(self) -> None:
        """The average's step."""
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - DECAY)

    def step(self) -> None:
        """One optimizer step and the average's."""
        loss = self.loss(next(self.batches), self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        self.optimizer.step()
        self.average_weights()


class Smallest(LightningModule):
    """The same step as Lightning's smallest module: what it takes above the bare loop is Lightning's own."""

    def __init__(self, bare: Bare) -> None:
        super().__init__()
        self.net, self.bare = bare.net, bare

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return self.bare.loss(batch, self.bare.generator)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The bare loop's."""
        return self.bare.optimizer

    def on_train_batch_end(self, *_: Any) -> None:
        """The average."""
        self.bare.average_weights()


class Watched(Smallest):
    """The same with its loss on Lightning's bar and in its record."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of a batch, logged."""
        loss = super().training_step(batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True)
        return loss


class Paused(Callback):
    """A training that takes `steps` steps at each call, in a thread of its own, and waits between: one at a time runs.

    Args:
        fit: begins the training.
        trainer: its trainer.
        steps: of a call.
    """

    def __init__(self, fit: Callable[[], None], trainer: Trainer, steps: int) -> None:
        self.fit, self.trainer, self.steps = fit, trainer, steps
        self.go, self.done, self.error = threading.Semaphore(0), threading.Semaphore(0), None
        trainer.callbacks.append(self)
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self) -> None:
        """The training, from the first call on."""
        torch.set_num_threads(1)  # a setting of the thread
        self.go.acquire()
        try:
            self.fit()
        except BaseException as error:  # which the caller's thread raises
            self.error = error
        self.done.release()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Hand over after the last step of a call."""
        if trainer.global_step % self.steps == 0:
            self.done.release()
            self.go.acquire()

    def __call__(self) -> None:
        """Take the steps."""
        self.go.release()
        self.done.acquire()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End the training."""
        self.trainer.should_stop = True
        self()
        self.thread.join()


SMALLEST, WATCHED = "Lightning's smallest module", "Lightning's bar, record, monitor and checkpoints"


def rounds(run: Run, words: list[str], steps: int) -> dict[str, list[float]]:
    """Seconds a step of our run, of Lightning's module without and with its own bar and record, and bare, in turn."""
    with tempfile.TemporaryDirectory() as folder, silent():
        config = composed(["experiment=ddpm_digits", "trainer=cpu", *words, *STEPS_ALONE, f"run={folder}/run"])
        session = Session(config, RunFolder(Path(folder, "run")))
        data, module = session.data, session.module
        data.setup()
        split = data.split("train")
        rows = split.points(slice(None)) if data.value_range is None else data.encode(split.images(slice(None)))
        bare, *others = (Bare(copy.deepcopy(module.model.net), rows, data.batch_size) for _ in range(3))
        check(module, bare, rows[: data.batch_size])
        every = config["callbacks"]["checkpoints"]["every_n_steps"]
        kinds = {
            SMALLEST: (Smallest, {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}),
            WATCHED: (
                Watched,
                {
                    "logger": CSVLogger(folder),
                    "callbacks": [LearningRateMonitor("step"), ModelCheckpoint(every_n_train_steps=every)],
                },
            ),
        }
        loops = {"": Paused(session.fit, session.trainer, steps)}
        for (name, (kind, options)), other in zip(kinds.items(), others, strict=True):
            trainer = Trainer(
                accelerator="cpu",
                default_root_dir=folder,
                max_steps=config["trainer"]["max_steps"],
                gradient_clip_val=CLIP,
                enable_model_summary=False,
                **options,
            )
            batches = torch.utils.data.DataLoader(list(rows.split(data.batch_size))[:-1], batch_size=None)
            loops[name] = Paused(partial(trainer.fit, kind(other), train_dataloaders=batches), trainer, steps)
        seconds = run.rounds({**loops, "bare": lambda: [bare.step() for _ in range(steps)]})
        for loop in loops.values():
            loop.stop()
    return {name: [s / steps for s in found] for name, found in seconds.items()}


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what runs say: the bar writes, but nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def check(module: Any, bare: Bare, x: Tensor) -> None:
    """ValueError where equal weights and draws give different losses."""
    module.model.eval(), bare.net.eval()
    with torch.no_grad():
        ours = module.loss(module.model, x, torch.Generator().manual_seed(1)).mean()
        same("the loss", ours, bare.loss(x, torch.Generator().manual_seed(1)))
    module.model.train(), bare.net.train()


def less(a: list[float], b: list[float]) -> list[float]:
    """The differences."""
    return [x - y for x, y in zip(a, b, strict=True)]


def small(run: Run) -> Iterator[Row]:
    """A step of a tiny MLP in our loop, above the bare one and above Lightning's smallest module."""
    seconds = rounds(run, MLP, run.pick(20, 2))
    ours, smallest, watched, bare = seconds.values()
    above = {"": less(ours, bare), SMALLEST: less(smallest, bare)}
    yield row("our loop above a bare step (DDPM, tiny MLP)", above, limit=SMALLEST, unit="us")
    over = {"": less(ours, smallest), WATCHED: less(watched, smallest)}
    reason = (
        "coefficients at each sample's time in float64, seeds and generators of each batch, rows with index and label, "
        "callbacks, finite checks and statistics"
    )
    goal = at_most(150, "ours")
    yield row(f"our loop above {SMALLEST}", over, [WATCHED], goal=goal, unit="us", reason=reason)


def digits(run: Run) -> Iterator[Row]:
    """A step of the digits' U-Net in our loop over the bare one."""
    seconds = rounds(run, [], run.pick(10, 2))
    yield row("our loop, U-Net of the 8x8 digits, a step of 128", seconds, limit="bare")


CASES = (small,)
LONG = (digits,)
