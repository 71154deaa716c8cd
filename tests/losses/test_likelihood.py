"""Maximum likelihood: the mean over data is cross-entropy, least at the data's own law."""

import torch

from lightning_gen.losses import NegativeLogLikelihood
from lightning_gen.models import Autoregressive
from lightning_gen.nets import MADE


def test_the_loss_is_least_where_p_is_the_datas_law():
    """Two bits of known frequencies: the optimum is their entropy, and each p(x) its frequency."""
    torch.manual_seed(0)
    model, loss = Autoregressive(MADE((2,), 2, width=16).double()), NegativeLogLikelihood()
    x = torch.tensor([[0.0, 0.0]] * 5 + [[0.0, 1.0]] * 2 + [[1.0, 0.0]] + [[1.0, 1.0]] * 2, dtype=torch.float64)
    optimizer, g = torch.optim.Adam(model.parameters(), lr=0.05), torch.Generator()
    for _ in range(300):
        optimizer.zero_grad()
        loss(model, x, g).mean().backward()
        optimizer.step()
    p = torch.tensor([0.5, 0.2, 0.1, 0.2], dtype=torch.float64)
    rows = x[[0, 5, 7, 8]]
    torch.testing.assert_close(loss(model, rows, g), -p.log(), rtol=0, atol=0.01)
