"""Wrong uses, each of which mypy must refuse: an ignore that is not needed is an error itself. It is not run."""

import torch

import lightning_gen
from lightning_gen.data import Folder
from lightning_gen.losses.times import lognormal
from lightning_gen.samplers import DDIM

lightning_gen.load(3)  # type: ignore[arg-type]
lightning_gen.save(lightning_gen.load("run"))  # type: ignore[call-arg]
lightning_gen.load("run").sample("4")  # type: ignore[arg-type]
lightning_gen.load("run").sampel(4)  # type: ignore[operator]
lightning_gen.ask(lightning_gen.load("run")).score(torch.zeros(2), t="0.5")  # type: ignore[arg-type]
DDIM(stepps=3)  # type: ignore[call-arg]
Folder(3)  # type: ignore[arg-type]
lognormal(3, -1.2, 1.2)  # type: ignore[arg-type]
