"""PSNR and SSIM against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from nvgbench.errors import InputError
from nvgbench.metrics.reconstruction import EXACT_PSNR, psnr, ssim


def pair(side: int, noise: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, side)[None, None, :, None] * np.ones((3, 3, side, side))
    second = (ramp + noise * rng.standard_normal(ramp.shape)).clip(0, 255)
    return torch.from_numpy(ramp.astype(np.uint8)), torch.from_numpy(second.astype(np.uint8))


@pytest.mark.parametrize("noise", [1.0, 20.0, 200.0])
@pytest.mark.parametrize("side", [16, 33])
def test_equals_scikit_image(side: int, noise: float) -> None:
    x, y = pair(side, noise)
    for image, copy, db, similarity in zip(x.numpy(), y.numpy(), psnr(x, y), ssim(x, y), strict=True):
        assert float(db) == pytest.approx(peak_signal_noise_ratio(image, copy, data_range=255), rel=1e-12)
        expected = structural_similarity(
            image, copy, channel_axis=0, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(similarity) == pytest.approx(expected, abs=1e-10)


def test_exact_copies() -> None:
    x, _ = pair(16, 0)
    assert psnr(x, x).tolist() == [EXACT_PSNR] * 3
    assert ssim(x, x).tolist() == pytest.approx([1.0] * 3)


def test_refuses_bad_input() -> None:
    x, y = pair(16, 1)
    with pytest.raises(InputError, match="uint8"):
        psnr(x.float(), y)
    with pytest.raises(InputError, match="differ"):
        ssim(x, y[:, :, :12])
    with pytest.raises(InputError, match="at least 11"):
        ssim(x[:, :, :8], y[:, :, :8])
