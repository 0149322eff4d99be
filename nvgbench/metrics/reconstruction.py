"""Similarity of reconstructions and images: PSNR, SSIM, LPIPS. Shape letters: B batch, H and W pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.errors import InputError

EXACT_PSNR = 100.0
"""dB assigned to an exact copy, whose PSNR is infinite (one wrong level in a 256 px image is 101 dB)."""
_WINDOW, _SIGMA = 11, 1.5

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two float batches in [-1, 1] to one number per image."""


def psnr(images_B3HW: Tensor, reconstructions_B3HW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB, float64 ``[B]``: 10 log10(255² / MSE), at most 100.

    Raises:
        InputError: not two uint8 batches of one shape.
    """
    _check(images_B3HW, reconstructions_B3HW)
    error_B = (images_B3HW.double() - reconstructions_B3HW.double()).square().mean(dim=(1, 2, 3))
    return (10 * torch.log10(255.0**2 / error_B)).clamp(max=EXACT_PSNR).cpu()


def ssim(images_B3HW: Tensor, reconstructions_B3HW: Tensor) -> Tensor:
    """Structural similarity of each image, float64 ``[B]``, mean over channels and over windows inside the image.

    Wang et al. (2004): Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances, range 255;
    equal to ``skimage.metrics.structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.

    Raises:
        InputError: not two uint8 batches of one shape, or images smaller than the window.
    """
    _check(images_B3HW, reconstructions_B3HW)
    if min(images_B3HW.shape[2:]) < _WINDOW:
        raise InputError(f"SSIM needs images of at least {_WINDOW} pixels, got {tuple(images_B3HW.shape[2:])}")
    x, y = images_B3HW.double(), reconstructions_B3HW.double()
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x**2
    variance_y = _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3)).cpu()


def _blur(images: Tensor) -> Tensor:
    """Separable Gaussian window, over the pixels whose window lies inside the image."""
    offsets = torch.arange(_WINDOW, dtype=torch.float64, device=images.device) - _WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, _WINDOW)
    rows = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(rows, window.transpose(2, 3), groups=images.shape[1])


def _check(images: Tensor, reconstructions: Tensor) -> None:
    for name, batch in (("images", images), ("reconstructions", reconstructions)):
        if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
            raise InputError(f"{name}: got {batch.dtype} of shape {tuple(batch.shape)}, expected uint8 [B, 3, H, W]")
    if images.shape != reconstructions.shape:
        raise InputError(
            f"images of shape {tuple(images.shape)} and reconstructions of shape {tuple(reconstructions.shape)} differ"
        )


def load_lpips(device: torch.device | str = "cpu") -> tuple[Distance | None, str]:
    """LPIPS with VGG (Zhang et al. 2018) if its weights are available, and one line on what was loaded or why not.

    The callable takes two float batches in [-1, 1] and returns one distance per image, float32 ``[B]`` on the CPU.
    """
    from nvgbench.autoencoder.perceptual import load_perceptual

    network, note = load_perceptual("auto")
    if network is None:
        return None, note
    network = network.to(device)

    @torch.no_grad()
    def distance(x_B3HW: Tensor, y_B3HW: Tensor) -> Tensor:
        return network(x_B3HW.to(device), y_B3HW.to(device)).flatten().float().cpu()

    return distance, note
