"""How straight the paths of a probability-flow ODE are."""

from typing import Annotated, Any

import torch
from annotated_types import Ge
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_gen.callbacks.measuring import Measuring, unlabelled
from lightning_gen.callbacks.publishing import step_of
from lightning_gen.errors import NonFinite
from lightning_gen.models import Scored
from lightning_gen.options import Count
from lightning_gen.process import instant
from lightning_gen.randomness import generator
from lightning_gen.results.result import Name, Result
from lightning_gen.samplers import FlowODE


class Straightness(Measuring):
    """straightness = int_0^1 E||(x_1 - x_0) - u(x_t, t)||^2 dt along the ODE's own paths: 0 where they are straight.

    The integral is by the trapezoidal rule over the times of Heun steps; the error is the standard error over n paths
    from the prior. A conditional model is asked without a label.
    Rectified flow (Liu et al., 2023, section 2.2), https://arxiv.org/abs/2209.03003

    Args:
        n: paths.
        steps: steps of the ODE, >= 1.
        options: those of Measuring.
    """

    key = "callbacks.straightness"
    needs = (Scored,)
    supports = ("real",)
    autocast = True

    def __init__(self, n: Annotated[int, Ge(2)] = 512, steps: Count = 50, **options: Any) -> None:
        super().__init__(n=n, **options)
        self.flow = FlowODE(steps, "heun")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """TypeError for a model without a finite velocity, before any work."""
        super().setup(trainer, pl_module, stage)
        self.flow.check(pl_module.model)

    def name(self, module: Any) -> Name:
        return Name("straightness", None, self.measured(module))

    def publishes(self, module: Any) -> set[Name]:
        return {self.name(module)}

    def measure(self, trainer: Trainer, module: Any, final: bool) -> list[Result]:
        """The integral; every rank computes the same."""
        noise = generator(self.seed, "straightness", device=module.device)
        with self.model(trainer, module) as model:
            model = unlabelled(module, model, self.n)
            values = bends(model, self.flow, self.flow.start(model, (self.n, *module.model_shape), noise))
        if not torch.isfinite(values).all():
            raise NonFinite(f"straightness is not finite at step {step_of(trainer)}: the model has diverged")
        protocol = {"n": self.n, "sampler": self.flow.describe(), "weights": self.measured(module), "seed": self.seed}
        return [Result.of_mean(values.cpu(), "estimate", "", protocol, self.name(module))]


def bends(model: Scored, flow: FlowODE, x: Tensor) -> Tensor:
    """int_0^1 ||(x_1 - x_0) - u(x_t, t)||^2 dt of each path from x = x_1, (B,), float64."""
    states = list(flow.trajectory(model, x))
    difference, times = (states[0] - states[-1]).double(), flow.times(model.process)
    squares = [
        (difference - model.velocity(state, instant(t, state)).double()).square().flatten(1).sum(1)
        for state, t in zip(states, times, strict=True)
    ]
    return torch.trapezoid(torch.stack(squares[::-1]), torch.tensor(times[::-1], device=x.device), dim=0)
