"""Autoregressive models over few states: p sums to 1, no value sees later ones, caches give what a full pass gives."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from lightning_gen.models import Autoregressive
from lightning_gen.nets import MADE, CausalTransformer, PixelCNN
from lightning_gen.samplers import Sequential

F64 = {"dtype": torch.float64}
NETS = {  # with at most 2^10 states
    "made": lambda: MADE((1, 2, 5), 2, width=20, depth=2),
    "made of orderings": lambda: MADE((1, 2, 5), 2, width=20, orderings=3),
    "made without direct links": lambda: MADE((10,), 2, width=20, direct=False),
    "made of a colour": lambda: MADE((3, 1, 2), 3, width=20),
    "made of levels": lambda: MADE((1, 2, 2), 5, width=20, orderings=2),
    "made of logistics": lambda: MADE((1, 1, 2), 32, 3, width=20),
    "pixelcnn": lambda: PixelCNN((1, 3, 3), 2, None, 4, 3, 3, 5, 6),
    "pixelcnn of wide images": lambda: PixelCNN((1, 2, 5), 2, None, 8, 2, 5, 3, 12),
    "pixelcnn of levels": lambda: PixelCNN((1, 2, 2), 5, None, 4, 2, 3, 3, 6),
    "pixelcnn of a colour": lambda: PixelCNN((3, 1, 2), 3, 2, 4, 2, 3, 3, 6),
    "transformer": lambda: CausalTransformer((1, 2, 5), 2, None, 8, 2, 2, 2),
    "transformer of a colour": lambda: CausalTransformer((3, 1, 2), 3, None, 8, 2, 2, 2),
    "transformer of logistics": lambda: CausalTransformer((1, 1, 2), 32, 3, 8, 2, 2, 2),
}


def seeded(name):
    """The model with weights that are not those of its start."""
    torch.manual_seed(2)
    net = NETS[name]().double().eval()
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.4)
    return Autoregressive(net)


def states(net):
    """All x, (K^D, *shape)."""
    every = torch.tensor(list(product(range(net.levels), repeat=math.prod(net.shape))), **F64)
    return every.view(-1, *net.shape)


@pytest.mark.parametrize("net", [MADE, PixelCNN])
def test_levels_stay_apart_under_autocast(net):
    torch.manual_seed(0)
    model, x = Autoregressive(net((1, 2, 2), 256, 3).eval()), torch.zeros(2, 1, 2, 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        below = model.by_law(model.net.law.cumulative, model.begin(x), x, 0)
    assert below.shape == (2, 255) and (below.diff() > 0).all()


@pytest.mark.parametrize("name", NETS)
def test_p_sums_to_one_over_all_states(name):
    model = seeded(name)
    with torch.no_grad():
        assert abs(float(model.log_prob(states(model.net)).exp().sum()) - 1) <= 1e-10


def outputs_and_input(net, x, ordering):
    """The outputs, and what they are differentiated by, (B, D, ...): x, or the embeddings of its values."""
    if not hasattr(net, "value"):
        x = x.clone().requires_grad_()
        return net(x, ordering), lambda out: torch.autograd.grad(out, x, retain_graph=True)[0].unsqueeze(2)
    kept = []
    hook = net.value.register_forward_hook(lambda module, inputs, output: kept.append(output))
    out = net(x, ordering)
    hook.remove()
    # The first embedding is that of no value, and the last value is nobody's input.
    return out, lambda out: F.pad(torch.autograd.grad(out, kept[0], retain_graph=True)[0][:, 1:], (0, 0, 0, 1))


@pytest.mark.parametrize("name", NETS)
def test_no_law_depends_on_its_own_value_or_a_later_one(name):
    """By the gradient, and by a change of that value; each law depends on some value before it."""
    model = seeded(name)
    net, g = model.net, torch.Generator().manual_seed(0)
    x = torch.randint(net.levels, (4, math.prod(net.shape)), generator=g).double()
    for k in range(net.orderings):
        order, (out, gradient_of), seen = net.order(k), outputs_and_input(net, x, k), 0
        for j, site in enumerate(order):
            gradient = gradient_of(out[:, site].sum()).view(4, net.sites, -1)
            assert (gradient[:, order[j:]] == 0).all()
            seen += int((gradient[:, order[:j]] != 0).any())
            changed = x.clone().view(4, net.sites, net.joint)
            changed[:, order[j:]] = (changed[:, order[j:]] + 1) % net.levels
            torch.testing.assert_close(net(changed.flatten(1), k)[:, site], out[:, site], rtol=0, atol=1e-14)
        assert seen >= len(order) - 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_masks_tell_all_degrees_apart_in_every_dtype(dtype):
    """bfloat16 has no whole number between 256 and 258."""
    net = MADE((600,), 2, width=700, orderings=2).to(dtype)
    (first, last), direct = net.masked(1)
    position, degree = net.positions[1], net.degrees[1, 0]
    assert torch.equal(first, net.layers[0].weight * (degree[:, None] >= position))
    assert torch.equal(last[:, 0], net.last.weight * (position[:, None] > degree))
    assert torch.equal(direct[:, 0], net.direct.weight * (position[:, None] > position))
    assert first.dtype == last.dtype == direct.dtype == dtype


def test_a_hidden_unit_sees_inputs_of_its_own_degree():
    """Without direct links, the output after the first value depends on it: m_out >= m_in (Germain et al., eq. 8)."""
    torch.manual_seed(0)
    net = MADE((4,), 2, width=64, depth=2, direct=False).double()
    x = torch.rand(3, 4, **F64).requires_grad_()
    out = net(x)
    for site in range(4):
        (gradient,) = torch.autograd.grad(out[:, site].sum(), x, retain_graph=True)
        assert (gradient != 0).any(0).tolist() == [before < site for before in range(4)]


def test_pixelcnn_has_no_blind_spot():
    """Every pixel depends on each one before it: five layers reach over 5x5 pixels, to the upper right too."""
    torch.manual_seed(0)
    net = PixelCNN((1, 5, 5), 2, None, 16, 5, 3, 3, 32).double()
    x = torch.rand(8, 25, **F64).requires_grad_()
    out = net(x)
    for site in range(25):
        (gradient,) = torch.autograd.grad(out[:, site].sum(), x, retain_graph=True)
        assert (gradient[:, :site] != 0).any(0).all()


@pytest.mark.parametrize("name", NETS)
def test_site_by_site_gives_what_a_full_pass_gives(name):
    """To rounding; each step is told of the sites before alone."""
    model = seeded(name)
    net, g = model.net, torch.Generator().manual_seed(1)
    x = torch.randint(net.levels, (5, math.prod(net.shape)), generator=g).double()
    with torch.no_grad():
        for k in range(net.orderings):
            full, filled = net(x, k), torch.zeros_like(x)
            cache = net.begin(filled, k)
            for j, site in enumerate(net.order(k)):
                torch.testing.assert_close(net.step(cache, filled, j), full[:, site], rtol=0, atol=1e-12)
                values = slice(site * net.joint, (site + 1) * net.joint)
                filled[:, values] = x[:, values]


@pytest.mark.parametrize(
    "make",
    [
        lambda: MADE((1, 8, 8), 17, width=100),
        lambda: PixelCNN((1, 8, 8), 17, None, 16, 4, 3, 5, 32),
        lambda: CausalTransformer((1, 8, 8), 17, None, 32, 2, 4),
    ],
    ids=["made", "pixelcnn", "transformer"],
)
def test_site_by_site_in_single_precision_is_a_full_pass_to_1e_6(make):
    """Of the probabilities of all levels, on all 64 pixels of digits."""
    torch.manual_seed(0)
    net = make().eval()
    x = torch.randint(17, (4, 64), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        full, cache = net.law.table(net(x)).exp(), net.begin(x)
        for j in range(64):
            p = net.law.table(net.step(cache, x, j)).exp()
            torch.testing.assert_close(p, full[:, j], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_samples_have_the_models_law(name):
    """Chi square of 20,000 samples over all states, those of few expected ones together."""
    model, n = seeded(name), 20_000
    every = states(model.net)
    with torch.no_grad():
        p = model.log_prob(every).exp()
        x = Sequential()(model, torch.zeros(n, *model.net.shape, **F64), torch.Generator().manual_seed(3))
        drawn = model.draw((n, *model.net.shape), torch.Generator().manual_seed(3))
    assert torch.equal(drawn, x)
    weights = model.net.levels ** torch.arange(math.prod(model.net.shape) - 1, -1, -1)
    counts = torch.bincount((x.flatten(1).long() * weights).sum(1), minlength=len(every)).double()
    rare = n * p < 5
    counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
    expected = torch.cat([n * p[~rare], n * p[rare].sum()[None]]).clamp(min=1e-300)
    square = float(((counts - expected).square() / expected)[expected > 1].sum())
    freedom = int((expected > 1).sum()) - 1
    assert (square - freedom) / math.sqrt(2 * freedom) <= 4.5


@pytest.mark.parametrize("levels", [2, 17])
@pytest.mark.parametrize("joint", [1, 3])
def test_a_table_of_levels_is_the_law_of_single_values(levels, joint):
    net = MADE((joint,), levels, 4)
    law = type(net.law)(levels, 4, joint)
    g = torch.Generator().manual_seed(0)
    a = 2 * torch.randn(6, law.size, generator=g, **F64)
    x = torch.randint(levels, (6, joint), generator=g).double()
    for c in range(joint):
        table = law.table(a, x[:, :c])
        torch.testing.assert_close(table.exp().sum(-1), torch.ones(6, **F64))
        torch.testing.assert_close(law.cumulative(a, x[:, :c]), table.exp().cumsum(-1)[:, :-1], rtol=0, atol=1e-12)
        torch.testing.assert_close(table.gather(1, x[:, c : c + 1].long())[:, 0], law.log_prob(a, x)[:, c])


def test_logistics_are_the_papers_differences_of_sigmoids_with_both_tails():
    """PixelCNN++ (Salimans et al., 2017), equation 2, with levels 0..255 and one component."""
    net = MADE((1,), 256, 1)
    mu, s = 100.3, 20.0
    a = torch.tensor([[0.0, 2 * mu / 255 - 1, math.log(2 * s / 255)]], **F64)
    k = torch.arange(256, **F64)
    upper, lower = torch.sigmoid((k + 0.5 - mu) / s), torch.sigmoid((k - 0.5 - mu) / s)
    upper[-1], lower[0] = 1.0, 0.0
    torch.testing.assert_close(net.law.table(a, a[:, :0])[0].exp(), upper - lower)


def test_greens_mean_is_linear_in_red_and_blues_in_both():
    """Salimans et al. (2017), section 2.2: mu_b + b1 r + b2 g, in units where the levels lie in [-1, 1]."""
    law = type(MADE((3,), 256, 1).law)(256, 1, 3)
    means, scales, coefficients = [0.1, -0.2, 0.3], [-1.0, -1.2, -1.4], [0.5, -0.4, 0.3]
    a = torch.tensor([[0.0, *means, *scales, *torch.tensor(coefficients).atanh()]], **F64)
    x = torch.tensor([[200.0, 60.0, 130.0]], **F64)
    r, g, b = (2 * x[0] / 255 - 1).tolist()
    shifted = [0.1, -0.2 + 0.5 * r, 0.3 - 0.4 * r + 0.3 * g]
    for c, (u, mean) in enumerate(zip((r, g, b), shifted, strict=True)):
        s = math.exp(scales[c])
        upper, lower = (torch.sigmoid(torch.tensor((u + sign / 255 - mean) / s, **F64)) for sign in (1, -1))
        assert float(law.log_prob(a, x)[0, c]) == pytest.approx(float((upper - lower).log()), abs=1e-6)


def test_orderings_are_averaged_as_probabilities():
    model = seeded("made of orderings")
    x = states(model.net)[::37]
    with torch.no_grad():
        each = torch.stack([model.log_conditionals(x, k).sum(1).exp() for k in range(3)])
        torch.testing.assert_close(model.log_prob(x).exp(), each.mean(0))
        assert float((each[0] - each[1]).abs().max()) > 1e-6
