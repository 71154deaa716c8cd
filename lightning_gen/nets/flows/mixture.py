"""Couplings by distribution functions of mixtures of logistics, and a flow of vectors made of them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen.nets.flows.autoregressive import of_vectors
from lightning_gen.nets.flows.base import Composed, FlowNetwork, Invertible
from lightning_gen.nets.flows.coupled import Couplings
from lightning_gen.nets.flows.layers import Activation, ActNorm, bounded, kinks_of, perceptron
from lightning_gen.options import Count, Positive, Shape

BISECTIONS = 60  # a bracket of width 100 comes below 1e-16
SHARPEST = 4.0  # of |log s_k - log(4/K)|: without a bound, score matching makes ever sharper steps


class MixtureCoupling(Invertible):
    """z_b = exp(a) logit F(x_b) + t, F(x) = sum_k pi_k sigmoid((x - m_k) / s_k), its parameters a network of x_a.

    x_a are the values of one parity, x_b those of the other. F is smooth and may have K steps where an affine coupling
    has one slope. Flow++ (Ho et al., 2019), eq. 7, https://arxiv.org/abs/1902.00275. |a| < 2, by tanh.

    Args:
        size: D, the number of values of x, >= 2.
        parity: of the indices that stay, 0 or 1.
        components: K.
        width, depth, activation: of the network, those of `perceptron`.
        scale: of x_a on its way into the network, > 0.
    """

    def __init__(
        self, size: int, parity: int, components: int, width: int, depth: int, activation: Activation, scale: float
    ) -> None:
        super().__init__()
        self.parity, self.components, self.scale = parity, components, scale
        kept = len(range(parity, size, 2))
        self.changed = size - kept
        self.net = perceptron(kept, width, depth, self.changed * (3 * components + 2), activation)
        with torch.no_grad():  # means all over standardised data
            self.net[-1].bias.view(self.changed, -1)[:, components : 2 * components] = torch.linspace(-2, 2, components)

    def laws(self, kept: Tensor) -> tuple[Tensor, ...]:
        """log pi, m and log s, (B, changed, K), a and t, (B, changed)."""
        out, k = self.net(self.scale * kept).unflatten(1, (self.changed, -1)), self.components
        weights, means, log_scales, slope, shift = out.split([k, k, k, 1, 1], dim=2)
        log_scales = math.log(4 / k) + bounded(log_scales, SHARPEST)  # at the start about the distance of two means
        return weights.log_softmax(2), means, log_scales, bounded(slope).squeeze(2), shift.squeeze(2)

    @staticmethod
    def logit(x: Tensor, weights: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
        """logit F(x) and the logarithm of its derivative, like x, (B, changed)."""
        u = (x.unsqueeze(2) - means) * (-log_scales).exp()
        below, above = F.logsigmoid(u), F.logsigmoid(-u)
        log_cdf, log_rest = (weights + below).logsumexp(2), (weights + above).logsumexp(2)
        log_density = (weights + below + above - log_scales).logsumexp(2)
        return log_cdf - log_rest, log_density - log_cdf - log_rest

    def joined(self, kept: Tensor, changed: Tensor) -> Tensor:
        """The two parities at their places, (B, D)."""
        out = kept.new_empty(len(kept), kept.shape[1] + changed.shape[1])
        out[:, self.parity :: 2], out[:, 1 - self.parity :: 2] = kept, changed
        return out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z, like x, and log |det dz/dx|, nats, (B,)."""
        kept, changed = x[:, self.parity :: 2], x[:, 1 - self.parity :: 2]
        *mixture, slope, shift = self.laws(kept)
        y, log_derivative = self.logit(changed, *mixture)
        return self.joined(kept, y * slope.exp() + shift), (log_derivative + slope).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """x, like z, by bisection: y = logit F(x) has x between the least and the greatest of m_k + s_k y.

        Its gradient is that of a step of Newton's method from there.
        """
        kept, changed = z[:, self.parity :: 2], z[:, 1 - self.parity :: 2]
        *mixture, slope, shift = self.laws(kept)
        y = (changed - shift) * (-slope).exp()
        with torch.no_grad():
            ends = mixture[1] + mixture[2].exp() * y.unsqueeze(2)
            low, high = ends.amin(2), ends.amax(2)
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                right = self.logit(middle, *mixture)[0] < y
                low, high = torch.where(right, middle, low), torch.where(right, high, middle)
            middle = (low + high) / 2
        found, log_derivative = self.logit(middle, *mixture)
        error = found - y
        return self.joined(kept, middle - (error - error.detach()) * (-log_derivative.detach()).exp())


class MixtureFlow(FlowNetwork):
    """Couplings by mixtures of logistics in turn on the even and odd values of a vector, with ActNorm between them.

    It is smooth: log p has all derivatives, except with `relu`. Its inverse takes 60 bisections a coupling.
    Flow++ (Ho et al., 2019), https://arxiv.org/abs/1902.00275, of vectors, without attention.

    Args:
        shape: of one x, (D,), D >= 2.
        width: units of a layer of the couplings' networks.
        depth: hidden layers.
        couplings: number of couplings, >= 2.
        components: of a mixture.
        activation: silu, tanh or relu; relu has no second derivative.
        scale: factor of values on their way into the couplings' networks; at 1 they are too smooth at the start for
            structure finer than about 1.
    """

    def __init__(
        self,
        shape: Shape,
        width: Count = 64,
        depth: Count = 2,
        couplings: Couplings = 4,
        components: Count = 16,
        activation: Activation = "silu",
        scale: Positive = 1.0,
    ) -> None:
        size = of_vectors("MixtureFlow", shape, least=2)
        layers: list[Invertible] = [ActNorm(size)]
        for k in range(couplings):
            coupling = MixtureCoupling(size, k % 2, components, width, depth, activation, scale)
            layers += [coupling, ActNorm(size)]
        super().__init__(shape, [(Composed(*layers), shape)])
        self.kinks = kinks_of(activation)
