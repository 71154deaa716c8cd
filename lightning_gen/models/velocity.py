"""Networks that are the velocity of the probability-flow ODE: flow matching."""

import torch
from torch import Tensor, nn

from lightning_gen.models.score import Reading, Scored, has_velocity
from lightning_gen.process import Interpolant, Process


class VelocityNetwork(Scored):
    """A network whose output is the velocity: u(x, t) = net(x, time) = E[dx_t / dt | x_t = x].

    For x_t = (1 - t) x_0 + t noise it is E[noise - x_0 | x_t], with denoise = x - t u, noise = x + (1 - t) u and score
    = -noise / t. Flow matching (Lipman et al., 2023, section 4), https://arxiv.org/abs/2210.02747; rectified flow
    (Liu et al., 2023, section 2), https://arxiv.org/abs/2209.03003

    Args:
        net: the network (x, time), or (x, time, label), like x.
        process: the noising process, with finite rates of alpha and sigma at t = 0 and 1; null for the interpolant.
    """

    def __init__(self, net: nn.Module, process: Process | None = None) -> None:
        super().__init__(Interpolant() if process is None else process)
        if not has_velocity(self.process):
            raise ValueError(
                f"VelocityNetwork.process is {type(self.process).__name__}, expected one whose alpha and sigma have "
                "finite derivatives in t, not all 0: choose Interpolant"
            )
        self.net = net

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """net(x, network time), (B, ...)."""
        time = self.process.network_time(t).to(torch.promote_types(x.dtype, torch.float32))
        return self.field(self.net, x, time).to(x.dtype)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """The velocity at the time of a reading, (B, ...)."""
        return self.field(self.net, *self.network_input(x, reading)).to(x.dtype)
