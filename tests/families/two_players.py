"""A generator and its critic in the plane, WGAN with a gradient penalty, as a family of two players.

python -m tests.families.two_players FOLDER [name=number ...] trains it, on as many ranks as torchrun has started, and
goes on from the folder's checkpoint where there is one; die=N kills the process as kill -9 does after step N.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer
from torch import distributed, nn

from lightning_gen.callbacks.checkpoints import Checkpoints
from lightning_gen.callbacks.loggers.record import RecordLogger
from lightning_gen.data import Rings
from lightning_gen.errors import NonFinite
from lightning_gen.families import GenerativeModule
from lightning_gen.families.players import Player
from lightning_gen.models import Model
from lightning_gen.runs.folder import RunFolder
from lightning_gen.stages.checkpoint_io import AtomicCheckpointIO


class Generator(Model):
    """x = G(z)."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return self.net(z)


class TwoPlayers(GenerativeModule):
    """max_G min_D E D(G(z)) - E D(x) + penalty E (||grad D|| - 1)^2, the penalty in every `lazy`-th critic step.

    Improved training of Wasserstein GANs (Gulrajani et al., 2017), https://arxiv.org/abs/1704.00028
    """

    def __init__(
        self, critic_steps=3, lazy=2, rate=0.9, optimizer=torch.optim.Adam, spoil=None, plain=False, **options
    ):
        torch.manual_seed(0)
        norm, dropout = (nn.Identity(), nn.Identity()) if plain else (nn.BatchNorm1d(16), nn.Dropout(0.1))
        generator = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), norm, dropout, nn.Linear(16, 2))
        super().__init__(Generator(generator), None, partial(optimizer, lr=1e-2), **options)
        self.critic = nn.Sequential(nn.Linear(2, 16), nn.Softplus(), nn.Linear(16, 1))
        self.critic_steps, self.lazy, self.spoil, self.plain = critic_steps, lazy, spoil, plain
        self.schedule = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=rate)
        self.turns = []

    def players(self):
        critic = partial(torch.optim.Adam, lr=2e-2)
        return [
            Player("critic", [*self.critic.parameters()], self.criticise, critic, self.schedule),
            Player(
                "generator",
                [*self.model.parameters()],
                self.objective,
                self.make_optimizer,
                self.schedule,
                self.critic_steps,
            ),
        ]

    def fake(self, model, batch, noise):
        """G(z); a plain one has z = x, so that nothing is drawn."""
        return model(batch["x"] if self.plain else torch.randn(len(batch["x"]), 2, generator=noise))

    def objective(self, model, batch, noise, step):
        self.turns.append(("generator", step, batch["index"].tolist()))
        fake = self.fake(model, batch, noise)
        assert not self.training or all(not p.requires_grad for p in self.critic.parameters())
        return -self.critic(fake).squeeze(1) * self.spoilt("generator")

    def criticise(self, model, batch, noise, step):
        self.turns.append(("critic", step, batch["index"].tolist()))
        fake, x = self.fake(model, batch, noise), batch["x"]
        assert not fake.requires_grad
        loss = (self.critic(fake) - self.critic(x)).squeeze(1) * self.spoilt("critic")
        if step % self.lazy:
            return loss
        u = 0.5 if self.plain else torch.rand(len(x), 1, generator=noise)
        between = (u * x + (1 - u) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        return loss + (slope.norm(dim=1) - 1).square()

    def spoilt(self, player):
        """NaN where that player of that rank is to fail, in its turn in the third step of the generator."""
        here = self.training and self.spoil == (player, self.global_rank) and self.trainer.global_step == 2
        return float("nan") if here else 1.0


class Die(Callback):
    """kill -9, from inside, after optimizer step `step`."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.strategy.barrier()  # or the save of a slower rank would hang, which is another test's matter
            os.kill(os.getpid(), signal.SIGKILL)


def train(folder, module, *callbacks, **options):
    """Train `module` in a run folder, on from its last checkpoint where there is one; the trainer."""
    folder, world = RunFolder(Path(folder)), int(os.environ.get("WORLD_SIZE", 1))
    trainer = Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        default_root_dir=folder.path,
        logger=[RecordLogger(folder.path)],
        callbacks=[Checkpoints(every_n_steps=options.pop("save", 4)), *callbacks],
        plugins=[AtomicCheckpointIO(), *options.pop("plugins", [])],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=False,
        use_distributed_sampler=False,
        **{"max_steps": 11, "max_epochs": -1, "log_every_n_steps": 1, "limit_val_batches": 0} | options,
    )
    data = Rings(batch_size=32, n=360, val_size=100, test_size=20)  # 11 batches an epoch: the last window is short
    last = folder.last if folder.last.is_file() else None
    trainer.fit(module, datamodule=data, ckpt_path=last, weights_only=True)
    return trainer


def main(folder, *words):
    """Train by name=number words."""
    options = {key: float(value) if "." in value else int(value) for key, value in (w.split("=") for w in words)}
    die = [Die(options.pop("die"))] if "die" in options else []
    spoiled = options.pop("spoil", None)
    spoil = None if spoiled is None else ("critic", spoiled)
    module = TwoPlayers(ema_decay=0.9, spoil=spoil, plain=bool(options.pop("plain", 0)))
    try:
        train(folder, module, *die, **options)
    except NonFinite as error:
        torch.save(module.state_dict(), f"{folder}/stopped-{module.global_rank}.pt")
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    torch.save((module.turns, module.state_dict()), f"{folder}/rank-{module.global_rank}.pt")
    if distributed.is_initialized():  # gloo's threads can abort a process that ends while they run
        distributed.barrier()
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
