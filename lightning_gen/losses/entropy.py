"""The entropy of a distribution by the distances between samples."""

import math

import torch
from torch import Tensor


def nearest_neighbour_entropy(x: Tensor) -> Tensor:
    """d log r_i + log c_d + psi(n) - psi(1), nats, (n,), of x (n, ...): r_i is the distance of x_i to its neighbour.

    c_d is the volume of the unit ball. The mean over i estimates the entropy, consistently as n grows; it is -inf for
    samples that coincide. Kozachenko & Leonenko (1987), https://www.mathnet.ru/eng/ppi797
    """
    rows = x.flatten(1)
    n, d = rows.shape
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.masked_fill(torch.eye(n, dtype=torch.bool, device=x.device), math.inf).amin(1)
    ball = d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)
    harmonic = sum(1 / i for i in range(1, n))  # psi(n) - psi(1)
    return d * nearest.log() + ball + harmonic
