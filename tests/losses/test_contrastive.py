"""Contrastive divergence against the likelihood's own gradient, and NCE against a density that is known."""

import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_gen.losses import NCE, ContrastiveDivergence, RBMContrastiveDivergence
from lightning_gen.models import RBM, EnergyNetwork
from lightning_gen.models.rbm import states
from lightning_gen.nets import MLP
from lightning_gen.samplers import MALA, Gibbs, Langevin
from tests.energies import Quadratic
from tests.models.test_rbm import binary, gaussian


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bits(n, d, p=0.4, seed=5):
    return (torch.rand(n, d, generator=generator(seed), dtype=torch.float64) < p).double()


def likelihood_gradient(model, v):
    """d/d theta of -mean log p(v), the constant by enumeration."""
    twin = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    energy = lambda x: torch.func.functional_call(model, twin, (x,))  # noqa: E731
    model.forward = model.energy
    loss = energy(v).mean() + torch.logsumexp(-energy(states(len(model.b))), 0)
    return dict(zip(twin, torch.autograd.grad(loss, list(twin.values())), strict=True))


@pytest.mark.parametrize("start", ["data", "noise", "persistent"])
def test_a_long_chains_gradient_is_the_likelihoods(start):
    model, v = binary(5, 3), bits(400, 5)
    truth = likelihood_gradient(model, v)
    loss = RBMContrastiveDivergence(Gibbs(30), start)
    found = []
    for seed in range(60):
        model.zero_grad()
        loss(model, v, generator(seed)).mean().backward()
        found.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, value in truth.items():
        rows = torch.stack([one[name] for one in found])
        z = (rows.mean(0) - value) / (rows.std(0) / len(rows) ** 0.5)
        assert z.abs().max() <= 4, name


def test_one_step_from_the_data_is_another_gradient():
    """CD-1 is biased: by the listed transition matrix its expectation is known, and it is not the likelihood's."""
    model, v = binary(4, 3), bits(300, 4)
    every, h = states(4), states(3)
    p_h = torch.stack([torch.where(row > 0, model.hidden(every), 1 - model.hidden(every)).prod(1) for row in h], 1)
    p_v = torch.stack([torch.where(row > 0, model.visible(h), 1 - model.visible(h)).prod(1) for row in every], 1)
    number = (v * 2 ** torch.arange(4)).sum(1).long()
    start = torch.bincount(number, minlength=16).double() / len(v)
    reached = (start @ p_h @ p_v).detach()
    expected = model.gradient(every, model.logits(every), start - reached)["W"]
    rows = []
    for seed in range(300):
        model.zero_grad()
        RBMContrastiveDivergence(Gibbs(1))(model, v, generator(seed)).mean().backward()
        rows.append(model.W.grad.clone())
    rows = torch.stack(rows)
    z = (rows.mean(0) - expected) / (rows.std(0) / len(rows) ** 0.5)
    assert z.abs().max() <= 4
    assert (rows.mean(0) - likelihood_gradient(model, v)["W"]).abs().max() > 10 * rows.std(0).max() / 300**0.5


def test_cd_1_is_five_matrix_products():
    model, v = RBM(784, 500), (torch.rand(100, 784, generator=generator()) < 0.2).float()
    with FlopCounterMode(display=False) as counted:
        RBMContrastiveDivergence(Gibbs(1))(model, v, generator()).mean().backward()
    assert 5 <= counted.get_total_flops() / (2 * 100 * 784 * 500) < 5.01


@pytest.mark.parametrize("make", [binary, gaussian])
def test_backward_gives_the_gradient_in_closed_form_times_what_the_loss_became(make):
    model = make(4, 3)
    v = bits(20, 4)
    loss = RBMContrastiveDivergence(Gibbs(2), weight_decay=0.1)
    loss(model, v, generator(1)).mean().backward()
    reached, weight = loss.last_batch["reached"], torch.full((20,), 1 / 20, dtype=torch.float64)
    rows = torch.cat([v, reached])
    known = model.gradient(rows, model.logits(rows), torch.cat([weight, -weight]))
    known["W"] = known["W"] + 0.1 * model.W
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, known[name].detach(), msg=name)
    model.zero_grad()
    for _ in range(2):  # two micro-batches, each half of the loss
        (loss(model, v, generator(1)).mean() / 2).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, known[name].detach(), msg=name)


