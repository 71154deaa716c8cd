"""Networks with one fault each."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_gen.nets import MADE, RealNVP
from lightning_gen.options import Checked, Count


class Good(Checked, nn.Module):
    """A perceptron of x, t and label without any fault."""

    activation = staticmethod(torch.tanh)

    def __init__(self, shape: list[Count], width: Count = 32, classes: Count | None = None):
        super().__init__()
        size = torch.Size(shape).numel()
        self.classes = classes
        self.first, self.last = nn.Linear(size + 1, width), nn.Linear(width, size)
        self.table = None if classes is None else nn.Embedding(classes, width)

    def hidden(self, x, t, label=None):
        h = self.first(torch.cat([x.flatten(1), t.to(x.dtype).unsqueeze(1) / 100], dim=1))
        return self.activation(h if self.table is None else h + self.table(label))

    def forward(self, x, t, label=None):
        return self.last(self.hidden(x, t, label)).view_as(x)


class Shape(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, t, label).flatten(1)


class Dtype(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, t, label).float()


class Finite(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, t, label) + 1e-3 * torch.exp(x.square() / 10)


class Batch(Good):
    """One number for x, which squeeze makes none of a batch of one."""

    def forward(self, x, t, label=None):
        return self.last(self.hidden(x, t, label)).sum(1, keepdim=True).squeeze()


class Time(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, torch.zeros_like(t), label)


class Label(Good):
    def __init__(self, shape: list[Count], width: Count = 32, classes: Count | None = None):
        super().__init__(shape, width)
        self.classes = classes


class Eval(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, t, label) + 1e-7 * torch.randn_like(x)


class SecondDerivative(Good):
    activation = staticmethod(F.relu)


class Save(Good):
    def __init__(self, shape: list[Count], width: Count = 32, classes: Count | None = None):
        super().__init__(shape, width, classes)
        self.shift = torch.randn(width)

    def hidden(self, x, t, label=None):
        return super().hidden(x, t, label) + self.shift.to(x.dtype)


class Gradient(Good):
    def __init__(self, shape: list[Count], width: Count = 32, classes: Count | None = None):
        super().__init__(shape, width, classes)
        self.spare = nn.Linear(width, width)


class Compile(Good):
    def forward(self, x, t, label=None):
        return super().forward(x, t, label) + float(torch.compiler.is_compiling())


class DefinitionOfAFlow(RealNVP):
    """A determinant that counts twice."""

    def forward(self, x):
        z, log_det = super().forward(x)
        return z, 2 * log_det


class DefinitionOfACausalNetwork(MADE):
    """Outputs that see all of x."""

    def forward(self, x, ordering=0):
        return super().forward(x, ordering) + 0.01 * x.mean(1)[:, None, None]
