"""Laws of losses, on models whose true parameters are known."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_gen.check.cases import Affine, Draw, like, seeded, with_units
from lightning_gen.check.known import Density, Gaussian
from lightning_gen.check.law import FITS, Broken, Laws, Skipped, decided, no_more, raised, some
from lightning_gen.losses import Loss
from lightning_gen.models import RBM, VAE, Model
from lightning_gen.process import VP, Clean, Interpolant, Process

GROUPS, BATCH = 60, 400  # batches whose gradients are compared, and their samples
LIMIT = 4.5  # of |z| at the truth
MEAN, COV = torch.tensor([0.4, -0.7]), torch.diag(torch.tensor([0.64, 0.25]))
LAWS = Laws([FITS])


@dataclass
class Truth:
    """A model at its true parameters.

    Args:
        title: in words.
        make: the model.
        data: (n, generator) -> data of its law.
        moves: parameter -> what is added to it, away from the truth.
    """

    title: str
    make: Callable[[], Model]
    data: Draw
    moves: dict[str, float]


def truths() -> Iterator[Truth]:
    """The models, of which a loss is tried on the first that it accepts."""
    moves = {"mean": 0.5, "cov": 0.4}
    data = gaussian(Clean()).clean
    of_density = {f"truth.{name}": move for name, move in moves.items()}
    yield Truth("a Gaussian without noise", lambda: Density(gaussian(Clean())), data, of_density)
    yield Truth("a Gaussian noised by VP", lambda: gaussian(VP()), data, moves)
    yield Truth("a Gaussian on straight paths to noise", lambda: gaussian(Interpolant()), data, moves)
    model, draw = with_units(RBM((4,), 3, 1.0))
    yield Truth("a binary RBM", lambda: copy.deepcopy(model), draw, {"b": 0.7, "c": 0.7})
    yield Truth("a linear decoder with its exact encoder", linear_vae, linear_data, {"net.decoder.bias": 0.5})


def gaussian(process: Process) -> Gaussian:
    """The Gaussian, with mean and covariance as parameters that are trained."""
    return Gaussian(process, MEAN, COV).requires_grad_()


def linear_vae() -> VAE:
    """A decoder W z + b with the posterior of a Gaussian as its encoder: the ELBO is log p(x)."""
    vae = seeded(lambda: VAE(Affine(), "gaussian", 0.5)).double()
    with torch.no_grad():
        q, _ = torch.linalg.qr(vae.net.decoder.weight)
        w, s2 = q * torch.tensor([0.9, 0.6]), 0.25  # orthogonal columns: the posterior has no correlations
        vae.net.decoder.weight.copy_(w)
        precision = 1 + w.square().sum(0) / s2
        encode = (w / s2 / precision).T
        vae.net.encoder.weight.copy_(torch.cat([encode, torch.zeros(2, 2)]))
        vae.net.encoder.bias.copy_(torch.cat([-encode @ vae.net.decoder.bias, -precision.log()]))
    return vae


def linear_data(n: int, generator: torch.Generator) -> Tensor:
    """Data of the linear decoder's law, (n, 2)."""
    return linear_vae().simulate(n, generator)[0].detach()


class Subject:
    """A loss, and the first of the known models that it accepts.

    Args:
        make: builds the loss.
    """

    def __init__(self, make: Callable[[], Loss]) -> None:
        self.make, self.component = make, make()
        self.refusals: list[str] = []

    @cached_property
    def truth(self) -> Truth | None:
        """The model, one that the loss depends on where there is one; None where it accepts none of them."""
        accepted = []
        for truth in truths():
            try:
                self.component.check(truth.make())
                accepted.append(truth)
            except (TypeError, ValueError) as refusal:
                self.refusals.append(str(refusal))
        return next(filter(self.depends, accepted), next(iter(accepted), None))

    def depends(self, truth: Truth) -> bool:
        """Whether the loss has a gradient on a model that it accepts: of data without noise, one of the noise has none.

        Broken where it raises anything.
        """
        model, source = truth.make(), torch.Generator().manual_seed(0)
        loss = copy.deepcopy(self.component).to(like(model))
        try:
            value = loss(model, truth.data(12, source), source).mean()
            if value.requires_grad:
                value.backward()
        except Exception as error:
            raise Broken(f"on {truth.title}, which it accepts, {raised(error)}") from error
        slopes = [p.grad for name in truth.moves if (p := model.get_parameter(name)).grad is not None]
        return bool(slopes) and all(bool(slope.isfinite().all() and slope.any()) for slope in slopes)

    def tried(self) -> str:
        """What it is tried on, in words."""
        return "no model whose truth is known" if self.truth is None else f"tried on {self.truth.title}"

    def said(self) -> str:
        """What is looked at, in words."""
        return f"the loss {type(self.component).__name__}"

    def known(self) -> Truth:
        """The model; Skipped without one."""
        if self.truth is None:
            raise Skipped(f"it accepts no model whose truth is known ({self.refusals[0]})")
        return self.truth

    def values(self, model: Model, n: int = 12, seed: int = 0) -> Tensor:
        """The loss of n samples, (n,)."""
        source = torch.Generator().manual_seed(seed)
        loss = copy.deepcopy(self.component).to(like(model))
        return loss(model, self.known().data(n, source), source)


