"""Energies: what they cost beyond the arithmetic that they cannot do without. RBMs are 784-500, in batches of 100."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from benchmarks.table import Row, at_most
from benchmarks.timing import Run, same
from lightning_gen.likelihood import RBMPath, log_weights, temperatures
from lightning_gen.losses import RBMContrastiveDivergence
from lightning_gen.models import RBM, EnergyNetwork, GaussianBernoulliRBM
from lightning_gen.nets import ResNetEnergy
from lightning_gen.randomness import bernoulli
from lightning_gen.samplers import Gibbs, GibbsLangevin, Langevin


def sizes(run: Run) -> tuple[int, int, int]:
    """Visible and hidden units, and a batch."""
    return run.pick(784, 12), run.pick(500, 8), run.pick(100, 5)


class Divergence:
    """CD-1 of an RBM with binary data, in one dtype: ours, by hand, and its five products alone."""

    def __init__(self, run: Run, dtype: torch.dtype) -> None:
        visible, hidden, batch = sizes(run)
        self.model, self.generator = RBM((visible,), hidden).to(dtype), torch.Generator().manual_seed(0)
        self.v, self.h = (torch.rand(batch, visible) < 0.2).to(dtype), torch.rand(batch, hidden, dtype=dtype)
        self.W = self.model.W.detach()
        self.parameters = (self.model.W, self.model.b, self.model.c)
        self.loss = RBMContrastiveDivergence(Gibbs(1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def gradient(self) -> tuple[Tensor, ...]:
        """The mean loss, and its gradient in W, b and c."""
        return torch.autograd.grad(self.loss(self.model, self.v, self.generator).mean(), self.parameters)

    def step(self) -> None:
        """The same and its update."""
        self.optimizer.zero_grad()
        self.loss(self.model, self.v, self.generator).mean().backward()
        self.optimizer.step()

    def products(self) -> None:
        """The five, each in its faster layout."""
        v, h, W = self.v, self.h, self.W
        v @ W, h @ W.T, v @ W, h.T @ v, h.T @ v

    def by_hand(self) -> tuple[Tensor, ...]:
        """The same, without autograd and without a record of the chains."""
        v, W, b, c = self.v, self.W, self.model.b.detach(), self.model.c.detach()
        field = torch.addmm(c, v, W)
        up = field.sigmoid()
        hidden = bernoulli(up, self.generator)
        chain = bernoulli(torch.addmm(b, hidden, W.T).sigmoid_(), self.generator)
        last = torch.addmm(c, chain, W)
        down = last.sigmoid()
        _ = (chain @ b + softplus(last).sum(1)).mean() - (v @ b + softplus(field).sum(1)).mean()
        change = (down.T @ chain).addmm_(up.T, v, beta=1 / len(v), alpha=-1 / len(v))
        return change.T, (chain - v).mean(0), (down - up).mean(0)

    def step_by_hand(self) -> None:
        """The same and its update, as a loss with loss.backward() and torch's SGD."""
        self.optimizer.zero_grad()
        ByHand.apply(self.by_hand, *self.parameters).backward()
        self.optimizer.step()


class ByHand(torch.autograd.Function):
    """A loss whose gradients are computed with it: the least that one behind loss.backward() costs."""

    @staticmethod
    def forward(ctx: Any, gradients: Callable[[], tuple[Tensor, ...]], *parameters: Tensor) -> Tensor:
        """(), and the gradients for later."""
        ctx.gradients = gradients()
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, kept nowhere else: autograd would copy them."""
        found, ctx.gradients = ctx.gradients, None
        return None, *found


def divergence(run: Run) -> Iterator[Row]:
    """CD-1 over its five products."""
    one = Divergence(run, torch.float32)
    pairs = zip(*(call() for call in (one.gradient, one.by_hand) if one.generator.manual_seed(1)), strict=True)
    for parameter, (ours, theirs) in zip("Wbc", pairs, strict=True):
        same(f"the gradient in {parameter}", ours, theirs)
    yield run.row(
        "RBM, CD-1: loss and gradient",
        one.gradient,
        {"hand-written code": one.by_hand},
        ("its five products", one.products),
        at_most(1.35, "limit"),
        reason="the loss of each sample, its graph and its record come on top of the hand-written code",
    )


def scikit_learn(run: Run) -> Iterator[Row]:
    """CD-1 and update, against scikit-learn's BernoulliRBM."""
    from sklearn.neural_network import BernoulliRBM

    visible, hidden, batch = sizes(run)
    steps = run.pick(20, 2)
    many = (torch.rand(steps * batch, visible) < 0.2).numpy()
    for dtype, bound in ((torch.float32, 0.75), (torch.float64, 0.5)):
        one, name = Divergence(run, dtype), str(dtype).removeprefix("torch.")
        theirs = BernoulliRBM(hidden, batch_size=batch, n_iter=1, random_state=0)
        yield run.row(
            f"RBM, a step of CD-1 in {name} (scikit-learn: of PCD-1, as many products)",
            lambda: [one.step() for _ in range(steps)],  # noqa: B023
            {"scikit-learn": partial(theirs.fit, many.astype(name))},
            ("hand-written gradient, loss.backward(), torch's SGD", lambda: [one.step_by_hand() for _ in range(steps)]),  # noqa: B023
            at_most(bound),
            per=steps,
        )


