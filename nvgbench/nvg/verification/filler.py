"""Deterministic weights for the golden numbers of NVG ("nvgbench filler NVG v1").

The values of a tensor depend only on its key in the reference's layout, its shape and one seed; numpy and zlib suffice.
``fixtures/nvg_public.json`` spells the rule out under ``filler_rule``.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

# Tensors that are not learned.
NOT_FILLED = ("rope_ids", "scale_factors", "total_visited_codes")


def filled(key: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The float32 values of the tensor ``key`` of the reference (no module prefix; ``quantize.`` for quantizers)."""
    bits = np.random.PCG64((zlib.crc32(key.encode()) + seed) % 2**32)
    return _scaled(key, np.random.Generator(bits).standard_normal(size=tuple(shape))).astype(np.float32)


def filled_state(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """All learned tensors of a state dict with these shapes by key."""
    return {key: filled(key, shape, seed) for key, shape in shapes.items() if key.split(".")[-1] not in NOT_FILLED}


def _scaled(key: str, noise: np.ndarray) -> np.ndarray:
    """Noise to weights, by the first matching rule."""
    last = key.split(".")[-1]
    if last == "scale":
        return 3 + 0.3 * noise
    if last == "weight" and noise.ndim == 1:
        return 1 + 0.1 * noise
    if last == "bias":
        return 0.1 * noise
    if key.endswith("embedding.weight"):
        # Five magnitudes, so that a residual quantizer uses many different codes at every stage.
        return 0.8 * 2.0 ** -(np.arange(len(noise)) % 5)[:, None] * noise
    if key == "content_start_embed" or key.endswith("class_embed.weight"):
        return noise
    if key.endswith("stage_embed.weight"):
        return 0.7 * noise
    return _gain(key) * noise / math.sqrt(math.prod(noise.shape[1:]))


def _gain(key: str) -> float:
    """Standard deviation of the outputs of a linear layer or convolution for unit inputs."""
    if "modulation" in key:
        return 0.5
    if "quant_resi" in key:
        return 0.4
    heads = {"cls_head.linear.weight": 3.0, "structure_head.linear.weight": 0.12, "x0_head.linear.weight": 5.0}
    return heads.get(key, 1.0)
