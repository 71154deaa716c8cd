"""Schedules of the learning rate: one that cannot be stepped is refused before the first step of a run."""

from functools import partial

import pytest
from torch.optim import Adam, Muon, lr_scheduler

from lightning_gen.families.players import rehearse

WRONG = {
    "T_max 0": (partial(lr_scheduler.CosineAnnealingLR, T_max=0), "CosineAnnealingLR.*zero"),
    "step size 0": (partial(lr_scheduler.StepLR, step_size=0), "StepLR.*zero"),
    "negative rates": (partial(lr_scheduler.StepLR, step_size=2, gamma=-1), "StepLR.*learning rates"),
    "NaN": (partial(lr_scheduler.CosineAnnealingLR, T_max=5, eta_min=float("nan")), "CosineAnnealingLR.*nan"),
    "shorter than the run": (partial(lr_scheduler.OneCycleLR, max_lr=1, total_steps=99), "OneCycleLR.*99"),
    "no such argument": (partial(lr_scheduler.StepLR, steps=3), "StepLR.*steps"),
    "a metric": (partial(lr_scheduler.ReduceLROnPlateau, patience=3), "ReduceLROnPlateau"),
}
RIGHT = {
    "OneCycleLR": partial(lr_scheduler.OneCycleLR, max_lr=1, total_steps=100),
    "CosineAnnealingLR": partial(lr_scheduler.CosineAnnealingLR, T_max=99),
    "LinearLR": partial(lr_scheduler.LinearLR, start_factor=0.01, total_iters=20),
    "a rate of 0": partial(lr_scheduler.LambdaLR, lr_lambda=lambda step: 0),
}


@pytest.mark.parametrize(("schedule", "said"), WRONG.values(), ids=WRONG)
def test_a_schedule_that_cannot_be_stepped_is_refused(schedule, said):
    with pytest.raises(ValueError, match=f"module.scheduler {said}"):
        rehearse(partial(Adam, lr=0.1), schedule, 100)


@pytest.mark.parametrize("schedule", RIGHT.values(), ids=RIGHT)
@pytest.mark.parametrize("steps", [-1, 1, 100])
def test_a_schedule_for_the_whole_run_is_taken(schedule, steps):
    rehearse(partial(Adam, lr=0.1), schedule, steps)


def test_an_optimizer_of_matrices_can_be_rehearsed():
    rehearse(partial(Muon, lr=0.1), partial(lr_scheduler.StepLR, step_size=2), 100)