def annealing(run: Run) -> Iterator[Row]:
    """A temperature of AIS over its two products."""
    visible, hidden, batch = sizes(run)
    steps = run.pick(50, 3)
    model, generator = RBM((visible,), hidden), torch.Generator().manual_seed(0)
    path, betas = RBMPath(model, torch.zeros(visible)), temperatures(steps)
    v, h, W = path.start(batch, generator), torch.rand(batch, hidden), model.W.detach()
    b, c = model.b.detach(), model.c.detach()

    def by_hand() -> Tensor:
        """The same from base biases of 0, the sums in single precision."""
        x, field, total = v, torch.addmm(c, v, W), torch.zeros(batch)
        for old, new in zip(betas, betas[1:], strict=False):
            if old:
                h = bernoulli((old * field).sigmoid_(), generator)
                x = bernoulli(torch.addmm(old * b, h, W.T, alpha=old).sigmoid_(), generator)
                field = torch.addmm(c, x, W)
            total += softplus(new * field).sub_(softplus(old * field)).sum(1).add_(x @ b, alpha=new - old)
        return total

    calls = (lambda: log_weights(path, betas, v, generator), by_hand)
    same("AIS", *(call() for call in calls if generator.manual_seed(1)))
    yield run.row(
        "AIS of an RBM, a temperature",
        calls[0],
        {"hand-written code": by_hand},
        ("its two products", lambda: [(v @ W, h @ W.T) for _ in range(steps)]),
        at_most(1.5, "limit"),
        per=steps,
    )


def langevin(run: Run) -> Iterator[Row]:
    """A Langevin step on a network's energy over gradient and noise."""
    from torchebm.core import BaseModel
    from torchebm.samplers import LangevinDynamics

    size, steps, eta = run.pick(28, 8), run.pick(10, 2), 1e-3
    model = EnergyNetwork(ResNetEnergy((1, size, size), run.pick(16, 8), (1, 2, 2), 1), readout="scalar").eval()

    class Theirs(BaseModel):
        """The same energy as torchebm takes it."""

        def forward(self, x: Tensor) -> Tensor:
            """Energy, (B,)."""
            return model.energy(x)

    sampler, theirs = Langevin(steps, eta), LangevinDynamics(Theirs(), step_size=eta)
    x, generator = torch.randn(16, 1, size, size), torch.Generator()

    def ours() -> Tensor:
        with torch.no_grad():
            return sampler(model, x, generator)

    def peer() -> Tensor:
        return theirs.sample(x, n_steps=steps, generator=generator)

    def alone() -> None:
        for _ in range(steps):
            point = x.detach().requires_grad_()
            torch.autograd.grad(model.net(point, None).sum(), point)
            torch.randn(x.shape, generator=generator)

    same("Langevin", *(call() for call in (ours, peer) if generator.manual_seed(1)))
    yield run.row(
        "Langevin on a convolutional energy, a step of 16x1x28x28",
        ours,
        {"torchebm": peer},
        ("gradient and noise alone", alone),
        at_most(1.05, "limit"),
        per=steps,
    )


def gibbs_langevin(run: Run) -> Iterator[Row]:
    """A sweep of Gibbs-Langevin with ten inner steps, against ten steps."""
    visible, hidden, batch = sizes(run)
    sweeps, inner = run.pick(10, 2), 10
    model, sampler = GaussianBernoulliRBM((visible,), hidden, std=0.05), GibbsLangevin(sweeps, inner, 0.1)
    start, generator = torch.randn(run.pick(batch, 2000), visible), torch.Generator().manual_seed(0)
    variance, mu, W = model.variance.detach(), model.mu.detach(), model.W.detach()
    eta = 0.1 * variance

    @torch.no_grad()
    def stepwise(once: bool, v: Tensor = start) -> Tensor:
        for _ in range(sweeps):
            up = torch.sigmoid(model.c + v / variance @ W)
            h = torch.rand(up.shape, generator=generator).lt_(up)
            mean = mu + h @ W.T
            for _ in range(inner):
                mean = mean if once else mu + h @ W.T
                v = v + eta / variance * (mean - v) + (2 * eta).sqrt() * torch.randn(v.shape, generator=generator)
        return v

    @torch.no_grad()
    def ours() -> Tensor:
        return sampler(model, start, generator)

    a, b = (torch.stack([x.mean(), x.std()]) for x in (ours(), stepwise(True)))
    same("Gibbs-Langevin's mean and standard deviation", a, b, 0.05)
    factor, scale = 0.9**inner, (0.2 * (1 - 0.9 ** (2 * inner)) / (1 - 0.9**2) * variance).sqrt()

    @torch.no_grad()
    def by_hand(v: Tensor = start) -> Tensor:
        """A sweep's inner steps as one draw."""
        for _ in range(sweeps):
            h = bernoulli(torch.addmm(model.c, v / variance, W).sigmoid_(), generator)
            v = torch.addmm(mu, h, W.T).lerp_(v, factor).addcmul_(scale, torch.randn(v.shape, generator=generator))
        return v

    same("Gibbs-Langevin", *(call() for call in (ours, by_hand) if generator.manual_seed(1)))
    yield run.row(
        "GRBM, Gibbs-Langevin with 10 inner steps, a sweep",
        ours,
        {"10 steps": lambda: stepwise(False), "10 steps, W h once": lambda: stepwise(True)},
        ("hand-written code", by_hand),
        at_most(1 / 3.5),
        per=sweeps,
    )


CASES = (divergence, scikit_learn, annealing, langevin, gibbs_langevin)
LONG = ()
