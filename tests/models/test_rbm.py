"""RBMs whose states can be enumerated: energies, conditionals, constants and gradients against the sums."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from lightning_gen.models import RBM, EnergyNetwork, GaussianBernoulliRBM, SumOfEnergies
from lightning_gen.models.rbm import states
from lightning_gen.nets import MLP, ResNetEnergy
from lightning_gen.randomness import bernoulli
from lightning_gen.samplers import MALA, Langevin

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bernoulli_draws_have_their_probability_and_are_independent(dtype):
    p = torch.tensor([0.0, 2**-10, 0.1, 0.5, 0.9, 1 - 2**-10, 1.0], dtype=dtype)
    n = 200_001  # odd, as n times 7 is: the last draw is half of a pair
    values = bernoulli(p.expand(n, 7), generator()).to(torch.float64)
    assert set(values.unique().tolist()) == {0.0, 1.0} and values.shape == (n, 7)
    error = (p * (1 - p) / n).sqrt().double()
    assert ((values.mean(0) - p).abs() <= 4 * error).all()
    row = bernoulli(torch.full((n,), 0.5, dtype=dtype), generator(1)).to(torch.float64) - 0.5
    for lag in (1, 2, 3, 7):
        assert abs(4 * float((row[lag:] * row[:-lag]).mean())) < 4 * n**-0.5, lag


def joint(model):
    """v and h of every state, and E(v, h)."""
    v, h = states(len(model.b)), states(len(model.c))
    pairs = [(a, b) for a, b in itertools.product(v, h)]
    v, h = torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])
    return v, h, model.joint_energy(v, h).detach()


def test_states_are_all_binary_vectors_once():
    assert {tuple(row) for row in states(3).int().tolist()} == set(itertools.product((0, 1), repeat=3))
    with pytest.raises(ValueError, match="20"):
        states(21)


@pytest.mark.parametrize("make", [binary, gaussian])
def test_the_free_energy_sums_the_hidden_units_out(make):
    model, h = make(6, 4), states(4)
    v = states(6) if make is binary else torch.randn(64, 6, generator=generator(1), dtype=torch.float64)
    pairs = model.joint_energy(v.repeat_interleave(16, 0), h.repeat(64, 1)).detach().view(64, 16)
    torch.testing.assert_close(model.energy(v).detach(), -torch.logsumexp(-pairs, 1), rtol=0, atol=1e-12)


def test_joint_energies_are_the_written_ones():
    """E = -bT v - cT h - vT W h; E = 1/2 ||(v - mu) / sigma||^2 - (v / sigma^2)T W h - cT h."""
    v, h = (torch.rand(5, n, generator=generator(n), dtype=torch.float64) for n in (6, 4))
    model, real = binary(), gaussian(6, 4)
    result = model.joint_energy(v, h), real.joint_energy(v, h)
    for i in range(5):
        goal = -(model.b @ v[i]) - model.c @ h[i] - v[i] @ model.W @ h[i]
        torch.testing.assert_close(result[0][i], goal, rtol=0, atol=1e-12)
        variance = real.log_variance.exp()
        goal = ((v[i] - real.mu) ** 2 / (2 * variance)).sum() - (v[i] / variance) @ real.W @ h[i] - real.c @ h[i]
        torch.testing.assert_close(result[1][i], goal, rtol=0, atol=1e-12)


def test_conditionals_are_those_of_the_enumerated_rbm():
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
    torch.testing.assert_close(model.exact_log_z().detach(), truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [binary, gaussian])
def test_the_gradient_in_closed_form_is_the_energys(make):
    model = make()
    v = torch.rand(7, math.prod(model.shape), generator=generator(1), dtype=torch.float64)
    weight = torch.randn(7, generator=generator(2), dtype=torch.float64)
    (weight * model.energy(v)).sum().backward()
    result = model.gradient(v, model.logits(v), weight)
    assert set(result) == {name for name, _ in model.named_parameters()}
    for name, value in result.items():
        torch.testing.assert_close(value, model.get_parameter(name).grad, rtol=0, atol=1e-12)


def flipped(model, v, h):
    """The same RBM in flipped units, v -> 1 - v and h -> 1 - h where the flags v (D,) and h (H,) are 1."""
    twin = RBM(len(model.b), len(model.c), centred=True).double()
    s, r = 1 - 2 * v, 1 - 2 * h
    twin.W.data = s[:, None] * model.W.data * r
    twin.b.data = s * (model.b.data + model.W.data @ h)
    twin.c.data = r * (model.c.data + model.W.data.T @ v)
    twin.offset_v.copy_(v + s * model.offset_v)
    twin.offset_h.copy_(h + r * model.offset_h)
    return twin


@pytest.mark.parametrize("units", ["visible", "one visible", "hidden", "some of both"])
def test_a_centred_step_does_not_care_which_value_is_called_one(units):
    """Melchior et al. (2016): the step of the flipped RBM is the flipped step with centring, not without.

    dW' = s dW r, db' = s (db + dW h), dc' = r (dc + dWT v) with signs s and r of the flipped units v and h.
    """
    model, chosen, chosen_h = binary(centred=True), *(torch.zeros(n, dtype=torch.float64) for n in (6, 4))
    chosen[{"visible": slice(6), "one visible": 2, "hidden": slice(0), "some of both": slice(1, 4)}[units]] = 1
    chosen_h[{"hidden": slice(4), "some of both": slice(2, 4)}.get(units, slice(0))] = 1
    v = (torch.rand(8, 6, generator=generator(1), dtype=torch.float64) < 0.3).double()
    model.update_offsets(v, model.hidden(v))
    twin, turned = flipped(model, chosen, chosen_h), (v - chosen).abs()
    energies = model.energy(v), twin.energy(turned)
    torch.testing.assert_close(energies[0] - energies[0][0], energies[1] - energies[1][0])  # one density
    weight = torch.tensor([0.25] * 4 + [-0.25] * 4, dtype=torch.float64)

    def steps():
        here, there = (m.gradient(x, m.logits(x), weight) for m, x in ((model, v), (twin, turned)))
        s, r = 1 - 2 * chosen, 1 - 2 * chosen_h
        goal = {"W": s[:, None] * here["W"] * r, "b": s * (here["b"] + here["W"] @ chosen_h)}
        return there, {**goal, "c": r * (here["c"] + here["W"].T @ chosen)}

    there, goal = steps()
    for name, value in goal.items():
        torch.testing.assert_close(there[name], value, rtol=0, atol=1e-12)
    model.centred = twin.centred = False
    there, goal = steps()
    assert not all(torch.allclose(there[name], value) for name, value in goal.items())


def test_a_centred_gradient_is_relative_to_the_offsets():
    model = binary(centred=True)
    v = (torch.rand(8, 6, generator=generator(1), dtype=torch.float64) < 0.5).double()
    model.offset_v.copy_(torch.rand(6, generator=generator(2), dtype=torch.float64))
    model.offset_h.copy_(torch.rand(4, generator=generator(3), dtype=torch.float64))
    weight, h = torch.tensor([0.25] * 4 + [-0.25] * 4, dtype=torch.float64), model.hidden(v)
    result = model.gradient(v, model.logits(v), weight)
    W = -torch.einsum("n,ni,nj->ij", weight, v - model.offset_v, h - model.offset_h)
    torch.testing.assert_close(result["W"], W.detach())
    torch.testing.assert_close(result["b"], (-weight @ v - W @ model.offset_h).detach())
    torch.testing.assert_close(result["c"], (-weight @ h - W.T @ model.offset_v).detach())


def test_a_gaussian_rbm_is_its_mixture():
    model = gaussian()
    logits, means, variance = (value.detach() for value in model.mixture())
    v = torch.randn(20, 3, generator=generator(1), dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(means, torch.diag(variance))
    log_p = torch.logsumexp(logits.log_softmax(0) + normal.log_prob(v[:, None]), 1)
    result = -model.energy(v) - model.exact_log_z()
    torch.testing.assert_close(result.detach(), log_p, rtol=0, atol=1e-10)
    one = gaussian(1, 3)  # whose constant is a sum over a grid, too
    grid = torch.linspace(-30, 30, 20001, dtype=torch.float64)[:, None]
    integral = torch.logsumexp(-one.energy(grid).detach(), 0) + math.log(60 / 20000)
    torch.testing.assert_close(one.exact_log_z().detach(), integral, rtol=0, atol=1e-8)


def test_a_gaussian_rbms_score_is_its_energys_derivative():
    model = gaussian()
    v = torch.randn(5, 3, generator=generator(1), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.energy(v).sum(), v)
    torch.testing.assert_close(model.score(v, NOW).detach(), -gradient, rtol=0, atol=1e-12)
    energy, score = model.energy_and_score(v)
    torch.testing.assert_close(energy, model.energy(v).detach())
    torch.testing.assert_close(score, -gradient)


def test_hintons_form_is_the_same_rbm():
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
    torch.testing.assert_close(torch.as_tensor(theirs.transform(v.numpy())), model.hidden(v).detach())


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


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(lambda: RBM(0, 3), "shape.*0"), (lambda: RBM(3, 0), "hidden.*0"), (lambda: RBM(3, 3, std=0.0), "std.*0.0")],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_variance_must_be_positive():
    with pytest.raises(ValueError, match="variance.*0"):
        GaussianBernoulliRBM(3, 3, variance=0.0)


def bell(mean, variance):
    """N(mean, variance I) as an RBM without couplings."""
    rbm = GaussianBernoulliRBM(len(mean), 1, variance=variance).double()
    rbm.W.data.zero_()
    rbm.mu.data = torch.tensor(mean, dtype=torch.float64)
    return rbm


def test_energies_and_scores_of_a_sum_add():
    parts = gaussian(), bell([0.5, -1.0, 0.0], 0.3), EnergyNetwork(MLP((3,), 8, 1).double(), confine=2.0)
    both, v = SumOfEnergies(*parts), torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    energy, score = both.energy_and_score(v)
    torch.testing.assert_close(energy, sum(part.energy(v) for part in parts).detach())
    for result in (score, both.score(v, NOW).detach()):
        torch.testing.assert_close(result, sum(part.score(v, NOW) for part in parts).detach())
    assert len(list(both.parameters())) == sum(len(list(part.parameters())) for part in parts)


@pytest.mark.parametrize(
    ("sampler", "bias"), [(MALA(60, 0.3), 1), (Langevin(80, 0.2), 1 / (1 - 3 * 0.2 / 2))], ids=["mala", "langevin"]
)
def test_chains_of_a_sum_have_the_products_law(sampler, bias):
    """N(m, 1) N(n, 1/2) is N((m + 2 n) / 3, 1/3); Langevin's variance is 1/3 over 1 - 3 eta / 2. |z| <= 4."""
    both, n = SumOfEnergies(bell([0.0, -1.0], 1.0), bell([1.0, 0.5], 0.5)), 20000
    x = sampler(both, torch.zeros(n, 2, dtype=torch.float64), generator())
    variance = bias / 3
    mean = torch.tensor([2 / 3, 0.0], dtype=torch.float64)
    assert ((x.mean(0) - mean) / (variance / n) ** 0.5).abs().max() <= 4
    assert ((x - mean).square().mean(0) / variance - 1).abs().max() <= 4 * (2 / n) ** 0.5


