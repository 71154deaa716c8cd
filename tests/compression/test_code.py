"""The range coder: counts that a coder can take, images back to the bit, and -log2 p bits."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from lightning_gen.compression import DequantisedBound, RangeCoder, integer_counts
from lightning_gen.compression.code import PRECISION, best_orderings
from lightning_gen.errors import NonFinite
from lightning_gen.models import RBM, Autoregressive, Flow
from lightning_gen.nets import MADE, CausalTransformer, PixelCNN
from lightning_gen.nets.flows import RealNVP, UniformDequantiser

NETS = {
    "made": lambda: MADE((1, 3, 4), 5, width=20),
    "made of orderings": lambda: MADE((1, 3, 4), 5, width=20, orderings=3),
    "made of zeros and ones": lambda: MADE((12,), 2, width=20),
    "pixelcnn": lambda: PixelCNN((1, 3, 4), 5, None, 4, 2, 3, 3, 6),
    "pixelcnn of a colour": lambda: PixelCNN((3, 2, 2), 256, 2, 4, 2, 3, 3, 6),
    "transformer": lambda: CausalTransformer((1, 3, 4), 5, None, 8, 2, 2, 2),
}


def seeded(name, dtype=torch.float64):
    """The model with weights that are not those of its start."""
    torch.manual_seed(3)
    net = NETS[name]().to(dtype).eval()
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.4)
    return Autoregressive(net)


@pytest.fixture(scope="module")
def images():
    """Samples of each model, for which its code is short."""
    return {name: seeded(name).draw((150, *NETS[name]().shape), torch.Generator().manual_seed(0)) for name in NETS}


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_counts_sum_to_the_whole_and_none_is_0(levels):
    """Also of p = 0 and 1, and of p that single precision makes larger or smaller than 1 in all; near p 2^20."""
    g = torch.Generator().manual_seed(0)
    a = torch.cat([torch.randn(200, levels, generator=g) * s for s in (0.01, 1.0, 10.0, 1000.0)])
    for log_p in (a.log_softmax(1), a.double().log_softmax(1), a.log_softmax(1) + 1e-6, a.log_softmax(1) - 1e-6):
        counts = integer_counts(log_p)
        assert counts.dtype == np.int64 and counts.min() >= 1 and (counts.sum(1) == 2**PRECISION).all()
        p = log_p.double().exp().numpy()
        assert np.abs(counts - 2**PRECISION * p).max() <= 2 * levels + 2


def test_a_probability_that_is_not_a_number_is_not_coded():
    with pytest.raises(NonFinite):
        integer_counts(torch.tensor([[0.0, math.nan]]))


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
def test_images_come_back_to_the_bit_and_cost_their_probability(name, dtype, images):
    """150 images in batches of 64 and a smaller one; bits within 1 % of -log2 p of what is coded, and 64 of the end."""
    model, x, coder = seeded(name, dtype), images[name].to(dtype), RangeCoder()
    code = coder.encode(model, x)
    assert torch.equal(coder.decode(model, code, len(x)), x)
    orderings = model.net.orderings
    with torch.no_grad():
        each = torch.stack([model.log_conditionals(x, k).sum(1) for k in range(orderings)])
    coded = float((math.log(orderings) - each.amax(0)).sum()) / math.log(2)
    assert coded - 1 <= 8 * len(code) <= 1.01 * coded + 64
    exact = coder.length(model, x)
    assert exact - 1e-2 <= coded <= exact + len(x) * math.log2(orderings) + 1e-2


def test_images_that_the_model_does_not_expect_come_back_too():
    """All 2^12 states, whatever their probability."""
    model = seeded("made of zeros and ones")
    for parameter in model.parameters():
        parameter.data *= 20
    x = torch.tensor(list(product(range(2), repeat=12)), dtype=torch.float64)
    coder = RangeCoder(batch=500)
    code = coder.encode(model, x)
    assert torch.equal(coder.decode(model, code, len(x)), x)
    assert 8 * len(code) > 2**12 * 12


def test_the_length_is_minus_log2_p():
    """Over all states the mean of 2^-bits, and its sum, are those of p."""
    model = seeded("made of zeros and ones")
    x = torch.tensor(list(product(range(2), repeat=12)), dtype=torch.float64)
    with torch.no_grad():
        assert abs(float(torch.exp2(-RangeCoder().bits(model, x, torch.Generator())).sum()) - 1) < 1e-10


def test_an_image_is_coded_in_its_best_ordering():
    model = seeded("made of orderings")
    x = model.draw((40, 1, 3, 4), torch.Generator().manual_seed(1))
    with torch.no_grad():
        chosen = best_orderings(model, x)
        each = torch.stack([model.log_conditionals(x, k).sum(1) for k in range(3)])
    assert len(chosen.unique()) == 3 and torch.equal(each[chosen, torch.arange(40)], each.amax(0))


def test_other_bits_are_other_images_or_none():
    """Of a coder nothing follows from bits that it did not write: the digest of the images tells."""
    model, coder = seeded("made"), RangeCoder()
    x = model.draw((20, 1, 3, 4), torch.Generator().manual_seed(2))
    code = bytearray(coder.encode(model, x))
    code[1] ^= 255
    assert not torch.equal(coder.decode(model, bytes(code), 20), x)


def test_one_progress_a_value_of_a_batch():
    model, coder, calls = seeded("made"), RangeCoder(batch=8), []
    x = torch.zeros(20, 1, 3, 4, dtype=torch.float64)
    code = coder.encode(model, x, lambda: calls.append("in"))
    coder.decode(model, code, 20, lambda: calls.append("out"))
    assert calls == ["in"] * 36 + ["out"] * 36


def test_models_without_a_probability_are_refused():
    flow = Flow(RealNVP((2,), width=4, depth=1))
    for code, model, words in (
        (RangeCoder(), RBM(2, 3), ["RangeCoder", "RBM"]),
        (RangeCoder(), flow, ["RangeCoder", "Flow", "binary"]),
        (DequantisedBound(), seeded("made"), ["DequantisedBound", "Autoregressive", "RangeCoder"]),
        (DequantisedBound(), flow, ["Flow", "dequantiser"]),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            code.check(model)
        assert all(word in str(error.value) for word in words), error.value


def test_the_bound_of_a_uniform_density_is_log2_of_the_levels():
    """A flow that is uniform over all bins: p(y) = 1 / (K w), q(y|x) = 1 / w."""

    class Uniform(Flow):
        def log_prob(self, x):
            return x.new_full((len(x),), -4 * math.log(2 * 256 / 255))

    flow = Uniform(RealNVP((1, 2, 2), width=4, depth=1), dequantiser=UniformDequantiser((-1.0, 1.0)))
    x = 2 * torch.randint(256, (10, 1, 2, 2), generator=torch.Generator().manual_seed(0)) / 255 - 1
    assert abs(DequantisedBound().length(flow, x) - 10 * 4 * 8) < 1e-3


@pytest.mark.slow
def test_a_thousand_digits(digits):
    """Lossless, and within 0.2 % of -log2 p, by each network in one ordering, trained for a few steps."""
    x = (digits.split("train").images(slice(0, 1000)).float() * 16 / 255).round()
    for net in (
        MADE((1, 8, 8), 17, width=100),
        PixelCNN((1, 8, 8), 17, 3, 16, 4, 3, 5, 32),
        CausalTransformer((1, 8, 8), 17, None, 32, 2, 4),
    ):
        torch.manual_seed(0)
        model, coder = Autoregressive(net), RangeCoder()
        optimizer = torch.optim.Adam(model.parameters(), 2e-3)
        for step in range(200):
            optimizer.zero_grad()
            (-model.log_prob(x[step * 64 % 936 :][:64]).mean()).backward()
            optimizer.step()
        model.eval()
        code, bits = coder.encode(model, x), coder.length(model, x)
        assert torch.equal(coder.decode(model, code, 1000), x)
        assert 0.9999 * bits <= 8 * len(code) <= 1.002 * bits, (8 * len(code), bits)
