"""Models whose network is the score."""

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Reading, Scored
from lightning_gen.process import Clean, Process, expand


class ScoreNetwork(Scored):
    """A network whose output is the score: s_t(x) = net(x, time), for clean or noised data.

    Generative modeling by estimating gradients of the data distribution (Song & Ermon, 2019),
    https://arxiv.org/abs/1907.05600

    Args:
        net: the network (x, time), or (x, time, label), like x.
        process: the noising process; null for clean data.
    """

    def __init__(self, net: nn.Module, process: Process | None = None) -> None:
        super().__init__(Clean() if process is None else process)
        self.net = net

    def networks(self) -> list[nn.Module]:
        """The one network."""
        return [self.net]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """net(x, network time), (B, ...)."""
        return self.call(self.net, x, self.process.network_time(t).to(x.dtype))

    def noise(self, x: Tensor, t: Tensor) -> Tensor:
        """-sigma score, (B, ...): by way of denoise a small sigma would lose digits."""
        return -expand(self.process.sigma(t), x) * self.score(x, t)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """The score at the time of a reading, (B, ...)."""
        t = torch.full((len(x),), reading.c_noise, device=x.device, dtype=x.dtype)
        return self.call(self.net, x, t)
