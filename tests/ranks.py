"""A rank of test_ddp.py: run.py's own path, with each rank's noise, order and weights written down."""

import sys

import torch

import run as entry
from lightning_gen.families import DDPM
from lightning_gen.process import DiscreteVP


def main(folder: str, poisoned: int, words: list[str]) -> int:
    """Train and evaluate; rank `poisoned` meets a loss that is not a number at its third step."""
    noise, indices, original, perturb = [], [], DDPM.training_step, DiscreteVP.perturb

    def step(self, batch, batch_idx):
        indices.append(batch["index"].tolist())
        loss = original(self, batch, batch_idx)
        return loss

    def watch(self, x, t, draw):
        noise.append(draw[:1].clone())
        return perturb(self, x, t, draw)

    def end(self):
        torch.save(
            {"weights": self.state_dict(), "noise": noise, "indices": indices}, f"{folder}/rank-{self.global_rank}.pt"
        )

    def poison(self):
        loss = self.loss.forward

        def broken(model, x, generator):
            value = loss(model, x, generator)
            bad = self.trainer.global_step == 2 and self.global_rank == poisoned
            return value * float("nan") if bad else value

        self.loss.forward = broken

    DDPM.training_step, DiscreteVP.perturb, DDPM.on_train_end = step, watch, end
    if poisoned >= 0:
        DDPM.setup = lambda self, stage: poison(self)
    return entry.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