def test_what_may_not_be_normalisable_says_why():
    image, plane = ResNetEnergy((1, 4, 4), 2, (1,), 1), MLP((2,), 8, 1)
    for net, readout, confine, why in (
        (plane, "norm", 1.0, ""),
        (plane, "reconstruction", 1.0, ""),
        (image, "scalar", 1.0, ""),
        (plane, "product", 1.0, "MLP with the readout product may outgrow the confining term"),
        (image, "scalar", None, "module.confine is null"),
    ):
        model = EnergyNetwork(net, readout=readout, confine=confine)
        assert (model.why_unnormalisable() or "").startswith(why) and bool(model.why_unnormalisable()) == bool(why)
        assert SumOfEnergies(gaussian(), model).why_unnormalisable() == model.why_unnormalisable()
    assert binary().why_unnormalisable() is gaussian().why_unnormalisable() is None


def test_a_learned_constant_moves_the_energy_and_not_the_score():
    net, v = MLP((3,), 8, 1).double(), torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    plain, model = (EnergyNetwork(net, confine=1.0, constant=constant).double() for constant in (False, True))
    assert torch.equal(model.energy(v), plain.energy(v))  # it starts at 0
    model.constant.data.fill_(-2.5)
    torch.testing.assert_close(model.energy(v), plain.energy(v) - 2.5)
    torch.testing.assert_close(model.score(v, NOW), plain.score(v, NOW))
    (slope,) = torch.autograd.grad(model.energy(v).sum(), model.constant)
    assert float(slope) == len(v)
