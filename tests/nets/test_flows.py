"""Invertible networks: round trips, log determinants against autograd's Jacobian, masks, initialisation by a batch."""

import math

import pytest
import torch

from lightning_gen.nets import MAF, NICE, NSF, Glow, MixtureFlow, RealNVP
from lightning_gen.nets.flows import (
    ActNorm,
    Coupling,
    InvertibleConv,
    Logit,
    Squeeze,
    UniformDequantiser,
    VariationalDequantiser,
)
from lightning_gen.nets.flows.layers import alternating, checkerboard, halves
from lightning_gen.nets.flows.mixture import MixtureCoupling

F64 = {"dtype": torch.float64}
VECTORS = {
    "RealNVP": lambda: RealNVP((2,), 16, couplings=4),
    "RealNVP in 3": lambda: RealNVP((3,), 16, couplings=3, scale=3.0),
    "NICE": lambda: NICE((2,), 16),
    "MAF": lambda: MAF((2,), 16, transforms=3),
    "MAF in 3": lambda: MAF((3,), 16, transforms=2),
    "NSF": lambda: NSF((2,), 16, transforms=3),
    "MixtureFlow": lambda: MixtureFlow((2,), 16, components=4),
    "MixtureFlow in 3": lambda: MixtureFlow((3,), 16, 1, 3, 3, "tanh", 3.0),
}
IMAGES = {
    "RealNVP of images": lambda: RealNVP((1, 8, 8), 8, couplings=2, scales=3),
    "RealNVP of odd channels": lambda: RealNVP((3, 4, 4), 8, couplings=3, scales=2),
    "NICE of images": lambda: NICE((1, 8, 8), 8, couplings=2),
    "Glow": lambda: Glow((1, 8, 8), 8, steps=2, scales=2),
    "Glow of colours": lambda: Glow((3, 4, 4), 8, steps=2, scales=2),
    "additive Glow": lambda: Glow((1, 4, 4), 8, steps=2, scales=2, activation="silu", additive=True),
}
LAYERS = {
    "ActNorm": lambda: ActNorm(4),
    "InvertibleConv": lambda: InvertibleConv(4),
    "Squeeze": Squeeze,
    "Logit": lambda: Logit((-1.0, 1.0), 0.05),
    "Coupling": lambda: Coupling(torch.nn.Conv2d(4, 8, 3, padding=1), halves(4, 1)),
}


