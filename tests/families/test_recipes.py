"""Each family is the loss of its paper, written out here with the paper's letters; NCSN's levels; labels."""

import math
import re
from functools import partial

import pytest
import torch

from lightning_gen.data import Digits, Rings
from lightning_gen.families import DDPM, EDM, NCSN, ScoreMatching, ScoreSDE
from lightning_gen.families.ncsn import largest_distance, number_of_levels, overlap_of
from lightning_gen.nets import MLP
from lightning_gen.process import linear_betas
from lightning_gen.randomness import UNIT, Numbered
from lightning_gen.samplers import DDIM
from tests.data.sets import ready

ADAM = partial(torch.optim.Adam, lr=1e-3)


class Net(torch.nn.Module):
    """Something nonlinear that depends on the time that it gets."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.7))

    def forward(self, x, t):
        return torch.tanh(self.scale * x.roll(1, -1) + torch.sin(t)[:, None]) + 0.3 * x


def data(n=6):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def drawn(loss_draw, x):
    """The time and the noise that a denoising loss draws from a generator."""
    g = torch.Generator().manual_seed(4)
    t = loss_draw(g)
    return t, torch.randn(x.shape, generator=g, dtype=x.dtype)


def uniform(g, n=6, t_min=1e-5):
    return t_min + (1 - t_min) * torch.rand(n, generator=g)


def test_ddpm_is_l_simple():
    net, x = Net().double(), data()
    t, z = drawn(lambda g: torch.randint(1, 101, (6,), generator=g), x)
    bar = torch.cumprod(1 - torch.tensor(linear_betas(100), dtype=torch.float64), 0)[t - 1][:, None]
    expected = (net(bar.sqrt() * x + (1 - bar).sqrt() * z, t.double() - 1) - z).square().mean(1)
    module = DDPM(net, ADAM, steps=100)
    torch.testing.assert_close(module.loss(module.model, x, torch.Generator().manual_seed(4)), expected)


@pytest.mark.parametrize("sde", ["vp", "subvp", "ve"])
def test_a_score_sde_is_denoising_score_matching_of_its_perturbation(sde):
    """Song et al. (2021), eq. 7 and 29 to 31, lambda = sigma^2."""
    net, x = Net().double(), data()
    t, z = drawn(uniform, x)
    t = t.double()[:, None]
    integral = 0.5 * (20 - 0.1) * t**2 + 0.1 * t
    mean = torch.ones_like(t) if sde == "ve" else (-0.5 * integral).exp()
    std = {"vp": (1 - (-integral).exp()).sqrt(), "subvp": 1 - (-integral).exp(), "ve": 0.01 * (50 / 0.01) ** t}[sde]
    score = -net(mean * x + std * z, 999 * t[:, 0]) / std
    expected = std[:, 0] ** 2 * (score + z / std).square().mean(1)
    module = ScoreSDE(net, ADAM, sde=sde)
    loss = module.loss(module.model, x, torch.Generator().manual_seed(4))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_ve_networks_of_the_papers_code_get_the_level():
    net, x = Net().double(), data()
    module = ScoreSDE(net, ADAM, sde="ve", parametrization="ve")
    t = torch.full((6,), 0.4, dtype=torch.float64)
    sigma = 0.01 * 5000**0.4
    torch.testing.assert_close(module.model.score(x, t), net(x, torch.full((6,), math.log(sigma)).double()) / sigma)


def test_edm_is_karras_loss():
    """Karras et al. (2022), eq. 8 and table 1."""
    net, x, s = Net().double(), data(), 0.6
    g = torch.Generator().manual_seed(4)
    sigma = (1.3 * torch.randn(6, generator=g) - 1.1).exp().double()[:, None]
    z = torch.randn(x.shape, generator=g, dtype=x.dtype)
    noised = x + sigma * z
    skip, out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2).sqrt()
    denoised = skip * noised + out * net(noised / (sigma**2 + s**2).sqrt(), sigma[:, 0].log() / 4)
    weight = (sigma[:, 0] ** 2 + s**2) / (sigma[:, 0] * s) ** 2
    module = EDM(net, ADAM, sigma_data=s, log_mean=-1.1, log_std=1.3)
    loss = module.loss(module.model, x, torch.Generator().manual_seed(4))
    torch.testing.assert_close(loss, weight * (denoised - x).square().mean(1), rtol=1e-4, atol=1e-5)


def test_ncsn_is_the_sum_over_its_levels():
    """Song & Ermon (2019), eq. 6, at the level drawn, and every level is drawn."""
    net, x = Net().double(), data()
    module = NCSN(net, ADAM, noise_levels=10, sigma_min=0.01, sigma_max=1.0)
    i, z = drawn(lambda g: torch.randint(0, 10, (6,), generator=g), x)
    sigma = torch.logspace(-2, 0, 10, dtype=torch.float64)[i][:, None]
    noised = x + sigma * z
    score = -net(noised, 999 * i.double() / 9) / sigma
    expected = 0.5 * sigma[:, 0] ** 2 * (score + z / sigma).square().sum(1)
    torch.testing.assert_close(module.loss(module.model, x, torch.Generator().manual_seed(4)), expected)
    assert module.model.process.levels == 10


@pytest.mark.parametrize(("sigma_data", "warns"), [(0.6, True), (0.9, False), (1.0, False), (1.3, True)])
def test_edm_warns_where_sigma_data_is_that_of_other_data(sigma_data, warns, capsys):
    """Rings have one of 0.98: the demo's 0.75 is that of its digits."""
    EDM(Net(), ADAM, sigma_data=sigma_data).initialise(ready(Rings(n=2000)))
    said = capsys.readouterr().err
    assert said.startswith("warning: module.sigma_data is") == warns == bool(said)
    assert not warns or re.search(r"module\.sigma_data=(0\.9[0-9]*|1)$", said.strip())


