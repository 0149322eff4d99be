"""Settings of the VAR family: the preset sections ``[tokenizer.quantizer]``, ``[model]`` and ``[sampling]``."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from nvgbench.config.schema import STRICT, ExecutionConfig
from nvgbench.errors import InputError

# The published schedule, and two for the small grids of the comparison presets.
DEFAULT_SCALES: dict[int, tuple[int, ...]] = {16: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16), 8: (1, 2, 3, 4, 6, 8), 4: (1, 2, 3, 4)}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScaleConfig:
    """The multi-scale residual quantizer (paper, section 3.2, Algorithms 1 and 2)."""

    scales: tuple[int, ...] | None = None
    """Side of each scale's token map, rising to the side of the grid; by default the published ones at 16, fewer at 8 and 4."""
    phi_convs: int = Field(default=4, ge=0)
    """Number of 3x3 convolutions that the scales share; 0: one per scale."""
    phi_strength: float = Field(default=0.5, ge=0, le=1)
    """phi(h) = (1 - strength) · h + strength · conv3x3(h), after upsampling to the grid."""
    distance: Literal["l2", "cosine"] = "l2"
    """Distance of the nearest code; the published tokenizer uses l2."""

    def sides(self, grid: tuple[int, int]) -> tuple[int, ...]:
        """The scales for a grid.

        Raises:
            InputError: no default for that grid, or scales that do not rise to its side.
        """
        height, width = grid
        scales = self.scales if self.scales is not None else DEFAULT_SCALES.get(height)
        if scales is None:
            raise InputError(
                f"a {height}x{width} grid has no default scales; set tokenizer.quantizer.scales, rising to {height}"
            )
        rising = all(low < high for low, high in itertools.pairwise(scales))
        if height != width or not scales or scales[0] < 1 or not rising or scales[-1] != height:
            raise InputError(
                f"tokenizer.quantizer.scales = {list(scales)} must rise from 1 or more to {height}, the side of the square "
                f"{height}x{width} grid"
            )
        return scales


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VarModelConfig:
    """The transformer."""

    depth: int = Field(ge=1)
    heads: int | None = Field(default=None, ge=1)
    """By default the depth; the width is heads · head_size."""
    head_size: int = Field(default=64, ge=8)
    mlp_ratio: int = Field(default=4, ge=1)
    shared_modulation: bool = False
    """One class projection for all blocks, with an offset per block (the 512 px model)."""
    qk_norm: bool = True
    """l2-normalised queries and keys, with a learned scale per head."""
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    """Drop-path rate of the last block, rising linearly from 0; by default 0.1 · depth / 24."""
    label_drop: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Label smoothing of the cross-entropy; 0 in the published recipe."""
    gate_init: float = Field(default=1e-3, gt=0)
    """Factor of the initial weights of the residual gates; smaller for deeper models."""

    @property
    def num_heads(self) -> int:
        return self.heads or self.depth

    @property
    def width(self) -> int:
        return self.num_heads * self.head_size

    @property
    def last_drop_path(self) -> float:
        return 0.1 * self.depth / 24 if self.drop_path is None else self.drop_path


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VarSamplingConfig(ExecutionConfig):
    """Sampling; the defaults are those of the paper's scores."""

    guidance: float = Field(default=1.5, ge=0)
    """t of (1 + t) · conditional - t · unconditional at the last scale, rising linearly from 0 at the first; 0: none."""
    top_k: int = Field(default=900, ge=0)
    """0: no limit; 1: argmax."""
    top_p: float = Field(default=0.96, gt=0, le=1)
    more_smooth: bool = False
    """Mix codebook vectors with a Gumbel softmax instead of using the drawn one (smoother images, worse scores)."""
    kv_cache: bool = True
    """Keep keys and values of earlier scales; without, every scale is computed from all tokens so far (for measurements)."""