def perturbed(make, dtype=torch.float64):
    """A network whose last layers, zero at the start, are not."""
    torch.manual_seed(0)
    net = make().to(dtype)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def points(shape, n=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return 1.8 * torch.rand(n, *shape, generator=generator, **F64).to(dtype) - 0.9


def log_dets(f, x):
    """log |det| of autograd's Jacobian at each x, (B,)."""

    def one(v):
        jacobian = torch.autograd.functional.jacobian(lambda u: f(u.unsqueeze(0))[0].flatten(), v)
        return torch.linalg.slogdet(jacobian.reshape(-1, v.numel())).logabsdet

    return torch.stack([one(v) for v in x])


@pytest.mark.parametrize("name", VECTORS)
def test_a_vectors_round_trip_and_log_determinant_are_exact(name):
    net = perturbed(VECTORS[name])
    x = 3 * points(net.shape)
    z, log_det = net(x)
    assert (net.inverse(z) - x).abs().max() <= 1e-10
    assert (net(net.inverse(x))[0] - x).abs().max() <= 1e-10  # f(f^-1(z)) = z
    assert (log_det - log_dets(net, x)).abs().max() <= 1e-10
    assert log_det.std() > 1e-3 or name == "NICE"


@pytest.mark.parametrize("name", IMAGES)
def test_an_images_round_trip_and_log_determinant_are_exact(name):
    net = perturbed(IMAGES[name])
    x = points(net.shape, 2)
    z, log_det = net(x)
    assert z.shape == (2, math.prod(net.shape))
    assert (net.inverse(z) - x).abs().max() <= 1e-8
    assert (log_det - log_dets(net, x)).abs().max() <= 1e-8


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_a_bijection_with_its_log_determinant(name):
    layer, x = perturbed(LAYERS[name]), points((4, 2, 4), 3)
    z, log_det = layer(x)
    assert (layer.inverse(z) - x).abs().max() <= 1e-12
    assert (log_det - log_dets(layer, x)).abs().max() <= 1e-10


@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
def test_in_float32_the_error_is_that_of_rounding(name):
    """Largest measured here: 5e-6 in x and 3e-6 in the log determinant."""
    net = perturbed((VECTORS | IMAGES)[name], torch.float32)
    x = points(net.shape, dtype=torch.float32)
    z, log_det = net(x)
    assert (net.inverse(z) - x).abs().max() <= 1e-4
    assert (log_det.double() - net.double()(x.double())[1]).abs().max() <= 1e-4


def test_masks_are_the_papers():
    """Even and odd positions in turn: together two neighbouring masks cover each value once."""
    assert checkerboard(2, 3, 0).tolist() == [[[1, 0, 1], [0, 1, 0]]]
    assert halves(3, 0).flatten().tolist() == [1, 0, 0] and halves(3, 1).flatten().tolist() == [0, 1, 1]
    assert alternating(3, 0).tolist() == [1, 0, 1]
    for mask in (lambda k: checkerboard(4, 4, k), lambda k: halves(5, k), lambda k: alternating(5, k)):
        assert torch.equal(mask(0) + mask(1), torch.ones_like(mask(0)))


@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
def test_every_value_is_transformed_and_every_value_matters(name):
    """The Jacobian of two neighbouring couplings has no row of a unit vector, as one of equal parities would."""
    net = perturbed((VECTORS | IMAGES)[name])
    x = points(net.shape, 1)
    flat = torch.autograd.functional.jacobian(lambda v: net(v)[0][0], x).flatten(1)
    mixed = (flat.abs() > 1e-9).sum(1)
    assert (mixed > 1).all() or name.startswith(("MAF", "NSF"))
    assert (flat.abs() > 1e-9).any(0).all()


@pytest.mark.parametrize("name", ["RealNVP", "NICE"])
def test_couplings_alternate_their_halves(name):
    couplings = [layer for layer in VECTORS[name]().modules() if isinstance(layer, Coupling)]
    for one, other in zip(couplings, couplings[1:], strict=False):
        assert torch.equal(one.mask + other.mask, torch.ones(2))


def test_nice_keeps_volume_up_to_its_scales():
    net = perturbed(VECTORS["NICE"])
    log_det = net(points((2,), 50))[1]
    assert log_det.std() <= 1e-12


def test_a_masked_autoregressive_flow_sees_earlier_values_alone():
    net = perturbed(lambda: MAF((3,), 16, transforms=1))
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0][0], points((3,), 1)).squeeze(1)
    assert torch.equal(jacobian.triu(1), torch.zeros_like(jacobian)) and (jacobian.tril() != 0).sum() == 6


def test_actnorm_standardises_the_batch_that_initialises_it():
    layer, x = ActNorm(3).double(), 5 + 2 * points((3, 4, 4), 20)
    layer.fit(x)
    rows = layer(x)[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(3, **F64), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.var(1, correction=0), torch.ones(3, **F64))
    with pytest.raises(ValueError, match="channel 1.*constant"):
        layer.fit(x * torch.tensor([1.0, 0.0, 1.0]).view(-1, 1, 1))


def test_the_1x1_convolution_starts_as_a_rotation():
    layer = InvertibleConv(6).double()
    lower, upper = layer.factors()
    weight = (layer.permutation @ lower @ upper).detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(6, **F64), rtol=0, atol=1e-5)
    torch.testing.assert_close(layer.log_scale.sum(), torch.zeros((), **F64), rtol=0, atol=1e-5)