@pytest.mark.parametrize(
    ("method", "model"),
    [
        *(("exact", "score"), ("sliced", "energy"), ("denoising", "score")),
        pytest.param("exact", "energy", marks=pytest.mark.slow),
        pytest.param("sliced", "score", marks=pytest.mark.slow),
        pytest.param("denoising", "energy", marks=pytest.mark.slow),
    ],
)
def test_score_matching_trains_scores_and_energies(method, model):
    """After some steps the Fisher divergence to the score of a Gaussian has fallen to a small part."""
    torch.manual_seed(0)
    module = ScoreMatching(MLP((2,), 32, 1), ADAM, method=method, model=model, sigma=0.5)
    scale, optimizer = torch.tensor([1.0, 0.3]), torch.optim.Adam(module.parameters(), 3e-3)
    g = torch.Generator().manual_seed(1)
    test = torch.randn(500, 2, generator=g) * (scale**2 + 0.25).sqrt()

    def divergence():
        result = module.model.score(test, torch.zeros(()))
        return float((result + test / (scale**2 + 0.25)).square().sum(1).mean())

    before = divergence()
    for _ in range(300):
        optimizer.zero_grad()
        module.loss(module.model, scale * torch.randn(256, 2, generator=g), g).mean().backward()
        optimizer.step()
    assert divergence() < 0.1 * before


@pytest.mark.parametrize(
    ("ratio", "d", "known"), [((1 / 0.01) ** (1 / 9), 3072, 0.0), ((50 / 0.01) ** (1 / 231), 3072, 0.567)]
)
def test_the_overlap_is_the_papers(ratio, d, known):
    """MATHEMATICS: C = 0.0000 for v1's ten levels, 0.567 for v2's 232, in 3,072 dimensions."""
    assert overlap_of(ratio, d) == pytest.approx(known, abs=5e-4)


@pytest.mark.parametrize("d", [2, 64, 784, 3072])
@pytest.mark.parametrize("overlap", [0.3, 0.5])
def test_as_few_levels_as_overlap_enough(d, overlap):
    count = number_of_levels(0.01, 20.0, d, overlap)
    assert overlap_of((20 / 0.01) ** (1 / (count - 1)), d) >= overlap - 1e-9
    assert count == 2 or overlap_of((20 / 0.01) ** (1 / (count - 2)), d) < overlap


