"""Structure-aware rotary position embedding (paper, section 3.2).

The position of a token is a vector of ids: the kind of token, its structure embedding (0, 1 or 2 per channel), row and column.
Each axis rotates its own channels.

Shape letters: B batch, H heads, N tokens of a sequence, L positions, K structure channels, A axes (K + 3), D head size,
P channel pairs (D / 2).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.stages import StageLayout

THETA = 10_000.0
IDENTITY_CHANNELS = 8
STRUCTURE_CHANNELS = 2

# Ids on the identity axis.
CLASS_ID = 1.0
TOKEN_ID = 0.0
CANVAS_CONDITION_ID = 2.0
# A structure channel that is not decided yet.
UNDECIDED = 1.0


class Rotation(NamedTuple):
    """Cosine and sine of the angle of each token and channel pair, float32 ``[B, 1, N, P, 2]`` (B may be 1)."""

    unit_B1NP2: Tensor

    def of_last(self, tokens: int | None) -> Rotation:
        """The rotation of the last ``tokens`` tokens (None: all)."""
        return self if tokens is None else Rotation(self.unit_B1NP2[:, :, -tokens:])

    def apply(self, x_BHND: Tensor) -> Tensor:
        """Rotate adjacent channels (2j, 2j + 1): (a, b) -> (a cos - b sin, a sin + b cos); float32.

        Both forms give the same bits on the CPU. Complex numbers are one kernel there instead of seven; compilers fuse the real
        form with what is around it, but do not know complex numbers.
        """
        pairs_BHNP2 = x_BHND.float().unflatten(-1, (-1, 2))
        if x_BHND.is_cuda or torch.compiler.is_compiling():
            (a, b), (cos, sin) = pairs_BHNP2.unbind(-1), self.unit_B1NP2.unbind(-1)
            return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
        unit_B1NP = torch.view_as_complex(self.unit_B1NP2)
        return torch.view_as_real(torch.view_as_complex(pairs_BHNP2.contiguous()) * unit_B1NP).flatten(-2)

    def turn_(self, x_BNHD: Tensor) -> None:
        """`apply` in place, to contiguous float32 tokens whose heads come second; without autograd."""
        unit_BN1P = torch.view_as_complex(self.unit_B1NP2).transpose(1, 2)
        torch.view_as_complex(x_BNHD.unflatten(-1, (-1, 2))).mul_(unit_BN1P)

    def turn_back_(self, x_BNHD: Tensor) -> None:
        """The inverse of `turn_`."""
        unit_BN1P = torch.view_as_complex(self.unit_B1NP2).transpose(1, 2).conj()
        torch.view_as_complex(x_BNHD.unflatten(-1, (-1, 2))).mul_(unit_BN1P)


def axis_sizes(head_size: int, structure_channels: int) -> tuple[int, ...]:
    """Channels of each axis: identity, the structure axes, row, column.

    Eight channels for the identity, two per structure channel, and an equal, even share of the rest for each of the two spatial
    axes; two left-over channels go to the identity. For K = 8 and the paper's head size 64: 8, 8 x 2, 20, 20.

    Raises:
        InputError: the head size is too small or odd.
    """
    fixed = IDENTITY_CHANNELS + STRUCTURE_CHANNELS * structure_channels
    spatial = (head_size - fixed) // 4 * 2
    if head_size % 2 or spatial < 2:
        raise InputError(
            f"head_size = {head_size} has no room for {structure_channels} structure axes and two spatial ones; "
            f"the smallest head size that fits this grid is {fixed + 4} (even numbers only)"
        )
    leftover = head_size - fixed - 2 * spatial
    return (IDENTITY_CHANNELS + leftover, *[STRUCTURE_CHANNELS] * structure_channels, spatial, spatial)


class StructureRope(nn.Module):
    """From a structure embedding to the rotation of a whole sequence.

    The sequence is the class token, then (with ``canvas_condition``) L canvas tokens, then L tokens.

    Args:
        config: head size D; without ``structure_rope`` every structure id is "undecided", which removes the information
            (Table 3) without changing the shapes of weights.
        layout: the grid of L positions and its K structure channels.
        canvas_condition: for the structure generator's sequence; canvas and structure token of a position differ on the
            identity axis only.

    Raises:
        InputError: the head size has no room for the axes.
    """

    pair_axis_P: Tensor
    frequency_P: Tensor
    place_L2: Tensor

    def __init__(self, config: NvgModelConfig, layout: StageLayout, *, canvas_condition: bool) -> None:
        super().__init__()
        self.structure_rope, self.canvas_condition = config.structure_rope, canvas_condition
        sizes = axis_sizes(config.head_size, layout.channels)
        axes = [axis for axis, size in enumerate(sizes) for _ in range(size // 2)]
        # An axis of n channels has the n / 2 frequencies theta^(-2j/n).
        frequencies = [THETA ** (-2 * pair / size) for size in sizes for pair in range(size // 2)]
        places = [(row, column) for row in range(layout.grid[0]) for column in range(layout.grid[1])]
        for name, values, dtype in (
            ("pair_axis_P", axes, torch.int64),
            ("frequency_P", frequencies, torch.float32),
            ("place_L2", places, torch.float32),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

    def ids(self, se_BLK: Tensor) -> Tensor:
        """Ids float32 ``[B, N, A]`` (N = L + 1 or 2 L + 1) of a structure embedding with values 0, 1, 2."""
        structure_BLK = se_BLK.float() if self.structure_rope else torch.full_like(se_BLK, UNDECIDED, dtype=torch.float32)
        shared_BLA = torch.cat((structure_BLK, self.place_L2.expand(len(se_BLK), -1, -1)), dim=-1)
        kinds = (CANVAS_CONDITION_ID, TOKEN_ID) if self.canvas_condition else (TOKEN_ID,)
        tokens = [F.pad(shared_BLA, (1, 0), value=kind) for kind in kinds]
        # The class token has id 1 on ALL axes, as in the reference implementation.
        class_B1A = tokens[0].new_full((len(se_BLK), 1, tokens[0].shape[-1]), CLASS_ID)
        return torch.cat((class_B1A, *tokens), dim=1)

    def forward(self, se_BLK: Tensor) -> Rotation:
        """The rotation of every token."""
        angle_B1NP = (self.ids(se_BLK)[..., self.pair_axis_P] * self.frequency_P).unsqueeze(1)
        return Rotation(torch.view_as_real(torch.polar(torch.ones_like(angle_B1NP), angle_B1NP)))
