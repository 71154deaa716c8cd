"""Where x lies in a latent space, what a latent vector means, and the path between two x in that space."""

import torch
from torch import Tensor

from lightning_gen.models import LatentVariables
from lightning_gen.questions.base import Answer
from lightning_gen.representations import FlowLatent, Hidden, ODELatent, PosteriorMean

ENCODERS = (FlowLatent(), Hidden(), PosteriorMean(), ODELatent())  # representations that reconstruct
SPHERICAL = (FlowLatent, ODELatent)  # whose codes of data are draws of N(0, I), the longer the more dimensions


class Generated(Answer):
    """E[x|z] by the decoder of latent variables."""

    name = "decoder"
    needs = (LatentVariables,)

    def size(self, model: LatentVariables, shape: tuple[int, ...]) -> int:
        """The number of latent variables."""
        return model.latent

    def reconstruct(self, model: LatentVariables, codes: Tensor, shape: tuple[int, ...]) -> Tensor:
        """E[x|z = codes], (B, *shape)."""
        return model.visible(codes)

    __call__ = reconstruct


DECODERS = (FlowLatent(), Hidden(), Generated(), ODELatent())


def between(a: Tensor, b: Tensor, points: int, spherical: bool) -> Tensor:
    """`points` codes from a to b, (B, L), on lines or on great circles, (points, B, L).

    Great circles keep the length of Gaussian codes: Sampling generative networks (White, 2016),
    https://arxiv.org/abs/1609.04468
    """
    u = torch.linspace(0, 1, points, dtype=a.dtype, device=a.device).view(points, 1, 1)  # over (B, L)
    line = (1 - u) * a + u * b
    if not spherical:
        return line
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)
    angle = cosine.acos().unsqueeze(1)  # (B, 1)
    arc = (((1 - u) * angle).sin() * a + (u * angle).sin() * b) / angle.sin()
    return torch.where((angle.sin() > 1e-4).expand_as(line), arc, line)
