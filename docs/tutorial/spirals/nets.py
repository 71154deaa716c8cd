"""A network: any nn.Module that takes x and t."""

import torch
from torch import Tensor, nn

from lightning_gen.options import Checked, Count


class Sines(Checked, nn.Module):
    """W2 sin(W1 (x, t)), for points in the plane.

    Args:
        width: hidden units.
        classes: labels that it knows, the one for none among them; null: it knows none.
    """

    def __init__(self, width: Count = 64, classes: Count | None = None) -> None:
        super().__init__()
        self.classes = classes
        self.first, self.last = nn.Linear(3, width), nn.Linear(width, 2)
        self.table = None if classes is None else nn.Embedding(classes, width)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Like x, (B, 2); t (B,); label (B,) if it knows classes."""
        h = self.first(torch.cat([x, t.to(x.dtype).unsqueeze(1)], dim=1))
        return self.last(torch.sin(h if label is None else h + self.table(label)))
