"""Schedules of the learning rate: one that cannot be stepped is refused before the first step of a run."""

from functools import partial

import pytest
from pytorch_lightning import Callback
from torch.optim import Adam, Muon, lr_scheduler

from lightning_gen.callbacks import Checkpoints
from lightning_gen.families import DDPM
from lightning_gen.families.players import Player, rehearse
from tests.families.test_base import digits_module, fit

WRONG = {
    "T_max 0": (partial(lr_scheduler.CosineAnnealingLR, T_max=0), "CosineAnnealingLR.*zero"),
    "step size 0": (partial(lr_scheduler.StepLR, step_size=0), "StepLR.*zero"),
    "negative rates": (partial(lr_scheduler.StepLR, step_size=2, gamma=-1), "StepLR.*learning rates"),
    "NaN": (partial(lr_scheduler.CosineAnnealingLR, T_max=5, eta_min=float("nan")), "CosineAnnealingLR.*nan"),
    "shorter than the run": (partial(lr_scheduler.OneCycleLR, max_lr=1, total_steps=99), "OneCycleLR.*99"),
    "no such argument": (partial(lr_scheduler.StepLR, steps=3), "StepLR.*steps"),
    "a factor above 1": (partial(lr_scheduler.ReduceLROnPlateau, factor=2.0), "ReduceLROnPlateau.*1.0"),
}
RIGHT = {
    "OneCycleLR": partial(lr_scheduler.OneCycleLR, max_lr=1, total_steps=100),
    "CosineAnnealingLR": partial(lr_scheduler.CosineAnnealingLR, T_max=99),
    "LinearLR": partial(lr_scheduler.LinearLR, start_factor=0.01, total_iters=20),
    "ReduceLROnPlateau": partial(lr_scheduler.ReduceLROnPlateau, patience=3),
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


def test_a_plateau_of_the_validation_loss_lowers_the_rate(tmp_path):
    """With patience 0 every validation after the first that is not higher, mode max, multiplies it by the factor."""
    plateau, losses, rates = partial(lr_scheduler.ReduceLROnPlateau, mode="max", patience=0, factor=0.5), [], []

    class Watch(Callback):
        def on_validation_end(self, trainer, module):
            losses.append(float(trainer.callback_metrics["val/loss/ema"]))
            rates.append(module.optimisation.main.optimizer.param_groups[0]["lr"])

    module = digits_module(scheduler=plateau)
    fit(module, tmp_path, Watch(), max_steps=8, limit_train_batches=2, limit_val_batches=1)
    best, rate, expected = losses[0], 1e-2, []
    for loss in losses:
        rate *= 1 if loss >= best else 0.5
        best = max(best, loss)
        expected.append(rate)
    assert rates == expected and len(rates) == 4 and rates[-1] < 1e-2


@pytest.mark.parametrize("options", [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 9}])
def test_a_plateau_that_no_validation_can_show_is_refused(tmp_path, options):
    module = digits_module(scheduler=lr_scheduler.ReduceLROnPlateau)
    with pytest.raises(ValueError, match="module.scheduler is ReduceLROnPlateau.*val/loss/ema"):
        fit(module, tmp_path, Checkpoints(), max_steps=40, **options)


def test_a_plateau_of_the_generator_says_nothing_of_its_critic():
    class Two(DDPM):
        def players(self):
            [main] = super().players()
            return [Player("critic", main.parameters, None, self.make_optimizer, self.make_scheduler), main]

    module = digits_module(scheduler=lr_scheduler.ReduceLROnPlateau)
    module.__class__ = Two
    with pytest.raises(ValueError, match="critic is ReduceLROnPlateau"):
        module.configure_optimizers()