@LAWS.law("shape", "one value a sample", "batches of other sizes would weigh otherwise")
def look_shape(subject: Subject) -> str:
    """One finite value for each sample."""
    truth = subject.known()
    values = subject.values(truth.make())
    if values.shape != (12,):
        raise Broken(f"the loss of 12 samples is {tuple(values.shape)}, expected (12,)")
    if not values.isfinite().all():
        raise Broken("the loss is not finite")
    return "(12,) of 12 samples, finite"


def gradients(subject: Subject, away: bool) -> dict[str, Tensor]:
    """Gradients of each parameter that moves, on batches of data, (GROUPS, size)."""
    truth = subject.known()
    model, loss = truth.make(), subject.make()
    loss.to(like(model))
    parameters = {name: model.get_parameter(name) for name in truth.moves}
    with torch.no_grad():
        for name, p in parameters.items():
            p.add_(truth.moves[name] * away)
    found: dict[str, list[Tensor]] = {name: [] for name in parameters}
    for k in range(GROUPS):
        source = torch.Generator().manual_seed(k)
        model.zero_grad()
        value = loss(model, truth.data(BATCH, source), source).mean()
        value.backward()
        for name, p in parameters.items():
            if p.grad is None:
                raise Broken(f"the loss has no gradient in the parameter {name} of the model")
            found[name].append(p.grad.flatten().clone())
    return {name: torch.stack(each) for name, each in found.items()}


def z_scores(gradients: Tensor) -> Tensor:
    """Mean over standard error of each component of (GROUPS, size)."""
    return gradients.mean(0) / (gradients.std(0) / len(gradients) ** 0.5).clamp(min=1e-12)


@LAWS.law("minimum", "its minimum is the truth of a Gaussian", "training would lead to another density")
def look_minimum(subject: Subject) -> str:
    """The gradient vanishes at the truth, and leads back to it from beside."""
    truth, worst, told = subject.known(), 0.0, []
    for name, each in gradients(subject, away=False).items():
        z = float(z_scores(each).abs().max())
        worst = max(worst, z)
        told.append(f"{name} {z:.2g}")
    text = f"at the truth of {truth.title} the gradient is 0 within |z| of {', '.join(told)}"
    no_more(worst, LIMIT, f"{text}, at most {LIMIT} expected")
    for name, each in gradients(subject, away=True).items():
        z = each.mean(1).mean() / (each.mean(1).std() / GROUPS**0.5)
        if not float(z) > LIMIT:
            raise Broken(
                f"from {name} + {truth.moves[name]:g} descent does not lead back to the truth (z = {float(z):.2g})"
            )
    return f"{text}; from beside it leads back"


@LAWS.law("gradient", "a gradient in its own parameters", "a critic of its own would never be trained")
def look_gradient(subject: Subject) -> str:
    """A gradient for every parameter of the loss itself."""
    truth = subject.known()
    model, loss = truth.make(), subject.make()
    own = dict(loss.named_parameters())
    if not own:
        raise Skipped("it has no parameters of its own")
    loss.to(like(model))
    source = torch.Generator().manual_seed(0)
    loss(model, truth.data(12, source), source).mean().backward()
    if unused := [name for name, p in loss.named_parameters() if p.requires_grad and p.grad is None]:
        raise Broken(f"no gradient of its own {some(unused)}")
    return f"a gradient for each of its {len(own)} parameters"


@LAWS.law("generator", "one generator decides all", "a resumed run would differ from one that went on")
def look_generator(subject: Subject) -> str:
    """The same values with one generator, whatever the global ones are."""
    decided(lambda: subject.values(subject.known().make()).detach(), "values")
    return "the same values with one generator, whatever the global seed"
