"""Run by torchrun: run.py's own path, in which rank 1 fails at a step, in one of several ways."""

import os
import signal
import sys
import time

import run as entry
from lightning_gen.families import DDPM

WAYS = {
    "raises": lambda: 1 / 0,
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sleeps": lambda: time.sleep(10_000),
    "is stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


def main(way: str, step: int, words: list[str]) -> int:
    """Train; at its step number `step` rank 1 fails. Step 0 comes before it meets the others, -1 is the evaluation."""
    training_step, second = DDPM.training_step, os.environ["RANK"] == "1"

    def failing(self, batch, batch_idx):
        if second and self.trainer.global_step + 1 == step:
            WAYS[way]()
        return training_step(self, batch, batch_idx)

    DDPM.training_step = failing
    if second and step == -1:
        DDPM.on_test_start = lambda self: WAYS[way]()
    if second and not step:
        WAYS[way]()
    return entry.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
