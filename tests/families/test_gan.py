"""The GAN as a recipe: two players, what each sees, conditional pairs, resume after kill -9."""

import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch

from lightning_gen.data import Digits
from lightning_gen.families import GAN
from lightning_gen.losses import GradientPenalty, Hinge, NonSaturating, Relativistic, Wasserstein, ZeroCentred
from lightning_gen.nets import DCGAN, MLPAdversaries, ResNetGAN
from lightning_gen.randomness import generator
from lightning_gen.samplers import Langevin, Latent
from tests.families.test_players import last, resumed_equals_whole
from tests.families.two_players import Die, train
from tests.processes import ROOT

ADAM = partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9))


def family(net=None, **options):
    torch.manual_seed(0)
    net = MLPAdversaries((2,), 2, 16, 1) if net is None else net
    shape = options.pop("shape", (2,))
    return GAN(net, ADAM, **{"loss": NonSaturating(), "sampler": Latent(), "shape": shape, **options})


def main(folder, die=0):
    """Train WGAN-GP, and kill -9 the process after step `die`."""
    module = family(loss=Wasserstein(), penalty=GradientPenalty(), critic_steps=3, ema_decay=0.9)
    train(folder, module, *([Die(int(die))] if int(die) else []))


def test_the_critic_has_several_updates_for_one_of_the_generator(tmp_path):
    module = family(critic_steps=3, ema_decay=0.9)
    train(tmp_path, module, max_steps=5)
    assert last(tmp_path)["updates"] == {"critic": 3 * 3 + 2 + 3}, "an epoch of 11 batches ends with both"
    assert last(tmp_path)["global_step"] == 5


def test_each_loss_reaches_its_own_players_weights():
    module = family(penalty=ZeroCentred(1.0, 1.0))
    batch, noise = {"x": torch.randn(8, 2)}, torch.Generator().manual_seed(0)
    module.criticise(module.model, batch, noise, 0).mean().backward()
    assert all(p.grad is None for p in module.model.parameters())
    assert all(p.grad is not None for p in module.critic.parameters())
    critic, main_player = module.players()
    assert {id(p) for p in critic.parameters} == {id(p) for p in module.critic.parameters()}
    assert {id(p) for p in main_player.parameters} == {id(p) for p in module.model.parameters()}
    assert (critic.name, main_player.name, main_player.every) == ("critic", "generator", 1)


def test_both_objectives_are_the_losses_of_the_critics_values():
    module, x = family(loss=Hinge(), penalty=ZeroCentred(2.0)), torch.randn(8, 2)
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(3))
    fake = module.model.net(z).detach()
    real_value, fake_value = module.critic(x), module.critic(fake)
    result = module.objective(module.model, {"x": x}, torch.Generator().manual_seed(3), 0)
    torch.testing.assert_close(result, -fake_value)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module.critic(y).sum(), y)
    expected = (1 - real_value).relu() + (1 + fake_value).relu() + gradient.square().sum(1)
    result = module.criticise(module.model, {"x": x}, torch.Generator().manual_seed(3), 0)
    torch.testing.assert_close(result, expected)


class Always(NonSaturating):
    """The same loss, for which the critic values data too."""

    needs_real = True


@pytest.mark.parametrize("loss", [NonSaturating, Always, Relativistic])
def test_the_critic_values_data_in_the_generators_step_where_the_loss_needs_it(loss):
    module, x, seen = family(loss=loss()), torch.randn(8, 2), []
    module.critic.register_forward_hook(lambda net, args, value: seen.append(args[0]))
    module.objective(module.model, {"x": x}, torch.Generator().manual_seed(3), 0)
    assert len(seen) == 1 + loss.needs_real
    assert any(torch.equal(each, x) for each in seen) == loss.needs_real


def test_values_that_the_loss_does_not_need_change_no_weight(tmp_path):
    """Bit for bit, as long as a forward pass leaves the critic as it is."""
    ends = []
    for loss in (NonSaturating(), Always()):
        module = family(loss=loss, critic_steps=2, ema_decay=0.9)
        train(tmp_path / type(loss).__name__, module, max_steps=4)
        ends.append(module.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())