@pytest.mark.parametrize("make", [binary, gaussian])
def test_backward_weights_each_sample_as_automatic_differentiation_of_the_energies_does(make):
    """Of sum_i w_i (E(v_i) - mean E(v_k)), the w_i different."""
    model, v = make(4, 3), bits(20, 4)
    w = torch.rand(20, generator=generator(2), dtype=torch.float64)
    loss = RBMContrastiveDivergence(Gibbs(2))
    (w * loss(model, v, generator(1))).sum().backward()
    known = w @ (model.energy(v) - model.energy(loss.last_batch["reached"]).mean())
    for (name, parameter), value in zip(
        model.named_parameters(), torch.autograd.grad(known, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, value, msg=name)


def test_at_exact_samples_nothing_is_left_to_learn():
    model = binary(5, 3)
    rows = []
    for seed in range(200):
        model.zero_grad()
        v = model.draw((100, *model.shape), generator(seed))
        RBMContrastiveDivergence(Gibbs(1))(model, v, generator(1000 + seed)).mean().backward()
        rows.append(model.W.grad.clone())
    rows = torch.stack(rows)
    assert (rows.mean(0) / (rows.std(0) / len(rows) ** 0.5)).abs().max() < 4


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_a_centred_rbms_offsets_follow_the_data_in_training_alone_and_its_step_counts_from_them():
    model, v = binary(5, 3, centred=True, shift=0.25), bits(40, 5)
    loss, before = RBMContrastiveDivergence(Gibbs(2)), (model.offset_v.clone(), model.offset_h.clone())
    loss(model, v, generator(1)).mean().backward()
    means, hidden = v.mean(0), model.hidden(v).detach()
    torch.testing.assert_close(model.offset_v, 0.75 * before[0] + 0.25 * means)
    torch.testing.assert_close(model.offset_h, 0.75 * before[1] + 0.25 * hidden.mean(0))
    away, reached = v - model.offset_v, loss.last_batch["reached"] - model.offset_v
    other = model.hidden(loss.last_batch["reached"]).detach() - model.offset_h
    W = (reached.T @ other - away.T @ (hidden - model.offset_h)) / len(v)
    torch.testing.assert_close(model.W.grad, W)
    torch.testing.assert_close(model.b.grad, (reached - away).mean(0) - W @ model.offset_h)
    kept = (model.offset_v.clone(), model.offset_h.clone())
    value = loss.eval()(model, v, generator(2))
    assert torch.equal(model.offset_v, kept[0]) and torch.equal(model.offset_h, kept[1])
    assert not value.requires_grad


def test_a_variance_that_is_not_learned_gets_no_gradient():
    model, v = gaussian(4, 3, learn_variance=False), bits(20, 4)
    RBMContrastiveDivergence(Gibbs(1))(model, v, generator()).mean().backward()
    found = gradients(model)
    assert set(found) == {"W", "c", "mu"}
    model.log_variance.requires_grad_()
    model.zero_grad()
    RBMContrastiveDivergence(Gibbs(1))(model, v, generator()).mean().backward()
    assert model.log_variance.grad.any()
    for name, value in found.items():
        assert torch.equal(value, model.get_parameter(name).grad)


def test_persistent_chains_continue_from_batch_to_batch():
    """One sweep a batch, forty batches of an RBM that stays as it is: the chains have its law, |z| <= 4."""
    model, v = binary(4, 3), bits(20000, 4)
    loss = RBMContrastiveDivergence(Gibbs(1), "persistent")
    law = (-model.energy(states(4)) - model.exact_log_z()).exp().detach()
    for seed in range(40):
        loss(model, v, generator(seed))
    shares = torch.bincount((loss.chains * 2 ** torch.arange(4)).sum(1).long(), minlength=16) / len(v)
    assert ((shares - law) / (law * (1 - law) / len(v)).sqrt()).abs().max() <= 4


@pytest.mark.parametrize("start", ["data", "noise", "persistent"])
@pytest.mark.parametrize("centred", [False, True])
def test_half_precision_changes_nothing_in_an_rbm(start, centred):
    """Trap: trainer=gpu is bf16-mixed, in which a coin of less than 1/256 falls too often and kept chains broke."""
    found = []
    for half in (False, True):
        model, v = binary(5, 3, centred=centred).float(), bits(40, 5).float()
        loss = RBMContrastiveDivergence(Gibbs(2), start)
        for seed in (0, 1):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                value = loss(model, v, generator(seed)).mean()
            value.backward()
        found.append({**gradients(model), "value": value.detach(), "reached": loss.last_batch["reached"]})
    for name, value in found[0].items():
        assert value.dtype == found[1][name].dtype == torch.float32
        assert torch.equal(value, found[1][name]), name


def network():
    torch.manual_seed(0)
    net = MLP((2,), 8, 1)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return EnergyNetwork(net, confine=1.0)


def test_an_energy_network_learns_through_its_energies_and_not_through_the_chain():
    model, x = network(), torch.randn(30, 2, generator=generator())
    loss = ContrastiveDivergence(Langevin(3, 0.01), "noise", l2=0.5)
    value = loss(model, x, generator(1)).mean()
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    up, down = model.energy(x), model.energy(loss.last_batch["reached"])
    known = (up - down).mean() + 0.5 * (up.square() + down.square()).mean()
    assert float(value) == pytest.approx(float(known), rel=1e-5)
    for a, b in zip(found, torch.autograd.grad(known, list(model.parameters()), allow_unused=True), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b)


def test_persistent_chains_move_in_training_alone():
    model, v = binary(5, 3), bits(8, 5)
    loss = RBMContrastiveDivergence(Gibbs(1), "persistent", chains=20)
    loss(model, v, generator(0))
    assert len(loss.chains) == 20
    before = loss.chains.clone()
    loss(model, v, generator(1))
    moved = (loss.chains != before).any(1)
    assert 0 < int(moved.sum()) <= 8 and len(set(loss.chosen.tolist())) == 8
    assert not moved[[i for i in range(20) if i not in loss.chosen.tolist()]].any()
    loss.eval()
    before, seen = loss.chains.clone(), dict(loss.last_batch)
    loss(model, v, generator(2))
    assert torch.equal(loss.chains, before) and loss.last_batch["reached"] is seen["reached"]


def test_the_farthest_chain_of_all_batches_is_known():
    model, v = binary(5, 3), bits(2, 5)
    loss, seen = RBMContrastiveDivergence(Gibbs(1), "noise"), []
    for seed in range(4):
        loss(model, v, generator(seed))
        seen.append(float((loss.last_batch["chains"] - loss.last_batch["data"].mean()).abs().max() / 5))
    assert float(loss.max_deviation) == pytest.approx(max(seen)) and max(seen) > min(seen) > 0
    loss.eval()
    loss(model, 100 * v, generator(4))
    assert float(loss.max_deviation) == pytest.approx(max(seen))
    loss.train().max_deviation = None
    loss(model, v, generator(seen.index(min(seen))))
    assert float(loss.max_deviation) == pytest.approx(min(seen))


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_is_a_positive_number(limit):
    with pytest.raises(ValueError, match="limit.*null"):
        RBMContrastiveDivergence(Gibbs(1), limit=limit)


def test_chains_that_are_all_restarted_start_from_noise():
    model, v = binary(5, 3), bits(8, 5)
    loss = RBMContrastiveDivergence(Gibbs(1), "persistent", restart=1.0)
    loss.chains = torch.full((8, 5), torch.nan, dtype=torch.float64)
    start = loss.start_states(model, v, generator())
    assert set(start.unique().tolist()) == {0.0, 1.0}
    kept = RBMContrastiveDivergence(Gibbs(1), "persistent")
    kept.chains = torch.full((8, 5), 7.0, dtype=torch.float64)
    assert (kept.start_states(model, v, generator()) == 7).all()


def test_noise_on_the_data_is_of_the_asked_deviation():
    seen = []

    class Spy(Quadratic):
        def energy(self, x):
            seen.append(x)
            return super().energy(x)

    ContrastiveDivergence(MALA(1), jitter=0.3)(Spy(), torch.zeros(20000, 2), generator())
    assert abs(float(seen[-1][:20000].std()) / 0.3 - 1) < 0.03


@pytest.mark.parametrize("ratio", [1, 5])
def test_nce_is_at_rest_where_energy_and_constant_are_true(ratio):
    """Gutmann & Hyvarinen (2010): for data N(0, 1/2 I) in the plane, Z = 2 pi / 2."""
    truth = {"precision": 2.0, "constant": math.log(2 * math.pi * 0.5)}
    rows, off = [], []
    for seed in range(100):
        x = 0.5**0.5 * torch.randn(400, 2, generator=generator(seed))
        for kept, constant in ((rows, truth["constant"]), (off, truth["constant"] + 0.3)):
            model = Quadratic(2.0, 0.0, constant, learned=True)
            NCE(1.0, 0.0, ratio)(model, x, generator(1000 + seed)).mean().backward()
            kept.append(torch.stack([model.precision.grad, model.constant.grad]))
    z = [torch.stack(r).mean(0) / (torch.stack(r).std(0) / 100**0.5) for r in (rows, off)]
    assert z[0].abs().max() < 4
    assert float(z[1][1]) > 10  # too large a constant comes down


def test_nce_of_noise_itself_is_two_log_two():
    model = Quadratic(constant=math.log(2 * math.pi))
    value = NCE(1.0)(model, torch.randn(10, 2, generator=generator()), generator(1))
    torch.testing.assert_close(value, torch.full((10,), 2 * math.log(2)))


def test_the_noises_density_is_normal():
    nce, x = NCE(0.7, 0.2), torch.randn(5, 3, generator=generator())
    torch.testing.assert_close(nce.log_noise(x), torch.distributions.Normal(0.2, 0.7).log_prob(x).sum(1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"start": "model"}, "start.*model.*persistent"),
        ({"chains": 5}, "chains.*5.*data.*persistent"),
        ({"restart": 0.5}, "restart.*0.5.*persistent"),
        ({"start": "persistent", "restart": 2.0}, "restart.*2.0"),
        ({"weight_decay": -1.0}, "weight_decay.*-1.0"),
    ],
)
def test_wrong_options_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        RBMContrastiveDivergence(Gibbs(1), **wrong)


def test_too_few_chains_and_a_wrong_regulariser_are_refused():
    model, v = binary(5, 3), bits(8, 5)
    with pytest.raises(ValueError, match="chains.*4.*1 ranks.*8"):
        RBMContrastiveDivergence(Gibbs(1), "persistent", chains=4)(model, v, generator())
    with pytest.raises(TypeError, match="l2"):
        RBMContrastiveDivergence(Gibbs(1), l2=1.0)(model, v, generator())
    with pytest.raises(ValueError, match="std.*0.0"):
        NCE(0.0)
