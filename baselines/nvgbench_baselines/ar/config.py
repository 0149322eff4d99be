"""Settings of the AR family: the preset sections ``[tokenizer.quantizer]``, ``[model]`` and ``[sampling]``."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from nvgbench.config.schema import STRICT, ExecutionConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FlatConfig:
    """The plain vector quantizer: one token per position."""

    unit_sphere: bool = False
    """Normalise latents and codes to unit length for comparison and decoding (LlamaGen's remedy for unused codes)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ArModelConfig:
    """The transformer."""

    depth: int = Field(ge=1)
    heads: int = Field(ge=1)
    head_size: int = Field(default=64, ge=8, multiple_of=4)
    """A multiple of 4, because rows rotate one half and columns the other; the width is heads · head_size."""
    mlp_multiple: int = Field(default=256, ge=1)
    """The hidden size of the feed-forward layer is 8/3 of the width, rounded up to a multiple of this."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """On the embedded tokens and on the output of every attention and feed-forward layer."""
    label_drop: float = Field(default=0.1, ge=0, lt=1)
    rope_base: float = Field(default=10000.0, gt=1)

    @property
    def width(self) -> int:
        return self.heads * self.head_size

    @property
    def hidden(self) -> int:
        return -(-(8 * self.width // 3) // self.mlp_multiple) * self.mlp_multiple


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ArSamplingConfig(ExecutionConfig):
    """Sampling."""

    guidance: float = Field(default=2.0, ge=0)
    """s of unconditional + s · (conditional - unconditional); 1: none."""
    top_k: int = Field(default=0, ge=0)
    """0: no limit; 1: argmax."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    temperature: float = Field(default=1.0, gt=0)
