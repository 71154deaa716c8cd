"""Quality of reconstructions: MSE, PSNR and SSIM of each image, by torchmetrics."""

from typing import NamedTuple

import torch
from torch import Tensor

SSIM_SIDE = 6  # the smallest side for a window of 11 with reflection at the border


class ImageSimilarity(NamedTuple):
    """Of each image, (n,): mean squared error, PSNR in dB (infinite without error), SSIM or None."""

    mse: Tensor
    psnr: Tensor
    ssim: Tensor | None


def image_similarity(images: Tensor, others: Tensor) -> ImageSimilarity:
    """MSE, PSNR and SSIM of `others` with respect to `images`, (n, C, H, W) in [0, 1] each, else ValueError.

    SSIM has the Gaussian window of 11 and standard deviation 1.5 of the paper, and is None below 6 pixels a side.
    Image quality assessment (Wang et al., 2004), https://doi.org/10.1109/TIP.2003.819861
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    if images.shape != others.shape or images.ndim != 4:
        raise ValueError(
            f"image_similarity got shapes {tuple(images.shape)} and {tuple(others.shape)}, expected one shape "
            "(n, C, H, W): reshape them"
        )
    for values in (images, others):
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError(
                f"image_similarity got values from {float(values.min()):.3g} to {float(values.max()):.3g}, expected "
                "[0, 1]: decode and clamp them"
            )
    images, others = images.double(), others.double()
    ssim = None
    if min(images.shape[2:]) >= SSIM_SIDE:
        ssim = structural_similarity_index_measure(others, images, data_range=1.0, reduction="none")
    psnr = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in zip(images, others, strict=True)]
    return ImageSimilarity((images - others).square().flatten(1).mean(1), torch.stack(psnr), ssim)