def test_the_largest_distance_is_that_of_all_pairs_or_of_the_distant_ones():
    x = torch.randn(700, 5, generator=torch.Generator().manual_seed(0))
    brute = max(float((a - b).norm()) for a in x for b in x[:: len(x) // 50])
    result, compared = largest_distance(x)
    assert result >= brute - 1e-5 and compared == "all 700"
    assert result == pytest.approx(float(torch.cdist(x, x).max()), rel=1e-5)
    distance, compared = largest_distance(x, 100)
    assert distance == pytest.approx(result, rel=1e-5) and compared == "the 100 farthest from the mean"


def test_levels_are_fitted_where_the_config_has_null_and_justified(capsys):
    data, config = Digits(), {"sigma_min": 0.01, "noise_levels": None, "sigma_max": None}
    fitted = NCSN.fitted(config, data)
    x = data.encode(data.split("train").take(slice(None))).flatten(1).double()
    assert fitted["sigma_max"] == pytest.approx(float(torch.cdist(x, x).max()), rel=1e-3)
    assert fitted["noise_levels"] == number_of_levels(0.01, fitted["sigma_max"], 64)
    said = capsys.readouterr().out
    assert "all 1300 " in said and "C = 0.5" in said
    assert NCSN.fitted(config | {"noise_levels": 10, "sigma_max": 1.0}, data) == {}
    assert NCSN.fitted(config | {"sigma_max": 1.0}, data)["sigma_max"] == 1.0
    assert NCSN.fitted({"noise_levels": None, "sigma_max": None}, Rings())["noise_levels"] >= 2


def conditional(**options):
    torch.manual_seed(0)
    options = {"classes": 4, "steps": 20, "sampler": DDIM(3), "shape": (2,), "ema_decay": None} | options
    net = MLP((2,), 16, 1, classes=options["classes"] + 1)
    for parameter in net.parameters():  # its last layer starts at zero, and labels would change nothing
        torch.nn.init.normal_(parameter, std=0.3)
    return DDPM(net, ADAM, **options)


def test_training_sees_the_labels_but_for_a_share_that_stands_for_none():
    module, n = conditional(label_dropout=0.2), 20_000
    batch = {"x": torch.zeros(n, 2), "label": torch.arange(n) % 4}
    label = module.labelled(module.model, batch, (0, 0, 0)).label
    dropped = label == 4
    assert abs(float(dropped.float().mean()) - 0.2) < 4 * math.sqrt(0.2 * 0.8 / n)
    assert torch.equal(label[~dropped], batch["label"][~dropped])
    assert torch.equal(module.labelled(module.model, batch, (0, 0, 0)).label, label)
    for position in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not torch.equal(module.labelled(module.model, batch, position).label, label)
    assert torch.equal(module.labelled(module.model, batch).label, batch["label"]), "validation drops no label"


def test_a_conditional_model_draws_all_classes_in_turn_or_the_one_asked_for():
    module = conditional()
    sampler, whole = module.sampler, module.sample(12, seed=3, size=4)
    noise = Numbered(3, "sample", 0, 12).draw(lambda each: module.model.prior((UNIT, 2), each))
    for label in (None, 2):
        labels = torch.arange(12) % 4 if label is None else torch.full((12,), 2)
        with torch.no_grad():
            expected = sampler(module.model.with_label(labels), noise)
        result = whole if label is None else module.sample(12, seed=3, size=4, label=2)
        torch.testing.assert_close(result, expected)
    assert not torch.equal(module.sample(12, seed=3, size=4, label=2), whole)


def test_guidance_one_is_the_conditional_model_and_more_is_another():
    whole, counts = conditional().sample(8, size=8), []
    assert torch.equal(conditional(guidance=1.0).sample(8, size=8), whole)
    guided = conditional(guidance=3.0)
    assert not torch.allclose(guided.sample(8, size=8), whole)
    list(guided.blocks(8, size=8, counts=counts))
    list(conditional().blocks(8, size=8, counts=counts))
    assert counts == [6, 3]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: DDPM(MLP((2,), 16, 1), ADAM, classes=4), "module.classes.*4.*net.classes.*None"),
        (lambda: DDPM(MLP((2,), 16, 1, classes=4), ADAM), "module.classes.*None.*net.classes.*4"),
        (lambda: DDPM(MLP((2,), 16, 1), ADAM, guidance=2.0), "guidance.*2.0.*classes"),
        (lambda: conditional(label_dropout=1.0), "label_dropout.*1.0"),
        (lambda: conditional().sample(2, label=4), "label.*4.*0 to 3"),
        (lambda: DDPM(MLP((2,), 16, 1), ADAM, shape=(2,), sampler=DDIM(2)).sample(2, label=0), "conditional"),
        (lambda: conditional().labelled(None, {"x": torch.zeros(2, 2)}), "labels"),
        (lambda: NCSN(Net(), ADAM), "noise_levels is None.*numbers"),
        (lambda: NCSN(Net(), ADAM, noise_levels=1, sigma_max=1.0), "noise_levels.*1"),
        (lambda: ScoreMatching(Net(), ADAM), "denoising.*sigma"),
        (lambda: ScoreMatching(Net(), ADAM, method="exacto", sigma=1.0), "exacto.*exact, sliced, denoising"),
        (lambda: ScoreSDE(Net(), ADAM, sde="v"), "sde.*v.*vp, subvp, ve"),
        (lambda: EDM(Net(), ADAM, sigma_data=0.0), "sigma_data.*0.0"),
        (lambda: number_of_levels(1.0, 0.5, 3), "sigma_min.*sigma_max"),
    ],
)
def test_what_cannot_be_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
