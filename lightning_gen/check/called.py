"""A network with weights as after training, and the inputs that it is called with."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lightning_gen.check.roles import Batch, Outputs, Role, role_of
from lightning_gen.randomness import generator, reseed

SHAPES = ((1, 8, 8), (2,), (3, 32, 32))  # of x, the first that the network takes
TIMES = (0.0, 999.0, 250.5, -1.4, 0.7)  # steps of DDPM, and log sigma / 4 of EDM
CLASSES, LEVELS = 3, 4


class Subject:
    """A network with weights as after training, and how it is called.

    Args:
        make: builds the network from arguments that its config does not give.
        takes: the names of the constructor's arguments.
        given: those that the person gives.
    """

    def __init__(self, make: Callable[..., nn.Module], takes: Sequence[str], given: Mapping[str, Any]) -> None:
        self.make, self.takes, self.given = make, takes, given
        fixed = given.get("shape")
        shapes = SHAPES if fixed is None else (tuple(fixed),)
        self.net: nn.Module | None = None
        self.failed, failed = None, None
        for self.shape in shapes:
            try:
                self.net = self.built()
                self.role: Role = role_of(self.net)
                self.outputs()
                return
            except Exception as error:
                failed = failed or error
        self.failed, self.shape = failed, shapes[0]

    def said(self) -> str:
        """What is looked at, in words."""
        if self.net is None:
            return "the network"
        size = sum(p.numel() for p in self.net.parameters())
        return f"the network {type(self.net).__name__} for x {self.shape}, {size:,} parameters"

    @property
    def conditional(self) -> bool:
        """Whether the network can have classes."""
        return "classes" in self.takes or self.given.get("classes") is not None

    def built(self, seed: int = 0, classes: int | None = None) -> nn.Module:
        """The network in eval mode, its weights random, none at the zero from which it may start."""
        own = {"shape": list(self.shape), "levels": LEVELS, "classes": classes}
        reseed(seed, "check")
        net = self.make(**{key: own[key] for key in own if key in self.takes and self.given.get(key) is None})
        source = generator(seed, "check", "weights")
        with torch.no_grad():
            for p in net.parameters():
                if p.is_floating_point():
                    scale = 0.3 / p[0].numel() ** 0.5 if p.ndim > 1 else 0.1
                    p.add_(scale * torch.randn(p.shape, generator=source))
        return net.eval()

    def with_classes(self) -> nn.Module | None:
        """The network with classes; None where it takes none."""
        if not self.conditional:
            return None
        return self.net if self.given.get("classes") is not None else self.built(classes=CLASSES)

    def batch(self, n: int = 5, label: bool = False) -> Batch:
        """Inputs that are the same each time; labels where the network has classes."""
        source = generator(0, "check", "batch")
        x = torch.randn(n, *self.shape, generator=source)
        classes = self.given.get("classes") or (CLASSES if label else None)
        labels = None if classes is None else torch.arange(n) % classes
        return Batch(x, torch.tensor([TIMES[i % len(TIMES)] for i in range(n)]), labels)

    def outputs(self, net: nn.Module | None = None, batch: Batch | None = None) -> Outputs:
        """The outputs, without a graph."""
        with torch.no_grad():
            return self.role.outputs(net or self.net, batch or self.batch())
