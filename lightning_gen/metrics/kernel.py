"""The kernel distance (KID): an unbiased MMD^2 between two sets of features."""

from typing import Annotated, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from lightning_gen.metrics.distances import check_features
from lightning_gen.metrics.evaluation import Evaluation
from lightning_gen.metrics.registry import Measured, metric
from lightning_gen.options import Count, checked

ENTRIES = 2**22  # of the kernel's matrix that are made at once: 32 MiB in float64


class KernelDistance(NamedTuple):
    """Mean over subsets; their standard deviation (ddof 0, what papers print after +-); a standard error of the mean.

    `size` and `subsets` are what was used: fewer than asked for where there are fewer samples.
    """

    value: float
    std: float
    error: float
    subsets: int
    size: int


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """k(x, y) = (x.y / d + 1)^3, (B, B')."""
    return (x @ y.mT / x.shape[1] + 1) ** 3


def mmd2(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased MMD^2 of x (m, d) and y (n, d): the means of k over pairs, without a sample's pair with itself."""
    return _mmd2(x, y)[0]


@checked
def kernel_distance(
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    subsets: Count = 100,
    size: Annotated[int, Ge(3)] = 1000,
) -> KernelDistance:
    """KID of features x (N, d) and y (N', d), float64; `size` is cut to the smaller set, may come out negative.

    MMD^2 = E k(x,x') + E k(y,y') - 2 E k(x,y), averaged over random subsets of equal size.
    "Demystifying MMD GANs" (Binkowski et al., 2018), https://arxiv.org/abs/1801.01401
    The subsets overlap, so std / sqrt(subsets) would be far too small an error: the error joins it with the jackknife
    variance of the subsets, scaled to all N samples. It errs on the large side when the two laws are equal.
    """
    check_features(3, "the kernel distance", x=x, y=y)
    x, y = x.detach().double(), y.detach().double()
    size = min(size, len(x), len(y))
    if len(x) == len(y) == size:
        subsets = 1  # every subset would be the whole
    rows = [torch.stack(_mmd2(_draw(x, size, generator), _draw(y, size, generator))) for _ in range(subsets)]
    value, variance_x, variance_y = torch.stack(rows).cpu().unbind(1)
    variance = variance_x.mean() * size / len(x) + variance_y.mean() * size / len(y) + value.var(correction=0) / subsets
    return KernelDistance(float(value.mean()), float(value.std(correction=0)), float(variance.sqrt()), subsets, size)


def kernel_distance_all(x: Tensor, y: Tensor) -> KernelDistance:
    """KID over all pairs of x (N, d) and y (N', d): no subsets, no draw; its error by the jackknife over both sets.

    Of all unbiased estimates from these features the one of least variance; N^2 d products, in blocks of 32 MiB.
    """
    check_features(3, "the kernel distance", x=x, y=y)
    value, variance_x, variance_y = _mmd2(x.detach().double(), y.detach().double())
    return KernelDistance(float(value), 0.0, float((variance_x + variance_y).sqrt()), 1, max(len(x), len(y)))


def _draw(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` rows without replacement."""
    index = torch.randperm(len(x), generator=generator, device=generator.device)[:size]
    return x[index.to(x.device)]


def _mmd2(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """MMD^2, and its jackknife variances over x and over y from the kernel's row sums."""
    m, n = len(x), len(y)
    a, b, rows, columns = _sums(x, y)
    term_x, term_y, cross = a.sum() / (m * (m - 1)), b.sum() / (n * (n - 1)), rows.sum()
    value = term_x + term_y - 2 * cross / (m * n)
    without_x = (a.sum() - 2 * a) / ((m - 1) * (m - 2)) - 2 * (cross - rows) / ((m - 1) * n)
    without_y = (b.sum() - 2 * b) / ((n - 1) * (n - 2)) - 2 * (cross - columns) / (m * (n - 1))
    return value, (m - 1) * without_x.var(correction=0), (n - 1) * without_y.var(correction=0)


def _sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each x its sum of k with the other x, of each y with the other y, of each x with y, of each y with x."""
    a, b, rows, columns = [], [], [], torch.zeros(len(y), dtype=x.dtype, device=x.device)
    size = max(1, ENTRIES // max(len(x), len(y)))
    for sums, z in ((a, x), (b, y)):
        for start in range(0, len(z), size):
            k = polynomial_kernel(z[start : start + size], z)
            sums.append(k.sum(1) - k.diagonal(start))
    for start in range(0, len(x), size):
        k = polynomial_kernel(x[start : start + size], y)
        rows.append(k.sum(1))
        columns += k.sum(0)
    return torch.cat(a), torch.cat(b), torch.cat(rows), columns


@metric("kid", "KID", "lower", least=3)
def kid(evaluation: Evaluation) -> Measured:
    """The kernel distance of the samples' features to the reference's."""
    x, y, options = evaluation.features, evaluation.real.features.to(evaluation.features.device), evaluation.options
    protocol = {"bias": "none", "error_by": "jackknife"}
    if options.kid_pairs == "all":
        distance = kernel_distance_all(x, y)
        return Measured(distance.value, distance.error, (), {**protocol, "kid_pairs": "all"})
    asked = options.kid_subset_size
    distance, flags = kernel_distance(x, y, evaluation.draw("kid"), options.kid_subsets, asked), ()
    protocol |= {"kid_subsets": distance.subsets, "kid_subset_size": distance.size}
    if distance.size < asked:
        protocol["kid_subset_size_asked"] = asked
        flags = (f"KID's subsets hold {distance.size} images, {asked} were asked for",)
    return Measured(distance.value, distance.error, flags, protocol, {"std_over_subsets": distance.std})
