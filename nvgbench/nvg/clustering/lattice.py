"""Latents as integer points: squared distances are then exact, whatever the order of summation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def integer_points(latent_BLC: Tensor) -> Tensor:
    """Round latents to integers, stored as float64 because matrix products need floats.

    The range of an image is the power of two at or above its largest magnitude, so nothing is clipped and scaling all latents
    by a power of two does not change the hierarchy. The steps are as fine as exact arithmetic allows: 2^-12 was measured to be
    too coarse for images, whose smooth regions have distances of that size.
    """
    _, length, channels = latent_BLC.shape
    for_sums = 51 - math.ceil(math.log2(channels))  # squared distances in float64, below 2^53
    for_keys = 60 - math.ceil(math.log2(channels)) - 2 * round(math.log2(length))  # keys in int64, below 2^62
    bits = min(for_sums, for_keys) // 2
    exact_BLC = latent_BLC.to(torch.float32).to(torch.float64)
    largest_B = exact_BLC.abs().amax((1, 2))
    _, exponent_B = torch.frexp(largest_B)  # largest = mantissa · 2^exponent, 0.5 <= mantissa < 1
    # A magnitude that is itself a power of two belongs to the lower range.
    exponent_B = exponent_B - (torch.ldexp(torch.ones_like(largest_B), exponent_B - 1) == largest_B).to(exponent_B.dtype)
    steps_B = torch.ldexp(torch.ones_like(largest_B), bits - exponent_B)
    return (exact_BLC * steps_B[:, None, None]).round()
