"""Laws of the multilayer perceptron."""

import pytest
import torch

from lightning_gen.nets import MLP


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4), (3,)])
def test_rows_are_independent_and_keep_their_shape(shape):
    torch.manual_seed(0)
    net = MLP(shape, width=32, depth=2)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, t = torch.randn(5, *shape), torch.rand(5) * 999
    with torch.no_grad():
        y = net(x, t)
        assert y.shape == x.shape
        torch.testing.assert_close(net(x[2:3], t[2:3]), y[2:3])
        assert (net(x, t + 100) - y).abs().max() > 1e-3


def test_a_fresh_network_answers_next_to_zero():
    assert MLP((2,))(torch.randn(8, 2), torch.rand(8) * 999).abs().max() < 1e-3


def test_it_learns_a_function_of_point_and_time():
    torch.manual_seed(0)
    net = MLP((2,), width=64, depth=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

    def loss() -> torch.Tensor:
        x, t = torch.randn(256, 2), torch.randint(0, 1000, (256,)).float()
        return (net(x, t) - x.flip(1) * (1 - t[:, None] / 500)).square().mean()

    with torch.no_grad():
        before = float(loss())
    for _ in range(300):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
    assert value.item() < 0.1 * before


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shape": ()}, r"shape.*\(\)"),
        ({"shape": (2,), "depth": 0}, "depth.*0"),
        ({"shape": (2,), "width": 7}, "width.*7"),
    ],
)
def test_a_setting_that_builds_no_network_is_refused_in_one_sentence(settings, says):
    with pytest.raises(ValueError, match=says):
        MLP(**settings)
