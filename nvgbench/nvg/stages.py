"""The stages of a hierarchy in numbers: clusters, known structure channels, coarser maps."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nvgbench.errors import InputError


@dataclass(frozen=True)
class StageLayout:
    """Stages 0 … K of a grid of L positions, where each stage splits every cluster into ``group_size``.

    A split into 2^b is b successive halvings, so a hierarchy has log2(L) structure channels, one per halving, and stage i knows
    the first b·i of them. With the paper's group size 2, b = 1 and there are K channels.

    Attributes:
        grid: height and width of the latent grid.
        group_size: children of each cluster, 2^b.
    """

    grid: tuple[int, int]
    group_size: int = 2

    def __post_init__(self) -> None:
        bits, channels = self.bits, self.channels
        if self.positions != 1 << channels or self.group_size != 1 << bits or bits < 1 or channels % bits:
            raise InputError(
                f"a grid of {self.grid[0]} x {self.grid[1]} = {self.positions} positions cannot be split by {self.group_size} "
                "at every stage down to single positions; use a number of positions that is a power of the group size"
            )
        if self.last < 2:
            raise InputError(f"a grid of {self.positions} positions in groups of {self.group_size} has fewer than three stages")

    @classmethod
    def of_stages(cls, grid: tuple[int, int], stage_tokens: tuple[int, ...]) -> StageLayout:
        """The layout of a tokenizer with these numbers of unique tokens per stage.

        Raises:
            InputError: they are not those of a balanced hierarchy over the grid.
        """
        layout = cls(grid, stage_tokens[1] if len(stage_tokens) > 1 else 1)
        if stage_tokens != layout.tokens:
            raise InputError(f"NVG generates stages of {layout.tokens} tokens, but the tokenizer has {stage_tokens}")
        return layout

    @property
    def positions(self) -> int:
        """L."""
        return self.grid[0] * self.grid[1]

    @property
    def bits(self) -> int:
        """b: halvings from one stage to the next."""
        return self.group_size.bit_length() - 1

    @property
    def channels(self) -> int:
        """Structure channels: halvings from one cluster to single positions."""
        return self.positions.bit_length() - 1

    @property
    def last(self) -> int:
        """K, the index of the last stage."""
        return self.channels // self.bits

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
        return tuple(self.group_size**stage for stage in range(self.stages))

    def known(self, stage: int) -> int:
        """Number of structure channels that are decided at ``stage``."""
        return self.bits * stage

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
        return structure_BL >> self.known(stage - wanted)
