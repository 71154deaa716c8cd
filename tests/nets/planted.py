"""Planted errors of invertible networks: each makes its test fail (tests/planted.py)."""

from tests.planted import Plant

LAYERS = "lightning_gen/nets/flows/layers.py"
BIJECTION = "tests/nets/test_flows.py::test_a_layer_is_a_bijection_with_its_log_determinant"

PLANTS = [
    Plant(
        "a coupling's log determinant with the wrong sign",
        LAYERS,
        "return x * s.exp() + t, s.flatten(1).sum(1)",
        "return x * s.exp() + t, -s.flatten(1).sum(1)",
        BIJECTION,
    ),
    Plant(
        "ActNorm's log determinant without the number of positions",
        LAYERS,
        "return (x + bias) * log_scale.exp(), (positions * ",
        "return (x + bias) * log_scale.exp(), (1 * ",
        BIJECTION,
    ),
    Plant(
        "a 1x1 convolution's log determinant of one position",
        LAYERS,
        "weight[:, :, None, None]), (positions * ",
        "weight[:, :, None, None]), (1 * ",
        BIJECTION,
    ),
    Plant(
        "a logit's Jacobian without 1 - p",
        LAYERS,
        "- p.log() - torch.log1p(-p)",
        "- p.log()",
        BIJECTION,
    ),
    Plant(
        "all couplings with one parity",
        "lightning_gen/nets/flows/coupled.py",
        "Coupling(net, alternating(size, k % 2), additive)",
        "Coupling(net, alternating(size, 0), additive)",
        "tests/nets/test_flows.py::test_couplings_alternate_their_halves",
    ),
    Plant(
        "a checkerboard of rows",
        LAYERS,
        "(rows + columns + parity)",
        "(rows + 0 * columns + parity)",
        "tests/nets/test_flows.py::test_masks_are_the_papers",
    ),
    Plant(
        "variational noise without the sigmoid's Jacobian",
        "lightning_gen/nets/flows/dequantiser.py",
        "log_q - (F.logsigmoid(e) + F.logsigmoid(-e))",
        "log_q - F.logsigmoid(e)",
        "tests/nets/test_flows.py::test_the_law_of_variational_noise_is_normalised",
    ),
    Plant(
        "ActNorm fitted to the standard deviation itself",
        LAYERS,
        "self.log_scale.copy_(-std.log())",
        "self.log_scale.copy_(std.log())",
        "tests/nets/test_flows.py::test_actnorm_standardises_the_batch_that_initialises_it",
    ),
]
