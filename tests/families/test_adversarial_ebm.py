"""An energy and its generator: whose gradient is whose, and that the entropy is one."""

import math
from functools import partial

import pytest
import torch

import run as entry
from lightning_gen.families import AdversarialEBM
from lightning_gen.losses import ContrastiveDivergence
from lightning_gen.losses.entropy import nearest_neighbour_entropy
from lightning_gen.models import EnergyNetwork
from lightning_gen.nets import MLP, MLPAdversaries
from lightning_gen.samplers import Langevin, Prior
from tests.families.test_players import last
from tests.families.two_players import train

ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9))


def family(**options):
    torch.manual_seed(0)
    return AdversarialEBM(MLPAdversaries((2,), 2, 16, 1), ADAM, sampler=Prior(), shape=(2,), **options)


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def gradients(loss, model):
    return torch.autograd.grad(loss, [*model.net.critic.parameters()])


def test_the_energys_gradient_is_cds_with_the_generators_samples():
    """d/d theta of mean E(x) - mean E(G(z)), by hand, and by CD whose chains stand still at G(z)."""
    module, x = family(), torch.randn(12, 2, generator=seeded(1))
    found = gradients(module.objective(module.model, {"x": x}, seeded(), 0).mean(), module.model)
    z = torch.randn(12, 2, generator=seeded())
    with torch.no_grad():
        samples = module.model.net.generator(z)
    energy = module.model.net.critic
    by_hand = gradients(energy(x).mean() - energy(samples).mean(), module.model)
    still = ContrastiveDivergence(Langevin(1, 1e-20), "data")
    still.start_states = lambda *_: samples
    by_cd = gradients(still(module.model, x, seeded()).mean(), module.model)
    for one, two, three in zip(found, by_hand, by_cd, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-6)


def test_the_energy_is_in_nats_whatever_the_weight_of_the_entropy():
    """G's optimum is exp(-D / entropy) / Z: E = D / entropy is the energy, and the losses are D's."""
    module, x = family(entropy=0.1, r1=0.6), torch.randn(7, 2, generator=seeded(1))
    energy, samples = module.model.net.critic, module.model.prior((7, 2), seeded()).detach()
    torch.testing.assert_close(module.model.energy(x), energy(x) / 0.1)
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(point).sum(), point)
    expected = energy(x) - energy(samples).mean() + 0.3 * gradient.square().sum(1)
    loss = module.objective(module.model, {"x": x}, seeded(), 0)
    torch.testing.assert_close(loss.mean(), expected.mean(), rtol=1e-4, atol=1e-6)
    assert family(entropy=0.0).model.scale == 1


def test_the_penalty_is_half_of_the_squared_slope_on_the_data():
    module, x = family(r1=0.6), torch.randn(7, 2, generator=seeded(1))
    value = module.objective(module.model, {"x": x}, seeded(), 0)
    slope = module.model.score(x, torch.zeros(())).square().sum(1)
    plain = family().objective(module.model, {"x": x}, seeded(), 0)
    torch.testing.assert_close(value - plain, 0.3 * slope, rtol=1e-4, atol=1e-6)


def test_each_player_moves_its_own_network_and_the_energy_counts(tmp_path):
    module = family(ema_decay=0.9)
    generator, energy = module.players()
    assert {id(p) for p in generator.parameters} == {id(p) for p in module.model.net.generator.parameters()}
    assert {id(p) for p in energy.parameters} == {id(p) for p in module.model.net.critic.parameters()}
    train(tmp_path, module, max_steps=3)
    assert (last(tmp_path)["global_step"], last(tmp_path)["updates"]) == (3, {"generator": 3})


@pytest.mark.parametrize("still", ["generator", "critic"])
def test_a_player_without_a_rate_stands_still_and_the_other_moves(still, tmp_path):
    rest = partial(torch.optim.Adam, lr=0.0)
    module = family(**{"generator_optimizer": rest} if still == "generator" else {"generator_optimizer": ADAM})
    if still == "critic":
        module.make_optimizer = rest
    before = {key: value.clone() for key, value in module.model.state_dict().items()}
    train(tmp_path, module, max_steps=3)
    for key, value in module.model.state_dict().items():
        if "weight" in key:
            assert torch.equal(before[key], value) == (still in key)


@pytest.mark.parametrize(
    ("words", "key"), [("data.value_range=[0,1]", "value_range"), ("data.batch_size=1", "batch_size")]
)
def test_what_the_generator_cannot_do_is_refused(words, key, tmp_path, capsys):
    assert entry.main(["experiment=ebm_adversarial_digits", words, "logger=none", f"run={tmp_path}"]) == 2
    assert f"data.{key} is" in capsys.readouterr().err


def test_the_generator_descends_energy_less_entropy():
    module, x = family(entropy=0.5), torch.zeros(9, 2)
    samples = module.model.prior((9, 2), seeded())
    expected = module.model.net.critic(samples) - 0.5 * nearest_neighbour_entropy(samples)
    torch.testing.assert_close(module.generate(module.model, {"x": x}, seeded(), 0), expected)


@pytest.mark.parametrize("d", [1, 3])
def test_the_entropy_of_a_gaussian(d):
    """d/2 log(2 pi e s^2); scaling by s adds d log s exactly."""
    x = torch.randn(1500, d, generator=seeded(), dtype=torch.float64)
    h = nearest_neighbour_entropy(x)
    assert abs(h.mean() - d / 2 * math.log(2 * math.pi * math.e)) < 4 * h.std() / len(x) ** 0.5 + 0.03 * (d - 1)
    torch.testing.assert_close(nearest_neighbour_entropy(0.1 * x), h + d * math.log(0.1))


def test_the_generators_draws_start_and_are_the_samples():
    module = family()
    with torch.no_grad():
        expected = module.model.net.generator(torch.randn(4, 2, generator=seeded()))
    assert torch.equal(Prior().draw(module.model, (4, 2), seeded()).detach(), expected)
    start = Langevin(1, 1e-3, start="prior").start(module.model, (4, 2), seeded())
    assert torch.equal(start.detach(), expected)
    with pytest.raises(TypeError, match=r"Prior.*choose"):
        Prior().check(EnergyNetwork(MLP((2,), 8, 1)))
    with pytest.raises(ValueError, match="module.classes is 3"):
        family(classes=3)
