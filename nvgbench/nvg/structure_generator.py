"""The structure generator: the network behind the structure maps (paper, section 3.2).

`nvgbench.nvg.structure_flow` says what it is trained for and how it is sampled. With the paper's flow its output is a velocity;
other objectives read it as an average velocity, or as logits of bits.

Shape letters: B batch (a sample is one image at one stage), L positions, C latent channels, K structure channels, W width,
T flow times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from nvgbench.nvg.blocks import (
    ModulatedHead,
    TimeEmbedding,
    all_vectors,
    in_parts,
    initialise,
    layer_vectors,
    make_blocks,
    split_vectors,
    token_stream,
)
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import Rotation, StructureRope
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.objective import Network
from nvgbench.nvg.structure_flow.registry import OBJECTIVES


class StructureGenerator(nn.Module):
    """Velocity of the flow to the structure map of the next stage, given this stage's canvas and structure.

    One network serves stages 0 … K - 2. Arguments as for `nvgbench.nvg.content.ContentGenerator`.

    Attributes:
        interval_embed: embedding of the time to go, of objectives with a second time; it starts at 0, so that weights of a flow
            stay a flow.

    Raises:
        InputError: the head size has no room for the axes.
    """

    interval_embed: TimeEmbedding | None

    def __init__(self, config: NvgModelConfig, layout: StageLayout, *, channels: int, num_classes: int) -> None:
        super().__init__()
        width = config.structure_width
        self.layout = layout
        self.rope = StructureRope(config, layout, canvas_condition=True)
        self.embed = nn.Linear(layout.channels, width)
        self.canvas_embed = nn.Linear(channels, width)
        self.class_embed = nn.Embedding(num_classes + 1, width)
        self.stage_embed = nn.Embedding(layout.structure_stages, width)
        self.time_embed = TimeEmbedding(width)
        self.blocks = make_blocks(config, width)
        self.head = ModulatedHead(width, layout.channels)
        self.register_module("interval_embed", None)
        if OBJECTIVES[config.structure_objective].two_times:
            self.interval_embed = TimeEmbedding(width)
        initialise(self)
        if self.interval_embed is not None:
            nn.init.zeros_(self.interval_embed.linear_out.weight)

    def velocity(
        self, z_BLK: Tensor, t_B: Tensor, canvas_BLC: Tensor, se_BLK: Tensor, stage_B: Tensor, labels_B: Tensor
    ) -> Tensor:
        """The velocity noise - data at ``z_BLK``.

        Args:
            z_BLK: the noised structure, around -1 … +1.
            t_B: float32 flow time in [0, 1]; with two times ``[B, 2]``, the time and the one to go to.
            canvas_BLC: the canvas AFTER stage ``stage_B``, not scaled.
            se_BLK: embedding of the structure map of ``stage_B``, values 0, 1, 2.
            stage_B: int64 stage that is complete, 0 … K - 2.
            labels_B: int64 class, or ``num_classes`` for none.

        Returns:
            float32 ``[B, L, K]``.
        """
        class_BW = self.class_embed(labels_B)
        condition_BW = class_BW + self.stage_embed(stage_B) + self._time(t_B)
        vectors = layer_vectors(self.blocks, self.head, condition_BW)
        return self._velocity(z_BLK, canvas_BLC, class_BW, self.rope(se_BLK), vectors)

    forward = velocity

    def flow_vectors(self, times_T: Tensor, stage_B: Tensor, labels_B: Tensor) -> Tensor:
        """The modulation of all layers at these times (``[T]`` or ``[T, 2]``), ``[T, B, P, W]``, for `velocity_modulated`."""
        fixed_BW = self.class_embed(labels_B) + self.stage_embed(stage_B)

        def vectors(t_N: Tensor) -> Tensor:
            condition_NW = fixed_BW.repeat(len(t_N) // len(fixed_BW), 1) + self._time(t_N)
            return all_vectors(self.blocks, self.head, condition_NW)

        times = [t.expand(len(labels_B), *t.shape) for t in times_T.unbind()]
        return in_parts(vectors, times).unflatten(0, (len(times), -1))

    def velocity_modulated(
        self, z_BLK: Tensor, canvas_BLC: Tensor, labels_B: Tensor, rotation: Rotation, vectors_BPW: Tensor
    ) -> Tensor:
        """`velocity` with the results of ``rope`` and `flow_vectors`."""
        vectors = split_vectors(vectors_BPW, self.blocks, self.head)
        return self._velocity(z_BLK, canvas_BLC, self.class_embed(labels_B), rotation, vectors)

    def _time(self, t_B: Tensor) -> Tensor:
        if self.interval_embed is None:
            return self.time_embed(t_B)
        now_B, target_B = t_B.unbind(-1)
        return self.time_embed(now_B) + self.interval_embed(now_B - target_B)

    def _velocity(
        self, z_BLK: Tensor, canvas_BLC: Tensor, class_BW: Tensor, rotation: Rotation, vectors: Iterator[Tensor]
    ) -> Tensor:
        tokens = self.embed(z_BLK)
        x_BNW = token_stream(self.blocks, class_BW[:, None].to(tokens.dtype), self.canvas_embed(canvas_BLC), tokens)
        for block in self.blocks[:-1]:
            x_BNW = block(x_BNW, next(vectors), rotation)
        x_BLW = self.blocks[-1](x_BNW, next(vectors), rotation, last=self.layout.positions)
        return self.head(x_BLW, next(vectors)).float()


@dataclass(frozen=True)
class StageConditions:
    """What the structure generator knows of the stages of a training batch, with images and stages in one axis (N)."""

    canvas_NLC: Tensor
    se_NLK: Tensor
    stage_N: Tensor
    labels_N: Tensor

    def bind(self, structure: nn.Module) -> Network:
        """A structure generator as a function of its noised input and time, of all rows or some."""

        def network(z_NLK: Tensor, t_N: Tensor, rows_N: Tensor | None) -> Tensor:
            given = (self.canvas_NLC, self.se_NLK, self.stage_N, self.labels_N)
            conditions = given if rows_N is None else [part[rows_N] for part in given]
            output: Tensor = structure(z_NLK, t_N, *conditions)
            return output

        return network
