"""Flow matching: the interpolant, a velocity network, and its squared error; reflow by the ODE of a trained run."""

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_gen.families.base import GenerativeModule
from lightning_gen.families.players import Batch, Player
from lightning_gen.losses import FlowMatching as Loss
from lightning_gen.losses import logit_normal, uniform
from lightning_gen.models import Model, VelocityNetwork
from lightning_gen.options import Count, Rate
from lightning_gen.process import Interpolant
from lightning_gen.randomness import noise_like
from lightning_gen.samplers import FlowODE


class FlowMatching(GenerativeModule):
    """x_t = (1 - t) x_0 + t noise; the network learns u = E[noise - x_0 | x_t], and samples follow dx / dt = u.

    Flow matching (Lipman et al., 2023), https://arxiv.org/abs/2210.02747; rectified flow and reflow (Liu et al., 2023),
    https://arxiv.org/abs/2209.03003; optimal coupling (Tong et al., 2024), https://arxiv.org/abs/2302.00482

    Args:
        net: the network u(x, t), like x.
        times: distribution of t in training: uniform, or logit_normal (Esser et al., 2024).
        coupling: of x_0 and noise in a batch: independent, or optimal, of least squared distance.
        reflow: steps of Heun's rule by which the initial weights (`init`) draw x_0 from each noise: such pairs replace
            the data; null to train on the data.
        optimizer, ema_decay, options: those of GenerativeModule.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable,
        times: Literal["uniform", "logit_normal"] = "uniform",
        coupling: Literal["independent", "optimal"] = "independent",
        reflow: Count | None = None,
        ema_decay: Rate | None = 0.9999,
        **options: Any,
    ) -> None:
        model = VelocityNetwork(net, Interpolant())
        loss = Loss(uniform() if times == "uniform" else logit_normal(), coupling)
        super().__init__(model=model, loss=loss, optimizer=optimizer, ema_decay=ema_decay, **options)
        if coupling == "optimal" and (reflow is not None or self.classes is not None):
            key, value = ("reflow", reflow) if reflow is not None else ("classes", self.classes)
            raise ValueError(
                f"module.coupling is optimal with module.{key} {value}, expected null for it, since pairs chosen over "
                f"a whole batch are not those of {key}: write module.coupling=independent"
            )
        self.pairs = None if reflow is None else FlowODE(reflow, "heun")
        self.teacher = None if reflow is None else copy.deepcopy(model).requires_grad_(False)

    def initial(self, origin: str) -> list[Model]:
        """The teacher starts from `init` too, and stays there; ValueError for a run whose network is no velocity."""
        if self.teacher is None:
            return super().initial(origin)
        if origin not in (kind.__name__ for kind in type(self).__mro__):
            raise ValueError(
                f"module.reflow is {self.pairs.steps} and the run of init is a {origin}, expected a "
                f"{type(self).__name__}, whose ODE draws the pairs: name one, or write module.reflow=null"
            )
        return [*super().initial(origin), self.teacher]

    def players(self) -> list[Player]:
        """The one player; ValueError for reflow without a trained run: a resumed one reads its teacher's weights."""
        if self.teacher is not None and self.started_from is None and self.resumed is None:
            raise ValueError(
                f"module.reflow is {self.pairs.steps} with init null, expected a trained run that draws the pairs: "
                "write init=RUN, or module.reflow=null"
            )
        return super().players()

    def objective(self, model: Model, batch: Batch, noise: torch.Generator, step: int) -> Tensor:
        """Losses (B,) of a batch, or with reflow of as many pairs (ODE(z), z) of the teacher, by the batch's labels."""
        x = batch["x"]
        if self.teacher is None:
            return self.loss(model, x, noise)
        t, z = self.loss.times(len(x), noise), noise_like(x, noise)
        teacher = self.teacher.eval()
        with torch.no_grad():
            x = self.pairs(teacher if model.label is None else teacher.with_label(model.label), z)
        return self.loss.error(model, x, z, t)
