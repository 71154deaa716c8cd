"""Machines small enough to list every state: energies, conditionals, constants and gradients against the sums."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from lightning_gen.models import RBM, GaussianBernoulliRBM
from lightning_gen.models.rbm import states

NOW = torch.zeros(())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(model, seed=0, scale=1.0):
    g = generator(seed)
    for name, parameter in model.named_parameters():
        size = 0.3 if name == "log_variance" else scale
        parameter.data = size * torch.randn(parameter.shape, generator=g, dtype=torch.float64)
    return model.double()


def binary(visible=6, hidden=4, **options):
    return filled(RBM(visible, hidden, **options))


def gaussian(visible=3, hidden=4, **options):
    return filled(GaussianBernoulliRBM(visible, hidden, **options))


def joint(model):
    """v and h of every state, and E(v, h)."""
    v, h = states(len(model.b)), states(len(model.c))
    pairs = [(a, b) for a, b in itertools.product(v, h)]
    v, h = torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
    return v, h, model.joint_energy(v, h).detach()


def test_states_are_all_binary_vectors_once():
    assert {tuple(row) for row in states(3).int().tolist()} == set(itertools.product((0, 1), repeat=3))
    with pytest.raises(ValueError, match="at most 20"):
        states(21)


def test_the_free_energy_sums_the_hidden_units_out():
    model = binary()
    v, _, energy = joint(model)
    summed = -torch.logsumexp(-energy.view(2**6, 2**4), 1)
    torch.testing.assert_close(model.energy(v.view(2**6, 2**4, 6)[:, 0]).detach(), summed, rtol=0, atol=1e-12)


def test_conditionals_are_those_of_the_enumerated_machine():
    model = binary()
    v, h, energy = joint(model)
    p = (-energy).exp().view(2**6, 2**4, 1)
    v, h = v.view(2**6, 2**4, 6), h.view(2**6, 2**4, 4)
    torch.testing.assert_close(model.hidden(v[:, 0]).detach(), (p * h).sum(1) / p.sum(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.visible(h[0]).detach(), (p * v).sum(0) / p.sum(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("visible", "hidden"), [(6, 4), (4, 6), (5, 5)])
def test_the_constant_is_the_sum_over_all_states(visible, hidden):
    model = binary(visible, hidden)
    truth = torch.logsumexp(-joint(model)[2], 0)
    torch.testing.assert_close(model.log_partition().detach(), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [binary, gaussian])
def test_the_gradient_in_closed_form_is_the_energys(make):
    model = make()
    v = torch.rand(7, math.prod(model.shape), generator=generator(1), dtype=torch.float64)
    weight = torch.randn(7, generator=generator(2), dtype=torch.float64)
    (weight * model.energy(v)).sum().backward()
    found = model.gradient(v, model.field(v), weight)
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, value in found.items():
        torch.testing.assert_close(value, getattr(model, name).grad, rtol=0, atol=1e-12)


def flipped(model):
    """The machine of 1 - v: equal probabilities, W and b turned round, c moved."""
    twin = RBM(len(model.b), len(model.c), centred=True).double()
    twin.W.data, twin.b.data, twin.c.data = -model.W.data, -model.b.data, model.c.data + model.W.data.sum(0)
    twin.offset_v.copy_(1 - model.offset_v)
    twin.offset_h.copy_(model.offset_h)
    return twin


def test_a_centred_step_does_not_care_which_value_is_called_one():
    """Melchior et al. (2016): flipping all visible units flips a centred machine's step, and not a plain one's."""
    model = binary(centred=True)
    v = (torch.rand(8, 6, generator=generator(1), dtype=torch.float64) < 0.3).double()
    model.move_offsets(v, model.hidden(v))
    twin, weight = flipped(model), torch.tensor([0.25] * 4 + [-0.25] * 4, dtype=torch.float64)
    here = model.gradient(v, model.field(v), weight)
    there = twin.gradient(1 - v, twin.field(1 - v), weight)
    torch.testing.assert_close(there["W"], -here["W"])
    torch.testing.assert_close(there["b"], -here["b"])
    torch.testing.assert_close(there["c"], here["c"] + here["W"].sum(0))
    model.centred = twin.centred = False
    plain = model.gradient(v, model.field(v), weight), twin.gradient(1 - v, twin.field(1 - v), weight)
    assert not torch.allclose(plain[1]["W"], -plain[0]["W"])


def test_a_centred_gradient_is_counted_from_the_offsets():
    model = binary(centred=True)
    v = (torch.rand(8, 6, generator=generator(1), dtype=torch.float64) < 0.5).double()
    model.offset_v.copy_(torch.rand(6, generator=generator(2), dtype=torch.float64))
    model.offset_h.copy_(torch.rand(4, generator=generator(3), dtype=torch.float64))
    weight, h = torch.tensor([0.25] * 4 + [-0.25] * 4, dtype=torch.float64), model.hidden(v)
    found = model.gradient(v, model.field(v), weight)
    W = -torch.einsum("n,ni,nj->ij", weight, v - model.offset_v, h - model.offset_h)
    torch.testing.assert_close(found["W"], W.detach())
    torch.testing.assert_close(found["b"], (-weight @ v - W @ model.offset_h).detach())
    torch.testing.assert_close(found["c"], (-weight @ h - W.T @ model.offset_v).detach())


def test_a_gaussian_machine_is_its_mixture():
    model = gaussian()
    logits, means, variance = (value.detach() for value in model.mixture())
    v = torch.randn(20, 3, generator=generator(1), dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(means, torch.diag(variance))
    log_p = torch.logsumexp(logits.log_softmax(0) + normal.log_prob(v[:, None]), 1)
    found = -model.energy(v) - model.log_partition()
    torch.testing.assert_close(found.detach(), log_p, rtol=0, atol=1e-10)
    h = states(4)
    share = (logits - h @ model.c.detach()).exp()  # by completing the square, v integrated over a grid in one dimension
    one = gaussian(1, 3)
    grid = torch.linspace(-30, 30, 20001, dtype=torch.float64)[:, None]
    integral = torch.logsumexp(-one.energy(grid).detach(), 0) + math.log(60 / 20000)
    assert share.min() > 0
    torch.testing.assert_close(one.log_partition().detach(), integral, rtol=0, atol=1e-8)


def test_a_gaussian_machines_score_is_its_energys_derivative():
    model = gaussian()
    v = torch.randn(5, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.energy(v).sum(), v)
    torch.testing.assert_close(model.score(v, NOW).detach(), -gradient, rtol=0, atol=1e-12)
    energy, score = model.energy_and_score(v)
    torch.testing.assert_close(energy, model.energy(v).detach())
    torch.testing.assert_close(score, -gradient)


def test_hintons_form_is_the_same_machine():
    model, v = gaussian(), torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    W, b, c, sigma = (value.detach() for value in model.hinton())
    energy = 0.5 * ((v - b) / sigma).square().sum(1) - F.softplus(c + v / sigma @ W).sum(1)
    torch.testing.assert_close(energy, model.energy(v).detach())
    mean = b + sigma * (states(4) @ W.T)  # of p(v|h) in that form
    torch.testing.assert_close(mean, model.visible(states(4)).detach())
    other = GaussianBernoulliRBM(3, 4).double()
    other.set_hinton(W, b, c, sigma)
    torch.testing.assert_close(other.energy(v), model.energy(v))


def test_scikit_learn_has_the_same_energies_and_conditionals():
    sklearn = pytest.importorskip("sklearn.neural_network")
    model = binary()
    theirs = sklearn.BernoulliRBM(n_components=4)
    theirs.components_ = model.W.detach().T.numpy()
    theirs.intercept_visible_, theirs.intercept_hidden_ = model.b.detach().numpy(), model.c.detach().numpy()
    v = states(6)
    torch.testing.assert_close(torch.as_tensor(theirs._free_energy(v.numpy())), model.energy(v).detach())
    torch.testing.assert_close(torch.as_tensor(theirs._mean_hiddens(v.numpy())), model.hidden(v).detach())


@pytest.mark.parametrize("make", [binary, gaussian])
def test_images_pass_through_as_vectors_do(make):
    flat = make(6)
    image = type(flat)((1, 2, 3), 4).double()
    image.load_state_dict(flat.state_dict())
    v = torch.rand(5, 6, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(image.energy(v.view(5, 1, 2, 3)), flat.energy(v))
    h = flat.sample_hidden(v, generator(1))
    drawn = image.sample_visible(h, generator(2))
    assert drawn.shape == (5, 1, 2, 3)
    torch.testing.assert_close(drawn.flatten(1), flat.sample_visible(h, generator(2)))
    assert image.prior((5, 1, 2, 3), generator(0)).shape == (5, 1, 2, 3)


@pytest.mark.parametrize("make", [lambda: RBM(0, 3), lambda: RBM(3, 0), lambda: RBM(3, 3, std=0.0)])
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match="needs a shape and hidden units of at least 1"):
        make()


def test_a_variance_must_be_positive():
    with pytest.raises(ValueError, match="variance > 0, got 0"):
        GaussianBernoulliRBM(3, 3, variance=0.0)
