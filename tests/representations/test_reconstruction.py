"""MSE, PSNR and SSIM by their definitions."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from lightning_gen.representations import image_similarity


def pair(shape=(4, 1, 12, 10)):
    g = torch.Generator().manual_seed(0)
    x = torch.rand(shape, generator=g)
    return x, (x + 0.1 * torch.randn(shape, generator=g)).clamp(0, 1)


def test_mse_and_psnr_are_each_images_own():
    x, y = pair((4, 3, 8, 8))
    y[2] = x[2]
    result = image_similarity(x, y)
    mse = ((x - y).double() ** 2).mean((1, 2, 3))
    torch.testing.assert_close(result.mse, mse, rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(result.psnr, 10 * torch.log10(1 / mse), rtol=1e-6, atol=1e-9)
    assert result.psnr[2] == float("inf") and result.ssim[2] == pytest.approx(1)


def test_ssim_is_wangs_over_a_gaussian_window():
    x, y = pair()
    for a, b, result in zip(
        x[:, 0].double().numpy(), y[:, 0].double().numpy(), image_similarity(x, y).ssim, strict=True
    ):
        blur = lambda image: gaussian_filter(image, 1.5, truncate=3.5, mode="mirror")  # noqa: E731
        ma, mb = blur(a), blur(b)
        va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
        c1, c2 = 0.01**2, 0.03**2
        ssim = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
        assert float(result) == pytest.approx(ssim.mean(), rel=1e-6)


def test_below_six_pixels_there_is_no_ssim():
    assert image_similarity(*pair((2, 1, 5, 9))).ssim is None
    assert image_similarity(*pair((2, 1, 6, 6))).ssim.shape == (2,)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_what_is_no_image_is_refused(value):
    x, y = pair()
    y[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        image_similarity(x, y)
    with pytest.raises(ValueError, match="shape"):
        image_similarity(x, x[:2])
