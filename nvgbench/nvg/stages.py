"""The stages of a hierarchy in numbers: clusters, known structure channels, coarser maps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.config import GroupSize


@dataclass(frozen=True)
class StageLayout:
    """Stages 0 … K of a grid of L positions, where each stage splits every cluster into ``group_size``.

    A split into 2^b is b successive halvings, so a hierarchy has log2(L) structure channels, one per halving, and stage i knows
    those of the first i splits. With the paper's group size 2 there are K channels, and stage i knows i of them.

    Attributes:
        grid: height and width of the latent grid.
        group_size: children of each cluster, powers of two.
    """

    grid: tuple[int, int]
    group_size: GroupSize = 2

    def __post_init__(self) -> None:
        tokens = stage_tokens(self.positions, self.group_size)
        if any(count.bit_count() != 1 for count in tokens):
            raise InputError(
                f"a grid of {self.positions} positions in groups of {self.group_size}: structure maps are made of halvings; "
                "use group sizes that are powers of two"
            )
        if self.last < 2:
            raise InputError(f"a grid of {self.positions} positions in groups of {self.group_size} has fewer than three stages")

    @classmethod
    def of_stages(cls, grid: tuple[int, int], stage_tokens: tuple[int, ...]) -> StageLayout:
        """The layout of a tokenizer with these numbers of unique tokens per stage.

        Raises:
            InputError: they are not those of a balanced hierarchy over the grid.
        """
        sizes = tuple(fine // coarse for coarse, fine in itertools.pairwise(stage_tokens))
        layout = cls(grid, sizes[0] if len(set(sizes)) == 1 else sizes)
        if stage_tokens != layout.tokens:
            raise InputError(f"NVG generates stages of {layout.tokens} tokens, but the tokenizer has {stage_tokens}")
        return layout

    @property
    def positions(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]

    @property
    def channels(self) -> int:
        """Structure channels: halvings from one cluster to single positions."""
        return self.positions.bit_length() - 1

    @property
    def last(self) -> int:
        """K, the index of the last stage."""
        return len(self.tokens) - 1

    @property
    def stages(self) -> int:
        """S = K + 1."""
        return self.last + 1

    @property
    def structure_stages(self) -> int:
        """Stages after which the next structure map is generated, 0 … K - 2. All outcomes of the last split are equivalent."""
        return self.last - 1

    @property
    def tokens(self) -> tuple[int, ...]:
        """Unique tokens of each stage."""
        return stage_tokens(self.positions, self.group_size)

    def known(self, stage: int) -> int:
        """Number of structure channels that are decided at ``stage``."""
        return self.tokens[stage].bit_length() - 1

    def halvings(self, stage: int) -> int:
        """b: number of structure channels that the split of ``stage`` decides."""
        return self.known(stage + 1) - self.known(stage)

    def checked_stage(self, stage: int) -> int:
        """``stage`` itself.

        Raises:
            InputError: no such stage, or stage 0, whose structure is the same for every image.
        """
        if not 1 <= stage <= self.last:
            raise InputError(f"structure can be given for stages 1 to {self.last}, not {stage}")
        return stage

    def coarser(self, structure_BL: Tensor, stage: int, wanted: int) -> Tensor:
        """The structure map of stage ``wanted`` from that of a later ``stage``."""
        assert 0 <= wanted <= stage
        return structure_BL >> (self.known(stage) - self.known(wanted))


def stage_tokens(positions: int, group_size: GroupSize) -> tuple[int, ...]:
    """Clusters of each stage: 1, k, k² … up to the number of positions.

    Args:
        positions: of the latent grid.
        group_size: k; a list has one for each split, coarse to fine.

    Raises:
        InputError: the group sizes do not lead from one cluster to single positions.
    """
    counts = [1]
    if not isinstance(group_size, int):
        counts += itertools.accumulate(group_size, lambda count, size: count * size)
    elif group_size > 1:
        while counts[-1] < positions:
            counts.append(counts[-1] * group_size)
    if counts[-1] != positions or len(set(counts)) < 2 or len(set(counts)) < len(counts):
        raise InputError(
            f"{positions} positions cannot be grouped by {group_size} down to one cluster; choose image_size, "
            "channel_multipliers and group_size so that the grid has group_size^K positions, or list one size per split"
        )
    return tuple(counts)
