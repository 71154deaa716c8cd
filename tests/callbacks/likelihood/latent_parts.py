"""A VAE on digits that has not been trained, measured by all that measure one; as a program, in each of two processes.

python -m tests.callbacks.likelihood.latent_parts FOLDER, under the variables that torchrun would set.
"""

import os
import sys
from functools import partial

import torch
from pytorch_lightning import Trainer

from lightning_gen.callbacks import ImportanceLikelihood, KernelDensityLikelihood, Representations
from lightning_gen.data import Digits
from lightning_gen.families import VAE
from lightning_gen.nets import MLPAutoencoder
from lightning_gen.samplers import Latent
from tests.data.sets import ready

GREY = {"batch_size": 100}
BINARY = {"batch_size": 100, "binarise": "fixed", "value_range": (0.0, 1.0)}


def digits(**options):
    return ready(Digits(**options))


def family(likelihood="gaussian", shape=(1, 8, 8), value_range=(-1.0, 1.0), **options):
    torch.manual_seed(0)
    made = VAE(
        MLPAutoencoder(shape, 4, 16, 1),
        partial(torch.optim.Adam, lr=1e-3),
        likelihood=likelihood,
        scale=0.4,
        shape=shape,
        value_range=value_range,
        sampler=Latent(),
        **{"ema_decay": 0.9, **options},
    )
    with torch.no_grad():  # the raw weights have gone on
        made.model.net.decoder[-1].bias.add_(0.3)
    return made


def measures():
    """One of each, over numbers of samples that two processes share unevenly."""
    return [
        ImportanceLikelihood(samples=20, n=50, batch=32),
        KernelDensityLikelihood(n=90, points=40, block=32),
        Representations(n=50, n_train=150, batch=32),
    ]


def main(folder: str) -> None:
    """Measure."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    options = {"strategy": "ddp", "devices": world} if world > 1 else {"devices": 1}
    trainer = Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
        default_root_dir=folder,
        callbacks=measures(),
        inference_mode=False,
        use_distributed_sampler=False,
        **options,
    )
    trainer.test(family(), datamodule=digits(**GREY), verbose=False)
    trainer.strategy.barrier()


if __name__ == "__main__":
    main(sys.argv[1])