@pytest.mark.parametrize("levels", [17, 256])
def test_a_logit_spans_the_outer_edges_of_the_levels(levels):
    layer = Logit((0.0, 1.0), 0.1, levels).double()
    edges = torch.tensor([[-0.5 / (levels - 1)], [1 + 0.5 / (levels - 1)]], **F64)
    torch.testing.assert_close(layer(edges)[0].sigmoid().flatten(), torch.tensor([0.1, 0.9], **F64))
    outside = layer(torch.tensor([[-0.2], [1.2], [0.5]], **F64))
    assert outside[1].isinf().tolist() == [True, True, False] and outside[0].isfinite().all()


DEQUANTISERS = {
    "uniform": UniformDequantiser,
    "variational": lambda r, levels: VariationalDequantiser(r, (1, 4, 4), 8, levels),
}


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("name", DEQUANTISERS)
def test_a_dequantisers_noise_stays_in_its_bin(name, levels):
    """So that y is rounded back to its level, also where x is a level as 8 bits store it."""
    dequantiser, half = perturbed(lambda: DEQUANTISERS[name]((-1.0, 1.0), levels)), 1 / (levels - 1)
    k = torch.randint(levels, (300, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    x = -1 + 2 * half * k.double()
    stored = -1 + 2 * (255 * k / (levels - 1)).round().double() / 255
    y, log_q = dequantiser(stored, torch.Generator().manual_seed(0))
    assert (y - x).abs().max() <= half and (y - x).abs().max() > 0.9 * half and log_q.shape == (300,)
    torch.testing.assert_close(dequantiser.nearest(y), x, rtol=0, atol=1e-12)
    assert torch.equal((255 * (dequantiser.nearest(y) + 1) / 2).round(), (255 * (stored + 1) / 2).round())


def test_the_law_of_variational_noise_is_normalised():
    """E_q[1 / q] over the unit square is its area, 1: log q is that of the u that was drawn."""
    dequantiser = perturbed(lambda: VariationalDequantiser((0.0, 1.0), (1, 1, 2), 8))
    x = torch.tensor([0.2, 0.6], **F64).view(1, 1, 1, 2).expand(40_000, -1, -1, -1)
    with torch.no_grad():
        u, log_q = dequantiser.noise(x, torch.Generator().manual_seed(0))
    # 1/q has no variance under q where q vanishes at the edges: the inner square alone.
    inside = ((u > 0.1) & (u < 0.9)).flatten(1).all(1)
    area = (-log_q).exp() * inside
    assert float(area.mean()) == pytest.approx(0.64, abs=4 * float(area.std()) / 40_000**0.5)
    assert float(area.std()) / 40_000**0.5 < 0.01


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Glow((1, 6, 6), 4, 1, 2), "Glow.scales.*6, 6.*4"),
        (lambda: RealNVP((1, 7, 7), 4, scales=2), "RealNVP.scales.*7, 7.*2"),
        (lambda: RealNVP((1,), 4), r"RealNVP.shape.*\(1,\)"),
        (lambda: Glow((2,), 4), r"Glow.shape.*\(2,\)"),
        (lambda: MAF((1, 8, 8)), r"MAF.shape.*\(1, 8, 8\)"),
        (lambda: NSF((1, 8, 8)), r"NSF.shape.*\(1, 8, 8\)"),
        (lambda: MixtureFlow((1, 8, 8)), r"MixtureFlow.shape.*\(1, 8, 8\)"),
        (lambda: MixtureFlow((1,)), r"MixtureFlow.shape.*\(1,\)"),
        (lambda: Logit((0.0, 1.0), 0.5), "logit.*0.5"),
        (lambda: RealNVP((2,), activation="gelu"), "activation.*gelu"),
    ],
)
def test_what_cannot_be_built_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_without_zuko_its_nets_name_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zuko", None)
    with pytest.raises(ValueError, match=r"zuko.*lightning-gen\[flows\]"):
        NSF((2,), 4)


def test_the_inverse_of_mixtures_has_its_own_gradient():
    torch.manual_seed(0)
    coupling = MixtureCoupling(2, 0, 3, 8, 1, "tanh", 1.0).double()
    z = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(coupling.inverse, (z,), atol=1e-6)
