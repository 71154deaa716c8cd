"""How near a reconstruction is to its image: MSE, PSNR and SSIM of each, by torchmetrics."""

from typing import NamedTuple

import torch
from torch import Tensor

SSIM_SIDE = 6  # the least side over which a window of 11, reflected at the border, still slides


class Closeness(NamedTuple):
    """Of each image, (n,): mean squared error, PSNR in dB (infinite where there is no error), SSIM or None."""

    mse: Tensor
    psnr: Tensor
    ssim: Tensor | None


def closeness(images: Tensor, others: Tensor) -> Closeness:
    """Of `others` to `images`, (n, C, H, W) in [0, 1] each: ValueError where one is not.

    SSIM with its authors' Gaussian window of 11 and deviation 1.5; None below 6 pixels a side.
    Image quality assessment (Wang et al., 2004), https://doi.org/10.1109/TIP.2003.819861
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    if images.shape != others.shape or images.ndim != 4:
        raise ValueError(
            f"closeness needs images (n, C, H, W) of one shape, got {tuple(images.shape)}, {tuple(others.shape)}"
        )
    for values in (images, others):
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"closeness needs images in [0, 1], got {float(values.min()):.3g} to {float(values.max()):.3g}: "
                "decode them, and clamp what lies outside"
            )
    images, others = images.double(), others.double()
    ssim = None
    if min(images.shape[2:]) >= SSIM_SIDE:
        ssim = structural_similarity_index_measure(others, images, data_range=1.0, reduction="none")
    psnr = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in zip(images, others, strict=True)]
    return Closeness((images - others).square().flatten(1).mean(1), torch.stack(psnr), ssim)
