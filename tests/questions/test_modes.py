"""Modes: stationary points of known densities, and the maximum among all states."""

import pytest
import torch

import lightning_gen
from lightning_gen.process import VE
from lightning_gen.questions.modes import Ascent
from lightning_gen.stages.edit import COLUMNS
from tests.energies import DoubleWell, Quadratic
from tests.gaussian import Mixture
from tests.questions.families import module, of, points
from tests.questions.mixture import MixtureEnergy

F64 = {"dtype": torch.float64}


def test_an_ascent_ends_at_the_mean_of_a_gaussian_of_unlike_scales():
    mean = torch.tensor([0.5, -2.0], **F64)
    ask = lightning_gen.ask(of(Quadratic([1.0, 40.0], mean.tolist()), (2,)))
    found = ask.mode(points(ask.module), Ascent(2000, tolerance=1e-6))
    torch.testing.assert_close(found.x, mean.expand(6, 2), rtol=0, atol=1e-6)
    assert (found.slope <= 1e-6).all()


def test_each_start_reaches_the_mode_of_its_basin():
    ask = lightning_gen.ask(of(DoubleWell(), (1,)))
    x = torch.tensor([[-3.0], [-0.1], [0.2], [2.0]], **F64)
    torch.testing.assert_close(ask.mode(x).x, x.sign(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.3])
def test_an_ascent_raises_the_density_of_a_mixture_to_a_stationary_maximum(level):
    """By the energy, and by the score of a noised density alone; the Hessian there is negative."""
    model = MixtureEnergy() if level == 0 else Mixture(VE(level, 20.0))
    known, t = Mixture(VE(level or 1e-9, 20.0)), torch.zeros((), **F64)
    ask = lightning_gen.ask(of(model, (2,)))
    x = points(ask.module, 20)
    found = ask.mode(x)
    assert (found.slope <= 1e-3).all()
    at = found.x.requires_grad_()
    (gradient,) = torch.autograd.grad(known.log_density(at, t).sum(), at)
    assert gradient.norm(dim=1).max() < 2e-3
    assert (known.log_density(at, t) >= known.log_density(x, t)).all()
    hessians = [torch.autograd.functional.hessian(lambda y: known.log_density(y[None], t)[0], row) for row in at]
    assert (torch.linalg.eigvalsh(torch.stack(hessians)) < 0).all()


@pytest.mark.parametrize("name", ["RBM, at most 20 units on a side", "Autoregressive"])
def test_no_single_change_raises_a_probability_and_the_best_start_stays(name):
    family = module(name)
    for parameter in family.model.parameters():
        parameter.data *= 4
    count = family.model.support.levels
    states = torch.cartesian_prod(*[torch.arange(count)] * 4).double()
    ask = lightning_gen.ask(family)
    nats = ask.log_prob(states).value
    found = ask.mode(states)
    reached = ask.log_prob(found.x).value
    assert (reached >= nats).all() and (found.slope <= 0).all()
    neighbours = (states[:, None] != found.x).sum(2) == 1  # (states, starts)
    best = torch.where(neighbours, nats[:, None], -torch.inf).max(0)[0]
    torch.testing.assert_close(best - reached, found.slope, rtol=0, atol=1e-9)
    assert torch.equal(found.x[nats.argmax()], states[nats.argmax()])


def test_the_most_probable_hidden_units_have_the_least_joint_energy():
    family = module("RBM, at most 20 units on a side")
    v, h = points(family), torch.cartesian_prod(*[torch.arange(2)] * 3).double()
    joint = torch.stack([family.model.joint_energy(v, row.expand(len(v), 3)) for row in h])
    assert torch.equal(lightning_gen.ask(family).hidden_mode(v), h[joint.argmin(0)])


def test_an_edit_shows_data_beside_their_modes():
    ask = lightning_gen.ask(of(DoubleWell(), (2,)))
    x, ticks, found = points(ask.module), [], ask.mode(points(ask.module))
    frames, beside = COLUMNS["mode"][1](ask, x, lambda: ticks.append(1))
    assert ([*frames], len(ticks)) == (["data", "mode"], COLUMNS["mode"][0])
    assert torch.equal(frames["data"], x) and torch.equal(frames["mode"], found.x)
    assert torch.equal(beside["slope"], found.slope)