@pytest.mark.parametrize("net", ["dcgan", "resnet"])
def test_images_in_another_range_than_the_generators_are_refused(net):
    module = family(NETS[net](None, "none"), shape=(1, 8, 8))
    module.check_data(Digits())
    for wrong in ((0.0, 1.0), None):
        with pytest.raises(ValueError, match=r"data.value_range is (\[0.0, 1.0\]|None).*data.value_range=\[-1.0,1.0\]"):
            module.check_data(Digits(value_range=wrong))
    family().check_data(Digits(value_range=None))


NETS = {
    "mlp": lambda classes, norm: MLPAdversaries((2,), 2, 16, 1, classes, norm),
    "dcgan": lambda classes, norm: DCGAN((1, 8, 8), 4, 4, (1, 2), classes, norm),
    "resnet": lambda classes, norm: ResNetGAN((1, 8, 8), 4, 8, 8, 1, 1, 1, classes, norm),
}


@pytest.mark.parametrize("norm", ["none", "spectral"])
@pytest.mark.parametrize("name", NETS)
def test_a_conditional_pair_uses_its_labels(name, norm):
    """The projection critic's labels add an inner product; the generator's change G(z)."""
    torch.manual_seed(0)
    net = NETS[name](4, norm).eval()
    z, label = torch.randn(6, net.generator.latent), torch.arange(6) % 3
    x = net.generator(z, label)
    assert not torch.allclose(x, net.generator(z, (label + 1) % 3))
    value, other = net.critic(x, label), net.critic(x, (label + 1) % 3)
    h = net.critic.body(x)
    difference = ((net.critic.table(label) - net.critic.table((label + 1) % 3)) * h).sum(1)
    torch.testing.assert_close(value - other, difference)


@pytest.mark.parametrize("name", NETS)
def test_spectral_norm_makes_every_layer_of_the_critic_of_norm_one(name):
    torch.manual_seed(0)
    critic = NETS[name](None, "spectral").critic
    x = torch.randn(4, 2) if name == "mlp" else torch.randn(4, 1, 8, 8)
    for _ in range(60):  # power iterations
        critic(x)
    layers = [layer for layer in critic.modules() if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)]
    assert layers
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        torch.testing.assert_close(norm, torch.ones(()), rtol=0.02, atol=0)


def test_a_conditional_gan_draws_all_classes_in_turn_or_the_one_asked_for():
    module = family(NETS["mlp"](4, "none"), classes=3)
    whole = module.sample(6, seed=1, size=6)
    for label in (None, 2):
        labels = torch.arange(6) % 3 if label is None else torch.full((6,), 2)
        bound = module.model.with_label(labels)
        with torch.no_grad():
            expected = bound.visible(torch.randn(6, 2, generator=generator(1, "sample", 0)))
        result = whole if label is None else module.sample(6, seed=1, size=6, label=2)
        torch.testing.assert_close(result, expected)


@pytest.mark.slow
def test_a_run_killed_by_signal_9_resumes_bit_for_bit(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    main(whole)
    command = [sys.executable, "-m", "tests.families.test_gan", str(parts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([*command, "6"], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    resumed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert resumed_equals_whole(whole, parts)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: family(critic_steps=0), "critic_steps.*0"),
        (lambda: family(classes=3), "module.classes.*3.*net.classes.*None"),
        (lambda: family(NETS["mlp"](4, "none"), classes=3, guidance=2.0), "guidance.*2.0"),
        (lambda: DCGAN((1, 9, 9), 4, 4, (1, 2)), "multiples of 4.*9x9"),
        (lambda: DCGAN((2,), 4, 4), "shape.*2.*images"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_sampler_that_needs_a_score_is_refused():
    with pytest.raises(TypeError, match="Generator.*Latent"):
        family(sampler=Langevin(3))


if __name__ == "__main__":
    main(*sys.argv[1:])
