"""Latents as integer points: squared distances are then exact, whatever the order of summation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nvgbench.errors import InputError


def integer_points(latent_BLC: Tensor) -> Tensor:
    """Round latents to integers, stored as float64 because matrix products need floats.

    The range of an image is the power of two at or above its largest magnitude, so nothing is clipped and scaling all latents
    by a power of two does not change the hierarchy. The steps are as fine as exact arithmetic allows: 2^-12 was measured to be
    too coarse for images, whose smooth regions have distances of that size.

    Raises:
        InputError: latents that are not finite in float32.
    """
    _, length, channels = latent_BLC.shape
    for_sums = 51 - math.ceil(math.log2(channels))  # squared distances in float64, below 2^53
    for_keys = 60 - math.ceil(math.log2(channels)) - 2 * round(math.log2(length))  # keys in int64, below 2^62
    bits = min(for_sums, for_keys) // 2
    single_BLC = latent_BLC.to(torch.float32)
    largest = single_BLC.abs().amax((1, 2)).tolist()
    if not all(map(math.isfinite, largest)):
        raise InputError("latents contain NaN or infinite values; did the encoder diverge?")
    # value = mantissa · 2^exponent, 0.5 <= mantissa < 1; one step down, a power of two belongs to the range that it ends.
    steps = [math.ldexp(1.0, bits - math.frexp(math.nextafter(value, 0.0))[1]) for value in largest]
    steps_B = torch.tensor(steps, dtype=torch.float64, device=latent_BLC.device)
    return (single_BLC * steps_B[:, None, None]).round_()
