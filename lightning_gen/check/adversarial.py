"""Laws of the losses of a generator and its critic: functions of the critic's values."""

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_gen.check.law import Broken, Laws
from lightning_gen.losses import AdversarialLoss

VALUES = torch.linspace(-4, 4, 161, dtype=torch.float64)  # of a critic
FLAT = 1e-9  # of a minimum that is none in particular
LAWS = Laws()


class Subject:
    """A loss of both players.

    Args:
        make: builds the loss.
    """

    def __init__(self, make: Callable[[], AdversarialLoss]) -> None:
        self.loss = make()

    def said(self) -> str:
        """What is looked at, in words."""
        return f"the adversarial loss {type(self.loss).__name__}"

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The generator's loss, (B,)."""
        return self.loss.generator(real if self.loss.needs_real else None, fake)

    def best(self) -> float:
        """The constant value of a critic that is best where data and samples have one law."""
        g = self.loss.critic(VALUES, VALUES)
        lowest = VALUES[g <= g.min() + FLAT]
        return float(lowest[len(lowest) // 2])


@LAWS.law("shape", "one value a sample, of both players", "penalties are added to it", first=True)
def look_shape(subject: Subject) -> str:
    """One finite value for each sample, of both players."""
    source = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 12, generator=source)
    for name, values in (("critic", subject.loss.critic(real, fake)), ("generator", subject.generator(real, fake))):
        if values.shape != (12,):
            raise Broken(f"{name} of 12 values is {tuple(values.shape)}, expected (12,)")
        if not values.isfinite().all():
            raise Broken(f"{name} is not finite")
    return "(12,) of 12 values, of the critic and of the generator, finite"


def slopes(subject: Subject) -> tuple[float, float, float]:
    """Slopes at the best constant critic: its loss's in D(x) and in D(G(z)), and the generator's in D(G(z))."""
    v = torch.full((1,), subject.best(), dtype=torch.float64)
    real, fake = v.clone().requires_grad_(), v.clone().requires_grad_()
    in_real, in_fake = torch.autograd.grad(subject.loss.critic(real, fake).sum(), (real, fake))
    (generator,) = torch.autograd.grad(subject.generator(v, fake).sum(), fake)
    return float(in_real), float(in_fake), float(generator)


@LAWS.law("minimum", "a constant critic is best where both laws are one", "the players would never rest")
def look_minimum(subject: Subject) -> str:
    """Where data and samples have one law, the best critic is a constant: both slopes cancel."""
    best = subject.best()
    if best in (float(VALUES[0]), float(VALUES[-1])):
        raise Broken(f"the critic's loss of equal values has no minimum from {VALUES[0]:g} to {VALUES[-1]:g}")
    in_real, in_fake, _ = slopes(subject)
    told = f"at D = {best:g} the slopes of the critic's loss are {in_real:.3g} in D(x) and {in_fake:.3g} in D(G(z))"
    if not abs(in_real + in_fake) <= 0.05 * abs(in_real):
        raise Broken(told)
    return told


@LAWS.law("direction", "each player moves D the other way", "they would help each other, and nothing is learned")
def look_direction(subject: Subject) -> str:
    """The critic raises D(x) and lowers D(G(z)), and the generator raises it."""
    in_real, in_fake, generator = slopes(subject)
    told = f"slopes {in_real:.3g} in D(x), {in_fake:.3g} in D(G(z)), of the generator's loss {generator:.3g}"
    if not (in_real < 0 < in_fake and generator < 0):
        raise Broken(f"{told}, expected below, above and below 0")
    return told
