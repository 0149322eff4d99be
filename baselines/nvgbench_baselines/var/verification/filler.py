"""Deterministic weights for the golden numbers of VAR ("nvgbench filler v1").

The values of a tensor depend only on its key in the published layout, its shape and one seed; numpy and zlib suffice.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Tensors that are not learned.
NOT_FILLED = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")


def filled(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The float32 values of the tensor with key ``name``."""
    key = (zlib.crc32(name.encode("utf-8")) + seed) % 2**32
    noise = np.random.Generator(np.random.PCG64(key)).standard_normal(size=tuple(shape))
    return _scaled(name, noise).astype(np.float32)


def filled_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """All learned tensors of a state dict with these shapes by key."""
    return {name: filled(name, shape, seed) for name, shape in shapes.items() if name.split(".")[-1] not in NOT_FILLED}


def _scaled(name: str, noise: np.ndarray) -> np.ndarray:
    """Noise to weights, by the first matching rule."""
    parts = name.split(".")
    last, parent = parts[-1], parts[-2] if len(parts) > 1 else ""
    unit_variance = noise / math.sqrt(math.prod(noise.shape[1:]))
    if last == "scale_mul_1H11":
        values = math.log(4) + 0.3 * noise
        # Above the clamp at log(100), so that a missing clamp is noticed.
        values.flat[-1] = 5.0
        return values
    if last == "weight" and noise.ndim == 1:
        return 1 + 0.1 * noise
    if "bias" in last:
        return 0.1 * noise
    if name.endswith("embedding.weight"):
        # Five magnitudes, so that a residual quantizer uses many different codes at every scale.
        return 0.8 * 2.0 ** -(np.arange(len(noise)) % 5)[:, None] * noise
    if last in ("pos_start", "pos_1LC") or parent == "lvl_embed":
        return 0.5 * noise
    if parent == "class_emb":
        return noise
    if last == "ada_gss":
        return 0.3 * noise
    if "ada_lin" in name:
        return 0.5 * unit_variance
    return 2 * unit_variance if name == "head.weight" else unit_variance
