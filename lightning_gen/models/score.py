"""Networks that are the score themselves."""

import torch
from torch import Tensor, nn

from lightning_gen.models.base import Reading, Scored
from lightning_gen.process import Clean, Process, expand


class ScoreNetwork(Scored):
    """A network that is the score itself: s(x) = net(x, t), of clean data or of noised."""

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
        """-sigma score, (B, ...): through denoise the digits of a small sigma would be lost."""
        return -expand(self.process.sigma(t), x) * self.score(x, t)

    def output(self, x: Tensor, reading: Reading) -> Tensor:
        """The score at the time of a reading, (B, ...)."""
        t = torch.full((len(x),), reading.c_noise, device=x.device, dtype=x.dtype)
        return self.call(self.net, x, t)
